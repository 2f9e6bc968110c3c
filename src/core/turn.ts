/** Turns: what only one process at a time may do, whichever store they share. */

import { randomUUID } from "node:crypto";
import type { Queue, QueueConsumer, Receipt } from "./backend.js";
import type { Clock } from "./clock.js";
import { HeldFeed } from "./held-feed.js";

export interface TurnOptions {
  readonly queue: Queue;
  /** What the turn is for: whoever names the same waits for each other. */
  readonly name: string;
  /** How long a process keeps its turn that shows no sign of life. */
  readonly leaseMs: number;
  readonly clock: Clock;
  /** Ends the wait. */
  readonly signal: AbortSignal;
  /** Called each time the store has answered while another process has the turn. */
  readonly waiting: () => void;
  readonly report: (error: unknown) => void;
}

/** A queue of its own, under a name that no user's queue can have. Its items are leased, and never finished. */
const TURNS = "{turns}";
const MAX_TURNS = 1_000_000;
/** A turn outlives any number of processes that died while they had it. */
const ENDLESS: Omit<QueueConsumer, "consumer" | "leaseMs"> = { maxAttempts: 1_000_000_000, maxDeadLetters: 1 };
const WAIT_MS = 2_000;
/** Beyond this share of its lease since the last renewal a turn is not relied on: the rest is for what is under way. */
const SURE = 2 / 3;

/**
 * Waits for the turn, which is the lease of one item in a queue of the store.
 *
 * @returns nothing when the signal aborted
 */
export async function takeTurn(options: TurnOptions): Promise<Turn | undefined> {
  const { queue, name, leaseMs, clock, signal, waiting, report } = options;
  const consumer: QueueConsumer = { consumer: `${process.pid}-${randomUUID()}`, leaseMs, ...ENDLESS };
  const item = { id: name, recipient: name, header: "turn", data: "", priority: 0, delayMs: 0 };
  const open = (): ReturnType<Queue["open"]> => queue.open(TURNS, name, consumer);
  const feed = new HeldFeed({ open, clock, abandoned: () => undefined, report });
  let turn: Turn | undefined;
  try {
    while (turn === undefined && !signal.aborted) {
      // Each time, since somebody may have emptied the store: what is there already is not stored again.
      await queue.push(TURNS, [item], { maxItems: MAX_TURNS });
      const taken = await feed.call((open) => open.take({ max: 1, waitMs: WAIT_MS, signal }, []), WAIT_MS);
      const receipt = taken.deliveries[0]?.receipt;
      if (receipt === undefined) {
        waiting();
        continue;
      }
      // Its lease began somewhere in the wait; from here on its beginning is known.
      const found = new Turn(feed, receipt, options);
      await found.renew();
      if (found.isHeld()) turn = found;
    }
    return turn;
  } finally {
    if (turn === undefined) await feed.close().catch(report);
  }
}

/** The turn of this process, until it is released, or lost for want of renewal. */
export class Turn {
  readonly #feed: HeldFeed;
  readonly #receipt: Receipt;
  readonly #options: TurnOptions;
  #renewedAt = Number.NEGATIVE_INFINITY;
  #lost = false;

  constructor(feed: HeldFeed, receipt: Receipt, options: TurnOptions) {
    this.#feed = feed;
    this.#receipt = receipt;
    this.#options = options;
  }

  /** Whether it is certainly still ours. */
  isHeld(): boolean {
    const { clock, leaseMs } = this.#options;
    return !this.#lost && clock.now() - this.#renewedAt < leaseMs * SURE;
  }

  /** Keeps it for another lease; to be called every third of one. */
  async renew(): Promise<void> {
    const askedAt = this.#options.clock.now();
    const lost = await this.#feed.call((feed) => feed.extend([this.#receipt]));
    if (lost.length > 0) this.#lost = true;
    else this.#renewedAt = askedAt;
  }

  /** Hands it on at once. Never rejects: should the store be away, the lease runs out. */
  async release(): Promise<void> {
    this.#lost = true;
    await this.#feed.close().catch(this.#options.report);
  }
}
