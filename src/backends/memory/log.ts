/** Streams and their groups; the readable specification of the log port. */

import type {
  BackendContext,
  Bytes,
  Entry,
  GroupSettings,
  GroupStats,
  Log,
  NewEntry,
  Retention,
} from "../../core/backend.js";
import { NotFoundError } from "../../core/errors.js";
import { streamFull } from "../../core/limits.js";
import { createDeadLetters } from "./dead-letters.js";
import { type Bell, createBell, createFeed, type Tally } from "./feed.js";
import { createHeap, type Heap } from "./heap.js";
import { toBytes, toStored } from "./stored.js";
import { getOrCreate, type Session, scoped } from "./session.js";
import { type Work, WorkList } from "./worklist.js";

export interface MemoryStream {
  /** `entries[0]` has the number `first`; numbers are never used again. */
  readonly entries: StoredEntry[];
  first: number;
  readonly groups: Map<string, Group>;
  readonly bell: Bell;
}

interface StoredEntry {
  readonly position: string;
  readonly header: string;
  readonly data: Bytes;
  /** When it was appended. */
  readonly at: number;
}

interface LogWork extends Work {
  readonly number: number;
}

interface Group {
  readonly settings: GroupSettings;
  readonly list: WorkList<LogWork>;
  /** Number of the next entry that was never delivered. */
  cursor: number;
  /** Taken back and due again, oldest entry first. */
  readonly restored: Heap<LogWork>;
  /** Entries removed before they were delivered, and not reported yet. */
  gone: number;
}

export function createLog(session: Session, streams: Map<string, MemoryStream>, context: BackendContext): Log {
  const { namespace, clock } = context;

  const find = (stream: string): MemoryStream | undefined => streams.get(scoped(namespace, stream));
  const findOrCreate = (stream: string): MemoryStream =>
    getOrCreate(streams, scoped(namespace, stream), () => ({
      entries: [],
      first: 1,
      groups: new Map(),
      bell: createBell(),
    }));

  return {
    async append(name, entries, retention) {
      session.assertOpen();
      const stream = findOrCreate(name);
      makeRoom(stream, entries.length, retention, name);
      const at = clock.now();
      const appended = entries.map((entry) => appendOne(stream, entry, at));
      stream.bell.ring();
      return appended;
    },

    async read(name, range) {
      session.assertOpen();
      const stream = find(name);
      if (stream === undefined) return [];
      const from = range.from === undefined ? 0 : numberOf(range.from);
      const after = range.after === undefined ? 0 : numberOf(range.after) + 1;
      const start = Math.max(0, Math.max(from, after) - stream.first);
      return stream.entries.slice(start, start + range.max).map(toEntry);
    },

    async createGroup(name, groupName, settings) {
      session.assertOpen();
      const stream = findOrCreate(name);
      return getOrCreate(stream.groups, groupName, () => createGroup(stream, settings)).settings;
    },

    async open(name, groupName, consumer) {
      session.assertOpen();
      const stream = findOrCreate(name);
      const group = stream.groups.get(groupName);
      if (group === undefined) throw new NotFoundError(`stream "${name}" has no group "${groupName}": create it first`);
      const { list, settings: rules } = group;
      const takeTally = (): Tally => {
        const { gone } = group;
        group.gone = 0;
        return { gone, expired: 0 };
      };
      return session.track((onClose) =>
        createFeed({ list, bell: stream.bell, clock, consumer, rules, takeTally, onClose }),
      );
    },

    deadLetters: (name, groupName) =>
      createDeadLetters(session, () => find(name)?.groups.get(groupName)?.list.dead ?? []),

    async stats(name) {
      session.assertOpen();
      const stream = find(name);
      if (stream === undefined) return { length: 0, groups: [] };
      const groups = [...stream.groups].map(([group, state]) => groupStats(stream, group, state));
      return { length: stream.entries.length, groups };
    },
  };
}

function appendOne(stream: MemoryStream, entry: NewEntry, at: number): { position: string } {
  const position = String(stream.first + stream.entries.length);
  stream.entries.push({ position, header: entry.header, data: toStored(entry.data), at });
  return { position };
}

function createGroup(stream: MemoryStream, settings: GroupSettings): Group {
  const restored = createHeap<LogWork>((a, b) => a.number < b.number);
  const group: Group = {
    settings,
    restored,
    cursor: startOf(stream, settings),
    gone: 0,
    list: new WorkList<LogWork>({
      next: () => restored.pop() ?? readNext(stream, group),
      restore(work) {
        if (work.number >= stream.first) restored.push(work);
        else group.gone += 1;
      },
      parked: () => undefined,
      finished: () => undefined,
    }),
  };
  return group;
}

function readNext(stream: MemoryStream, group: Group): LogWork | undefined {
  skipBeforeStart(stream, group);
  const entry = stream.entries[group.cursor - stream.first];
  if (entry === undefined) return undefined;
  const work = { number: group.cursor, position: entry.position, header: entry.header, data: entry.data, attempts: 0 };
  group.cursor += 1;
  return work;
}

/** A group may start at a time to come: what is appended until then is not for it. */
function skipBeforeStart(stream: MemoryStream, group: Group): void {
  const { from } = group.settings;
  if (typeof from === "string" || !("time" in from)) return;
  while ((stream.entries[group.cursor - stream.first]?.at ?? from.time) < from.time) group.cursor += 1;
}

function startOf(stream: MemoryStream, { from }: GroupSettings): number {
  const end = stream.first + stream.entries.length;
  if (from === "beginning") return stream.first;
  if (from === "new") return end;
  if ("after" in from) return Math.min(end, Math.max(stream.first, numberOf(from.after) + 1));
  const index = stream.entries.findIndex(({ at }) => at >= from.time);
  return index < 0 ? end : stream.first + index;
}

/** Room is made in slices of this share of the stream, so that a full stream does not trim at each append. */
const TRIM_SHARE = 0.01;

/** Drops the oldest entries where the stream would grow too long; only finished ones unless it may lose some. */
function makeRoom(stream: MemoryStream, adding: number, retention: Retention, name: string): void {
  const excess = stream.entries.length + adding - retention.maxEntries;
  if (excess <= 0) return;
  const finished = firstUnfinished(stream) - stream.first;
  const slice = Math.max(excess, Math.ceil(retention.maxEntries * TRIM_SHARE));
  const droppable = retention.overflow === "drop-oldest" ? Math.max(finished, excess) : finished;
  if (droppable < excess) {
    throw streamFull(name, retention.maxEntries);
  }
  dropOldest(stream, Math.min(slice, droppable, stream.entries.length));
}

/** The number of the oldest entry that some group has not finished; the end of the stream without any. */
function firstUnfinished(stream: MemoryStream): number {
  let first = stream.first + stream.entries.length;
  for (const group of stream.groups.values()) {
    skipBeforeStart(stream, group);
    const { cursor, list, restored } = group;
    first = Math.min(first, cursor, restored.peek()?.number ?? first);
    for (const { work } of list.leased.values()) first = Math.min(first, work.number);
    for (const { number } of list.parkedWork()) first = Math.min(first, number);
  }
  return first;
}

function dropOldest(stream: MemoryStream, count: number): void {
  // What is not for a group is not gone for it. The entries tell, as long as they are there.
  for (const group of stream.groups.values()) skipBeforeStart(stream, group);
  stream.entries.splice(0, count);
  stream.first += count;
  for (const group of stream.groups.values()) {
    const isGone = (work: LogWork): boolean => work.number < stream.first;
    group.gone += Math.max(0, stream.first - group.cursor);
    group.cursor = Math.max(group.cursor, stream.first);
    for (let next = group.restored.peek(); next !== undefined && isGone(next); next = group.restored.peek()) {
      group.restored.pop();
      group.gone += 1;
    }
    group.gone += group.list.dropParked(isGone);
  }
}

function groupStats(stream: MemoryStream, name: string, group: Group): GroupStats {
  skipBeforeStart(stream, group);
  const { cursor, list, restored } = group;
  return {
    group: name,
    lag: stream.first + stream.entries.length - cursor,
    pending: list.leased.size,
    retrying: list.parkedWork().length + restored.size,
    dead: list.dead.length,
  };
}

function numberOf(position: string): number {
  const number = Number(position);
  if (!/^\d+$/.test(position) || !Number.isSafeInteger(number))
    throw new NotFoundError(`"${position}" is no position of this stream`);
  return number;
}

function toEntry({ position, header, data }: StoredEntry): Entry {
  return { position, header, data: toBytes(data) };
}
