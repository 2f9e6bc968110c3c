/** How a group of the log is consumed: the scripts behind the feed, and what to do when the group is gone. */

import type { Delivery, GroupSettings, Outcome, Receipt } from "../../core/backend.js";
import { blobOf, bufferOf, fromBlob, listOf, numberOf, textOf } from "./blob.js";
import type { Arg, Connections, OwnConnection, Reply } from "./connection.js";
import { isReply } from "./errors.js";
import type { GroupKeys, LogKeys } from "./keys.js";
import type { Port } from "./port.js";
import { loadScript } from "./scripts.js";
import { BLOCK_GRACE_MS, type Round, type RoundResult, type Source } from "./source.js";

const take = loadScript("log-take");
const extend = loadScript("log-extend");
const recover = loadScript("log-recover");
const release = loadScript("log-release");

const RECOVERED_AT_ONCE = "200";

export interface LogFeedOptions {
  readonly keys: LogKeys;
  readonly group: string;
  readonly consumer: string;
  readonly settings: GroupSettings;
  readonly connections: Connections;
  readonly port: Pick<Port, "repeating">;
  /** Makes the group anew at the beginning of the stream. */
  readonly restoreGroup: () => Promise<void>;
}

/**
 * A delivery's receipt is its position when it is the first, otherwise `<position>/<fence>/<attempt>`. The fence grows
 * with each delivery, whether the attempt is counted or not.
 */
function parseReceipt(receipt: Receipt): {
  readonly position: string;
  readonly fence: string;
  readonly attempt: number;
} {
  const [position = "", fence = "0", attempt = "1"] = receipt.split("/");
  return { position, fence, attempt: Number(attempt) };
}

export function createLogSource(options: LogFeedOptions): Source {
  const { keys, group, consumer, connections, port, settings, restoreGroup } = options;
  const own = keys.group(group);
  const shared = connections.shared(keys.stream);
  const repeating = port.repeating(keys.stream);
  const takeKeys = takeKeysOf(keys, own);

  async function round(request: Round): Promise<RoundResult> {
    const { args, receipts } = takeArgs(group, consumer, request);
    const { result, missing } = readTaken(await take.run(shared, takeKeys, args), receipts);
    if (!missing) return result;
    // Somebody deleted the group, its stream, or everything: consuming goes on.
    await restoreGroup();
    if (result.deliveries.length > 0 || request.max === 0) return result;
    const again = takeArgs(group, consumer, { ...request, outcomes: [] });
    const { result: found } = readTaken(await take.run(shared, takeKeys, again.args), []);
    return { ...found, lost: result.lost, gone: result.gone + found.gone, poisoned: result.poisoned + found.poisoned };
  }

  async function block(connection: OwnConnection, max: number, ms: number): Promise<readonly Delivery[]> {
    const words = ["XREADGROUP", "GROUP", group, consumer, "COUNT", String(max), "BLOCK", String(ms)];
    try {
      const deadlineMs = ms + BLOCK_GRACE_MS;
      const reply = await connection.command([...words, "STREAMS", keys.stream, ">"], { deadlineMs });
      return readStreams(reply);
    } catch (error) {
      // The next round finds out what happened to the group, and restores it.
      if (isReply(error, "NOGROUP")) return [];
      throw error;
    }
  }

  return {
    key: keys.stream,
    leaseMs: settings.leaseMs,
    round,
    async read(max) {
      const words = ["XREADGROUP", "GROUP", group, consumer, "COUNT", String(max), "STREAMS", keys.stream, ">"];
      return readStreams(await shared.command(words));
    },
    block,
    async recover(after) {
      const args = [group, consumer, after === "" ? "0-0" : after, RECOVERED_AT_ONCE];
      const [last, receipts, ...blobs] = listOf(await recover.run(repeating, [keys.stream, own.attempts], args));
      return { deliveries: toDeliveries(receipts, blobs), after: textOf(last) === "" ? undefined : textOf(last) };
    },
    async extend(receipts) {
      const args = [group, consumer];
      for (const receipt of receipts) {
        const { position, fence } = parseReceipt(receipt);
        args.push(position, fence);
      }
      const lost = listOf(await extend.run(repeating, [keys.stream, own.attempts], args));
      return lost.map((number) => receipts[numberOf(number) - 1] ?? "");
    },
    async release() {
      const released = [keys.stream, own.attempts, own.due, keys.parked];
      while (numberOf(await release.run(repeating, released, [group, consumer])) === 1);
    },
  };
}

function takeKeysOf(keys: LogKeys, own: GroupKeys): readonly string[] {
  return [keys.stream, own.attempts, own.due, own.dead, keys.groups, keys.parked, keys.dropped, own.sweep];
}

const SWEEPS: Readonly<Record<Round["sweep"], string>> = { no: "0", abandoned: "1", consumers: "2" };

/** The script's arguments, and the receipts in the order in which it numbers them. */
function takeArgs(
  group: string,
  consumer: string,
  { max, outcomes, doubtful, sweep }: Round,
): { args: Arg[]; receipts: readonly Receipt[] } {
  const plain: Receipt[] = [];
  const others: Outcome[] = [];
  for (const outcome of outcomes) {
    if (outcome.as === "ack" && !outcome.receipt.includes("/")) plain.push(outcome.receipt);
    else others.push(outcome);
  }
  const args = [group, consumer, String(max), SWEEPS[sweep], doubtful ? "1" : "0", plain.join(" ")];
  for (const outcome of others) {
    const { position, fence } = parseReceipt(outcome.receipt);
    if (outcome.as === "ack") args.push("ack", position, fence, "", "");
    else if (outcome.as === "deadLetter") args.push("dead", position, fence, JSON.stringify(outcome.reason), "");
    else args.push("retry", position, fence, String(outcome.delayMs), outcome.counted ? "1" : "0");
  }
  return { args, receipts: [...plain, ...others.map(({ receipt }) => receipt)] };
}

function readTaken(reply: Reply, sent: readonly Receipt[]): { result: RoundResult; missing: boolean } {
  const [head, lost, receipts, ...blobs] = listOf(reply);
  const [gone = 0, poisoned = 0, untilDue = -1, left = 0, missing = 0] = textOf(head).split(" ").map(Number);
  return {
    missing: missing === 1,
    result: {
      deliveries: toDeliveries(receipts, blobs),
      lost: words(lost).map((number) => sent[Number(number) - 1] ?? ""),
      gone,
      poisoned,
      expired: 0,
      readyInMs: untilDue < 0 ? undefined : untilDue,
      moreAbandoned: left === 1,
    },
  };
}

function words(text: Reply | undefined): readonly string[] {
  const joined = textOf(text);
  return joined === "" ? [] : joined.split(" ");
}

function toDeliveries(joined: Reply | undefined, blobs: readonly Reply[]): Delivery[] {
  return words(joined).map((receipt, index) => {
    const first = !receipt.includes("/");
    const { position, attempt } = first ? { position: receipt, attempt: 1 } : parseReceipt(receipt);
    const { header, data } = fromBlob(bufferOf(blobs[index]));
    return { receipt, position, attempt, header, data };
  });
}

/** First deliveries, as XREADGROUP gives them. */
function readStreams(reply: Reply): Delivery[] {
  const deliveries: Delivery[] = [];
  for (const stream of listOf(reply)) {
    for (const entry of listOf(listOf(stream)[1])) {
      const parts = listOf(entry);
      const position = textOf(parts[0]);
      const { header, data } = fromBlob(blobOf(listOf(parts[1])));
      deliveries.push({ receipt: position, position, attempt: 1, header, data });
    }
  }
  return deliveries;
}
