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
import { audienceName, MAX_PLACES, ticketTail, toRecord } from "./records.js";
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

/** Items grouped by recipient; an id that comes twice is sent the first time. */
function pushArgs(queue: KnownQueue, items: readonly NewItem[], limits: QueueLimits): Batch {
  const { maxItems, overflow = "reject", records } = limits;
  const seen = new Set<string>();
  const named = new Map<string, number[]>();
  const audiences = new Map<string, number[]>();
  let isTimed = false;
  let isRemembered = false;
  for (let index = 0; index < items.length; index += 1) {
    const item = items[index];
    if (item === undefined || seen.has(item.id)) continue;
    seen.add(item.id);
    isTimed ||= item.delayMs > 0 || item.ttlMs !== undefined;
    isRemembered ||= item.dedupe === true;
    const { recipient } = item;
    const [groups, name] =
      typeof recipient === "string" ? [named, recipient] : [audiences, audienceName(recipient.audience)];
    const indices = groups.get(name);
    if (indices === undefined) groups.set(name, [index]);
    else indices.push(index);
  }
  const sent = [...named.values(), ...audiences.values()].flat();
  const has = (isTimed ? "t" : "") + (queue.indexed === undefined ? "" : "f");
  const remembered = isRemembered ? rememberedIn(items, sent) : "";
  const args: Arg[] = [String(maxItems), overflow, queue.settings, has, remembered];
  args.push(String(DEDUPE_MAX_IDS), String(DEDUPE_WINDOW_MS), String(sent.length), audiences.size > 0 ? "1" : "0");
  args.push(records === undefined ? "" : writeSettings(records));
  const keys: string[] = [];
  const add = (name: string, recipient: string | undefined, indices: readonly number[]): void => {
    args.push(name, String(indices.length));
    for (const index of indices) {
      const item = items[index];
      if (item !== undefined) addItem(args, item, index, recipient, isTimed, queue.indexed);
    }
  };
  for (const [recipient, indices] of named) {
    const { waiting, due, bell, expiry } = queue.keys.recipient(recipient);
    keys.push(waiting, due, bell, expiry);
    const name = encodeName(recipient);
    add(name, name, indices);
  }
  for (const [name, indices] of audiences) add(name, undefined, indices);
  return { keys, args, sent, audiences: [...audiences.values()] };
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
  const { id, priority, delayMs, ttlMs } = item;
  args.push(toStoredId(id), toRecord(item, index, recipient), ticketTail(index, priority), String(-priority));
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
