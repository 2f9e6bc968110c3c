/** How a recipient of a queue is consumed, as feeds want to know it. */

import { randomBytes } from "node:crypto";
import {
  type BackendContext,
  type Delivery,
  type QueueConsumer,
  type Receipt,
  SHARED_RECIPIENT,
} from "../../core/backend.js";
import type { Timer } from "../../core/clock.js";
import { listOf, numberOf } from "./blob.js";
import type { Connections, OwnConnection } from "./connection.js";
import type { Port } from "./port.js";
import type { KnownQueue } from "./queue-known.js";
import type { Recipients } from "./queue-recipients.js";
import { createTaker, type ReplyCopy, parseReceipt } from "./queue-taker.js";
import type { Tending } from "./queue-tending.js";
import { loadScript } from "./scripts.js";
import { BLOCK_GRACE_MS, type Round, type RoundResult, type Source } from "./source.js";

const extendScript = loadScript("queue-extend");

export interface QueueFeedOptions {
  readonly queue: KnownQueue;
  readonly recipient: string;
  readonly consumer: QueueConsumer;
  readonly connections: Connections;
  readonly port: Pick<Port, "repeating">;
  readonly recipients: Recipients;
  readonly tending: Pick<Tending, "takeOver">;
  readonly context: Pick<BackendContext, "clock" | "report">;
}

/** How long a recipient whose feed is open goes without that being noted: at most, and in parts of its time to lapse. */
const MAX_UNNOTED_MS = 10_000;
const UNNOTED_SHARE = 0.25;
/** Until it is tried again. */
const RETRY_MS = 1_000;

export interface QueueSource extends Source {
  /** Makes it known that a feed is open, and what its recipient is registered with. To be called first. */
  start(): Promise<void>;
}

export function createQueueSource(options: QueueFeedOptions): QueueSource {
  const { queue, recipient, consumer, port, tending } = options;
  const { keys } = queue;
  const own = keys.recipient(recipient);
  const reader = createReader(options);
  const taker = createTaker(options, reader);
  const turns = taker.copies.map((copy): Turn => ({ copy, takes: 0, last: Promise.resolve() }));

  let takingOver: Promise<void> | undefined;

  async function take(request: Round, copy: ReplyCopy): Promise<RoundResult> {
    // Together, so that they go on in the order in which they came.
    if (taker.hasOrphans()) await (takingOver ??= takeOver());
    return taker.run(request, "take", copy);
  }

  async function takeOver(): Promise<void> {
    try {
      await tending.takeOver(queue);
    } finally {
      takingOver = undefined;
    }
  }

  /** Takes with the copy that is free; with one where something was lost rather than with another. */
  async function takeInTurn(request: Round): Promise<RoundResult> {
    const best = turns.reduce((one, other) => (isBetter(other, one) ? other : one));
    // Between several calls another take would get what is more urgent, and be answered later.
    const others = taker.needsSeveral(request.outcomes) ? turns : [best];
    const taking = Promise.all(others.map(({ last }) => last)).then(() => take(request, best.copy));
    const last = taking.catch(() => undefined);
    for (const other of others) other.last = last;
    best.takes += 1;
    try {
      return await taking;
    } finally {
      best.takes -= 1;
    }
  }

  async function round(request: Round): Promise<RoundResult> {
    const result = await (request.max === 0 ? taker.run(request, "settle") : takeInTurn(request));
    // What was lost is for the next take, and that must not wait.
    const hasLost = !result.paused && taker.copies.some(({ firstLost }) => firstLost > 0);
    return hasLost ? { ...result, readyInMs: 0 } : result;
  }

  async function block(connection: OwnConnection, _max: number, ms: number): Promise<readonly Delivery[]> {
    await connection.command(["BZPOPMIN", own.bell, String(ms / 1_000)], { deadlineMs: ms + BLOCK_GRACE_MS });
    return [];
  }

  return {
    start: () => reader.start(),
    key: keys.records,
    leaseMs: consumer.leaseMs,
    round,
    block,
    isCurrent: () => true,
    // A lost reply is made up for by the next call that takes.
    recover: async () => ({ deliveries: [], after: undefined }),
    async extend(receipts) {
      const args = [String(consumer.leaseMs)];
      for (const receipt of receipts) {
        const { ticket, fence } = parseReceipt(receipt);
        args.push(ticket, fence);
      }
      const lost = listOf(await extendScript.run(port.repeating(keys.records), [own.leased, own.attempts], args));
      return lost.map((number) => receipts[numberOf(number) - 1] ?? "");
    },
    async release(held) {
      await reader.end();
      // What one copy had lost is given back by the next call.
      let receipts = held;
      for (const copy of taker.copies) {
        if (receipts.length === 0 && copy.firstLost === 0) continue;
        const { deliveries } = await taker.run(giveBack(receipts), "release", copy);
        receipts = deliveries.map(({ receipt }) => receipt);
      }
      if (receipts.length > 0) await taker.run(giveBack(receipts), "release");
    },
  };
}

/** Takes with the same copy go one after the other. */
interface Turn {
  readonly copy: ReplyCopy;
  /** That have not ended. */
  takes: number;
  last: Promise<unknown>;
}

function isBetter(one: Turn, other: Turn): boolean {
  if (one.takes !== other.takes) return one.takes < other.takes;
  return one.copy.firstLost > 0 && other.copy.firstLost === 0;
}

interface Reader {
  /** Other feeds may have the consumer's name. */
  readonly feedId: string;
  /** Notes that a feed is open, now and from time to time until `end`. */
  start(): Promise<void>;
  /** Notes it at once. */
  note(): Promise<void>;
  end(): Promise<void>;
}

/** Keeps a recipient registered, and known to be listening. Nobody registers the shared one. */
function createReader({ queue, recipient, consumer, recipients, context }: QueueFeedOptions): Reader {
  const feedId = randomBytes(6).toString("base64url");
  const isShared = recipient === SHARED_RECIPIENT;
  let timer: Timer | undefined;
  let beating: Promise<void> | undefined;
  let hasFailed = false;
  let hasEnded = false;

  /** Takes may note it meanwhile as well: there is one timer, and none once it has ended. */
  function beatIn(ms: number): void {
    timer?.cancel();
    if (!hasEnded) timer = context.clock.setTimer(beat, Math.max(1, ms));
  }

  async function note(mode: "register" | "leave"): Promise<void> {
    const ttlMs = await recipients.read(queue, recipient, consumer.registration, feedId, mode);
    hasFailed = false;
    beatIn(Math.min(MAX_UNNOTED_MS, (ttlMs ?? MAX_UNNOTED_MS) * UNNOTED_SHARE));
  }

  function beat(): void {
    beating = note("leave").catch((error: unknown) => {
      // Once, until it has worked again: what fails now fails for takes as well.
      if (!hasFailed) context.report(error, "noting that a recipient is read");
      hasFailed = true;
      beatIn(RETRY_MS);
    });
  }

  return {
    feedId,
    start: async () => (isShared ? undefined : note("register")),
    note: () => note("leave"),
    async end() {
      if (isShared) return;
      hasEnded = true;
      timer?.cancel();
      // What is on its way would say afterwards that the feed is open.
      await beating;
      await recipients.leave(queue, recipient, feedId);
    },
  };
}

/** Makes deliveries available again, uncounted. */
function giveBack(receipts: readonly Receipt[]): Pick<Round, "max" | "outcomes"> {
  return { max: 0, outcomes: receipts.map((receipt) => ({ receipt, as: "retry", delayMs: 0, counted: false })) };
}
