/** Asking: one inbox for each queue, and whoever waits for an answer in it. */

import { FAILED, type Failure } from "./answering.js";
import type { Delivery } from "./backend.js";
import { ClosedError, LimitError, RequestError, TimeoutError, toError } from "./errors.js";
import { createDecoder, type Decoder, type Decoding, Foreign } from "./handler.js";
import { decodeHeader, type Envelope } from "./message.js";
import { ACK } from "./outcome.js";
import { ANY_PAYLOAD } from "./payload.js";
import { forgetRecipient, privateRecipient } from "./private-recipients.js";
import { DEFAULT_RETRY } from "./retry.js";
import type { Runtime } from "./runtime.js";
import { type ConsumerPlan, subscribe, type Subscription } from "./subscription.js";
import type { Counter } from "./telemetry.js";

export interface Question {
  /** Of the request. */
  readonly id: string;
  /** How long to wait, sending included. */
  readonly timeoutMs: number;
  /** An abort rejects with its reason. */
  readonly signal: AbortSignal | undefined;
  /**
   * Sends the request, unless its signal has aborted, which it does when nobody waits any more. What it rejects with is
   * the asker's.
   *
   * @param replyTo the inbox for the answer
   */
  readonly send: (replyTo: string, signal: AbortSignal) => Promise<unknown>;
}

interface Waiting {
  readonly resolve: (answer: unknown) => void;
  readonly reject: (error: unknown) => void;
}

/** Requests of one queue that may wait at a time. */
const MAX_WAITING = 100_000;
/** Answers that are fetched at a time. */
const FETCHED = 256;
/** Nobody else reads it: when its process has died, it is of no use to anybody. */
const INBOX_TTL_MS = 120_000;
const LEASE_MS = 30_000;

/** The private inbox of one queue of one broker. */
export class Inbox {
  readonly #runtime: Runtime;
  readonly #channel: string;
  readonly #decoding: Decoding;
  readonly #decode: Decoder<unknown>;
  readonly #recipient = privateRecipient("reply");
  readonly #waiting = new Map<string, Waiting>();
  readonly #late: Counter;
  #opened: Promise<Subscription> | undefined;

  constructor(runtime: Runtime, channel: string) {
    this.#runtime = runtime;
    this.#channel = channel;
    // The contract says what is asked, not what is answered.
    this.#decoding = {
      channel,
      codecs: runtime.codecs,
      readerFor: () => ANY_PAYLOAD.read,
      isForOthers: undefined,
    };
    this.#decode = createDecoder(this.#decoding);
    this.#late = runtime.telemetry.counter("signalbox.late.replies", { channel });
  }

  /**
   * Resolves with the answer.
   *
   * @throws {TimeoutError} without one in time
   * @throws {RequestError} when the request was parked, or acknowledged without an answer
   * @throws {LimitError} when 100,000 others wait already
   * @throws {ClosedError} when the broker is closed meanwhile
   */
  async ask({ id, timeoutMs, signal, send }: Question): Promise<unknown> {
    signal?.throwIfAborted();
    this.#runtime.owner.assertPublishing();
    if (this.#waiting.size >= MAX_WAITING) {
      const message = `${MAX_WAITING} requests to "${this.#channel}" wait for their answers already`;
      throw new LimitError(message, { retryable: true });
    }
    const over = new AbortController();
    const answer = new Promise<unknown>((resolve, reject) => this.#waiting.set(id, { resolve, reject }));
    const giveUp = (): void => this.#waiting.get(id)?.reject(signal?.reason);
    const timer = this.#runtime.clock.setTimer(() => {
      const message = `no answer to ${id} of the queue "${this.#channel}" within timeoutMs (${timeoutMs})`;
      this.#waiting.get(id)?.reject(new TimeoutError(message));
    }, timeoutMs);
    signal?.addEventListener("abort", giveUp, { once: true });
    this.#send(send, over.signal).catch((error: unknown) => this.#waiting.get(id)?.reject(error));
    try {
      return await answer;
    } finally {
      this.#waiting.delete(id);
      timer.cancel();
      signal?.removeEventListener("abort", giveUp);
      over.abort();
    }
  }

  async #send(send: Question["send"], over: AbortSignal): Promise<void> {
    // Answers to an inbox that is not there yet are dropped.
    await this.#open();
    await send(this.#recipient, over);
  }

  #open(): Promise<Subscription> {
    this.#opened ??= this.#subscribe().catch((error: unknown) => {
      this.#opened = undefined;
      throw error;
    });
    return this.#opened;
  }

  async #subscribe(): Promise<Subscription> {
    const handle = async (delivery: Delivery): Promise<typeof ACK> => {
      await this.#take(delivery);
      return ACK;
    };
    return await subscribe(this.#runtime, [this.#plan()], () => handle, undefined);
  }

  #plan(): ConsumerPlan {
    const { backend } = this.#runtime;
    const rules = { leaseMs: LEASE_MS, maxAttempts: DEFAULT_RETRY.maxAttempts, maxDeadLetters: 0 };
    const registration = { ttlMs: INBOX_TTL_MS, isAudience: false };
    return {
      channel: this.#channel,
      reader: this.#recipient,
      labels: { channel: this.#channel },
      decoding: this.#decoding,
      policy: DEFAULT_RETRY,
      concurrency: FETCHED,
      leaseMs: LEASE_MS,
      mayLose: false,
      isInbox: true,
      open: (consumer) => backend.queue.open(this.#channel, this.#recipient, { consumer, ...rules, registration }),
      onClose: () => this.#end(),
    };
  }

  async #take(delivery: Delivery): Promise<void> {
    let envelope: Envelope;
    try {
      envelope = decodeHeader(delivery.header, this.#channel, delivery.position);
    } catch (error) {
      // Whoever asked cannot be told: which request it answers stands in the header.
      this.#runtime.report(error, `answers in the queue ${this.#channel}`);
      return;
    }
    const { causationId: id = "", type } = envelope;
    const waiting = this.#waiting.get(id);
    if (waiting === undefined) {
      this.#late.add(1);
      this.#runtime.telemetry.log("reply_dropped", { channel: this.#channel, message_id: id });
      return;
    }
    try {
      const answer = await this.#decode(delivery);
      if (type === FAILED)
        waiting.reject(failureOf(this.#channel, id, answer as Failure)); // Written by `answering`.
      else if (!(answer instanceof Foreign)) waiting.resolve(answer);
    } catch (error) {
      waiting.reject(toError(error));
    }
  }

  /** Its process leaves nothing behind, and nobody waits any more. */
  async #end(): Promise<void> {
    this.#opened = undefined;
    // Where it could not be opened, each has heard why.
    if (!this.#runtime.owner.isClosing) return;
    const closed = new ClosedError("the broker was closed before the answer came");
    for (const { reject } of this.#waiting.values()) reject(closed);
    await forgetRecipient(this.#runtime, this.#channel, this.#recipient);
  }
}

function failureOf(channel: string, messageId: string, { kind, message }: Failure): RequestError {
  return new RequestError(`the request ${messageId} to "${channel}" came to nothing (${kind}): ${message}`, {
    kind,
    messageId,
  });
}
