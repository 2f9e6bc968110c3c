/** One stream with its groups: how entries come to it, and how they are read without any group. */

import type { Appended, Entry, NewEntry, Range, Retention } from "../../core/backend.js";
import { Entries, numberOf, positionOf, type StoredEntry } from "./entries.js";
import { type Bell, createBell } from "./feed.js";
import type { Group, LogWork } from "./group.js";
import { RememberedIds } from "./remembered-ids.js";
import { toBytes, toStored } from "./stored.js";

export interface MemoryStream {
  readonly name: string;
  readonly entries: Entries;
  readonly groups: Map<string, Group>;
  readonly ids: RememberedIds;
  readonly bell: Bell;
  /** As it was configured. */
  retention: Retention | undefined;
  /** When the age of its entries was last looked at. */
  agedAt: number;
}

export function createStream(name: string): MemoryStream {
  return {
    name,
    entries: new Entries(),
    groups: new Map(),
    ids: new RememberedIds(),
    bell: createBell(),
    retention: undefined,
    agedAt: Number.NEGATIVE_INFINITY,
  };
}

/** How many of the entries the stream would store: those without an id, and the first of each id that it lacks. */
export function countNew(stream: MemoryStream, entries: readonly NewEntry[], now: number): number {
  stream.ids.age(now);
  const fresh = new Set<string>();
  let count = 0;
  for (const { dedupeId: id } of entries) {
    if (id === undefined) count += 1;
    else if (stream.ids.get(id) === undefined) fresh.add(id);
  }
  return count + fresh.size;
}

export function appendAll(stream: MemoryStream, entries: readonly NewEntry[], now: number): readonly Appended[] {
  const appended = entries.map((entry) => appendOne(stream, entry, now));
  stream.bell.ring();
  return appended;
}

function appendOne({ entries, ids }: MemoryStream, entry: NewEntry, now: number): Appended {
  const { header, key, dedupeId: id } = entry;
  const earlier = id === undefined ? undefined : ids.get(id);
  if (earlier !== undefined) return { position: positionOf(earlier), duplicate: true };
  const { number } = entries.add({ at: now, header, data: toStored(entry.data), key, only: undefined });
  if (id !== undefined) ids.remember(id, number, now);
  return { position: positionOf(number), duplicate: false };
}

/** Appends a group's dead letter anew, for that group alone. No limit refuses it: it was here before. */
export function appendRedriven({ entries, bell }: MemoryStream, group: Group, work: LogWork, now: number): void {
  const { header, data, key } = work;
  entries.add({ at: now, header, data, key, only: group });
  bell.ring();
}

export function readRange({ entries }: MemoryStream, range: Range): Entry[] {
  const from = range.from === undefined ? 0 : numberOf(range.from);
  const after = range.after === undefined ? 0 : numberOf(range.after) + 1;
  const until = range.until === undefined ? entries.end : numberOf(range.until);
  const { since = Number.NEGATIVE_INFINITY } = range;
  const found: Entry[] = [];
  for (let number = Math.max(entries.first, from, after); number <= until && found.length < range.max; number += 1) {
    const entry = entries.at(number);
    if (entry === undefined) break;
    if (entry.only === undefined && entry.at >= since) found.push(toEntry(entry));
  }
  return found;
}

function toEntry({ number, at, header, data }: StoredEntry): Entry {
  return { position: positionOf(number), at, header, data: toBytes(data) };
}
