/** Bugs of queues: of recipients and audiences, of priorities, of what is shown, kept and ended by its id. */

import type { Backend, Feed, NewItem, Outcome, QueueConsumer, Reply } from "../../../src/core/backend.js";
import { type PlantedBug, withOutcomes, withQueue, withTaken } from "./planting.js";

function withItems(sound: Backend, change: (item: NewItem) => NewItem): Backend {
  return withQueue(sound, (queue) => ({
    push: (name, items, limits) => queue.push(name, items.map(change), limits),
  }));
}

function withConsumers(sound: Backend, change: (consumer: QueueConsumer) => QueueConsumer): Backend {
  return withQueue(sound, (queue) => ({
    open: (name, recipient, consumer) => queue.open(name, recipient, change(consumer)),
  }));
}

/** Changes the answers that outcomes hold. */
function withReplies(sound: Backend, change: (reply: Reply, outcome: Outcome) => Reply | undefined): Backend {
  return withOutcomes(sound, (outcome) => {
    if (outcome.as === "retry" || outcome.reply === undefined) return [outcome];
    const { reply, ...rest } = outcome;
    const changed = change(reply, outcome);
    return [changed === undefined ? rest : { ...rest, reply: changed }];
  });
}

const recipients: readonly PlantedBug[] = [
  {
    title: "recipients never lapse",
    caughtBy: [
      "queue: a recipient stays registered while a feed of it takes, and lapses once nobody does",
      "queue: an answer to a recipient that has lapsed is dropped",
    ],
    plant: (sound) =>
      withQueue(sound, (queue) => ({
        register: (name, recipient, registration) =>
          queue.register(name, recipient, { ...registration, ttlMs: registration.ttlMs + 3_600_000 }),
        open: (name, recipient, { registration, ...consumer }) => {
          const lasting = registration && { ...registration, ttlMs: registration.ttlMs + 3_600_000 };
          return queue.open(name, recipient, { ...consumer, ...(lasting && { registration: lasting }) });
        },
      })),
  },
  {
    title: "what a lapsed recipient of an audience had is lost in silence",
    caughtBy: [
      "queue: a recipient that has lapsed loses what it had, and where it was of an audience, that is reported",
      "queue: a recipient that lapses leaves what is for all to the others, and its loss is reported",
    ],
    misread: (context) => ({ ...context, report: () => {} }),
    plant: (sound) => sound,
  },
  {
    title: "opening does not register",
    caughtBy: ["queue: opening registers a recipient where the consumer says so, and only there"],
    plant: (sound) => withConsumers(sound, ({ registration: _registration, ...consumer }) => consumer),
  },
  {
    title: "registering again changes nothing",
    caughtBy: ["queue: registering a recipient again changes what it is, and begins anew"],
    plant: (sound) =>
      withQueue(sound, (queue) => ({
        register: async (name, recipient, registration) => {
          const { recipients: known } = await queue.recipients(name, { max: 1_000 });
          if (known.some((one) => one.recipient === recipient)) return;
          await queue.register(name, recipient, registration);
        },
      })),
  },
  {
    title: "unregistering keeps what a recipient has",
    caughtBy: [
      "queue: unregistering forgets a recipient with all that it has, and ends its leases",
      "queue: what an unregistered recipient had leaves room, and its ids are free",
    ],
    plant: (sound) =>
      withQueue(sound, (queue) => {
        const forgotten = new Set<string>();
        return {
          unregister: async (_name, recipient) => !forgotten.has(recipient) && forgotten.add(recipient).size > 0,
          recipients: async (name, page) => {
            const { recipients: known, ...rest } = await queue.recipients(name, page);
            return { recipients: known.filter(({ recipient }) => !forgotten.has(recipient)), ...rest };
          },
        };
      }),
  },
  {
    title: "recipients are listed by their names",
    caughtBy: ["queue: registered recipients are listed in the order of their registration, page by page"],
    plant: (sound) =>
      withQueue(sound, (queue) => ({
        recipients: async (name, page) => {
          const { recipients: known, ...rest } = await queue.recipients(name, page);
          return { recipients: known.toSorted((a, b) => (a.recipient < b.recipient ? -1 : 1)), ...rest };
        },
      })),
  },
  {
    title: "of a paused recipient only the process that paused it hands out nothing",
    caughtBy: [
      "queue: of a paused recipient nothing is handed out, in any process, until it is resumed",
      "queue: a pause outlives the backend that made it, and concerns its recipient alone",
    ],
    plant: (sound) => {
      const paused = new Set<string>();
      return withQueue(sound, (queue) => ({
        pause: async (_name, recipient) => void paused.add(recipient),
        resume: async (_name, recipient) => void paused.delete(recipient),
        open: async (name, recipient, consumer): Promise<Feed> => {
          const feed = await queue.open(name, recipient, consumer);
          return {
            ...feed,
            take: (want, outcomes) => feed.take(paused.has(recipient) ? { ...want, max: 0 } : want, outcomes),
          };
        },
      }));
    },
  },
];

const audiences: readonly PlantedBug[] = [
  {
    title: "those online are taken for all who are registered",
    caughtBy: ["queue: an item for those online reaches the registered ones that a feed is open for, in any process"],
    plant: (sound) =>
      withItems(sound, (item) =>
        typeof item.recipient === "string" ? item : { ...item, recipient: { audience: "registered" } },
      ),
  },
  {
    title: "what is for all reaches those as well that are of no audience",
    caughtBy: ["queue: an item for the registered reaches each of them, and nobody else"],
    plant: (sound) =>
      withQueue(sound, (queue) => ({
        register: (name, recipient, { ttlMs }) => queue.register(name, recipient, { ttlMs, isAudience: true }),
      })),
  },
  {
    title: "the first who finishes what is for all finishes it for everybody",
    caughtBy: [
      "queue: each recipient finishes what is for all on its own",
      "queue: what is for all counts once, and makes room when the last has finished it",
    ],
    plant: (sound) =>
      withQueue(sound, (queue) => ({
        open: async (name, recipient, consumer) => {
          const feed = await queue.open(name, recipient, consumer);
          const ids = new Map<string, string>();
          return {
            ...feed,
            take: async (want, outcomes) => {
              const taken = await feed.take(want, outcomes);
              for (const { receipt, position } of taken.deliveries) ids.set(receipt, position);
              const acked = outcomes.filter(({ as }) => as === "ack").flatMap(({ receipt }) => ids.get(receipt) ?? []);
              if (acked.length > 0) await queue.remove(name, acked);
              return taken;
            },
          };
        },
      })),
  },
  {
    title: "an audience ends at two hundred and fifty-six recipients",
    caughtBy: ["queue: what is for many is for every one of them, and is over once each has finished it"],
    plant: (sound) =>
      withQueue(sound, (queue) => ({
        push: async (name, items, limits) => {
          const pushed = await queue.push(name, items, limits);
          const { recipients: known } = await queue.recipients(name, { max: 1_000 });
          for (const { recipient } of known.slice(256)) {
            await queue.acknowledge(
              name,
              recipient,
              pushed.map(({ id }) => id),
            );
          }
          return pushed.map((one) => ({ ...one, recipients: Math.min(256, one.recipients) }));
        },
      })),
  },
];

const ordering: readonly PlantedBug[] = [
  {
    title: "weighted consumers get the most urgent, always",
    caughtBy: [
      "queue: of a weighted consumer's deliveries one in five goes round the priorities, in batches",
      "queue: under a weighted consumer no priority waits for ever, whatever more urgent work comes",
    ],
    plant: (sound) => withConsumers(sound, (consumer) => ({ ...consumer, priorities: "strict" })),
  },
  {
    title: "strict consumers go round the priorities",
    caughtBy: [
      "queue: a strict consumer leaves what is less urgent until nothing else waits",
      "queue: whatever comes to it, nothing is lost, held twice, out of order or counted wrongly (course 7)",
    ],
    plant: (sound) => withConsumers(sound, (consumer) => ({ ...consumer, priorities: "weighted" })),
  },
  {
    title: "an acknowledgement is forgotten now and then",
    caughtBy: ["queue: whatever comes to it, nothing is lost, held twice, out of order or counted wrongly (course 7)"],
    plant: (sound) => {
      let count = 0;
      return withOutcomes(sound, (outcome) => (outcome.as === "ack" && (count += 1) % 5 === 0 ? [] : [outcome]));
    },
  },
  {
    title: "a lease lasts an eighth of what it should",
    caughtBy: [
      "queue: whatever comes to it, nothing is lost, held twice, out of order or counted wrongly (course 4711)",
    ],
    plant: (sound) => withConsumers(sound, (consumer) => ({ ...consumer, leaseMs: consumer.leaseMs / 8 })),
  },
  {
    title: "items live a little too long",
    caughtBy: [
      "queue: whatever comes to it, nothing is lost, held twice, out of order or counted wrongly (course 4711)",
    ],
    plant: (sound) =>
      withItems(sound, ({ ttlMs, ...item }) => ({ ...item, ...(ttlMs !== undefined && { ttlMs: ttlMs + 400 }) })),
  },
  {
    title: "closing one of several feeds of the same consumer's name closes all",
    caughtBy: ["queue: of feeds with the same consumer's name each has its own deliveries, and none is lost"],
    plant: (sound) => {
      const feeds = new Map<string, Feed[]>();
      return withQueue(sound, (queue) => ({
        open: async (name, recipient, consumer) => {
          const feed = await queue.open(name, recipient, consumer);
          const twins = [...(feeds.get(consumer.consumer) ?? []), feed];
          feeds.set(consumer.consumer, twins);
          return {
            ...feed,
            close: async () =>
              void (await Promise.all((feeds.get(consumer.consumer) ?? []).map((twin) => twin.close()))),
          };
        },
      }));
    },
  },
];

const showing: readonly PlantedBug[] = [
  {
    title: "items are shown by their age, whatever their priority",
    caughtBy: ["queue: what is ready is shown in the order in which it is handed out, and taken from by nobody"],
    plant: (sound) =>
      withQueue(sound, (queue) => ({
        browse: async (...args) => {
          const { items, ...rest } = await queue.browse(...args);
          return { items: items.toSorted((a, b) => a.at - b.at || (a.id < b.id ? -1 : 1)), ...rest };
        },
      })),
  },
  {
    title: "pages of items end after the first",
    caughtBy: [
      "queue: many items are shown page by page, each once, in their order",
      "queue: of a thousand and more the list and the count leave none out",
    ],
    plant: (sound) =>
      withQueue(sound, (queue) => ({
        browse: async (...args) => ({ items: (await queue.browse(...args)).items }),
        list: async (...args) => ({ items: (await queue.list(...args)).items }),
      })),
  },
  {
    title: "items are listed the oldest first",
    caughtBy: [
      "queue: items are listed the newest first, by fields and states, and counted",
      "queue: whatever comes to it, records are what items came to, and all are found and counted (course 7)",
    ],
    plant: (sound) =>
      withQueue(sound, (queue) => ({
        list: async (...args) => {
          const { items, ...rest } = await queue.list(...args);
          return { items: items.toReversed(), ...rest };
        },
      })),
  },
  {
    title: "a count stops at a thousand",
    caughtBy: ["queue: of a thousand and more the list and the count leave none out"],
    plant: (sound) =>
      withQueue(sound, (queue) => ({ count: async (...args) => Math.min(1_000, await queue.count(...args)) })),
  },
  {
    title: "what is not indexed is looked for in everything",
    caughtBy: ["queue: without an index there is no list, and no count by a filter"],
    plant: (sound) =>
      withQueue(sound, (queue) => ({
        list: (...args) => queue.list(...args).catch(() => ({ items: [] })),
        count: (...args) => queue.count(...args).catch(() => 0),
      })),
  },
  {
    title: "a delayed item counts as ready",
    caughtBy: [
      "queue: stats are exact whatever items come to, and all backends agree",
      "queue: whatever comes to it, nothing is lost, held twice, out of order or counted wrongly (course 7)",
    ],
    plant: (sound) =>
      withQueue(sound, (queue) => ({
        stats: async (...args) => {
          const stats = await queue.stats(...args);
          return { ...stats, waiting: stats.waiting + stats.delayed, delayed: 0 };
        },
      })),
  },
  {
    title: "the ids of what has expired are not told",
    caughtBy: [
      "queue: a take tells the ids of those that it has found expired, whether they waited or came back",
      "queue: ten thousand that expire together are found by calls that do a bounded part each, and what is more urgent waits for none",
    ],
    plant: (sound) => withTaken(sound, ({ expiredIds: _ids, ...taken }) => taken),
  },
];

const keeping: readonly PlantedBug[] = [
  {
    title: "records are kept for ever",
    caughtBy: ["queue: a record goes when it was kept for long enough, and an unfinished item never"],
    plant: (sound) =>
      withQueue(sound, (queue) => ({
        configure: (name, settings) =>
          queue.configure(name, { ...settings, keepAckedMs: settings.keepAckedMs * 1_000 }),
      })),
  },
  {
    title: "records are kept without bound",
    caughtBy: ["queue: beyond maxRecords the record that was finished first goes"],
    plant: (sound) =>
      withQueue(sound, (queue) => ({
        configure: (name, settings) => queue.configure(name, { ...settings, maxRecords: 1_000_000 }),
      })),
  },
  {
    title: "what a queue keeps is settled by the last who says so",
    caughtBy: ["queue: what is kept and indexed is settled by the first, and can change while a queue holds nothing"],
    plant: (sound) =>
      withQueue(sound, (queue) => ({
        configure: async (name, settings) => {
          await queue.configure(name, settings);
          return settings;
        },
      })),
  },
  {
    title: "ids that givers chose are forgotten with their items",
    caughtBy: [
      "queue: an id that its giver chose is remembered once its item is finished, any other is not",
      "queue: an id is remembered whatever became of its item",
    ],
    plant: (sound) => withItems(sound, ({ dedupe: _dedupe, ...item }) => item),
  },
  {
    title: "every id is remembered, whoever made it",
    caughtBy: [
      "queue: an id that its giver chose is remembered once its item is finished, any other is not",
      "queue: what is acknowledged by its id makes room, and its id is free",
    ],
    plant: (sound) => withItems(sound, (item) => ({ ...item, dedupe: true })),
  },
];

const ending: readonly PlantedBug[] = [
  {
    title: "what is acknowledged by its id is removed, and leaves no record",
    caughtBy: [
      "queue: acknowledged by its id an item leaves a record, removed or forgotten with its recipient none",
      "queue: whatever comes to it, records are what items came to, and all are found and counted (course 4711)",
    ],
    plant: (sound) =>
      withQueue(sound, (queue) => ({
        acknowledge: async (name, recipient, ids) => {
          const acknowledged = await queue.acknowledge(name, recipient, ids);
          await queue.remove(
            name,
            ids.filter((_id, index) => acknowledged[index]),
          );
          return acknowledged;
        },
      })),
  },
  {
    title: "what is held cannot be acknowledged by its id",
    caughtBy: ["queue: acknowledged by its id an item that is held is finished, and its holder's outcome is lost"],
    plant: (sound) =>
      withQueue(sound, (queue) => ({
        acknowledge: async (name, recipient, ids) => {
          const { items } = await queue.browse(name, recipient, { max: 1_000 }, "leased");
          const held = new Set(items.map(({ id }) => id));
          return queue.acknowledge(
            name,
            recipient,
            ids.map((id) => (held.has(id) ? "" : id)),
          );
        },
      })),
  },
  {
    title: "removing an item removes its dead letters",
    caughtBy: ["queue: kept records are removed as well, dead letters stay and can be redriven"],
    plant: (sound) =>
      withQueue(sound, (queue) => ({
        remove: async (name, ids) => {
          const letters = queue.deadLetters(name, "");
          const parked = (await letters.list({ max: 1_000 })).letters.filter(({ position }) => ids.includes(position));
          await letters.remove(parked.map(({ id }) => id));
          return queue.remove(name, ids);
        },
      })),
  },
  {
    title: "clearing a queue forgets its recipients",
    caughtBy: ["queue: clearing leaves recipients registered and paused, and feeds go on"],
    plant: (sound) =>
      withQueue(sound, (queue) => ({
        clear: async (name) => {
          const count = await queue.clear(name);
          const { recipients: known } = await queue.recipients(name, { max: 1_000 });
          for (const { recipient } of known) await queue.unregister(name, recipient);
          return count;
        },
      })),
  },
  {
    title: "clearing a queue keeps its dead letters",
    caughtBy: ["queue: a cleared queue has no items, no dead letters and no remembered ids, and leases have ended"],
    plant: (sound) =>
      withQueue(sound, (queue) => ({
        clear: async (name) => {
          let count = 0;
          for (const recipient of ["", "anna", "ben"]) {
            const { items } = await queue.browse(name, recipient, { max: 1_000 });
            count += await queue.remove(
              name,
              items.map(({ id }) => id),
            );
          }
          return count;
        },
      })),
  },
  {
    title: "a full queue that is to drop the oldest refuses instead",
    caughtBy: ["queue: a full queue that drops the oldest drops the least urgent first, and counts it as gone"],
    plant: (sound) =>
      withQueue(sound, (queue) => ({ push: (name, items, { maxItems }) => queue.push(name, items, { maxItems }) })),
  },
  {
    title: "what a full queue drops is told by nobody",
    caughtBy: ["queue: a full queue that drops the oldest drops the least urgent first, and counts it as gone"],
    plant: (sound) => withTaken(sound, (taken) => ({ ...taken, gone: 0 })),
  },
];

const answering: readonly PlantedBug[] = [
  {
    title: "an answer is stored before the outcome is settled",
    caughtBy: [
      "queue: where the outcome is lost nothing is answered",
      "queue: an answer to nobody who is registered is dropped, and its outcome counts all the same",
    ],
    plant: (sound) =>
      withQueue(sound, (queue) => ({
        open: async (name, recipient, consumer) => {
          const feed = await queue.open(name, recipient, consumer);
          return {
            ...feed,
            take: async (want, outcomes) => {
              const answers = outcomes.flatMap((outcome) => ("reply" in outcome ? (outcome.reply ?? []) : []));
              const items = answers.map((reply) => ({ ...reply, delayMs: 0 }));
              if (items.length > 0) await queue.push(name, items, { maxItems: 1_000_000 });
              return feed.take(want, outcomes);
            },
          };
        },
      })),
  },
  {
    title: "a dead letter is not answered",
    caughtBy: ["queue: an answer is stored in the step that parks a dead letter, too"],
    plant: (sound) => withReplies(sound, (reply, { as }) => (as === "deadLetter" ? undefined : reply)),
  },
  {
    title: "answers do not expire",
    caughtBy: ["queue: an answer expires after its time to live"],
    plant: (sound) => withReplies(sound, (reply) => ({ ...reply, ttlMs: reply.ttlMs * 1_000 })),
  },
  {
    title: "an answer that the queue holds already is stored again",
    caughtBy: ["queue: an answer whose id the queue holds is not stored again"],
    plant: (sound) => {
      let count = 0;
      return withReplies(sound, (reply) => ({ ...reply, id: `${reply.id} ${(count += 1)}` }));
    },
  },
];

export const queueBugs: readonly PlantedBug[] = [
  ...recipients,
  ...audiences,
  ...ordering,
  ...showing,
  ...keeping,
  ...ending,
  ...answering,
];
