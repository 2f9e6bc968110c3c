/** What every contender does alike: the messages, how they are published, and the check that they all arrived. */

import { pause, withDeadline } from "../test/support/wait.js";

/** About 200 bytes as JSON. */
export interface Payload {
  /** From 0; what arrival and order are checked by. */
  readonly n: number;
  readonly order: string;
  readonly customer: { readonly id: string; readonly country: string };
  readonly items: readonly { readonly sku: string; readonly quantity: number; readonly cents: number }[];
  readonly note: string;
}

/** Publishes under way at once, in every rate. */
export const CONCURRENT_PUBLISHES = 1_000;
/** Handlers at once, in every end-to-end figure. */
export const CONCURRENT_HANDLERS = 200;
export const LEVELS = 10;
/** Keys that messages share, where order by key is measured. */
export const KEYS = 1_000;
/** A round that takes this much longer than it should has lost something. */
const DEADLINE_MS = 60_000;

export function payloadOf(n: number): Payload {
  return {
    n,
    order: `order-${1_000_000 + n}`,
    customer: { id: "customer-0042", country: "PT" },
    items: [{ sku: "A-1177-B", quantity: 2, cents: 1_295 }],
    note: "leave it with the neighbour at number twelve, please ring",
  };
}

/** Message n and message n + 1,000 are about the same customer. */
export function keyOf(n: number): string {
  return `customer-${laneOf(n)}`;
}

/** The key's number. */
export function laneOf(n: number): number {
  return n % KEYS;
}

/** Of 0 to 9, all levels mixed. */
export function priorityOf(n: number): number {
  return (n * 7) % LEVELS;
}

/** Calls `send` for 0 to `count - 1`, each when one of `concurrency` earlier calls has resolved. */
export async function pump(count: number, concurrency: number, send: (n: number) => Promise<unknown>): Promise<void> {
  let next = 0;
  const publisher = async (): Promise<void> => {
    while (next < count) {
      const n = next;
      next += 1;
      await send(n);
    }
  };
  await Promise.all(Array.from({ length: Math.min(count, concurrency) }, publisher));
}

/** Calls `send` for 0 to `count - 1` at an even rate, whether or not earlier calls have resolved. */
export async function pace(count: number, perSecond: number, send: (n: number) => Promise<unknown>): Promise<void> {
  const startedAt = performance.now();
  const sent: Promise<unknown>[] = [];
  while (sent.length < count) {
    const due = Math.min(count, 1 + Math.floor(((performance.now() - startedAt) * perSecond) / 1_000));
    while (sent.length < due) sent.push(send(sent.length));
    await pause(1);
  }
  await Promise.all(sent);
}

/** Where order is promised. */
export interface Order {
  /** Where a message belongs: arrivals must rise by it. */
  rank(n: number): number;
  /** Messages of different lanes have no order between them. */
  lane(n: number): number;
}

/** Counts arrivals: each message exactly once, and in order where order is promised. */
export class Tally {
  readonly #seen: Uint8Array;
  readonly #order: Order | undefined;
  #left: number;
  #sum = 0;
  #repeated = 0;
  #outOfOrder = 0;
  readonly #lastRanks: number[] = [];
  #complete: () => void = () => undefined;
  readonly #completed = new Promise<void>((resolve) => {
    this.#complete = resolve;
  });

  /** @param order absent: none is promised */
  constructor(count: number, order?: Order) {
    this.#seen = new Uint8Array(count);
    this.#left = count;
    this.#order = order;
  }

  get isComplete(): boolean {
    return this.#left === 0;
  }

  see(n: number): void {
    if (this.#seen[n] !== 0) {
      this.#repeated += 1;
      return;
    }
    this.#seen[n] = 1;
    this.#sum += n;
    if (this.#order !== undefined) {
      const [lane, rank] = [this.#order.lane(n), this.#order.rank(n)];
      if (rank < (this.#lastRanks[lane] ?? -1)) this.#outOfOrder += 1;
      this.#lastRanks[lane] = rank;
    }
    this.#left -= 1;
    if (this.#left === 0) this.#complete();
  }

  /** Resolves when each message has been seen. */
  async complete(): Promise<void> {
    await withDeadline(() => this.#completed, DEADLINE_MS, `delivering ${this.#seen.length} messages`).catch(
      (cause: unknown) => {
        throw new Error(`${this.#left} of ${this.#seen.length} messages never arrived`, { cause });
      },
    );
  }

  /** @throws {Error} unless everything arrived once, and in order */
  verify(): void {
    const count = this.#seen.length;
    assertEqual("messages that never arrived", this.#left, 0);
    assertEqual("messages that arrived twice", this.#repeated, 0);
    assertEqual("messages out of order", this.#outOfOrder, 0);
    assertEqual("sum of all numbers", this.#sum, (count * (count - 1)) / 2);
  }
}

const oneLane = (): number => 0;

/** Stream order: as published. */
export const streamOrder: Order = { rank: (n) => n, lane: oneLane };
/** As published, among the messages of a key. */
export const keyOrder: Order = { rank: (n) => n, lane: laneOf };
/** Highest priority first, oldest first within one, of a backlog of `count`. */
export const priorityOrder = (count: number): Order => ({
  rank: (n) => (LEVELS - 1 - priorityOf(n)) * count + n,
  lane: oneLane,
});

/** Times from publishing to the handler, in milliseconds. */
export class Stopwatch {
  readonly #sentAt: Float64Array;
  readonly latencies: Float64Array;

  constructor(count: number) {
    this.#sentAt = new Float64Array(count);
    this.latencies = new Float64Array(count);
  }

  sent(n: number): void {
    this.#sentAt[n] = performance.now();
  }

  handled(n: number): void {
    this.latencies[n] = performance.now() - (this.#sentAt[n] ?? 0);
  }
}

export function assertEqual(what: string, found: unknown, expected: unknown): void {
  if (found !== expected) throw new Error(`${what}: ${String(found)}, expected ${String(expected)}`);
}
