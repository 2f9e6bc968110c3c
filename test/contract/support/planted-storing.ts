/** Bugs of storing and ordering. */

import type { Backend, Delivery } from "../../../src/core/backend.js";
import { LimitError, SignalboxError } from "../../../src/core/errors.js";
import { type PlantedBug, withLog, withQueue } from "./planting.js";

const storing: readonly PlantedBug[] = [
  {
    title: "a group from the beginning starts at new",
    caughtBy: ["log: a group from the beginning is given what was there and what comes"],
    plant: (sound) =>
      withLog(sound, (log) => ({
        createGroup: async (stream, group, settings) => {
          const from = settings.from === "beginning" ? "new" : settings.from;
          const made = await log.createGroup(stream, group, { ...settings, from });
          return { ...made, from: settings.from };
        },
      })),
  },
  {
    title: "making a group again changes its settings",
    caughtBy: ["log: making a group gives back its settings, and making it again changes nothing"],
    plant: (sound) =>
      withLog(sound, (log) => ({
        createGroup: async (stream, group, settings) => {
          await log.createGroup(stream, group, settings);
          return settings;
        },
      })),
  },
  {
    title: "a refused append has stored a part",
    caughtBy: ["log: a refused append stores nothing at all"],
    plant: (sound) =>
      withLog(sound, (log) => ({
        append: async (stream, entries, retention) => {
          try {
            return await log.append(stream, entries, retention);
          } catch (error) {
            if (error instanceof LimitError && entries[0] !== undefined && entries.length > 1) {
              await log.append(stream, [entries[0]], retention);
            }
            throw error;
          }
        },
      })),
  },
  {
    title: "a full stream drops what a group has not read",
    caughtBy: ["log: an append to a full stream is refused while a group has to read the oldest entry"],
    plant: (sound) =>
      withLog(sound, (log) => ({
        append: (stream, entries, retention) => log.append(stream, entries, { ...retention, overflow: "drop-oldest" }),
      })),
  },
  {
    title: "reading behind a position begins at it",
    caughtBy: ["log: a read begins at `from`, or behind `after`, and gives at most `max`"],
    plant: (sound) =>
      withLog(sound, (log) => ({
        read: (stream, { max, from, after }) => {
          const start = after ?? from;
          return log.read(stream, start === undefined ? { max } : { max, from: start });
        },
      })),
  },
  {
    title: "lag counts what is leased",
    caughtBy: ["log: each count says exactly what became of the messages"],
    plant: (sound) =>
      withLog(sound, (log) => ({
        stats: async (stream) => {
          const stats = await log.stats(stream);
          return { ...stats, groups: stats.groups.map((group) => ({ ...group, lag: group.lag + group.pending })) };
        },
      })),
  },
  {
    title: "names are decoded, so that some run together",
    caughtBy: ["log: streams of awkward names stay apart, with their groups"],
    plant: (sound) =>
      withLog(sound, (log) => ({
        append: (stream, ...args) => log.append(stream.replaceAll("%3A", ":"), ...args),
        read: (stream, ...args) => log.read(stream.replaceAll("%3A", ":"), ...args),
        stats: (stream, ...args) => log.stats(stream.replaceAll("%3A", ":"), ...args),
      })),
  },
  {
    title: "the namespace is ignored",
    caughtBy: [
      "log, queue: namespaces never see each other, though all names are the same",
      "broadcast: namespaces never hear each other, by name or by pattern",
    ],
    plant: (sound) => sound,
    misread: (context) => ({ ...context, namespace: "one for all" }),
  },
  {
    title: "a closed backend gives empty answers",
    caughtBy: ["backend: calls after closing reject as closed"],
    plant: (sound) =>
      withLog(sound, (log) => ({
        read: (...args) =>
          log.read(...args).catch((error: unknown) => {
            if (error instanceof SignalboxError && error.code === "CLOSED") return [];
            throw error;
          }),
      })),
  },
];

const others: readonly PlantedBug[] = [
  {
    title: "an expired item is delivered",
    caughtBy: [
      "queue: an expired item is never delivered, and counts as expired once",
      "queue: the time to live ends retrying, at once or while the retry waits",
    ],
    plant: (sound) =>
      withQueue(sound, (queue) => ({
        push: (name, items, limits) =>
          queue.push(
            name,
            items.map(({ ttlMs: _forgotten, ...item }) => item),
            limits,
          ),
      })),
  },
  {
    title: "a retry forgets the priority",
    caughtBy: ["queue: a retry keeps the item's priority and age"],
    plant: forgetPriorityAtRetry,
  },
  {
    title: "neighbouring priorities are one, as in a lossy score",
    caughtBy: ["queue: every safe integer is a priority, and neighbours are told apart"],
    plant: (sound) =>
      withQueue(sound, (queue) => ({
        push: (name, items, limits) =>
          queue.push(
            name,
            items.map((item) => ({ ...item, priority: Math.fround(item.priority) })),
            limits,
          ),
      })),
  },
  {
    title: "a delayed item is delivered at once",
    caughtBy: ["queue: a delayed item is not delivered before its time, and then is"],
    plant: (sound) =>
      withQueue(sound, (queue) => ({
        push: (name, items, limits) =>
          queue.push(
            name,
            items.map((item) => ({ ...item, delayMs: 0 })),
            limits,
          ),
      })),
  },
  {
    title: "a duplicate is not told",
    caughtBy: ["queue: an id that the queue holds is not stored again, neither within a push nor across"],
    plant: (sound) =>
      withQueue(sound, (queue) => ({
        push: async (...args) => (await queue.push(...args)).map((pushed) => ({ ...pushed, duplicate: false })),
      })),
  },
];

/** Retries by acknowledging and pushing anew: the attempt is carried along, the priority is not. */
function forgetPriorityAtRetry(sound: Backend): Backend {
  const attempts = new Map<string, number>();
  return withQueue(sound, (queue) => ({
    open: async (name, recipient, consumer) => {
      const feed = await queue.open(name, recipient, consumer);
      const held = new Map<string, Delivery>();
      return {
        ...feed,
        take: async (want, outcomes) => {
          for (const outcome of outcomes) {
            const delivery = held.get(outcome.receipt);
            if (outcome.as !== "retry" || delivery === undefined) continue;
            const { position: id, header, data, attempt } = delivery;
            await feed.take({ max: 0, waitMs: 0 }, [{ receipt: outcome.receipt, as: "ack" }]);
            const item = { id, recipient, header, data, priority: 0, delayMs: outcome.delayMs };
            await queue.push(name, [item], { maxItems: 1_000_000 });
            attempts.set(id, attempt);
          }
          const rest = outcomes.filter(({ as }) => as !== "retry");
          const taken = await feed.take(want, rest);
          const deliveries = taken.deliveries.map((delivery) => ({
            ...delivery,
            attempt: delivery.attempt + (attempts.get(delivery.position) ?? 0),
          }));
          for (const delivery of deliveries) held.set(delivery.receipt, delivery);
          return { ...taken, deliveries };
        },
      };
    },
  }));
}

export const storingBugs: readonly PlantedBug[] = [...storing, ...others];
