/** Work for recipients in SQLite: most urgent first, leased to one consumer at a time. */

import type { Queue, QueueStats } from "../../core/backend.js";
import { LimitError } from "../../core/errors.js";
import { createLettersOf } from "./dead-letters.js";
import type { Deliveries } from "./deliveries.js";
import { createFeed } from "./feed.js";
import { createInboxSource, inboxTopic } from "./inboxes.js";
import { createItems, type QueueRow, type StoredItem, toStoredItem } from "./items.js";
import type { Reader, Readers } from "./readers.js";
import type { Store } from "./store.js";
import type { Tx } from "./writer.js";

export function createQueue(store: Store, readers: Readers, deliveries: Deliveries): Queue {
  const { db, writer, clock } = store;
  const items = createItems(db, store.namespace, readers, deliveries);
  const lettersOf = createLettersOf(store);
  const sourceOf = createInboxSource(db, items, readers, deliveries);
  const counts = db.prepare<{
    items: number;
    leased: number;
    delayed: number;
    over: number;
    dead: number;
    expired: number;
  }>(
    `SELECT items, dead, expired,
       (SELECT count(*) FROM sb1_leased WHERE reader = id) AS leased,
       (SELECT count(*) FROM sb1_parked AS parked JOIN sb1_items AS items ON items.seq = parked.seq
        WHERE parked.reader = sb1_readers.id AND due > ? AND (expires_at IS NULL OR expires_at > ?)) AS delayed,
       (SELECT count(*) FROM sb1_items AS items WHERE reader = sb1_readers.id AND expires_at <= ?
        AND NOT EXISTS (SELECT 1 FROM sb1_leased WHERE reader = items.reader AND seq = items.seq)) AS over
     FROM sb1_readers WHERE id = ?`,
  );

  function findInbox(queue: string, recipient: string): number | undefined {
    const found = items.findQueue(queue);
    return found && readers.find("inbox", found.id, recipient);
  }

  function inboxOf(tx: Tx, queue: QueueRow, recipient: string): Reader {
    const id = readers.find("inbox", queue.id, recipient);
    const known = id === undefined ? undefined : readers.get(tx, id);
    return known ?? readers.insert(tx, "inbox", queue.id, recipient, null);
  }

  /** @throws {LimitError} */
  function assertRoom(tx: Tx, queue: QueueRow, adding: readonly StoredItem[], maxItems: number): void {
    if (queue.items + adding.length <= maxItems) return;
    // Only now it matters which are expired, and which are duplicates.
    for (const { id } of readers.of("inbox", queue.id)) {
      const inbox = readers.get(tx, id);
      if (inbox !== undefined) items.expire(tx, queue, inbox);
    }
    const fresh = new Set(adding.filter(({ storedId }) => !items.holds(queue, storedId)).map(({ id }) => id));
    if (queue.items + fresh.size <= maxItems) return;
    throw new LimitError(`queue "${queue.name}" holds its maxItems of ${maxItems}: wait for consumers, or raise it`, {
      retryable: true,
    });
  }

  return {
    async push(name, newItems, { maxItems }) {
      store.assertOpen();
      if (newItems.length === 0) return [];
      const stored = newItems.map(toStoredItem);
      return writer.run((tx) => {
        const queue = items.getOrCreateQueue(tx, name);
        assertRoom(tx, queue, stored, maxItems);
        tx.spend(stored.length);
        const inboxes = new Map<string, Reader>();
        const pushed = stored.map((item) => {
          const inbox = inboxes.get(item.recipient) ?? inboxOf(tx, queue, item.recipient);
          inboxes.set(item.recipient, inbox);
          return { id: item.id, duplicate: !items.add(tx, queue, inbox, item) };
        });
        for (const recipient of inboxes.keys()) tx.changed(inboxTopic(name, recipient));
        return pushed;
      }, "messages");
    },

    async open(name, recipient, consumer) {
      store.assertOpen();
      const known = store.read(() => findInbox(name, recipient));
      const reader = known ?? (await writer.run((tx) => inboxOf(tx, items.getOrCreateQueue(tx, name), recipient).id));
      store.assertOpen();
      const since = store.read(() => readers.fenceOf(reader));
      const source = sourceOf({ ...consumer, queue: name, recipient, reader, since });
      return store.track((onClose) => createFeed(store, source, onClose));
    },

    deadLetters: (name, recipient) => lettersOf(() => findInbox(name, recipient)),

    async stats(name, recipient): Promise<QueueStats> {
      store.assertOpen();
      const now = clock.now();
      const row = store.read(() => {
        const inbox = findInbox(name, recipient);
        return inbox === undefined ? undefined : counts.get(now, now, now, inbox);
      });
      if (row === undefined) return { waiting: 0, leased: 0, delayed: 0, dead: 0, expired: 0 };
      const { leased, delayed, over, dead } = row;
      return { waiting: row.items - leased - delayed - over, leased, delayed, dead, expired: row.expired + over };
    },
  };
}
