/** How items get into a queue, where their recipients find them. */

import type { Audience, NewItem } from "../../core/backend.js";
import { type Deliveries, UNTRIED } from "./deliveries.js";
import type { Database } from "./driver.js";
import { type ItemPlace, type Items, NOBODY } from "./items.js";
import { type QueueRow, recordsAll } from "./queues.js";
import { ANSWERS, type Reader } from "./readers.js";
import type { RecordRef, Records } from "./records.js";
import { payload, type StoredText, text } from "./values.js";
import type { Tx } from "./writer.js";

/** An item as it is bound, taken when the call is made. */
export interface BoundItem {
  readonly id: StoredText;
  /** Given by the caller, to be remembered. */
  readonly givenId: string | undefined;
  readonly recipient: string | Audience;
  readonly urgency: number;
  readonly delayMs: number;
  readonly ttlMs: number | undefined;
  readonly header: StoredText;
  readonly data: StoredText;
  readonly fields: Readonly<Record<string, string>> | undefined;
}

/** A dead letter of a queue, as far as putting it back goes. */
interface Letter {
  readonly id: StoredText;
  readonly urgency: number;
  /** Of the item's record, where it had one. */
  readonly record: number | null;
  readonly fields: string | null;
  readonly pushedAt: number | null;
}

export function bindItem({
  id,
  dedupe,
  recipient,
  priority,
  delayMs,
  ttlMs,
  header,
  data,
  fields,
}: NewItem): BoundItem {
  const givenId = dedupe === true ? id : undefined;
  const urgency = -priority;
  return {
    id: text(id),
    givenId,
    recipient,
    urgency,
    delayMs,
    ttlMs,
    header: text(header),
    data: payload(data),
    fields,
  };
}

export class Intake {
  readonly #sql: ReturnType<typeof prepare>;
  readonly #items: Items;
  readonly #deliveries: Deliveries;
  readonly #records: Records;

  constructor(db: Database, items: Items, deliveries: Deliveries, records: Records) {
    this.#sql = prepare(db);
    this.#items = items;
    this.#deliveries = deliveries;
    this.#records = records;
  }

  /**
   * Stores items for one recipient each, or for audiences.
   *
   * @param inboxOf called once for each item that names its recipient
   * @param spread gives an audience its shares; returns how many there are
   * @returns for each how many recipients it has; undefined where the queue holds its id already
   */
  add(
    tx: Tx,
    queue: QueueRow,
    items: readonly BoundItem[],
    inboxOf: (recipient: string) => Reader,
    spread: (item: BoundItem, audience: Audience) => number | undefined,
  ): readonly (number | undefined)[] {
    const areRecorded = recordsAll(queue);
    /** Items that are ready at once: they get consecutive numbers, and are made waiting together. */
    let first = 0;
    let last = -1;
    const flush = (): void => {
      if (last >= first) this.#sql.waitRange.run(first, last);
      last = -1;
    };
    const insertAfterAll = (inbox: Reader, item: BoundItem): number | undefined => {
      flush();
      return this.#items.find(tx, queue, item.id) === undefined ? this.#insert(tx, queue, inbox, item) : undefined;
    };
    const counts = items.map((item) => {
      if (typeof item.recipient !== "string") return spread(item, item.recipient);
      const inbox = inboxOf(item.recipient);
      if (areRecorded && inbox.settings !== ANSWERS) return this.#addRecorded(tx, queue, inbox, item);
      const seq = this.#insert(tx, queue, inbox, item) ?? insertAfterAll(inbox, item);
      if (seq === undefined) return undefined;
      if (item.delayMs > 0) {
        this.#deliveries.park(inbox, { seq, ...UNTRIED }, tx.now + item.delayMs);
      } else if (seq === last + 1) {
        last = seq;
      } else {
        flush();
        first = seq;
        last = seq;
      }
      return 1;
    });
    flush();
    return counts;
  }

  /** Stores an item that has a record, and no share yet. @returns undefined when the queue holds its id already */
  addShared(tx: Tx, queue: QueueRow, item: BoundItem): RecordRef | undefined {
    const insert = (): number | undefined =>
      this.#sql.add.insert(queue.id, NOBODY, item.id, item.urgency, null, tx.now, item.header, item.data);
    const seq = insert() ?? (this.#items.find(tx, queue, item.id) === undefined ? insert() : undefined);
    if (seq === undefined) return undefined;
    const fields = this.#records.fieldsOf(queue, item.fields);
    return this.#records.add(queue, seq, { at: tx.now, expiresAt: expiryOf(tx, item), fields });
  }

  /** Gives an inbox its share of such an item. */
  give(
    inbox: Pick<Reader, "id">,
    { seq, urgency }: ItemPlace,
    more: { expiresAt: number | null; due: number | null },
  ): void {
    this.#records.give(inbox.id, seq, more.expiresAt);
    if (more.due === null) this.#sql.wait.run(inbox.id, urgency, seq);
    else this.#deliveries.park(inbox, { seq, ...UNTRIED }, more.due);
  }

  /** Puts a dead letter's message back, which never expires. @returns false when the queue holds its id, and it is another */
  putBack(tx: Tx, queue: QueueRow, inbox: Reader, letter: number): boolean {
    const dead = this.#sql.letter.get(letter);
    if (dead === undefined) return false;
    const held = this.#items.find(tx, queue, dead.id);
    if (held === undefined) {
      const isRecorded = recordsAll(queue) && inbox.settings !== ANSWERS;
      const at = dead.pushedAt ?? tx.now;
      const seq = this.#sql.addLetter.insert(queue.id, isRecorded ? NOBODY : inbox.id, at, letter) ?? 0;
      if (isRecorded) {
        // As `fieldsAsJson` has made them.
        const fields = JSON.parse(dead.fields ?? "{}") as Record<string, string>;
        this.#records.add(queue, seq, { at, expiresAt: null, fields: this.#records.fieldsOf(queue, fields) });
        this.#records.give(inbox.id, seq, null);
      } else {
        this.#items.count(queue, inbox, 1);
      }
      this.#sql.wait.run(inbox.id, dead.urgency, seq);
      return true;
    }
    const { record, seq, urgency } = held;
    if (record === null || record !== dead.record || this.#records.hasShare(inbox.id, seq)) return false;
    this.#records.reopen(queue, inbox.id, { id: record, seq });
    this.#sql.wait.run(inbox.id, urgency, seq);
    return true;
  }

  #addRecorded(tx: Tx, queue: QueueRow, inbox: Reader, item: BoundItem): number | undefined {
    const record = this.addShared(tx, queue, item);
    if (record === undefined) return undefined;
    const due = item.delayMs > 0 ? tx.now + item.delayMs : null;
    this.give(inbox, { seq: record.seq, urgency: item.urgency }, { expiresAt: expiryOf(tx, item), due });
    return 1;
  }

  #insert(tx: Tx, queue: QueueRow, inbox: Reader, item: BoundItem): number | undefined {
    const { id, urgency, header, data } = item;
    const seq = this.#sql.add.insert(queue.id, inbox.id, id, urgency, expiryOf(tx, item), tx.now, header, data);
    if (seq !== undefined) this.#items.count(queue, inbox, 1);
    return seq;
  }
}

export function expiryOf(tx: Tx, { ttlMs }: Pick<BoundItem, "ttlMs">): number | null {
  return ttlMs === undefined ? null : tx.now + ttlMs;
}

// Parameters come in the order of the calls above.
function prepare(db: Database) {
  return {
    add: db.prepare(
      `INSERT OR IGNORE INTO sb1_items (queue, reader, id, urgency, expires_at, at, header, data)
       VALUES (?, ?, ?, ?, ?, ?, ?, CAST(? AS BLOB))`,
    ),
    letter: db.prepare<Letter>(
      // Letters that an earlier build parked do not know how urgent they were.
      `SELECT position AS id, coalesce(urgency, 0) AS urgency, record, fields, pushed_at AS pushedAt
       FROM sb1_dead WHERE id = ?`,
    ),
    addLetter: db.prepare(
      `INSERT INTO sb1_items (queue, reader, id, urgency, at, header, data)
       SELECT ?, ?, position, coalesce(urgency, 0), ?, header, data FROM sb1_dead WHERE id = ?`,
    ),
    waitRange: db.prepare(
      `INSERT INTO sb1_waiting (reader, urgency, seq, attempt)
       SELECT reader, urgency, seq, 1 FROM sb1_items WHERE seq BETWEEN ? AND ?`,
    ),
    wait: db.prepare("INSERT INTO sb1_waiting (reader, urgency, seq, attempt) VALUES (?, ?, ?, 1)"),
  };
}
