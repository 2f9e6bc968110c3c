/** The handler form of subscribing: runs handlers for what comes, tries again in process, and ends in good order. */

import { Bag } from "../core/bag.js";
import { atMost, wait } from "../core/clock.js";
import type { Consuming } from "../core/consumer-stats.js";
import { ClosedError, toError } from "../core/errors.js";
import type { Execute, Finisher } from "../core/handler.js";
import { STOP, type Verdict } from "../core/outcome.js";
import { type Handing, Run } from "../core/run.js";
import { DEFAULT_DRAIN_MS } from "../core/subscription.js";
import { type Histogram, METRICS } from "../core/telemetry.js";
import type { Graveyard } from "./graveyard.js";
import { type Arrival, Reception, type ReceptionOptions } from "./reception.js";
import { type ChannelStats, toSubscriptionStats } from "./stats.js";
import type { Hearing } from "./targets.js";

/** What handles the messages of one channel. */
interface Handling {
  readonly execute: Execute;
  /** How long that takes, by what comes of it. */
  readonly ok: Histogram;
  readonly error: Histogram;
}

type HandledArrival = Arrival<Handling>;
type HandledRun = Run<HandledArrival>;
type DeadLetter = Verdict & { readonly as: "deadLetter" };
type Retry = Verdict & { readonly as: "retry" };

export interface DispatcherOptions
  extends Pick<ReceptionOptions<Handling>, "runtime" | "reader" | "wanted" | "listen" | "recent"> {
  readonly executeFor: (channel: string, hearing: Hearing) => Execute;
  readonly concurrency: number;
  readonly graveyard: Graveyard;
}

export class Dispatcher implements Handing, Consuming, Finisher<HandledArrival> {
  readonly #options: DispatcherOptions;
  readonly #reception: Reception<Handling>;
  readonly #runs = new Bag<HandledRun>();
  readonly #stopping = new AbortController();
  readonly #giveUp = new AbortController();
  readonly #since: number;
  #isOpen = false;
  #isPumping = false;
  /** Handlers that run, and those that wait for their retry. */
  #running = 0;
  #handled = 0;
  #failed = 0;
  #lastMessageAt: number | undefined;
  #idle: (() => void)[] = [];
  #closing: Promise<void> | undefined;
  #isClosed = false;
  #hasEnded = false;

  constructor(options: DispatcherOptions) {
    const { runtime, reader, wanted, listen, recent } = options;
    this.#options = options;
    this.#since = runtime.clock.now();
    this.#reception = new Reception<Handling>({
      runtime,
      reader,
      wanted,
      listen,
      recent,
      bind: (channel, hearing, label) => this.#bind(channel, hearing, label),
      arrived: () => this.#pump(),
      overrun: (error) => this.#end(error),
    });
  }

  /** Aborts when nothing more is taken. */
  get stopping(): AbortSignal {
    return this.#stopping.signal;
  }

  /** There is no lease. */
  async extend(): Promise<void> {}

  /** Handlers run once all of it is in force. */
  async start(): Promise<void> {
    await this.#reception.open();
    this.#isOpen = true;
    this.#pump();
  }

  channelStats(): ChannelStats {
    const { received, dropped, gaps, waiting } = this.#reception;
    const { concurrency, wanted } = this.#options;
    return {
      channels: wanted.map(({ name }) => name),
      state: this.#state(),
      waiting,
      running: this.#running,
      concurrency,
      received,
      handled: this.#handled,
      failed: this.#failed,
      dropped,
      gaps,
      lastMessageAt: this.#lastMessageAt,
    };
  }

  stats(): ReturnType<Consuming["stats"]> {
    return [toSubscriptionStats(this.channelStats(), this.#options.reader, this.#since)];
  }

  #state(): ChannelStats["state"] {
    if (this.#hasEnded) return "ended";
    if (this.#closing === undefined) return "running";
    return this.#isClosed ? "closed" : "draining";
  }

  /** Hears nothing more, lets handlers finish for up to `drainMs`, those of what waits included, then aborts them. */
  close({ drainMs = DEFAULT_DRAIN_MS }: { readonly drainMs?: number } = {}): Promise<void> {
    this.#closing ??= this.#closeOnce(drainMs);
    return this.#closing;
  }

  async #closeOnce(drainMs: number): Promise<void> {
    const leaving = this.#reception.close();
    this.#stopping.abort();
    await atMost(this.#options.runtime.clock, drainMs, this.#whenIdle());
    this.#reception.clear();
    this.#giveUp.abort();
    for (const run of this.#runs.all()) run.fail(new ClosedError("the subscription is closing"));
    this.#isClosed = true;
    await leaving;
  }

  #bind(channel: string, hearing: Hearing, label: string): Handling {
    const { runtime, executeFor, reader } = this.#options;
    const durations = (result: "ok" | "error"): Histogram =>
      runtime.telemetry.histogram(METRICS.channelProcessing, { channel: label, handler: reader, result });
    return { execute: executeFor(channel, hearing), ok: durations("ok"), error: durations("error") };
  }

  /** Starts handlers while there are slots. Those that end at once leave theirs to the next. */
  #pump(): void {
    if (this.#isPumping || !this.#isOpen) return;
    this.#isPumping = true;
    while (!this.#isClosed && this.#running < this.#options.concurrency) {
      const arrival = this.#reception.next();
      if (arrival === undefined) break;
      this.#running += 1;
      this.#lastMessageAt = this.#options.runtime.clock.now();
      this.#start(arrival, this.#lastMessageAt);
    }
    this.#isPumping = false;
    if (this.#running === 0) this.#notifyIdle();
  }

  #start(arrival: HandledArrival, now: number): void {
    const run = new Run(arrival, now, this);
    this.#runs.add(run);
    arrival.from.bound.execute(run, this);
  }

  /** For the handlers that it has started. */
  finish(run: HandledRun, verdict: Verdict): void {
    this.#runs.remove(run);
    const { ok, error } = run.delivery.from.bound;
    (run.thrown === undefined ? ok : error).record(this.#options.runtime.clock.now() - run.startedAt);
    if (run.failure === undefined && verdict.as === "ack") this.#done("handled");
    else if (run.failure !== undefined) this.#giveUpOn(run);
    else if (verdict === STOP) this.#stopBy(run);
    else if (verdict.as === "retry") void this.#again(run, verdict);
    else if (verdict.as === "deadLetter") void this.#bury(run, verdict);
  }

  #done(how: "handled" | "failed"): void {
    if (how === "handled") this.#handled += 1;
    else this.#failed += 1;
    this.#running -= 1;
    this.#pump();
  }

  /** In the same place: with a concurrency of 1 nothing overtakes it. */
  async #again(run: HandledRun, verdict: Retry): Promise<void> {
    const { runtime, reader } = this.#options;
    const arrival = run.delivery;
    const { attempt } = arrival;
    const { channel } = arrival.from;
    const cause = run.thrown === undefined ? {} : { err: run.thrown };
    runtime.telemetry.log("message_retried", { channel, reader, attempt, delayMs: verdict.delayMs, ...cause });
    await wait(runtime.clock, verdict.delayMs, this.#giveUp.signal);
    if (this.#giveUp.signal.aborted) this.#giveUpOn(run);
    else this.#start({ ...arrival, attempt: verdict.counted ? attempt + 1 : attempt }, runtime.clock.now());
  }

  /** What was asked to be kept is; anything else is reported, as nobody else hears of it. Never rejects. */
  async #bury(run: HandledRun, { reason }: DeadLetter): Promise<void> {
    const { runtime, reader, graveyard } = this.#options;
    const arrival = run.delivery;
    const { channel } = arrival.from;
    this.#reception.forget(arrival);
    if (reason.kind === "rejected") {
      const { kind, message } = reason;
      const { attempt } = arrival;
      runtime.telemetry.log("message_dead_lettered", { channel, reader, attempt, kind, reason: message });
      await graveyard.bury(arrival, reader, reason);
    } else runtime.report(run.thrown ?? new Error(reason.message), this.#where(channel));
    this.#done("failed");
  }

  #giveUpOn(run: HandledRun): void {
    const arrival = run.delivery;
    this.#reception.forget(arrival);
    if (run.thrown !== undefined) this.#options.runtime.report(run.thrown, this.#where(arrival.from.channel));
    this.#done("failed");
  }

  #stopBy(run: HandledRun): void {
    this.#end(run.thrown);
    this.#done("failed");
  }

  /** Ends by itself, for good. */
  #end(reason: Error | undefined): void {
    if (this.#hasEnded || this.#closing !== undefined) return;
    const { runtime, reader } = this.#options;
    const { channels } = this.channelStats();
    this.#hasEnded = true;
    const channel = channels.join(", ");
    runtime.telemetry.log("consumer_ended", { channel, reader, ...(reason !== undefined && { err: reason }) });
    if (reason !== undefined) runtime.report(reason, this.#where(channel));
    this.#reception.clear();
    this.close().catch((failure: unknown) => runtime.report(toError(failure), `ending ${this.#where(channel)}`));
  }

  #where(channel: string): string {
    return `subscription to ${channel} (${this.#options.reader})`;
  }

  #whenIdle(): Promise<void> {
    if (this.#running === 0 && this.#reception.waiting === 0) return Promise.resolve();
    return new Promise((resolve) => void this.#idle.push(resolve));
  }

  #notifyIdle(): void {
    if (this.#idle.length === 0 || this.#reception.waiting > 0) return;
    for (const resolve of this.#idle.splice(0)) resolve();
  }
}
