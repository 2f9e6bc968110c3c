/** Bugs of what a store remembers and tells: ids, limits, ages, counts, dead letters. */

import type {
  Backend,
  DeadLetter,
  DeadLetters,
  GroupStats,
  NewEntry,
  QueueLimits,
  Retention,
} from "../../../src/core/backend.js";
import { LimitError } from "../../../src/core/errors.js";
import { type PlantedBug, withLog, withQueue } from "./planting.js";

/** Replaces methods of dead letters, of both ports. */
function withLetters(sound: Backend, change: (letters: DeadLetters) => Partial<DeadLetters>): Backend {
  const changed = (letters: DeadLetters): DeadLetters => ({ ...letters, ...change(letters) });
  return withQueue(
    withLog(sound, (log) => ({ deadLetters: (...of) => changed(log.deadLetters(...of)) })),
    (queue) => ({ deadLetters: (...of) => changed(queue.deadLetters(...of)) }),
  );
}

function withLetter(sound: Backend, change: (letter: DeadLetter) => DeadLetter): Backend {
  return withLetters(sound, (letters) => ({
    list: async (page) => {
      const listed = await letters.list(page);
      return { ...listed, letters: listed.letters.map(change) };
    },
  }));
}

function withGroupStats(sound: Backend, change: (stats: GroupStats) => GroupStats): Backend {
  return withLog(sound, (log) => ({
    stats: async (stream) => {
      const stats = await log.stats(stream);
      return { ...stats, groups: stats.groups.map(change) };
    },
  }));
}

function withRetention(sound: Backend, change: (retention: Retention) => Retention): Backend {
  return withLog(sound, (log) => ({
    append: (stream, entries, retention) => log.append(stream, entries, change(retention)),
    configure: (stream, retention) => log.configure(stream, change(retention)),
  }));
}

const deduping: readonly PlantedBug[] = [
  {
    title: "ids are looked for among earlier appends, and not within one",
    caughtBy: ["log: within one append the same id is stored once"],
    plant: (sound) =>
      withLog(sound, (log) => ({
        append: (stream, entries, retention) => {
          const seen = new Set<string>();
          const changed = entries.map(({ dedupeId, ...entry }): NewEntry => {
            if (dedupeId === undefined || seen.has(dedupeId)) return entry;
            seen.add(dedupeId);
            return { ...entry, dedupeId };
          });
          return log.append(stream, changed, retention);
        },
      })),
  },
  {
    title: "an id is forgotten with its entry",
    caughtBy: ["log: an id is remembered after its entry was trimmed"],
    plant: (sound) =>
      withLog(sound, (log) => ({
        append: async (stream, entries, retention) => {
          const appended = await log.append(stream, entries, retention);
          const [entry, answer] = [entries[0], appended[0]];
          if (entry === undefined || answer?.duplicate !== true) return appended;
          const { position } = answer;
          if ((await log.read(stream, { from: position, until: position, max: 1 })).length > 0) return appended;
          const { dedupeId: _forgotten, ...anew } = entry;
          return log.append(stream, [anew], retention);
        },
      })),
  },
  {
    title: "a refused append's ids are remembered",
    caughtBy: ["log: a refused append remembers none of its ids"],
    plant: (sound) => {
      const refused = new Set<string>();
      return withLog(sound, (log) => ({
        append: async (stream, entries, retention) => {
          if (entries.some(({ dedupeId = "" }) => refused.has(dedupeId))) {
            return entries.map(() => ({ position: "1", duplicate: true }));
          }
          try {
            return await log.append(stream, entries, retention);
          } catch (error) {
            for (const { dedupeId } of entries) if (dedupeId !== undefined) refused.add(dedupeId);
            throw error;
          }
        },
      }));
    },
  },
  {
    title: "ids are known in all streams",
    caughtBy: ["log: ids belong to their stream and namespace"],
    plant: (sound) => {
      const known = new Map<string, string>();
      return withLog(sound, (log) => ({
        append: async (stream, entries, retention) => {
          const id = entries[0]?.dedupeId;
          const position = known.get(id ?? "");
          if (position !== undefined) return [{ position, duplicate: true }];
          const appended = await log.append(stream, entries, retention);
          if (id !== undefined && appended[0] !== undefined) known.set(id, appended[0].position);
          return appended;
        },
      }));
    },
  },
];

const limiting: readonly PlantedBug[] = [
  {
    title: "limits that are stored are told, and not kept to",
    caughtBy: ["log: stored limits go before what an append says, also for streams that are there already"],
    plant: (sound) => withLog(sound, () => ({ configure: async (_stream, retention) => retention })),
  },
  {
    title: "the last to store limits wins",
    caughtBy: ["log: limits are stored with their stream once, and whoever comes later is told what is stored"],
    plant: (sound) =>
      withLog(sound, (log) => ({
        configure: async (stream, retention) => {
          await log.configure(stream, retention);
          return retention;
        },
      })),
  },
  {
    title: "what changed limits do not name is forgotten",
    caughtBy: [
      "log: stored limits can be changed, and hold from the next append",
      "log: an age can be set and taken away again",
    ],
    plant: (sound) =>
      withLog(sound, (log) => ({
        changeRetention: (stream, changes, unless) => log.changeRetention(stream, { ...unless, ...changes }, unless),
      })),
  },
  {
    title: "limits are changed by what was stored when somebody looked",
    caughtBy: ["log: limits changed at the same time by several backends are all changed"],
    plant: (sound) =>
      withLog(sound, (log) => ({
        changeRetention: async (stream, changes, unless) => {
          const { retention } = await log.stats(stream);
          return log.changeRetention(stream, { ...unless, ...retention, ...changes }, unless);
        },
      })),
  },
  {
    title: "an age is never taken away",
    caughtBy: ["log: an age can be set and taken away again"],
    plant: (sound) =>
      withLog(sound, (log) => ({
        changeRetention: (stream, { maxAgeMs, ...changes }, unless) =>
          log.changeRetention(stream, typeof maxAgeMs === "number" ? { ...changes, maxAgeMs } : changes, unless),
      })),
  },
  {
    title: "a full stream does not say who is behind",
    caughtBy: [
      "log: [E18] a full stream names the group that is furthest behind",
      "log: an append is refused, as long as it is so, while a group has not finished what is too old",
    ],
    plant: (sound) =>
      withLog(sound, (log) => ({
        append: async (...args) => {
          try {
            return await log.append(...args);
          } catch (error) {
            if (error instanceof LimitError) throw new LimitError("the stream is full", { retryable: true });
            throw error;
          }
        },
      })),
  },
  {
    title: "entries have no age",
    caughtBy: [
      "log: without groups, what is older than maxAgeMs is dropped when more is appended",
      "log: a trim drops what is older than the stored maxAgeMs, and says how much",
    ],
    plant: (sound) => withRetention(sound, ({ maxAgeMs: _ignored, ...retention }) => retention),
  },
  {
    title: "age drops what a group has not finished",
    caughtBy: [
      "log: an append is refused, as long as it is so, while a group has not finished what is too old",
      "log: a trim keeps what a group has not finished, unless it may drop that",
    ],
    plant: (sound) =>
      withRetention(sound, (retention) =>
        retention.maxAgeMs === undefined ? retention : { ...retention, overflow: "drop-oldest" },
      ),
  },
  {
    title: "a read ends before `until`",
    caughtBy: ["log: a read begins at `from`, or behind `after`, and gives at most `max`"],
    plant: (sound) =>
      withLog(sound, (log) => ({
        read: async (stream, range) =>
          (await log.read(stream, range)).filter(({ position }) => position !== range.until),
      })),
  },
];

const counting: readonly PlantedBug[] = [
  {
    title: "a lag counts what was trimmed",
    caughtBy: ["log: a lag is exact, also where entries have been trimmed or dropped behind, at or before the cursor"],
    plant: (sound) => {
      const appended = new Map<string, number>();
      return withLog(sound, (log) => ({
        append: async (stream, entries, retention) => {
          const result = await log.append(stream, entries, retention);
          appended.set(stream, (appended.get(stream) ?? 0) + result.length);
          return result;
        },
        stats: async (stream) => {
          const stats = await log.stats(stream);
          const trimmed = (appended.get(stream) ?? stats.length) - stats.length;
          return { ...stats, groups: stats.groups.map((group) => ({ ...group, lag: group.lag + trimmed })) };
        },
      }));
    },
  },
  {
    title: "what waits is looked for among unread entries alone",
    caughtBy: [
      "log: stats tell since when the oldest entry waits that a group has not finished, wherever it is",
      "log: nothing waits once a group has finished all, by acknowledgement or dead letter",
    ],
    plant: (sound) =>
      withGroupStats(sound, (group) => (group.lag === 0 ? { ...group, oldestUnhandledAt: undefined } : group)),
  },
  {
    title: "to be asked is progress",
    caughtBy: ["log: stats tell when a group last took or settled something, or was made"],
    plant: (sound, { clock }) => withGroupStats(sound, (group) => ({ ...group, lastProgressAt: clock.now() })),
  },
];

/** Redrives by appending like anybody else; `end` says what becomes of the letters. */
function appendedAnew(sound: Backend, end: (letters: DeadLetters, ids: readonly string[]) => Promise<number>): Backend {
  return withLog(sound, (log) => ({
    deadLetters: (stream, group) => {
      const letters = log.deadLetters(stream, group);
      const redrive = async (ids: readonly string[]): Promise<number> => {
        const found = await keptOf(letters, ids);
        await log.append(stream, found, { maxEntries: 1_000_000, overflow: "reject" });
        return end(letters, ids);
      };
      return { ...letters, redrive };
    },
  }));
}

/** Redrives by pushing like anybody else, at the usual priority. */
function pushedAnew(sound: Backend, limits: QueueLimits): Backend {
  return withQueue(sound, (queue) => ({
    deadLetters: (name, recipient) => {
      const letters = queue.deadLetters(name, recipient);
      const redrive = async (ids: readonly string[]): Promise<number> => {
        const found = await keptOf(letters, ids);
        const items = found.map(({ position, header, data }) => ({
          id: position,
          recipient,
          header,
          data,
          priority: 0,
          delayMs: 0,
        }));
        await queue.push(name, items, limits);
        return letters.remove(ids);
      };
      return { ...letters, redrive };
    },
  }));
}

async function keptOf(letters: DeadLetters, ids: readonly string[]): Promise<DeadLetter[]> {
  const found = await Promise.all(ids.map((id) => letters.get(id)));
  return found.filter((letter) => letter !== undefined);
}

const burying: readonly PlantedBug[] = [
  {
    title: "when a dead letter first failed is forgotten",
    caughtBy: ["log: a dead letter tells when an attempt first failed, and when the last did"],
    plant: (sound) => withLetter(sound, (letter) => ({ ...letter, firstFailedAt: letter.at })),
  },
  {
    title: "a purge takes young letters along",
    caughtBy: ["queue: purging forgets the dead letters that were parked that long ago, and no others"],
    plant: (sound) => withLetters(sound, (letters) => ({ purge: () => letters.purge(0) })),
  },
  {
    title: "what is parked has no bound",
    caughtBy: [
      "log: what no delivery brought is parked with its reason beside the others, and beyond maxDeadLetters the oldest goes",
    ],
    plant: (sound) =>
      withLog(sound, (log) => ({
        createGroup: (stream, group, settings) =>
          log.createGroup(stream, group, { ...settings, maxDeadLetters: 1_000_000 }),
      })),
  },
  {
    title: "what is redriven leaves its letter behind",
    caughtBy: [
      "log: redriving passes over ids that are not kept, and counts each letter once",
      "log: letters redriven at the same time from several backends are put back once each",
    ],
    plant: (sound) => appendedAnew(sound, async (letters, ids) => (await keptOf(letters, ids)).length),
  },
  {
    title: "what one group redrives is an ordinary entry",
    caughtBy: [
      "log: a redriven message stands behind all others, at a new position that no read sees",
      "log: what one group redrives comes to no other, neither now nor to one that is made or sought later",
      "log: a consumer of another group that waits is not given what is redriven, and waits on",
    ],
    plant: (sound) => appendedAnew(sound, (letters, ids) => letters.remove(ids)),
  },
  {
    title: "a redriven item forgets its priority",
    caughtBy: ["queue: a redriven item keeps its id and its priority"],
    plant: (sound) => pushedAnew(sound, { maxItems: 1_000_000 }),
  },
  {
    title: "redriving is refused by a full queue",
    caughtBy: ["queue: a redriven item is for its recipient alone, and finds room in a full queue"],
    plant: (sound) => pushedAnew(sound, { maxItems: 2 }),
  },
];

export const keepingBugs: readonly PlantedBug[] = [...deduping, ...limiting, ...counting, ...burying];
