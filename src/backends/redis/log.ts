/** The log port on Redis: a stream for each name, a stream group for each group, scripts for everything else. */

import type { Entry, GroupSettings, Log, NewEntry, Range, Retention } from "../../core/backend.js";
import { NotFoundError } from "../../core/errors.js";
import { streamFull } from "../../core/limits.js";
import { blobOf, fromBlob, listOf, textOf, toBlob } from "./blob.js";
import type { Arg, PortDependencies, Reply } from "./connection.js";
import { createDeadLetters } from "./dead-letters.js";
import { logKeys } from "./keys.js";
import { createLogSource } from "./log-feed.js";
import { makeGroup, readStats } from "./log-groups.js";
import { byName, createPort } from "./port.js";
import { checkedPosition, isBefore, positionsFrom } from "./positions.js";
import { loadScript } from "./scripts.js";

const append = loadScript("log-append");

/** As many as fit into one reply that comes quickly. */
const MAX_READ = 1_000;

export function createLog(dependencies: PortDependencies): Log & { close(): Promise<void> } {
  const { connections, context } = dependencies;
  const port = createPort(dependencies);
  const keysOf = byName((stream) => logKeys(context.namespace, stream));
  const appendKeysOf = byName((stream) => {
    const keys = keysOf(stream);
    return [keys.stream, keys.parked, keys.dropped, keys.publisher(port.publisherId)];
  });

  function make(
    stream: string,
    group: string,
    settings: GroupSettings,
    mode: "create" | "restore",
  ): Promise<GroupSettings> {
    const keys = keysOf(stream);
    return makeGroup({ keys, stream, group }, settings, mode, port.repeating(keys.stream), context);
  }

  return {
    async append(stream, entries, retention) {
      port.assertOpen();
      if (entries.length === 0) return [];
      const reply = await port.publish(append, appendKeysOf(stream), appendArgs(entries, retention));
      if (reply === "LIMIT") throw streamFull(stream, retention.maxEntries);
      return positionsFrom(reply, entries.length);
    },

    async read(stream, range) {
      port.assertOpen();
      if (range.max <= 0) return [];
      const { stream: key } = keysOf(stream);
      const words = ["XRANGE", key, startOfRange(range), "+", "COUNT", String(Math.min(range.max, MAX_READ))];
      return listOf(await port.repeating(key).command(words)).map(toEntry);
    },

    async createGroup(stream, group, settings) {
      port.assertOpen();
      return make(stream, group, settings, "create");
    },

    async open(stream, group, consumer) {
      port.assertOpen();
      const keys = keysOf(stream);
      const stored = await port.repeating(keys.stream).command(["HGET", keys.groups, group]);
      if (stored === null) throw new NotFoundError(`stream "${stream}" has no group "${group}": create it first`);
      port.assertOpen();
      const settings = JSON.parse(textOf(stored)) as GroupSettings; // As `makeGroup` wrote it.
      const restoreGroup = async (): Promise<void> => {
        await make(stream, group, settings, "restore");
      };
      return port.openFeed(createLogSource({ keys, group, consumer, settings, connections, port, restoreGroup }));
    },

    deadLetters: (stream, group) => createDeadLetters(port, keysOf(stream).group(group).dead, (stored) => stored),

    async stats(stream) {
      port.assertOpen();
      const keys = keysOf(stream);
      return readStats(keys, port.repeating(keys.stream));
    },

    close: () => port.close(),
  };
}

function appendArgs(entries: readonly NewEntry[], { maxEntries, overflow }: Retention): Arg[] {
  const keyed = entries.some(({ key }) => key !== undefined);
  const args: Arg[] = [String(maxEntries), overflow, keyed ? "1" : "0"];
  for (const { header, data, key } of entries) {
    args.push(toBlob(header, data));
    if (keyed) args.push(key === undefined ? "" : `+${key}`);
  }
  return args;
}

function startOfRange({ from, after }: Range): string {
  if (from !== undefined) checkedPosition(from);
  if (after !== undefined) checkedPosition(after);
  if (after !== undefined && (from === undefined || !isBefore(after, from))) return `(${after}`;
  return from ?? "-";
}

function toEntry(reply: Reply): Entry {
  const [id, fields] = listOf(reply);
  return { position: textOf(id), ...fromBlob(blobOf(listOf(fields))) };
}
