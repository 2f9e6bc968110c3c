/** Gathers deliveries for a handler that takes several at once. On the same consumer as the other forms. */

import type { Timer } from "./clock.js";
import { type BatchOptions, MAX_CONCURRENCY } from "./consuming.js";
import { type Delivery, HeldDelivery, type QueueDelivery } from "./delivery.js";
import { verdictOnFailure } from "./error-policy.js";
import { ConfigError, toError } from "./errors.js";
import { createDecoder, type Decoding, Foreign, type Handle, isFinal, type Running } from "./handler.js";
import { GIVE_BACK, type Verdict, verdictOnReturn } from "./outcome.js";
import type { Run, Watcher } from "./run.js";
import { TimeLimit } from "./time-limit.js";

/** What a batch handler learns besides the deliveries. */
export interface BatchContext {
  /** Aborts when nobody waits for the handler any more. The lease of a single delivery shows in that one's signal. */
  readonly signal: AbortSignal;
  /** The stream or queue. */
  readonly channel: string;
}

/**
 * What a delivery comes to is settled by its own methods. Returning acknowledges those that are left, throwing retries
 * them, each by its own attempts; `retry`, `defer`, `deadLetter` and `skip` as a result are theirs as well.
 *
 * @typeParam D what it gets
 */
export type BatchHandler<T, D extends Delivery<T> = Delivery<T>> = (
  deliveries: readonly D[],
  context: BatchContext,
) => unknown;

/** How large batches are, and how many there are. */
export interface BatchSize {
  /** Largest batch. */
  readonly max: number;
  /** How long the first of a batch waits for others. */
  readonly waitMs: number;
  /** Batches at once. */
  readonly concurrency: number;
}

export interface Batching extends Running, BatchSize {
  /** Hears what a handler threw that had settled everything. */
  readonly report: (error: unknown) => void;
}

const DEFAULT_BATCH = 100;
const DEFAULT_BATCH_WAIT_MS = 20;

/** @throws {ConfigError} when too much would be out at once */
export function batchSizeOf(where: string, options: BatchOptions & { readonly concurrency?: number }): BatchSize {
  const { max = DEFAULT_BATCH, waitMs = DEFAULT_BATCH_WAIT_MS, concurrency = 1 } = options;
  if (max * concurrency > MAX_CONCURRENCY)
    throw new ConfigError([`${where}: max × concurrency is ${max * concurrency}, more than ${MAX_CONCURRENCY}`]);
  return { max, waitMs, concurrency };
}

/** Binds a batch handler to a channel. */
export function createBatchRunner<T>(
  decoding: Decoding,
  handler: BatchHandler<T, QueueDelivery<T>>,
  batching: Batching,
): Handle {
  const { channel } = decoding;
  const { clock, timeoutMs } = batching;
  const decode = createDecoder<T>(decoding);
  const limit = timeoutMs === undefined ? undefined : new TimeLimit(clock, timeoutMs);
  const gathering = new Gathering<T>(batching, (batch) => runBatch(channel, handler, { ...batching, limit }, batch));
  return async (delivery, run) => {
    try {
      const data = await decode(delivery);
      return data instanceof Foreign ? data.verdict : await gathering.add(channel, data, run);
    } catch (thrown) {
      run.thrown = toError(thrown);
      return verdictOnFailure(run.thrown, { channel, attempt: delivery.attempt, kind: "unreadable" }, batching);
    }
  };
}

/** Forms batches: a full one starts at once, another when its first delivery has waited long enough. */
class Gathering<T> {
  readonly #options: Batching;
  readonly #run: (batch: readonly HeldDelivery<T>[]) => Promise<void>;
  #gathered: HeldDelivery<T>[] = [];
  #running = 0;
  #waiting: Timer | undefined;
  /** The first of those gathered has waited long enough. */
  #isDue = false;
  #stopping: AbortSignal | undefined;

  constructor(options: Batching, run: (batch: readonly HeldDelivery<T>[]) => Promise<void>) {
    this.#options = options;
    this.#run = run;
  }

  /** Resolves with what the delivery came to. */
  add(channel: string, data: T, run: Run): Promise<Verdict> {
    return new Promise((resolve) => {
      const held = new HeldDelivery(channel, data, run, this.#options.policy, resolve);
      this.#gathered.push(held);
      // What is lost while it waits for others is nobody's to handle.
      run.watcher = { failed: () => this.#drop(held) };
      this.#stopWith(run.stopping);
      if (run.failure === undefined && !run.stopping.aborted) this.#look();
      else this.#drop(held);
    });
  }

  /** When nothing comes any more, what waits for others goes back at once. */
  #stopWith(stopping: AbortSignal): void {
    if (this.#stopping !== undefined) return;
    this.#stopping = stopping;
    const giveBack = (): void => {
      this.#waitNoMore();
      for (const held of this.#gathered.splice(0)) HeldDelivery.decide(held, GIVE_BACK);
    };
    stopping.addEventListener("abort", giveBack, { once: true });
  }

  #drop(lost: HeldDelivery<T>): void {
    this.#gathered = this.#gathered.filter((held) => held !== lost);
    if (this.#gathered.length === 0) this.#waitNoMore();
    HeldDelivery.decide(lost, GIVE_BACK);
  }

  #look(): void {
    const { max, concurrency, waitMs, clock } = this.#options;
    while (this.#running < concurrency && (this.#gathered.length >= max || (this.#isDue && this.#gathered.length > 0)))
      this.#start(this.#gathered.splice(0, max));
    if (this.#gathered.length === 0 || this.#isDue || this.#waiting !== undefined) return;
    this.#waiting = clock.setTimer(() => {
      this.#waiting = undefined;
      this.#isDue = true;
      this.#look();
    }, waitMs);
  }

  #waitNoMore(): void {
    this.#isDue = false;
    this.#waiting?.cancel();
    this.#waiting = undefined;
  }

  #start(batch: readonly HeldDelivery<T>[]): void {
    this.#waitNoMore();
    this.#running += 1;
    // Never rejects.
    void this.#run(batch).then(() => {
      this.#running -= 1;
      this.#look();
    });
  }
}

/** Runs one batch, and decides on whatever its handler leaves undecided. Never rejects. */
async function runBatch<T>(
  channel: string,
  handler: BatchHandler<T, QueueDelivery<T>>,
  batching: Batching & { readonly limit: TimeLimit | undefined },
  batch: readonly HeldDelivery<T>[],
): Promise<void> {
  const { clock, limit } = batching;
  const left = (): readonly HeldDelivery<T>[] => batch.filter((held) => !HeldDelivery.isDecided(held));
  const stop = new AbortController();
  let limited: ReturnType<typeof TimeLimit.prototype.within<Ending>> | undefined;
  const stopOnceAllFailed: Watcher = {
    failed(reason) {
      if (left().some((held) => HeldDelivery.runOf(held).failure === undefined)) return;
      stop.abort(reason);
      if (isFinal(reason)) limited?.cancel();
    },
  };
  for (const held of batch) HeldDelivery.runOf(held).watcher = stopOnceAllFailed;
  const finish = async (): Promise<Ending> => {
    try {
      return { returned: await handler([...batch], { signal: stop.signal, channel }) };
    } catch (thrown) {
      return { thrown: toError(thrown) };
    }
  };
  const late = (error: Error): Ending => {
    stop.abort(error);
    for (const held of left()) HeldDelivery.runOf(held).abort(error);
    return { thrown: error };
  };
  const finishing = finish();
  if (limit !== undefined) limited = limit.within(clock.now(), finishing, late);
  const ending = await (limited?.result ?? finishing);
  const unsettled = left();
  if ("thrown" in ending && unsettled.length === 0) batching.report(ending.thrown);
  for (const held of unsettled) end(channel, held, ending, batching);
}

type Ending = { readonly returned: unknown } | { readonly thrown: Error };

function end(channel: string, held: HeldDelivery<unknown>, ending: Ending, batching: Batching): void {
  const run = HeldDelivery.runOf(held);
  const { attempt } = run.delivery;
  if ("thrown" in ending) {
    run.thrown = ending.thrown;
    HeldDelivery.decide(held, verdictOnFailure(ending.thrown, { channel, attempt, kind: "thrown" }, batching));
  } else {
    HeldDelivery.decide(held, verdictOnReturn(ending.returned, attempt, batching.policy));
  }
}
