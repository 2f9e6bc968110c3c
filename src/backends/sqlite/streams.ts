/** Streams and their entries, as the tables hold them. */

import type { Entry, NewEntry } from "../../core/backend.js";
import { NotFoundError } from "../../core/errors.js";
import type { Database } from "./driver.js";
import { type Row, Rows } from "./rows.js";
import { MAX_NUMBER } from "./schema.js";
import { payload, type StoredText, text, textOf } from "./values.js";
import type { Tx } from "./writer.js";

/** A stream holds the entries numbered `first` to `last`; of an empty one, `first` is one more than `last`. */
export interface Stream extends Row {
  readonly id: number;
  readonly name: string;
  first: number;
  last: number;
}

/** An entry as it is bound, taken when the call is made. */
export interface BoundEntry {
  readonly header: StoredText;
  readonly data: StoredText;
}

export interface StoredEntry extends Entry {
  readonly number: number;
}

export function bindEntry({ header, data }: NewEntry): BoundEntry {
  return { header: text(header), data: payload(data) };
}

/** @throws {NotFoundError} when it is no position that a stream has given */
export function numberOf(position: string): number {
  if (!/^\d{1,16}$/.test(position)) throw new NotFoundError(`"${position}" is no position of this stream`);
  return Math.min(Number(position), MAX_NUMBER);
}

export class Streams {
  readonly #namespace: StoredText;
  readonly #sql: ReturnType<typeof prepare>;
  readonly #rows: Rows<string, Stream>;

  constructor(db: Database, namespace: string) {
    const sql = prepare(db);
    this.#namespace = text(namespace);
    this.#sql = sql;
    this.#rows = new Rows(
      (name) => this.find(name),
      ({ id, first, last }) => void sql.save.run(first, last, id),
    );
  }

  /** As the transaction has it. */
  get(tx: Tx, name: string): Stream | undefined {
    return this.#rows.get(tx, name);
  }

  getOrCreate(tx: Tx, name: string): Stream {
    const known = this.get(tx, name);
    if (known !== undefined) return known;
    const id = this.#sql.insert.insert(this.#namespace, text(name)) ?? 0;
    return this.#rows.add(tx, name, { id, name, first: 1, last: 0, changed: false });
  }

  /** As it was last committed. */
  find(name: string): Stream | undefined {
    const row = this.#sql.find.get(this.#namespace, text(name));
    return row && { id: row.id, name, first: row.first, last: row.last, changed: false };
  }

  append(stream: Stream, entries: readonly BoundEntry[], at: number): void {
    for (const { header, data } of entries) {
      stream.last += 1;
      this.#sql.append.run(stream.id, stream.last, at, header, data);
    }
    stream.changed = true;
  }

  /** The entries numbered `first` to `last`, as far as they exist. */
  read({ id }: Stream, first: number, last: number, max: number): StoredEntry[] {
    return this.#sql.read.all(id, first, id, last, max).map(({ number, header, data }) => {
      return { number, position: String(number), header: textOf(header), data };
    });
  }

  /** The number of the first entry from `first` on that was appended at or after `time`; behind the last where none was. */
  firstAt({ id, last }: Stream, first: number, time: number): number {
    // Entries stand in the order of time, as far as the clock has not jumped.
    let low = first;
    let high = last + 1;
    while (low < high) {
      const middle = Math.floor((low + high) / 2);
      if ((this.#sql.timeOf.get(id, middle)?.at ?? 0) >= time) high = middle;
      else low = middle + 1;
    }
    return low;
  }
}

function prepare(db: Database) {
  return {
    find: db.prepare<{ id: number; first: number; last: number }>(
      "SELECT id, first, last FROM sb1_streams WHERE namespace = ? AND name = ?",
    ),
    insert: db.prepare("INSERT INTO sb1_streams (namespace, name, first, last) VALUES (?, ?, 1, 0)"),
    save: db.prepare("UPDATE sb1_streams SET first = ?, last = ? WHERE id = ?"),
    append: db.prepare("INSERT INTO sb1_entries (id, at, header, data) VALUES ((? << 40) | ?, ?, ?, CAST(? AS BLOB))"),
    read: db.prepare<{ readonly number: number; readonly header: StoredText; readonly data: Uint8Array }>(
      `SELECT id & ${MAX_NUMBER} AS number, header, data FROM sb1_entries
       WHERE id BETWEEN (? << 40) | ? AND (? << 40) | ? ORDER BY id LIMIT ?`,
    ),
    timeOf: db.prepare<{ at: number }>("SELECT at FROM sb1_entries WHERE id = (? << 40) | ?"),
  };
}
