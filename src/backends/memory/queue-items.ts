/** The part of the queue port that looks at items one by one, and ends them. */

import type { ItemFilter, Queue } from "../../core/backend.js";
import { NO_RECORDS } from "../../core/backend.js";
import { notIndexed } from "../../core/limits.js";
import { browse } from "./browse.js";
import { type Item, type Share, toStoredItem } from "./items.js";
import type { MemoryQueue } from "./memory-queue.js";
import type { Queues } from "./queues.js";

type ItemCalls = Pick<Queue, "configure" | "browse" | "get" | "list" | "count" | "acknowledge" | "remove" | "clear">;

export function createItemCalls({ find, findOrCreate, now }: Queues): ItemCalls {
  /** The queue without what has ended by the clock alone. */
  const findUpdated = (name: string): MemoryQueue | undefined => {
    const queue = find(name);
    queue?.update(now());
    return queue;
  };

  return {
    configure: async (name, settings) => findOrCreate(name).configure(settings, now()),

    async browse(name, recipient, request, state) {
      const inbox = find(name)?.inboxes.get(recipient);
      if (inbox === undefined) return { items: [] };
      inbox.update(now());
      const { page, ...rest } = browse(inbox, request, state);
      return { items: page.map((share) => toStoredItem(share.item, [share])), ...rest };
    },

    async get(name, id) {
      const queue = find(name);
      queue?.records.age(now());
      const item = queue?.find(id, now());
      if (queue === undefined || item === undefined) return undefined;
      for (const { inbox } of item.shares) inbox.update(now());
      return toStoredItem(item, shown(queue, item));
    },

    async list(name, filter, request) {
      const queue = findUpdated(name);
      assertIndexed(name, queue, filter);
      if (queue === undefined) return { items: [] };
      const { page, ...rest } = queue.records.list(filter, request);
      return { items: page.map((item) => toStoredItem(item, shown(queue, item))), ...rest };
    },

    async count(name, filter) {
      const queue = findUpdated(name);
      if (!isEmpty(filter)) assertIndexed(name, queue, filter);
      if (queue === undefined) return 0;
      return isEmpty(filter) ? queue.pushed + queue.records.size : queue.records.count(filter);
    },

    async acknowledge(name, recipient, ids) {
      const queue = find(name);
      return ids.map((id) => queue?.acknowledge(recipient, id, now()) ?? false);
    },

    async remove(name, ids) {
      const queue = find(name);
      return ids.filter((id) => queue?.remove(id, now())).length;
    },

    clear: async (name) => find(name)?.clear(now()) ?? 0,
  };
}

/** Of an item, those who have it to finish; and where records are kept, those who have finished it. */
function shown({ records }: MemoryQueue, { shares }: Item): readonly Share[] {
  return shares.filter(({ state, isOpen }) => isOpen || (records.areKept && state !== "gone"));
}

function isEmpty({ fields = {}, state }: ItemFilter): boolean {
  return state === undefined && Object.keys(fields).length === 0;
}

/** @throws {UnsupportedError} */
function assertIndexed(name: string, queue: MemoryQueue | undefined, { fields = {} }: ItemFilter): void {
  const { index } = queue?.records.settings ?? NO_RECORDS;
  const missing = Object.keys(fields).find((field) => index?.includes(field) !== true);
  if (index === undefined || missing !== undefined) throw notIndexed(name, index, missing);
}
