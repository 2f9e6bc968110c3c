/** What a consumer of a recipient takes: the most urgent item that is ready, the oldest first among equals. */

import type { Delivery, QueueConsumer, QueueStats } from "../../core/backend.js";
import { NotFoundError } from "../../core/errors.js";
import { createGraveyard, type Graveyard } from "./graveyard.js";
import type { Deliveries, Supply } from "./deliveries.js";
import type { Database } from "./driver.js";
import type { Source } from "./feed.js";
import { takeUnreported } from "./group-source.js";
import type { Items, QueueRow } from "./items.js";
import type { Reader, Readers } from "./readers.js";
import { type StoredText, text, textOf } from "./values.js";
import type { Tx } from "./writer.js";

interface InboxConsumer extends Omit<QueueConsumer, "consumer"> {
  readonly reader: number;
  readonly queue: string;
  readonly topic: string;
  readonly consumer: StoredText;
}

/** Changes when there is something new for the recipient. */
export function inboxTopic(queue: string, recipient: string): string {
  return `inbox ${queue}\n${recipient}`;
}

/** Items that one take moves from parked to waiting; the next goes on. */
const MAX_PROMOTED = 5_000;

export class Inboxes {
  readonly #sql: ReturnType<typeof prepare>;
  readonly #graveyard: Graveyard;
  readonly #items: Items;
  readonly #readers: Readers;
  readonly #deliveries: Deliveries;

  constructor(db: Database, items: Items, readers: Readers, deliveries: Deliveries) {
    this.#sql = prepare(db);
    this.#graveyard = createGraveyard(
      db,
      "SELECT id AS position, header, data, NULL AS key, urgency FROM sb1_items WHERE seq = ?",
    );
    this.#items = items;
    this.#readers = readers;
    this.#deliveries = deliveries;
  }

  /** The inbox's reader, as it was last committed. */
  find(queueName: string, recipient: string): number | undefined {
    const queue = this.#items.findQueue(queueName);
    return queue && this.#readers.find("inbox", queue.id, recipient);
  }

  stats(reader: number, now: number): QueueStats {
    const row = this.#sql.counts.get(now, now, now, reader);
    if (row === undefined) return { waiting: 0, leased: 0, delayed: 0, dead: 0, expired: 0 };
    const { items, leased, delayed, over, dead, expired } = row;
    return { waiting: items - leased - delayed - over, leased, delayed, dead, expired: expired + over };
  }

  source(queue: string, recipient: string, reader: number, options: QueueConsumer): Source {
    const since = this.#readers.fenceOf(reader);
    const topic = inboxTopic(queue, recipient);
    const opened: InboxConsumer = { ...options, reader, queue, topic, consumer: text(options.consumer) };
    return {
      topics: [topic],
      name: `consumer "${options.consumer}" of recipient "${recipient}" of queue "${queue}"`,
      take: (tx, max, outcomes) => {
        const loaded = this.#load(tx, opened);
        const supply = this.#supplyOf(loaded.queue, opened);
        const lost = this.#deliveries.settle(tx, loaded.inbox, outcomes, supply);
        const poisoned = this.#deliveries.sweep(tx, loaded.inbox, opened.maxAttempts, supply);
        // Very many that expired together are removed first, a slice at each call.
        const isClear = this.#items.expire(tx, loaded.queue, loaded.inbox);
        const deliveries = max > 0 && isClear ? this.#take(tx, loaded.inbox, max, opened) : [];
        const expired = takeUnreported(loaded.inbox);
        return {
          taken: { deliveries, lost, gone: 0, expired, poisoned },
          readyAt: this.#deliveries.readyAt(loaded.inbox),
        };
      },
      extend: (tx, receipts) => this.#deliveries.extend(tx, this.#load(tx, opened).inbox, receipts, opened.leaseMs),
      giveBack: (tx) => {
        this.#deliveries.giveBack(tx, this.#load(tx, opened).inbox, opened.consumer, since);
        tx.changed(topic);
      },
    };
  }

  /** Puts a dead letter's message back. @returns false when the queue holds an item of that id again */
  putBack(tx: Tx, queueName: string, recipient: string, inbox: Reader, letter: number): boolean {
    const queue = this.#items.queue(tx, queueName);
    if (queue === undefined || !this.#items.putBack(tx, queue, inbox, letter)) return false;
    tx.changed(inboxTopic(queueName, recipient));
    return true;
  }

  #load(tx: Tx, { reader, queue: name }: InboxConsumer): { inbox: Reader; queue: QueueRow } {
    const inbox = this.#readers.get(tx, reader);
    const queue = this.#items.queue(tx, name);
    if (inbox === undefined || queue === undefined)
      throw new NotFoundError(`a recipient of queue "${name}" was removed`);
    return { inbox, queue };
  }

  #supplyOf(queue: QueueRow, { topic, maxDeadLetters }: InboxConsumer): Supply {
    return {
      topic,
      bury: (inbox, seq, burial) => this.#graveyard.bury(inbox, burial, [seq], maxDeadLetters),
      endWhereOver: (tx, inbox, seq) => this.#items.expireOne(tx, queue, inbox, seq),
      finished: (inbox, seq) => this.#items.finish(queue, inbox, seq),
      acknowledged: (inbox, first, last, fence) => this.#items.acknowledge(queue, inbox, first, last, fence),
    };
  }

  #take(tx: Tx, inbox: Reader, max: number, { leaseMs, consumer }: InboxConsumer): Delivery[] {
    this.#promoteDue(inbox, tx.now);
    const rows = this.#sql.ready.all(inbox.id, max);
    const last = rows.at(-1);
    if (last === undefined) return [];
    const { fence, until, receipts } = this.#deliveries.grant(tx, inbox, leaseMs);
    // What stands up to the last row is just these rows.
    this.#sql.lease.run(fence, until, consumer, inbox.id, last.urgency, last.seq);
    this.#sql.leave.run(inbox.id, last.urgency, last.seq);
    tx.spend(rows.length);
    return rows.map(({ seq, attempt, id, header, data }) => {
      return { receipt: `${receipts}${seq}`, position: textOf(id), attempt, header: textOf(header), data };
    });
  }

  /** Retries and delayed items that are due compete by their priority again. */
  #promoteDue({ id }: Reader, now: number): void {
    const until = this.#sql.beyond.get(id, now, MAX_PROMOTED)?.due ?? now;
    if (this.#sql.promote.run(id, until) > 0) this.#sql.promoted.run(id, until);
  }
}

// Parameters come in the order of the calls above.
function prepare(db: Database) {
  return {
    beyond: db.prepare<{ due: number }>(
      "SELECT due FROM sb1_parked WHERE reader = ? AND due <= ? ORDER BY due LIMIT 1 OFFSET ?",
    ),
    promote: db.prepare(
      `INSERT INTO sb1_waiting (reader, urgency, seq, attempt, failed_at)
       SELECT parked.reader, items.urgency, parked.seq, parked.attempt, parked.failed_at
       FROM sb1_parked AS parked JOIN sb1_items AS items ON items.seq = parked.seq
       WHERE parked.reader = ? AND parked.due <= ?`,
    ),
    promoted: db.prepare("DELETE FROM sb1_parked WHERE reader = ? AND due <= ?"),
    ready: db.prepare<{
      readonly urgency: number;
      readonly seq: number;
      readonly attempt: number;
      readonly id: StoredText;
      readonly header: StoredText;
      readonly data: Uint8Array;
    }>(
      `SELECT waiting.urgency, waiting.seq, waiting.attempt, items.id, items.header, items.data
       FROM sb1_waiting AS waiting JOIN sb1_items AS items ON items.seq = waiting.seq
       WHERE waiting.reader = ? ORDER BY waiting.urgency, waiting.seq LIMIT ?`,
    ),
    lease: db.prepare(
      `INSERT INTO sb1_leased (reader, seq, fence, attempt, until, consumer, failed_at)
       SELECT reader, seq, ?, attempt, ?, ?, failed_at FROM sb1_waiting WHERE reader = ? AND (urgency, seq) <= (?, ?)`,
    ),
    leave: db.prepare("DELETE FROM sb1_waiting WHERE reader = ? AND (urgency, seq) <= (?, ?)"),
    counts: db.prepare<QueueStats & { readonly items: number; readonly over: number }>(
      `SELECT items, dead, expired,
         (SELECT count(*) FROM sb1_leased WHERE reader = id) AS leased,
         (SELECT count(*) FROM sb1_parked AS parked JOIN sb1_items AS items ON items.seq = parked.seq
          WHERE parked.reader = sb1_readers.id AND due > ? AND (expires_at IS NULL OR expires_at > ?)) AS delayed,
         (SELECT count(*) FROM sb1_items AS items WHERE reader = sb1_readers.id AND expires_at <= ?
          AND NOT EXISTS (SELECT 1 FROM sb1_leased WHERE reader = items.reader AND seq = items.seq)) AS over
       FROM sb1_readers WHERE id = ?`,
    ),
  };
}
