/** How a recipient of a queue is consumed: the scripts behind the feed. */

import { randomBytes } from "node:crypto";
import type { Delivery, Outcome, QueueConsumer, Receipt } from "../../core/backend.js";
import { ConnectionError } from "../../core/errors.js";
import { bufferOf, fromBlob, listOf, numberOf, textOf } from "./blob.js";
import type { Arg, Connections, OwnConnection, Reply } from "./connection.js";
import { fromStoredId, type QueueKeys, type RecipientKeys } from "./keys.js";
import type { Port } from "./port.js";
import { loadScript } from "./scripts.js";
import { BLOCK_GRACE_MS, type Round, type RoundResult, type Source } from "./source.js";

const take = loadScript("queue-take");
const extend = loadScript("queue-extend");

export interface QueueFeedOptions {
  readonly keys: QueueKeys;
  readonly recipient: string;
  readonly consumer: QueueConsumer;
  readonly connections: Connections;
  readonly port: Pick<Port, "repeating">;
}

/** The keys that the scripts about one recipient begin with. */
export function countedKeys(keys: QueueKeys, own: RecipientKeys): readonly string[] {
  const { waiting, leased, due, attempts, expiry, counters, dead } = own;
  return [keys.records, waiting, leased, due, attempts, expiry, counters, keys.expiring, dead];
}

/** Characters of a ticket's place in line. */
const PLACE = 12;

/** The end of `<place><expiry>|<priority>|<id>`. */
function idOf(ticket: string): string {
  return ticket.slice(ticket.indexOf("|", ticket.indexOf("|", PLACE) + 1) + 1);
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

export function createQueueSource({ keys, recipient, consumer, connections, port }: QueueFeedOptions): Source {
  const own = keys.recipient(recipient);
  const shared = connections.shared(keys.records);
  const repeating = port.repeating(keys.records);
  const takeKeys = [...countedKeys(keys, own), own.bell, own.taken(consumer.consumer)];
  const rules = [consumer.leaseMs, consumer.maxAttempts, consumer.maxDeadLetters].map(String);
  const feedId = randomBytes(6).toString("base64url");
  let calls = 0;
  /** The first of the calls whose replies were lost, since the last that was heard. 0: none. */
  let firstLost = 0;
  /** The server keeps what the last call took, so only one at a time may take. */
  let taking: Promise<unknown> = Promise.resolve();

  async function run({ max, outcomes }: Round, takesAgain: boolean, connection = shared): Promise<RoundResult> {
    calls += 1;
    const call = calls;
    const { settled, receipts } = settleArgs(outcomes);
    const names = [feedId, String(call), takesAgain ? String(firstLost) : "0"];
    const args = [recipient, consumer.consumer, ...rules, String(max), ...names, ...settled];
    try {
      const result = readTaken(await take.run(connection, takeKeys, args), receipts);
      if (takesAgain) firstLost = 0;
      return result;
    } catch (error) {
      if (takesAgain && firstLost === 0 && error instanceof ConnectionError && error.interrupted) firstLost = call;
      throw error;
    }
  }

  function round(request: Round): Promise<RoundResult> {
    if (request.max === 0) return run(request, false);
    const turn = taking.then(() => run(request, true));
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
    isCurrent: () => true,
    // A lost reply is made up for by the next call that takes.
    recover: async () => ({ deliveries: [], after: undefined }),
    async extend(receipts) {
      const args = [String(consumer.leaseMs)];
      for (const receipt of receipts) {
        const { ticket, fence } = parseReceipt(receipt);
        args.push(ticket, fence);
      }
      const lost = listOf(await extend.run(repeating, [own.leased, own.attempts], args));
      return lost.map((number) => receipts[numberOf(number) - 1] ?? "");
    },
    async release(held) {
      const giveBack = (receipts: readonly Receipt[]): Round => ({
        max: 0,
        outcomes: receipts.map((receipt): Outcome => ({ receipt, as: "retry", delayMs: 0, counted: false })),
        doubtful: false,
        sweep: "no",
      });
      const { deliveries } = await run(giveBack(held), true, repeating);
      if (deliveries.length > 0) await run(giveBack(deliveries.map(({ receipt }) => receipt)), false, repeating);
    },
  };
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
    paused: false,
    restarted: false,
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
