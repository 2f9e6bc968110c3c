/** Queues, their items and who they are for, as the tables hold them. */

import type { NewItem } from "../../core/backend.js";
import { queueFull } from "../../core/limits.js";
import type { Deliveries } from "./deliveries.js";
import type { Database } from "./driver.js";
import type { Reader, Readers } from "./readers.js";
import { type Row, Rows } from "./rows.js";
import { payload, type StoredText, text } from "./values.js";
import type { Tx } from "./writer.js";

export interface QueueRow extends Row {
  readonly id: number;
  readonly name: string;
  /** Unfinished items of all recipients. */
  items: number;
}

/** An item as it is bound, taken when the call is made. */
export interface BoundItem {
  readonly id: StoredText;
  readonly recipient: string;
  readonly urgency: number;
  readonly delayMs: number;
  readonly ttlMs: number | undefined;
  readonly header: StoredText;
  readonly data: StoredText;
}

interface ItemRow {
  readonly seq: number;
  readonly reader: number;
  readonly urgency: number;
  readonly expiresAt: number | null;
}

/** Expired items that one operation removes; the next goes on. */
const MAX_EXPIRED = 1_000;

export function bindItem({ id, recipient, priority, delayMs, ttlMs, header, data }: NewItem): BoundItem {
  return { id: text(id), recipient, urgency: -priority, delayMs, ttlMs, header: text(header), data: payload(data) };
}

export class Items {
  readonly #namespace: StoredText;
  readonly #sql: ReturnType<typeof prepare>;
  readonly #queues: Rows<string, QueueRow>;
  readonly #readers: Readers;
  readonly #deliveries: Deliveries;

  constructor(db: Database, namespace: string, readers: Readers, deliveries: Deliveries) {
    const sql = prepare(db);
    this.#namespace = text(namespace);
    this.#sql = sql;
    this.#queues = new Rows(
      (name) => this.findQueue(name),
      ({ id, items }) => void sql.saveQueue.run(items, id),
    );
    this.#readers = readers;
    this.#deliveries = deliveries;
  }

  /** As the transaction has it. */
  queue(tx: Tx, name: string): QueueRow | undefined {
    return this.#queues.get(tx, name);
  }

  getOrCreateQueue(tx: Tx, name: string): QueueRow {
    const known = this.#queues.get(tx, name);
    if (known !== undefined) return known;
    const id = this.#sql.addQueue.insert(this.#namespace, text(name)) ?? 0;
    return this.#queues.add(tx, name, { id, name, items: 0, changed: false });
  }

  /** As it was last committed. */
  findQueue(name: string): QueueRow | undefined {
    const row = this.#sql.queue.get(this.#namespace, text(name));
    return row && { id: row.id, name, items: row.items, changed: false };
  }

  getOrCreateInbox(tx: Tx, queue: QueueRow, recipient: string): Reader {
    const id = this.#readers.find("inbox", queue.id, recipient);
    const known = id === undefined ? undefined : this.#readers.get(tx, id);
    return known ?? this.#readers.insert(tx, "inbox", queue.id, recipient, null);
  }

  /** @throws {LimitError} when the queue would hold more than `maxItems` */
  assertRoom(tx: Tx, queue: QueueRow, adding: readonly BoundItem[], maxItems: number): void {
    if (queue.items + adding.length <= maxItems) return;
    // Only now it matters which have expired, and which are duplicates.
    for (const { reader } of this.#sql.withExpired.all(queue.id, tx.now)) {
      const inbox = this.#readers.get(tx, reader);
      if (inbox !== undefined) this.expire(tx, queue, inbox);
    }
    const fresh = new Set(adding.map(({ id }) => id).filter((id) => this.#sql.holder.get(queue.id, id) === undefined));
    if (queue.items + fresh.size <= maxItems) return;
    throw queueFull(queue.name, maxItems);
  }

  /** Stores items where their recipients find them. @returns for each whether the queue holds its id already */
  add(
    tx: Tx,
    queue: QueueRow,
    items: readonly BoundItem[],
  ): { inboxes: ReadonlyMap<string, Reader>; duplicates: boolean[] } {
    const inboxes = new Map<string, Reader>();
    /** Items that are ready at once: they get consecutive numbers, and are made waiting together. */
    let first = 0;
    let last = -1;
    const flush = (): void => {
      if (last >= first) this.#sql.waitRange.run(first, last);
      last = -1;
    };
    const insertAfterAll = (inbox: Reader, item: BoundItem): number | undefined => {
      flush();
      return this.#expireHolder(tx, queue, item.id) ? this.#insert(tx, queue, inbox, item) : undefined;
    };
    const duplicates = items.map((item) => {
      const inbox = inboxes.get(item.recipient) ?? this.getOrCreateInbox(tx, queue, item.recipient);
      inboxes.set(item.recipient, inbox);
      const seq = this.#insert(tx, queue, inbox, item) ?? insertAfterAll(inbox, item);
      if (seq === undefined) return true;
      if (item.delayMs > 0) {
        this.#deliveries.park(inbox, { seq, attempt: 1, failedAt: null }, tx.now + item.delayMs);
      } else if (seq === last + 1) {
        last = seq;
      } else {
        flush();
        first = seq;
        last = seq;
      }
      return false;
    });
    flush();
    return { inboxes, duplicates };
  }

  /** Makes a dead letter's message an item again, which never expires. @returns false when the queue holds its id */
  putBack(tx: Tx, queue: QueueRow, inbox: Reader, letter: number): boolean {
    const insert = (): number | undefined => this.#sql.addLetter.insert(queue.id, inbox.id, letter);
    const isFree = (): boolean => {
      const id = this.#sql.letter.get(letter)?.id;
      return id !== undefined && this.#expireHolder(tx, queue, id);
    };
    const seq = insert() ?? (isFree() ? insert() : undefined);
    if (seq === undefined) return false;
    this.#sql.waitRange.run(seq, seq);
    this.#count(queue, inbox, 1);
    return true;
  }

  /** Removes an item that is dead. */
  finish(queue: QueueRow, inbox: Reader, seq: number): void {
    this.#count(queue, inbox, -this.#sql.remove.run(seq));
  }

  /** Removes items that are acknowledged, whose leases still stand. */
  acknowledge(queue: QueueRow, inbox: Reader, first: number, last: number, fence: number): void {
    const removed =
      first === last ? this.#sql.remove.run(first) : this.#sql.removeLeased.run(inbox.id, first, last, fence);
    this.#count(queue, inbox, -removed);
  }

  /** Ends what has expired while it waited. A running delivery is left alone. @returns whether that was all */
  expire(tx: Tx, queue: QueueRow, inbox: Reader): boolean {
    const expired = this.#sql.expired.all(inbox.id, tx.now, MAX_EXPIRED);
    for (const item of expired) this.#end(queue, inbox, item);
    tx.spend(expired.length);
    return expired.length < MAX_EXPIRED;
  }

  /** Ends this one where it has expired. @returns whether it had */
  expireOne(tx: Tx, queue: QueueRow, inbox: Reader, seq: number): boolean {
    const item = this.#sql.item.get(seq);
    if (item === undefined || !isOver(item, tx)) return false;
    this.#end(queue, inbox, item);
    return true;
  }

  #insert(tx: Tx, queue: QueueRow, inbox: Reader, item: BoundItem): number | undefined {
    const { id, urgency, ttlMs, header, data } = item;
    const expiresAt = ttlMs === undefined ? null : tx.now + ttlMs;
    const seq = this.#sql.add.insert(queue.id, inbox.id, id, urgency, expiresAt, header, data);
    if (seq !== undefined) this.#count(queue, inbox, 1);
    return seq;
  }

  /** An expired item that nobody has come across yet does not hold its id. */
  #expireHolder(tx: Tx, queue: QueueRow, id: StoredText): boolean {
    const holder = this.#sql.holder.get(queue.id, id);
    const inbox = holder && this.#readers.get(tx, holder.reader);
    if (holder === undefined || inbox === undefined || !isOver(holder, tx)) return false;
    if (this.#sql.isLeased.get(inbox.id, holder.seq) !== undefined) return false;
    this.#end(queue, inbox, holder);
    return true;
  }

  #end(queue: QueueRow, inbox: Reader, { seq, urgency }: ItemRow): void {
    this.#sql.unwait.run(inbox.id, urgency, seq);
    this.#deliveries.unpark(inbox, seq);
    this.#count(queue, inbox, -this.#sql.remove.run(seq));
    inbox.expired += 1;
    inbox.unreported += 1;
  }

  #count(queue: QueueRow, inbox: Reader, change: number): void {
    queue.items += change;
    inbox.items += change;
    queue.changed = true;
    inbox.changed = true;
  }
}

function isOver({ expiresAt }: ItemRow, tx: Tx): boolean {
  return expiresAt !== null && expiresAt <= tx.now;
}

// Parameters come in the order of the calls above.
function prepare(db: Database) {
  const columns = "seq, reader, urgency, expires_at AS expiresAt";
  return {
    queue: db.prepare<{ id: number; items: number }>(
      "SELECT id, items FROM sb1_queues WHERE namespace = ? AND name = ?",
    ),
    addQueue: db.prepare("INSERT INTO sb1_queues (namespace, name, items) VALUES (?, ?, 0)"),
    saveQueue: db.prepare("UPDATE sb1_queues SET items = ? WHERE id = ?"),
    add: db.prepare(
      `INSERT OR IGNORE INTO sb1_items (queue, reader, id, urgency, expires_at, header, data)
       VALUES (?, ?, ?, ?, ?, ?, CAST(? AS BLOB))`,
    ),
    letter: db.prepare<{ id: StoredText }>("SELECT position AS id FROM sb1_dead WHERE id = ?"),
    // Letters that an earlier build parked do not know how urgent they were.
    addLetter: db.prepare(
      `INSERT OR IGNORE INTO sb1_items (queue, reader, id, urgency, header, data)
       SELECT ?, ?, position, coalesce(urgency, 0), header, data FROM sb1_dead WHERE id = ?`,
    ),
    waitRange: db.prepare(
      `INSERT INTO sb1_waiting (reader, urgency, seq, attempt)
       SELECT reader, urgency, seq, 1 FROM sb1_items WHERE seq BETWEEN ? AND ?`,
    ),
    unwait: db.prepare("DELETE FROM sb1_waiting WHERE reader = ? AND urgency = ? AND seq = ?"),
    remove: db.prepare("DELETE FROM sb1_items WHERE seq = ?"),
    removeLeased: db.prepare(
      `DELETE FROM sb1_items WHERE seq IN
         (SELECT seq FROM sb1_leased WHERE reader = ? AND seq BETWEEN ? AND ? AND fence = ?)`,
    ),
    withExpired: db.prepare<{ reader: number }>(
      "SELECT DISTINCT reader FROM sb1_items INDEXED BY sb1_items_queue_expiry WHERE queue = ? AND expires_at <= ?",
    ),
    item: db.prepare<ItemRow>(`SELECT ${columns} FROM sb1_items WHERE seq = ?`),
    holder: db.prepare<ItemRow>(`SELECT ${columns} FROM sb1_items WHERE queue = ? AND id = ?`),
    isLeased: db.prepare("SELECT 1 FROM sb1_leased WHERE reader = ? AND seq = ?"),
    expired: db.prepare<ItemRow>(
      `SELECT ${columns} FROM sb1_items INDEXED BY sb1_items_expiry
       WHERE reader = ? AND expires_at <= ?
         AND NOT EXISTS (SELECT 1 FROM sb1_leased WHERE reader = sb1_items.reader AND seq = sb1_items.seq)
       ORDER BY expires_at LIMIT ?`,
    ),
  };
}
