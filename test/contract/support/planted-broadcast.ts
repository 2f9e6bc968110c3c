/** Bugs of broadcasting. */

import type { Broadcast, Bytes } from "../../../src/core/backend.js";
import { INTERNAL } from "../../../src/core/glob.js";
import type { PlantedBug } from "./planting.js";

type Plant = PlantedBug["plant"];

function withBroadcast(change: (broadcast: Broadcast) => Partial<Broadcast>): Plant {
  return (sound) => ({ ...sound, broadcast: { ...sound.broadcast, ...change(sound.broadcast) } });
}

export const broadcastBugs: readonly PlantedBug[] = [
  {
    title: "subscribing resolves before it is in force",
    caughtBy: ["broadcast: what is published after subscribing resolved is heard, from any backend"],
    plant: withBroadcast((broadcast) => ({
      subscribe: async (target, listener) => {
        const late = new Promise<void>((resolve) => setImmediate(resolve));
        const subscribed = late.then(() => broadcast.subscribe(target, listener));
        return async () => (await subscribed)();
      },
    })),
  },
  {
    title: "ending one subscription ends all of them",
    caughtBy: [
      "broadcast: ending a subscription ends that one alone, for good, and may be done twice",
      "broadcast: ending a sharded subscription ends that one alone",
    ],
    plant: (sound, context) => {
      const all: (() => Promise<void>)[] = [];
      return withBroadcast((broadcast) => ({
        subscribe: async (...args) => {
          all.push(await broadcast.subscribe(...args));
          return async () => void (await Promise.all(all.map((end) => end())));
        },
      }))(sound, context);
    },
  },
  {
    title: "a batch of messages is published in any order",
    caughtBy: [
      "broadcast: one publisher's messages are heard in order on each channel",
      "broadcast: what is published together arrives as it was, in order, by channel and by pattern",
    ],
    plant: withBroadcast((broadcast) => ({ publish: (messages) => broadcast.publish(messages.toReversed()) })),
  },
  {
    title: "of what is published together only the first arrives",
    caughtBy: ["broadcast: what is published together arrives as it was, in order, by channel and by pattern"],
    plant: withBroadcast((broadcast) => ({
      publish: async (messages) => {
        await broadcast.publish(messages.slice(0, 1));
        return messages.map(() => 1);
      },
    })),
  },
  {
    title: "patterns hear signalbox's own channels",
    caughtBy: ["broadcast: channels of signalbox's own are heard by their name, and match no pattern"],
    plant: withBroadcast((broadcast) => {
      const shown = (channel: string): string => channel.replace(INTERNAL, "");
      return {
        publish: (messages) =>
          broadcast.publish(messages.map((message) => ({ ...message, channel: shown(message.channel) }))),
        subscribe: (target, listener) =>
          broadcast.subscribe("channel" in target ? { ...target, channel: shown(target.channel) } : target, listener),
      };
    }),
  },
  {
    title: "a channel's name is taken as a pattern",
    caughtBy: ["broadcast: a channel's own stars and brackets are no pattern"],
    plant: withBroadcast((broadcast) => ({
      subscribe: (target, listener) =>
        broadcast.subscribe("channel" in target ? { pattern: target.channel } : target, listener),
    })),
  },
  {
    title: "the publisher's own listeners wait for the store",
    caughtBy: ["broadcast: the publisher's own subscribers have heard by the time that publishing has resolved"],
    plant: withBroadcast((broadcast) => ({
      publish: async (messages) => {
        setImmediate(() => void broadcast.publish(messages).catch(() => undefined));
        return messages.map(() => 1);
      },
    })),
  },
  {
    title: "what is heard is the publisher's own buffer",
    caughtBy: ["broadcast: what its publisher does to the bytes afterwards changes nothing"],
    plant: (sound, context) => {
      const given: Uint8Array[] = [];
      return withBroadcast((broadcast) => ({
        subscribe: (target, { message, gap }) => {
          const nextGiven = (channel: string, data: Bytes): void => message(channel, given[0] ?? data);
          return broadcast.subscribe(target, { message: nextGiven, gap });
        },
        publish: (messages) => {
          for (const { data } of messages) if (typeof data !== "string") given.push(data);
          return broadcast.publish(messages);
        },
      }))(sound, context);
    },
  },
  {
    title: "a sharded channel is like any other",
    caughtBy: [
      "broadcast: a sharded channel and the other one of its name hear nothing of each other, nor do patterns",
    ],
    plant: withBroadcast((broadcast) => ({
      subscribe: (target, listener) =>
        broadcast.subscribe("channel" in target ? { channel: target.channel } : target, listener),
      publish: (messages) => broadcast.publish(messages.map(({ channel, data }) => ({ channel, data }))),
    })),
  },
  {
    title: "sharded channels are heard by nobody",
    caughtBy: ["broadcast: a sharded channel is heard by its own subscribers on every backend, in order and once"],
    plant: withBroadcast((broadcast) => ({
      publish: (messages) => broadcast.publish(messages.filter(({ sharded }) => !sharded)),
    })),
  },
];
