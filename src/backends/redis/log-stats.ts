/** What there is to know of a stream and its groups, in short calls of the server however much there is to count. */

import type { EntryPlace, GroupSettings, GroupStats, Retention, StreamStats } from "../../core/backend.js";
import { AuthError } from "../../core/errors.js";
import { fieldsOf, listOf, numberOf, textOf } from "./blob.js";
import type { Connection } from "./connection.js";
import { isReply, RedisReplyError } from "./errors.js";
import type { LogKeys } from "./keys.js";
import { isBefore, timeOf } from "./positions.js";
import { loadScript } from "./scripts.js";
import { settingsFrom } from "./settings.js";

const stats = loadScript("log-stats");
const count = loadScript("log-count");
const recount = loadScript("log-recount");

/** Groups that one call counts in about half a millisecond. */
const GROUPS_AT_ONCE = 25;
const PARKED_AT_ONCE = 1_000;

/** A group that somebody else made in the stream: nothing is known of it, and nothing consumes it. */
const NO_SETTINGS: GroupSettings = {
  from: "beginning",
  leaseMs: 0,
  maxAttempts: 0,
  maxDeadLetters: 0,
  order: "none",
  maxHeld: 0,
};

/** A stream at one moment, with some of its groups. */
interface Snapshot {
  readonly at: number;
  readonly length: number;
  readonly oldest: string;
  readonly newest: string;
  readonly retention: string;
  /** Entries ever added. */
  readonly added: number;
  /** Entries that were removed without the groups' knowledge. */
  readonly unknown: number;
  /** The last position ever given. */
  readonly last: string;
  readonly groups: readonly Counted[];
}

interface Counted {
  readonly group: string;
  readonly settings: GroupSettings;
  readonly cursor: string;
  readonly paused: boolean;
  readonly pending: number;
  readonly oldestPending: string;
  readonly retrying: number;
  readonly held: number;
  readonly dead: number;
  readonly progress: string;
  /** Entries that the group has had, as Redis counts them. */
  readonly read: number | undefined;
  /** Entries behind the cursor, where that is known without counting them. */
  readonly behind: number | undefined;
  readonly first: string;
}

/** Entries behind a group's cursor. */
interface Behind {
  readonly total: number;
  /** Of these, those that were redriven for other groups. */
  readonly foreign: number;
}

export async function readStats(keys: LogKeys, connection: Connection): Promise<StreamStats> {
  const [names, bytes] = await Promise.all([groupNames(keys, connection), readBytes(keys, connection)]);
  const read = (from: number): Promise<Snapshot> =>
    readSnapshot(keys, connection, names.slice(from, from + GROUPS_AT_ONCE));
  const first = read(0);
  const others: Promise<Snapshot>[] = [];
  for (let from = GROUPS_AT_ONCE; from < names.length; from += GROUPS_AT_ONCE) others.push(read(from));
  const snapshots = await Promise.all([first, ...others]);
  const [counted, parked] = await Promise.all([
    countBehind(keys, connection, snapshots),
    readParked(keys, connection, snapshots),
  ]);
  await correct(keys, connection, snapshots, counted);
  const [{ at, length, oldest, newest, retention }] = snapshots;
  return {
    length,
    bytes,
    oldest: placeOf(oldest),
    newest: placeOf(newest),
    at,
    // As `configure` wrote it.
    retention: retention === "" ? undefined : (JSON.parse(retention) as Retention),
    groups: snapshots.flatMap(({ groups }) =>
      groups.map((one) => toStats(one, counted.get(one.group), parked.get(one.group))),
    ),
  };
}

async function groupNames(keys: LogKeys, connection: Connection): Promise<readonly string[]> {
  try {
    const groups = listOf(await connection.command(["XINFO", "GROUPS", keys.stream]));
    return groups.map((group) => textOf(fieldsOf(group).get("name")));
  } catch (error) {
    // There is no such stream.
    if (isReply(error, "ERR")) return [];
    throw error;
  }
}

/** Not every user may ask, nor does every server answer. */
async function readBytes(keys: LogKeys, connection: Connection): Promise<number | undefined> {
  try {
    const bytes = await connection.command(["MEMORY", "USAGE", keys.stream]);
    return bytes === null ? 0 : numberOf(bytes);
  } catch (error) {
    if (error instanceof AuthError || error instanceof RedisReplyError) return undefined;
    throw error;
  }
}

async function readSnapshot(keys: LogKeys, connection: Connection, names: readonly string[]): Promise<Snapshot> {
  const own = names.flatMap((name) => {
    const { due, dead, sweep, held } = keys.group(name);
    return [due, dead, sweep, held];
  });
  const reply = await stats.run(connection, [keys.stream, keys.groups, keys.limits, keys.paused, ...own], names);
  const fields = listOf(reply).values();
  const text = (): string => textOf(fields.next().value);
  const number = (): number => Number(text());
  const known = (): number | undefined => {
    const value = text();
    return value === "" ? undefined : Number(value);
  };
  const stream = {
    at: number(),
    length: number(),
    oldest: text(),
    newest: text(),
    retention: text(),
    added: number(),
    unknown: number(),
    last: text(),
  };
  const groups: Counted[] = [];
  for (let next = fields.next(); next.done !== true; next = fields.next()) {
    const settings = text();
    groups.push({
      group: textOf(next.value),
      settings: settings === "" ? NO_SETTINGS : settingsFrom(settings),
      cursor: text(),
      paused: text() === "1",
      pending: number(),
      oldestPending: text(),
      retrying: number(),
      held: number(),
      dead: number(),
      progress: text(),
      read: known(),
      behind: known(),
      first: text(),
    });
  }
  return { ...stream, groups };
}

/** Counts what is behind the cursors of the groups that need it, up to the latest moment, in one go through the stream. */
async function countBehind(
  keys: LogKeys,
  connection: Connection,
  snapshots: readonly Snapshot[],
): Promise<ReadonlyMap<string, Behind>> {
  const groups = snapshots
    .flatMap((snapshot) => snapshot.groups.filter(({ behind }) => behind === undefined))
    .sort((one, other) => (isBefore(one.cursor, other.cursor) ? -1 : 1));
  const counted = new Map<string, Behind>();
  const newest = snapshots.at(-1)?.newest ?? "";
  // Where nothing is left of the stream, nothing is behind anybody.
  let after = newest === "" ? "" : (groups[0]?.cursor ?? "");
  while (after !== "") {
    const args = [after, newest, ...groups.flatMap(({ group, cursor }) => [group, cursor])];
    const [last, ...counts] = listOf(await count.run(connection, [keys.stream], args));
    groups.forEach(({ group }, index) => {
      const { total, foreign } = counted.get(group) ?? { total: 0, foreign: 0 };
      const [more, foreigners] = [numberOf(counts[2 * index]), numberOf(counts[2 * index + 1])];
      counted.set(group, { total: total + more, foreign: foreign + foreigners });
    });
    after = textOf(last);
  }
  return counted;
}

/** The milliseconds of the oldest entry that each group has parked. */
async function readParked(
  keys: LogKeys,
  connection: Connection,
  snapshots: readonly Snapshot[],
): Promise<ReadonlyMap<string, number>> {
  const found = new Map<string, number>();
  const missing = new Set(
    snapshots.flatMap(({ groups }) =>
      groups.filter(({ retrying, held }) => retrying + held > 0).map(({ group }) => group),
    ),
  );
  for (let from = 0; missing.size > 0; from += PARKED_AT_ONCE) {
    const range = ["ZRANGE", keys.parked, String(from), String(from + PARKED_AT_ONCE - 1)];
    const members = listOf(await connection.command(range)).map(textOf);
    for (const member of members) {
      const group = member.slice(member.indexOf(" ") + 1);
      if (missing.delete(group)) found.set(group, timeOf(member));
    }
    // What is missing then has been finished since.
    if (members.length < PARKED_AT_ONCE) break;
  }
  return found;
}

/**
 * Redis counts what it delivers to a group, and takes what somebody else removed for entries that are still to come. Once
 * they were counted, it is told; so are the groups, of what they have lost.
 */
async function correct(
  keys: LogKeys,
  connection: Connection,
  snapshots: readonly Snapshot[],
  counted: ReadonlyMap<string, Behind>,
): Promise<void> {
  const { added, unknown } = snapshots.at(-1) ?? { added: 0, unknown: 0 };
  if (snapshots.some((snapshot) => snapshot.unknown !== unknown)) return;
  const wrong: string[] = [];
  for (const snapshot of snapshots) {
    for (const { group, cursor, read, behind } of snapshot.groups) {
      const had = behind === undefined ? added - (counted.get(group)?.total ?? 0) : snapshot.added - behind;
      // A group that starts at a time to come has not had what it will pass by until then.
      if (had === read || isBefore(snapshot.last, cursor)) continue;
      wrong.push(group, cursor, read === undefined ? "" : String(read), String(had));
    }
  }
  if (wrong.length === 0 && unknown === 0) return;
  await recount.run(connection, [keys.stream, keys.dropped, keys.limits, keys.paused], [String(unknown), ...wrong]);
}

function toStats(one: Counted, counted: Behind | undefined, parkedAt: number | undefined): GroupStats {
  const { group, settings, paused, pending, retrying, held, dead, cursor } = one;
  const behind = one.behind ?? (counted === undefined ? 0 : counted.total - counted.foreign);
  const unhandled: number[] = [];
  if (one.oldestPending !== "") unhandled.push(timeOf(one.oldestPending));
  if (parkedAt !== undefined) unhandled.push(parkedAt);
  if (behind > 0 && one.first !== "") unhandled.push(timeOf(one.first));
  return {
    group,
    settings,
    paused,
    lag: behind + held,
    pending,
    retrying,
    held,
    dead,
    oldestUnhandledAt: unhandled.length === 0 ? undefined : Math.min(...unhandled),
    // Earlier builds did not note it: what was delivered last had been appended before that.
    lastProgressAt: one.progress === "" ? timeOf(cursor) : Number(one.progress),
  };
}

function placeOf(position: string): EntryPlace | undefined {
  return position === "" ? undefined : { position, at: timeOf(position) };
}
