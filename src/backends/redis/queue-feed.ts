/** How a recipient of a queue is consumed, as feeds want to know it. */

import { randomBytes } from "node:crypto";
import { type Delivery, type QueueConsumer, type Receipt, SHARED_RECIPIENT } from "../../core/backend.js";
import { listOf, numberOf } from "./blob.js";
import type { Connections, OwnConnection } from "./connection.js";
import { uptime } from "./ledger.js";
import type { Port } from "./port.js";
import type { KnownQueue } from "./queue-known.js";
import type { Recipients } from "./queue-recipients.js";
import { createTaker, parseReceipt } from "./queue-taker.js";
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
}

/** A recipient is noted as read at most so often: in a small part of the time after which it lapses. */
const MAX_UNNOTED_MS = 5_000;
const UNNOTED_SHARE = 0.05;

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
  /** The server keeps what the last call took, so only one at a time may take. */
  let taking: Promise<unknown> = Promise.resolve();

  async function take(request: Round): Promise<RoundResult> {
    await reader.touch();
    if (taker.hasOrphans()) await tending.takeOver(queue);
    return taker.run(request, "take", true);
  }

  function round(request: Round): Promise<RoundResult> {
    if (request.max === 0) {
      const settle = (): Promise<RoundResult> => taker.run(request, "settle", false);
      return reader.isDue() ? reader.touch().then(settle) : settle();
    }
    const turn = taking.then(() => take(request));
    taking = turn.catch(() => undefined);
    return turn;
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
    touch: () => reader.touch(),
    block,
    isCurrent: () => true,
    // A lost reply is made up for by the next call that takes.
    recover: async () => ({ deliveries: [], after: undefined }),
    async extend(receipts) {
      await reader.touch();
      const args = [String(consumer.leaseMs)];
      for (const receipt of receipts) {
        const { ticket, fence } = parseReceipt(receipt);
        args.push(ticket, fence);
      }
      const lost = listOf(await extendScript.run(port.repeating(keys.records), [own.leased, own.attempts], args));
      return lost.map((number) => receipts[numberOf(number) - 1] ?? "");
    },
    async release(held) {
      const { deliveries } = await taker.run(giveBack(held), "release", true);
      const lost = deliveries.map(({ receipt }) => receipt);
      if (lost.length > 0) await taker.run(giveBack(lost), "release", false);
      await reader.leave();
    },
  };
}

interface Reader {
  /** Other feeds may have the consumer's name. */
  readonly feedId: string;
  start(): Promise<void>;
  /** Whether it is to be noted again that somebody reads. */
  isDue(): boolean;
  /** Keeps the recipient registered, and known to be listening. */
  touch(): Promise<void>;
  /** Notes it whether it is due or not. */
  note(): Promise<void>;
  leave(): Promise<void>;
}

/** Notes that a recipient is read, where others are to know: nobody registers the shared one. */
function createReader({ queue, recipient, consumer, recipients }: QueueFeedOptions): Reader {
  const feedId = randomBytes(6).toString("base64url");
  let dueAt = Number.POSITIVE_INFINITY;

  async function note(mode: "register" | "leave"): Promise<void> {
    const startedAt = uptime();
    const ttlMs = await recipients.read(queue, recipient, consumer.registration, feedId, mode);
    dueAt = startedAt + Math.min(MAX_UNNOTED_MS, (ttlMs ?? MAX_UNNOTED_MS) * UNNOTED_SHARE);
  }

  return {
    feedId,
    start: async () => (recipient === SHARED_RECIPIENT ? undefined : note("register")),
    isDue: () => uptime() >= dueAt,
    touch: async () => (uptime() >= dueAt ? note("leave") : undefined),
    note: () => note("leave"),
    leave: async () => (recipient === SHARED_RECIPIENT ? undefined : recipients.leave(queue, recipient, feedId)),
  };
}

/** Makes deliveries available again, uncounted. */
function giveBack(receipts: readonly Receipt[]): Pick<Round, "max" | "outcomes"> {
  return { max: 0, outcomes: receipts.map((receipt) => ({ receipt, as: "retry", delayMs: 0, counted: false })) };
}
