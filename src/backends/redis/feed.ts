/** Consuming, the same for the log and the queue: when to look, how to wait, what is held, and what a lost reply means. */

import type { BackendContext, Delivery, Feed, Outcome, Receipt, Taken, TakeRequest } from "../../core/backend.js";
import { nextTurn } from "../../core/clock.js";
import { ClosedError } from "../../core/errors.js";
import type { Connection, Connections } from "./connection.js";
import { isInterrupted } from "./errors.js";
import { uptime } from "./ledger.js";
import { type Brought, MAX_AT_ONCE, type Round, type RoundResult, type Source } from "./source.js";
import { Waiting } from "./waiting.js";

interface Held {
  /** When its lease runs out at the earliest, unless it is renewed (`uptime`). */
  until: number;
  /** The call that settles it; 0 when none does. */
  settledBy: number;
}

/** However sure the wake-ups are, a waiting feed looks again after this long, and for abandoned deliveries as often. */
const RECHECK_MS = 1_000;
const TIDY_MS = 60_000;

/** @param onClose called once, when the feed is closed */
export function createFeed(
  source: Source,
  connections: Connections,
  context: BackendContext,
  onClose: () => void,
): Feed {
  return new RedisFeed(source, connections, context, onClose);
}

class RedisFeed implements Feed {
  readonly #source: Source;
  readonly #context: BackendContext;
  readonly #waiting: Waiting;
  readonly #onClose: () => void;
  readonly #closing = new AbortController();
  #closed: Promise<void> | undefined;
  /** Every delivery that is held, by its receipt. */
  readonly #held = new Map<Receipt, Held>();
  /** Held, and not handed out yet. */
  readonly #stash: Delivery[] = [];
  /** `close` waits for these. */
  readonly #underway = new Set<Promise<unknown>>();
  /** Takes that are looking at what there is. Those that wait are not among them. */
  readonly #looking = new Set<Promise<unknown>>();
  #calls = 0;
  #takers = 0;
  #sweepAt = 0;
  /** When something will be ready by the clock, as the last round saw it. */
  #readyAt = 0;
  #tidyAt = uptime() + TIDY_MS;
  /** Where to go on reading what is held already: a reply was lost. Undefined: all is known. */
  #recoverFrom: string | undefined;
  /** Calls that take wait for it: what they brought would be taken for something unknown. */
  #recovering: Promise<void> | undefined;

  constructor(source: Source, connections: Connections, context: BackendContext, onClose: () => void) {
    this.#source = source;
    this.#context = context;
    this.#onClose = onClose;
    this.#waiting = new Waiting(source, connections, context, {
      hold: (brought, since) => this.#hold(brought, since),
      doubt: () => {
        this.#recoverFrom ??= "";
      },
      closing: this.#closing.signal,
    });
  }

  take(want: TakeRequest, outcomes: readonly Outcome[]): Promise<Taken> {
    if (this.#closing.signal.aborted) return closed();
    return this.#track(want.max > 0 ? this.#settleAndTake(want, outcomes) : this.#settle(outcomes));
  }

  extend(receipts: readonly Receipt[]): Promise<readonly Receipt[]> {
    if (this.#closing.signal.aborted) return closed();
    return this.#track(this.#extend(receipts));
  }

  close(): Promise<void> {
    this.#closed ??= this.#close();
    return this.#closed;
  }

  /** Notes what has to be waited for. Hands on the promise itself: each one around it would delay a lone message. */
  #track<T>(work: Promise<T>, among = this.#underway): Promise<T> {
    const over = (): void => void among.delete(work);
    among.add(work);
    work.then(over, over);
    return work;
  }

  async #settle(outcomes: readonly Outcome[]): Promise<Taken> {
    if (outcomes.length === 0) return toTaken([], NOTHING);
    const result = await this.#round(0, outcomes);
    // Somebody may be waiting longer than until the retry that was just parked.
    this.#wakeInTime();
    return toTaken([], result);
  }

  async #settleAndTake(want: TakeRequest, outcomes: readonly Outcome[]): Promise<Taken> {
    // Whoever has recovered was called before, and goes on first.
    while (this.#hasToWait()) await Promise.allSettled([this.#recovering, ...this.#looking]).then(nextTurn);
    this.#takers += 1;
    try {
      if (this.#recoverFrom !== undefined) await this.#recoverAlone();
      const result = this.#canWaitAtOnce(want, outcomes)
        ? { ...QUIET, readyInMs: this.#quietUntil() - uptime() }
        : await this.#takeNow(want, outcomes);
      if (outcomes.length > 0 || !isEmpty(result)) return toTaken(result.deliveries, result);
      return await this.#wait(want, result);
    } finally {
      this.#takers -= 1;
    }
  }

  /** While something lost is being found, and when it has to be: until the others have come back. */
  #hasToWait(): boolean {
    return this.#recovering !== undefined || (this.#recoverFrom !== undefined && this.#looking.size > 0);
  }

  #takeNow(want: TakeRequest, outcomes: readonly Outcome[]): Promise<RoundResult> {
    return this.#track(this.#look(want, outcomes), this.#looking);
  }

  /** What is at hand, then what the store has. */
  async #look(want: TakeRequest, outcomes: readonly Outcome[]): Promise<RoundResult> {
    const { max } = want;
    const onlyNew = this.#onlyNewIsReady(max, outcomes);
    if (onlyNew && isWilling(want) && this.#waiting.isFree) return await this.#settleAndWait(want, outcomes);
    this.#stash.push(...this.#waiting.collect());
    const stashed = this.#current(this.#stash.splice(0, max));
    // With something in the stash it asks for more in any case: the answer tells whether that may be handed out.
    const room = Math.min(Math.max(max - stashed.length, stashed.length > 0 ? 1 : 0), MAX_AT_ONCE);
    try {
      const result =
        stashed.length === 0 && onlyNew && room > 0
          ? await this.#settleAndRead(room, outcomes)
          : await this.#round(room, outcomes);
      // What comes in while the feed closes is given back with the rest.
      if (this.#closing.signal.aborted) return { ...result, deliveries: [] };
      if (result.paused) {
        this.#stash.unshift(...stashed);
        return result;
      }
      // They may have been dropped since: the round has told.
      const deliveries = this.#current(stashed).concat(result.deliveries);
      return { ...result, deliveries: this.#upTo(max, deliveries) };
    } catch (error) {
      this.#stash.unshift(...stashed);
      throw error;
    }
  }

  /** Keeps what is beyond `max` for the next call. */
  #upTo(max: number, deliveries: readonly Delivery[]): readonly Delivery[] {
    if (deliveries.length <= max) return deliveries;
    this.#stash.push(...deliveries.slice(max));
    return deliveries.slice(0, max);
  }

  /**
   * Leaves out what does not count any more. What waited here until its lease was over may be somebody else's; of what was
   * read under another base only the store can tell.
   */
  #current(deliveries: readonly Delivery[]): readonly Delivery[] {
    return deliveries.filter(({ receipt }) => {
      const counts = this.#source.isCurrent(receipt);
      if (!counts) this.#recoverFrom ??= "";
      if (counts && (this.#held.get(receipt)?.until ?? 0) > uptime()) return true;
      this.#held.delete(receipt);
      return false;
    });
  }

  /** Of what came in one reply all count, or none. What comes in while the feed closes is given back with the rest. */
  #brought(deliveries: readonly Delivery[]): readonly Delivery[] {
    const counts = !this.#closing.signal.aborted && this.#current(deliveries.slice(0, 1)).length > 0;
    return counts ? deliveries : [];
  }

  /** Until then a round would find nothing that is not new. */
  #quietUntil(): number {
    return Math.min(this.#readyAt, this.#sweepAt);
  }

  #onlyNewIsReady(max: number, outcomes: readonly Outcome[]): boolean {
    if (this.#source.read === undefined || max === 0 || this.#stash.length > 0) return false;
    if (uptime() >= this.#quietUntil()) return false;
    return outcomes.length > 0 && outcomes.every(({ as }) => as !== "retry");
  }

  /** The wait itself brings what is new, or hears of it. */
  #canWaitAtOnce(want: TakeRequest, outcomes: readonly Outcome[]): boolean {
    if (outcomes.length > 0 || !isWilling(want) || this.#stash.length > 0) return false;
    return this.#waiting.isFree && uptime() < this.#quietUntil();
  }

  /**
   * Settles, and begins to wait for what is new in the same write. What has come once it is settled is handed out; what comes
   * later is for the next call, which takes the wait over.
   */
  async #settleAndWait(want: TakeRequest, outcomes: readonly Outcome[]): Promise<RoundResult> {
    const ms = Math.max(1, Math.ceil(Math.min(RECHECK_MS, this.#quietUntil() - uptime())));
    const settling = this.#round(0, outcomes, this.#waiting.idle);
    this.#waiting.begin(want, ms);
    const settled = await settling;
    this.#wakeInTime();
    return { ...settled, deliveries: this.#upTo(want.max, this.#brought(this.#waiting.collect())) };
  }

  /** Ends the wait early where something is ready before it would end. */
  #wakeInTime(): void {
    if (this.#readyAt < (this.#waiting.until ?? 0)) this.#waiting.unblock();
  }

  async #settleAndRead(room: number, outcomes: readonly Outcome[]): Promise<RoundResult> {
    const startedAt = uptime();
    const settling = this.#round(0, outcomes);
    const [settled, read] = await Promise.allSettled([settling, this.#source.read?.(room)]);
    const deliveries = read.status === "fulfilled" ? this.#brought(this.#hold(read.value ?? [], startedAt)) : [];
    if (read.status === "rejected") {
      // The next round looks at everything, and says what is wrong if something is.
      this.#sweepAt = 0;
      if (isInterrupted(read.reason)) this.#recoverFrom ??= "";
    }
    if (settled.status === "fulfilled") return { ...settled.value, deliveries };
    this.#stash.push(...deliveries);
    throw settled.reason;
  }

  async #wait(want: TakeRequest, found: RoundResult): Promise<Taken> {
    const deadline = uptime() + want.waitMs;
    const ended = (): boolean => this.#closing.signal.aborted || want.signal?.aborted === true || uptime() >= deadline;
    let taken = found;
    while (isEmpty(taken) && !ended()) {
      const ms = Math.min(deadline - uptime(), taken.readyInMs ?? RECHECK_MS, RECHECK_MS);
      const woken = this.#brought(await this.#waiting.wait(want, Math.max(1, Math.ceil(ms))));
      if (woken.length > 0) return toTaken(this.#upTo(want.max, woken), NOTHING);
      if (ended()) break;
      if (this.#recoverFrom !== undefined) await this.#recoverAlone();
      taken = await this.#takeNow(want, []);
    }
    return toTaken(taken.deliveries, taken);
  }

  /** @param own where to send it, if not on the connection that all share */
  async #round(max: number, outcomes: readonly Outcome[], own?: Connection): Promise<RoundResult> {
    this.#calls += 1;
    const call = this.#calls;
    const startedAt = uptime();
    const { repeated, ...claimed } = this.#claim(outcomes, call, startedAt);
    const sweep = max > 0 ? this.#dueSweep(startedAt) : "no";
    try {
      const result = await this.#source.round({ ...claimed, max, sweep }, own);
      for (const { receipt } of claimed.outcomes) this.#held.delete(receipt);
      this.#hold(result.deliveries, startedAt);
      this.#readyAt = startedAt + (result.readyInMs ?? Number.POSITIVE_INFINITY);
      if (result.moreAbandoned) this.#sweepAt = 0;
      if (result.restarted) this.#recoverFrom ??= "";
      return repeated.length === 0 ? result : { ...result, lost: [...result.lost, ...repeated] };
    } catch (error) {
      // What was taken, if the call came through after all, is ours and unknown to us.
      if (max > 0 && isInterrupted(error)) this.#recoverFrom ??= "";
      this.#readyAt = 0;
      throw error;
    }
  }

  /** Notes who settles what. Receipts that come twice are lost the second time. */
  #claim(
    outcomes: readonly Outcome[],
    call: number,
    now: number,
  ): { outcomes: readonly Outcome[]; repeated: Receipt[]; doubtful: boolean } {
    const repeated: Receipt[] = [];
    const unknown = new Set<Receipt>();
    let doubtful = false;
    for (const { receipt } of outcomes) {
      const held = this.#held.get(receipt);
      if (held === undefined) {
        doubtful = true;
        if (unknown.has(receipt)) repeated.push(receipt);
        unknown.add(receipt);
      } else if (held.settledBy === call) {
        repeated.push(receipt);
      } else {
        doubtful ||= held.settledBy !== 0 || held.until < now;
        held.settledBy = call;
      }
    }
    if (repeated.length === 0) return { outcomes, repeated, doubtful };
    const seen = new Set<Receipt>();
    const first = outcomes.filter(({ receipt }) => !seen.has(receipt) && seen.add(receipt));
    return { outcomes: first, repeated, doubtful };
  }

  #hold(deliveries: Brought, since: number): readonly Delivery[] {
    if (deliveries === "unknown") {
      this.#recoverFrom ??= "";
      return [];
    }
    const until = since + this.#source.leaseMs;
    for (const { receipt } of deliveries) this.#held.set(receipt, { until, settledBy: 0 });
    return deliveries;
  }

  #dueSweep(now: number): Round["sweep"] {
    if (now < this.#sweepAt) return "no";
    this.#sweepAt = now + RECHECK_MS;
    // What nobody settles or renews has long passed to another attempt.
    for (const [receipt, { until }] of this.#held) {
      if (until + this.#source.leaseMs + TIDY_MS < now) this.#held.delete(receipt);
    }
    if (now < this.#tidyAt) return "abandoned";
    this.#tidyAt = now + TIDY_MS;
    return "consumers";
  }

  /** Recovers, where something was lost and nobody else takes. */
  async #recoverAlone(): Promise<void> {
    if (this.#recoverFrom === undefined || this.#takers > 1) return;
    const recovering = this.#recover();
    this.#recovering = recovering.catch(() => undefined);
    try {
      await recovering;
    } finally {
      this.#recovering = undefined;
    }
  }

  /** Finds deliveries that are leased to this consumer without its knowledge. */
  async #recover(): Promise<void> {
    // What a wait brings meanwhile would be taken for unknown.
    this.#stash.push(...(await this.#waiting.stop()));
    while (this.#recoverFrom !== undefined) {
      const startedAt = uptime();
      // What is settled while the reply is on its way is no longer held when it arrives, and was not lost either.
      const known = new Set(this.#held.keys());
      const { deliveries, after } = await this.#source.recover(this.#recoverFrom);
      const unknown = deliveries.filter(({ receipt }) => !known.has(receipt) && !this.#held.has(receipt));
      this.#stash.push(...this.#hold(unknown, startedAt));
      this.#recoverFrom = after;
    }
  }

  async #extend(receipts: readonly Receipt[]): Promise<readonly Receipt[]> {
    const lost: Receipt[] = [];
    for (let at = 0; at < receipts.length; at += MAX_AT_ONCE) {
      const part = receipts.slice(at, at + MAX_AT_ONCE);
      const until = uptime() + this.#source.leaseMs;
      lost.push(...(await this.#source.extend(part)));
      for (const receipt of part) {
        const held = this.#held.get(receipt);
        if (held !== undefined) held.until = until;
      }
    }
    for (const receipt of lost) this.#held.delete(receipt);
    return lost;
  }

  async #close(): Promise<void> {
    this.#closing.abort();
    try {
      await Promise.allSettled([...this.#underway, this.#waiting.stop()]);
      if (this.#recoverFrom !== undefined) await this.#recover();
      await this.#source.release([...this.#held.keys()]);
    } catch (error) {
      // Their leases run out instead.
      this.#context.report(error, "giving back what a closed consumer held");
    } finally {
      this.#waiting.close();
      this.#onClose();
    }
  }
}

function closed(): Promise<never> {
  return Promise.reject(new ClosedError("the feed is closed"));
}

const NOTHING = { lost: [], gone: 0, expired: 0, poisoned: 0 };
const QUIET = { ...NOTHING, deliveries: [], moreAbandoned: false, paused: false, restarted: false };

function toTaken(deliveries: readonly Delivery[], found: Omit<Taken, "deliveries">): Taken {
  const { lost, gone, expired, expiredIds, poisoned } = found;
  if (expiredIds === undefined) return { deliveries, lost, gone, expired, poisoned };
  return { deliveries, lost, gone, expired, expiredIds, poisoned };
}

/** Whether a call would wait. */
function isWilling({ waitMs, signal }: TakeRequest): boolean {
  return waitMs > 0 && signal?.aborted !== true;
}

function isEmpty({ deliveries, gone, expired, poisoned }: Taken): boolean {
  return deliveries.length === 0 && gone === 0 && expired === 0 && poisoned === 0;
}
