/** Work for recipients in SQLite: most urgent first, leased to one consumer at a time. */

import type { Queue } from "../../core/backend.js";
import { createLettersOf } from "./dead-letters.js";
import type { Deliveries } from "./deliveries.js";
import { createFeed } from "./feed.js";
import { Inboxes, inboxTopic } from "./inboxes.js";
import { bindItem, Items } from "./items.js";
import type { Readers } from "./readers.js";
import type { Store } from "./store.js";

export function createQueue(store: Store, readers: Readers, deliveries: Deliveries): Queue {
  const { db, writer, clock } = store;
  const items = new Items(db, store.namespace, readers, deliveries);
  const inboxes = new Inboxes(db, items, readers, deliveries);
  const lettersOf = createLettersOf(store, readers);

  return {
    async push(name, newItems, { maxItems }) {
      store.assertOpen();
      if (newItems.length === 0) return [];
      const bound = newItems.map(bindItem);
      const duplicates = await writer.run((tx) => {
        const queue = items.getOrCreateQueue(tx, name);
        items.assertRoom(tx, queue, bound, maxItems);
        const added = items.add(tx, queue, bound);
        tx.spend(bound.length);
        for (const recipient of added.inboxes.keys()) tx.changed(inboxTopic(name, recipient));
        return added.duplicates;
      }, "messages");
      return newItems.map(({ id }, index) => ({ id, duplicate: duplicates[index] === true }));
    },

    async open(name, recipient, consumer) {
      store.assertOpen();
      const known = store.read(() => inboxes.find(name, recipient));
      const reader =
        known ?? (await writer.run((tx) => items.getOrCreateInbox(tx, items.getOrCreateQueue(tx, name), recipient).id));
      store.assertOpen();
      const source = store.read(() => inboxes.source(name, recipient, reader, consumer));
      return store.track((onClose) => createFeed(store, source, onClose));
    },

    deadLetters: (name, recipient) =>
      lettersOf({
        find: () => inboxes.find(name, recipient),
        putBack: (tx, inbox, letter) => inboxes.putBack(tx, name, recipient, inbox, letter),
      }),

    async stats(name, recipient) {
      store.assertOpen();
      return store.read(() => inboxes.stats(inboxes.find(name, recipient) ?? 0, clock.now()));
    },
  };
}
