/** How long a stream may grow: only what every group has finished makes room, unless the stream may lose some. */

import type { Retention } from "../../core/backend.js";
import { streamFull } from "../../core/limits.js";
import type { Database } from "./driver.js";
import type { Reader, Readers } from "./readers.js";
import type { Stream, Streams } from "./streams.js";
import type { Turns } from "./turns.js";
import { textOf } from "./values.js";
import type { Tx } from "./writer.js";

/** Room is made in slices of this share of the stream, so that a full stream does not trim at each append. */
const TRIM_SHARE = 0.01;
/** A slice is never larger than this unless it must be, so that one append does not wait for long. */
const MAX_SLICE = 1_000;
/** Age is looked at once in this share of it, and at least once a second. */
const AGE_SHARE = 0.1;
const MAX_AGE_PAUSE_MS = 1_000;

/** How long the stream may grow: as it is stored, or else as whoever appends says. */
export function retentionOf({ retention }: Stream): Retention | undefined {
  return retention === null ? undefined : (JSON.parse(retention) as Retention); // as `configure` has stored it
}

/**
 * The number of the first entry that a group has neither been handed nor passes by, as it starts at a time to come. What
 * was redriven for it is never passed by.
 */
export function nextOf(streams: Streams, stream: Stream, { id, cursor, notBefore }: Reader): number {
  if (notBefore === 0) return cursor + 1;
  const next = streams.firstAt(stream, cursor + 1, notBefore);
  return streams.firstRedriven(stream, cursor + 1, next - 1, id) ?? next;
}

interface Unfinished {
  /** The number of the oldest that some group has not finished; behind the last without any. */
  readonly first: number;
  /** Which group that is. */
  readonly group: string | undefined;
}

export class Keeper {
  readonly #sql: ReturnType<typeof prepare>;
  readonly #streams: Streams;
  readonly #readers: Readers;
  readonly #turns: Turns;

  constructor(db: Database, streams: Streams, readers: Readers, turns: Turns) {
    this.#sql = prepare(db);
    this.#streams = streams;
    this.#readers = readers;
    this.#turns = turns;
  }

  /**
   * Drops the oldest entries where the stream would grow too long, and now and then those that are too old.
   *
   * @throws {LimitError} when too few may go; nothing was dropped
   */
  makeRoom(tx: Tx, stream: Stream, adding: number, given: Retention): void {
    const retention = retentionOf(stream) ?? given;
    const { maxEntries, maxAgeMs, overflow } = retention;
    const length = stream.last - stream.first + 1;
    const excess = this.#excessOf(stream, adding, maxEntries);
    const looksAtAge = maxAgeMs !== undefined && isAgeDue(tx, stream, maxAgeMs);
    const aged = looksAtAge ? this.#agedOf(tx, stream, maxAgeMs) : 0;
    let slice = Math.max(excess, Math.min(aged, MAX_SLICE));
    if (slice > 0) {
      const { first, group } = this.#firstUnfinished(tx, stream);
      const finished = first - stream.first;
      if (overflow !== "drop-oldest" && finished < Math.max(excess, aged))
        throw streamFull(stream.name, retention, group);
      // What is finished makes room for the next appends as well.
      if (excess > 0) slice = Math.max(slice, Math.min(MAX_SLICE, Math.ceil(maxEntries * TRIM_SHARE), finished));
      this.#dropBefore(tx, stream, stream.first + Math.min(slice, length));
    }
    if (looksAtAge && aged <= slice) {
      stream.agedAt = tx.now;
      stream.changed = true;
    }
  }

  /** Drops a slice of what is older than the stored `maxAgeMs`. @returns how many, and whether there is more */
  trim(tx: Tx, stream: Stream): { readonly dropped: number; readonly isMore: boolean } {
    const { maxAgeMs, overflow } = retentionOf(stream) ?? {};
    if (maxAgeMs === undefined) return { dropped: 0, isMore: false };
    const aged = this.#agedOf(tx, stream, maxAgeMs);
    const droppable =
      aged === 0 || overflow === "drop-oldest" ? aged : this.#firstUnfinished(tx, stream).first - stream.first;
    const slice = Math.min(aged, droppable, MAX_SLICE);
    const before = this.#streams.length(stream);
    this.#dropBefore(tx, stream, stream.first + slice);
    return { dropped: before - this.#streams.length(stream), isMore: slice === MAX_SLICE };
  }

  /** How many entries have to go to make room for others. */
  #excessOf(stream: Stream, adding: number, maxEntries: number): number {
    // What was redriven takes no room, which matters only when there is none.
    if (stream.last - stream.first + 1 + adding <= maxEntries) return 0;
    const excess = this.#streams.length(stream) + adding - maxEntries;
    return excess <= 0 ? 0 : this.#streams.spanOf(stream, excess);
  }

  /** How many entries are too old. */
  #agedOf(tx: Tx, stream: Stream, maxAgeMs: number): number {
    return this.#streams.firstAt(stream, stream.first, tx.now - maxAgeMs) - stream.first;
  }

  #firstUnfinished(tx: Tx, stream: Stream): Unfinished {
    let unfinished: Unfinished = { first: stream.last + 1, group: undefined };
    for (const { id, name } of this.#readers.of("group", stream.id)) {
      const reader = this.#readers.get(tx, id);
      const first = reader === undefined ? undefined : this.firstUnfinishedOf(stream, reader);
      if (first !== undefined && first < unfinished.first) unfinished = { first, group: textOf(name) };
    }
    return unfinished;
  }

  /** The number of the oldest entry that the group has not finished. */
  firstUnfinishedOf(stream: Stream, reader: Reader): number | undefined {
    const { id } = reader;
    const next = this.#streams.firstVisible(stream, nextOf(this.#streams, stream, reader), id)?.number;
    // A consumer may still have in hands what was dropped.
    const bounds = [id, stream.first] as const;
    const taken = this.#sql.firstTaken.get(...bounds, ...bounds, ...bounds)?.seq ?? undefined;
    return taken === undefined || next === undefined ? (taken ?? next) : Math.min(taken, next);
  }

  #dropBefore(tx: Tx, stream: Stream, first: number): void {
    if (first === stream.first) return;
    for (const { id } of this.#readers.of("group", stream.id)) {
      const group = this.#readers.get(tx, id);
      if (group !== undefined) this.#passDropped(stream, first, group);
    }
    tx.spend(first - stream.first);
    this.#streams.removeBefore(stream, first);
  }

  /** Counts what a group has not finished of the entries before `first`, while they are still there. */
  #passDropped(stream: Stream, first: number, group: Reader): void {
    const next = nextOf(this.#streams, stream, group);
    const unread = Math.max(0, first - next) - this.#streams.countHidden(stream, next, first - 1, group.id);
    const parked = this.#sql.removeParked.run(group.id, first);
    const held = this.#turns.dropBefore(group, first);
    if (first <= next && parked + held === 0) return;
    group.cursor = Math.max(group.cursor, first - 1);
    group.unreported += unread + parked + held;
    group.changed = true;
  }
}

function isAgeDue(tx: Tx, { agedAt }: Stream, maxAgeMs: number): boolean {
  return Math.abs(tx.now - agedAt) >= Math.min(MAX_AGE_PAUSE_MS, maxAgeMs * AGE_SHARE);
}

// Parameters come in the order of the calls above.
function prepare(db: Database) {
  const firstOf = (table: string): string => `SELECT min(seq) AS seq FROM ${table} WHERE reader = ? AND seq >= ?`;
  return {
    firstTaken: db.prepare<{ seq: number | null }>(
      `SELECT min(seq) AS seq FROM (
         ${["sb1_leased", "sb1_parked", "sb1_turns"].map(firstOf).join(" UNION ALL ")}
       )`,
    ),
    removeParked: db.prepare("DELETE FROM sb1_parked WHERE reader = ? AND seq < ?"),
  };
}
