/** How a group of the log is consumed: the scripts behind the feed, and what to do when the group is gone. */

import type { Delivery, GroupSettings, Outcome, Receipt } from "../../core/backend.js";
import { ConnectionError, NotFoundError } from "../../core/errors.js";
import { blobOf, bufferOf, fromBlob, listOf, numberOf, redrivenFor, textOf } from "./blob.js";
import type { Arg, Connection, Connections, OwnConnection, Reply } from "./connection.js";
import { isReply } from "./errors.js";
import type { GroupKeys, LogKeys } from "./keys.js";
import type { Port } from "./port.js";
import { loadScript } from "./scripts.js";
import { settingsFrom } from "./settings.js";
import { BLOCK_GRACE_MS, type Brought, type Round, type RoundResult, type Source } from "./source.js";

const take = loadScript("log-take");
const extend = loadScript("log-extend");
const recover = loadScript("log-recover");
const release = loadScript("log-release");

const RECOVERED_AT_ONCE = "200";
/** Of a group that was never sought. */
const NO_BASE = "0";
/** A position that nothing comes behind. */
const LAST_OF_ALL = "18446744073709551615-18446744073709551615";

export interface LogFeedOptions {
  readonly keys: LogKeys;
  readonly stream: string;
  readonly group: string;
  readonly consumer: string;
  /** As they are stored now. */
  readonly settings: GroupSettings;
  readonly connections: Connections;
  readonly port: Pick<Port, "repeating">;
  /**
   * Makes the group anew at the beginning of the stream.
   *
   * @throws {NotFoundError} when it was deleted
   */
  readonly restoreGroup: (settings: GroupSettings) => Promise<void>;
}

/**
 * A first delivery's receipt is its position while the group was never sought, otherwise all are
 * `<position>/<fence>/<attempt>`. The fence grows with each delivery, whether the attempt is counted or not; it begins with
 * the group's base, which a seek puts beyond all fences there have been.
 */
function parseReceipt(receipt: Receipt): {
  readonly position: string;
  readonly fence: string;
  readonly attempt: number;
} {
  const [position = "", fence = NO_BASE, attempt = "1"] = receipt.split("/");
  return { position, fence, attempt: Number(attempt) };
}

/** What a consumer knows of its group, as the scripts have told it last. */
interface Known {
  settings: GroupSettings;
  base: string;
  /** Whether a script has told the base yet. */
  isHeard: boolean;
  /** With order: behind which position to wait for more; undefined when nothing more may be read. */
  waitBehind: string | undefined;
}

export function createLogSource(options: LogFeedOptions): Source {
  const { keys, stream, group, consumer, connections, port, restoreGroup } = options;
  const own = keys.group(group);
  const shared = connections.shared(keys.stream);
  const repeating = port.repeating(keys.stream);
  const takeKeys = takeKeysOf(keys, own);
  const known: Known = { settings: options.settings, base: NO_BASE, isHeard: false, waitBehind: undefined };

  async function run(request: Round, ahead?: Connection): Promise<TakeReply> {
    const { args, receipts } = takeArgs(group, consumer, known, request);
    let connection = ahead ?? shared;
    const send = (command: readonly Arg[]): Promise<Reply> => {
      const sent = connection.command(command);
      // Should the server not know the script, then its source must not stand behind the wait.
      connection = shared;
      return sent;
    };
    const answer = await take.through(send, takeKeys, args);
    if (answer === null) throw new ConnectionError("the connection was dropped to end a wait", { interrupted: true });
    const reply = readTaken(answer, receipts, known);
    known.isHeard = true;
    known.base = reply.base;
    known.settings = reply.settings ?? known.settings;
    if (reply.waitBehind !== "-") known.waitBehind = reply.waitBehind === "later" ? undefined : reply.waitBehind;
    return reply;
  }

  async function round(request: Round, ahead?: Connection): Promise<RoundResult> {
    const { result, missing } = await run(request, ahead);
    if (missing === "no") return result;
    if (missing === "deleted") throw new NotFoundError(`the group "${group}" of stream "${stream}" was deleted`);
    // Somebody deleted the group beneath us, or its stream, or everything: consuming goes on.
    await restoreGroup(known.settings);
    if (result.deliveries.length > 0 || request.max === 0) return result;
    const { result: found } = await run({ ...request, outcomes: [] });
    return { ...found, lost: result.lost, gone: result.gone + found.gone, poisoned: result.poisoned + found.poisoned };
  }

  const { read, block } = createReading(options, known);

  return {
    key: keys.stream,
    get leaseMs() {
      return known.settings.leaseMs;
    },
    get read() {
      return known.settings.order === "none" ? read : undefined;
    },
    round,
    block,
    isCurrent: (receipt) => known.base === NO_BASE || BigInt(parseReceipt(receipt).fence) >= BigInt(known.base),
    async recover(after) {
      const args = [group, consumer, after === "" ? "0-0" : after, RECOVERED_AT_ONCE];
      const scriptKeys = [keys.stream, own.attempts, keys.groups, keys.parked, own.sweep, own.busy, own.held];
      const [last, base, receipts, ...blobs] = listOf(await recover.run(repeating, scriptKeys, args));
      const deliveries = toDeliveries(receipts, textOf(base), blobs);
      return { deliveries, after: textOf(last) === "" ? undefined : textOf(last) };
    },
    async extend(receipts) {
      const args = [group, consumer];
      for (const receipt of receipts) {
        const { position, fence } = parseReceipt(receipt);
        args.push(position, fence);
      }
      const lost = listOf(await extend.run(repeating, [keys.stream, own.attempts, own.sweep], args));
      return lost.map((number) => receipts[numberOf(number) - 1] ?? "");
    },
    async release() {
      const released = [keys.stream, own.attempts, own.due, keys.parked, own.sweep];
      while (numberOf(await release.run(repeating, released, [group, consumer])) === 1);
    },
  };
}

/** Reading without a script, which is cheaper: while no order has to be kept, and what comes is new and nothing else. */
function createReading(options: LogFeedOptions, known: Known): Required<Pick<Source, "read" | "block">> {
  const { keys, group, consumer, connections, port } = options;
  const shared = connections.shared(keys.stream);
  const repeating = port.repeating(keys.stream);
  const askBase = ["HGET", keys.group(group).sweep, "base"];

  /** First deliveries, as XREADGROUP gives them. */
  function toFirst(reply: Reply, base: string): readonly Delivery[] {
    const deliveries: Delivery[] = [];
    const foreign: string[] = [];
    const [entries = []] = listOf(reply).map((one) => listOf(listOf(one)[1]));
    for (const entry of entries) {
      const parts = listOf(entry);
      const position = textOf(parts[0]);
      const fields = listOf(parts[1]);
      if (fields.length > 2 && (redrivenFor(fields) ?? group) !== group) foreign.push(position);
      else deliveries.push(toDelivery(position, base, fromBlob(blobOf(fields))));
    }
    // Not worth waiting for: what is not acknowledged now is so by whoever finds it abandoned.
    if (foreign.length > 0) repeating.command(["XACK", keys.stream, group, ...foreign]).catch(() => {});
    return deliveries;
  }

  /**
   * The settlement before it tells whether the base is still this one. A seek in the moment between the two shows in the next
   * round: what was read here then comes once more, with a receipt that counts.
   */
  async function read(max: number): Promise<readonly Delivery[]> {
    const { base } = known;
    const words = ["XREADGROUP", "GROUP", group, consumer, "COUNT", String(max), "STREAMS", keys.stream, ">"];
    return toFirst(await shared.command(words), base);
  }

  async function block(connection: OwnConnection, max: number, ms: number): Promise<Brought> {
    const deadline = { deadlineMs: ms + BLOCK_GRACE_MS };
    const waiting = ["BLOCK", String(ms), "STREAMS", keys.stream];
    if (known.settings.order !== "none") {
      // Whose turn it is only the script can tell: this is no more than its wake-up.
      await connection.command(["XREAD", "COUNT", "1", ...waiting, known.waitBehind ?? LAST_OF_ALL], deadline);
      return [];
    }
    const { base } = known;
    const words = ["XREADGROUP", "GROUP", group, consumer, "COUNT", String(max), ...waiting, ">"];
    try {
      const [reply, after] = await connection.pair(words, askBase, deadline);
      const deliveries = toFirst(reply, base);
      // A seek wakes all that block. What they are given then has other receipts, or was theirs no more when it came.
      return deliveries.length === 0 || (after === null ? NO_BASE : textOf(after)) === base ? deliveries : "unknown";
    } catch (error) {
      // The next round finds out what happened to the group, and restores it.
      if (isReply(error, "NOGROUP")) return [];
      throw error;
    }
  }

  return { read, block };
}

function takeKeysOf(keys: LogKeys, own: GroupKeys): readonly string[] {
  const { stream, groups, parked, dropped, paused, deleted, limits } = keys;
  const { attempts, due, dead, sweep, busy, held } = own;
  return [stream, attempts, due, dead, groups, parked, dropped, sweep, busy, held, paused, deleted, limits];
}

const SWEEPS: Readonly<Record<Round["sweep"], string>> = { no: "0", abandoned: "1", consumers: "2" };

/** The script's arguments, and the receipts in the order in which it numbers them. */
function takeArgs(
  group: string,
  consumer: string,
  { base, settings }: Known,
  { max, outcomes, doubtful, sweep }: Round,
): { args: Arg[]; receipts: readonly Receipt[] } {
  const plain: Receipt[] = [];
  const others: Outcome[] = [];
  const suffix = base === NO_BASE ? "" : firstSuffix(base);
  for (const outcome of outcomes) {
    const { receipt } = outcome;
    const isFirst = suffix === "" ? isBare(receipt) : receipt.endsWith(suffix);
    if (outcome.as === "ack" && isFirst) plain.push(receipt);
    else others.push(outcome);
  }
  const positions = suffix === "" ? plain : plain.map((receipt) => receipt.slice(0, -suffix.length));
  const fixed = [group, consumer, String(max), SWEEPS[sweep], doubtful ? "1" : "0", base, settings.order];
  const args: Arg[] = [...fixed, JSON.stringify(positions)];
  for (const outcome of others) {
    const { position, fence } = parseReceipt(outcome.receipt);
    if (outcome.as === "ack") args.push("ack", position, fence, "", "");
    else if (outcome.as === "deadLetter") args.push("dead", position, fence, JSON.stringify(outcome.reason), "");
    else args.push("retry", position, fence, String(outcome.delayMs), outcome.counted ? "1" : "0");
  }
  return { args, receipts: [...plain, ...others.map(({ receipt }) => receipt)] };
}

function isBare(receipt: Receipt): boolean {
  return !receipt.includes("/");
}

function firstSuffix(base: string): string {
  return `/${base}/1`;
}

interface TakeReply {
  readonly result: RoundResult;
  readonly missing: "no" | "lost" | "deleted";
  readonly base: string;
  /** As the script says: a position, "later", or "-". */
  readonly waitBehind: string;
  /** Told now and then. */
  readonly settings: GroupSettings | undefined;
}

function readTaken(reply: Reply, sent: readonly Receipt[], known: Known): TakeReply {
  const [head, lost, receipts, settings, ...blobs] = listOf(reply);
  const words = textOf(head).split(" ");
  const [gone = 0, poisoned = 0, untilReady = -1, left = 0, missing = 0, paused = 0] = words.slice(0, 6).map(Number);
  const [base = NO_BASE, waitBehind = "-"] = words.slice(6);
  return {
    missing: missing === 0 ? "no" : missing === 1 ? "lost" : "deleted",
    base,
    waitBehind,
    settings: textOf(settings) === "" ? undefined : settingsFrom(settings),
    result: {
      deliveries: toDeliveries(receipts, base, blobs),
      lost: wordsOf(lost).map((number) => sent[Number(number) - 1] ?? ""),
      gone,
      poisoned,
      expired: 0,
      readyInMs: untilReady < 0 ? undefined : untilReady,
      moreAbandoned: left === 1,
      paused: paused === 1,
      restarted: known.isHeard && base !== known.base,
    },
  };
}

function wordsOf(text: Reply | undefined): readonly string[] {
  const joined = textOf(text);
  return joined === "" ? [] : joined.split(" ");
}

function toDeliveries(joined: Reply | undefined, base: string, blobs: readonly Reply[]): Delivery[] {
  return wordsOf(joined).map((receipt, index) => toDelivery(receipt, base, fromBlob(bufferOf(blobs[index]))));
}

/** @param receipt as the scripts have it: of a first delivery just the position */
function toDelivery(receipt: string, base: string, { header, data }: ReturnType<typeof fromBlob>): Delivery {
  if (isBare(receipt)) {
    const first = base === NO_BASE ? receipt : receipt + firstSuffix(base);
    return { receipt: first, position: receipt, attempt: 1, header, data };
  }
  const { position, attempt } = parseReceipt(receipt);
  return { receipt, position, attempt, header, data };
}
