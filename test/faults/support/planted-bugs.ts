/** Bugs that brokers have had with events, each planted beneath the facades, over a real Redis; the checker has to find them all. */

import { logKeys } from "../../../src/backends/redis/keys.js";
import type { Backend, Delivery, Feed, Log, Outcome, Receipt } from "../../../src/core/backend.js";
import { pause } from "../../support/wait.js";
import { STREAM } from "./chaos-load.js";
import type { PlantedBug } from "./planted.js";

const KEYS = logKeys("default", STREAM);

function withLog(backend: Backend, change: (log: Log) => Partial<Log>): Backend {
  return { ...backend, log: { ...backend.log, ...change(backend.log) } };
}

function withFeeds(backend: Backend, change: (feed: Feed, group: string) => Partial<Feed>): Backend {
  return withLog(backend, (log) => ({
    open: async (stream, group, consumer) => {
      const feed = await log.open(stream, group, consumer);
      const sound: Feed = {
        take: (want, outcomes) => feed.take(want, outcomes),
        extend: (receipts) => feed.extend(receipts),
        close: () => feed.close(),
      };
      return { ...sound, ...change(sound, group) };
    },
  }));
}

function withDeliveries(backend: Backend, change: (deliveries: readonly Delivery[]) => readonly Delivery[]): Backend {
  return withFeeds(backend, (feed) => ({
    take: async (want, outcomes) => {
      const taken = await feed.take(want, outcomes);
      return { ...taken, deliveries: change(taken.deliveries) };
    },
  }));
}

const ackOf = ({ receipt }: { readonly receipt: Receipt }): Outcome => ({ receipt, as: "ack" });
const ONLY_SETTLE = { max: 0, waitMs: 0 };

const consuming: readonly PlantedBug[] = [
  {
    name: "messages are acknowledged before the handler has run",
    foundBy: "unfinished",
    scenario: "deaths",
    plant: (sound) =>
      withFeeds(sound, (feed) => ({
        take: async (want) => {
          const taken = await feed.take(want, []);
          if (taken.deliveries.length > 0) await feed.take(ONLY_SETTLE, taken.deliveries.map(ackOf));
          return taken;
        },
        extend: async () => [],
      })),
  },
  {
    name: "a lease is a lock set with PX, and whoever comes late acknowledges all the same",
    foundBy: "fence",
    scenario: "freeze",
    plant: (sound, redis) =>
      withFeeds(sound, (feed, group) => {
        const positions = new Map<Receipt, string>();
        const lock = (position: string): string => `lock:${group}:${position}`;
        const currentReceipt = async ({ receipt }: Outcome): Promise<Receipt> => {
          const current = await redis("GET", lock(positions.get(receipt) ?? ""));
          return typeof current === "string" ? current : receipt;
        };
        return {
          take: async (want, outcomes) => {
            const current = await Promise.all(outcomes.map(currentReceipt));
            const unfenced = outcomes.map((outcome, index) => ({ ...outcome, receipt: current[index] ?? "" }));
            const taken = await feed.take(want, unfenced);
            for (const { receipt, position } of taken.deliveries) {
              positions.set(receipt, position);
              await redis("SET", lock(position), receipt, "PX", "60000");
            }
            return { ...taken, lost: [] };
          },
          extend: async (receipts) => {
            await feed.extend(receipts);
            return [];
          },
        };
      }),
  },
  {
    name: "retries wait in the consumer's memory",
    foundBy: "unfinished",
    scenario: "deaths",
    plant: (sound) =>
      withFeeds(sound, (feed) => {
        const known = new Map<Receipt, Delivery>();
        const due: Delivery[] = [];
        const parkInMemory = (outcome: Outcome): Outcome => {
          const delivery = known.get(outcome.receipt);
          known.delete(outcome.receipt);
          if (outcome.as !== "retry" || delivery === undefined) return outcome;
          void pause(outcome.delayMs + 200).then(() => due.push({ ...delivery, attempt: delivery.attempt + 1 }));
          return ackOf(outcome);
        };
        return {
          take: async (want, outcomes) => {
            const taken = await feed.take({ ...want, waitMs: Math.min(want.waitMs, 50) }, outcomes.map(parkInMemory));
            const deliveries = [...(want.max > 0 ? due.splice(0) : []), ...taken.deliveries];
            for (const delivery of deliveries) known.set(delivery.receipt, delivery);
            return { ...taken, deliveries, lost: [] };
          },
        };
      }),
  },
  {
    name: "a dead letter is acknowledged first and copied afterwards",
    foundBy: "unfinished",
    scenario: "deaths",
    plant: (sound, redis) =>
      withFeeds(sound, (feed, group) => {
        const known = new Map<Receipt, Delivery>();
        const copyLater = async (outcome: Extract<Outcome, { as: "deadLetter" }>, of: Delivery): Promise<void> => {
          await pause(1_000);
          const blob = `${of.header}\n${Buffer.from(of.data).toString()}`;
          const fields = [
            "m",
            blob,
            "p",
            of.position,
            "a",
            String(of.attempt),
            "c",
            "x",
            "r",
            JSON.stringify(outcome.reason),
          ];
          await redis("XADD", KEYS.group(group).dead, "*", ...fields);
        };
        const inTwoSteps = (outcome: Outcome): Outcome => {
          const delivery = known.get(outcome.receipt);
          known.delete(outcome.receipt);
          if (outcome.as !== "deadLetter" || delivery === undefined) return outcome;
          void copyLater(outcome, delivery);
          return ackOf(outcome);
        };
        return {
          take: async (want, outcomes) => {
            const taken = await feed.take(want, outcomes.map(inTwoSteps));
            for (const delivery of taken.deliveries) known.set(delivery.receipt, delivery);
            return taken;
          },
        };
      }),
  },
  {
    name: "attempts are not counted",
    foundBy: "attempts",
    scenario: "calm",
    plant: (sound) => withDeliveries(sound, (deliveries) => deliveries.map((one) => ({ ...one, attempt: 1 }))),
  },
  {
    name: "a retry does not keep its key",
    foundBy: "overtaken",
    scenario: "calm",
    plant: (sound) =>
      withLog(sound, (log) => ({
        createGroup: async (stream, group, settings) => {
          await log.createGroup(stream, group, { ...settings, order: "none" });
          return settings;
        },
      })),
  },
  {
    name: "deliveries of a batch get each other's data",
    foundBy: "corrupt",
    scenario: "calm",
    plant: (sound) =>
      withDeliveries(sound, (deliveries) =>
        deliveries.map((one, index) => ({ ...one, data: (deliveries[index ^ 1] ?? one).data })),
      ),
  },
  {
    name: "a retry goes to the end of the stream as a new message",
    foundBy: "twice",
    scenario: "calm",
    plant: (sound) => {
      const known = new Map<Receipt, Delivery>();
      return withFeeds(sound, (feed) => {
        const appendAgain = async (outcome: Outcome): Promise<Outcome> => {
          const delivery = known.get(outcome.receipt);
          known.delete(outcome.receipt);
          if (outcome.as !== "retry" || delivery === undefined) return outcome;
          const { header, data } = delivery;
          await sound.log.append(STREAM, [{ header, data }], { maxEntries: 1_000_000, overflow: "reject" });
          return ackOf(outcome);
        };
        return {
          take: async (want, outcomes) => {
            const taken = await feed.take(want, await Promise.all(outcomes.map(appendAgain)));
            for (const delivery of taken.deliveries) known.set(delivery.receipt, delivery);
            return taken;
          },
        };
      });
    },
  },
];

const storing: readonly PlantedBug[] = [
  {
    name: "the receipt is given before the write",
    foundBy: "lost",
    scenario: "store",
    plant: (sound) =>
      withLog(sound, (log) => ({
        append: async (stream, entries, retention) => {
          log.append(stream, entries, retention).catch(() => undefined);
          return entries.map(() => ({ position: "0-1", duplicate: false }));
        },
      })),
  },
  {
    name: "an interrupted publish is sent again as a new message",
    foundBy: "twice",
    scenario: "store",
    plant: (sound) =>
      withLog(sound, (log) => ({
        append: async (stream, entries, retention) => {
          const first = log.append(stream, entries, retention);
          first.catch(() => undefined);
          const soon = await Promise.race([first, pause(300)]).catch(() => undefined);
          return soon ?? (await log.append(stream, entries, retention));
        },
      })),
  },
  {
    name: "what has not been read is trimmed",
    foundBy: "lost",
    scenario: "calm",
    plant: (sound, redis) =>
      withLog(sound, (log) => ({
        append: async (...args) => {
          const appended = await log.append(...args);
          // While the clients are being killed there is nobody to trim.
          await redis("XTRIM", KEYS.stream, "MAXLEN", "50").catch(() => undefined);
          return appended;
        },
      })),
  },
  {
    name: "a group that was lost is made again at the end of the stream",
    foundBy: "lost",
    scenario: "store",
    heard(where, redis) {
      if (where === "restoring a consumer group") void redis("XGROUP", "SETID", KEYS.stream, "work", "$");
    },
  },
  {
    name: "commands have no deadline",
    foundBy: "stuck",
    scenario: "link",
    redis: { commandTimeoutMs: 2 ** 31 - 1, connectTimeoutMs: 2 ** 31 - 1 },
  },
];

export const PLANTED_BUGS: readonly PlantedBug[] = [...consuming, ...storing];
