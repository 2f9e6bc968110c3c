/** Streams and their entries, as the tables hold them. */

import type { Entry, NewEntry } from "../../core/backend.js";
import { NotFoundError } from "../../core/errors.js";
import type { Database } from "./driver.js";
import { MAX_NUMBER } from "./schema.js";
import { payload, type StoredText, text, textOf } from "./values.js";
import { createRows, type Row, type Tx } from "./writer.js";

/** A stream holds the entries numbered `first` to `last`; the numbers of an empty one are `last + 1` and `last`. */
export interface Stream extends Row {
  readonly id: number;
  readonly name: string;
  first: number;
  last: number;
}

interface EntryRow {
  readonly number: number;
  readonly header: StoredText;
  readonly data: Uint8Array;
}

export interface StoredEntry extends Entry {
  readonly number: number;
}

export interface Streams {
  /** As the transaction has it. */
  get(tx: Tx, name: string): Stream | undefined;
  getOrCreate(tx: Tx, name: string): Stream;
  /** As it was last committed. */
  find(name: string): Stream | undefined;
  append(
    stream: Stream,
    entries: readonly { readonly header: StoredText; readonly data: StoredText }[],
    at: number,
  ): void;
  /** The entries numbered `first` to `last`, as far as they exist. */
  read(stream: Stream, first: number, last: number, max: number): StoredEntry[];
  /** The number of the first entry from `first` on that was appended at or after `time`; behind the last where none was. */
  firstAt(stream: Stream, first: number, time: number): number;
}

/** What is bound for an entry, taken when the call is made. */
export function toStored({ header, data }: NewEntry): { readonly header: StoredText; readonly data: StoredText } {
  return { header: text(header), data: payload(data) };
}

/** @throws {NotFoundError} when it is no position that a stream has given */
export function numberOf(position: string): number {
  if (!/^\d{1,16}$/.test(position)) throw new NotFoundError(`"${position}" is no position of this stream`);
  return Math.min(Number(position), MAX_NUMBER);
}

export function createStreams(db: Database, namespace: string): Streams {
  const select = db.prepare<{ id: number; first: number; last: number }>(
    "SELECT id, first, last FROM sb1_streams WHERE namespace = ? AND name = ?",
  );
  const insert = db.prepare("INSERT INTO sb1_streams (namespace, name, first, last) VALUES (?, ?, 1, 0)");
  const update = db.prepare("UPDATE sb1_streams SET first = ?, last = ? WHERE id = ?");
  const append = db.prepare(
    "INSERT INTO sb1_entries (id, at, header, data) VALUES ((? << 40) | ?, ?, ?, CAST(? AS BLOB))",
  );
  const read = db.prepare<EntryRow>(
    `SELECT id & ${MAX_NUMBER} AS number, header, data FROM sb1_entries
     WHERE id BETWEEN (? << 40) | ? AND (? << 40) | ? ORDER BY id LIMIT ?`,
  );
  const timeOf = db.prepare<{ at: number }>("SELECT at FROM sb1_entries WHERE id = (? << 40) | ?");

  const find = (name: string): Stream | undefined => {
    const row = select.get(text(namespace), text(name));
    return row && { ...row, name, changed: false };
  };
  const rows = createRows<string, Stream>(find, ({ id, first, last }) => void update.run(first, last, id));

  return {
    get: (tx, name) => rows.get(tx, name),
    getOrCreate(tx, name) {
      const known = rows.get(tx, name);
      if (known !== undefined) return known;
      insert.run(text(namespace), text(name));
      const made = rows.get(tx, name);
      if (made === undefined) throw new Error(`stream "${name}" was not made`);
      return made;
    },
    find,
    append(stream, entries, at) {
      for (const { header, data } of entries) {
        stream.last += 1;
        append.run(stream.id, stream.last, at, header, data);
      }
      stream.changed = true;
    },
    read: (stream, first, last, max) => read.all(stream.id, first, stream.id, last, max).map(toEntry),
    firstAt(stream, first, time) {
      // Entries stand in the order of time, as far as the clock has not jumped.
      let low = first;
      let high = stream.last + 1;
      while (low < high) {
        const middle = Math.floor((low + high) / 2);
        if ((timeOf.get(stream.id, middle)?.at ?? 0) >= time) high = middle;
        else low = middle + 1;
      }
      return low;
    },
  };
}

function toEntry({ number, header, data }: EntryRow): StoredEntry {
  return { number, position: String(number), header: textOf(header), data };
}
