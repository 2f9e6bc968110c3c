/**
 * The one consumer loop, for every consuming facade: fetch as many as there are free slots, run handlers, settle their
 * outcomes together with the next fetch; renew leases; stop, drain, abort; back off while the backend fails.
 */

import type { Delivery, Outcome, Receipt, Taken } from "./backend.js";
import { atMost, nextTurn, wait } from "./clock.js";
import type { ConsumerOptions } from "./consumer-options.js";
import type { ConsumerStats } from "./consumer-stats.js";
import { ClosedError, LeaseLostError, NotFoundError, toError } from "./errors.js";
import { HeldFeed } from "./held-feed.js";
import { GIVE_BACK, STOP, type Verdict } from "./outcome.js";
import { Renewal } from "./renewal.js";
import { backoffMs, RECONNECT } from "./retry.js";
import { Run } from "./run.js";

/** How long a fetch waits for messages before the loop comes round. */
const WAIT_MS = 2_000;
/** From this concurrency on half of the slots are fetched while the other half is handled. */
const MIN_SPLIT = 32;
/** What was fetched ahead waits for a slot at most this long, and a third of its lease. */
const MAX_AHEAD_MS = 1_000;
/** Outcomes that are known when draining ends get this long to be settled. */
const FINAL_SETTLE_MS = 2_000;
/** Handlers that run while another one stops the consumer may finish. */
const STOP_DRAIN_MS = 5_000;
/** Beyond this the backoff has reached its longest. */
const MAX_BACKOFF_STEPS = 10;

interface Settlement {
  readonly outcome: Outcome;
  readonly run: Run;
}

export class Consumer {
  readonly #options: ConsumerOptions;
  readonly #running = new Map<Receipt, Run>();
  readonly #stopping = new AbortController();
  readonly #feed: HeldFeed;
  readonly #renewal: Renewal;
  /** Deliveries asked for at a time. */
  readonly #fetchSize: number;
  #settlements: Settlement[] = [];
  /** Fetched, and started once the next fetch is on its way, as far as there are slots. */
  #ready: Delivery[] = [];
  /** Since when the oldest of them waits. */
  #readySince = 0;
  #loop: Promise<void> = Promise.resolve();
  #settling: Promise<void> | undefined;
  #fetchWaits = false;
  #failures = 0;
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
    const { open, clock, events, leaseMs, currentLeaseMs } = options;
    const report = (error: unknown): void => events.failing(error, this.#failures);
    this.#feed = new HeldFeed({ open, clock, abandoned: () => this.#loseAll(), report });
    this.#renewal = new Renewal({
      clock,
      leaseMs,
      currentLeaseMs,
      renew: () => this.#renew(),
      failed: (error) => this.#failToRenew(error),
    });
    this.#fetchSize = options.concurrency < MIN_SPLIT ? options.concurrency : Math.ceil(options.concurrency / 2);
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
    while (!this.#stopping.signal.aborted) {
      // Handlers that need no more than a few microtasks settle together, and leave their slots to this fetch.
      await nextTurn();
      const room = this.#room();
      if (room === 0 && this.#settlements.length === 0) {
        await this.#nextSlot();
        this.#startReady();
        continue;
      }
      const isIdle = this.#ready.length === 0;
      const fetching = this.#fetch(room, isIdle);
      if (!isIdle) {
        // A client writes when the turn ends in which it was called: only then the fetch is really on its way.
        await nextTurn();
        await nextTurn();
        if (!this.#stopping.signal.aborted) this.#startReady();
      }
      const taken = await fetching;
      if (this.#stopping.signal.aborted) return;
      if (this.#ready.length === 0) this.#readySince = this.#options.clock.now();
      this.#ready.push(...taken);
      // A full answer means that there is more to come; otherwise nothing may wait.
      if (taken.length < this.#fetchSize || this.#fetchSize === this.#options.concurrency) this.#startReady();
    }
  }

  /** How many to fetch. */
  #room(): number {
    const { concurrency, fetchAhead } = this.#options;
    // All that was started has finished since: for such handlers as much again is fetched before these are started.
    if (fetchAhead === true && this.#running.size === 0 && this.#settlements.length >= MIN_SPLIT) return concurrency;
    return Math.max(0, Math.min(concurrency - this.#running.size - this.#ready.length, this.#fetchSize));
  }

  #startReady(): void {
    const now = this.#options.clock.now();
    const free = this.#options.concurrency - this.#running.size;
    for (const delivery of this.#ready.splice(0, free)) this.#start(delivery, now);
  }

  /** Waits for a slot. When handlers have become slow, what was fetched ahead of them goes back: others may have slots. */
  async #nextSlot(): Promise<void> {
    const { concurrency, clock, leaseMs } = this.#options;
    if (this.#ready.length === 0) return await this.#nextChange();
    if (this.#running.size < concurrency) return;
    const leftMs = (): number => this.#readySince + Math.min(MAX_AHEAD_MS, leaseMs / 3) - clock.now();
    if (leftMs() > 0) await atMost(clock, leftMs(), this.#nextChange());
    if (leftMs() > 0) return;
    for (const delivery of this.#ready.splice(0)) {
      const { receipt } = delivery;
      this.#settlements.push({ outcome: { receipt, ...GIVE_BACK }, run: new Run(delivery, clock.now(), this) });
    }
  }

  /** @returns what is to be handled; what arrives after the stop goes back with the feed's close, uncounted */
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
    try {
      const request = { ...want, signal: this.#stopping.signal };
      const outcomes = settlements.map(({ outcome }) => outcome);
      const taken = await this.#feed.call((feed) => feed.take(request, outcomes), want.waitMs);
      if (want.max > 0) this.#lastFetchAt = this.#options.clock.now();
      if (taken.deliveries.length > 0) this.#renewal.taken();
      this.#conclude(settlements, taken.lost);
      this.#options.events.taken(taken);
      this.#recover();
      return taken;
    } catch (error) {
      // Without its group nobody has a use for an outcome.
      const over = this.#closed ? closing() : error instanceof NotFoundError ? error : undefined;
      if (over === undefined) this.#settlements.unshift(...settlements);
      else for (const { run } of settlements) run.onSettled?.(over);
      throw error;
    }
  }

  #conclude(settlements: readonly Settlement[], lost: readonly Receipt[]): void {
    const lostReceipts = new Set(lost);
    for (const { outcome, run } of settlements) {
      run.onSettled?.(lostReceipts.has(outcome.receipt) ? leaseLost() : undefined);
    }
    const settled = settlements.length - lost.length;
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
    for (const { run } of this.#takeSettlements()) run.onSettled?.(closing());
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
