/**
 * Items that have a record: those for audiences, and all of a queue that keeps more of them than delivering needs. Who has
 * such an item to finish has a share of it; the record says what came of the others.
 */

import type { LeaseRange } from "./deliveries.js";
import type { Database } from "./driver.js";
import { keepsFinished, type QueueRow, settingsOf } from "./queues.js";
import { type StoredText, text, textOf } from "./values.js";
import type { Tx } from "./writer.js";

/** What an item came to for one recipient. `gone`: it was dropped, removed, or forgotten with its recipient. */
export type End = "acked" | "dead" | "expired" | "gone";

/** A record, and the number of its item. */
export interface RecordRef {
  readonly id: number;
  readonly seq: number;
}

/** What an item that is recorded was pushed with. */
export interface Recording {
  /** When it was pushed. */
  readonly at: number;
  readonly expiresAt: number | null;
  readonly fields: Readonly<Record<string, string>>;
}

/** Recipients of one item of which is kept what it came to: as many as are ever shown. */
const MAX_ENDS = 1_000;
/** Records that are too old of which one call forgets so many; the next goes on. */
const MAX_TRIMMED = 200;

export class Records {
  readonly #shares: ReturnType<typeof prepareShares>;
  readonly #sql: ReturnType<typeof prepare>;

  constructor(db: Database) {
    this.#shares = prepareShares(db);
    this.#sql = prepare(db);
  }

  /** Records an item that was just stored. It is open until it has no share left. */
  add(queue: QueueRow, seq: number, { at, expiresAt, fields }: Recording): RecordRef {
    const id = this.#sql.add.insert(queue.id, seq, expiresAt, at) ?? 0;
    for (const [name, value] of Object.entries(fields)) this.#sql.addField.run(queue.id, text(name), text(value), seq);
    queue.items += 1;
    queue.changed = true;
    return { id, seq };
  }

  /** Of the fields that an item is given, those by which this queue finds items. */
  fieldsOf(queue: QueueRow, given: Readonly<Record<string, string>> | undefined): Readonly<Record<string, string>> {
    const { index } = settingsOf(queue);
    if (given === undefined || index === undefined) return {};
    return Object.fromEntries(Object.entries(given).filter(([name]) => index.includes(name)));
  }

  ofItem(seq: number): RecordRef | undefined {
    return this.#sql.ofItem.get(seq);
  }

  /** Gives a recipient an item to finish. */
  give(reader: number, seq: number, expiresAt: number | null): void {
    this.#shares.give.run(reader, seq, expiresAt);
  }

  hasShare(reader: number, seq: number): boolean {
    return this.#shares.share.get(reader, seq) !== undefined;
  }

  /** Ends a recipient's share. @returns false when it has none */
  end(tx: Tx, queue: QueueRow, reader: number, seq: number, end: { as: End; attempts: number }): boolean {
    if (this.#shares.removeShare.run(reader, seq) === 0) return false;
    const record = this.ofItem(seq);
    if (record === undefined) return true;
    const { as, attempts } = end;
    if (as !== "gone") {
      if (keepsFinished(queue)) this.#sql.addEnd.run(record.id, as, attempts, tx.now, reader, record.id, MAX_ENDS);
      this.#sql.note.run(tx.now, as, as, record.id);
    }
    this.finishWhereOver(tx, queue, record);
    return true;
  }

  /** Ends the shares of deliveries that are acknowledged, while their leases still stand. */
  acknowledge(tx: Tx, queue: QueueRow, reader: number, { first, last, fence }: LeaseRange): void {
    const range = [reader, first, last, fence] as const;
    if (keepsFinished(queue)) this.#sql.addEnds.run(tx.now, ...range, MAX_ENDS);
    this.#sql.noteAcknowledged.run(tx.now, ...range);
    this.#shares.removeShares.run(reader, ...range);
    this.#finish(tx, queue, this.#sql.overInRange.all(...range));
  }

  /** Called when an item may have lost its last share. */
  finishWhereOver(tx: Tx, queue: QueueRow, record: RecordRef): void {
    if (this.#shares.isOpen.get(record.seq, record.id) === undefined) this.#finish(tx, queue, [record]);
  }

  /** Forgets a record with its item, finished or open; the shares are gone already. */
  forget(queue: QueueRow, record: RecordRef): void {
    const state = this.#sql.state.get(record.id)?.state;
    if (state !== undefined) this.#forget(queue, record, state === "open" ? "items" : "records");
  }

  /** Takes up to `max` shares of an item from those who have them. @returns who that was */
  takeShares(seq: number, max: number): readonly number[] {
    const readers = this.#shares.sharing.all(seq, max).map(({ reader }) => reader);
    for (const reader of readers) this.#shares.removeShare.run(reader, seq);
    return readers;
  }

  /** Whether there are records that are too old. */
  areAged(queue: QueueRow, now: number): boolean {
    if (queue.records === 0) return false;
    return this.#sql.aged.get(queue.id, 1, now - settingsOf(queue).keepAckedMs) !== undefined;
  }

  /** Forgets some of the records that are too old. @returns whether that was all */
  trim(tx: Tx, queue: QueueRow): boolean {
    if (queue.records === 0) return true;
    const aged = this.#sql.aged.all(queue.id, MAX_TRIMMED, tx.now - settingsOf(queue).keepAckedMs);
    for (const record of aged) this.#forget(queue, record, "records");
    tx.spend(aged.length);
    return aged.length < MAX_TRIMMED;
  }

  /** Makes an item open again for one recipient, which has finished it; for that it never expires. */
  reopen(queue: QueueRow, reader: number, record: RecordRef): void {
    this.#sql.removeEnd.run(record.id, reader);
    if (this.#sql.state.get(record.id)?.state !== "open") {
      queue.items += 1;
      queue.records -= 1;
      queue.changed = true;
      this.#sql.open.run(record.id);
    }
    this.#sql.recount.run(record.id, record.id, record.id, record.seq, record.id);
    this.give(reader, record.seq, null);
  }

  /** What an item was pushed with by which it is found, as JSON; null where that is nothing. */
  fieldsAsJson(seq: number): string | null {
    const rows = this.#sql.fields.all(seq);
    return rows.length === 0
      ? null
      : JSON.stringify(Object.fromEntries(rows.map(({ name, value }) => [textOf(name), textOf(value)])));
  }

  #finish(tx: Tx, queue: QueueRow, records: readonly RecordRef[]): void {
    const areKept = keepsFinished(queue);
    for (const record of records) {
      // Nothing is kept of what nobody finished.
      if (areKept && this.#sql.finish.run(queue.finished + 1, tx.now, record.id) > 0) {
        queue.finished += 1;
        queue.items -= 1;
        queue.records += 1;
      } else {
        this.#forget(queue, record, "items");
      }
    }
    queue.changed = true;
    const excess = queue.records - settingsOf(queue).maxRecords;
    if (!areKept || excess <= 0) return;
    for (const oldest of this.#sql.oldest.all(queue.id, excess)) this.#forget(queue, oldest, "records");
  }

  /** @param counted among which of the queue's */
  #forget(queue: QueueRow, { id, seq }: RecordRef, counted: "items" | "records"): void {
    queue[counted] -= 1;
    queue.changed = true;
    this.#sql.removeItem.run(seq);
    if (settingsOf(queue).index !== undefined) this.#sql.removeFields.run(seq);
    if (keepsFinished(queue)) this.#sql.removeEnds.run(id);
    this.#sql.remove.run(id);
  }
}

const LEASED = "SELECT seq FROM sb1_leased WHERE reader = ? AND seq BETWEEN ? AND ? AND fence = ?";

// Parameters come in the order of the calls above.
function prepareShares(db: Database) {
  return {
    give: db.prepare("INSERT OR IGNORE INTO sb1_shares (reader, seq, expires_at) VALUES (?, ?, ?)"),
    share: db.prepare("SELECT 1 FROM sb1_shares WHERE reader = ? AND seq = ?"),
    sharing: db.prepare<{ reader: number }>("SELECT reader FROM sb1_shares WHERE seq = ? LIMIT ?"),
    removeShare: db.prepare("DELETE FROM sb1_shares WHERE reader = ? AND seq = ?"),
    removeShares: db.prepare(`DELETE FROM sb1_shares WHERE reader = ? AND seq IN (${LEASED})`),
    isOpen: db.prepare(
      "SELECT 1 FROM sb1_shares WHERE seq = ? UNION ALL SELECT 1 FROM sb1_spreads WHERE record = ? LIMIT 1",
    ),
  };
}

function prepare(db: Database) {
  const oldest =
    "FROM sb1_records INDEXED BY sb1_records_finished WHERE queue = ? AND finished IS NOT NULL ORDER BY finished";
  return {
    add: db.prepare("INSERT INTO sb1_records (queue, seq, state, expires_at, updated_at) VALUES (?, ?, 'open', ?, ?)"),
    addField: db.prepare("INSERT INTO sb1_fields (queue, name, value, seq) VALUES (?, ?, ?, ?)"),
    ofItem: db.prepare<RecordRef>("SELECT id, seq FROM sb1_records WHERE seq = ?"),
    addEnd: db.prepare(
      `INSERT OR REPLACE INTO sb1_ends (record, recipient, state, attempts, at)
       SELECT ?, name, ?, ?, ? FROM sb1_readers WHERE id = ? AND (SELECT ends FROM sb1_records WHERE id = ?) < ?`,
    ),
    note: db.prepare(
      `UPDATE sb1_records SET updated_at = ?, ends = ends + 1,
         outcome = CASE WHEN ? = 'dead' OR outcome IS NULL OR outcome = 'acked' THEN ? ELSE outcome END
       WHERE id = ?`,
    ),
    addEnds: db.prepare(
      `INSERT OR REPLACE INTO sb1_ends (record, recipient, state, attempts, at)
       SELECT records.id, readers.name, 'acked', leased.attempt, ?
       FROM sb1_leased AS leased
         JOIN sb1_records AS records ON records.seq = leased.seq
         JOIN sb1_readers AS readers ON readers.id = leased.reader
       WHERE leased.reader = ? AND leased.seq BETWEEN ? AND ? AND leased.fence = ? AND records.ends < ?`,
    ),
    noteAcknowledged: db.prepare(
      `UPDATE sb1_records SET updated_at = ?, ends = ends + 1, outcome = coalesce(outcome, 'acked')
       WHERE seq IN (${LEASED})`,
    ),
    overInRange: db.prepare<RecordRef>(
      `SELECT id, seq FROM sb1_records WHERE seq IN (${LEASED}) AND state = 'open'
         AND NOT EXISTS (SELECT 1 FROM sb1_shares AS shares WHERE shares.seq = sb1_records.seq)
         AND NOT EXISTS (SELECT 1 FROM sb1_spreads AS spreads WHERE spreads.record = sb1_records.id)`,
    ),
    state: db.prepare<{ state: string }>("SELECT state FROM sb1_records WHERE id = ?"),
    removeItem: db.prepare("DELETE FROM sb1_items WHERE seq = ?"),
    removeFields: db.prepare("DELETE FROM sb1_fields WHERE seq = ?"),
    removeEnds: db.prepare("DELETE FROM sb1_ends WHERE record = ?"),
    remove: db.prepare("DELETE FROM sb1_records WHERE id = ?"),
    // Ahead of what is due stand only records that finished when the clock was ahead.
    aged: db.prepare<RecordRef>(
      `SELECT id, seq FROM (SELECT id, seq, finished_at ${oldest} LIMIT ?) WHERE finished_at <= ?`,
    ),
    oldest: db.prepare<RecordRef>(`SELECT id, seq ${oldest} LIMIT ?`),
    finish: db.prepare(
      "UPDATE sb1_records SET state = outcome, finished = ?, finished_at = ? WHERE id = ? AND outcome IS NOT NULL",
    ),
    removeEnd: db.prepare(
      "DELETE FROM sb1_ends WHERE record = ? AND recipient = (SELECT name FROM sb1_readers WHERE id = ?)",
    ),
    open: db.prepare(
      "UPDATE sb1_records SET state = 'open', finished = NULL, finished_at = NULL, expires_at = NULL WHERE id = ?",
    ),
    recount: db.prepare(
      `UPDATE sb1_records SET ends = ends - 1,
         outcome = CASE
           WHEN EXISTS (SELECT 1 FROM sb1_ends WHERE record = ? AND state = 'dead') THEN 'dead'
           WHEN EXISTS (SELECT 1 FROM sb1_ends WHERE record = ? AND state = 'expired') THEN 'expired'
           WHEN ends > 1 THEN 'acked' END,
         updated_at = coalesce((SELECT max(at) FROM sb1_ends WHERE record = ?),
           (SELECT at FROM sb1_items WHERE seq = ?), updated_at)
       WHERE id = ?`,
    ),
    fields: db.prepare<{ name: StoredText; value: StoredText }>("SELECT name, value FROM sb1_fields WHERE seq = ?"),
  };
}
