/** The log port on Redis: a stream for each name, a stream group for each group, scripts for everything else. */

import type {
  Appended,
  Entry,
  GroupSettings,
  GroupStart,
  GroupStats,
  Log,
  NewEntry,
  Range,
  Retention,
} from "../../core/backend.js";
import { LimitError, NotFoundError } from "../../core/errors.js";
import { blobOf, fromBlob, listOf, numberOf, textOf, toBlob } from "./blob.js";
import type { Arg, PortDependencies, Reply } from "./connection.js";
import { createDeadLetters } from "./dead-letters.js";
import { isReply } from "./errors.js";
import { type LogKeys, logKeys } from "./keys.js";
import { createLogSource } from "./log-feed.js";
import { createPort } from "./port.js";
import { loadScript } from "./scripts.js";

const append = loadScript("log-append");
const makeGroup = loadScript("log-group");

/** As many as fit into one reply that comes quickly. */
const MAX_READ = 1_000;

export function createLog(dependencies: PortDependencies): Log & { close(): Promise<void> } {
  const { connections, context } = dependencies;
  const port = createPort(dependencies);
  const keysOf = (stream: string): LogKeys => logKeys(context.namespace, stream);

  /** Counting how far into the stream a group starts may take several calls. */
  async function makeGroupOf(
    stream: string,
    group: string,
    settings: GroupSettings,
    mode: "create" | "restore",
  ): Promise<GroupSettings> {
    const keys = keysOf(stream);
    const own = keys.group(group);
    const scriptKeys = [keys.stream, keys.groups, own.attempts, own.due, keys.parked, keys.dropped, own.sweep];
    const from = startOf(settings.from);
    let progress = ["", "0"];
    for (;;) {
      const args = [group, JSON.stringify(settings), mode, from, ...progress];
      const [what, second, third] = listOf(await makeGroup.run(connections.shared(keys.stream), scriptKeys, args));
      if (textOf(what) === "count") {
        progress = [textOf(second), textOf(third)];
        continue;
      }
      if (textOf(what) === "lost" && mode === "create") {
        const message = `group "${group}" of stream "${stream}" was lost with its stream; it starts at the beginning`;
        context.report(new NotFoundError(message), "making a consumer group");
      }
      // As this function wrote it.
      return JSON.parse(textOf(second)) as GroupSettings;
    }
  }

  return {
    async append(stream, entries, retention) {
      port.assertOpen();
      if (entries.length === 0) return [];
      const keys = keysOf(stream);
      const scriptKeys = [keys.stream, keys.parked, keys.dropped, keys.publisher(port.publisherId)];
      const reply = await port.publish(append, keys.stream, scriptKeys, appendArgs(entries, retention));
      if (reply === "LIMIT") throw fullError(stream, retention);
      return positionsFrom(reply, entries.length);
    },

    async read(stream, range) {
      port.assertOpen();
      if (range.max <= 0) return [];
      const { stream: key } = keysOf(stream);
      const words = ["XRANGE", key, startOfRange(range), "+", "COUNT", String(Math.min(range.max, MAX_READ))];
      return listOf(await connections.shared(key).command(words)).map(toEntry);
    },

    async createGroup(stream, group, settings) {
      port.assertOpen();
      return makeGroupOf(stream, group, settings, "create");
    },

    async open(stream, group, consumer) {
      port.assertOpen();
      const keys = keysOf(stream);
      const stored = await connections.shared(keys.groups).command(["HGET", keys.groups, group]);
      if (stored === null) throw new NotFoundError(`stream "${stream}" has no group "${group}": create it first`);
      port.assertOpen();
      const settings = JSON.parse(textOf(stored)) as GroupSettings; // As `makeGroupOf` wrote it.
      const restoreGroup = async (): Promise<void> => {
        await makeGroupOf(stream, group, settings, "restore");
      };
      return port.openFeed(
        createLogSource({ keys, stream, group, consumer, settings, connections, context, restoreGroup }),
      );
    },

    deadLetters: (stream, group) =>
      createDeadLetters(connections, keysOf(stream).group(group).dead, (stored) => stored, port.assertOpen),

    async stats(stream) {
      port.assertOpen();
      const keys = keysOf(stream);
      const shared = connections.shared(keys.stream);
      const [length, groups] = await Promise.all([
        shared.command(["XLEN", keys.stream]),
        shared.command(["XINFO", "GROUPS", keys.stream]).catch(noGroups),
      ]);
      const stats = listOf(groups).map(async (reply): Promise<GroupStats> => {
        const fields = fieldsOf(reply);
        const group = textOf(fields.get("name"));
        const { due, dead } = keys.group(group);
        const counts = [shared.command(["ZCARD", due]), shared.command(["XLEN", dead])];
        const [retrying = 0, letters = 0] = (await Promise.all(counts)).map(numberOf);
        const lag = fields.get("lag") ?? null;
        return {
          group,
          // Redis does not know it after somebody else deleted entries; then all of them may be unread.
          lag: lag === null ? numberOf(length) : numberOf(lag),
          pending: numberOf(fields.get("pending")),
          retrying,
          dead: letters,
        };
      });
      return { length: numberOf(length), groups: await Promise.all(stats) };
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

function fullError(stream: string, { maxEntries }: Retention): LimitError {
  return new LimitError(
    `stream "${stream}" holds its maxEntries of ${maxEntries}, and a group still has to read the oldest: ` +
      'wait for it, raise maxEntries, delete the group, or choose overflow: "drop-oldest"',
    { retryable: true },
  );
}

/** The entries of one batch follow each other. */
function positionsFrom(first: string, count: number): Appended[] {
  const [ms = "", sequence = "0"] = first.split("-");
  const start = Number(sequence);
  return Array.from({ length: count }, (_, index) => ({ position: `${ms}-${start + index}` }));
}

/** The last position that a new group has no interest in. */
function startOf(from: GroupStart): string {
  if (from === "beginning" || from === "new") return from;
  if ("after" in from) return checked(from.after);
  const ms = Math.ceil(from.time);
  return ms <= 0 ? "beginning" : `${ms - 1}-18446744073709551615`;
}

function startOfRange({ from, after }: Range): string {
  if (from !== undefined) checked(from);
  if (after !== undefined) checked(after);
  if (after !== undefined && (from === undefined || !isBefore(after, from))) return `(${after}`;
  return from ?? "-";
}

function isBefore(a: string, b: string): boolean {
  const [aMs = "", aSequence = ""] = a.split("-");
  const [bMs = "", bSequence = ""] = b.split("-");
  const ms = BigInt(aMs) - BigInt(bMs);
  return ms < 0n || (ms === 0n && BigInt(aSequence) < BigInt(bSequence));
}

/** @throws {NotFoundError} when it is no position of any stream */
function checked(position: string): string {
  if (/^\d{1,19}-\d{1,19}$/.test(position)) return position;
  throw new NotFoundError(`"${position}" is no position of this stream`);
}

function noGroups(error: unknown): Reply {
  if (isReply(error, "ERR")) return [];
  throw error;
}

function toEntry(reply: Reply): Entry {
  const [id, fields] = listOf(reply);
  return { position: textOf(id), ...fromBlob(blobOf(listOf(fields))) };
}

/** A reply that alternates names and values. */
function fieldsOf(reply: Reply): Map<string, Reply> {
  const list = listOf(reply);
  const fields = new Map<string, Reply>();
  for (let at = 0; at + 1 < list.length; at += 2) fields.set(textOf(list[at]), list[at + 1] ?? null);
  return fields;
}
