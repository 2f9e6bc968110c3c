/** The calls of the queue port that end items one by one, or all together, and that say what is kept of them. */

import type { Queue } from "../../core/backend.js";
import { updateQueue } from "./looking.js";
import type { QueueParts } from "./queue-parts.js";
import { type QueueRow, settingsOf } from "./queues.js";
import type { Store } from "./store.js";
import { text } from "./values.js";
import type { Tx } from "./writer.js";

type ChangingCalls = Pick<Queue, "configure" | "acknowledge" | "remove" | "clear">;

/** Items that one transaction acknowledges, or removes at most. */
const SLICE = 500;

/** What one transaction of several has come to, and where the next goes on. */
interface Step<At> {
  readonly count: number;
  readonly next: At | undefined;
}

export function changingCalls(store: Store, parts: QueueParts): ChangingCalls {
  const { queues, removal } = parts;

  /**
   * Goes through a queue in several transactions, so that none of them is long.
   *
   * @returns what they come to together; 0 where there is no such queue
   */
  async function change<At>(
    name: string,
    first: At,
    work: (tx: Tx, queue: QueueRow, at: At) => Step<At>,
  ): Promise<number> {
    let sum = 0;
    for (let at: At | undefined = first; at !== undefined; ) {
      store.assertOpen();
      const from: At = at;
      const { count, next }: Step<At> = await store.writer.run((tx) => {
        const queue = queues.get(tx, name);
        return queue === undefined ? { count: 0, next: undefined } : work(tx, queue, from);
      });
      sum += count;
      at = next;
    }
    return sum;
  }

  return {
    async configure(name, settings) {
      await updateQueue(store, parts, name);
      return await store.writer.run((tx) => {
        const queue = queues.getOrCreate(tx, name);
        if (queue.items + queue.records === 0) queues.configure(queue, settings);
        return settingsOf(queue);
      });
    },

    async acknowledge(name, recipient, ids) {
      store.assertOpen();
      const acknowledged: boolean[] = [];
      for (let from = 0; from < ids.length; from += SLICE) {
        const slice = ids.slice(from, from + SLICE);
        acknowledged.push(...(await store.writer.run((tx) => acknowledgeSome(parts, tx, { name, recipient }, slice))));
      }
      return acknowledged;
    },

    remove: (name, ids) =>
      change(name, 0, (tx, queue, from) => {
        const { done, count } = removal.removeSome(tx, queue, ids.slice(from, from + SLICE).map(text));
        return { count, next: from + done < ids.length ? from + done : undefined };
      }),

    async clear(name) {
      await updateQueue(store, parts, name);
      const last = store.read(() => removal.lastOf());
      const count = await change(name, last, (tx, queue) => {
        const { removed, isDone } = removal.clearItems(tx, queue, last);
        return { count: removed, next: isDone ? undefined : last };
      });
      await change(name, text(""), (tx, queue, from) => ({ count: 0, next: removal.clearLetters(tx, queue, from) }));
      await change(name, 0, (tx, queue) => ({ count: 0, next: removal.clearIds(tx, queue) ? undefined : 0 }));
      return count;
    },
  };
}

function acknowledgeSome(
  { queues, items, recipients }: QueueParts,
  tx: Tx,
  { name, recipient }: { readonly name: string; readonly recipient: string },
  ids: readonly string[],
): readonly boolean[] {
  const queue = queues.get(tx, name);
  const inbox = queue && recipients.inbox(tx, queue, recipient);
  tx.spend(ids.length);
  return ids.map((id) => {
    if (queue === undefined || inbox === undefined) return false;
    const held = items.findFor(tx, queue, inbox, text(id));
    return held !== undefined && items.end(tx, queue, inbox, held, "acked");
  });
}
