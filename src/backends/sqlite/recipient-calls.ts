/** The calls of the queue port that are about recipients. */

import type { Queue } from "../../core/backend.js";
import { placeOf } from "./cursors.js";
import type { QueueParts } from "./queue-parts.js";
import { inboxTopic, type QueueRow } from "./queues.js";
import type { Store } from "./store.js";
import type { Tx } from "./writer.js";

type RecipientCalls = Pick<Queue, "register" | "unregister" | "recipients" | "pause" | "resume">;

export function recipientCalls(store: Store, { queues, recipients }: QueueParts): RecipientCalls {
  /** Runs `work` on a queue, which is made where there is none. */
  async function change<T>(name: string, work: (tx: Tx, queue: QueueRow) => T): Promise<T> {
    store.assertOpen();
    return store.writer.run((tx) => work(tx, queues.getOrCreate(tx, name)));
  }

  async function set(name: string, recipient: string, state: "paused" | "resumed"): Promise<void> {
    const paused = state === "paused";
    return change(name, (tx, queue) => {
      const inbox = recipients.inboxOf(tx, queue, recipient);
      if (inbox.paused === paused) return;
      inbox.paused = paused;
      inbox.changed = true;
      tx.changed(inboxTopic(name, recipient));
    });
  }

  return {
    register: (name, recipient, registration) =>
      change(name, (tx, queue) => {
        recipients.meetLapsed(tx, queue);
        recipients.register(tx, queue, recipient, registration);
      }),

    async unregister(name, recipient) {
      store.assertOpen();
      const step = async (work: (tx: Tx, queue: QueueRow) => boolean): Promise<boolean | undefined> =>
        store.writer.run((tx) => {
          const queue = queues.get(tx, name);
          return queue && work(tx, queue);
        });
      const wasRegistered = await step((tx, queue) => recipients.unregister(tx, queue, recipient));
      while ((await step((tx, queue) => recipients.clean(tx, queue))) === false);
      return wasRegistered === true;
    },

    async recipients(name, { max, cursor }) {
      store.assertOpen();
      const [after = 0] = placeOf(cursor, [0]);
      return store.read(() => {
        const queue = queues.find(name);
        return queue === undefined ? { recipients: [] } : recipients.page(queue, max, after, store.clock.now());
      });
    },

    pause: (name, recipient) => set(name, recipient, "paused"),
    resume: (name, recipient) => set(name, recipient, "resumed"),
  };
}
