/** What a consumer of a recipient takes: the most urgent item that is ready, the oldest first among equals. */

import type { Delivery, QueueConsumer } from "../../core/backend.js";
import { NotFoundError } from "../../core/errors.js";
import { createGraveyard } from "./dead-letters.js";
import type { Deliveries, Supply } from "./deliveries.js";
import type { Database } from "./driver.js";
import type { Source } from "./feed.js";
import type { Items, QueueRow } from "./items.js";
import type { Reader, Readers } from "./readers.js";
import { type StoredText, text, textOf } from "./values.js";
import type { Tx } from "./writer.js";

export interface InboxConsumer extends QueueConsumer {
  readonly queue: string;
  readonly recipient: string;
  /** The recipient's reader, and its fence when this consumer came. */
  readonly reader: number;
  readonly since: number;
}

interface ReadyRow {
  readonly urgency: number;
  readonly seq: number;
  readonly attempt: number;
  readonly id: StoredText;
  readonly header: StoredText;
  readonly data: Uint8Array;
}

/** Changes when there is something new for the recipient. */
export function inboxTopic(queue: string, recipient: string): string {
  return `inbox ${queue}\n${recipient}`;
}

/** Items that one take moves from parked to waiting; the next goes on. */
const MAX_PROMOTED = 5_000;

export type InboxSource = (consumer: InboxConsumer) => Source;

export function createInboxSource(db: Database, items: Items, readers: Readers, deliveries: Deliveries): InboxSource {
  const graveyard = createGraveyard(db, "SELECT id AS position, header, data FROM sb1_items WHERE seq = ?");
  const beyond = db.prepare<{ due: number }>(
    "SELECT due FROM sb1_parked WHERE reader = ? AND due <= ? ORDER BY due LIMIT 1 OFFSET ?",
  );
  const promote = db.prepare(
    `INSERT INTO sb1_waiting (reader, urgency, seq, attempt)
     SELECT parked.reader, items.urgency, parked.seq, parked.attempt
     FROM sb1_parked AS parked JOIN sb1_items AS items ON items.seq = parked.seq
     WHERE parked.reader = ? AND parked.due <= ?`,
  );
  const promoted = db.prepare("DELETE FROM sb1_parked WHERE reader = ? AND due <= ?");
  const ready = db.prepare<ReadyRow>(
    `SELECT waiting.urgency, waiting.seq, waiting.attempt, items.id, items.header, items.data
     FROM sb1_waiting AS waiting JOIN sb1_items AS items ON items.seq = waiting.seq
     WHERE waiting.reader = ? ORDER BY waiting.urgency, waiting.seq LIMIT ?`,
  );
  const lease = db.prepare(
    `INSERT INTO sb1_leased (reader, seq, fence, attempt, until, consumer)
     SELECT reader, seq, ?, attempt, ?, ? FROM sb1_waiting WHERE reader = ? AND (urgency, seq) <= (?, ?)`,
  );
  const leased = db.prepare("DELETE FROM sb1_waiting WHERE reader = ? AND (urgency, seq) <= (?, ?)");

  /** Retries and delayed items that are due compete by their priority again. */
  function promoteDue({ id }: Reader, now: number): void {
    const until = beyond.get(id, now, MAX_PROMOTED)?.due ?? now;
    if (promote.run(id, until) > 0) promoted.run(id, until);
  }

  function take(
    tx: Tx,
    inbox: Reader,
    max: number,
    leaseMs: number,
    consumer: StoredText,
  ): Delivery[] {
    promoteDue(inbox, tx.now);
    const rows = ready.all(inbox.id, max);
    const last = rows.at(-1);
    if (last === undefined) return [];
    const { fence, until, receipts } = deliveries.grant(tx, inbox, leaseMs);
    // What stands up to the last row is just these rows.
    lease.run(fence, until, consumer, inbox.id, last.urgency, last.seq);
    leased.run(inbox.id, last.urgency, last.seq);
    return rows.map(({ seq, attempt, id, header, data }) => {
      return { receipt: `${receipts}${seq}`, position: textOf(id), attempt, header: textOf(header), data };
    });
  }

  return (consumer) => {
    const { queue: name, recipient, reader: id, leaseMs, maxAttempts, maxDeadLetters } = consumer;
    const storedConsumer = text(consumer.consumer);
    const topic = inboxTopic(name, recipient);

    function load(tx: Tx): { inbox: Reader; queue: QueueRow } {
      const inbox = readers.get(tx, id);
      const queue = items.queue(tx, name);
      if (inbox === undefined || queue === undefined) throw new NotFoundError(`queue "${name}" was removed`);
      return { inbox, queue };
    }

    function supplyOf(queue: QueueRow): Supply {
      return {
        topic,
        bury: (inbox, seq, burial) => graveyard.bury(inbox, burial, [seq], maxDeadLetters),
        endWhereOver: (tx, inbox, seq) => items.expireOne(tx, queue, inbox, seq),
        finished: (_tx, inbox, first, last) => items.finish(queue, inbox, first, last),
      };
    }

    return {
      topic,
      name: `consumer "${consumer.consumer}" of recipient "${recipient}" of queue "${name}"`,
      take(tx, max, outcomes) {
        const { inbox, queue } = load(tx);
        const supply = supplyOf(queue);
        const lost = deliveries.settle(tx, inbox, outcomes, supply);
        const poisoned = deliveries.sweep(tx, inbox, maxAttempts, supply);
        // Very many that expired together are removed first, a slice at each call.
        const isClear = items.expire(tx, queue, inbox);
        const taken = max > 0 && isClear ? take(tx, inbox, max, leaseMs, storedConsumer) : [];
        tx.spend(taken.length);
        const expired = inbox.unreported;
        if (expired > 0) inbox.changed = true;
        inbox.unreported = 0;
        return { taken: { deliveries: taken, lost, gone: 0, expired, poisoned }, readyAt: deliveries.readyAt(inbox) };
      },
      extend(tx, receipts) {
        return deliveries.extend(tx, load(tx).inbox, receipts, leaseMs);
      },
      giveBack(tx) {
        deliveries.giveBack(tx, load(tx).inbox, storedConsumer, consumer.since);
      },
    };
  };
}
