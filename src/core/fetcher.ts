/**
 * What a consumer has asked for, and what came of it and waits for a slot. While much is waiting two fetches are under way:
 * the backend works on one of them while what the other has brought is handled.
 */

import type { Delivery } from "./backend.js";
import type { Clock } from "./clock.js";

export interface FetcherOptions {
  /** Handlers at once. */
  readonly concurrency: number;
  /** More than there are slots for is fetched while handlers end in the turn in which they begin. */
  readonly fetchAhead: boolean;
  /** What was fetched ahead waits for a slot at most a third of its lease, and a second. */
  readonly leaseMs: number;
  readonly clock: Clock;
  /** Never rejects. */
  readonly fetch: (max: number, mayWait: boolean) => Promise<readonly Delivery[]>;
}

/** What the consumer is busy with. */
export interface Busy {
  /** Handlers that run. */
  readonly running: number;
  /** Outcomes that the next fetch settles. */
  readonly settling: number;
  /** Settling has failed last: as long as nothing can be settled, nothing may be taken beside it. */
  readonly isStuck: boolean;
}

/** From this concurrency on half of the slots are fetched while the other half is handled. */
const MIN_SPLIT = 32;
/** Backends need not give more at once. */
const MAX_AT_ONCE = 1_000;
const MAX_AHEAD_MS = 1_000;

interface Fetch {
  readonly max: number;
  readonly answer: Promise<readonly Delivery[]>;
  /** When the answer came, by the clock. */
  answeredAt: number;
  /** What it brings is no longer the consumer's. */
  isForgotten: boolean;
}

export class Fetcher {
  readonly #options: FetcherOptions;
  readonly #maxAheadMs: number;
  readonly #maySplit: boolean;
  /** What is asked for at a time, and what makes a second fetch worth its while. */
  readonly #size: number;
  /** Under way, the oldest first. */
  readonly #fetches: Fetch[] = [];
  /** Came, and were not started. */
  readonly #ready: Delivery[] = [];
  /** Since when the oldest of them waits. */
  #readySince = 0;
  /** All that was asked for has come: more is waiting. */
  #isFlowing = false;
  /** Of many handlers that had been started all had finished, when outcomes were last settled. */
  #areQuick = false;

  constructor(options: FetcherOptions) {
    this.#options = options;
    const { concurrency, leaseMs } = options;
    this.#maxAheadMs = Math.min(MAX_AHEAD_MS, leaseMs / 3);
    this.#maySplit = concurrency >= MIN_SPLIT;
    this.#size = Math.min(this.#maySplit ? Math.floor(concurrency / 2) : concurrency, MAX_AT_ONCE);
  }

  /** Fetches where there is room for more, or something to settle. @returns whether it does */
  fetch(busy: Busy): boolean {
    const max = this.#room(busy);
    const isFirst = this.#fetches.length === 0;
    const isWorthwhile = isFirst
      ? max > 0 || busy.settling > 0
      : this.#fetches.length === 1 && this.#isFlowing && max >= this.#size && !busy.isStuck;
    if (!isWorthwhile) return false;
    // Where another may follow before this one is answered, it must not wait.
    const mayWait = isFirst && this.#ready.length === 0 && !this.#isFlowing;
    const answer = this.#options.fetch(max, mayWait);
    const fetch: Fetch = { max, answer, answeredAt: 0, isForgotten: false };
    this.#fetches.push(fetch);
    // It may have to wait for the one before it, and its lease runs all the while.
    void answer.then(() => {
      fetch.answeredAt = this.#options.clock.now();
    });
    return true;
  }

  get isUnderWay(): boolean {
    return this.#fetches.length > 0;
  }

  /** Whether there is something to go on with before the latest fetch is answered: to start, or to ask for. */
  get mayGoOn(): boolean {
    return this.#fetches.length > 1 || this.#ready.length > 0 || this.#isFlowing;
  }

  /** Waits for the oldest answer. */
  async receive(): Promise<void> {
    const [oldest] = this.#fetches;
    if (oldest === undefined) return;
    const { max } = oldest;
    const deliveries = await oldest.answer;
    this.#fetches.shift();
    if (max > 0) this.#isFlowing = this.#maySplit && max >= this.#size && deliveries.length === max;
    if (oldest.isForgotten) return;
    if (this.#ready.length === 0) this.#readySince = oldest.answeredAt;
    this.#ready.push(...deliveries);
  }

  /** Resolves when nothing is under way any more. */
  async over(): Promise<void> {
    while (this.isUnderWay) await this.receive();
  }

  /** How long what is ready may wait for a slot; undefined when nothing is. */
  get leftMs(): number | undefined {
    if (this.#ready.length === 0) return undefined;
    return this.#readySince + this.#maxAheadMs - this.#options.clock.now();
  }

  /** Hands out what is ready. */
  take(max: number = this.#ready.length): readonly Delivery[] {
    return this.#ready.splice(0, max);
  }

  /** All that has come, or comes of what is under way, is somebody else's by now. */
  forget(): void {
    this.#ready.length = 0;
    for (const fetch of this.#fetches) fetch.isForgotten = true;
  }

  /** How many to ask for. */
  #room({ running, settling }: Busy): number {
    const { concurrency, fetchAhead } = this.#options;
    if (settling > 0) this.#areQuick = running === 0 && settling >= MIN_SPLIT;
    const isAhead = fetchAhead && this.#areQuick && running === 0;
    const asked = this.#fetches.reduce((sum, { max }) => sum + max, 0);
    const free = (isAhead ? 2 : 1) * concurrency - running - this.#ready.length - asked;
    return Math.max(0, Math.min(free, isAhead ? Math.min(concurrency, MAX_AT_ONCE) : this.#size));
  }
}
