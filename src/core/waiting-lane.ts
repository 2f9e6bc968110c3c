/** Publishing to a stream that says `overflow: "block"`: what finds no room waits for it, in order. */

import { type Clock, nextTurn, wait } from "./clock.js";
import { ClosedError, LimitError } from "./errors.js";
import { backoffMs, type RetryPolicy } from "./retry.js";

export interface WaitingLaneOptions<I, R> {
  /** Writes a batch, all or nothing. Rejects with a retryable `LimitError` when there is no room for it. */
  readonly store: (items: readonly I[]) => Promise<readonly R[]>;
  /** What an item is rejected with whose batch was. */
  readonly refusal: (error: unknown, item: I) => unknown;
  /** What an item counts towards `maxBytes`. */
  readonly sizeOf: (item: I) => number;
  readonly maxItems: number;
  readonly maxBytes: number;
  /** Items and bytes that may wait, beyond which `add` is refused: memory is bounded. */
  readonly maxPending: number;
  readonly maxPendingBytes: number;
  /** How long an item waits for room. */
  readonly blockMs: number;
  readonly clock: Clock;
  /** Hears how many have waited in vain. */
  readonly failed: (count: number, error: LimitError) => void;
  /** Ends all waiting. */
  readonly stop: AbortSignal;
}

interface Waiting<I, R> {
  readonly item: I;
  readonly size: number;
  readonly until: number;
  readonly signal: AbortSignal | undefined;
  readonly resolve: (result: R) => void;
  readonly reject: (error: unknown) => void;
}

/** Nothing tells a publisher that there is room again: it looks. */
const LOOK_AGAIN: RetryPolicy = {
  maxAttempts: Number.POSITIVE_INFINITY,
  initialMs: 10,
  factor: 2,
  maxMs: 200,
  jitter: 0.25,
};
const MAX_STEPS = 10;

/** Whether it is worth waiting: something that no store takes is a `LimitError` as well. */
export function isWithoutRoom(error: unknown): error is LimitError {
  return error instanceof LimitError && error.retryable;
}

/** One batch at a time, so that order is kept however often one is refused. */
export class WaitingLane<I, R> {
  readonly #options: WaitingLaneOptions<I, R>;
  readonly #waiting: Waiting<I, R>[] = [];
  #bytes = 0;
  #sending: Promise<void> | undefined;

  constructor(options: WaitingLaneOptions<I, R>) {
    this.#options = options;
  }

  get isIdle(): boolean {
    return this.#sending === undefined;
  }

  async idle(): Promise<void> {
    while (this.#sending !== undefined) await this.#sending;
  }

  /** An item whose signal aborts while it waits is not stored. @throws {LimitError} when too much waits already */
  add(item: I, signal: AbortSignal | undefined): Promise<R> {
    const { maxPending, maxPendingBytes, blockMs, clock, sizeOf } = this.#options;
    if (this.#waiting.length >= maxPending || this.#bytes >= maxPendingBytes) {
      return Promise.reject(
        new LimitError(
          `${this.#waiting.length} messages wait for room: await earlier publishes before publishing more`,
          {
            retryable: true,
          },
        ),
      );
    }
    return new Promise((resolve, reject) => {
      const size = sizeOf(item);
      this.#keep({ item, size, until: clock.now() + blockMs, signal, resolve, reject });
      this.#sending ??= this.#sendAll();
    });
  }

  async #sendAll(): Promise<void> {
    const { maxItems, clock, stop } = this.#options;
    // What does not fit whole may fit by halves.
    let most = maxItems;
    let refusals = 0;
    // What is published in the same tick travels together.
    await new Promise<void>((resolve) => process.nextTick(resolve));
    for (let batch = this.#nextBatch(most); batch.length > 0; batch = this.#nextBatch(most)) {
      const refusal = await this.#send(batch);
      if (refusal === undefined) {
        most = Math.min(maxItems, most * 2);
        refusals = 0;
        // Those who were answered may publish again: let them join.
        await nextTurn();
      } else if (batch.length > 1) {
        most = Math.ceil(batch.length / 2);
      } else if (this.#rejectOverdue(refusal) === 0) {
        refusals += 1;
        const leftMs = (this.#waiting[0]?.until ?? 0) - clock.now();
        const pauseMs = backoffMs(LOOK_AGAIN, Math.min(refusals, MAX_STEPS));
        await wait(clock, Math.max(1, Math.min(pauseMs, leftMs)), stop);
      }
    }
    // In the same stretch as the last look at what waits: whoever adds to it afterwards starts anew.
    this.#sending = undefined;
  }

  /** The first that still want to be stored. Empty: nothing waits. */
  #nextBatch(most: number): readonly Waiting<I, R>[] {
    const { maxBytes } = this.#options;
    const batch: Waiting<I, R>[] = [];
    let bytes = 0;
    for (const next of this.#waiting) {
      if (this.#isOver(next)) {
        this.#dropWhatIsOver();
        return this.#nextBatch(most);
      }
      // One item always fits, however large: its own limit is checked elsewhere.
      if (batch.length > 0 && (batch.length >= most || bytes + next.size > maxBytes)) break;
      batch.push(next);
      bytes += next.size;
    }
    return batch;
  }

  #isOver({ signal }: Waiting<I, R>): boolean {
    return this.#options.stop.aborted || signal?.aborted === true;
  }

  #dropWhatIsOver(): void {
    for (const each of this.#remove(0, this.#waiting.length)) {
      if (!this.#isOver(each)) this.#keep(each);
      // Whoever aborted has heard of it already.
      else each.reject(new ClosedError("the broker was closed while the message waited for room: it is not stored"));
    }
  }

  /** @returns why there is no room, where that is so; whatever else happens is the batch's own */
  async #send(batch: readonly Waiting<I, R>[]): Promise<LimitError | undefined> {
    try {
      const results = await this.#options.store(batch.map(({ item }) => item));
      this.#remove(0, batch.length);
      // The store promises one result for each item.
      for (let index = 0; index < batch.length; index += 1) batch[index]?.resolve(results[index] as R);
    } catch (error) {
      if (isWithoutRoom(error)) return error;
      this.#remove(0, batch.length);
      for (const { item, reject } of batch) reject(this.#options.refusal(error, item));
    }
    return undefined;
  }

  /** @returns how many had waited long enough; the first ones always have waited longest */
  #rejectOverdue(refusal: LimitError): number {
    const { clock, blockMs } = this.#options;
    const now = clock.now();
    const first = this.#waiting.findIndex(({ until }) => until > now);
    const overdue = this.#remove(0, first < 0 ? this.#waiting.length : first);
    const error = new LimitError(`no room within blockMs (${blockMs}): ${refusal.message}`, {
      cause: refusal,
      retryable: true,
    });
    if (overdue.length > 0) this.#options.failed(overdue.length, error);
    for (const { reject } of overdue) reject(error);
    return overdue.length;
  }

  #keep(each: Waiting<I, R>): void {
    this.#waiting.push(each);
    this.#bytes += each.size;
  }

  #remove(index: number, count: number): readonly Waiting<I, R>[] {
    const removed = this.#waiting.splice(index, count);
    for (const { size } of removed) this.#bytes -= size;
    return removed;
  }
}
