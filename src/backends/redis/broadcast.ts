/** Broadcast over Redis pub/sub: at most once, to whoever is subscribed now. */

import type { Broadcast, Bytes } from "../../core/backend.js";
import { channelKey, channelName, channelPattern } from "./keys.js";
import type { Pool } from "./pool.js";
import type { Subscriber } from "./subscriber.js";

/** Channels of the health check begin with it; users' names hold no control characters. */
const PROBE = "\u0001probe:";

/** The Redis channel of a health check, beside those of the users so that the same ACL covers it. */
export function probeChannel(namespace: string, id: string): string {
  return channelKey(namespace, PROBE + id);
}

/** The broadcast port. In a Cluster every node passes messages on to all others. */
export function createBroadcast(pool: Pool, subscriber: Subscriber, namespace: string): Broadcast {
  const { connections } = pool;
  const publishOne = async (channel: string, data: Bytes): Promise<number> => {
    const key = channelKey(namespace, channel);
    // One channel is always published by one node, which keeps its order.
    return Number(await connections.shared(key).command(["PUBLISH", key, toArg(data)]));
  };
  return {
    publish: (messages) => Promise.all(messages.map(({ channel, data }) => publishOne(channel, data))),
    async subscribe(target, listener) {
      const gap = (reason: string): void => listener.gap(reason);
      if ("channel" in target)
        return subscriber.subscribe("channel", channelKey(namespace, target.channel), {
          message: (data) => listener.message(target.channel, data),
          gap,
        });
      return subscriber.subscribe("pattern", channelPattern(namespace, target.pattern), {
        message(data, key) {
          const channel = channelName(namespace, key.toString());
          if (channel !== undefined && !channel.startsWith(PROBE)) listener.message(channel, data);
        },
        gap,
      });
    },
  };
}

/** The client takes Buffers only; the bytes are shared, not copied. */
function toArg(data: Bytes): string | Buffer {
  if (typeof data === "string" || Buffer.isBuffer(data)) return data;
  return Buffer.from(data.buffer, data.byteOffset, data.byteLength);
}
