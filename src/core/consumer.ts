/**
 * The one consumer loop, for every consuming facade: fetch as many as there are free slots, run handlers, settle their
 * outcomes together with the next fetch; renew leases; stop, drain, abort; back off while the backend fails.
 */

import type { Delivery, Outcome, Receipt, Taken } from "./backend.js";
import { atMost, nextTurn, wait } from "./clock.js";
import type { ConsumerOptions } from "./consumer-options.js";
import type { ConsumerStats } from "./consumer-stats.js";
import { ClosedError, LeaseLostError, NotFoundError, toError } from "./errors.js";
import { Fetcher } from "./fetcher.js";
import { HeldFeed } from "./held-feed.js";
import { GIVE_BACK, STOP, type Verdict } from "./outcome.js";
import { Renewal } from "./renewal.js";
import { backoffMs, RECONNECT } from "./retry.js";
import { Run } from "./run.js";

/** How long a fetch waits for messages before the loop comes round. */
const WAIT_MS = 2_000;
/** Outcomes that are known when draining ends get this long to be settled. */
const FINAL_SETTLE_MS = 2_000;
/** Handlers that run while another one stops the consumer may finish. */
const STOP_DRAIN_MS = 5_000;
/** Beyond this the backoff has reached its longest. */
const MAX_BACKOFF_STEPS = 10;

interface Settlement {
  readonly outcome: Outcome;
  /** Undefined: it was never started. */
  readonly run: Run | undefined;
}

export class Consumer {
  readonly #options: ConsumerOptions;
  readonly #running = new Map<Receipt, Run>();
  readonly #stopping = new AbortController();
  readonly #feed: HeldFeed;
  readonly #renewal: Renewal;
  readonly #fetcher: Fetcher;
  #settlements: Settlement[] = [];
  #loop: Promise<void> = Promise.resolve();
  #settling: Promise<void> | undefined;
  #fetchWaits = false;
  #failures = 0;
  /** A call that had something to settle has failed, and none that began afterwards has succeeded. */
  #isStuck = false;
  /** Calls of that kind that have failed so far. */
  #refusals = 0;
  #settled = 0;
  #lost = 0;
  #lastFetchAt: number;
  /** Since when there has been room for deliveries. */
  #roomSince: number;
  #wake: (() => void) | undefined;
  #closing: Promise<void> | undefined;
  #closed = false;
  #ended: Error | undefined;

  constructor(options: ConsumerOptions) {
    this.#options = options;
    const { open, clock, events, concurrency, fetchAhead = false, leaseMs, currentLeaseMs } = options;
    const report = (error: unknown): void => events.failing(error, this.#failures);
    this.#feed = new HeldFeed({ open, clock, abandoned: () => this.#loseAll(), report });
    this.#renewal = new Renewal({
      clock,
      leaseMs,
      currentLeaseMs,
      renew: () => this.#renew(),
      failed: (error) => this.#failToRenew(error),
    });
    const fetch = (max: number, mayWait: boolean): Promise<readonly Delivery[]> => this.#fetch(max, mayWait);
    this.#fetcher = new Fetcher({ concurrency, fetchAhead, leaseMs, clock, fetch });
    this.#lastFetchAt = options.clock.now();
    this.#roomSince = this.#lastFetchAt;
  }

  /** Opens the feed, so that the first failure is the caller's, then consumes in the background until `close`. */
  async start(): Promise<void> {
    await this.#feed.open();
    if (this.#stopping.signal.aborted) throw closing();
    this.#renewal.start();
    this.#loop = this.#consume();
  }

  stats(): ConsumerStats {
    const { concurrency, clock } = this.#options;
    const running = this.#running.size;
    return {
      state: this.#state(),
      running,
      concurrency,
      settled: this.#settled,
      lost: this.#lost,
      lastFetchAt: this.#lastFetchAt,
      idleMs: running >= concurrency ? 0 : clock.now() - Math.max(this.#lastFetchAt, this.#roomSince),
    };
  }

  #state(): ConsumerStats["state"] {
    if (this.#ended !== undefined) return "ended";
    if (this.#stopping.signal.aborted) return this.#closed ? "closed" : "draining";
    return this.#failures > 0 ? "failing" : "running";
  }

  /** Aborts when nothing more is taken. */
  get stopping(): AbortSignal {
    return this.#stopping.signal;
  }

  /** Renews one delivery's lease now. @throws {LeaseLostError} */
  async extend(run: Run): Promise<void> {
    const lost = await this.#feed.call((feed) => feed.extend([run.delivery.receipt]));
    if (lost.length > 0) throw this.#lose(run);
  }

  /** Stops taking, waits up to `drainMs` for handlers, aborts the rest, settles, and gives back what is left. */
  close(drainMs: number): Promise<void> {
    this.#closing ??= this.#closeOnce(drainMs);
    return this.#closing;
  }

  async #consume(): Promise<void> {
    const stopping = this.#stopping.signal;
    while (!stopping.aborted) {
      // Handlers that need no more than a few microtasks settle together, and leave their slots to this fetch.
      await nextTurn();
      if (stopping.aborted) break;
      const settling = this.#settlements.length;
      const hasFetched = this.#fetcher.fetch({ running: this.#running.size, settling, isStuck: this.#isStuck });
      if (hasFetched && this.#fetcher.mayGoOn) {
        // A client writes when the turn ends in which it was called: only then the fetch is really on its way, and the
        // backend busy with it while the next deliveries are handled.
        await nextTurn();
        await nextTurn();
      } else if (this.#fetcher.isUnderWay) {
        await this.#fetcher.receive();
      } else {
        await this.#nextSlot();
      }
      if (!stopping.aborted) this.#startReady();
    }
    await this.#fetcher.over();
    this.#giveBackReady();
  }

  #startReady(): void {
    const now = this.#options.clock.now();
    const free = this.#options.concurrency - this.#running.size;
    for (const delivery of this.#fetcher.take(free)) this.#start(delivery, now);
  }

  /** Waits for a slot. When handlers have become slow, what was fetched ahead of them goes back. */
  async #nextSlot(): Promise<void> {
    const { concurrency, clock } = this.#options;
    const leftMs = this.#fetcher.leftMs;
    if (leftMs === undefined) return await this.#nextChange();
    if (this.#running.size < concurrency) return;
    if (leftMs > 0) await atMost(clock, leftMs, this.#nextChange());
    if ((this.#fetcher.leftMs ?? 1) <= 0) this.#giveBackReady();
  }

  /** Uncounted: others may have slots. */
  #giveBackReady(): void {
    for (const { receipt } of this.#fetcher.take())
      this.#settlements.push({ outcome: { receipt, ...GIVE_BACK }, run: undefined });
  }

  /** @returns what is to be handled. Never rejects. */
  async #fetch(max: number, mayWait: boolean): Promise<readonly Delivery[]> {
    // While a settle-only call is under way its outcomes are spoken for; this one waits only if there are none.
    const settlements = this.#takeSettlements();
    const waits = mayWait && settlements.length === 0;
    this.#fetchWaits = waits;
    try {
      return (await this.#call({ max, waitMs: mayWait ? WAIT_MS : 0 }, settlements)).deliveries;
    } catch (error) {
      await this.#fail(error);
      return [];
    } finally {
      this.#fetchWaits = false;
    }
  }

  /** Settles at once while the fetch waits; otherwise the next fetch does it. */
  #settleSoon(): void {
    if (this.#fetchWaits) void this.#settleNow();
    else this.#wake?.();
  }

  #settleNow(): Promise<void> {
    this.#settling ??= this.#settleAll();
    return this.#settling;
  }

  async #settleAll(): Promise<void> {
    await nextTurn();
    try {
      while (this.#settlements.length > 0 && !this.#closed) {
        try {
          await this.#call({ max: 0, waitMs: 0 }, this.#takeSettlements());
        } catch (error) {
          if (error instanceof ClosedError) return;
          await this.#fail(error);
        }
      }
    } finally {
      // In the same stretch as the last look at the list: whoever adds to it afterwards starts anew.
      this.#settling = undefined;
    }
  }

  /** One call of the feed, under the watchdog. Settlements whose call fails stay for the next. */
  async #call(want: { max: number; waitMs: number }, settlements: readonly Settlement[]): Promise<Taken> {
    const refusals = this.#refusals;
    try {
      const request = { ...want, signal: this.#stopping.signal };
      const outcomes = settlements.map(({ outcome }) => outcome);
      const taken = await this.#feed.call((feed) => feed.take(request, outcomes), want.waitMs);
      if (want.max > 0) this.#lastFetchAt = this.#options.clock.now();
      if (taken.deliveries.length > 0) this.#renewal.taken();
      this.#conclude(settlements, taken.lost);
      this.#options.events.taken(taken);
      if (settlements.length > 0 && refusals === this.#refusals) this.#isStuck = false;
      if (!this.#isStuck) this.#recover();
      return taken;
    } catch (error) {
      if (settlements.length > 0) {
        this.#isStuck = true;
        this.#refusals += 1;
      }
      // Without its group nobody has a use for an outcome.
      const over = this.#closed ? closing() : error instanceof NotFoundError ? error : undefined;
      if (over === undefined) this.#settlements.unshift(...settlements);
      else for (const { run } of settlements) run?.onSettled?.(over);
      throw error;
    }
  }

  #conclude(settlements: readonly Settlement[], lost: readonly Receipt[]): void {
    const lostReceipts = new Set(lost);
    let settled = 0;
    for (const { outcome, run } of settlements) {
      const isLost = lostReceipts.has(outcome.receipt);
      run?.onSettled?.(isLost ? leaseLost() : undefined);
      if (run !== undefined && !isLost) settled += 1;
    }
    this.#settled += settled;
    if (settled > 0) this.#options.events.settled(settled);
    this.#countLost(lost.length);
  }

  #start(delivery: Delivery, now: number): void {
    const run = new Run(delivery, now, this);
    this.#running.set(delivery.receipt, run);
    this.#options.handle(delivery, run).then(
      (verdict) => this.#finish(run, verdict),
      // `handle` never rejects. Should it, the message must neither be lost nor hold its slot for ever.
      (thrown: unknown) =>
        this.#finish(run, { as: "deadLetter", reason: { kind: "failed", message: toError(thrown).message } }),
    );
  }

  #finish(run: Run, verdict: Verdict): void {
    const { receipt } = run.delivery;
    this.#options.events.handled(run, verdict);
    if (this.#running.size >= this.#options.concurrency) this.#roomSince = this.#options.clock.now();
    this.#running.delete(receipt);
    if (run.failure !== undefined) run.onSettled?.(run.failure);
    else this.#settlements.push({ outcome: { receipt, ...verdict }, run });
    if (verdict === STOP) this.#end(run.thrown ?? stopped(), STOP_DRAIN_MS);
    this.#settleSoon();
  }

  #takeSettlements(): Settlement[] {
    const settlements = this.#settlements;
    this.#settlements = [];
    return settlements;
  }

  async #renew(): Promise<void> {
    const receipts = [...this.#running.values()]
      .filter((run) => run.failure === undefined)
      .map((run) => run.delivery.receipt);
    if (receipts.length === 0) return;
    for (const receipt of await this.#feed.call((feed) => feed.extend(receipts))) {
      const run = this.#running.get(receipt);
      // It may have finished meanwhile, and then its outcome says more.
      if (run !== undefined) this.#lose(run);
    }
  }

  #failToRenew(error: unknown): void {
    if (error instanceof NotFoundError) this.#end(error, 0);
    else this.#options.events.failing(error, this.#failures);
  }

  #lose(run: Run): Error {
    const error = leaseLost();
    if (run.failure === undefined) {
      run.fail(error);
      this.#countLost(1);
    }
    return error;
  }

  #loseAll(): void {
    this.#fetcher.forget();
    for (const run of this.#running.values()) this.#lose(run);
  }

  #countLost(count: number): void {
    if (count === 0) return;
    this.#lost += count;
    this.#options.events.lost(count);
  }

  async #fail(error: unknown): Promise<void> {
    const stopping = this.#stopping.signal;
    if (error instanceof NotFoundError) {
      this.#end(error, 0);
      return;
    }
    if (error instanceof ClosedError) {
      // A feed that closes because the consumer does is no failure; a backend that is closed beneath it never comes back.
      if (stopping.aborted) return;
      this.#options.events.failing(error, this.#failures);
      void this.close(0);
      return;
    }
    this.#failures += 1;
    this.#options.events.failing(error, this.#failures);
    const delayMs = backoffMs(RECONNECT, Math.min(this.#failures, MAX_BACKOFF_STEPS));
    await wait(this.#options.clock, delayMs, stopping.aborted ? undefined : stopping);
  }

  /** A group that was deleted does not come back, and what it had handed out is nobody's any more. */
  #end(error: Error, drainMs: number): void {
    if (this.#ended !== undefined || this.#stopping.signal.aborted) return;
    this.#ended = error;
    void this.close(drainMs);
    this.#options.events.ended(error);
  }

  #recover(): void {
    if (this.#failures === 0) return;
    this.#failures = 0;
    this.#options.events.recovered();
  }

  /** Resolves when a handler finishes or the consumer stops. */
  #nextChange(): Promise<void> {
    return new Promise((resolve) => {
      this.#wake = resolve;
    });
  }

  async #closeOnce(drainMs: number): Promise<void> {
    this.#stopping.abort();
    this.#wake?.();
    await atMost(this.#options.clock, drainMs, this.#drain());
    // What still runs is given back with the feed: its outcome must not follow.
    for (const run of this.#running.values()) run.fail(this.#ended ?? closing());
    await atMost(this.#options.clock, FINAL_SETTLE_MS, this.#settleRest());
    this.#closed = true;
    this.#renewal.stop();
    for (const { run } of this.#takeSettlements()) run?.onSettled?.(closing());
    await this.#feed.close();
  }

  async #drain(): Promise<void> {
    await this.#loop;
    while (!this.#closed && (this.#running.size > 0 || this.#settlements.length > 0)) {
      if (this.#settlements.length > 0) await this.#settleNow();
      else await this.#nextChange();
    }
    await this.#settleRest();
  }

  async #settleRest(): Promise<void> {
    // Either may carry outcomes that are no longer on the list.
    await this.#loop;
    await this.#settling;
    if (this.#settlements.length > 0) await this.#settleNow();
  }
}

function leaseLost(): LeaseLostError {
  return new LeaseLostError("the delivery's lease ran out and passed on: this attempt's outcome changes nothing");
}

function stopped(): ClosedError {
  return new ClosedError("its handler has stopped the consumer");
}

function closing(): ClosedError {
  return new ClosedError("the consumer is closing: what was not settled goes back");
}
