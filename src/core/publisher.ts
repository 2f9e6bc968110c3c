/** Publishing for a facade: one lane for each stream or queue, with validation, counting and receipts' durability. */

import { Batcher } from "./batcher.js";
import { atMost } from "./clock.js";
import { LimitError, PublishIndeterminateError, toError } from "./errors.js";
import { abortable } from "./lifecycle.js";
import type { MessageOptions } from "./message.js";
import { type FacadeName, type Publication, publishThrough, type PublishThrough } from "./middleware.js";
import { assertArray, assertKnown, assertSignal } from "./options.js";
import { type Outgoing, validatePayload } from "./outgoing.js";
import type { Validate } from "./payload.js";
import type { Runtime } from "./runtime.js";
import { METRICS } from "./telemetry.js";
import { isWithoutRoom, WaitingLane } from "./waiting-lane.js";

const LIMITS = {
  /** A batch is at most this large, so that no script holds Redis for more than about a millisecond. */
  maxItems: 256,
  maxBytes: 64 * 1_024,
  /** What may wait for one stream or queue before publishing is refused. */
  maxPending: 100_000,
  maxPendingBytes: 64 * 1_048_576,
} as const;
/** Batches under way to one stream or queue: enough that client and server work at the same time. */
const MAX_IN_FLIGHT = 4;
/** How long `close` waits for the answer to what is being tried. */
const LAST_LOOK_MS = 1_000;
/** Streams and queues that are remembered while nothing is published to them. */
const MAX_IDLE_LANES = 1_000;
/** One call may publish this many. */
const MAX_MANY = 50_000;

/** Where messages go, and how they are made fit for it. */
export interface PublishTarget<I, R, O> {
  /** What its publisher calls it: the channel, event type or queue. */
  readonly name: string;
  /** The stream, queue or channel. */
  readonly channel: string;
  /** Targets of the same lane travel together, and in order: whichever comes first says how. */
  readonly lane: string;
  /** What metrics call it. Default: the channel. */
  readonly label?: string;
  readonly validate: Validate;
  /** How long a message waits for room in the channel. Undefined: it is refused at once. */
  readonly blockMs: number | undefined;
  /** @param index its place among several that are published in one call */
  readonly encode: (data: unknown, options: O | undefined, index?: number) => I;
  /** Writes one batch: `log.append` or `queue.push`. */
  readonly store: (batch: readonly I[]) => Promise<readonly R[]>;
  /** So many of them have been stored. */
  readonly stored?: (count: number) => void;
}

export interface PublisherOptions<P, I, R, T, O> {
  readonly facade: FacadeName;
  /** The facade's call, for messages. Default `publish`. */
  readonly call?: string;
  /** @throws {InvalidArgumentError} for a name that is none */
  readonly target: (place: P) => PublishTarget<I, R, O>;
  /** What may wait for one stream, queue or channel. Default 100,000. */
  readonly maxPending?: number;
  /** What the options of a publish may hold. */
  readonly known: ReadonlySet<string>;
  readonly toReceipt: (message: I, stored: R) => T;
  /** What the log says of each single message. Default: it tells of batches alone. */
  readonly describe?: (channel: string, message: I) => object;
}

/** What is published to one stream or queue passes through it, in order. */
interface Lane<I, T> {
  readonly isIdle: boolean;
  /** Resolves with the receipt. */
  add(message: I, signal: AbortSignal | undefined): Promise<T>;
  /** Resolves when nothing waits and nothing is under way. */
  idle(): Promise<void>;
}

interface Validating {
  /** Resolves when the last of them has been sent or refused. */
  readonly last: Promise<void>;
  count: number;
}

interface PublishOptions extends MessageOptions {
  readonly signal?: AbortSignal;
}

/**
 * @typeParam P how the facade names its targets
 * @typeParam I what the port stores
 * @typeParam R what the port answers
 * @typeParam T the caller's receipt
 * @typeParam O the caller's options
 */
export class Publisher<P, I extends Outgoing, R, T extends { readonly id: string }, O extends PublishOptions> {
  readonly #runtime: Runtime;
  readonly #options: PublisherOptions<P, I, R, T, O>;
  /** Undefined: nothing stands around publishing, and nothing is paid for it. */
  readonly #through: PublishThrough | undefined;
  readonly #maxPending: number;
  readonly #lanes = new Map<string, Lane<I, T>>();
  /** Lanes of which something is still being validated. What comes behind it waits, lest it overtake. */
  readonly #validating = new Map<string, Validating>();
  /** So many lanes, and the idle ones go. */
  #sweepAt: number = MAX_IDLE_LANES;
  readonly #stop = new AbortController();

  constructor(runtime: Runtime, options: PublisherOptions<P, I, R, T, O>) {
    this.#runtime = runtime;
    this.#options = options;
    this.#maxPending = options.maxPending ?? LIMITS.maxPending;
    this.#through = publishThrough(runtime.middleware);
  }

  /** Sends one message with what else is published in this tick. An abort stops the waiting, not the message. */
  publish(place: P, data: unknown, options: O | undefined): Promise<T> {
    try {
      if (options?.signal !== undefined || this.#through !== undefined) return this.#publish(place, data, options);
      // The hot path: one promise, which is the caller's.
      this.#check(options);
      const target = this.#options.target(place);
      const validation = validatePayload(target.validate, data);
      if (validation === undefined && !this.#validating.has(target.lane))
        return this.#add(target, target.encode(data, options), undefined);
      return this.#inTurn(target.lane, validation, () => this.#add(target, target.encode(data, options), undefined));
    } catch (error) {
      return Promise.reject(toError(error));
    }
  }

  async #publish(place: P, data: unknown, options: O | undefined): Promise<T> {
    const signal = this.#check(options);
    const target = this.#options.target(place);
    if (this.#through !== undefined) {
      const publications = [this.#toPublication(target, data, options)];
      const [receipt] = await abortable(this.#sendThrough(this.#through, target, publications, "one"), signal);
      return receipt as T; // One message, one receipt.
    }
    const validation = validatePayload(target.validate, data);
    const send = (): Promise<T> => {
      signal?.throwIfAborted();
      return this.#add(target, target.encode(data, options), signal);
    };
    return await abortable(this.#inTurn(target.lane, validation && abortable(validation, signal), send), signal);
  }

  /**
   * Sends several, in order. All are validated and encoded before the first leaves.
   *
   * @throws {LimitError} when there are more than 50,000; nothing was sent
   */
  async publishMany(place: P, data: readonly unknown[], options: O | undefined): Promise<readonly T[]> {
    const signal = this.#check(options);
    assertArray(data);
    if (data.length > MAX_MANY) {
      throw new LimitError(`publishMany takes at most ${MAX_MANY} messages at a time, not ${data.length}: divide them`);
    }
    const target = this.#options.target(place);
    if (this.#through === undefined) {
      return await this.#sendAll(
        target,
        data.map((each) => ({ data: each, options })),
        signal,
        "many",
      );
    }
    const publications = data.map((each) => this.#toPublication(target, each, options));
    return await abortable(this.#sendThrough(this.#through, target, publications, "many"), signal);
  }

  /**
   * Resolves when everything published so far is stored or refused, or when `drainMs` have passed: then what still
   * waits for room is refused.
   */
  async close({ drainMs = 0 }: { readonly drainMs?: number } = {}): Promise<void> {
    const { clock } = this.#runtime;
    const lanes = [...this.#lanes.values()];
    await atMost(clock, drainMs, Promise.all(lanes.map((lane) => lane.idle())));
    this.#stop.abort();
    // One that looks for room just now shall hear that it is not stored, rather than that nobody knows.
    const looking = lanes.filter((lane) => lane instanceof WaitingLane && !lane.isIdle);
    if (looking.length > 0) await atMost(clock, LAST_LOOK_MS, Promise.all(looking.map((lane) => lane.idle())));
  }

  #check(options: O | undefined): AbortSignal | undefined {
    if (options === undefined) return undefined;
    const { facade, call = "publish", known } = this.#options;
    assertKnown(`${facade}.${call}`, options, known);
    const { signal } = options;
    assertSignal(signal);
    signal?.throwIfAborted();
    return signal;
  }

  #toPublication({ name }: PublishTarget<I, R, O>, data: unknown, options: O | undefined): Publication {
    return { facade: this.#options.facade, name, data, options: options ?? {} };
  }

  async #sendThrough(
    through: PublishThrough,
    target: PublishTarget<I, R, O>,
    publications: readonly Publication[],
    howMany: "one" | "many",
  ): Promise<readonly T[]> {
    return await through(publications, async (changed) => {
      const drafts = changed.map(({ data, options }) => ({ data, options: options as O })); // Checked in the next line.
      const signals = drafts.map(({ options }) => this.#check(options));
      return await this.#sendAll(target, drafts, signals[0], howMany);
    });
  }

  /** Validates and encodes all before the first leaves. */
  async #sendAll(
    target: PublishTarget<I, R, O>,
    drafts: readonly { readonly data: unknown; readonly options: O | undefined }[],
    signal: AbortSignal | undefined,
    howMany: "one" | "many",
  ): Promise<readonly T[]> {
    const validation = validateAll(target.validate, drafts, signal);
    const send = async (): Promise<readonly T[]> => {
      signal?.throwIfAborted();
      const messages = drafts.map(({ data, options }, index) =>
        target.encode(data, options, howMany === "many" ? index : undefined),
      );
      const receipts: T[] = [];
      // No more at a time than may wait, whatever was asked for.
      for (let from = 0; from < messages.length; from += this.#maxPending) {
        const slice = messages.slice(from, from + this.#maxPending);
        receipts.push(
          ...(await abortable(Promise.all(slice.map((message) => this.#add(target, message, signal))), signal)),
        );
      }
      return receipts;
    };
    return await abortable(this.#inTurn(target.lane, validation && abortable(validation, signal), send), signal);
  }

  /**
   * Sends once the validation has passed, and whatever was published to the lane before is on its way or refused. At once
   * where the schemas are synchronous.
   */
  #inTurn<V>(lane: string, validation: Promise<void> | undefined, send: () => Promise<V>): Promise<V> {
    const before = this.#validating.get(lane);
    if (validation === undefined && before === undefined) return send();
    const count = (before?.count ?? 0) + 1;
    if (count > this.#maxPending) {
      validation?.catch(() => undefined);
      const problem = `${before?.count} messages wait for their validation: await earlier publishes before publishing more`;
      return Promise.reject(new LimitError(problem, { retryable: true }));
    }
    // In an object, as nobody shall wait for the receipts.
    const sent = Promise.all([validation, before?.last]).then(() => ({ receipts: send() }));
    const last = Promise.allSettled([before?.last, sent]).then(() => {
      const now = this.#validating.get(lane);
      if (now?.last === last) this.#validating.delete(lane);
      else if (now !== undefined) now.count -= 1;
    });
    this.#validating.set(lane, { last, count });
    return sent.then(({ receipts }) => receipts);
  }

  #add(target: PublishTarget<I, R, O>, message: I, signal: AbortSignal | undefined): Promise<T> {
    this.#runtime.owner.assertPublishing();
    const lane = this.#lanes.get(target.lane) ?? this.#createLane(target);
    return lane.add(message, signal);
  }

  #createLane(target: PublishTarget<I, R, O>): Lane<I, T> {
    const { channel, lane: name, label = channel, blockMs } = target;
    if (this.#lanes.size >= this.#sweepAt) this.#sweep();
    const { telemetry, clock } = this.#runtime;
    const sent = telemetry.counter(METRICS.sent, { channel: label });
    const failed = (count: number, error: unknown): void =>
      telemetry.log("message_publish_failed", { channel, count, err: toError(error) });
    const { toReceipt } = this.#options;
    const store = async (batch: readonly I[]): Promise<readonly T[]> => {
      try {
        const results = await target.store(batch);
        sent.add(batch.length);
        target.stored?.(batch.length);
        this.#tell(channel, batch);
        // The store promises one result for each message.
        return batch.map((message, index) => toReceipt(message, results[index] as R));
      } catch (error) {
        // What waits for room has not failed yet.
        if (blockMs === undefined || !isWithoutRoom(error)) failed(batch.length, error);
        throw error;
      }
    };
    const sizeOf = ({ size }: I): number => size;
    const common = { ...LIMITS, maxPending: this.#maxPending, refusal: nameMessage, sizeOf };
    const lane: Lane<I, T> =
      blockMs === undefined
        ? new Batcher<I, T>({ ...common, maxInFlight: MAX_IN_FLIGHT, flush: store })
        : new WaitingLane<I, T>({ ...common, store, blockMs, clock, failed, stop: this.#stop.signal });
    this.#lanes.set(name, lane);
    return lane;
  }

  /** Where most are busy the next sweep waits for twice as many: each new lane would look at all of them. */
  #sweep(): void {
    for (const [name, lane] of this.#lanes) if (lane.isIdle) this.#lanes.delete(name);
    this.#sweepAt = Math.max(MAX_IDLE_LANES, 2 * this.#lanes.size);
  }

  #tell(channel: string, batch: readonly I[]): void {
    const { telemetry } = this.#runtime;
    const { describe } = this.#options;
    if (describe === undefined) {
      telemetry.log("message_published", { channel, count: batch.length, id: batch[0]?.id });
    } else if (telemetry.isLogged("message_published")) {
      for (const message of batch) telemetry.log("message_published", describe(channel, message));
    }
  }
}

/** @returns undefined where the schema is synchronous: all of them are valid then */
function validateAll(
  validate: Validate,
  drafts: readonly { readonly data: unknown }[],
  signal: AbortSignal | undefined,
): Promise<void> | undefined {
  for (const [index, { data }] of drafts.entries()) {
    const validation = validatePayload(validate, data);
    if (validation !== undefined) return validateRest(validation, validate, drafts.slice(index + 1), signal);
  }
  return undefined;
}

async function validateRest(
  first: Promise<void>,
  validate: Validate,
  rest: readonly { readonly data: unknown }[],
  signal: AbortSignal | undefined,
): Promise<void> {
  await first;
  for (const { data } of rest) {
    signal?.throwIfAborted();
    await validatePayload(validate, data);
  }
}

/** A batch shares its fate, but each caller has a message of its own. */
function nameMessage(error: unknown, { id }: Outgoing): unknown {
  if (!(error instanceof PublishIndeterminateError)) return error;
  return new PublishIndeterminateError(error.message, { cause: error.cause, messageId: id });
}
