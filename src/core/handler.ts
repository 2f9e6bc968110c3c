/** From a delivery to a handler and back: decodes, validates, runs, and says what it came to. The same for every facade. */

import type { Delivery } from "./backend.js";
import { BYTES_CONTENT, type Codec } from "./codec.js";
import type { Run } from "./consumer.js";
import type { Validate } from "./contract.js";
import { CodecError } from "./errors.js";
import { decodeHeader, type Envelope, type Message } from "./message.js";
import { type Verdict, verdictOnReturn, verdictOnThrow } from "./outcome.js";
import type { RetryPolicy } from "./retry.js";

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

const NO_PARAMS = {};

/** Binds a handler to a channel: the result runs one delivery and never rejects. */
export function createRunner<T>(
  decoding: Decoding,
  handler: Handler<T>,
  policy: RetryPolicy,
): (delivery: Delivery, run: Run) => Promise<Verdict> {
  const decode = createDecoder<T>(decoding);
  return async (delivery, run) => {
    const { attempt } = delivery;
    try {
      const decoded = decode(delivery);
      const message = decoded instanceof Promise ? await decoded : decoded;
      const returned = handler(message.data, new DeliveryContext(message, attempt, run));
      return verdictOnReturn(returned instanceof Promise ? await returned : returned, attempt, policy);
    } catch (thrown) {
      return verdictOnThrow(thrown, attempt, policy);
    }
  };
}

/** A class for its lazy signal: most handlers never ask, and an AbortController costs more than the rest of a delivery. */
class DeliveryContext<T> implements Context<T> {
  readonly message: Message<T>;
  readonly attempt: number;
  readonly #run: Run;

  constructor(message: Message<T>, attempt: number, run: Run) {
    this.message = message;
    this.attempt = attempt;
    this.#run = run;
  }

  get signal(): AbortSignal {
    return this.#run.signal;
  }
  get channel(): string {
    return this.message.channel;
  }
  get params(): Readonly<Record<string, string>> {
    return NO_PARAMS;
  }
}

/** Reads deliveries of a channel: the message, or a promise of it where its schema is asynchronous. */
export function createDecoder<T>(decoding: Decoding): (delivery: Delivery) => Message<T> | Promise<Message<T>> {
  return ({ header, data, position }) => {
    const envelope = decodeHeader(header, decoding.channel);
    const valid = decoding.validatorFor(envelope.type)(decodeData(envelope, data, decoding.codecs));
    // The schema vouches for T; without one T is unknown.
    const toMessage = (value: unknown): Message<T> => ({ ...envelope, data: value as T, position });
    return valid instanceof Promise ? valid.then(toMessage) : toMessage(valid);
  };
}

/** @throws {CodecError} */
export function decodeData(envelope: Envelope, data: Uint8Array, codecs: ReadonlyMap<string, Codec>): unknown {
  if (envelope.contentType === BYTES_CONTENT) return data;
  const codec = codecs.get(envelope.contentType);
  if (codec === undefined) {
    throw new CodecError(`no codec for "${envelope.contentType}": pass the one it was published with to connect`);
  }
  return codec.decode(data);
}
