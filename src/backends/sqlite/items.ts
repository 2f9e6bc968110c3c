/** The items of queues, as the tables hold them: how they are found, and how they come to their end. */

import { isLeased } from "./conditions.js";
import type { Deliveries, LeaseRange } from "./deliveries.js";
import type { Database } from "./driver.js";
import { keepsFinished, type QueueRow, settingsOf } from "./queues.js";
import { ANSWERS, type Reader, type Readers } from "./readers.js";
import type { End, Records } from "./records.js";
import type { StoredText } from "./values.js";
import type { Tx } from "./writer.js";

/** An item in the place where a recipient finds it. */
export interface ItemPlace {
  readonly seq: number;
  readonly urgency: number;
}

/** An item in its place, and whose it is: where it has a record, nobody's. */
interface OwnedItem extends ItemPlace {
  readonly reader: number;
}

/** An item, or kept record, by its id. */
export interface HeldItem extends OwnedItem {
  readonly record: number | null;
  readonly state: string | null;
  readonly expiresAt: number | null;
  readonly finishedAt: number | null;
}

interface ExpiredItem extends OwnedItem {
  readonly id: StoredText;
}

/** The reader that an item with a record names. */
export const NOBODY = 0;
/** Expired items that one operation ends; the next goes on. */
export const MAX_EXPIRED = 1_000;

export class Items {
  readonly #sql: ReturnType<typeof prepare>;
  readonly #readers: Readers;
  readonly #deliveries: Deliveries;
  readonly #records: Records;

  constructor(db: Database, readers: Readers, deliveries: Deliveries, records: Records) {
    this.#sql = prepare(db);
    this.#readers = readers;
    this.#deliveries = deliveries;
    this.#records = records;
  }

  // ------------------------------------------------------------------------------------------------ finding

  /**
   * The item or kept record of that id, once what has expired of it is ended: for all whom it is for, so that its id is free.
   * Where these are very many, for some of them: see {@link isClear}.
   */
  find(tx: Tx, queue: QueueRow, id: StoredText, max: number = MAX_EXPIRED): HeldItem | undefined {
    const held = this.look(queue, id);
    if (held === undefined || !this.isStale(queue, held, tx.now)) return held;
    const { record, reader, seq, urgency } = held;
    if (record === null) {
      this.#endStale(tx, queue, reader, held);
    } else if (held.state !== "open") {
      this.#records.forget(queue, { id: record, seq });
    } else {
      const shares = this.#sql.staleShares.all(seq, tx.now, max);
      for (const share of shares) this.#endStale(tx, queue, share.reader, { seq, urgency });
      tx.spend(shares.length);
    }
    return this.look(queue, id);
  }

  /** The same for one recipient alone, whoever else it is for. */
  findFor(tx: Tx, queue: QueueRow, inbox: Reader, id: StoredText): HeldItem | undefined {
    const held = this.look(queue, id);
    if (held?.state !== "open") return this.find(tx, queue, id);
    if (this.isStale(queue, held, tx.now)) this.#endStale(tx, queue, inbox.id, held);
    return this.look(queue, id);
  }

  /** Whether `find` has left nothing of an item that is to be ended. */
  isClear({ record, state, seq }: HeldItem, now: number): boolean {
    return record === null || state !== "open" || this.#sql.staleShares.get(seq, now, 1) === undefined;
  }

  /** Ends some of what has expired of the items of these ids. @returns whether that was all */
  clear(tx: Tx, queue: QueueRow, ids: readonly StoredText[]): boolean {
    if (!this.anyGone(queue) && this.#sql.anyExpiredRecord.get(queue.id, tx.now) === undefined) return true;
    for (const id of ids) {
      const held = this.find(tx, queue, id);
      if (held !== undefined && !this.isClear(held, tx.now)) return false;
    }
    return true;
  }

  /** The item or kept record of that id, as it was left. */
  look(queue: QueueRow, id: StoredText): HeldItem | undefined {
    return this.#sql.held.get(queue.id, id);
  }

  /** Whether there is something of it that is to be ended first. */
  isStale(queue: QueueRow, { state, expiresAt, finishedAt }: HeldItem, now: number): boolean {
    if (finishedAt !== null && state !== "open") return finishedAt <= now - settingsOf(queue).keepAckedMs;
    return (expiresAt !== null && expiresAt <= now) || this.anyGone(queue);
  }

  /** Whether something is left of recipients that are forgotten. */
  anyGone(queue: QueueRow): boolean {
    return this.#sql.anyGone.get(queue.id) !== undefined;
  }

  // ------------------------------------------------------------------------------------------------- ending

  /** Ends an item for one recipient, wherever it is. @returns false when the recipient had it not to finish */
  end(tx: Tx, queue: QueueRow, inbox: Reader, held: HeldItem, as: End): boolean {
    const { seq, record, reader } = held;
    const isIts = record === null ? reader === inbox.id : this.#records.hasShare(inbox.id, seq);
    if (isIts) this.#end(tx, queue, inbox, held, as);
    return isIts;
  }

  /** Removes an item that is dead. */
  finish(tx: Tx, queue: QueueRow, inbox: Reader, seq: number, attempts: number): void {
    const removed = this.#sql.remove.run(seq, inbox.id);
    if (removed > 0) this.count(queue, inbox, -removed);
    else this.#records.end(tx, queue, inbox.id, seq, { as: "dead", attempts });
  }

  /** Removes items that are acknowledged, whose leases still stand. */
  acknowledge(tx: Tx, queue: QueueRow, inbox: Reader, leases: LeaseRange): void {
    const { first, last, fence, count } = leases;
    const removed =
      first === last
        ? this.#sql.remove.run(first, inbox.id)
        : this.#sql.removeLeased.run(inbox.id, inbox.id, first, last, fence);
    this.count(queue, inbox, -removed);
    if (removed < count) this.#records.acknowledge(tx, queue, inbox.id, leases);
  }

  /**
   * Ends what has expired while it waited. A running delivery is left alone.
   *
   * @param ids takes the ids of what was ended
   * @returns whether that was all
   */
  expire(tx: Tx, queue: QueueRow, inbox: Reader, ids: StoredText[] = []): boolean {
    const own = this.#sql.expired.all(inbox.id, tx.now, MAX_EXPIRED);
    const shared = this.#sql.expiredShares.all(inbox.id, tx.now, MAX_EXPIRED - own.length);
    for (const item of [...own, ...shared]) {
      this.#end(tx, queue, inbox, item, "expired");
      ids.push(item.id);
    }
    const count = own.length + shared.length;
    tx.spend(count);
    return count < MAX_EXPIRED;
  }

  /** Whether this one has expired. */
  isOver(tx: Tx, inbox: Reader, seq: number): boolean {
    return this.#sql.expiredItem.get(seq, inbox.id, seq, tx.now) !== undefined;
  }

  /**
   * Ends this one where it has expired, though a consumer has it.
   *
   * @returns its id where it had
   */
  expireOne(tx: Tx, queue: QueueRow, inbox: Reader, seq: number): StoredText | undefined {
    const item = this.#sql.expiredItem.get(seq, inbox.id, seq, tx.now);
    if (item === undefined) return undefined;
    this.#end(tx, queue, inbox, item, "expired");
    return item.id;
  }

  /** Ends some of what has expired in a queue, whoever it is for. @returns whether that was all */
  expireSome(tx: Tx, queue: QueueRow): boolean {
    let left = MAX_EXPIRED;
    const expired = [
      ...this.#sql.expiredOfQueue.all(queue.id, tx.now, left),
      ...this.#sql.expiredSharesOfQueue.all(queue.id, tx.now, left),
    ];
    for (const { reader, ...item } of expired.slice(0, left)) {
      this.#endStale(tx, queue, reader, item);
      left -= 1;
    }
    tx.spend(MAX_EXPIRED - left);
    return left > 0;
  }

  /** Whether anything of a recipient's has expired that nobody has ended. */
  hasExpired({ id }: Reader, now: number): boolean {
    return this.#sql.expired.get(id, now, 1) !== undefined || this.#sql.expiredShares.get(id, now, 1) !== undefined;
  }

  /** The same in a queue, whoever it is for. */
  anyExpired(queue: QueueRow, now: number): boolean {
    return (
      this.#sql.expiredOfQueue.get(queue.id, now, 1) !== undefined ||
      this.#sql.expiredSharesOfQueue.get(queue.id, now, 1) !== undefined
    );
  }

  /** Removes some of what a reader has that is gone. @returns how many items, less than `max` when nothing is left */
  forgetSome(tx: Tx, queue: QueueRow, reader: number, max: number): number {
    const unfinished = this.#sql.unfinished.all(reader, reader, reader, max);
    for (const item of unfinished) this.#endStale(tx, queue, reader, item);
    return unfinished.length;
  }

  /** Ends what has expired, or was left behind by a reader that is gone. */
  #endStale(tx: Tx, queue: QueueRow, reader: number, item: ItemPlace): void {
    const inbox = this.#readers.get(tx, reader);
    if (inbox !== undefined) {
      if (!this.#deliveries.isLeased(inbox, item.seq)) this.expireOne(tx, queue, inbox, item.seq);
      return;
    }
    this.release({ id: reader }, item);
    const removed = this.#sql.remove.run(item.seq, reader);
    if (removed > 0 && !this.#readers.isForAnswers(reader)) queue.items -= removed;
    queue.changed = true;
    if (removed === 0) this.#records.end(tx, queue, reader, item.seq, { as: "gone", attempts: 0 });
  }

  #end(tx: Tx, queue: QueueRow, inbox: Reader, item: OwnedItem, as: End): void {
    const isOwn = item.reader !== NOBODY;
    const attempts = !isOwn && keepsFinished(queue) ? this.#attemptsOf(inbox, item) : 0;
    this.release(inbox, item);
    if (isOwn) this.count(queue, inbox, -this.#sql.remove.run(item.seq, inbox.id));
    else this.#records.end(tx, queue, inbox.id, item.seq, { as, attempts });
    if (as !== "expired") return;
    inbox.expired += 1;
    inbox.unreported += 1;
    inbox.changed = true;
  }

  /** Takes it from wherever it is, for one recipient; for which it is then neither open nor ended. */
  release(inbox: Pick<Reader, "id">, { seq, urgency }: ItemPlace): void {
    this.#sql.unwait.run(inbox.id, urgency, seq);
    this.#deliveries.unpark(inbox, seq);
    this.#deliveries.drop(inbox, seq);
  }

  #attemptsOf({ id }: Reader, { seq, urgency }: ItemPlace): number {
    return this.#sql.attempts.get(id, seq, id, seq, id, urgency, seq)?.attempts ?? 0;
  }

  /** Counts what has no record; of the queue, what was pushed. */
  count(queue: QueueRow, inbox: Reader, change: number): void {
    if (inbox.settings !== ANSWERS) queue.items += change;
    inbox.items += change;
    queue.changed = true;
    inbox.changed = true;
  }
}

// Parameters come in the order of the calls above.
function prepare(db: Database) {
  const isGone = "EXISTS (SELECT 1 FROM sb1_readers AS readers WHERE readers.id = shares.reader AND kind = 'gone')";
  return {
    unwait: db.prepare("DELETE FROM sb1_waiting WHERE reader = ? AND urgency = ? AND seq = ?"),
    remove: db.prepare("DELETE FROM sb1_items WHERE seq = ? AND reader = ?"),
    removeLeased: db.prepare(
      `DELETE FROM sb1_items WHERE reader = ? AND seq IN
         (SELECT seq FROM sb1_leased WHERE reader = ? AND seq BETWEEN ? AND ? AND fence = ?)`,
    ),
    held: db.prepare<HeldItem>(
      `SELECT items.seq, items.urgency, items.reader, records.id AS record, records.state,
         coalesce(items.expires_at, records.expires_at) AS expiresAt, records.finished_at AS finishedAt
       FROM sb1_items AS items LEFT JOIN sb1_records AS records ON records.seq = items.seq
       WHERE items.queue = ? AND items.id = ?`,
    ),
    anyGone: db.prepare("SELECT 1 FROM sb1_readers WHERE kind = 'gone' AND parent = ? LIMIT 1"),
    staleShares: db.prepare<{ reader: number }>(
      `SELECT reader FROM sb1_shares AS shares
       WHERE seq = ? AND (expires_at <= ? AND NOT ${isLeased("shares")} OR ${isGone}) LIMIT ?`,
    ),
    anyExpiredRecord: db.prepare(
      `SELECT 1 FROM sb1_records INDEXED BY sb1_records_expiry
       WHERE queue = ? AND state = 'open' AND expires_at <= ? LIMIT 1`,
    ),
    expired: db.prepare<ExpiredItem>(
      `SELECT seq, urgency, id, reader FROM sb1_items AS items INDEXED BY sb1_items_expiry
       WHERE reader = ? AND expires_at <= ? AND NOT ${isLeased("items")} ORDER BY expires_at LIMIT ?`,
    ),
    expiredShares: db.prepare<ExpiredItem>(
      `SELECT items.seq, items.urgency, items.id, items.reader
       FROM sb1_shares AS shares INDEXED BY sb1_shares_expiry JOIN sb1_items AS items ON items.seq = shares.seq
       WHERE shares.reader = ? AND shares.expires_at <= ? AND NOT ${isLeased("shares")}
       ORDER BY shares.expires_at LIMIT ?`,
    ),
    expiredItem: db.prepare<ExpiredItem>(
      `SELECT items.seq, items.urgency, items.id, items.reader FROM sb1_items AS items
       WHERE items.seq = ? AND coalesce(items.expires_at,
         (SELECT shares.expires_at FROM sb1_shares AS shares WHERE shares.reader = ? AND shares.seq = ?)) <= ?`,
    ),
    expiredOfQueue: db.prepare<ItemPlace & { readonly reader: number }>(
      `SELECT seq, urgency, reader FROM sb1_items AS items INDEXED BY sb1_items_queue_expiry
       WHERE queue = ? AND expires_at <= ? AND NOT ${isLeased("items")} LIMIT ?`,
    ),
    expiredSharesOfQueue: db.prepare<ItemPlace & { readonly reader: number }>(
      `SELECT items.seq, items.urgency, shares.reader
       FROM sb1_records AS records INDEXED BY sb1_records_expiry
         CROSS JOIN sb1_shares AS shares INDEXED BY sb1_shares_item ON shares.seq = records.seq
         CROSS JOIN sb1_items AS items ON items.seq = records.seq
       WHERE records.queue = ? AND records.state = 'open' AND records.expires_at <= ?
         AND shares.expires_at IS NOT NULL AND NOT ${isLeased("shares")} LIMIT ?`,
    ),
    // Of what does not wait it does not matter how urgent it is.
    unfinished: db.prepare<ItemPlace>(
      `SELECT seq, urgency FROM sb1_waiting WHERE reader = ?
       UNION ALL SELECT seq, 0 AS urgency FROM sb1_parked WHERE reader = ?
       UNION ALL SELECT seq, 0 AS urgency FROM sb1_leased WHERE reader = ? LIMIT ?`,
    ),
    attempts: db.prepare<{ attempts: number }>(
      `SELECT coalesce(
         (SELECT attempt FROM sb1_leased WHERE reader = ? AND seq = ?),
         (SELECT attempt - 1 FROM sb1_parked WHERE reader = ? AND seq = ?),
         (SELECT attempt - 1 FROM sb1_waiting WHERE reader = ? AND urgency = ? AND seq = ?)) AS attempts`,
    ),
  };
}
