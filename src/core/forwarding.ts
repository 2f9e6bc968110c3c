/**
 * Forwarding one stream from one log to another, live: in order, in batches, by one process at a time. An entry is
 * acknowledged in the source once the target has stored it, so that whatever breaks, it is sent again; the target knows
 * it by its id then.
 */

import { randomUUID } from "node:crypto";
import type { Backend, Delivery, GroupSettings, Log, Outcome, Retention, Taken } from "./backend.js";
import { atMost, type Clock, wait } from "./clock.js";
import type { SubscriptionStats } from "./consumer-stats.js";
import { ClosedError, ConfigError, ConnectionError, NotFoundError, TimeoutError } from "./errors.js";
import { Sender, type Unmark } from "./forwarding-send.js";
import { HeldFeed } from "./held-feed.js";
import { InOrder, statsOf } from "./in-order.js";
import { Renewal } from "./renewal.js";
import { backoffMs, RECONNECT } from "./retry.js";
import { takeTurn, type Turn } from "./turn.js";

export interface ForwardingOptions {
  readonly source: Pick<Backend, "log" | "queue">;
  readonly target: Pick<Log, "append" | "read">;
  readonly stream: string;
  /** Of the source: keeps what was not forwarded, and how far it has come. */
  readonly group: string;
  /** Of the target's stream, unless something else is stored there. */
  readonly retention: Retention;
  readonly clock: Clock;
  readonly events: ForwardingEvents;
  /** How long a process that died keeps others waiting. Default 10,000. */
  readonly leaseMs?: number;
  readonly unmark?: Unmark;
}

export interface ForwardingEvents {
  /** A batch was stored in the target; `duplicates` of them stood there already. */
  forwarded(count: number, duplicates: number): void;
  taken(taken: Taken): void;
  failing(error: unknown, failures: number): void;
  recovered(): void;
  /** One of the two backends was closed, or the group deleted: nothing is forwarded any more. */
  ended(error: Error): void;
}

/** What is known of the forwarding of one stream. */
export interface ForwardingStats extends SubscriptionStats {
  /** Of several processes that forward the same, one does and the others stand by. */
  readonly role: "forwarding" | "standby";
  /** Messages that this process has stored in the target. */
  readonly forwarded: number;
  /** Messages that it found there: somebody had sent them before. */
  readonly duplicates: number;
}

const LEASE_MS = 10_000;
/** Marks the group, so that no consumer joins it and takes what is to be forwarded. No event type has this name. */
const FORWARDED = ["{forwarded}"];
/** Nothing is ever given up for having been tried too often. */
const ENDLESS_ATTEMPTS = 1_000_000_000;
const WAIT_MS = 2_000;
/** As when publishing: no batch holds a server for more than about a millisecond. */
const MAX_ITEMS = 256;
const MAX_BYTES = 64 * 1_024;
/** Beyond this many bytes in one take the next one takes less. */
const MAX_TAKEN_BYTES = 16 * MAX_BYTES;
const MAX_BACKOFF_STEPS = 10;
/** How often `caughtUp` looks. */
const LOOK_MS = 100;

export class Forwarding {
  readonly #options: ForwardingOptions;
  readonly #stopping = new AbortController();
  #loop: Promise<void> = Promise.resolve();
  #closing: Promise<void> | undefined;
  #closed = false;
  #ended: Error | undefined;
  #leaseMs = LEASE_MS;
  #role: ForwardingStats["role"] = "standby";
  #letGo: (() => Promise<void>) | undefined;
  #max = MAX_ITEMS;
  #sending = 0;
  #forwarded = 0;
  #duplicates = 0;
  #lost = 0;
  #failures = 0;
  #lastFetchAt: number;

  constructor(options: ForwardingOptions) {
    this.#options = options;
    this.#lastFetchAt = options.clock.now();
  }

  /**
   * Makes the group, then forwards in the background until `close`.
   *
   * @throws {ConfigError} when the group is one that consumers have made
   */
  async start(): Promise<void> {
    const { source, stream, group } = this.#options;
    const settings: GroupSettings = {
      from: "beginning",
      leaseMs: this.#options.leaseMs ?? LEASE_MS,
      maxAttempts: ENDLESS_ATTEMPTS,
      maxDeadLetters: 1,
      order: "none",
      maxHeld: 1,
      types: FORWARDED,
    };
    const stored = await source.log.createGroup(stream, group, settings);
    if (stored.types?.join() !== FORWARDED.join() || stored.order !== settings.order) {
      throw new ConfigError([
        `group "${group}" of "${stream}" was made for consumers: forward with a group that nobody subscribes with`,
      ]);
    }
    this.#leaseMs = stored.leaseMs;
    this.#loop = this.#run();
  }

  stats(): ForwardingStats {
    const { stream, group, clock } = this.#options;
    return {
      channel: stream,
      reader: group,
      state: this.#state(),
      running: this.#sending,
      concurrency: MAX_ITEMS,
      settled: this.#forwarded + this.#duplicates,
      lost: this.#lost,
      lastFetchAt: this.#lastFetchAt,
      idleMs: clock.now() - this.#lastFetchAt,
      role: this.#role,
      forwarded: this.#forwarded,
      duplicates: this.#duplicates,
    };
  }

  /**
   * Resolves once everything that is stored in the source by now stands in the target, whichever process forwards it.
   *
   * @throws {ClosedError | NotFoundError} when it ends before
   */
  async caughtUp(signal?: AbortSignal): Promise<void> {
    const { source, stream, group, clock } = this.#options;
    let newestAt: number | undefined;
    for (;;) {
      signal?.throwIfAborted();
      if (this.#ended !== undefined) throw this.#ended;
      if (this.#stopping.signal.aborted) throw new ClosedError("the forwarding was closed before it had caught up");
      try {
        newestAt ??= (await source.log.stats(stream)).newest?.at ?? Number.NEGATIVE_INFINITY;
        const { oldestUnhandledAt } = await statsOf(source.log, stream, group);
        if (oldestUnhandledAt === undefined || oldestUnhandledAt > newestAt) return;
      } catch (error) {
        // A source that is away for a while comes back.
        if (!(error instanceof ConnectionError || error instanceof TimeoutError)) throw error;
      }
      await wait(clock, LOOK_MS, AbortSignal.any([this.#stopping.signal, ...(signal === undefined ? [] : [signal])]));
    }
  }

  /** Finishes the batch that is under way within `drainMs`, and hands over to whoever waits for the turn. */
  close(drainMs: number): Promise<void> {
    this.#closing ??= this.#closeOnce(drainMs);
    return this.#closing;
  }

  async #closeOnce(drainMs: number): Promise<void> {
    this.#stopping.abort();
    await atMost(this.#options.clock, drainMs, this.#loop);
    this.#closed = true;
    await this.#letGo?.();
  }

  #state(): ForwardingStats["state"] {
    if (this.#ended !== undefined) return "ended";
    if (this.#stopping.signal.aborted) return this.#closed ? "closed" : "draining";
    return this.#failures > 0 ? "failing" : "running";
  }

  /** Takes the turn, forwards while it lasts, and again. */
  async #run(): Promise<void> {
    const { source, stream, group, clock, events } = this.#options;
    const { signal } = this.#stopping;
    const report = (error: unknown): void => this.#note(error);
    const waiting = (): void => this.#recover();
    const name = JSON.stringify([stream, group]);
    while (!signal.aborted) {
      try {
        const { queue } = source;
        const turn = await takeTurn({ queue, name, leaseMs: this.#leaseMs, clock, signal, waiting, report });
        if (turn !== undefined) await this.#lead(turn);
      } catch (error) {
        if (this.#closed) return;
        if (error instanceof ClosedError || error instanceof NotFoundError) {
          this.#ended = error;
          if (!signal.aborted) events.ended(error);
          return;
        }
        await this.#fail(error);
      }
    }
  }

  async #lead(turn: Turn): Promise<void> {
    const { source, stream, group, clock, events } = this.#options;
    let abandoned = false;
    const feed = new HeldFeed({
      open: () => source.log.open(stream, group, `${process.pid}-${randomUUID()}`),
      clock,
      abandoned: () => {
        abandoned = true;
      },
      report: (error) => this.#note(error),
    });
    const taken = (answer: Taken): void => {
      this.#recover();
      this.#lost += answer.lost.length;
      events.taken(answer);
    };
    const isOurs = (): boolean => turn.isHeld() && !abandoned && !this.#closed;
    const inOrder = new InOrder({ log: source.log, stream, group, feed, clock, isOurs, taken });
    const renewal = this.#renewalOf(turn, inOrder);
    renewal.start();
    this.#letGo = async () => {
      renewal.stop();
      // What it holds goes back first: whoever has the turn next waits for it.
      await feed.close().catch((error: unknown) => this.#note(error));
      await turn.release();
    };
    this.#role = "forwarding";
    try {
      await this.#forward(inOrder, isOurs);
    } finally {
      this.#role = "standby";
      await this.#letGo();
      this.#letGo = undefined;
    }
  }

  async #forward(inOrder: InOrder, isOurs: () => boolean): Promise<void> {
    const { source, target, stream, group, retention, clock, unmark } = this.#options;
    const { signal } = this.#stopping;
    const { log } = source;
    const sender = new Sender({
      source: log,
      target,
      stream,
      retention,
      clock,
      ...(unmark !== undefined && { unmark }),
    });
    // Whoever had the turn before may have sent what comes first, and not have lived to hear of it.
    sender.doubt((await statsOf(log, stream, group)).lastProgressAt);
    let sent: Outcome[] = [];
    while (!signal.aborted && isOurs()) {
      const batch = await inOrder.take({ max: this.#max, waitMs: WAIT_MS, signal }, sent);
      sent = [];
      sender.begin(batch);
      this.#adapt(batch);
      for (const part of partsOf(batch)) {
        if (!(await this.#send(sender, part, isOurs))) break;
        for (const { receipt } of part) sent.push({ receipt, as: "ack" });
      }
      // What was not sent goes back, and nothing behind it may be taken before.
      if (sent.length < batch.length) break;
      if (batch.length > 0) sender.trust();
    }
    if (sent.length > 0 && !this.#closed) await inOrder.take({ max: 0, waitMs: 0 }, sent);
  }

  /** Tries until it is stored. @returns false when it has to stop before */
  async #send(sender: Sender, part: readonly Delivery[], isOurs: () => boolean): Promise<boolean> {
    this.#sending = part.length;
    try {
      while (isOurs()) {
        try {
          const duplicates = await sender.send(part);
          this.#forwarded += part.length - duplicates;
          this.#duplicates += duplicates;
          this.#recover();
          this.#options.events.forwarded(part.length, duplicates);
          return true;
        } catch (error) {
          if (error instanceof ClosedError) throw error;
          await this.#fail(error);
          if (this.#stopping.signal.aborted) return false;
        }
      }
      return false;
    } finally {
      this.#sending = 0;
    }
  }

  #renewalOf(turn: Turn, inOrder: InOrder): Renewal {
    const { clock } = this.#options;
    return new Renewal({
      clock,
      leaseMs: this.#leaseMs,
      currentLeaseMs: undefined,
      async renew() {
        const results = await Promise.allSettled([turn.renew(), inOrder.renew()]);
        for (const result of results) if (result.status === "rejected") throw result.reason;
      },
      failed: (error) => this.#note(error),
    });
  }

  /** Large messages come fewer at a time. */
  #adapt(batch: readonly Delivery[]): void {
    const bytes = batch.reduce((sum, delivery) => sum + sizeOf(delivery), 0);
    this.#max = bytes > MAX_TAKEN_BYTES ? Math.max(1, this.#max >> 1) : Math.min(MAX_ITEMS, this.#max * 2);
  }

  #note(error: unknown): void {
    if (this.#closed) return;
    this.#failures += 1;
    this.#options.events.failing(error, this.#failures);
  }

  async #fail(error: unknown): Promise<void> {
    this.#note(error);
    const { signal } = this.#stopping;
    if (signal.aborted) return;
    await wait(this.#options.clock, backoffMs(RECONNECT, Math.min(this.#failures, MAX_BACKOFF_STEPS)), signal);
  }

  #recover(): void {
    this.#lastFetchAt = this.#options.clock.now();
    if (this.#failures === 0) return;
    this.#failures = 0;
    this.#options.events.recovered();
  }
}

function sizeOf({ header, data }: Delivery): number {
  return header.length + data.byteLength;
}

/** In parts that one append may hold. One delivery always fits, however large. */
function* partsOf(batch: readonly Delivery[]): Generator<readonly Delivery[]> {
  let part: Delivery[] = [];
  let bytes = 0;
  for (const delivery of batch) {
    const size = sizeOf(delivery);
    if (part.length > 0 && (part.length >= MAX_ITEMS || bytes + size > MAX_BYTES)) {
      yield part;
      part = [];
      bytes = 0;
    }
    part.push(delivery);
    bytes += size;
  }
  if (part.length > 0) yield part;
}
