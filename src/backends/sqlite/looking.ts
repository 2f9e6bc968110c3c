/** The calls of the queue port that look at what is there. */

import type { ItemPage, Queue, StoredItem } from "../../core/backend.js";
import { NOBODY } from "./items.js";
import type { QueueParts } from "./queue-parts.js";
import type { QueueRow } from "./queues.js";
import type { Reader } from "./readers.js";
import type { Store } from "./store.js";
import { text } from "./values.js";
import type { Tx } from "./writer.js";

type LookingCalls = Pick<Queue, "stats" | "browse" | "get" | "list" | "count">;

/** Slices of what is to be ended first that one call waits for. */
const MAX_SLICES = 10_000;

export function lookingCalls(store: Store, parts: QueueParts): LookingCalls {
  const { clock } = store;
  const { queues, items, views, find } = parts;

  return {
    async stats(name, recipient) {
      store.assertOpen();
      return store.read(() => parts.counts.stats(find(name, recipient), clock.now()));
    },

    async browse(name, recipient, page, state): Promise<ItemPage> {
      store.assertOpen();
      await updateInbox(store, parts, name, () => find(name, recipient));
      return store.read(() => parts.browse(find(name, recipient)?.id ?? NOBODY, page, state, clock.now()));
    },

    async get(name, id) {
      store.assertOpen();
      const bound = text(id);
      const look = (): { readonly item?: StoredItem; readonly isStale: boolean } => {
        const queue = queues.find(name);
        const held = queue && items.look(queue, bound);
        if (queue === undefined || held === undefined) return { isStale: false };
        const item = views.view(queue, held.seq);
        return { isStale: items.isStale(queue, held, clock.now()), ...(item && { item }) };
      };
      const { item, isStale } = store.read(look);
      if (!isStale) return item;
      for (let slices = 0, isClear = false; slices < MAX_SLICES && !isClear; slices += 1) {
        isClear = await store.writer.run((tx) => {
          const queue = queues.get(tx, name);
          const held = queue && items.find(tx, queue, bound);
          return held === undefined || items.isClear(held, tx.now);
        });
      }
      return store.read(look).item;
    },

    async list(name, filter, page): Promise<ItemPage> {
      await updateQueue(store, parts, name);
      return store.read(() => parts.lists.list(queueOf(parts, name), filter, page));
    },

    async count(name, filter) {
      await updateQueue(store, parts, name);
      return store.read(() => parts.lists.count(queueOf(parts, name), filter));
    },
  };
}

/** A queue that nobody has used has no settings and holds nothing. */
function queueOf({ queues }: QueueParts, name: string): QueueRow {
  return queues.find(name) ?? queues.unused(name);
}

/** Brings an inbox up to date as far as the clock alone decides, or at least a slice of it. */
async function updateInbox(
  store: Store,
  parts: QueueParts,
  name: string,
  find: () => Reader | undefined,
): Promise<void> {
  const { queues, readers, items, inboxes } = parts;
  const reader = store.read(() => {
    const inbox = find();
    const now = store.clock.now();
    return inbox !== undefined && (items.hasExpired(inbox, now) || inboxes.hasDue(inbox, now)) ? inbox.id : undefined;
  });
  if (reader === undefined) return;
  await store.writer.run((tx) => {
    const [queue, inbox] = [queues.get(tx, name), readers.get(tx, reader)];
    if (queue === undefined || inbox === undefined) return;
    items.expire(tx, queue, inbox);
    inboxes.promoteDue(inbox, tx.now);
  });
}

/** Ends all that has expired in a queue, and forgets what is kept no longer, so that what is counted is exact. */
export async function updateQueue(store: Store, parts: QueueParts, name: string): Promise<void> {
  store.assertOpen();
  const { queues, items, records, recipients } = parts;
  const isDue = (): boolean => {
    const queue = queues.find(name);
    const now = store.clock.now();
    if (queue === undefined) return false;
    return items.anyExpired(queue, now) || records.areAged(queue, now) || items.anyGone(queue);
  };
  const update = (tx: Tx): void => {
    const queue = queues.get(tx, name);
    if (queue === undefined) return;
    items.expireSome(tx, queue);
    records.trim(tx, queue);
    recipients.clean(tx, queue);
  };
  for (let slices = 0; slices < MAX_SLICES && store.read(isDue); slices += 1) await store.writer.run(update);
}
