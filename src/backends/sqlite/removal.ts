/** Removes items for all whom they are for, and all that a queue holds: slice by slice. */

import type { Database } from "./driver.js";
import type { HeldItem, Items } from "./items.js";
import type { QueueRow } from "./queues.js";
import type { Readers } from "./readers.js";
import type { Records } from "./records.js";
import type { RememberedIds } from "./remembered-ids.js";
import type { Spreads } from "./spreads.js";
import type { StoredText } from "./values.js";
import type { Tx } from "./writer.js";

export interface RemovalParts {
  readonly readers: Readers;
  readonly items: Items;
  readonly records: Records;
  readonly spreads: Spreads;
  readonly ids: RememberedIds;
}

/** Shares, items, letters or ids that one transaction removes. */
const SLICE = 500;

export class Removal {
  readonly #sql: ReturnType<typeof prepare>;
  readonly #parts: RemovalParts;

  constructor(db: Database, parts: RemovalParts) {
    this.#sql = prepare(db);
    this.#parts = parts;
  }

  /** Removes some of the items and kept records of these ids. @returns how many ids are done with, and were there */
  removeSome(tx: Tx, queue: QueueRow, ids: readonly StoredText[]): { readonly done: number; readonly count: number } {
    let left = SLICE;
    let [done, count] = [0, 0];
    for (const id of ids) {
      const held = this.#parts.items.find(tx, queue, id);
      // What has expired was not there to be removed: it comes to its end first.
      if (held !== undefined && !this.#parts.items.isClear(held, tx.now)) break;
      left -= held === undefined ? 1 : this.#remove(tx, queue, held, left);
      // It may need another transaction.
      if (held !== undefined && this.#parts.items.look(queue, id) !== undefined) break;
      done += 1;
      if (held !== undefined) count += 1;
      if (left <= 0) break;
    }
    tx.spend(SLICE - left);
    return { done, count };
  }

  /** The number of the last item of all queues: what comes later is not concerned by a `clear`. */
  lastOf(): number {
    return this.#sql.last.get()?.seq ?? 0;
  }

  /** Removes some of a queue's items and kept records, up to a number. */
  clearItems(tx: Tx, queue: QueueRow, last: number): { readonly removed: number; readonly isDone: boolean } {
    let left = SLICE;
    let removed = 0;
    for (const held of this.#sql.some.all(queue.id, last, SLICE)) {
      left -= this.#remove(tx, queue, held, left);
      const isPushed = held.record !== null || !this.#parts.readers.isForAnswers(held.reader);
      if (isPushed && this.#sql.item.get(held.seq) === undefined) removed += 1;
      if (left <= 0) break;
    }
    tx.spend(SLICE - left);
    return { removed, isDone: left > 0 };
  }

  /**
   * Removes some of the dead letters of all recipients.
   *
   * @param from the name of the first recipient that may have some; empty at first
   * @returns from whom to go on; undefined when there are none left
   */
  clearLetters(tx: Tx, queue: QueueRow, from: StoredText): StoredText | undefined {
    let left = SLICE;
    for (const { id, name } of this.#sql.withLetters.all(queue.id, from, SLICE)) {
      const inbox = this.#parts.readers.get(tx, id);
      if (inbox === undefined) continue;
      const removed = this.#sql.removeLetters.run(id, left);
      inbox.dead -= removed;
      inbox.changed = true;
      left -= Math.max(1, removed);
      tx.spend(removed);
      if (left <= 0) return name;
    }
    return undefined;
  }

  /** Forgets some of the ids that a queue remembers. @returns whether that was all */
  clearIds(tx: Tx, queue: QueueRow): boolean {
    const forgotten = this.#parts.ids.clear(queue, SLICE);
    tx.spend(forgotten);
    return forgotten < SLICE;
  }

  /** Removes up to `max` shares of an item, and the item with its last. @returns how many */
  #remove(tx: Tx, queue: QueueRow, held: HeldItem, max: number): number {
    const { items, records, readers, spreads } = this.#parts;
    const { record, seq } = held;
    if (record === null) {
      const inbox = readers.get(tx, held.reader);
      if (inbox !== undefined) items.end(tx, queue, inbox, held, "gone");
      return 1;
    }
    spreads.stop(queue, record);
    const shares = records.takeShares(seq, max);
    for (const id of shares) items.release({ id }, held);
    if (shares.length < max) records.forget(queue, { id: record, seq });
    return shares.length + 1;
  }
}

// Parameters come in the order of the calls above.
function prepare(db: Database) {
  return {
    last: db.prepare<{ seq: number | null }>("SELECT max(seq) AS seq FROM sb1_items"),
    some: db.prepare<HeldItem>(
      `SELECT items.seq, items.urgency, items.reader, records.id AS record, records.state,
         items.expires_at AS expiresAt, records.finished_at AS finishedAt
       FROM sb1_items AS items INDEXED BY sb1_items_id LEFT JOIN sb1_records AS records ON records.seq = items.seq
       WHERE items.queue = ? AND items.seq <= ? LIMIT ?`,
    ),
    item: db.prepare("SELECT 1 FROM sb1_items WHERE seq = ?"),
    withLetters: db.prepare<{ id: number; name: StoredText }>(
      `SELECT id, name FROM sb1_readers
       WHERE kind = 'inbox' AND parent = ? AND name >= ? AND dead > 0 ORDER BY name LIMIT ?`,
    ),
    removeLetters: db.prepare(
      "DELETE FROM sb1_dead WHERE id IN (SELECT id FROM sb1_dead WHERE reader = ? ORDER BY id LIMIT ?)",
    ),
  };
}
