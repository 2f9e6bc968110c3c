/**
 * Coalesces calls: what is added in one tick travels together, what is added while a batch is under way waits for the
 * next one. No timers (a flush by timer costs its period at every quiet moment): the reply is the clock, as with Nagle's.
 */

import { nextTurn } from "./clock.js";
import { LimitError } from "./errors.js";

export interface BatcherOptions<I, R> {
  /** Sends a batch. Resolves with one result for each item, in order; a rejection is every item's. */
  readonly flush: (items: readonly I[]) => Promise<readonly R[]>;
  /** What an item is rejected with whose batch was. */
  readonly refusal: (error: unknown, item: I) => unknown;
  /** What an item counts towards `maxBytes`. */
  readonly sizeOf: (item: I) => number;
  /** Largest batch. */
  readonly maxItems: number;
  readonly maxBytes: number;
  /** Batches under way at once. Further ones leave early only when they are full. */
  readonly maxInFlight: number;
  /** Items and bytes that may wait, beyond which `add` is refused: memory is bounded. */
  readonly maxPending: number;
  readonly maxPendingBytes: number;
}

/** What is sent together, in three lists of the same length: an object for each item would cost more than all else here. */
class Batch<I, R> {
  readonly items: I[];
  readonly #resolves: ((result: R) => void)[];
  readonly #rejects: ((error: unknown) => void)[];

  constructor(items: I[] = [], resolves: ((result: R) => void)[] = [], rejects: ((error: unknown) => void)[] = []) {
    this.items = items;
    this.#resolves = resolves;
    this.#rejects = rejects;
  }

  add(item: I): Promise<R> {
    this.items.push(item);
    return new Promise(this.#keep);
  }

  /** One function for all promises. */
  readonly #keep = (resolve: (result: R) => void, reject: (error: unknown) => void): void => {
    this.#resolves.push(resolve);
    this.#rejects.push(reject);
  };

  /** Takes the first ones out. */
  split(count: number): Batch<I, R> {
    return new Batch(this.items.splice(0, count), this.#resolves.splice(0, count), this.#rejects.splice(0, count));
  }

  resolve(results: readonly R[]): void {
    // The flush promises one result for each item; see BatcherOptions.
    for (let index = 0; index < this.#resolves.length; index += 1) this.#resolves[index]?.(results[index] as R);
  }

  reject(toError: (item: I) => unknown): void {
    for (const [index, item] of this.items.entries()) this.#rejects[index]?.(toError(item));
  }
}

export class Batcher<I, R> {
  readonly #options: BatcherOptions<I, R>;
  #pending = new Batch<I, R>();
  #pendingBytes = 0;
  #inFlight = 0;
  #scheduled = false;
  #idle: (() => void)[] = [];

  constructor(options: BatcherOptions<I, R>) {
    this.#options = options;
  }

  get isIdle(): boolean {
    return this.#pending.items.length === 0 && this.#inFlight === 0;
  }

  /** @throws {LimitError} when too much waits already */
  add(item: I): Promise<R> {
    const { maxPending, maxPendingBytes } = this.#options;
    if (this.#pending.items.length >= maxPending || this.#pendingBytes >= maxPendingBytes) {
      return Promise.reject(
        new LimitError(
          `${this.#pending.items.length} messages wait to be sent: await earlier publishes before publishing more`,
          {
            retryable: true,
          },
        ),
      );
    }
    this.#pendingBytes += this.#options.sizeOf(item);
    this.#schedule();
    return this.#pending.add(item);
  }

  /** Resolves when nothing waits and nothing is under way. */
  async idle(): Promise<void> {
    if (this.isIdle) return;
    await new Promise<void>((resolve) => this.#idle.push(resolve));
  }

  /** Looks once the tick is over: everything that is published in it shall ride together. */
  #schedule(): void {
    if (this.#scheduled) return;
    this.#scheduled = true;
    process.nextTick(() => this.#look());
  }

  /** Looks once the turn is over: publishers that are answered and publish again must not keep the loop from all others. */
  #scheduleNextTurn(): void {
    if (this.#scheduled) return;
    this.#scheduled = true;
    void nextTurn().then(() => this.#look());
  }

  #look(): void {
    this.#scheduled = false;
    this.#send();
  }

  #send(): void {
    while (this.#pending.items.length > 0 && this.#maySend()) void this.#sendOne(this.#nextBatch());
  }

  #maySend(): boolean {
    const { maxInFlight, maxItems, maxBytes } = this.#options;
    if (this.#inFlight === 0) return true;
    return this.#inFlight < maxInFlight && (this.#pending.items.length >= maxItems || this.#pendingBytes >= maxBytes);
  }

  #nextBatch(): Batch<I, R> {
    const { maxItems, maxBytes, sizeOf } = this.#options;
    let count = 0;
    let bytes = 0;
    for (const item of this.#pending.items) {
      const size = sizeOf(item);
      // One item always fits, however large: its own limit is checked elsewhere.
      if (count > 0 && (count >= maxItems || bytes + size > maxBytes)) break;
      count += 1;
      bytes += size;
    }
    this.#pendingBytes -= bytes;
    if (count < this.#pending.items.length) return this.#pending.split(count);
    const all = this.#pending;
    this.#pending = new Batch();
    return all;
  }

  async #sendOne(batch: Batch<I, R>): Promise<void> {
    this.#inFlight += 1;
    try {
      batch.resolve(await this.#options.flush(batch.items));
    } catch (error) {
      batch.reject((item) => this.#options.refusal(error, item));
    } finally {
      this.#inFlight -= 1;
      // Those who were answered may publish again: let them join.
      if (this.#pending.items.length > 0) this.#scheduleNextTurn();
      else if (this.#inFlight === 0) this.#notifyIdle();
    }
  }

  #notifyIdle(): void {
    const waiting = this.#idle;
    this.#idle = [];
    for (const resolve of waiting) resolve();
  }
}
