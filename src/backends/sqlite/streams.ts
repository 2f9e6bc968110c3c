/** Streams and their entries, as the tables hold them. */

import type { Entry, EntryPlace, NewEntry, Retention } from "../../core/backend.js";
import { NotFoundError } from "../../core/errors.js";
import type { Database } from "./driver.js";
import type { Reader } from "./readers.js";
import type { Rememberer } from "./remembered-ids.js";
import { Rows } from "./rows.js";
import { MAX_NUMBER } from "./schema.js";
import { payload, type StoredText, text, textOf } from "./values.js";
import type { Tx } from "./writer.js";

/** A stream holds the entries numbered `first` to `last`; of an empty one, `first` is one more than `last`. */
export interface Stream extends Rememberer {
  readonly name: string;
  first: number;
  last: number;
  /** JSON, once it was configured. */
  retention: string | null;
  /** When the age of its entries was last looked at. */
  agedAt: number;
}

/** An entry as it is bound, taken when the call is made. */
export interface BoundEntry {
  readonly header: StoredText;
  readonly data: StoredText;
  readonly key: StoredText | null;
  readonly dedupeId: string | undefined;
}

/** An entry as it is delivered. */
export interface TakenEntry {
  readonly number: number;
  readonly header: string;
  readonly data: Uint8Array;
}

interface TakenRow {
  readonly number: number;
  readonly header: StoredText;
  readonly data: Uint8Array;
}

export interface StoredEntry extends TakenEntry, Entry {
  readonly key: StoredText | null;
}

interface EntryRow extends TakenRow {
  readonly at: number;
  readonly key: StoredText | null;
}

/** Who reads without a group is given nothing that was redriven for one. */
export const NO_READER = 0;
/** How many entries `bytes` looks at, at most. */
const SAMPLE = 256;

export function bindEntry({ header, data, key, dedupeId }: NewEntry): BoundEntry {
  return { header: text(header), data: payload(data), key: key === undefined ? null : text(key), dedupeId };
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
      ({ id, first, last, agedAt, ids }) => void sql.save.run(first, last, agedAt, ids, id),
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
    const fresh = { first: 1, last: 0, retention: null, agedAt: 0, ids: 0, changed: false };
    return this.#rows.add(tx, name, { id, name, ...fresh });
  }

  /** As it was last committed. */
  find(name: string): Stream | undefined {
    const row = this.#sql.find.get(this.#namespace, text(name));
    return row && { ...row, name, changed: false };
  }

  saveRetention(stream: Stream, retention: Retention): void {
    stream.retention = JSON.stringify(retention);
    this.#sql.saveRetention.run(stream.retention, stream.id);
  }

  append(stream: Stream, entries: readonly BoundEntry[], at: number): void {
    for (const { header, data, key } of entries) {
      stream.last += 1;
      if (key === null) this.#sql.append.run(stream.id, stream.last, at, header, data);
      else this.#sql.appendKeyed.run(stream.id, stream.last, at, header, data, key);
    }
    stream.changed = true;
  }

  /** Appends the message of a dead letter, for its reader alone. */
  appendLetter(stream: Stream, letter: number, reader: Reader, at: number): void {
    stream.last += 1;
    this.#sql.appendLetter.run(stream.id, stream.last, at, letter);
    this.#sql.addRedriven.run(stream.id, stream.last, reader.id);
    stream.changed = true;
  }

  /** The entries numbered `first` to `last` that are for the reader, as far as they exist. */
  read(stream: Stream, first: number, last: number, max: number, reader: number): StoredEntry[] {
    const { id } = stream;
    const areAll = this.countHidden(stream, first, last, reader) === 0;
    const rows = areAll
      ? this.#sql.read.all(id, first, id, last, max)
      : this.#sql.readVisible.all(id, first, id, last, reader, max);
    return rows.map((row) => ({ ...row, position: String(row.number), header: textOf(row.header) }));
  }

  /** The same, without what is only known to who reads: a third of the time that a delivery takes goes into its columns. */
  take(stream: Stream, first: number, last: number, max: number, reader: number): TakenEntry[] {
    const { id } = stream;
    if (this.countHidden(stream, first, last, reader) > 0) return this.read(stream, first, last, max, reader);
    return this.#sql.take.all(id, first, id, last, max).map(toTaken);
  }

  /** The entry of that number, whoever it is for. */
  entry({ id }: Stream, number: number): TakenEntry | undefined {
    return this.#sql.take.all(id, number, id, number, 1).map(toTaken)[0];
  }

  /** How many of the entries numbered `first` to `last` are for other readers alone. */
  countHidden({ id }: Stream, first: number, last: number, reader: number): number {
    return first > last ? 0 : (this.#sql.countHidden.get(id, first, id, last, reader)?.count ?? 0);
  }

  /** The first of the entries numbered `first` to `last` that was redriven for the reader. */
  firstRedriven({ id }: Stream, first: number, last: number, reader: number): number | undefined {
    return this.#sql.firstRedriven.get(id, first, id, last, reader)?.number;
  }

  /** The number of the first entry from `first` on that is for the reader, and when it was appended. */
  firstVisible({ id, last }: Stream, first: number, reader: number): { number: number; at: number } | undefined {
    return first > last ? undefined : this.#sql.firstVisible.get(id, first, id, last, reader);
  }

  /** The oldest and newest entry of all that are read without a group. */
  ends({ id, first, last }: Stream): { oldest: EntryPlace | undefined; newest: EntryPlace | undefined } {
    const bounds = [id, first, id, last, NO_READER] as const;
    const [oldest, newest] = [this.#sql.firstVisible.get(...bounds), this.#sql.lastVisible.get(...bounds)];
    return { oldest: oldest && toPlace(oldest), newest: newest && toPlace(newest) };
  }

  /** How many entries have to go, oldest first, so that `count` of those that are read without a group go. */
  spanOf(stream: Stream, count: number): number {
    const { id, first, last } = stream;
    const hidden = this.countHidden(stream, first, last, NO_READER);
    if (hidden === 0) return count;
    const next = this.#sql.nthVisible.get(id, first, id, last, NO_READER, count);
    return next === undefined ? count + hidden : next.number - first;
  }

  /** How many entries are read without a group. */
  length(stream: Stream): number {
    const { first, last } = stream;
    return last - first + 1 - this.countHidden(stream, first, last, NO_READER);
  }

  /** Header and data of all entries: exact for a few, else reckoned from some of them. */
  bytes({ id, first, last }: Stream): number {
    const length = last - first + 1;
    const step = Math.max(1, Math.ceil(length / SAMPLE));
    let looked = 0;
    let sum = 0;
    for (let number = first; number <= last; number += step) {
      sum += this.#sql.bytesOf.get(id, number)?.bytes ?? 0;
      looked += 1;
    }
    return looked === 0 ? 0 : Math.round((sum / looked) * length);
  }

  /** Removes the entries before `first`. */
  removeBefore(stream: Stream, first: number): void {
    this.#sql.remove.run(stream.id, stream.first, stream.id, first - 1);
    this.#sql.removeRedriven.run(stream.id, 0, stream.id, first - 1);
    stream.first = first;
    stream.changed = true;
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

function toTaken({ number, header, data }: TakenRow): TakenEntry {
  return { number, header: textOf(header), data };
}

function toPlace({ number, at }: { readonly number: number; readonly at: number }): EntryPlace {
  return { position: String(number), at };
}

// Parameters come in the order of the calls above.
function prepare(db: Database) {
  const number = `id & ${MAX_NUMBER} AS number`;
  const columns = `${number}, header, data`;
  const range = "id BETWEEN (? << 40) | ? AND (? << 40) | ?";
  const redriven = "entry BETWEEN (? << 40) | ? AND (? << 40) | ?";
  const isVisible =
    "NOT EXISTS (SELECT 1 FROM sb1_redriven AS other WHERE other.entry = sb1_entries.id AND other.reader <> ?)";
  const visible = `SELECT ${number}, at FROM sb1_entries WHERE ${range} AND ${isVisible}`;
  return {
    find: db.prepare<Omit<Stream, "name" | "changed">>(
      "SELECT id, first, last, retention, aged_at AS agedAt, ids FROM sb1_streams WHERE namespace = ? AND name = ?",
    ),
    insert: db.prepare("INSERT INTO sb1_streams (namespace, name, first, last) VALUES (?, ?, 1, 0)"),
    save: db.prepare("UPDATE sb1_streams SET first = ?, last = ?, aged_at = ?, ids = ? WHERE id = ?"),
    saveRetention: db.prepare("UPDATE sb1_streams SET retention = ? WHERE id = ?"),
    append: db.prepare("INSERT INTO sb1_entries (id, at, header, data) VALUES ((? << 40) | ?, ?, ?, CAST(? AS BLOB))"),
    appendKeyed: db.prepare(
      "INSERT INTO sb1_entries (id, at, header, data, key) VALUES ((? << 40) | ?, ?, ?, CAST(? AS BLOB), ?)",
    ),
    appendLetter: db.prepare(
      `INSERT INTO sb1_entries (id, at, header, data, key)
       SELECT (? << 40) | ?, ?, header, data, key FROM sb1_dead WHERE id = ?`,
    ),
    addRedriven: db.prepare("INSERT INTO sb1_redriven (entry, reader) VALUES ((? << 40) | ?, ?)"),
    read: db.prepare<EntryRow>(`SELECT ${columns}, at, key FROM sb1_entries WHERE ${range} ORDER BY id LIMIT ?`),
    readVisible: db.prepare<EntryRow>(
      `SELECT ${columns}, at, key FROM sb1_entries WHERE ${range} AND ${isVisible} ORDER BY id LIMIT ?`,
    ),
    take: db.prepare<TakenRow>(`SELECT ${columns} FROM sb1_entries WHERE ${range} ORDER BY id LIMIT ?`),
    countHidden: db.prepare<{ count: number }>(
      `SELECT count(*) AS count FROM sb1_redriven WHERE ${redriven} AND reader <> ?`,
    ),
    firstRedriven: db.prepare<{ number: number }>(
      `SELECT entry & ${MAX_NUMBER} AS number FROM sb1_redriven WHERE ${redriven} AND reader = ? ORDER BY entry LIMIT 1`,
    ),
    firstVisible: db.prepare<{ number: number; at: number }>(`${visible} ORDER BY id LIMIT 1`),
    lastVisible: db.prepare<{ number: number; at: number }>(`${visible} ORDER BY id DESC LIMIT 1`),
    nthVisible: db.prepare<{ number: number }>(`${visible} ORDER BY id LIMIT 1 OFFSET ?`),
    bytesOf: db.prepare<{ bytes: number }>(
      "SELECT length(CAST(header AS BLOB)) + length(data) AS bytes FROM sb1_entries WHERE id = (? << 40) | ?",
    ),
    remove: db.prepare(`DELETE FROM sb1_entries WHERE ${range}`),
    removeRedriven: db.prepare(`DELETE FROM sb1_redriven WHERE ${redriven}`),
    timeOf: db.prepare<{ at: number }>("SELECT at FROM sb1_entries WHERE id = (? << 40) | ?"),
  };
}
