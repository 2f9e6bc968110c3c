/** What the calls of the queue port share. */

import { type Browse, createBrowse } from "./browsing.js";
import type { Deliveries } from "./deliveries.js";
import { InboxCounts } from "./inbox-counts.js";
import { Inboxes } from "./inboxes.js";
import { Intake } from "./intake.js";
import { ItemViews } from "./item-views.js";
import { Items } from "./items.js";
import { Online } from "./online.js";
import { answer, type PushParts } from "./pushing.js";
import { Queues } from "./queues.js";
import type { Reader, Readers } from "./readers.js";
import { Recipients } from "./recipients.js";
import { RecordLists } from "./record-lists.js";
import { Records } from "./records.js";
import { createRememberedIds } from "./remembered-ids.js";
import { Removal } from "./removal.js";
import { createRoom } from "./room.js";
import { Spreads } from "./spreads.js";
import type { Store } from "./store.js";

export interface QueueParts extends PushParts {
  /** The inbox of a recipient, as it was last committed. */
  readonly find: (queue: string, recipient: string) => Reader | undefined;
  readonly deliveries: Deliveries;
  readonly online: Online;
  readonly counts: InboxCounts;
  readonly inboxes: Inboxes;
  readonly views: ItemViews;
  readonly lists: RecordLists;
  readonly browse: Browse;
  readonly removal: Removal;
}

export function createQueueParts(store: Store, readers: Readers, deliveries: Deliveries): QueueParts {
  const { db } = store;
  const queues = new Queues(db, store.namespace);
  const records = new Records(db);
  const items = new Items(db, readers, deliveries, records);
  const intake = new Intake(db, items, deliveries, records);
  const spreads = new Spreads(db, intake, records);
  const online = new Online(store);
  const counts = new InboxCounts(db);
  const recipients = new Recipients(store, readers, items, online, counts);
  const ids = createRememberedIds(db, "sb1_item_ids", "queue");
  const pushing: PushParts = {
    queues,
    readers,
    items,
    intake,
    records,
    recipients,
    spreads,
    ids,
    room: createRoom(db),
  };
  const views = new ItemViews(db);
  return {
    ...pushing,
    find(name, recipient) {
      const queue = queues.find(name);
      const id = queue && readers.find("inbox", queue.id, recipient);
      return id === undefined ? undefined : readers.load(id);
    },
    deliveries,
    online,
    counts,
    inboxes: new Inboxes(db, {
      queues,
      readers,
      deliveries,
      items,
      records,
      recipients,
      spreads,
      answer: (tx, queue, reply) => answer(pushing, tx, queue, reply),
    }),
    views,
    lists: new RecordLists(db, views),
    browse: createBrowse(db),
    removal: new Removal(db, { readers, items, records, spreads, ids }),
  };
}
