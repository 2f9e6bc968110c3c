/** Bugs of groups: of their order, of seeking, pausing, configuring and deleting. */

import type { Backend, Delivery, Feed, GroupSettings, Log } from "../../../src/core/backend.js";
import { SignalboxError } from "../../../src/core/errors.js";
import { type PlantedBug, withLog } from "./planting.js";

/** Makes groups with other settings, and shows those that were asked for. */
function withSettings(sound: Backend, change: (settings: GroupSettings) => GroupSettings): Backend {
  return withLog(sound, (log) => ({
    createGroup: async (stream, group, settings) => {
      await log.createGroup(stream, group, change(settings));
      return settings;
    },
  }));
}

/** Replaces methods of the log's feeds alone, which then know what they are open on. */
function withLogFeeds(
  sound: Backend,
  change: (feed: Feed, log: Log, stream: string, group: string) => Partial<Feed>,
): Backend {
  return withLog(sound, (log) => ({
    open: async (stream, group, consumer) => {
      const feed = await log.open(stream, group, consumer);
      return { ...feed, ...change(feed, log, stream, group) };
    },
  }));
}

function isCode(error: unknown, code: string): boolean {
  return error instanceof SignalboxError && error.code === code;
}

const ordering: readonly PlantedBug[] = [
  {
    title: "order is ignored",
    caughtBy: [
      "log: [E17] with order by key nothing of a key is delivered while another of it is leased, in any process",
      "log: with strict order one delivery is out at a time, whatever its key, in any process",
      "log: with order by key, whatever deliveries come to, each key's entries come one by one and in order",
    ],
    plant: (sound) => withSettings(sound, (settings) => ({ ...settings, order: "none" })),
  },
  {
    title: "strict order is order by key",
    caughtBy: ["log: with strict order one delivery is out at a time, whatever its key, in any process"],
    plant: (sound) =>
      withSettings(sound, (settings) => (settings.order === "strict" ? { ...settings, order: "key" } : settings)),
  },
  {
    title: "more are held back than maxHeld says",
    caughtBy: ["log: no more than maxHeld are held back; then nothing new is read until one is free"],
    plant: (sound) => withSettings(sound, (settings) => ({ ...settings, maxHeld: 1_000_000 })),
  },
  {
    title: "a retry frees its key: it goes to the end of the stream",
    caughtBy: [
      "log: with order by key a retry keeps its key, at once or delayed, counted or not",
      "log: with strict order a retry, at once or delayed, comes before all others",
    ],
    plant: (sound) =>
      withLogFeeds(sound, (feed, log, stream) => {
        const held = new Map<string, Delivery>();
        return {
          take: async (want, outcomes) => {
            for (const { receipt, as } of outcomes) {
              const delivery = held.get(receipt);
              if (as !== "retry" || delivery === undefined) continue;
              const { header, data } = delivery;
              await log.append(stream, [{ header, data }], { maxEntries: 1_000_000, overflow: "reject" });
            }
            const settled = outcomes.map(({ receipt, ...outcome }) =>
              outcome.as === "retry" ? ({ receipt, as: "ack" } as const) : { receipt, ...outcome },
            );
            const taken = await feed.take(want, settled);
            for (const delivery of taken.deliveries) held.set(delivery.receipt, delivery);
            return taken;
          },
        };
      }),
  },
  {
    title: "what one process holds back is forgotten when its consumer closes",
    caughtBy: ["log: with order by key, closing a consumer gives back and keeps the order"],
    plant: (sound) =>
      withLogFeeds(sound, (feed, log, stream, group) => ({
        close: async () => {
          await feed.close();
          const { held = 0 } = (await log.stats(stream)).groups.find((one) => one.group === group) ?? {};
          if (held > 0) await log.seek(stream, group, "new");
        },
      })),
  },
];

/** Receipts of all backends of one store: one of them may seek what another has taken. */
interface Receipts {
  /** Once somebody has sought, the receipt that is in force for the same entry. */
  readonly newest: (receipt: string) => string;
  readonly delivered: (delivery: Delivery, where: string) => void;
  readonly sought: () => void;
}

const allReceipts = new Map<string, Receipts>();

function receiptsOf(namespace: string): Receipts {
  const known = allReceipts.get(namespace);
  if (known !== undefined) return known;
  const places = new Map<string, string>();
  const current = new Map<string, string>();
  let seeks = 0;
  const receipts: Receipts = {
    newest: (receipt) => (seeks === 0 ? receipt : (current.get(places.get(receipt) ?? "") ?? receipt)),
    delivered: ({ receipt, position }, where) => {
      places.set(receipt, `${where} ${position}`);
      current.set(`${where} ${position}`, receipt);
    },
    sought: () => void (seeks += 1),
  };
  allReceipts.set(namespace, receipts);
  return receipts;
}

const seeking: readonly PlantedBug[] = [
  {
    title: "a seek does not fence: a receipt from before it settles what is delivered again",
    caughtBy: [
      "log: receipts from before a seek are worthless for ever, even when the same entry is delivered again",
      "log: after a seek each key is free, and what came before frees nothing",
      "log: however a group is sought, paused and resumed, each entry comes once in its turn, and all are counted",
      "log: with order by key, seeking, pausing and resuming keep the order of each key",
    ],
    plant: (sound, { namespace }) => {
      const { newest, delivered, sought } = receiptsOf(namespace);
      const changed = withLogFeeds(sound, (feed, _log, stream, group) => ({
        take: async (want, outcomes) => {
          const settled = outcomes.map((outcome) => ({ ...outcome, receipt: newest(outcome.receipt) }));
          const taken = await feed.take(want, settled);
          for (const delivery of taken.deliveries) delivered(delivery, `${stream} ${group}`);
          return taken;
        },
      }));
      return withLog(changed, (log) => ({
        seek: async (...args) => {
          sought();
          return log.seek(...args);
        },
      }));
    },
  },
  {
    title: "a seek resumes a paused group",
    caughtBy: ["log: a paused group stays paused when it is sought, and goes on from there when it is resumed"],
    plant: (sound) =>
      withLog(sound, (log) => ({
        seek: async (stream, group, to) => {
          await log.seek(stream, group, to);
          await log.resume(stream, group);
        },
      })),
  },
  {
    title: "a seek forgets the dead letters",
    caughtBy: ["log: a seek drops what is leased, waits for its retry or is held, and keeps dead letters"],
    plant: (sound) =>
      withLog(sound, (log) => ({
        seek: async (stream, group, to) => {
          await log.seek(stream, group, to);
          await log.deadLetters(stream, group).purge(0);
        },
      })),
  },
  {
    title: "a seek at a position goes behind it",
    caughtBy: ["log: a group seeks to the beginning, the end, a position or behind it, and each entry comes anew"],
    plant: (sound) =>
      withLog(sound, (log) => ({
        seek: (stream, group, to) =>
          log.seek(stream, group, typeof to === "object" && "at" in to ? { after: to.at } : to),
      })),
  },
];

const pausing: readonly PlantedBug[] = [
  {
    title: "a pause holds in the process that asked for it alone",
    caughtBy: [
      "log: a paused group is handed nothing, in any process, until it is resumed",
      "log: a pause belongs to its group alone, and outlives the backend that made it",
      "log: however a group is sought, paused and resumed, each entry comes once in its turn, and all are counted",
    ],
    plant: (sound) => {
      const paused = new Set<string>();
      const changed = withLogFeeds(sound, (feed, _log, stream, group) => ({
        take: ({ max, ...want }, outcomes) =>
          feed.take({ ...want, max: paused.has(`${stream} ${group}`) ? 0 : max }, outcomes),
      }));
      return withLog(changed, () => ({
        pause: async (stream, group) => void paused.add(`${stream} ${group}`),
        resume: async (stream, group) => void paused.delete(`${stream} ${group}`),
      }));
    },
  },
  {
    title: "a paused group is handed retries",
    caughtBy: ["log: due retries and what consumers give back or abandon wait as well while a group is paused"],
    plant: (sound) =>
      withLogFeeds(sound, (feed, log, stream, group) => ({
        take: async (want, outcomes) => {
          const { paused = false } = (await log.stats(stream)).groups.find((one) => one.group === group) ?? {};
          if (!paused) return feed.take(want, outcomes);
          await log.resume(stream, group);
          const taken = await feed.take({ ...want, waitMs: 0 }, outcomes);
          await log.pause(stream, group);
          const isRetry = ({ attempt }: Delivery): boolean => attempt > 1;
          const givenBack = taken.deliveries
            .filter((delivery) => !isRetry(delivery))
            .map(({ receipt }) => ({ receipt, as: "retry", delayMs: 0, counted: false }) as const);
          await feed.take({ max: 0, waitMs: 0 }, givenBack);
          return { ...taken, deliveries: taken.deliveries.filter(isRetry) };
        },
      })),
  },
  {
    title: "a take that waits does not notice a pause",
    caughtBy: ["log: a take that waits when its group is paused gets nothing until it is resumed, and then at once"],
    plant: (sound) => {
      let waiting = 0;
      const changed = withLogFeeds(sound, (feed) => ({
        take: async (want, outcomes) => {
          waiting += want.waitMs > 0 ? 1 : 0;
          try {
            return await feed.take(want, outcomes);
          } finally {
            waiting -= want.waitMs > 0 ? 1 : 0;
          }
        },
      }));
      return withLog(changed, (log) => ({
        pause: async (...args) => (waiting > 0 ? undefined : log.pause(...args)),
      }));
    },
  },
];

const changing: readonly PlantedBug[] = [
  {
    title: "order changes while something is on its way",
    caughtBy: ["log: order changes only while nothing is leased, waits for its retry or is held, else nothing changes"],
    plant: (sound) =>
      withLog(sound, (log) => ({
        configureGroup: async (stream, group, changes) => {
          try {
            return await log.configureGroup(stream, group, changes);
          } catch (error) {
            if (!isCode(error, "CONFIG")) throw error;
            const { order: _pending, ...others } = changes;
            return { ...(await log.configureGroup(stream, group, others)), ...changes };
          }
        },
      })),
  },
  {
    title: "a deleted group leaves its dead letters behind",
    caughtBy: ["log: a deleted group is gone with its dead letters, and deleting says whether there was one"],
    plant: (sound) => {
      const left = new Map<string, Awaited<ReturnType<ReturnType<Log["deadLetters"]>["list"]>>>();
      return withLog(sound, (log) => ({
        deadLetters: (stream, group) => {
          const letters = log.deadLetters(stream, group);
          return {
            ...letters,
            list: async (page) => {
              const listed = await letters.list(page);
              const { groups } = await log.stats(stream);
              if (!groups.some((one) => one.group === group)) return left.get(`${stream} ${group}`) ?? listed;
              left.set(`${stream} ${group}`, listed);
              return listed;
            },
          };
        },
      }));
    },
  },
  {
    title: "consumers bring a deleted group back",
    caughtBy: [
      "log: consumers that are open on a group when it is deleted reject, and do not bring it back",
      "log: a take that waits when its group is deleted rejects, in any process",
    ],
    plant: (sound) => {
      const settings = new Map<string, GroupSettings>();
      const changed = withLogFeeds(sound, (feed, log, stream, group) => ({
        take: async (want, outcomes) => {
          try {
            return await feed.take(want, outcomes);
          } catch (error) {
            const lost = settings.get(`${stream} ${group}`);
            if (!isCode(error, "NOT_FOUND") || lost === undefined) throw error;
            await log.createGroup(stream, group, lost);
            return { deliveries: [], lost: [], gone: 0, expired: 0, poisoned: 0 };
          }
        },
      }));
      return withLog(changed, (log) => ({
        createGroup: async (stream, group, given) => {
          settings.set(`${stream} ${group}`, given);
          return log.createGroup(stream, group, given);
        },
      }));
    },
  },
  {
    title: "a deleted group is paused instead, and keeps what it has not read",
    caughtBy: ["log: a deleted group keeps nothing in the stream any more"],
    plant: (sound) =>
      withLog(sound, (log) => ({
        deleteGroup: async (stream, group) => {
          await log.pause(stream, group);
          return true;
        },
      })),
  },
];

export const groupBugs: readonly PlantedBug[] = [...ordering, ...seeking, ...pausing, ...changing];
