/** Answering requests: what a handler says goes to whoever asked, in the step that settles the request. */

import type { DeadReason, Delivery, Reply } from "./backend.js";
import { jsonCodec } from "./codec.js";
import { InvalidArgumentError, type RequestError } from "./errors.js";
import type { Handle } from "./handler.js";
import { decodeHeader, type Envelope, encodeHeader, JSON_CONTENT } from "./message.js";
import { encodeOutgoing } from "./outgoing.js";
import type { Verdict } from "./outcome.js";
import type { Asking } from "./run.js";
import type { Runtime } from "./runtime.js";

/** The type of an answer that is none, but says why: no user's message can have it. Its data is a {@link Failure}. */
export const FAILED = "{failed}";

export interface Failure {
  readonly kind: RequestError["kind"];
  readonly message: string;
}

/** An answer waits this long for an asker that cannot be reached; its inbox is forgotten sooner when it does not return. */
const REPLY_TTL_MS = 3_600_000;
/** How the field `replyTo` begins in a header: most messages have none, and are not parsed to find that out. */
const REPLY_TO = "\u001fr";

/** Whoever waits for the answer to one request, as its handler sees them. */
class Asker implements Asking {
  readonly #runtime: Runtime;
  readonly #request: Envelope;
  readonly #inbox: string;
  #reply: Reply | undefined;
  #isOver = false;

  constructor(runtime: Runtime, request: Envelope, inbox: string) {
    this.#runtime = runtime;
    this.#request = request;
    this.#inbox = inbox;
  }

  /**
   * Notes the answer; it leaves with the outcome.
   *
   * @throws {InvalidArgumentError} when there is one already, or the request is settled
   * @throws {CodecError | LimitError} when it cannot be sent as it is
   */
  reply(value: unknown): void {
    if (this.#isOver) throw new InvalidArgumentError("the request is settled: an answer comes too late");
    if (this.#reply !== undefined) throw new InvalidArgumentError("the request is answered already: once is enough");
    const { channel, id, correlationId = id, priority = 0 } = this.#request;
    const routing = {
      channel,
      type: channel,
      idIsPosition: true,
      isBare: false,
      key: undefined,
      target: this.#inbox,
      priority: undefined,
      expiresAt: undefined,
      schemaVersion: undefined,
    };
    const answer = encodeOutgoing(this.#runtime, routing, value, { correlationId, causationId: id });
    const { header, data } = answer;
    this.#reply = { id: answer.id, recipient: this.#inbox, header, data, priority, ttlMs: REPLY_TTL_MS };
  }

  /** What the delivery came to, with what the asker is told of it: a retry tells nothing yet. */
  complete(verdict: Verdict): Verdict {
    this.#isOver = true;
    switch (verdict.as) {
      case "retry":
        return verdict;
      case "ack":
        return withReply(verdict, this.#reply ?? this.#fail({ kind: "unanswered", message: UNANSWERED }));
      case "deadLetter":
        return withReply(verdict, this.#fail(failureOf(verdict.reason)));
    }
  }

  /** Undefined where it cannot be written, which is reported: whoever asked waits in vain then. */
  #fail(failure: Failure): Reply | undefined {
    const { channel, id: causationId, correlationId = causationId, priority = 0 } = this.#request;
    const { codecs, source } = this.#runtime;
    const id = this.#runtime.createId();
    try {
      const json = jsonCodec.encode(failure);
      const target = this.#inbox;
      const place = { id, channel, type: FAILED, target, causationId };
      const { data, contentType } = codecs.transform(json, JSON_CONTENT, place);
      const header = encodeHeader({
        id: "",
        type: FAILED,
        channel,
        source,
        contentType,
        target,
        correlationId,
        causationId,
      });
      return { id, recipient: target, header, data, priority, ttlMs: REPLY_TTL_MS };
    } catch (error) {
      this.#runtime.report(error, `answering in the queue ${channel}`);
      return undefined;
    }
  }
}

function withReply(verdict: Exclude<Verdict, { as: "retry" }>, reply: Reply | undefined): Verdict {
  return reply === undefined ? verdict : { ...verdict, reply };
}

const UNANSWERED = "its handler acknowledged it without an answer";

function failureOf({ kind, message }: DeadReason): Failure {
  return { kind, message };
}

/** Lets what a handler answers travel with its verdict. Messages that are no requests pass as they are. */
export function answering(runtime: Runtime, channel: string, handle: Handle): Handle {
  return (delivery, run) => {
    const asker = askerOf(runtime, channel, delivery);
    if (asker === undefined) return handle(delivery, run);
    run.asker = asker;
    return handle(delivery, run).then((verdict) => asker.complete(verdict));
  };
}

function askerOf(runtime: Runtime, channel: string, { header, position }: Delivery): Asker | undefined {
  if (!header.includes(REPLY_TO)) return undefined;
  let request: Envelope;
  try {
    request = decodeHeader(header, channel, position);
  } catch {
    // Whoever decodes the message says what is wrong with it.
    return undefined;
  }
  return request.replyTo === undefined ? undefined : new Asker(runtime, request, request.replyTo);
}
