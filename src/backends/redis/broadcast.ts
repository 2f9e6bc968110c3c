/** Broadcast over Redis pub/sub: at most once, to whoever is subscribed now. Listeners here hear without Redis. */

import type { BackendContext, Broadcast, BroadcastListener, BroadcastMessage, Bytes } from "../../core/backend.js";
import { compileGlob, INTERNAL } from "../../core/glob.js";
import { type Destination, Hub } from "../../core/hub.js";
import { fitting, type Wire } from "./frame.js";
import { channelKey, channelPattern } from "./keys.js";
import type { Pool } from "./pool.js";
import type { Subscriber } from "./subscriber.js";

/** Channels of the health check begin with it. */
export const PROBE: string = `${INTERNAL}probe:`;

/** The Redis channel of a health check, beside those of the users so that the same ACL covers it. */
export function probeChannel(namespace: string, id: string): string {
  return channelKey(namespace, PROBE + id);
}

/** The broadcast port. In a Cluster every node passes messages on to all others, but for those of sharded channels. */
export function createBroadcast(
  pool: Pool,
  subscriber: Subscriber,
  wire: Wire,
  { namespace, report }: BackendContext,
): Broadcast {
  const { connections } = pool;
  const hub = new Hub<{ readonly listener: BroadcastListener }>();
  // What stands before every channel is made once, not for every message.
  const prefix = channelKey(namespace, "");
  const prefixBytes = Buffer.byteLength(prefix);

  function deliverHere(message: BroadcastMessage): boolean {
    if (hub.isEmpty) return false;
    const listeners = hub.listeners(message);
    if (listeners.length === 0) return false;
    const data = typeof message.data === "string" ? message.data : Buffer.from(message.data);
    for (const { listener } of listeners) {
      try {
        listener.message(message.channel, data);
      } catch (error) {
        // A listener that throws must not keep the message from the others.
        report(error, "broadcast listener");
      }
    }
    return true;
  }

  /** @returns how many connections Redis has passed them on to */
  async function send({ channel, sharded }: Destination, payloads: readonly Bytes[]): Promise<number> {
    const key = prefix + channel;
    // One channel is always published by one node, which keeps its order.
    return Number(await connections.shared(key).command([sharded ? "SPUBLISH" : "PUBLISH", key, wire.pack(payloads)]));
  }

  return {
    async publish(messages) {
      subscriber.assertOpen();
      const [only] = messages;
      if (only !== undefined && messages.length === 1) {
        const heardHere = deliverHere(only) ? 1 : 0;
        return [Math.max(await send(only, [only.data]), heardHere)];
      }
      const counts: number[] = messages.map((message) => (deliverHere(message) ? 1 : 0));
      const payloads = messages.map(({ data }) => data);
      await Promise.all(
        framesOf(messages, payloads).map(async ({ destination, from, to }) => {
          const reached = await send(destination, payloads.slice(from, to));
          for (let index = from; index < to; index += 1) counts[index] = Math.max(counts[index] ?? 0, reached);
        }),
      );
      return counts;
    },

    async subscribe(target, listener) {
      const gap = (reason: string): void => listener.gap(reason);
      let leave: () => void;
      if ("channel" in target) {
        const { channel } = target;
        const message = (data: Bytes): void => listener.message(channel, data);
        leave = await subscriber.subscribe(target.sharded ? "sharded" : "channel", prefix + channel, { message, gap });
      } else {
        const { wider, matches } = redisPattern(target.pattern);
        const message = (data: Bytes, key: Buffer): void => {
          const channel = key.toString("utf8", prefixBytes);
          if (!channel.startsWith(INTERNAL) && matches(channel)) listener.message(channel, data);
        };
        leave = await subscriber.subscribe("pattern", channelPattern(namespace, wider), { message, gap });
      }
      const remove = hub.add(target, { listener });
      return async () => {
        remove();
        leave();
      };
    },
  };
}

/** Messages that one PUBLISH takes: neighbours of one channel, and no more than it may be. */
interface Frame {
  readonly destination: Destination;
  readonly from: number;
  readonly to: number;
}

function framesOf(messages: readonly Destination[], payloads: readonly Bytes[]): readonly Frame[] {
  const frames: Frame[] = [];
  for (let from = 0; from < messages.length; ) {
    const destination = messages[from] as Destination;
    const { channel, sharded } = destination;
    const most = from + fitting(payloads, from);
    let to = from + 1;
    while (to < most && messages[to]?.channel === channel && messages[to]?.sharded === sharded) to += 1;
    frames.push({ destination, from, to });
    from = to;
  }
  return frames;
}

/**
 * A pattern as Redis can be given it. Redis matches bytes, so that its `?` is half an `ä`: where a part stands for one
 * character that may have several bytes, Redis is asked for more, and the rest is left out here.
 */
export function redisPattern(pattern: string): { readonly wider: string; readonly matches: (name: string) => boolean } {
  // An escaped character; a set, which an end of the pattern closes too; any other character.
  const parts = pattern.match(/\\[^]|\[\^?(?:\\[^]|[^\]](?:-[^])?)*\]?|[^]/gu) ?? [];
  const wider = parts.map((part) => (part === "?" || (part.startsWith("[") && !isByteSet(part)) ? "*" : part)).join("");
  return wider === pattern ? { wider, matches: () => true } : { wider, matches: compileGlob(pattern) };
}

/** A set of ASCII characters matches one byte, and that byte is a character. */
function isByteSet(set: string): boolean {
  return !set.startsWith("[^") && /^[\x20-\x7e]*$/.test(set);
}
