/**
 * What a group of the log and an inbox of the queue have in common: deliveries that are leased, parked until they are
 * due, or dead. Pure state; time comes in as an argument, waiting is the feed's.
 */

import type { Bytes, DeadReason, Outcome, Receipt } from "../../core/backend.js";
import { createHeap, type Heap } from "./heap.js";

/** One message on its way through a group or an inbox. */
export interface Work {
  readonly position: string;
  readonly header: string;
  readonly data: Bytes;
  /** Attempts counted so far. */
  attempts: number;
}

/** Where work comes from, most urgent first: a group's cursor, an inbox's priorities. */
export interface Supply<W extends Work> {
  /** Removes the most urgent that is ready; undefined when there is none. */
  next(now: number): W | undefined;
  /** Takes back what is due again, or counts it where its message no longer exists. */
  restore(work: W): void;
  /** Called when work is kept back until it is due, by `park` or a retry. */
  parked(work: W): void;
  /** Called once work is acknowledged or dead. */
  finished(work: W): void;
}

/** What a consumer goes by. */
export interface LeaseRules {
  readonly leaseMs: number;
  readonly maxAttempts: number;
  readonly maxDeadLetters: number;
}

export interface Lease<W extends Work> {
  readonly receipt: Receipt;
  readonly work: W;
  readonly consumer: string;
  until: number;
}

/** A dead letter as it is stored. */
export interface BuriedWork {
  /** Growing numbers. */
  readonly number: number;
  readonly work: Work;
  readonly consumer: string;
  readonly reason: DeadReason;
  readonly at: number;
}

export interface TakenLeases<W extends Work> {
  readonly leases: readonly Lease<W>[];
  /** Abandoned deliveries that had no attempt left and are dead letters now. */
  readonly poisoned: number;
}

interface Parked<W> {
  readonly work: W;
  readonly dueAt: number;
}

const earlier = <W>(a: Parked<W>, b: Parked<W>): boolean => a.dueAt < b.dueAt;

export class WorkList<W extends Work> {
  readonly leased: Map<Receipt, Lease<W>> = new Map();
  readonly dead: BuriedWork[] = [];
  #parked: Heap<Parked<W>> = createHeap(earlier);
  readonly #supply: Supply<W>;
  #receipts = 0;
  #letters = 0;
  /** No lease ends before this: most takes need not look at all of them. */
  #earliestEnd = Number.POSITIVE_INFINITY;

  constructor(supply: Supply<W>) {
    this.#supply = supply;
  }

  /** What waits to be due. */
  parkedWork(): readonly W[] {
    return this.#parked.items().map(({ work }) => work);
  }

  /** @returns false when the receipt is no longer valid */
  settle(outcome: Outcome, now: number, rules: LeaseRules): boolean {
    const lease = this.leased.get(outcome.receipt);
    if (lease === undefined) return false;
    this.leased.delete(outcome.receipt);
    if (outcome.as === "ack") {
      this.#supply.finished(lease.work);
    } else if (outcome.as === "deadLetter") {
      this.#bury(lease, outcome.reason, now, rules);
    } else {
      if (!outcome.counted) lease.work.attempts -= 1;
      this.park(lease.work, now + outcome.delayMs);
    }
    return true;
  }

  /** Leases up to `max` to the consumer: what was abandoned or is due comes back into the supply first. */
  take(max: number, consumer: string, now: number, rules: LeaseRules): TakenLeases<W> {
    const poisoned = this.#sweep(now, rules);
    this.release(now);
    const leases: Lease<W>[] = [];
    while (leases.length < max) {
      const work = this.#supply.next(now);
      if (work === undefined) break;
      work.attempts += 1;
      this.#receipts += 1;
      const lease: Lease<W> = { receipt: String(this.#receipts), work, consumer, until: now + rules.leaseMs };
      this.leased.set(lease.receipt, lease);
      leases.push(lease);
      this.#earliestEnd = Math.min(this.#earliestEnd, lease.until);
    }
    return { leases, poisoned };
  }

  /** @returns false when the receipt is no longer valid */
  extend(receipt: Receipt, until: number): boolean {
    const lease = this.leased.get(receipt);
    if (lease !== undefined) lease.until = until;
    return lease !== undefined;
  }

  /** Makes everything the consumer holds available again, uncounted. */
  giveBack(consumer: string): void {
    for (const lease of this.leased.values()) {
      if (lease.consumer !== consumer) continue;
      this.leased.delete(lease.receipt);
      lease.work.attempts -= 1;
      this.#supply.restore(lease.work);
    }
  }

  /** Keeps work back until it is due. */
  park(work: W, dueAt: number): void {
    this.#parked.push({ work, dueAt });
    this.#supply.parked(work);
  }

  /** Puts back into the supply what is due. */
  release(now: number): void {
    for (let next = this.#parked.peek(); next !== undefined && next.dueAt <= now; next = this.#parked.peek()) {
      this.#parked.pop();
      this.#supply.restore(next.work);
    }
  }

  /** Forgets what is parked and `isGone`. @returns how many */
  dropParked(isGone: (work: W) => boolean): number {
    const all = this.#parked.items();
    this.#parked = createHeap(earlier);
    for (const item of all) if (!isGone(item.work)) this.#parked.push(item);
    return all.length - this.#parked.size;
  }

  /** When something will be ready by the clock alone: the earliest due time or lease end. */
  nextReadyAt(): number {
    return Math.min(this.#parked.peek()?.dueAt ?? Number.POSITIVE_INFINITY, this.#earliestEnd);
  }

  /** Takes back the leases that have run out: their consumer died or hangs. @returns how many are dead now */
  #sweep(now: number, rules: LeaseRules): number {
    let poisoned = 0;
    if (now < this.#earliestEnd) return poisoned;
    this.#earliestEnd = Number.POSITIVE_INFINITY;
    for (const lease of this.leased.values()) {
      if (lease.until > now) {
        this.#earliestEnd = Math.min(this.#earliestEnd, lease.until);
        continue;
      }
      this.leased.delete(lease.receipt);
      if (lease.work.attempts >= rules.maxAttempts) {
        const message = `no consumer finished it in ${lease.work.attempts} attempts`;
        this.#bury(lease, { kind: "abandoned", message }, now, rules);
        poisoned += 1;
      } else {
        this.#supply.restore(lease.work);
      }
    }
    return poisoned;
  }

  #bury(lease: Lease<W>, reason: DeadReason, now: number, rules: LeaseRules): void {
    this.#letters += 1;
    this.dead.push({ number: this.#letters, work: lease.work, consumer: lease.consumer, reason, at: now });
    if (this.dead.length > rules.maxDeadLetters) this.dead.splice(0, this.dead.length - rules.maxDeadLetters);
    this.#supply.finished(lease.work);
  }
}
