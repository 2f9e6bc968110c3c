/** Bugs of consuming: of settling and taking, of waiting and giving back. */

import type { Delivery } from "../../../src/core/backend.js";
import { wait } from "../../../src/core/clock.js";
import { type PlantedBug, withDeliveries, withFeeds, withLog, withOutcomes, withQueue, withTaken } from "./planting.js";

const settling: readonly PlantedBug[] = [
  {
    title: "an acknowledgement is ignored",
    caughtBy: [
      "log: an acknowledged message is never delivered again",
      "queue: the items of all recipients count together",
    ],
    plant: (sound) => withOutcomes(sound, (outcome) => (outcome.as === "ack" ? [] : [outcome])),
  },
  {
    title: "attempts are not counted",
    caughtBy: [
      "log: a retry waits for its delay and comes again as the next attempt",
      "queue: attempts survive the consumer and its backend",
    ],
    plant: (sound) => withDeliveries(sound, (delivery) => ({ ...delivery, attempt: 1 })),
  },
  {
    title: "an uncounted retry counts",
    caughtBy: ["log: an uncounted retry keeps the attempt", "queue: an uncounted retry keeps the attempt"],
    plant: (sound) =>
      withOutcomes(sound, (outcome) => [outcome.as === "retry" ? { ...outcome, counted: true } : outcome]),
  },
  {
    title: "a retry does not wait for its delay",
    caughtBy: ["log: a retry waits for its delay and comes again as the next attempt"],
    plant: (sound) => withOutcomes(sound, (outcome) => [outcome.as === "retry" ? { ...outcome, delayMs: 0 } : outcome]),
  },
  {
    title: "a dead letter is dropped",
    caughtBy: [
      "log: a dead letter keeps the message, its attempts, its consumer and its reason",
      "queue: beyond maxDeadLetters the oldest dead letter goes",
    ],
    plant: (sound) =>
      withOutcomes(sound, ({ receipt, ...outcome }) => [
        outcome.as === "deadLetter" ? { receipt, as: "ack" } : { receipt, ...outcome },
      ]),
  },
  {
    title: "a dead letter's reason loses its stack",
    caughtBy: ["queue: a dead letter keeps the message, its attempts, its consumer and its reason"],
    plant: (sound) =>
      withOutcomes(sound, (outcome) => {
        if (outcome.as !== "deadLetter") return [outcome];
        const { kind, message } = outcome.reason;
        return [{ ...outcome, reason: { kind, message } }];
      }),
  },
  {
    title: "dead letters are kept without bound",
    caughtBy: ["log: beyond maxDeadLetters the oldest dead letter goes"],
    plant: (sound) =>
      withLog(sound, (log) => ({
        createGroup: async (stream, group, settings) => {
          await log.createGroup(stream, group, { ...settings, maxDeadLetters: 1_000_000 });
          return settings;
        },
      })),
  },
  {
    title: "a late outcome is not reported",
    caughtBy: [
      "log: an outcome that comes after a takeover is lost and changes nothing",
      "queue: an outcome that comes after a takeover is lost and changes nothing",
    ],
    plant: (sound) => withTaken(sound, (taken) => ({ ...taken, lost: [] })),
  },
  {
    title: "a receipt is not fenced: an earlier attempt's settles the current one",
    caughtBy: [
      "log: a receipt from before a retry is worthless, counted or not",
      "queue: a receipt from before a close is worthless, also to a consumer of that name",
    ],
    plant: (sound) => {
      const positions = new Map<string, string>();
      const current = new Map<string, string>();
      const newest = (receipt: string): string => current.get(positions.get(receipt) ?? "") ?? receipt;
      return withFeeds(sound, (feed) => ({
        take: async (want, outcomes) => {
          const taken = await feed.take(
            want,
            outcomes.map((outcome) => ({ ...outcome, receipt: newest(outcome.receipt) })),
          );
          for (const { receipt, position } of taken.deliveries) {
            positions.set(receipt, position);
            current.set(position, receipt);
          }
          return taken;
        },
      }));
    },
  },
  {
    title: "an extension is taken and not made",
    caughtBy: ["log: an extended delivery stays with its consumer, each time for the full lease"],
    plant: (sound) => withFeeds(sound, () => ({ extend: async () => [] })),
  },
];

const taking: readonly PlantedBug[] = [
  {
    title: "a delivery goes to two consumers",
    caughtBy: [
      "log: consumers share the messages without duplicates, also from another backend",
      "queue: what is leased is not delivered again",
    ],
    plant: (sound) => {
      const seen: Delivery[] = [];
      return withFeeds(sound, (feed) => {
        let own = 0;
        return {
          take: async (...args) => {
            const taken = await feed.take(...args);
            const others = seen.slice(own);
            seen.push(...taken.deliveries);
            own = seen.length;
            return { ...taken, deliveries: [...taken.deliveries, ...others] };
          },
        };
      });
    },
  },
  {
    title: "a closing consumer's deliveries count as attempts",
    caughtBy: [
      "log: closing a consumer gives back what it holds, uncounted and at once",
      "queue: closing a consumer gives back what it holds, uncounted and at once",
    ],
    plant: (sound) =>
      withFeeds(sound, (feed) => {
        const held = new Set<string>();
        return {
          take: async (want, outcomes) => {
            for (const { receipt } of outcomes) held.delete(receipt);
            const taken = await feed.take(want, outcomes);
            for (const { receipt } of taken.deliveries) held.add(receipt);
            return taken;
          },
          close: async () => {
            const retries = [...held].map((receipt) => ({ receipt, as: "retry", delayMs: 0, counted: true }) as const);
            await feed.take({ max: 0, waitMs: 0 }, retries).catch(() => {});
            await feed.close();
          },
        };
      }),
  },
  {
    title: "a closing consumer keeps its deliveries until their leases end",
    caughtBy: ["log: closing a consumer gives back what it holds, uncounted and at once"],
    plant: (sound) => withFeeds(sound, () => ({ close: async () => {} })),
  },
  {
    title: "poison is delivered for ever",
    caughtBy: ["queue: what was abandoned out of attempts becomes a dead letter, once"],
    plant: (sound) =>
      withQueue(sound, (queue) => ({
        open: (name, recipient, consumer) => queue.open(name, recipient, { ...consumer, maxAttempts: 1_000 }),
      })),
  },
  {
    title: "a take that waits is not woken",
    caughtBy: [
      "log: a take that waits is woken by a new message",
      "queue: a take that waits is woken by a new message",
    ],
    plant: (sound, { clock }) =>
      withFeeds(sound, (feed) => ({
        take: async (want, outcomes) => {
          const taken = await feed.take({ ...want, waitMs: 0 }, outcomes);
          if (taken.deliveries.length > 0 || outcomes.length > 0 || want.waitMs === 0) return taken;
          await wait(clock, want.waitMs, want.signal);
          return feed.take({ ...want, waitMs: 0 }, []);
        },
      })),
  },
  {
    title: "a take waits though it had something to settle",
    caughtBy: ["log: a take that had something to settle does not wait"],
    plant: (sound) =>
      withFeeds(sound, (feed) => ({
        take: async (want, outcomes) => {
          if (outcomes.length > 0) await feed.take({ max: 0, waitMs: 0 }, outcomes);
          return feed.take(want, []);
        },
      })),
  },
  {
    title: "settling waits for the take that waits",
    caughtBy: [
      "log: settling does not wait for a take that waits",
      "queue: settling does not wait for a take that waits",
    ],
    plant: (sound) =>
      withFeeds(sound, (feed) => {
        let last: Promise<unknown> = Promise.resolve();
        return {
          take: (...args) => {
            const taken = last.then(() => feed.take(...args));
            last = taken.catch(() => {});
            return taken;
          },
        };
      }),
  },
  {
    title: "an abort is not heard",
    caughtBy: ["log: an abort ends the wait, and the call resolves"],
    plant: (sound) =>
      withFeeds(sound, (feed) => ({ take: ({ max, waitMs }, outcomes) => feed.take({ max, waitMs }, outcomes) })),
  },
  {
    title: "what was removed beneath a group is not counted",
    caughtBy: ["log: a retry whose entry was removed is not delivered but counted as gone, once"],
    plant: (sound) => withTaken(sound, (taken) => ({ ...taken, gone: 0 })),
  },
  {
    title: "a long header is cut",
    caughtBy: [
      "log: [E12] payloads and headers come out as they went in, from entries, deliveries and dead letters",
      "queue: payloads and headers come out as they went in, from deliveries and dead letters",
    ],
    plant: (sound) => withDeliveries(sound, (delivery) => ({ ...delivery, header: delivery.header.slice(0, 32_767) })),
  },
  {
    title: "payloads pass through text",
    caughtBy: ["queue: payloads and headers come out as they went in, from deliveries and dead letters"],
    plant: (sound) =>
      withDeliveries(sound, (delivery) => ({ ...delivery, data: Buffer.from(Buffer.from(delivery.data).toString()) })),
  },
];

export const consumingBugs: readonly PlantedBug[] = [...settling, ...taking];
