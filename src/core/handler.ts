/** From a delivery to a handler and back: decodes, validates, runs, and says what it came to. The same for every facade. */

import type { Delivery } from "./backend.js";
import type { Clock } from "./clock.js";
import type { Codecs } from "./codecs.js";
import { type Judging, verdictOnFailure } from "./error-policy.js";
import { CodecError, LeaseLostError, TimeoutError, toError } from "./errors.js";
import { decodeHeader, isBareHeader, type Message } from "./message.js";
import { LEFT_TO_OTHERS, PASSED_BY, type Verdict, verdictOnReturn } from "./outcome.js";
import type { Read } from "./payload.js";
import type { Run } from "./run.js";
import type { Params } from "./template.js";
import { isThenable } from "./thenable.js";

/**
 * What a handler learns besides the data.
 *
 * @typeParam P what a template's parameters stand for
 */
export interface Context<T = unknown, P extends Params = Params> {
  /** The envelope, with its data and position. */
  readonly message: Message<T>;
  /** From 1. */
  readonly attempt: number;
  /** Aborts when the lease is lost or the consumer stops waiting for the handler. */
  readonly signal: AbortSignal;
  /** The stream, queue or channel. */
  readonly channel: string;
  /** What a template's parameters stand for; empty for names without any. */
  readonly params: P;
}

/** Returning nothing acknowledges, throwing retries; `retry`, `defer`, `deadLetter` and `skip` make the other outcomes. */
export type Handler<T, P extends Params = Params> = (data: T, context: Context<T, P>) => unknown;

/** The same, where the message may be a request. */
export interface QueueContext<T = unknown> extends Context<T> {
  /**
   * Answers a request. The answer leaves in the step that acknowledges, once the handler has returned, and not with an
   * attempt that is retried.
   *
   * @throws {InvalidArgumentError} where nobody has asked, or the second time
   * @throws {CodecError | LimitError} when the value cannot be sent as it is
   */
  reply(value: unknown): void;
}

export type QueueHandler<T> = (data: T, context: QueueContext<T>) => unknown;

export interface Decoding {
  readonly channel: string;
  /** What a template's parameters stand for in the channel's name. Default: none. */
  readonly params?: Params;
  readonly codecs: Codecs;
  /** What checks a message of that type; undefined for types that are not handled here. */
  readonly readerFor: (type: string) => Read | undefined;
  /**
   * Where the channel holds several types: whether other consumers of the group handle this one, which is not handled
   * here. It is left to them, or passed by when nobody does. Undefined: any other type is a mistake.
   */
  readonly isForOthers: ((type: string) => boolean) | undefined;
}

/** Runs one delivery. Never rejects: what the handler or the decoding threw is noted in the run. */
export type Handle = (delivery: Delivery, run: Run) => Promise<Verdict>;

/** What a run goes by besides its delivery. */
export interface Running extends Judging {
  readonly clock: Clock;
  /** How long a run may take, decoding included. Undefined: as long as it likes. */
  readonly timeoutMs: number | undefined;
}

/** Of what is addressed by its exact name. */
export const NO_PARAMS: Params = Object.freeze({});

/** Binds a handler to a channel. */
export function createRunner<T>(decoding: Decoding, handler: QueueHandler<T>, running: Running): Handle {
  const { policy, clock, timeoutMs } = running;
  const { channel } = decoding;
  const decode = createDecoder<T>(decoding);
  const handle: Handle = async (delivery, run) => {
    const { attempt } = delivery;
    let data: T;
    try {
      const decoded = decode(delivery);
      if (decoded instanceof Foreign) return decoded.verdict;
      data = isThenable(decoded) ? await decoded : decoded;
    } catch (thrown) {
      run.thrown = toError(thrown);
      return verdictOnFailure(run.thrown, { channel, attempt, kind: "unreadable" }, running);
    }
    try {
      const returned = handler(data, new DeliveryContext(decoding, delivery, data, run));
      return verdictOnReturn(isThenable(returned) ? await returned : returned, attempt, policy);
    } catch (thrown) {
      run.thrown = toError(thrown);
      return verdictOnFailure(run.thrown, { channel, attempt, kind: "thrown" }, running);
    }
  };
  if (timeoutMs === undefined) return handle;
  return (delivery, run) => {
    const { result, cancel } = within(clock, timeoutMs, handle(delivery, run), (error) => {
      run.thrown = error;
      run.abort(error);
      return verdictOnFailure(error, { channel, attempt: delivery.attempt, kind: "thrown" }, running);
    });
    run.onFailed = (reason) => {
      if (isFinal(reason)) cancel();
    };
    return result;
  };
}

/** Whether nobody waits for the handler any more. One whose lease is lost still keeps a slot from others. */
export function isFinal(reason: Error): boolean {
  return !(reason instanceof LeaseLostError);
}

/**
 * Puts a time limit on work that never rejects: the result is what `work` comes to, or what `late` makes of the timeout.
 * A result that comes later changes nothing.
 */
export function within<T>(
  clock: Clock,
  ms: number,
  work: Promise<T>,
  late: (error: TimeoutError) => T,
): { readonly result: Promise<T>; readonly cancel: () => void } {
  let cancel = (): void => undefined;
  const result = new Promise<T>((resolve) => {
    const timer = clock.setTimer(() => {
      resolve(late(new TimeoutError(`the handler did not finish within its handlerTimeoutMs of ${ms}`)));
    }, ms);
    cancel = () => timer.cancel();
    void work.then((value) => {
      cancel();
      resolve(value);
    });
  });
  return { result, cancel };
}

/** A class for its lazy members: most handlers look at neither, and both cost more than the rest of a delivery. */
class DeliveryContext<T> implements QueueContext<T> {
  readonly channel: string;
  readonly params: Params;
  readonly #delivery: Delivery;
  readonly #data: T;
  readonly #run: Run;
  #message: Message<T> | undefined;

  constructor({ channel, params = NO_PARAMS }: Decoding, delivery: Delivery, data: T, run: Run) {
    this.channel = channel;
    this.params = params;
    this.#delivery = delivery;
    this.#data = data;
    this.#run = run;
  }

  get message(): Message<T> {
    this.#message ??= toMessage(this.channel, this.#delivery, this.#data);
    return this.#message;
  }
  get attempt(): number {
    return this.#delivery.attempt;
  }
  get signal(): AbortSignal {
    return this.#run.signal;
  }
  reply(value: unknown): void {
    this.#run.reply(value);
  }
}

/** What decoding gives for a message of a type that is not handled here, with what becomes of it. */
export class Foreign {
  readonly verdict: Verdict;
  constructor(verdict: Verdict) {
    this.verdict = verdict;
  }
}

const NOBODYS = new Foreign(PASSED_BY);
const OTHERS = new Foreign(LEFT_TO_OTHERS);

/** Reads the data of a channel's messages: validated, or a promise of it where the schema is asynchronous. */
export type Decoder<T> = (message: Stored) => T | PromiseLike<T> | Foreign;

export function createDecoder<T>(decoding: Decoding): Decoder<T> {
  const { channel, codecs, readerFor, isForOthers } = decoding;
  const readOwnType = readerFor(channel);
  const foreign = (type: string): Foreign => {
    if (isForOthers !== undefined) return isForOthers(type) ? OTHERS : NOBODYS;
    throw new CodecError(`"${channel}" holds a message of the type "${type}": declare the stream's types at connect`);
  };
  return ({ header, data, position }) => {
    // Nothing but an id: JSON, of the type that the channel is named after.
    if (isBareHeader(header)) {
      if (readOwnType === undefined) return foreign(channel);
      return readOwnType(codecs.decode(data, undefined), undefined) as T | PromiseLike<T>;
    }
    const envelope = decodeHeader(header, channel, position);
    const { type } = envelope;
    const read = readerFor(type);
    // The schema vouches for T; without one T is unknown.
    return read === undefined
      ? foreign(type)
      : (read(codecs.decode(data, envelope), envelope.schemaVersion) as T | PromiseLike<T>);
  };
}

/** What a delivery and a dead letter have in common. */
export type Stored = Pick<Delivery, "header" | "data" | "position">;

export function toMessage<T>(channel: string, { header, position }: Stored, data: T): Message<T> {
  // Not a spread: what is added behind one costs half a microsecond for each property on Node 20.
  return Object.assign(decodeHeader(header, channel, position), { data, position });
}
