/** Whoever listens now hears it; the readable specification of the broadcast port. */

import type {
  BackendContext,
  Broadcast,
  BroadcastListener,
  BroadcastMessage,
  BroadcastTarget,
} from "../../core/backend.js";
import { compileGlob } from "../../core/glob.js";
import { toBytes } from "./stored.js";
import { getOrCreate, type Session } from "./session.js";

/** The subscriptions of one namespace. */
export interface MemoryChannels {
  readonly exact: Map<string, Set<Subscription>>;
  readonly sharded: Map<string, Set<Subscription>>;
  readonly patterns: Set<Subscription & { readonly matches: (channel: string) => boolean }>;
}

interface Subscription {
  readonly session: Session;
  readonly listener: BroadcastListener;
}

export function createBroadcast(
  session: Session,
  byNamespace: Map<string, MemoryChannels>,
  context: BackendContext,
): Broadcast {
  const channels: MemoryChannels = getOrCreate(byNamespace, context.namespace, createChannels);

  return {
    async publish(messages) {
      session.assertOpen();
      return messages.map((message) => {
        const hearing = listenersOf(channels, message);
        for (const { listener } of hearing) deliver(context, listener, message.channel, toBytes(message.data));
        return new Set(hearing.map((subscription) => subscription.session)).size;
      });
    },

    async subscribe(target, listener) {
      session.assertOpen();
      const remove = add(channels, target, { session, listener });
      const forget = session.onClose(remove);
      return async () => {
        remove();
        forget();
      };
    },
  };
}

function createChannels(): MemoryChannels {
  return { exact: new Map(), sharded: new Map(), patterns: new Set() };
}

function add(channels: MemoryChannels, target: BroadcastTarget, subscription: Subscription): () => void {
  if ("pattern" in target) {
    const entry = { ...subscription, matches: compileGlob(target.pattern) };
    channels.patterns.add(entry);
    return () => channels.patterns.delete(entry);
  }
  const { channel } = target;
  const named = target.sharded ? channels.sharded : channels.exact;
  getOrCreate(named, channel, () => new Set<Subscription>()).add(subscription);
  return () => {
    const left = named.get(channel);
    left?.delete(subscription);
    if (left?.size === 0) named.delete(channel);
  };
}

function listenersOf({ exact, sharded, patterns }: MemoryChannels, message: BroadcastMessage): readonly Subscription[] {
  const { channel } = message;
  if (message.sharded) return [...(sharded.get(channel) ?? [])];
  const matching = [...patterns].filter(({ matches }) => matches(channel));
  return [...(exact.get(channel) ?? []), ...matching];
}

/** A listener that throws must not keep the message from the others. */
function deliver(context: BackendContext, listener: BroadcastListener, channel: string, data: Uint8Array): void {
  try {
    listener.message(channel, data);
  } catch (error) {
    context.report(error, "broadcast listener");
  }
}
