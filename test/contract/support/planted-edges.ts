/** Bugs of queues at their edges: what a push keeps, busy consumers, answers, limits, pages. */

import type { ItemPage } from "../../../src/core/backend.js";
import { LimitError } from "../../../src/core/errors.js";
import { type PlantedBug, withQueue } from "./planting.js";

const ASKER = "{reply}:asker";

export const edgeBugs: readonly PlantedBug[] = [
  {
    title: "a push says nothing of what is kept",
    caughtBy: ["queue: a push stores what its publisher wants kept where nothing is stored and nothing is held"],
    plant: (sound) =>
      withQueue(sound, (queue) => ({
        push: (name, items, { records: _records, ...limits }) => queue.push(name, items, limits),
      })),
  },
  {
    title: "a push changes what is kept whenever the queue is empty",
    caughtBy: ["queue: a push changes nothing of what is stored to be kept, nor of a queue that holds something"],
    plant: (sound) =>
      withQueue(sound, (queue) => ({
        push: async (name, items, limits) => {
          if (limits.records !== undefined) await queue.configure(name, limits.records);
          return await queue.push(name, items, limits);
        },
      })),
  },
  {
    title: "a feed keeps its recipient only while it takes",
    caughtBy: ["queue: an open feed keeps its recipient registered, however long what it has taken is under way"],
    misread: (context) => ({
      ...context,
      clock: { now: () => context.clock.now(), setTimer: () => ({ cancel: () => undefined }) },
    }),
    plant: (sound) => sound,
  },
  {
    title: "answers are counted",
    caughtBy: ["queue: an answer is listed, counted and kept nowhere, and takes no room"],
    plant: (sound) =>
      withQueue(sound, (queue) => ({
        count: async (name, filter) => (await queue.count(name, filter)) + (await queue.stats(name, ASKER)).waiting,
      })),
  },
  {
    title: "a full queue refuses whatever comes",
    caughtBy: ["queue: no limit is met where nothing would be stored"],
    plant: (sound) =>
      withQueue(sound, (queue) => ({
        push: async (name, items, limits) => {
          if ((await queue.count(name, {})) + items.length > limits.maxItems) throw new LimitError("full");
          return await queue.push(name, items, limits);
        },
      })),
  },
  {
    title: "an id that stands twice in a push is told as stored twice",
    caughtBy: ["queue: an id stands in a push once, also where it comes first for an audience that is nobody"],
    plant: (sound) =>
      withQueue(sound, (queue) => ({
        push: async (name, items, limits) =>
          (await queue.push(name, items, limits)).map((pushed) => ({ ...pushed, duplicate: false })),
      })),
  },
  {
    title: "what is no cursor begins anew",
    caughtBy: ["queue: what is no cursor is refused"],
    plant: (sound) =>
      withQueue(sound, (queue) => ({
        browse: (name, recipient, { max }, state) => queue.browse(name, recipient, { max }, state),
      })),
  },
  {
    title: "a page holds as many as are asked for, however large they are",
    caughtBy: ["queue: a page of large items ends early, and its cursor goes on"],
    plant: (sound) =>
      withQueue(sound, (queue) => ({
        browse: async (name, recipient, page, state) => {
          let read: ItemPage = await queue.browse(name, recipient, page, state);
          const { items } = read;
          for (let all = [...items]; ; all = [...all, ...read.items]) {
            if (read.cursor === undefined) return { items: all };
            read = await queue.browse(name, recipient, { ...page, cursor: read.cursor }, state);
          }
        },
      })),
  },
];
