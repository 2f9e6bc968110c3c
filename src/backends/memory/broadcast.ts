/** Whoever listens now hears it; the readable specification of the broadcast port. */

import type { BackendContext, Broadcast, BroadcastListener, Bytes } from "../../core/backend.js";
import { Hub } from "../../core/hub.js";
import { getOrCreate, type Session } from "./session.js";
import { toStored } from "./stored.js";

export interface Subscription {
  readonly session: Session;
  readonly listener: BroadcastListener;
}

/** @param byNamespace the subscriptions of each namespace */
export function createBroadcast(
  session: Session,
  byNamespace: Map<string, Hub<Subscription>>,
  context: BackendContext,
): Broadcast {
  const hub = getOrCreate(byNamespace, context.namespace, () => new Hub<Subscription>());

  return {
    async publish(messages) {
      session.assertOpen();
      return messages.map((message) => {
        const hearing = hub.listeners(message);
        for (const { listener } of hearing) deliver(context, listener, message.channel, toStored(message.data));
        return new Set(hearing.map((subscription) => subscription.session)).size;
      });
    },

    async subscribe(target, listener) {
      session.assertOpen();
      const remove = hub.add(target, { session, listener });
      const forget = session.onClose(remove);
      return async () => {
        remove();
        forget();
      };
    },
  };
}

/** A listener that throws must not keep the message from the others. */
function deliver(context: BackendContext, listener: BroadcastListener, channel: string, data: Bytes): void {
  try {
    listener.message(channel, data);
  } catch (error) {
    context.report(error, "broadcast listener");
  }
}
