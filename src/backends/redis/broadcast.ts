/** Broadcast over Redis pub/sub: at most once, to whoever is subscribed now. */

import type { Broadcast, BroadcastMessage, Bytes } from "../../core/backend.js";
import { compileGlob, INTERNAL } from "../../core/glob.js";
import type { Reply } from "./connection.js";
import { channelKey, channelPattern } from "./keys.js";
import type { Pool } from "./pool.js";
import type { Subscriber } from "./subscriber.js";

/** Channels of the health check begin with it. */
const PROBE = `${INTERNAL}probe:`;

/** The Redis channel of a health check, beside those of the users so that the same ACL covers it. */
export function probeChannel(namespace: string, id: string): string {
  return channelKey(namespace, PROBE + id);
}

/** The broadcast port. In a Cluster every node passes messages on to all others. */
export function createBroadcast(pool: Pool, subscriber: Subscriber, namespace: string): Broadcast {
  const { connections } = pool;
  // What stands before every channel is made once, not for every message.
  const prefix = channelKey(namespace, "");
  const prefixBytes = Buffer.byteLength(prefix);
  const publishOne = ({ channel, data }: BroadcastMessage): Promise<Reply> => {
    const key = prefix + channel;
    // One channel is always published by one node, which keeps its order.
    return connections.shared(key).command(["PUBLISH", key, toArg(data)]);
  };
  return {
    publish(messages) {
      const [first] = messages;
      if (first !== undefined && messages.length === 1) return publishOne(first).then(asCounts);
      return Promise.all(messages.map(publishOne)).then(asManyCounts);
    },
    async subscribe(target, listener) {
      const gap = (reason: string): void => listener.gap(reason);
      if ("channel" in target)
        return subscriber.subscribe("channel", prefix + target.channel, {
          message: (data) => listener.message(target.channel, data),
          gap,
        });
      const { wider, matches } = redisPattern(target.pattern);
      return subscriber.subscribe("pattern", channelPattern(namespace, wider), {
        message(data, key) {
          const channel = key.toString("utf8", prefixBytes);
          if (!channel.startsWith(INTERNAL) && matches(channel)) listener.message(channel, data);
        },
        gap,
      });
    },
  };
}

function asCounts(reply: Reply): readonly number[] {
  return [Number(reply)];
}

function asManyCounts(replies: readonly Reply[]): readonly number[] {
  return replies.map(Number);
}

/**
 * A pattern as Redis can be given it. Redis matches bytes, so that its `?` is half an `ä`: where a part stands for one
 * character that may have several bytes, Redis is asked for more, and the rest is left out here.
 */
export function redisPattern(pattern: string): { readonly wider: string; readonly matches: (name: string) => boolean } {
  // An escaped character; a set, which an end of the pattern closes too; any other character.
  const parts = pattern.match(/\\[^]|\[\^?(?:(?:\\[^]|[^\]\\])(?:-[^])?)*\]?|[^]/gu) ?? [];
  const wider = parts.map((part) => (part === "?" || (part.startsWith("[") && !isByteSet(part)) ? "*" : part)).join("");
  return wider === pattern ? { wider, matches: () => true } : { wider, matches: compileGlob(pattern) };
}

/** A set of ASCII characters matches one byte, and that byte is a character. */
function isByteSet(set: string): boolean {
  return !set.startsWith("[^") && /^[\x20-\x7e]*$/.test(set);
}

/** The client takes Buffers only; the bytes are shared, not copied. */
function toArg(data: Bytes): string | Buffer {
  if (typeof data === "string" || Buffer.isBuffer(data)) return data;
  return Buffer.from(data.buffer, data.byteOffset, data.byteLength);
}
