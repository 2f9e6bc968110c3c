/** Pushing: what the script is given, what it answers, and what is left to do until a push has come through. */

import type { NewItem, Pushed, QueueLimits } from "../../core/backend.js";
import { InvalidArgumentError } from "../../core/errors.js";
import { DEDUPE_MAX_IDS, DEDUPE_WINDOW_MS, queueFull } from "../../core/limits.js";
import type { Arg } from "./connection.js";
import { encodeName, indexedValue, toStoredId } from "./keys.js";
import type { Port } from "./port.js";
import { type KnownQueue, learn, writeSettings } from "./queue-known.js";
import type { Recipients } from "./queue-recipients.js";
import type { HandedOut, Tending } from "./queue-tending.js";
import { audienceName, MAX_PLACES, placeDigits, toRecord } from "./records.js";
import { loadScript } from "./scripts.js";

const pushScript = loadScript("queue-push");

export interface Pusher {
  push(queue: KnownQueue, items: readonly NewItem[], limits: QueueLimits): Promise<readonly Pushed[]>;
}

export function createPusher(
  port: Pick<Port, "publish" | "publisherId">,
  recipients: Pick<Recipients, "forgetLapsed">,
  tending: Tending,
): Pusher {
  /** Sends a push until it is decided on. @returns what the script said, and what it was about */
  async function decide(queue: KnownQueue, items: readonly NewItem[], limits: QueueLimits) {
    for (let tries = 0; ; ) {
      const batch = pushArgs(queue, items, limits);
      const { keys } = queue;
      const fixed = [keys.records, keys.state, keys.expiring, keys.publisher(port.publisherId), keys.none];
      const reply = await port.publish(pushScript, [...fixed, ...batch.keys], batch.args);
      if (reply.startsWith("OK")) return { batch, reply };
      if (reply.startsWith("SETTINGS")) {
        learn(queue, reply.slice("SETTINGS ".length));
      } else if (reply.startsWith("LAPSED")) {
        for (const recipient of reply.split(" ").slice(1)) await recipients.forgetLapsed(queue, recipient, "all");
      } else {
        // A full queue may hold what has ended by the clock alone, and drops nothing before that.
        const mayDrop = limits.overflow === "drop-oldest" && tries === 0;
        tries += 1;
        if (!(await tending.tidy(queue)) && !mayDrop) throw queueFull(queue.name, limits.maxItems);
      }
    }
  }

  async function push(
    queue: KnownQueue,
    items: readonly NewItem[],
    limits: QueueLimits,
    mayBeExpired = true,
  ): Promise<readonly Pushed[]> {
    if (items.length === 0) return [];
    if (items.length > MAX_PLACES) throw new InvalidArgumentError(`a push takes at most ${MAX_PLACES} items`);
    const { batch, reply } = await decide(queue, items, limits);
    if (reply === "OK" && batch.sent.length === items.length) {
      return items.map(({ id }) => ({ id, duplicate: false, recipients: 1 }));
    }
    const { duplicates, audiences, isAllWell } = readReply(reply);
    const counts = await Promise.all(audiences.map((handed) => tending.finish(queue, handed)));
    if (!isAllWell) await tending.lookAfter(queue);
    const results = toPushed(items, batch, duplicates, counts);
    const isHeld = results.some(({ duplicate }) => duplicate);
    if (!isHeld || !mayBeExpired || !(await tending.tidy(queue))) return results;
    // Some id may have been that of an item which had expired, or whose recipient had lapsed, and which nobody had met yet.
    const held = items.filter((_, index) => results[index]?.duplicate === true);
    const again = (await push(queue, held, limits, false)).values();
    return results.map((result) => (result.duplicate ? (again.next().value ?? result) : result));
  }

  return { push: (queue, items, limits) => push(queue, items, limits) };
}

// -------------------------------------------------------------------------------------------- what is sent

interface Batch {
  readonly keys: readonly string[];
  readonly args: readonly Arg[];
  /** Indices of the items sent, in the order of the script's numbers. */
  readonly sent: readonly number[];
  /** Of the audiences, the indices of their items. */
  readonly audiences: readonly (readonly number[])[];
}

/** Indices of the items that are for the same recipient, by priority. */
type Shares = Map<number, number[]>;

interface Group {
  /** As the script is told. */
  readonly name: string;
  /** As in keys; undefined for an audience. */
  readonly recipient: string | undefined;
  readonly shares: Shares;
  readonly indices: readonly number[];
}

/** Items grouped by recipient and priority; an id that comes twice is sent the first time. */
function pushArgs(queue: KnownQueue, items: readonly NewItem[], limits: QueueLimits): Batch {
  const { maxItems, overflow = "reject", records } = limits;
  const areNew = items.every(({ isNew }) => isNew === true);
  const seen = new Set<string>();
  const named = new Map<string, Shares>();
  const audiences = new Map<string, Shares>();
  let isTimed = false;
  let isRemembered = false;
  for (let index = 0; index < items.length; index += 1) {
    const item = items[index];
    if (item === undefined || seen.has(item.id)) continue;
    if (!areNew) seen.add(item.id);
    isRemembered ||= item.dedupe === true;
    isTimed ||= item.delayMs > 0 || item.ttlMs !== undefined;
    const { recipient } = item;
    if (typeof recipient === "string") addTo(named, recipient, item.priority, index);
    else addTo(audiences, audienceName(recipient.audience), item.priority, index);
  }
  const toAudiences = [...audiences].map(([name, shares]) => groupOf(name, undefined, shares));
  const groups = [...named].map(([recipient, shares]) => {
    const name = encodeName(recipient);
    return groupOf(name, name, shares);
  });
  groups.push(...toAudiences);
  const sent = groups.flatMap(({ indices }) => indices);
  const has = (isTimed ? "t" : "") + (queue.indexed === undefined ? "" : "f");
  const remembered = isRemembered ? rememberedIn(items, sent) : "";
  const args: Arg[] = [String(maxItems), overflow, queue.settings, has, remembered];
  args.push(String(DEDUPE_MAX_IDS), String(DEDUPE_WINDOW_MS), String(sent.length), audiences.size > 0 ? "1" : "0");
  args.push(records === undefined ? "" : writeSettings(records), areNew ? "new" : "", sent.map(placeDigits).join(""));
  for (const { name, recipient, shares, indices } of groups) {
    args.push(name, String(indices.length), prioritiesOf(shares));
    for (const index of indices) {
      const item = items[index];
      if (item !== undefined) addItem(args, item, index, recipient, isTimed, queue.indexed);
    }
  }
  const keys = [...named.keys()].flatMap((recipient) => {
    const { waiting, due, bell, expiry } = queue.keys.recipient(recipient);
    return [waiting, due, bell, expiry];
  });
  return { keys, args, sent, audiences: toAudiences.map(({ indices }) => indices) };
}

function addTo(groups: Map<string, Shares>, name: string, priority: number, index: number): void {
  let shares = groups.get(name);
  if (shares === undefined) {
    shares = new Map();
    groups.set(name, shares);
  }
  const indices = shares.get(priority);
  if (indices === undefined) shares.set(priority, [index]);
  else indices.push(index);
}

function groupOf(name: string, recipient: string | undefined, shares: Shares): Group {
  const indices: number[] = [];
  for (const some of shares.values()) indices.push(...some);
  return { name, recipient, shares, indices };
}

function prioritiesOf(shares: Shares): string {
  let text = "";
  for (const [priority, { length }] of shares) text += `${priority} ${-priority} ${length} `;
  return text;
}

function rememberedIn(items: readonly NewItem[], sent: readonly number[]): string {
  return sent.flatMap((index, number) => (items[index]?.dedupe === true ? [number + 1] : [])).join(" ");
}

function addItem(
  args: Arg[],
  item: NewItem,
  index: number,
  recipient: string | undefined,
  isTimed: boolean,
  indexed: KnownQueue["indexed"],
): void {
  const { id, delayMs, ttlMs } = item;
  args.push(toStoredId(id), toRecord(item, index, recipient));
  if (isTimed) args.push(String(delayMs), ttlMs === undefined ? "" : String(ttlMs));
  if (indexed !== undefined) args.push(fieldsOf(item, indexed));
}

/** Of an item's fields, those that are indexed. */
function fieldsOf({ fields = {} }: NewItem, indexed: ReadonlySet<string>): string {
  const given = Object.entries(fields).filter(([field]) => indexed.has(field));
  return given.map(([field, value]) => indexedValue(field, value)).join(" ");
}

// ---------------------------------------------------------------------------------------- what is answered

/** @param reply `OK` or `OK+` and the numbers of the duplicates, then what became of each audience, behind a bar each */
function readReply(reply: string) {
  const [first = "", ...rest] = reply.split("|");
  const [word, ...duplicates] = first.split(" ");
  const audiences = rest.map((text): HandedOut => {
    const [count, intent = "", after = "0", upto = "0"] = text.split(" ");
    return { count: Number(count), intent, numbers: [after, upto] };
  });
  return { duplicates: duplicates.map(Number), audiences, isAllWell: word === "OK" };
}

function toPushed(
  items: readonly NewItem[],
  { sent, audiences }: Batch,
  duplicates: readonly number[],
  counts: readonly number[],
): Pushed[] {
  const recipients = new Map(sent.map((index) => [index, 1]));
  for (const [audience, indices] of audiences.entries()) {
    for (const index of indices) recipients.set(index, counts[audience] ?? 0);
  }
  for (const number of duplicates) recipients.delete(sent[number - 1] ?? -1);
  return items.map(({ id }, index) => ({
    id,
    duplicate: !recipients.has(index),
    recipients: recipients.get(index) ?? 0,
  }));
}
