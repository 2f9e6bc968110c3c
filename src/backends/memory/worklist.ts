/**
 * What a group of the log and an inbox of the queue have in common: deliveries that are leased, parked until they are
 * due, or dead. Pure state; time comes in as an argument, waiting is the feed's.
 */

import type { Bytes, DeadReason, Delivery, Outcome, Receipt, Taken } from "../../core/backend.js";
import { createHeap, type Heap } from "./heap.js";
import { toBytes } from "./stored.js";

/** One message on its way through a group or an inbox. */
export interface Work {
  readonly position: string;
  readonly header: string;
  readonly data: Bytes;
  /** Attempts counted so far. */
  attempts: number;
  /** When one of them first failed or was abandoned. */
  firstFailedAt: number | undefined;
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
export interface BuriedWork<W extends Work> {
  /** Growing numbers. */
  readonly number: number;
  readonly work: W;
  readonly consumer: string;
  readonly reason: DeadReason;
  readonly at: number;
}

/** What a call of a feed comes to, as far as a work list knows. */
export type Served = Pick<Taken, "deliveries" | "lost" | "poisoned">;

interface Parked<W> {
  readonly work: W;
  readonly dueAt: number;
}

const earlier = <W>(a: Parked<W>, b: Parked<W>): boolean => a.dueAt < b.dueAt;

export class WorkList<W extends Work> {
  readonly leased: Map<Receipt, Lease<W>> = new Map();
  /** By their numbers as text, oldest first. */
  readonly dead: Map<string, BuriedWork<W>> = new Map();
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

  /** Settles, takes back what was abandoned or is due, then leases up to `max`. */
  serve(
    want: { readonly max: number; readonly consumer: string },
    outcomes: readonly Outcome[],
    now: number,
    rules: LeaseRules,
  ): Served {
    const lost = outcomes.filter((outcome) => !this.#settle(outcome, now, rules)).map(({ receipt }) => receipt);
    const poisoned = this.#sweep(now, rules);
    this.release(now);
    const deliveries: Delivery[] = [];
    while (deliveries.length < want.max) {
      const work = this.#supply.next(now);
      if (work === undefined) break;
      deliveries.push(this.#lease(work, want.consumer, now + rules.leaseMs));
    }
    return { deliveries, lost, poisoned };
  }

  /** @returns false when the receipt is no longer valid */
  #settle(outcome: Outcome, now: number, rules: LeaseRules): boolean {
    const lease = this.leased.get(outcome.receipt);
    if (lease === undefined) return false;
    this.leased.delete(outcome.receipt);
    if (outcome.as === "ack") {
      this.#supply.finished(lease.work);
    } else if (outcome.as === "deadLetter") {
      this.#bury(lease, outcome.reason, now, rules);
    } else {
      if (outcome.counted) lease.work.firstFailedAt ??= now;
      else lease.work.attempts -= 1;
      this.park(lease.work, now + outcome.delayMs);
    }
    return true;
  }

  #lease(work: W, consumer: string, until: number): Delivery {
    work.attempts += 1;
    this.#receipts += 1;
    const receipt = String(this.#receipts);
    this.leased.set(receipt, { receipt, work, consumer, until });
    this.#earliestEnd = Math.min(this.#earliestEnd, until);
    return { receipt, position: work.position, attempt: work.attempts, header: work.header, data: toBytes(work.data) };
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

  /** Forgets what is parked and `isGone`. @returns what that was */
  dropParked(isGone: (work: W) => boolean): readonly W[] {
    const all = this.#parked.items();
    this.#parked = createHeap(earlier);
    for (const item of all) if (!isGone(item.work)) this.#parked.push(item);
    return all.map(({ work }) => work).filter(isGone);
  }

  /** Forgets what is leased or parked. Receipts are not given again; dead letters stay. */
  clear(): void {
    this.leased.clear();
    this.#parked = createHeap(earlier);
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
      lease.work.firstFailedAt ??= now;
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

  #bury({ work, consumer }: Lease<W>, reason: DeadReason, now: number, rules: LeaseRules): void {
    this.bury(work, { consumer, reason, at: now }, rules.maxDeadLetters);
    this.#supply.finished(work);
  }

  /** Adds a dead letter; beyond `max` the oldest goes. */
  bury(work: W, burial: Pick<BuriedWork<W>, "consumer" | "reason" | "at">, max: number): void {
    this.#letters += 1;
    this.dead.set(String(this.#letters), { number: this.#letters, work, ...burial });
    for (const id of this.dead.keys()) {
      if (this.dead.size <= max) break;
      this.dead.delete(id);
    }
  }
}
