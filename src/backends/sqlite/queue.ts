/** Work for recipients in SQLite: most urgent first, leased to one consumer at a time. */

import type { Queue, QueueConsumer } from "../../core/backend.js";
import { SHARED_RECIPIENT } from "../../core/backend.js";
import { createLettersOf } from "./dead-letters.js";
import type { Deliveries } from "./deliveries.js";
import { createFeed } from "./feed.js";
import { bindItem } from "./intake.js";
import { lookingCalls } from "./looking.js";
import type { OnlineFeed } from "./online.js";
import { push, type PushResult } from "./pushing.js";
import { changingCalls } from "./changing.js";
import { createQueueParts, type QueueParts } from "./queue-parts.js";
import { inboxTopic } from "./queues.js";
import type { Readers } from "./readers.js";
import { recipientCalls } from "./recipient-calls.js";
import type { Store } from "./store.js";

export function createQueue(store: Store, readers: Readers, deliveries: Deliveries): Queue {
  const parts = createQueueParts(store, readers, deliveries);
  const lettersOf = createLettersOf(store, readers);

  return {
    async push(name, newItems, limits) {
      store.assertOpen();
      if (newItems.length === 0) return [];
      const bound = newItems.map(bindItem);
      const ids = bound.map(({ id }) => id);
      const pushOnce = async (): Promise<PushResult | undefined> =>
        await store.writer.run((tx) => {
          const queue = parts.queues.getOrCreate(tx, name);
          return parts.items.clear(tx, queue, ids) ? push(parts, tx, queue, bound, limits) : undefined;
        }, "messages");
      let result = await pushOnce();
      // An id is free once its last item has come to its end for all whom it was for.
      for (; result === undefined; result = await pushOnce()) store.assertOpen();
      const { pushed, underWay } = result;
      if (underWay.length > 0) await spread(store, parts, name, underWay);
      return pushed;
    },

    async open(name, recipient, consumer) {
      store.assertOpen();
      const known = recipient === SHARED_RECIPIENT ? store.read(() => parts.find(name, recipient)) : undefined;
      const { reader, online } =
        known === undefined ? await openInbox(store, parts, name, recipient, consumer) : { reader: known.id };
      store.assertOpen();
      const source = parts.inboxes.source(name, recipient, consumer, reader, online);
      return store.track((onClose) => createFeed(store, source, onClose));
    },

    deadLetters: (name, recipient) =>
      lettersOf({
        find: () => parts.find(name, recipient)?.id,
        putBack(tx, inbox, letter) {
          const queue = parts.queues.get(tx, name);
          if (queue === undefined || !parts.intake.putBack(tx, queue, inbox, letter)) return false;
          tx.changed(inboxTopic(name, recipient));
          return true;
        },
      }),

    ...recipientCalls(store, parts),
    ...lookingCalls(store, parts),
    ...changingCalls(store, parts),
  };
}

async function openInbox(
  { writer }: Store,
  { queues, recipients, online }: QueueParts,
  name: string,
  recipient: string,
  { registration }: QueueConsumer,
): Promise<{ readonly reader: number; readonly online?: OnlineFeed }> {
  return writer.run((tx) => {
    const queue = queues.getOrCreate(tx, name);
    if (recipient === SHARED_RECIPIENT) return { reader: recipients.inboxOf(tx, queue, recipient).id };
    recipients.meetLapsed(tx, queue);
    const inbox =
      registration === undefined
        ? recipients.inboxOf(tx, queue, recipient)
        : recipients.register(tx, queue, recipient, registration);
    return { reader: inbox.id, online: online.open(tx, queue.id, inbox) };
  });
}

/**
 * Gives large audiences their shares. Whoever takes from the queue does so as well, in any process, so that a failure here
 * changes nothing of what was promised.
 */
async function spread(store: Store, parts: QueueParts, name: string, records: readonly number[]): Promise<void> {
  const { queues, spreads } = parts;
  try {
    for (let isMore = true; isMore; ) {
      store.assertOpen();
      isMore = await store.writer.run((tx) => {
        const queue = queues.get(tx, name);
        if (queue === undefined || !records.some((record) => spreads.isUnderWay(record))) return false;
        spreads.advance(tx, queue);
        return true;
      });
    }
  } catch (error) {
    store.report(
      error,
      `giving an audience of queue "${name}" its items; the rest follows when somebody next takes or pushes`,
    );
  }
}
