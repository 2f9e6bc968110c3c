/** How a recipient of a queue is consumed: the scripts behind the feed. */

import { randomBytes } from "node:crypto";
import type { Delivery, Outcome, QueueConsumer, Receipt } from "../../core/backend.js";
import { ConnectionError } from "../../core/errors.js";
import { bufferOf, fromBlob, listOf, numberOf, textOf } from "./blob.js";
import type { Arg, Connections, OwnConnection, Reply } from "./connection.js";
import { BLOCK_GRACE_MS, type Round, type RoundResult, type Source } from "./feed.js";
import { fromStoredId, type QueueKeys, type RecipientKeys } from "./keys.js";
import { loadScript } from "./scripts.js";

const take = loadScript("queue-take");
const extend = loadScript("queue-extend");

export interface QueueFeedOptions {
  readonly keys: QueueKeys;
  readonly recipient: string;
  readonly consumer: QueueConsumer;
  readonly connections: Connections;
}

/** The keys that the scripts about one recipient begin with. */
export function countedKeys(keys: QueueKeys, own: RecipientKeys): readonly string[] {
  const { waiting, leased, due, attempts, expiry, counters, dead } = own;
  return [keys.records, waiting, leased, due, attempts, expiry, counters, keys.expiring, dead];
}

/** Where the id begins in `<place><expiry>|<priority>|<id>`; the place has 16 characters. */
function idOf(ticket: string): string {
  return ticket.slice(ticket.indexOf("|", ticket.indexOf("|", 16) + 1) + 1);
}

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

export function createQueueSource({ keys, recipient, consumer, connections }: QueueFeedOptions): Source {
  const own = keys.recipient(recipient);
  const shared = connections.shared(keys.records);
  const takeKeys = [...countedKeys(keys, own), own.bell, own.taken(consumer.consumer)];
  const rules = [consumer.leaseMs, consumer.maxAttempts, consumer.maxDeadLetters].map(String);
  const feedId = randomBytes(6).toString("base64url");
  let calls = 0;
  /** The call whose reply was lost. The server keeps what the last one took, so only one at a time may take. */
  let lostCall = "";
  let taking: Promise<unknown> = Promise.resolve();

  async function run({ max, outcomes }: Round): Promise<RoundResult> {
    calls += 1;
    const call = `${feedId}-${calls}`;
    const lost = max > 0 ? lostCall : "";
    const { settled, receipts } = settleArgs(outcomes);
    const args = [recipient, consumer.consumer, ...rules, String(max), call, lost, ...settled];
    try {
      const result = readTaken(await take.run(shared, takeKeys, args), receipts);
      if (max > 0) lostCall = "";
      return result;
    } catch (error) {
      if (max > 0) lostCall = nextLost(error, call, lost);
      throw error;
    }
  }

  function round(request: Round): Promise<RoundResult> {
    if (request.max === 0) return run(request);
    const turn = taking.then(() => run(request));
    taking = turn.catch(() => undefined);
    return turn;
  }

  async function block(connection: OwnConnection, _max: number, ms: number): Promise<readonly Delivery[]> {
    await connection.command(["BZPOPMIN", own.bell, String(ms / 1_000)], { deadlineMs: ms + BLOCK_GRACE_MS });
    return [];
  }

  return {
    key: keys.records,
    leaseMs: consumer.leaseMs,
    round,
    block,
    // A lost reply is made up for by the next call that takes.
    recover: async () => ({ deliveries: [], after: undefined }),
    async extend(receipts) {
      const args = [String(consumer.leaseMs)];
      for (const receipt of receipts) {
        const { ticket, fence } = parseReceipt(receipt);
        args.push(ticket, fence);
      }
      const lost = listOf(await extend.run(shared, [own.leased, own.attempts], args));
      return lost.map((number) => receipts[numberOf(number) - 1] ?? "");
    },
    async release(held) {
      const outcomes = held.map((receipt): Outcome => ({ receipt, as: "retry", delayMs: 0, counted: false }));
      await run({ max: 0, outcomes, doubtful: false, sweep: "no" });
    },
  };
}

/** Both the call and the one that it asked about may have come to nothing, or to something. */
function nextLost(error: unknown, call: string, before: string): string {
  return error instanceof ConnectionError && error.interrupted ? call : before;
}

/** The script's arguments, and the receipts in the order in which it numbers them. */
function settleArgs(outcomes: readonly Outcome[]): { settled: Arg[]; receipts: readonly Receipt[] } {
  const plain: Receipt[] = [];
  const others: Outcome[] = [];
  for (const outcome of outcomes) {
    if (outcome.as === "ack" && !outcome.receipt.startsWith("+")) plain.push(outcome.receipt);
    else others.push(outcome);
  }
  const settled: Arg[] = [String(plain.length), ...plain, ...plain.map(idOf)];
  for (const outcome of others) {
    const { ticket, fence } = parseReceipt(outcome.receipt);
    if (outcome.as === "ack") settled.push("ack", ticket, fence, "", "");
    else if (outcome.as === "deadLetter") settled.push("dead", ticket, fence, JSON.stringify(outcome.reason), "");
    else settled.push("retry", ticket, fence, String(outcome.delayMs), outcome.counted ? "1" : "0");
  }
  return { settled, receipts: [...plain, ...others.map(({ receipt }) => receipt)] };
}

function readTaken(reply: Reply, sent: readonly Receipt[]): RoundResult {
  const [head, lost, receipts, ...blobs] = listOf(reply);
  const [gone = 0, expired = 0, poisoned = 0, ready = -1] = textOf(head).split(" ").map(Number);
  return {
    deliveries: split(receipts, "\n").map((receipt, index) => toDelivery(receipt, blobs[index])),
    lost: split(lost, " ").map((number) => sent[Number(number) - 1] ?? ""),
    gone,
    expired,
    poisoned,
    readyInMs: ready < 0 ? undefined : ready,
    moreAbandoned: false,
  };
}

function split(text: Reply | undefined, separator: string): readonly string[] {
  const joined = textOf(text);
  return joined === "" ? [] : joined.split(separator);
}

function toDelivery(receipt: Receipt, blob: Reply | undefined): Delivery {
  const { ticket, attempt } = parseReceipt(receipt);
  const { header, data } = fromBlob(bufferOf(blob));
  return { receipt, position: fromStoredId(idOf(ticket)), attempt, header, data };
}
