/** Queues, their items and who they are for, as the tables hold them. */

import type { NewItem } from "../../core/backend.js";
import type { Deliveries } from "./deliveries.js";
import type { Database } from "./driver.js";
import type { Reader, Readers } from "./readers.js";
import { payload, type StoredText, text } from "./values.js";
import { createRows, type Row, type Tx } from "./writer.js";

export interface QueueRow extends Row {
  readonly id: number;
  readonly name: string;
  /** Unfinished items of all recipients. */
  items: number;
}

/** What is bound for an item, taken when the call is made. */
export interface StoredItem extends Omit<NewItem, "data"> {
  readonly storedId: StoredText;
  readonly storedHeader: StoredText;
  readonly storedData: StoredText;
}

export interface Items {
  /** As the transaction has it. */
  queue(tx: Tx, name: string): QueueRow | undefined;
  getOrCreateQueue(tx: Tx, name: string): QueueRow;
  /** As it was last committed. */
  findQueue(name: string): QueueRow | undefined;
  holds(queue: QueueRow, id: StoredText): boolean;
  /** Stores an item where its recipient finds it. @returns false when the queue holds its id already */
  add(tx: Tx, queue: QueueRow, inbox: Reader, item: StoredItem): boolean;
  /** Removes items that are acknowledged or dead. */
  finish(queue: QueueRow, inbox: Reader, first: number, last: number): void;
  /** Ends what has expired while it waited. A running delivery is left alone. @returns whether that was all */
  expire(tx: Tx, queue: QueueRow, inbox: Reader): boolean;
  /** Ends this one where it has expired. @returns whether it had */
  expireOne(tx: Tx, queue: QueueRow, inbox: Reader, seq: number): boolean;
}

/** Expired items that one operation removes; the next goes on. */
const MAX_EXPIRED = 1_000;

export function toStoredItem({ data, ...item }: NewItem): StoredItem {
  return { ...item, storedId: text(item.id), storedHeader: text(item.header), storedData: payload(data) };
}

export function createItems(db: Database, namespace: string, readers: Readers, deliveries: Deliveries): Items {
  const sql = prepare(db);

  const findQueue = (name: string): QueueRow | undefined => {
    const row = sql.queue.get(text(namespace), text(name));
    return row && { ...row, name, changed: false };
  };
  const queues = createRows<string, QueueRow>(findQueue, ({ id, items }) => void sql.saveQueue.run(items, id));

  function count(queue: QueueRow, inbox: Reader, change: number): void {
    queue.items += change;
    inbox.items += change;
    queue.changed = true;
    inbox.changed = true;
  }

  function end(queue: QueueRow, inbox: Reader, { seq, urgency }: { seq: number; urgency: number }): void {
    sql.unwait.run(inbox.id, urgency, seq);
    deliveries.unpark(inbox, seq);
    sql.remove.run(seq, seq);
    count(queue, inbox, -1);
    inbox.expired += 1;
    inbox.unreported += 1;
  }

  function expire(tx: Tx, queue: QueueRow, inbox: Reader): boolean {
    const expired = sql.expired.all(inbox.id, tx.now, MAX_EXPIRED);
    for (const item of expired) end(queue, inbox, item);
    tx.spend(expired.length);
    return expired.length < MAX_EXPIRED;
  }

  /** An expired item that nobody has come across yet does not hold its id. */
  function expireHolder(tx: Tx, queue: QueueRow, id: StoredText): boolean {
    const holder = sql.holder.get(queue.id, id);
    const inbox = holder && readers.get(tx, holder.reader);
    if (holder === undefined || inbox === undefined || !isOver(holder, tx)) return false;
    if (sql.isLeased.get(inbox.id, holder.seq) !== undefined) return false;
    end(queue, inbox, holder);
    return true;
  }

  return {
    queue: (tx, name) => queues.get(tx, name),
    getOrCreateQueue(tx, name) {
      const known = queues.get(tx, name);
      if (known !== undefined) return known;
      const id = sql.addQueue.insert(text(namespace), text(name)) ?? 0;
      return queues.add(tx, name, { id, name, items: 0, changed: false });
    },
    findQueue,
    holds: (queue, id) => sql.holder.get(queue.id, id) !== undefined,
    add(tx, queue, inbox, { storedId, storedHeader, storedData, priority, delayMs, ttlMs }) {
      const expiresAt = ttlMs === undefined ? null : tx.now + ttlMs;
      const insert = (): number | undefined =>
        sql.add.insert(queue.id, inbox.id, storedId, -priority, expiresAt, storedHeader, storedData);
      const seq = insert() ?? (expireHolder(tx, queue, storedId) ? insert() : undefined);
      if (seq === undefined) return false;
      count(queue, inbox, 1);
      if (delayMs > 0) deliveries.park(inbox, seq, 1, tx.now + delayMs);
      else sql.wait.run(inbox.id, -priority, seq, 1);
      return true;
    },
    finish(queue, inbox, first, last) {
      count(queue, inbox, -sql.remove.run(first, last));
    },
    expire,
    expireOne(tx, queue, inbox, seq) {
      const item = sql.item.get(seq);
      if (item === undefined || !isOver(item, tx)) return false;
      end(queue, inbox, item);
      return true;
    },
  };
}

function isOver({ expiresAt }: { readonly expiresAt: number | null }, tx: Tx): boolean {
  return expiresAt !== null && expiresAt <= tx.now;
}

interface ItemRow {
  readonly seq: number;
  readonly reader: number;
  readonly urgency: number;
  readonly expiresAt: number | null;
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
    wait: db.prepare("INSERT INTO sb1_waiting (reader, urgency, seq, attempt) VALUES (?, ?, ?, ?)"),
    unwait: db.prepare("DELETE FROM sb1_waiting WHERE reader = ? AND urgency = ? AND seq = ?"),
    remove: db.prepare("DELETE FROM sb1_items WHERE seq BETWEEN ? AND ?"),
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
