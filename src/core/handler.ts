/** From a delivery to a handler and back: decodes, validates, runs, and says what it came to. The same for every facade. */

import type { Delivery } from "./backend.js";
import { BYTES_CONTENT, type Codec } from "./codec.js";
import type { Run } from "./run.js";
import type { Validate } from "./contract.js";
import { CodecError } from "./errors.js";
import { decodeHeader, isBareHeader, JSON_CONTENT, type Message } from "./message.js";
import { type Verdict, verdictOnReturn, verdictOnThrow, verdictOnUnreadable } from "./outcome.js";
import type { RetryPolicy } from "./retry.js";
import { isThenable } from "./thenable.js";

/** What a handler learns besides the data. */
export interface Context<T = unknown> {
  /** The envelope, with its data and position. */
  readonly message: Message<T>;
  /** From 1. */
  readonly attempt: number;
  /** Aborts when the lease is lost or the consumer stops waiting for the handler. */
  readonly signal: AbortSignal;
  /** The stream, queue or channel. */
  readonly channel: string;
  /** What a template's parameters stand for; empty for names without any. */
  readonly params: Readonly<Record<string, string>>;
}

/** Returning nothing acknowledges, throwing retries; `retry`, `defer`, `deadLetter` and `skip` make the other outcomes. */
export type Handler<T> = (data: T, context: Context<T>) => unknown;

export interface Decoding {
  readonly channel: string;
  readonly codecs: ReadonlyMap<string, Codec>;
  /** The validator for a message of that type. */
  readonly validatorFor: (type: string) => Validate;
}

/** Runs one delivery. Never rejects: what the handler or the decoding threw is noted in the run. */
export type Handle = (delivery: Delivery, run: Run) => Promise<Verdict>;

const NO_PARAMS = Object.freeze({});

/** Binds a handler to a channel. */
export function createRunner<T>(decoding: Decoding, handler: Handler<T>, policy: RetryPolicy): Handle {
  const decode = createDecoder<T>(decoding);
  return async (delivery, run) => {
    const { attempt } = delivery;
    let data: T;
    try {
      const decoded = decode(delivery);
      data = isThenable(decoded) ? await decoded : decoded;
    } catch (thrown) {
      run.thrown = thrown;
      return verdictOnUnreadable(thrown, attempt, policy);
    }
    try {
      const returned = handler(data, new DeliveryContext(decoding.channel, delivery, data, run));
      return verdictOnReturn(isThenable(returned) ? await returned : returned, attempt, policy);
    } catch (thrown) {
      run.thrown = thrown;
      return verdictOnThrow(thrown, attempt, policy);
    }
  };
}

/** A class for its lazy members: most handlers look at neither, and both cost more than the rest of a delivery. */
class DeliveryContext<T> implements Context<T> {
  readonly channel: string;
  readonly #delivery: Delivery;
  readonly #data: T;
  readonly #run: Run;
  #message: Message<T> | undefined;

  constructor(channel: string, delivery: Delivery, data: T, run: Run) {
    this.channel = channel;
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
  get params(): Readonly<Record<string, string>> {
    return NO_PARAMS;
  }
}

/** Reads the data of a channel's messages: validated, or a promise of it where the schema is asynchronous. */
export function createDecoder<T>(decoding: Decoding): (message: Stored) => T | PromiseLike<T> {
  const { channel, codecs, validatorFor } = decoding;
  const validateOwnType = validatorFor(channel);
  return ({ header, data, position }) => {
    // Nothing but an id: JSON, of the type that the channel is named after.
    if (isBareHeader(header)) return validateOwnType(decodeData(JSON_CONTENT, data, codecs)) as T | PromiseLike<T>;
    const { type, contentType } = decodeHeader(header, channel, position);
    // The schema vouches for T; without one T is unknown.
    return validatorFor(type)(decodeData(contentType, data, codecs)) as T | PromiseLike<T>;
  };
}

/** What a delivery and a dead letter have in common. */
export type Stored = Pick<Delivery, "header" | "data" | "position">;

export function toMessage<T>(channel: string, { header, position }: Stored, data: T): Message<T> {
  // Not a spread: what is added behind one costs half a microsecond for each property on Node 20.
  return Object.assign(decodeHeader(header, channel, position), { data, position });
}

/** @throws {CodecError} */
function decodeData(contentType: string, data: Uint8Array, codecs: ReadonlyMap<string, Codec>): unknown {
  if (contentType === BYTES_CONTENT) return data;
  const codec = codecs.get(contentType);
  if (codec === undefined) {
    throw new CodecError(`no codec for "${contentType}": pass the one it was published with to connect`);
  }
  return codec.decode(data);
}
