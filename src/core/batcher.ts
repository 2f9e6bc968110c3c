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

interface Pending<I, R> {
  readonly item: I;
  readonly size: number;
  readonly resolve: (result: R) => void;
  readonly reject: (error: unknown) => void;
}

export class Batcher<I, R> {
  readonly #options: BatcherOptions<I, R>;
  #pending: Pending<I, R>[] = [];
  #pendingBytes = 0;
  #inFlight = 0;
  #scheduled = false;
  #idle: (() => void)[] = [];

  constructor(options: BatcherOptions<I, R>) {
    this.#options = options;
  }

  get isIdle(): boolean {
    return this.#pending.length === 0 && this.#inFlight === 0;
  }

  /** @throws {LimitError} when too much waits already */
  add(item: I): Promise<R> {
    const { maxPending, maxPendingBytes } = this.#options;
    if (this.#pending.length >= maxPending || this.#pendingBytes >= maxPendingBytes) {
      return Promise.reject(
        new LimitError(
          `${this.#pending.length} messages wait to be sent: await earlier publishes before publishing more`,
          {
            retryable: true,
          },
        ),
      );
    }
    return new Promise((resolve, reject) => {
      const size = this.#options.sizeOf(item);
      this.#pending.push({ item, size, resolve, reject });
      this.#pendingBytes += size;
      this.#schedule();
    });
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
    while (this.#pending.length > 0 && this.#maySend()) void this.#sendOne(this.#nextBatch());
  }

  #maySend(): boolean {
    const { maxInFlight, maxItems, maxBytes } = this.#options;
    if (this.#inFlight === 0) return true;
    return this.#inFlight < maxInFlight && (this.#pending.length >= maxItems || this.#pendingBytes >= maxBytes);
  }

  #nextBatch(): Pending<I, R>[] {
    const { maxItems, maxBytes } = this.#options;
    let count = 0;
    let bytes = 0;
    for (const { size } of this.#pending) {
      // One item always fits, however large: its own limit is checked elsewhere.
      if (count > 0 && (count >= maxItems || bytes + size > maxBytes)) break;
      count += 1;
      bytes += size;
    }
    this.#pendingBytes -= bytes;
    if (count === this.#pending.length) {
      const all = this.#pending;
      this.#pending = [];
      return all;
    }
    return this.#pending.splice(0, count);
  }

  async #sendOne(batch: readonly Pending<I, R>[]): Promise<void> {
    this.#inFlight += 1;
    try {
      const results = await this.#options.flush(batch.map(({ item }) => item));
      // The flush promises one result for each item; see BatcherOptions.
      for (let index = 0; index < batch.length; index += 1) batch[index]?.resolve(results[index] as R);
    } catch (error) {
      for (const { item, reject } of batch) reject(this.#options.refusal(error, item));
    } finally {
      this.#inFlight -= 1;
      // Those who were answered may publish again: let them join.
      if (this.#pending.length > 0) this.#scheduleNextTurn();
      else if (this.#inFlight === 0) this.#notifyIdle();
    }
  }

  #notifyIdle(): void {
    const waiting = this.#idle;
    this.#idle = [];
    for (const resolve of waiting) resolve();
  }
}
