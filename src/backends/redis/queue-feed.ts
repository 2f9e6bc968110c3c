/** How a recipient of a queue is consumed: the scripts behind the feed. */

import { randomBytes } from "node:crypto";
import {
  type Delivery,
  type Outcome,
  type QueueConsumer,
  type Receipt,
  type Reply as Answer,
  SHARED_RECIPIENT,
} from "../../core/backend.js";
import { ConnectionError } from "../../core/errors.js";
import { listOf, numberOf, textOf } from "./blob.js";
import type { Arg, Connections, OwnConnection, Reply } from "./connection.js";
import { encodeName, fromStoredId, type QueueKeys, toStoredId } from "./keys.js";
import { uptime } from "./ledger.js";
import type { Port } from "./port.js";
import { inboxKeys, type KnownQueue } from "./queue-known.js";
import type { Recipients } from "./queue-recipients.js";
import type { Tending } from "./queue-tending.js";
import { idOf, messageOf, ticketTail, toRecord } from "./records.js";
import { loadScript } from "./scripts.js";
import { BLOCK_GRACE_MS, type Round, type RoundResult, type Source } from "./source.js";

const takeScript = loadScript("queue-take");
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

/**
 * A delivery's receipt is its ticket when it is the first, otherwise `+<fence>/<attempt>/<ticket>`. The fence grows with
 * each delivery, whether the attempt is counted or not.
 */
function parseReceipt(receipt: Receipt): { readonly ticket: string; readonly fence: string; readonly attempt: number } {
  if (!receipt.startsWith("+")) return { ticket: receipt, fence: "0", attempt: 1 };
  const slash = receipt.indexOf("/");
  const end = receipt.indexOf("/", slash + 1);
  return {
    ticket: receipt.slice(end + 1),
    fence: receipt.slice(1, slash),
    attempt: Number(receipt.slice(slash + 1, end)),
  };
}

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

/** @param outcomes what `max` more are taken behind; a `release` lets go of what is held, and registers nobody for that */
type Run = (
  request: Pick<Round, "max" | "outcomes">,
  purpose: "take" | "settle" | "release",
  takesAgain: boolean,
) => Promise<RoundResult>;

/** The script that settles and takes, and what its lost replies mean. */
function createTaker(
  { queue: { keys }, recipient, consumer, connections, port }: QueueFeedOptions,
  { feedId, note }: Pick<Reader, "feedId" | "note">,
): { readonly run: Run; hasOrphans(): boolean } {
  const own = keys.recipient(recipient);
  const shared = connections.shared(keys.records);
  const repeating = port.repeating(keys.records);
  const takeKeys = [...inboxKeys(keys, own), own.dead, own.bell, own.taken(consumer.consumer)];
  const { leaseMs, maxAttempts, maxDeadLetters, priorities = "strict", registration } = consumer;
  const rules = [encodeName(recipient), consumer.consumer, ...[leaseMs, maxAttempts, maxDeadLetters].map(String)];
  const order = registration === undefined ? priorities : `${priorities}!`;
  /** Items are waiting to be handed out whose publisher is gone. */
  let hasOrphans = false;
  let calls = 0;
  /** The first of the calls whose replies were lost, since the last that was heard. 0: none. */
  let firstLost = 0;

  const run: Run = async ({ max, outcomes }, purpose, takesAgain) => {
    calls += 1;
    const call = calls;
    const isReleasing = purpose === "release";
    const { settled, receipts, answers } = settleArgs(outcomes, isReleasing ? "back" : "retry");
    const names = [feedId, String(call), takesAgain ? String(firstLost) : "0", isReleasing ? priorities : order];
    const args = [...rules, String(max), ...names, ...settled];
    const scriptKeys = answers.length === 0 ? takeKeys : [...takeKeys, ...answerKeys(keys, answers)];
    try {
      const send = (): Promise<Reply> => takeScript.run(isReleasing ? repeating : shared, scriptKeys, args);
      let reply = await send();
      // The recipient has lapsed, or somebody has forgotten it: it is somebody new, who has nothing yet.
      while (!Array.isArray(reply)) {
        if (isReleasing) return NOTHING_TAKEN;
        await note();
        reply = await send();
      }
      const { result, orphans } = readTaken(reply, receipts);
      hasOrphans = orphans;
      // Nothing of a paused inbox is handed out, not even what was lost.
      if (takesAgain && !result.paused) firstLost = 0;
      return result;
    } catch (error) {
      if (takesAgain && firstLost === 0 && error instanceof ConnectionError && error.interrupted) firstLost = call;
      throw error;
    }
  };

  return { run, hasOrphans: () => hasOrphans };
}

const NOTHING_TAKEN: RoundResult = {
  deliveries: [],
  lost: [],
  gone: 0,
  expired: 0,
  poisoned: 0,
  readyInMs: undefined,
  moreAbandoned: false,
  paused: false,
  restarted: false,
};

/** Makes deliveries available again, uncounted. */
function giveBack(receipts: readonly Receipt[]): Pick<Round, "max" | "outcomes"> {
  return { max: 0, outcomes: receipts.map((receipt) => ({ receipt, as: "retry", delayMs: 0, counted: false })) };
}

interface Settled {
  /** The script's arguments. */
  readonly settled: readonly Arg[];
  /** In the order in which the script numbers them. */
  readonly receipts: readonly Receipt[];
  readonly answers: readonly Answer[];
}

/** @param retrying `back` for what its consumer only lets go of */
function settleArgs(outcomes: readonly Outcome[], retrying: "retry" | "back"): Settled {
  const plain: Receipt[] = [];
  const others: Outcome[] = [];
  for (const outcome of outcomes) {
    if (outcome.as === "ack" && outcome.reply === undefined && !outcome.receipt.startsWith("+")) {
      plain.push(outcome.receipt);
    } else {
      others.push(outcome);
    }
  }
  const answers: Answer[] = [];
  const tail: string[] = [];
  for (const outcome of others) {
    const { ticket, fence } = parseReceipt(outcome.receipt);
    if (outcome.as === "retry") {
      tail.push(retrying, ticket, fence, String(outcome.delayMs), outcome.counted ? "1" : "0", "");
      continue;
    }
    if (outcome.reply !== undefined) answers.push(outcome.reply);
    const reply = outcome.reply === undefined ? "" : String(answers.length);
    if (outcome.as === "ack") tail.push("ack", ticket, fence, "", "", reply);
    else tail.push("dead", ticket, fence, JSON.stringify(outcome.reason), "", reply);
  }
  const settled: Arg[] = [String(plain.length), String(answers.length), ...plain, ...plain.map(idOf)];
  for (const [index, answer] of answers.entries()) addAnswer(settled, answer, index);
  settled.push(...tail);
  return { settled, receipts: [...plain, ...others.map(({ receipt }) => receipt)], answers };
}

function addAnswer(args: Arg[], answer: Answer, index: number): void {
  const { id, priority, ttlMs } = answer;
  const recipient = encodeName(answer.recipient);
  const record = toRecord(answer, index, recipient);
  args.push(toStoredId(id), record, ticketTail(index, priority), String(-priority), String(ttlMs), recipient);
}

function answerKeys(keys: QueueKeys, answers: readonly Answer[]): readonly string[] {
  return answers.flatMap(({ recipient }) => {
    const { waiting, bell, expiry } = keys.recipient(recipient);
    return [waiting, bell, expiry];
  });
}

function readTaken(
  reply: Reply,
  sent: readonly Receipt[],
): { readonly result: RoundResult; readonly orphans: boolean } {
  const [head, lost, receipts, expiredIds, ...records] = listOf(reply);
  const [gone = 0, expired = 0, poisoned = 0, ready = -1, paused, orphans] = textOf(head).split(" ").map(Number);
  const result = {
    deliveries: split(receipts, "\n").map((receipt, index) => toDelivery(receipt, records[index])),
    lost: split(lost, " ").map((number) => sent[Number(number) - 1] ?? ""),
    gone,
    expired,
    poisoned,
    readyInMs: ready < 0 ? undefined : ready,
    moreAbandoned: false,
    paused: paused === 1,
    restarted: false,
  };
  const ids = split(expiredIds, "\n").map(fromStoredId);
  return { result: ids.length === 0 ? result : { ...result, expiredIds: ids }, orphans: orphans === 1 };
}

function split(text: Reply | undefined, separator: string): readonly string[] {
  const joined = textOf(text);
  return joined === "" ? [] : joined.split(separator);
}

function toDelivery(receipt: Receipt, record: Reply | undefined): Delivery {
  const { ticket, attempt } = parseReceipt(receipt);
  const { header, data } = messageOf(record);
  return { receipt, position: fromStoredId(idOf(ticket)), attempt, header, data };
}
