/** The part of the queue port that knows recipients. */

import type { Queue } from "../../core/backend.js";
import type { Queues } from "./queues.js";

type RecipientCalls = Pick<Queue, "register" | "unregister" | "recipients" | "pause" | "resume">;

export function createRecipientCalls({ find, findOrCreate, now, report }: Queues): RecipientCalls {
  return {
    register: async (name, recipient, registration) =>
      findOrCreate(name).register(recipient, registration, now(), report),

    unregister: async (name, recipient) => find(name)?.unregister(recipient, now(), report) ?? false,

    async recipients(name, request) {
      const queue = find(name);
      if (queue === undefined) return { recipients: [] };
      const { page, ...rest } = queue.recipients.page(request, now());
      const recipients = page.map(({ recipient, isAudience, lapsesAt }) => ({
        recipient,
        isAudience,
        isOnline: queue.isOnline(recipient),
        lapsesAt,
      }));
      return { recipients, ...rest };
    },

    async pause(name, recipient) {
      findOrCreate(name).inboxOf(recipient).isPaused = true;
    },

    async resume(name, recipient) {
      const inbox = find(name)?.inboxes.get(recipient);
      if (inbox === undefined) return;
      inbox.isPaused = false;
      inbox.bell.ring();
    },
  };
}
