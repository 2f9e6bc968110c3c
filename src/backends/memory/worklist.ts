/**
 * What a group of the log and an inbox of the queue have in common: deliveries that are leased, parked until they are
 * due, or dead. Pure state; time comes in as an argument, waiting is the feed's.
 */

import type { Bytes, DeadReason, Delivery, Outcome, Receipt, Reply, Taken } from "../../core/backend.js";
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

/** Whose work it is, a group's or an inbox's: told what becomes of it. */
export interface Owner<W extends Work> {
  /** Is leased now. */
  leased(work: W, lease: Lease<W>): void;
  /** Is kept back until it is due: delayed from the start, or for a retry. */
  parked(work: W, dueAt: number, now: number): void;
  /** Is ready again: its time has come, or its consumer has let go of it. Or it is to be counted where its message no longer exists. */
  restored(work: W, now: number): void;
  /** Is over. */
  finished(work: W, as: "acked" | "dead", now: number): void;
  /** Its last outcome holds an answer. */
  answered?(reply: Reply, now: number): void;
}

/** What a consumer goes by. */
export interface LeaseRules {
  readonly leaseMs: number;
  readonly maxAttempts: number;
  readonly maxDeadLetters: number;
}

/** Who holds a lease: one open feed. Another may have the same name. */
export interface Holder {
  readonly consumer: string;
}

export interface Lease<W extends Work> {
  readonly receipt: Receipt;
  readonly work: W;
  readonly holder: Holder;
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

/** What settling comes to, as far as a work list knows. */
export type Settled = Pick<Taken, "lost" | "poisoned">;

interface Parked<W> {
  readonly work: W;
  readonly dueAt: number;
}

const earlier = <W>(a: Parked<W>, b: Parked<W>): boolean => a.dueAt < b.dueAt;

export class WorkList<W extends Work> {
  readonly leased: Map<Receipt, Lease<W>> = new Map();
  /** By their numbers as text, oldest first. */
  readonly dead: Map<string, BuriedWork<W>> = new Map();
  #parked: Heap<Parked<W>> = createHeap<Parked<W>>(earlier);
  readonly #owner: Owner<W>;
  #receipts = 0;
  #letters = 0;
  /** No lease ends before this: most takes need not look at all of them. */
  #earliestEnd = Number.POSITIVE_INFINITY;

  constructor(owner: Owner<W>) {
    this.#owner = owner;
  }

  /** What waits to be due. */
  parkedWork(): readonly W[] {
    return this.#parked.items().map(({ work }) => work);
  }

  /** Settles, then takes back what was abandoned or is due. */
  settle(outcomes: readonly Outcome[], now: number, rules: LeaseRules): Settled {
    const lost = outcomes.filter((outcome) => !this.#settle(outcome, now, rules)).map(({ receipt }) => receipt);
    const poisoned = this.#sweep(now, rules);
    this.release(now);
    return { lost, poisoned };
  }

  /** Leases up to `max` of what `next` removes from where it waits, the most urgent first. */
  deliver(max: number, holder: Holder, until: number, next: () => W | undefined): Delivery[] {
    const deliveries: Delivery[] = [];
    while (deliveries.length < max) {
      const work = next();
      if (work === undefined) break;
      deliveries.push(this.#lease(work, holder, until));
    }
    return deliveries;
  }

  /** @returns false when the receipt is no longer valid */
  #settle(outcome: Outcome, now: number, rules: LeaseRules): boolean {
    const lease = this.leased.get(outcome.receipt);
    if (lease === undefined) return false;
    this.leased.delete(outcome.receipt);
    if (outcome.as === "retry") {
      if (outcome.counted) lease.work.firstFailedAt ??= now;
      else lease.work.attempts -= 1;
      this.park(lease.work, now + outcome.delayMs, now);
      return true;
    }
    if (outcome.as === "ack") this.#owner.finished(lease.work, "acked", now);
    else this.#bury(lease, outcome.reason, now, rules);
    if (outcome.reply !== undefined) this.#owner.answered?.(outcome.reply, now);
    return true;
  }

  #lease(work: W, holder: Holder, until: number): Delivery {
    work.attempts += 1;
    this.#receipts += 1;
    const receipt = String(this.#receipts);
    const lease = { receipt, work, holder, until };
    this.leased.set(receipt, lease);
    this.#owner.leased(work, lease);
    this.#earliestEnd = Math.min(this.#earliestEnd, until);
    return { receipt, position: work.position, attempt: work.attempts, header: work.header, data: toBytes(work.data) };
  }

  /** @returns false when the receipt is no longer valid */
  extend(receipt: Receipt, until: number): boolean {
    const lease = this.leased.get(receipt);
    if (lease !== undefined) lease.until = until;
    return lease !== undefined;
  }

  /** Makes everything the holder has available again, uncounted. */
  giveBack(holder: Holder, now: number): void {
    for (const lease of this.leased.values()) {
      if (lease.holder !== holder) continue;
      this.leased.delete(lease.receipt);
      lease.work.attempts -= 1;
      this.#owner.restored(lease.work, now);
    }
  }

  /** Keeps work back until it is due. */
  park(work: W, dueAt: number, now: number): void {
    this.#parked.push({ work, dueAt });
    this.#owner.parked(work, dueAt, now);
  }

  /** Gives back to its owner what is due. */
  release(now: number): void {
    for (let next = this.#parked.peek(); next !== undefined && next.dueAt <= now; next = this.#parked.peek()) {
      this.#parked.pop();
      this.#owner.restored(next.work, now);
    }
  }

  /** Forgets what is parked and `isGone`. @returns what that was */
  dropParked(isGone: (work: W) => boolean): readonly W[] {
    const gone = this.parkedWork().filter(isGone);
    this.#parked.prune(({ work }) => isGone(work));
    return gone;
  }

  /** Forgets what is leased or parked. Receipts are not given again; dead letters stay. */
  clear(): void {
    this.leased.clear();
    this.#parked = createHeap<Parked<W>>(earlier);
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
        this.#owner.restored(lease.work, now);
      }
    }
    return poisoned;
  }

  #bury({ work, holder }: Lease<W>, reason: DeadReason, now: number, rules: LeaseRules): void {
    this.bury(work, { consumer: holder.consumer, reason, at: now }, rules.maxDeadLetters);
    this.#owner.finished(work, "dead", now);
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
