/** The queue port on Redis: a hash of records for each queue, sorted sets of tickets for each recipient. */

import type { NewItem, Pushed, Queue, QueueLimits } from "../../core/backend.js";
import { InvalidArgumentError } from "../../core/errors.js";
import { queueFull } from "../../core/limits.js";
import { listOf, numberOf, textOf, toBlob } from "./blob.js";
import type { Arg, PortDependencies } from "./connection.js";
import { type QueueKeys, queueKeys, toStoredId } from "./keys.js";
import { byName, createPort } from "./port.js";
import { countedKeys, createQueueSource } from "./queue-feed.js";
import { queueLetters } from "./redrive.js";
import { loadScript } from "./scripts.js";

const pushScript = loadScript("queue-push");
const statsScript = loadScript("queue-stats");

/** The place of an item within its push has three digits to this base. */
const BASE = 36;
const MAX_PUSH = BASE ** 3;
/** Recipients that are looked at when the queue is full. */
const EXPIRING_AT_ONCE = 100;

export function createQueue(dependencies: PortDependencies): Queue & { close(): Promise<void> } {
  const { connections, context } = dependencies;
  const port = createPort(dependencies);
  const keysOf = byName((queue) => queueKeys(context.namespace, queue));

  async function count(keys: QueueKeys, recipient: string): Promise<readonly number[]> {
    const own = keys.recipient(recipient);
    const reply = await statsScript.run(port.repeating(keys.records), countedKeys(keys, own), [recipient]);
    return listOf(reply).map(numberOf);
  }

  /** Ends what has expired in the queue and nobody has found yet. @returns whether there was any */
  async function endExpired(keys: QueueKeys): Promise<boolean> {
    const shared = port.repeating(keys.records);
    const [seconds] = listOf(await shared.command(["TIME"]));
    const now = (numberOf(seconds) + 1) * 1_000;
    const words = ["ZRANGEBYSCORE", keys.expiring, "-inf", String(now), "LIMIT", "0", String(EXPIRING_AT_ONCE)];
    const before = numberOf(await shared.command(["HLEN", keys.records]));
    await Promise.all(listOf(await shared.command(words)).map((recipient) => count(keys, textOf(recipient))));
    return numberOf(await shared.command(["HLEN", keys.records])) < before;
  }

  async function push(
    queue: string,
    items: readonly NewItem[],
    limits: QueueLimits,
    mayBeExpired = true,
  ): Promise<readonly Pushed[]> {
    port.assertOpen();
    if (items.length === 0) return [];
    if (items.length > MAX_PUSH) throw new InvalidArgumentError(`a push takes at most ${MAX_PUSH} items`);
    const keys = keysOf(queue);
    const batch = pushArgs(keys, items, limits);
    const scriptKeys = [keys.records, keys.line, keys.expiring, keys.publisher(port.publisherId), ...batch.keys];
    for (;;) {
      const reply = await port.publish(pushScript, scriptKeys, batch.args);
      if (reply !== "LIMIT") {
        const results = pushed(items, batch.sent, reply);
        const isHeld = results.some(({ duplicate }) => duplicate);
        if (!isHeld || !mayBeExpired || !(await endExpired(keys))) return results;
        // Some id may have been that of an item which had expired and which nobody had met yet.
        const held = items.filter((_, index) => results[index]?.duplicate === true);
        const again = (await push(queue, held, limits, false)).values();
        return results.map((result) => (result.duplicate ? (again.next().value ?? result) : result));
      }
      if (!(await endExpired(keys))) throw queueFull(queue, limits.maxItems);
    }
  }

  return {
    push,

    async open(queue, recipient, consumer) {
      port.assertOpen();
      return port.openFeed(createQueueSource({ keys: keysOf(queue), recipient, consumer, connections, port }));
    },

    deadLetters(queue, recipient) {
      const keys = keysOf(queue);
      return queueLetters(port, keys, recipient, () => endExpired(keys));
    },

    async stats(queue, recipient) {
      port.assertOpen();
      const [waiting = 0, leased = 0, delayed = 0, dead = 0, expired = 0] = await count(keysOf(queue), recipient);
      return { waiting, leased, delayed, dead, expired };
    },

    close: () => port.close(),
  };
}

interface Batch {
  readonly keys: readonly string[];
  readonly args: readonly Arg[];
  /** Indices of the items sent, in the order of the script's numbers. */
  readonly sent: readonly number[];
}

/** Items grouped by recipient; an id that comes twice is sent the first time. */
function pushArgs(keys: QueueKeys, items: readonly NewItem[], { maxItems }: QueueLimits): Batch {
  const seen = new Set<string>();
  const recipients = new Map<string, number[]>();
  let timed = false;
  for (let index = 0; index < items.length; index += 1) {
    const item = items[index];
    if (item === undefined || seen.has(item.id)) continue;
    const { recipient } = item;
    seen.add(item.id);
    timed ||= item.delayMs > 0 || item.ttlMs !== undefined;
    const indices = recipients.get(recipient);
    if (indices === undefined) recipients.set(recipient, [index]);
    else indices.push(index);
  }
  const args: Arg[] = [String(maxItems), timed ? "1" : "0", String(seen.size)];
  const recipientKeys: string[] = [];
  for (const [recipient, indices] of recipients) {
    const { waiting, due, bell, expiry } = keys.recipient(recipient);
    recipientKeys.push(waiting, due, bell, expiry);
    args.push(recipient, String(indices.length));
    for (const index of indices) {
      const item = items[index];
      if (item !== undefined) pushItem(args, item, index, timed);
    }
  }
  return { keys: recipientKeys, args, sent: [...recipients.values()].flat() };
}

/** Places within a batch, as text that sorts. */
function placeOf(index: number): string {
  return index.toString(BASE).padStart(3, "0");
}

/** The first of them, ready-made: as many as a facade sends at a time. */
const PLACES: readonly string[] = Array.from({ length: 256 }, (_, index) => placeOf(index));

function pushItem(args: Arg[], item: NewItem, index: number, timed: boolean): void {
  const place = PLACES[index] ?? placeOf(index);
  const { priority } = item;
  args.push(toStoredId(item.id), toBlob(item.header, item.data), `${place}|${priority}|`, String(-priority));
  if (timed) args.push(String(item.delayMs), item.ttlMs === undefined ? "" : String(item.ttlMs));
}

/** @param reply `OK` and the numbers of the duplicates among what was sent */
function pushed(items: readonly NewItem[], sent: readonly number[], reply: string): Pushed[] {
  // No duplicates, neither in the batch nor in the queue.
  if (reply === "OK" && sent.length === items.length) return items.map(({ id }) => ({ id, duplicate: false }));
  const stored = new Set(sent);
  for (const number of reply.split(" ").slice(1)) stored.delete(sent[Number(number) - 1] ?? -1);
  return items.map(({ id }, index) => ({ id, duplicate: !stored.has(index) }));
}
