/** From a delivery to a handler and back: decodes, validates, runs, and says what it came to. The same for every facade. */

import type { Delivery } from "./backend.js";
import type { Clock } from "./clock.js";
import type { Codecs } from "./codecs.js";
import { type Judging, verdictOnFailure } from "./error-policy.js";
import { CodecError, LeaseLostError, type TimeoutError, toError } from "./errors.js";
import { decodeHeader, isBareHeader, type Message, readHeader } from "./message.js";
import { LEFT_TO_OTHERS, PASSED_BY, type Verdict, verdictOnReturn } from "./outcome.js";
import type { Read } from "./payload.js";
import type { Handed, Run, Watcher } from "./run.js";
import type { Params } from "./template.js";
import { isThenable } from "./thenable.js";
import { type Limited, TimeLimit } from "./time-limit.js";

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

/** Told once what a run came to: at once where nothing has to be waited for. */
export interface Finisher<D extends Handed = Delivery> {
  finish(run: Run<D>, verdict: Verdict): void;
}

/** Runs one delivery. Never throws. */
export type Execute = <D extends Handed>(run: Run<D>, finisher: Finisher<D>) => void;

/** Binds a handler to a channel. */
export function createRunner<T>(decoding: Decoding, handler: QueueHandler<T>, running: Running): Handle {
  const execute = createExecutor(decoding, handler, running);
  return (_delivery, run) => new Promise((resolve) => execute(run, { finish: (_run, verdict) => resolve(verdict) }));
}

/** The same without a promise: where messages are many and handlers short, it would cost as much as they do. */
export function createExecutor<T>(decoding: Decoding, handler: QueueHandler<T>, running: Running): Execute {
  const { clock, timeoutMs } = running;
  const limit = timeoutMs === undefined ? undefined : new TimeLimit(clock, timeoutMs);
  const execution = { decoding, decode: createDecoder<T>(decoding), handler, running, limit };
  return (run, finisher) => new Execution(execution, run, finisher).start();
}

/** What the executions of one handler on one channel share. */
interface Executing<T> {
  readonly decoding: Decoding;
  readonly decode: Decoder<T>;
  readonly handler: QueueHandler<T>;
  readonly running: Running;
  readonly limit: TimeLimit | undefined;
}

class Execution<T, D extends Handed> implements Limited, Watcher {
  place = 0;
  countedFrom = 0;
  readonly #shared: Executing<T>;
  readonly #run: Run<D>;
  /** Undefined once it is over: what comes later changes nothing. */
  #finisher: Finisher<D> | undefined;

  constructor(shared: Executing<T>, run: Run<D>, finisher: Finisher<D>) {
    this.#shared = shared;
    this.#run = run;
    this.#finisher = finisher;
  }

  get startedAt(): number {
    return this.#run.startedAt;
  }

  start(): void {
    const { decode, limit } = this.#shared;
    if (limit !== undefined) {
      limit.begin(this);
      this.#run.watcher = this;
    }
    try {
      const decoded = decode(this.#run.delivery);
      if (decoded instanceof Foreign) this.#finish(decoded.verdict);
      else if (isThenable(decoded)) void this.#handleLater(decoded);
      else this.#handle(decoded);
    } catch (thrown) {
      this.#fail(thrown, "unreadable");
    }
  }

  failed(reason: Error): void {
    if (isFinal(reason)) this.#shared.limit?.end(this);
  }

  late(error: TimeoutError): void {
    this.#run.abort(error);
    this.#fail(error, "thrown");
  }

  async #handleLater(decoding: PromiseLike<T>): Promise<void> {
    let data: T;
    try {
      data = await decoding;
    } catch (thrown) {
      this.#fail(thrown, "unreadable");
      return;
    }
    this.#handle(data);
  }

  /** Never throws. */
  #handle(data: T): void {
    const { decoding, handler } = this.#shared;
    try {
      const returned = handler(data, new DeliveryContext(decoding, data, this.#run));
      if (!isThenable(returned)) {
        this.#return(returned);
        return;
      }
      const promise = returned instanceof Promise ? returned : Promise.resolve(returned);
      promise.then(
        (value: unknown) => this.#return(value),
        (thrown: unknown) => this.#fail(thrown, "thrown"),
      );
    } catch (thrown) {
      this.#fail(thrown, "thrown");
    }
  }

  #return(value: unknown): void {
    this.#finish(verdictOnReturn(value, this.#run.delivery.attempt, this.#shared.running.policy));
  }

  #fail(thrown: unknown, kind: "thrown" | "unreadable"): void {
    if (this.#finisher === undefined) return;
    const error = toError(thrown);
    this.#run.thrown = error;
    const { decoding, running } = this.#shared;
    const { channel } = decoding;
    this.#finish(verdictOnFailure(error, { channel, attempt: this.#run.delivery.attempt, kind }, running));
  }

  #finish(verdict: Verdict): void {
    const finisher = this.#finisher;
    this.#finisher = undefined;
    this.#shared.limit?.end(this);
    finisher?.finish(this.#run, verdict);
  }
}

/** Whether nobody waits for the handler any more. One whose lease is lost still keeps a slot from others. */
export function isFinal(reason: Error): boolean {
  return !(reason instanceof LeaseLostError);
}

/** A class for its lazy members: most handlers look at neither, and both cost more than the rest of a delivery. */
class DeliveryContext<T> implements QueueContext<T> {
  readonly channel: string;
  readonly params: Params;
  readonly #data: T;
  readonly #run: Run<Handed>;
  #message: Message<T> | undefined;

  constructor({ channel, params = NO_PARAMS }: Decoding, data: T, run: Run<Handed>) {
    this.channel = channel;
    this.params = params;
    this.#data = data;
    this.#run = run;
  }

  get message(): Message<T> {
    this.#message ??= toMessage(this.channel, this.#run.delivery, this.#data);
    return this.#message;
  }
  get attempt(): number {
    return this.#run.delivery.attempt;
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
    const envelope = readHeader(header, channel, position);
    const { type } = envelope;
    const read = readerFor(type);
    // The schema vouches for T; without one T is unknown.
    return read === undefined
      ? foreign(type)
      : (read(codecs.decode(data, envelope), envelope.schemaVersion) as T | PromiseLike<T>);
  };
}

/** What a delivery and a dead letter have in common. */
export type Stored = Pick<Handed, "header" | "data" | "position">;

export function toMessage<T>(channel: string, { header, position }: Stored, data: T): Message<T> {
  // Not a spread: what is added behind one costs half a microsecond for each property on Node 20.
  return Object.assign(decodeHeader(header, channel, position), { data, position });
}
