/** The script that settles outcomes and takes deliveries: what it is given, what it answers, and what a lost reply means. */

import type { Delivery, Outcome, QueueConsumer, Receipt, Reply as Answer } from "../../core/backend.js";
import { ConnectionError } from "../../core/errors.js";
import { listOf, textOf } from "./blob.js";
import type { Arg, Connections, Reply } from "./connection.js";
import { encodeName, fromStoredId, type QueueKeys, toStoredId } from "./keys.js";
import type { Port } from "./port.js";
import { inboxKeys, type KnownQueue } from "./queue-known.js";
import { idOf, messageOf, ticketTail, toRecord } from "./records.js";
import { loadScript } from "./scripts.js";
import type { Round, RoundResult } from "./source.js";

const takeScript = loadScript("queue-take");

/**
 * A delivery's receipt is its ticket when it is the first, otherwise `+<fence>/<attempt>/<ticket>`. The fence grows with
 * each delivery, whether the attempt is counted or not.
 */
export function parseReceipt(receipt: Receipt): {
  readonly ticket: string;
  readonly fence: string;
  readonly attempt: number;
} {
  if (!receipt.startsWith("+")) return { ticket: receipt, fence: "0", attempt: 1 };
  const slash = receipt.indexOf("/");
  const end = receipt.indexOf("/", slash + 1);
  return {
    ticket: receipt.slice(end + 1),
    fence: receipt.slice(1, slash),
    attempt: Number(receipt.slice(slash + 1, end)),
  };
}

/** Where a server keeps what one call took, should its reply be lost. The next one overwrites it: one call at a time. */
export interface ReplyCopy {
  readonly key: string;
  /** The first of the calls whose replies were lost, since the last that was heard. 0: none. */
  firstLost: number;
}

/**
 * @param outcomes what `max` more are taken behind; a `release` lets go of what is held, and registers nobody for that
 * @param copy absent: takes nothing
 */
export type Run = (
  request: Pick<Round, "max" | "outcomes">,
  purpose: "take" | "settle" | "release",
  copy?: ReplyCopy,
) => Promise<RoundResult>;

export interface TakerOptions {
  readonly queue: KnownQueue;
  readonly recipient: string;
  readonly consumer: QueueConsumer;
  readonly connections: Connections;
  readonly port: Pick<Port, "repeating">;
}

export interface Taker {
  readonly run: Run;
  /** As many as the consumer loop has fetches under way. */
  readonly copies: readonly ReplyCopy[];
  /** Items are waiting to be handed out whose publisher is gone. */
  hasOrphans(): boolean;
  /** Whether so much is settled in more than one call. */
  needsSeveral(outcomes: readonly Outcome[]): boolean;
}

const COPIES = 2;

/** @param reader names the feed, and makes its recipient known where it is not */
export function createTaker(
  { queue: { keys }, recipient, consumer, connections, port }: TakerOptions,
  reader: { readonly feedId: string; note(): Promise<void> },
): Taker {
  const own = keys.recipient(recipient);
  const shared = connections.shared(keys.records);
  const repeating = port.repeating(keys.records);
  const consumerKeys = [...inboxKeys(keys, own), own.dead, own.bell];
  const { leaseMs, maxAttempts, maxDeadLetters, priorities = "strict", registration } = consumer;
  const rules = [encodeName(recipient), consumer.consumer, ...[leaseMs, maxAttempts, maxDeadLetters].map(String)];
  const order = registration === undefined ? priorities : `${priorities}!`;
  let hasOrphans = false;
  let calls = 0;
  const copies = Array.from({ length: COPIES }, (_, copy) => ({
    key: own.taken(consumer.consumer, copy),
    firstLost: 0,
  }));
  /** Each outcome is noted as well, which takes its time. */
  let keepsRecords = false;

  const runOnce: Run = async ({ max, outcomes }, purpose, copy) => {
    calls += 1;
    const call = calls;
    const isReleasing = purpose === "release";
    const { settled, receipts, answers } = settleArgs(outcomes, isReleasing ? "back" : "retry");
    const names = [reader.feedId, String(call), String(copy?.firstLost ?? 0), isReleasing ? priorities : order];
    const args = [...rules, String(max), ...names, ...settled];
    const scriptKeys = [...consumerKeys, copy?.key ?? keys.none, ...answerKeys(keys, answers)];
    try {
      const send = (): Promise<Reply> => takeScript.run(isReleasing ? repeating : shared, scriptKeys, args);
      let reply = await send();
      // The recipient has lapsed, or somebody has forgotten it: it is somebody new, who has nothing yet.
      while (!Array.isArray(reply)) {
        if (isReleasing) return NOTHING_TAKEN;
        await reader.note();
        reply = await send();
      }
      const { result, ...rest } = readTaken(reply, receipts);
      hasOrphans = rest.hasOrphans;
      keepsRecords = rest.keepsRecords;
      // Nothing of a paused inbox is handed out, not even what was lost.
      if (copy !== undefined && !result.paused) copy.firstLost = 0;
      return result;
    } catch (error) {
      if (copy?.firstLost === 0 && error instanceof ConnectionError && error.interrupted) copy.firstLost = call;
      throw error;
    }
  };

  return {
    copies,
    hasOrphans: () => hasOrphans,
    needsSeveral: (outcomes) => inShortCalls(outcomes, keepsRecords).length > 1,
    async run(request, purpose, copy) {
      const parts = inShortCalls(request.outcomes, keepsRecords);
      if (parts.length <= 1) return runOnce(request, purpose, copy);
      const results: RoundResult[] = [];
      for (const outcomes of parts.slice(0, -1)) {
        results.push(await runOnce({ max: 0, outcomes }, purpose === "take" ? "settle" : purpose));
      }
      results.push(await runOnce({ max: request.max, outcomes: parts.at(-1) ?? [] }, purpose, copy));
      return results.reduce(together);
    },
  };
}

/** What one call may cost: as much as acknowledging so many first deliveries. */
const MAX_COST = 1_000;
/** What it costs to settle anything else, or to note the outcome as well. */
const OTHER_COST = 4;

/** The outcomes in parts that do not hold the server for long. */
function inShortCalls(outcomes: readonly Outcome[], isDear: boolean): readonly (readonly Outcome[])[] {
  // Whatever they are.
  if (outcomes.length * OTHER_COST <= MAX_COST) return [outcomes];
  const parts: Outcome[][] = [];
  let room = 0;
  for (const outcome of outcomes) {
    const cost = isDear || !isPlain(outcome) ? OTHER_COST : 1;
    if (room < cost) {
      parts.push([]);
      room = MAX_COST;
    }
    parts.at(-1)?.push(outcome);
    room -= cost;
  }
  return parts;
}

/** The usual one: a first delivery is acknowledged. */
function isPlain(outcome: Outcome): boolean {
  return outcome.as === "ack" && outcome.reply === undefined && !outcome.receipt.startsWith("+");
}

/** What calls that settle, and behind them one that may take, come to. */
function together(one: RoundResult, next: RoundResult): RoundResult {
  const expiredIds = [...(one.expiredIds ?? []), ...(next.expiredIds ?? [])].slice(0, MAX_EXPIRED_IDS);
  return {
    ...next,
    lost: [...one.lost, ...next.lost],
    gone: one.gone + next.gone,
    expired: one.expired + next.expired,
    poisoned: one.poisoned + next.poisoned,
    ...(expiredIds.length > 0 && { expiredIds }),
  };
}

const MAX_EXPIRED_IDS = 1_000;

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
    if (isPlain(outcome)) plain.push(outcome.receipt);
    else others.push(outcome);
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

interface TakeReply {
  readonly result: RoundResult;
  /** Items are waiting to be handed out whose publisher is gone. */
  readonly hasOrphans: boolean;
  readonly keepsRecords: boolean;
}

function readTaken(reply: Reply, sent: readonly Receipt[]): TakeReply {
  const [head, lost, receipts, expiredIds, ...records] = listOf(reply);
  const [gone = 0, expired = 0, poisoned = 0, ready = -1, ...flags] = textOf(head).split(" ").map(Number);
  const [paused, orphans, keeps] = flags.map((flag) => flag === 1);
  const result = {
    deliveries: split(receipts, "\n").map((receipt, index) => toDelivery(receipt, records[index])),
    lost: split(lost, " ").map((number) => sent[Number(number) - 1] ?? ""),
    gone,
    expired,
    poisoned,
    readyInMs: ready < 0 ? undefined : ready,
    moreAbandoned: false,
    paused: paused === true,
    restarted: false,
  };
  const ids = split(expiredIds, "\n").map(fromStoredId);
  return {
    result: ids.length === 0 ? result : { ...result, expiredIds: ids },
    hasOrphans: orphans === true,
    keepsRecords: keeps === true,
  };
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
