/** Bugs that brokers have had with queues, each planted beneath the facades, over a real Redis; the checker has to find them all. */

import { queueKeys } from "../../../src/backends/redis/keys.js";
import type { Backend, Delivery, Feed, NewItem, Outcome, Queue, Receipt } from "../../../src/core/backend.js";
import { pause } from "../../support/wait.js";
import { QUEUE } from "./chaos-queue-load.js";
import type { PlantedBug } from "./planted.js";

const KEYS = queueKeys("default", QUEUE);
const LIMITS = { maxItems: 1_000_000 };
const ONLY_SETTLE = { max: 0, waitMs: 0 };

function withQueue(backend: Backend, change: (queue: Queue) => Partial<Queue>): Backend {
  return { ...backend, queue: { ...backend.queue, ...change(backend.queue) } };
}

function withPushed(backend: Backend, change: (item: NewItem) => NewItem): Backend {
  return withQueue(backend, (queue) => ({
    push: (name, items, limits) => queue.push(name, items.map(change), limits),
  }));
}

interface Opened {
  readonly recipient: string;
  readonly leaseMs: number;
}

function withFeeds(backend: Backend, change: (feed: Feed, opened: Opened) => Partial<Feed>): Backend {
  return withQueue(backend, (queue) => ({
    open: async (name, recipient, consumer) => {
      const sound = await queue.open(name, recipient, consumer);
      return { ...bound(sound), ...change(sound, { recipient, leaseMs: consumer.leaseMs }) };
    },
  }));
}

/** The methods of a feed that may be a class's. */
function bound(feed: Feed): Feed {
  return {
    take: (want, outcomes) => feed.take(want, outcomes),
    extend: (receipts) => feed.extend(receipts),
    close: () => feed.close(),
  };
}

const urgency: readonly PlantedBug[] = [
  {
    name: "a retry comes back without its priority",
    foundBy: "priority",
    scenario: "lull",
    plant: (sound, redis) =>
      withFeeds(sound, (feed, { recipient }) => {
        const known = new Map<Receipt, Delivery>();
        /** Acknowledged, and pushed once more as if it had none; what has a deadline is left alone. */
        const pushAgain = async (outcome: Outcome): Promise<Outcome[]> => {
          const delivery = known.get(outcome.receipt);
          known.delete(outcome.receipt);
          if (outcome.as !== "retry" || delivery === undefined || recipient !== "") return [outcome];
          const { position: id, header, data, receipt } = delivery;
          if (header.includes("\u001fx")) return [outcome];
          if (outcome.counted) await redis("HINCRBY", "planted:attempts", id, "1");
          await feed.take(ONLY_SETTLE, [{ receipt, as: "ack" }]);
          const { delayMs } = outcome;
          await sound.queue.push(QUEUE, [{ id, header, data, recipient, priority: 0, delayMs }], LIMITS);
          return [];
        };
        const counted = async (delivery: Delivery): Promise<Delivery> => {
          known.set(delivery.receipt, delivery);
          const before = await redis("HGET", "planted:attempts", delivery.position);
          return { ...delivery, attempt: delivery.attempt + Number(before ?? 0) };
        };
        return {
          take: async (want, outcomes) => {
            const settled = await Promise.all(outcomes.map(pushAgain));
            const taken = await feed.take(want, settled.flat());
            return { ...taken, deliveries: await Promise.all(taken.deliveries.map(counted)) };
          },
        };
      }),
  },
  {
    name: "a consumer fetches ahead, and hands out by and by",
    foundBy: "priority",
    scenario: "lull",
    plant: (sound) =>
      withFeeds(sound, (feed) => {
        const ahead: Delivery[] = [];
        return {
          take: async (want, outcomes) => {
            if (want.max === 0 || ahead.length > 0) {
              const taken = await feed.take(ONLY_SETTLE, outcomes);
              return { ...taken, deliveries: ahead.splice(0, want.max) };
            }
            const taken = await feed.take({ ...want, max: 100 }, outcomes);
            ahead.push(...taken.deliveries);
            return { ...taken, deliveries: ahead.splice(0, want.max) };
          },
        };
      }),
  },
];

const time: readonly PlantedBug[] = [
  {
    name: "what has expired is delivered",
    foundBy: "expired",
    scenario: "lull",
    plant: (sound) => withPushed(sound, (item) => ({ ...item, ttlMs: undefined })),
  },
  {
    name: "a delay is forgotten where there is a time to live",
    foundBy: "early",
    scenario: "lull",
    plant: (sound) => withPushed(sound, (item) => (item.ttlMs === undefined ? item : { ...item, delayMs: 0 })),
  },
];

const holding: readonly PlantedBug[] = [
  {
    name: "a lease ends by the clock of its consumer, which is slow",
    foundBy: "overlap",
    scenario: "lull",
    plant: (sound, redis) =>
      withFeeds(sound, (feed, { recipient, leaseMs }) => {
        const { leased } = KEYS.recipient(recipient);
        const end = async (receipts: readonly Receipt[]): Promise<void> => {
          const leaseEnd = String(Date.now() - 1_500 + leaseMs);
          const tickets = receipts.map((receipt) => receipt.replace(/^\+\d+\/\d+\//, ""));
          const members = tickets.flatMap((ticket) => [leaseEnd, ticket]);
          if (members.length > 0) await redis("ZADD", leased, "XX", ...members).catch(() => undefined);
        };
        return {
          take: async (want, outcomes) => {
            const taken = await feed.take(want, outcomes);
            await end(taken.deliveries.map(({ receipt }) => receipt));
            return taken;
          },
          extend: async (receipts) => {
            const lost = await feed.extend(receipts);
            await end(receipts);
            return lost;
          },
        };
      }),
  },
  {
    name: "an outcome that comes too late counts",
    foundBy: "fence",
    scenario: "lull",
    plant: (sound) =>
      withFeeds(sound, (feed, { recipient }) => {
        const ids = new Map<Receipt, string>();
        return {
          take: async (want, outcomes) => {
            const taken = await feed.take(want, outcomes);
            for (const { receipt, position } of taken.deliveries) ids.set(receipt, position);
            const late = taken.lost.flatMap((receipt) => ids.get(receipt) ?? []);
            if (late.length > 0) await sound.queue.acknowledge(QUEUE, recipient, late);
            return { ...taken, lost: [] };
          },
        };
      }),
  },
  {
    name: "whoever acknowledges first acknowledges for all",
    foundBy: "lost",
    scenario: "lull",
    plant: (sound) =>
      withFeeds(sound, (feed, { recipient }) => {
        const ids = new Map<Receipt, string>();
        return {
          take: async (want, outcomes) => {
            const done = outcomes.flatMap(({ as, receipt }) => (as === "ack" ? [ids.get(receipt) ?? ""] : []));
            const taken = await feed.take(want, outcomes);
            if (recipient !== "" && done.length > 0) await sound.queue.remove(QUEUE, done);
            for (const { receipt, position } of taken.deliveries) ids.set(receipt, position);
            return taken;
          },
        };
      }),
  },
];

const storing: readonly PlantedBug[] = [
  {
    name: "what is delayed waits in its publisher's memory",
    foundBy: "lost",
    scenario: "loneDeath",
    plant: (sound) =>
      withQueue(sound, (queue) => ({
        push: async (name, items, limits) => {
          const later = items.filter(({ delayMs, recipient }) => delayMs > 0 && typeof recipient === "string");
          for (const item of later) {
            const push = (): Promise<unknown> => queue.push(name, [{ ...item, delayMs: 0 }], limits);
            void pause(item.delayMs).then(push, () => undefined);
          }
          const now = items.filter((item) => !later.includes(item));
          const pushed = new Map((await queue.push(name, now, limits)).map((one) => [one.id, one]));
          return items.map(({ id }) => pushed.get(id) ?? { id, duplicate: false, recipients: 1 });
        },
      })),
  },
  {
    name: "of an audience the last is left out",
    foundBy: "audience",
    scenario: "lull",
    plant: (sound) =>
      withQueue(sound, (queue) => ({
        push: async (name, items, limits) => {
          const pushed = await queue.push(name, items, limits);
          const all = pushed.flatMap(({ id, recipients }) => (recipients > 1 ? [id] : []));
          await queue.acknowledge(name, "cyd", all);
          return pushed.map((one) => ({ ...one, recipients: Math.max(1, one.recipients - 1) }));
        },
      })),
  },
];

export const PLANTED_QUEUE_BUGS: readonly PlantedBug[] = [...urgency, ...time, ...holding, ...storing];
