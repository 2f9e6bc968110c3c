/**
 * The one consumer loop, for every consuming facade: fetch as many as there are free slots, run handlers, settle their
 * outcomes together with the next fetch; renew leases; stop, drain, abort; back off while the backend fails.
 */

import type { Delivery, Feed, Outcome, Receipt, Taken } from "./backend.js";
import { type Clock, nextTurn, type Timer, wait } from "./clock.js";
import { ClosedError, LeaseLostError, TimeoutError } from "./errors.js";
import type { Verdict } from "./outcome.js";
import { backoffMs, RECONNECT } from "./retry.js";

export interface ConsumerOptions {
  /** Opens the feed: at the start, and again should the watchdog give one up. */
  readonly open: () => Promise<Feed>;
  /** Runs the handler and says what the delivery came to. Never rejects. */
  readonly handle: (delivery: Delivery, run: Run) => Promise<Verdict>;
  /** Handlers at once. */
  readonly concurrency: number;
  readonly leaseMs: number;
  readonly clock: Clock;
  readonly events: ConsumerEvents;
}

/** What the loop reports; the facade knows what to make of it. */
export interface ConsumerEvents {
  taken(taken: Taken): void;
  /** Outcomes were stored. */
  settled(count: number): void;
  lost(count: number): void;
  failing(error: unknown, failures: number): void;
  recovered(): void;
}

export interface ConsumerStats {
  readonly state: "running" | "failing" | "draining" | "closed";
  /** Handlers that run now. */
  readonly running: number;
  /** Deliveries settled. */
  readonly settled: number;
  /** Outcomes that came too late. */
  readonly lost: number;
  /** When the last fetch completed (ms since the epoch): a consumer that lives moves it at least every few seconds. */
  readonly lastFetchAt: number;
}

/** How long a fetch waits for messages before the loop comes round. */
const WAIT_MS = 2_000;
/** A fetch that takes this much longer than it may wait is given up with its feed: silently dead must not exist. */
const WATCHDOG_MS = 15_000;

/** Outcomes that are known when draining ends get this long to be settled. */
const FINAL_SETTLE_MS = 2_000;
/** Beyond this the backoff has reached its longest. */
const MAX_BACKOFF_STEPS = 10;

/** One handler's run. */
export class Run {
  readonly delivery: Delivery;
  /** Told once the outcome is settled; with the reason when it was not. */
  onSettled: ((failure?: Error) => void) | undefined;
  /** Nobody waits for its outcome any more. */
  lost = false;
  #controller: AbortController | undefined;
  #reason: unknown;

  constructor(delivery: Delivery) {
    this.delivery = delivery;
  }

  /** Aborts when the lease is lost or the consumer stops waiting. Made on first use: most handlers never look. */
  get signal(): AbortSignal {
    if (this.#controller === undefined) {
      this.#controller = new AbortController();
      if (this.#reason !== undefined) this.#controller.abort(this.#reason);
    }
    return this.#controller.signal;
  }

  abort(reason: Error): void {
    this.#reason ??= reason;
    this.#controller?.abort(reason);
  }
}

interface Settlement {
  readonly outcome: Outcome;
  readonly run: Run;
}

export class Consumer {
  readonly #options: ConsumerOptions;
  readonly #running = new Map<Receipt, Run>();
  readonly #stopping = new AbortController();
  #feed: Feed | undefined;
  #settlements: Settlement[] = [];
  #loop: Promise<void> = Promise.resolve();
  #settling: Promise<void> | undefined;
  #fetchWaits = false;
  #failures = 0;
  #settled = 0;
  #lost = 0;
  #lastFetchAt: number;
  #renewal: Timer | undefined;
  #wake: (() => void) | undefined;
  #closing: Promise<void> | undefined;
  #closed = false;

  constructor(options: ConsumerOptions) {
    this.#options = options;
    this.#lastFetchAt = options.clock.now();
  }

  /** Opens the feed, so that the first failure is the caller's, then consumes in the background until `close`. */
  async start(): Promise<void> {
    this.#feed = await this.#options.open();
    this.#scheduleRenewal();
    this.#loop = this.#consume();
  }

  stats(): ConsumerStats {
    const failing = this.#failures > 0 ? "failing" : "running";
    const stopping = this.#closed ? "closed" : "draining";
    return {
      state: this.#stopping.signal.aborted ? stopping : failing,
      running: this.#running.size,
      settled: this.#settled,
      lost: this.#lost,
      lastFetchAt: this.#lastFetchAt,
    };
  }

  /** Renews one delivery's lease now. @throws {LeaseLostError} */
  async extend(run: Run): Promise<void> {
    const lost = await this.#feed?.extend([run.delivery.receipt]);
    if (lost === undefined || lost.length > 0) throw this.#lose(run);
  }

  /** Stops taking, waits up to `drainMs` for handlers, aborts the rest, settles, and gives back what is left. */
  close(drainMs: number): Promise<void> {
    this.#closing ??= this.#closeOnce(drainMs);
    return this.#closing;
  }

  async #consume(): Promise<void> {
    while (!this.#stopping.signal.aborted) {
      const free = this.#options.concurrency - this.#running.size;
      if (free <= 0 && this.#settlements.length === 0) {
        await this.#nextChange();
      } else {
        // Handlers that need no more than a few microtasks settle together: one call for all instead of one for each.
        await nextTurn();
        await this.#fetch();
      }
    }
  }

  async #fetch(): Promise<void> {
    // While a settle-only call is under way its outcomes are spoken for; this one waits only if there are none.
    const settlements = this.#takeSettlements();
    const waits = settlements.length === 0;
    const max = this.#options.concurrency - this.#running.size;
    this.#fetchWaits = waits;
    try {
      const taken = await this.#call({ max, waitMs: waits ? WAIT_MS : 0 }, settlements);
      // What arrives after the stop goes back with the feed's close, uncounted.
      if (!this.#stopping.signal.aborted) for (const delivery of taken.deliveries) this.#start(delivery);
    } catch (error) {
      await this.#fail(error);
    } finally {
      this.#fetchWaits = false;
    }
  }

  /** Settles at once while the fetch waits; otherwise the next fetch does it. */
  #settleSoon(): void {
    if (!this.#fetchWaits || this.#settling !== undefined) {
      this.#wake?.();
      return;
    }
    this.#settling = this.#settleAll().finally(() => {
      this.#settling = undefined;
    });
  }

  async #settleAll(): Promise<void> {
    await nextTurn();
    while (this.#settlements.length > 0 && !this.#closed) {
      try {
        await this.#call({ max: 0, waitMs: 0 }, this.#takeSettlements());
      } catch (error) {
        if (error instanceof ClosedError) return;
        await this.#fail(error);
      }
    }
  }

  /** One call of the feed, under the watchdog. Settlements whose call fails stay for the next. */
  async #call(want: { max: number; waitMs: number }, settlements: readonly Settlement[]): Promise<Taken> {
    try {
      this.#feed ??= await this.#options.open();
      const request = { ...want, signal: this.#stopping.signal };
      const outcomes = settlements.map(({ outcome }) => outcome);
      const taken = await this.#watch(this.#feed.take(request, outcomes), want.waitMs + WATCHDOG_MS);
      this.#lastFetchAt = this.#options.clock.now();
      this.#conclude(settlements, taken.lost);
      this.#options.events.taken(taken);
      this.#recover();
      return taken;
    } catch (error) {
      this.#settlements.unshift(...settlements);
      throw error;
    }
  }

  async #watch(take: Promise<Taken>, ms: number): Promise<Taken> {
    let timer: Timer | undefined;
    const watchdog = new Promise<never>((_, reject) => {
      timer = this.#options.clock.setTimer(
        () => reject(new TimeoutError(`the backend did not answer within ${ms} ms`)),
        ms,
      );
    });
    try {
      return await Promise.race([take, watchdog]);
    } catch (error) {
      if (error instanceof TimeoutError) this.#abandonFeed(error);
      throw error;
    } finally {
      timer?.cancel();
    }
  }

  /** Gives a feed up that has stopped answering, and everything that it had handed out. */
  #abandonFeed(reason: Error): void {
    const feed = this.#feed;
    this.#feed = undefined;
    for (const run of this.#running.values()) this.#lose(run);
    feed
      ?.close()
      .catch((error: unknown) => this.#options.events.failing(new AggregateError([reason, error]), this.#failures));
  }

  #conclude(settlements: readonly Settlement[], lost: readonly Receipt[]): void {
    const lostReceipts = new Set(lost);
    for (const { outcome, run } of settlements) {
      const failure = lostReceipts.has(outcome.receipt) ? leaseLost() : undefined;
      run.onSettled?.(failure);
    }
    const settled = settlements.length - lost.length;
    this.#settled += settled;
    if (settled > 0) this.#options.events.settled(settled);
    this.#countLost(lost.length);
  }

  #start(delivery: Delivery): void {
    const run = new Run(delivery);
    this.#running.set(delivery.receipt, run);
    void this.#options.handle(delivery, run).then((verdict) => this.#finish(run, verdict));
  }

  #finish(run: Run, verdict: Verdict): void {
    const { receipt } = run.delivery;
    this.#running.delete(receipt);
    if (run.lost) run.onSettled?.(leaseLost());
    else this.#settlements.push({ outcome: { receipt, ...verdict }, run });
    this.#settleSoon();
  }

  #takeSettlements(): Settlement[] {
    const settlements = this.#settlements;
    this.#settlements = [];
    return settlements;
  }

  #scheduleRenewal(): void {
    const { clock, leaseMs } = this.#options;
    // A third leaves room for one renewal to fail.
    this.#renewal = clock.setTimer(
      () => {
        void this.#renew().finally(() => {
          if (!this.#closed) this.#scheduleRenewal();
        });
      },
      Math.ceil(leaseMs / 3),
    );
  }

  async #renew(): Promise<void> {
    const receipts = [...this.#running.values()].filter((run) => !run.lost).map((run) => run.delivery.receipt);
    if (receipts.length === 0 || this.#feed === undefined) return;
    try {
      for (const receipt of await this.#feed.extend(receipts)) {
        const run = this.#running.get(receipt);
        // It may have finished meanwhile, and then its outcome says more.
        if (run !== undefined) this.#lose(run);
      }
    } catch (error) {
      if (!this.#closed) this.#options.events.failing(error, this.#failures);
    }
  }

  #lose(run: Run): Error {
    const error = leaseLost();
    if (!run.lost) {
      run.lost = true;
      run.abort(error);
      this.#countLost(1);
    }
    return error;
  }

  #countLost(count: number): void {
    if (count === 0) return;
    this.#lost += count;
    this.#options.events.lost(count);
  }

  async #fail(error: unknown): Promise<void> {
    // A feed that closes because the consumer does is no failure.
    if (this.#stopping.signal.aborted && error instanceof ClosedError) return;
    this.#failures += 1;
    this.#options.events.failing(error, this.#failures);
    const stopping = this.#stopping.signal;
    const delayMs = backoffMs(RECONNECT, Math.min(this.#failures, MAX_BACKOFF_STEPS));
    await wait(this.#options.clock, delayMs, stopping.aborted ? undefined : stopping);
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
    await this.#within(drainMs, this.#drain());
    // What still runs is given back with the feed: its outcome must not follow.
    for (const run of this.#running.values()) {
      run.lost = true;
      run.abort(new ClosedError("the consumer is closing"));
    }
    await this.#within(FINAL_SETTLE_MS, this.#settleRest());
    this.#closed = true;
    this.#renewal?.cancel();
    for (const { run } of this.#takeSettlements())
      run.onSettled?.(new ClosedError("the consumer closed before it could settle"));
    await this.#feed?.close();
  }

  async #drain(): Promise<void> {
    await this.#loop;
    while (!this.#closed && (this.#running.size > 0 || this.#settlements.length > 0)) {
      if (this.#settlements.length > 0) await this.#settleAll();
      else await this.#nextChange();
    }
    await this.#settleRest();
  }

  async #settleRest(): Promise<void> {
    // One may be under way, with outcomes that are no longer on the list.
    await this.#settling;
    await this.#settleAll();
  }

  async #within(ms: number, work: Promise<void>): Promise<void> {
    const done = new AbortController();
    await Promise.race([work, wait(this.#options.clock, ms, done.signal)]);
    done.abort();
  }
}

function leaseLost(): LeaseLostError {
  return new LeaseLostError("the delivery's lease ran out and passed on: this attempt's outcome changes nothing");
}
