/** What one recipient of a queue has to finish, and how it comes to its end there. */

import type { Outcome, Receipt, Reply, Taken } from "../../core/backend.js";
import type { QueueConsumer } from "../../core/queue-port.js";
import { type Bell, createBell } from "./feed.js";
import { createHeap, type Heap } from "./heap.js";
import type { Place, Share } from "./items.js";
import { Levels } from "./levels.js";
import { type Holder, type Lease, type Owner, WorkList } from "./worklist.js";

/** What an inbox tells its queue. */
export interface InboxQueue {
  /** A share has come to its end. */
  ended(share: Share, now: number): void;
  /** An answer is to be stored, if anybody waits for it. */
  answered(reply: Reply, now: number): void;
}

/** Expired items that one take ends; until there are none left, it hands out nothing. */
const MAX_EXPIRED_PER_TAKE = 1_000;
/** What has ended and still has its place in a heap is cleared out when it is the most of it, and worth the effort. */
const WORTH_CLEARING = 100;

export class Inbox implements Place, Owner<Share> {
  readonly recipient: string;
  readonly list: WorkList<Share> = new WorkList<Share>(this);
  readonly levels: Levels<Share> = new Levels<Share>();
  readonly bell: Bell = createBell();
  isPaused = false;
  /** Open feeds. */
  feeds = 0;
  delayed = 0;
  expired = 0;
  dropped = 0;
  readonly #queue: InboxQueue;
  /** What expires, the soonest first. May hold what has ended. */
  readonly #expiries: Heap<Share> = createHeap<Share>((a, b) => a.expiresAt < b.expiresAt);
  #endedUnexpired = 0;
  #endedDelayed = 0;
  /** What the next take has to tell. */
  #news = { gone: 0, expired: 0 };
  /** Ended by the present take. */
  #expiredIds: string[] = [];

  constructor(recipient: string, queue: InboxQueue) {
    this.recipient = recipient;
    this.#queue = queue;
  }

  /** Everything unfinished, in no particular order. */
  get unfinished(): readonly Share[] {
    const leased = [...this.list.leased.values()].map(({ work }) => work);
    return [...this.levels.inOrder(), ...this.delayedShares, ...leased];
  }

  /** In no particular order. */
  get delayedShares(): readonly Share[] {
    return this.list.parkedWork().filter(({ state }) => state === "delayed");
  }

  /** Whether it may be forgotten. */
  get isBlank(): boolean {
    const { levels, list, delayed, expired, dropped, feeds, isPaused } = this;
    return !isPaused && levels.size + list.leased.size + list.dead.size + delayed + expired + dropped + feeds === 0;
  }

  // ------------------------------------------------------------------------------------ taking and settling

  add(share: Share, delayMs: number, now: number): void {
    if (Number.isFinite(share.expiresAt)) this.#expiries.push(share);
    if (delayMs > 0) this.list.park(share, now + delayMs, now);
    else this.levels.add(share);
    this.bell.ring();
  }

  take(
    want: { readonly max: number; readonly holder: Holder },
    outcomes: readonly Outcome[],
    now: number,
    rules: QueueConsumer,
  ): Taken {
    this.#expiredIds = [];
    const settled = this.list.settle(outcomes, now, rules);
    const { priorities = "strict" } = rules;
    // Of very many that expired together a part is ended at each call. What stands before the rest waits for none of them.
    const isClear = this.expire(now, MAX_EXPIRED_PER_TAKE);
    const mayTake = (): boolean => isClear || (priorities === "strict" && (this.levels.first?.expiresAt ?? now) > now);
    const max = this.isPaused ? 0 : want.max;
    const next = (): Share | undefined => (mayTake() ? this.levels.next(priorities) : undefined);
    const deliveries = this.list.deliver(max, want.holder, now + rules.leaseMs, next);
    const news = this.#news;
    this.#news = { gone: 0, expired: 0 };
    const expiredIds = this.#expiredIds;
    return { ...settled, ...news, ...(expiredIds.length > 0 && { expiredIds }), deliveries };
  }

  extend(receipts: readonly Receipt[], until: number): readonly Receipt[] {
    return receipts.filter((receipt) => !this.list.extend(receipt, until));
  }

  /** What is paused becomes ready by `resume` alone. */
  nextReadyAt(): number {
    return this.isPaused ? Number.POSITIVE_INFINITY : this.list.nextReadyAt();
  }

  // ----------------------------------------------------------------------------------------------- ending

  update(now: number): void {
    this.list.release(now);
    this.expire(now);
  }

  /**
   * Ends what has expired while nobody had it. What is held is left alone: it ends when it comes back.
   *
   * @returns whether that was all
   */
  expire(now: number, max: number = Number.POSITIVE_INFINITY): boolean {
    let count = 0;
    for (let share = this.#expiries.peek(); share !== undefined; share = this.#expiries.peek()) {
      if (share.expiresAt > now) break;
      if (count >= max) return false;
      this.#expiries.pop();
      if (!share.isIdle) continue;
      this.end(share, "expired", now);
      count += 1;
    }
    return true;
  }

  end(share: Share, as: "acked" | "dead" | "expired" | "gone", now: number): void {
    const { state, lease } = share;
    share.state = as;
    share.until = now;
    share.updatedAt = now;
    share.lease = undefined;
    if (state === "waiting") this.levels.ended(share);
    if (state === "delayed") this.#endDelayed();
    if (lease !== undefined) this.list.leased.delete(lease.receipt);
    if (as === "expired") this.#countExpired(share);
    else if (Number.isFinite(share.expiresAt)) this.#endUnexpired();
    this.#queue.ended(share, now);
  }

  drop(share: Share, now: number): void {
    this.end(share, "gone", now);
    this.dropped += 1;
    this.#news.gone += 1;
  }

  /** Ends all that is unfinished, and forgets the dead letters. @returns how many there were of both */
  empty(now: number): number {
    const { unfinished } = this;
    for (const share of unfinished) this.end(share, "gone", now);
    const count = unfinished.length + this.list.dead.size;
    this.list.dead.clear();
    return count;
  }

  /** Starts anew, as if nobody had known the recipient. @returns {@link empty} */
  forget(now: number): number {
    const count = this.empty(now);
    this.isPaused = false;
    this.expired = 0;
    this.dropped = 0;
    this.#news = { gone: 0, expired: 0 };
    return count;
  }

  #countExpired({ item }: Share): void {
    this.expired += 1;
    this.#news.expired += 1;
    if (this.#expiredIds.length < MAX_EXPIRED_PER_TAKE) this.#expiredIds.push(item.id);
  }

  #endDelayed(): void {
    this.delayed -= 1;
    this.#endedDelayed += 1;
    if (this.#endedDelayed < WORTH_CLEARING || this.#endedDelayed < this.delayed) return;
    this.#endedDelayed = 0;
    this.list.dropParked(({ state }) => state !== "delayed");
  }

  #endUnexpired(): void {
    this.#endedUnexpired += 1;
    if (this.#endedUnexpired < WORTH_CLEARING || this.#endedUnexpired * 2 < this.#expiries.size) return;
    this.#endedUnexpired = 0;
    this.#expiries.prune(({ isOpen }) => !isOpen);
  }

  // -------------------------------------------------------------------------------- what the work list says

  leased(share: Share, lease: Lease<Share>): void {
    share.state = "leased";
    share.lease = lease;
  }

  parked(share: Share, dueAt: number, now: number): void {
    if (share.expiresAt <= now) {
      this.end(share, "expired", now);
      return;
    }
    share.state = "delayed";
    share.until = dueAt;
    share.updatedAt = now;
    share.lease = undefined;
    this.delayed += 1;
  }

  restored(share: Share, now: number): void {
    // It may have ended while it was kept back.
    if (!share.isOpen) return;
    if (share.expiresAt <= now) {
      this.end(share, "expired", now);
      return;
    }
    if (share.state === "delayed") this.delayed -= 1;
    share.state = "waiting";
    share.until = undefined;
    share.lease = undefined;
    this.levels.add(share);
  }

  finished(share: Share, as: "acked" | "dead", now: number): void {
    this.end(share, as, now);
  }

  answered(reply: Reply, now: number): void {
    this.#queue.answered(reply, now);
  }
}
