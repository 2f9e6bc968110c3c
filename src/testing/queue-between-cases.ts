/** What several backends do to one queue at the same time: it comes to what it would have come to one after the other. */

import { deepEqual, equal, ok } from "node:assert/strict";
import type { Queue } from "../core/backend.js";
import type { ContractCase, ContractStore } from "./contract.js";
import {
  ack,
  collect,
  collectOne,
  deadLetter,
  item,
  LIMITS,
  numbered,
  settle,
  settled,
  take,
  textsOf,
} from "./fixtures.js";
import { AUDIENCE, expectLosses, idsOf, namesOf, OUTLIVED_MS, SHORT_TTL_MS, startQueue } from "./test-queue.js";
import { aMoment, within } from "./waiting.js";

const FOR_ALL = { audience: "registered" } as const;

/** The queues of the store's backend, and of two others. */
async function threeOf(store: ContractStore): Promise<readonly Queue[]> {
  return [store.backend.queue, (await store.second()).queue, (await store.second()).queue];
}

/** Does it for every one of a list, all at once. */
function all<T, R>(list: readonly T[], work: (one: T, index: number) => Promise<R>): Promise<R[]> {
  return Promise.all(list.map(work));
}

const limits: readonly ContractCase[] = [
  {
    title: "queue: pushes at the same time, from several backends, never fill a queue beyond its limit",
    run: async (store) => {
      const work = startQueue(store);
      const queues = await threeOf(store);
      const pushes = await all([...queues, ...queues], async (queue, index) =>
        queue.push(work.name, [item(`a${index}`), item(`b${index}`), item(`c${index}`)], { maxItems: 10 }).then(
          () => "stored",
          (error: unknown) => (error instanceof Error && "code" in error ? error.code : error),
        ),
      );
      deepEqual(
        ["stored", "LIMIT"].map((outcome) => pushes.filter((one) => one === outcome).length),
        [3, 3],
      );
      equal((await work.stats()).waiting, 9);
    },
  },
  {
    title: "queue: pushes at the same time, from several backends, drop as many as there are too many, each once",
    run: async (store) => {
      const work = startQueue(store);
      await work.push(...numbered("old", 10).map((id) => item(id)));
      const queues = await threeOf(store);
      const dropping = { maxItems: 10, overflow: "drop-oldest" } as const;
      await all([...queues, ...queues], (queue, index) =>
        queue.push(work.name, [item(`new${index}`, { priority: 1 })], dropping),
      );
      const { waiting, dropped } = await work.stats();
      deepEqual([waiting, dropped], [10, 6]);
      const feeds = await all(queues, (queue) =>
        queue.open(work.name, "", { consumer: store.name(), leaseMs: 60_000, maxAttempts: 3, maxDeadLetters: 10 }),
      );
      const taken = await all(feeds, (feed) => take(feed, 4));
      equal(
        taken.reduce((sum, { gone }) => sum + gone, 0),
        6,
      );
      const left = [...numbered("old", 10).slice(6), ...[0, 1, 2, 3, 4, 5].map((index) => `new${index}`)];
      deepEqual(taken.flatMap(({ deliveries }) => textsOf(deliveries)).toSorted(), left.toSorted());
    },
  },
];

const recipients: readonly ContractCase[] = [
  {
    title: "queue: a recipient that has lapsed is met by one of several backends, and its loss is reported once",
    run: async (store) => {
      const work = startQueue(store);
      await work.register(["anna"], { ttlMs: SHORT_TTL_MS, isAudience: true });
      await work.register(["ben"]);
      await work.push(item("lost", { recipient: "anna" }));
      await store.elapse(OUTLIVED_MS);
      const queues = await threeOf(store);
      const pushed = await all(queues, (queue, index) =>
        queue.push(work.name, [item(`for-all-${index}`, { recipient: FOR_ALL })], LIMITS),
      );
      deepEqual(
        pushed.flat().map((one) => one.recipients),
        [1, 1, 1],
      );
      await expectLosses(store, "anna");
      deepEqual(namesOf(await work.recipients()), ["ben"]);
    },
  },
  {
    title: "queue: registered by several backends at the same time, a recipient is listed once and gets each item once",
    run: async (store) => {
      const work = startQueue(store);
      const queues = await threeOf(store);
      await all([...queues, ...queues], (queue) => queue.register(work.name, "anna", AUDIENCE));
      deepEqual(namesOf(await work.recipients()), ["anna"]);
      await all(queues, (queue) => queue.push(work.name, [item("a", { recipient: FOR_ALL })], LIMITS));
      deepEqual(textsOf(await collect(store, await work.open("anna"), 1)), ["a"]);
      equal((await work.stats("anna")).waiting, 0);
    },
  },
  {
    title:
      "queue: a feed that waits goes on when its recipient is unregistered by another backend, as that of a new one",
    run: async (store) => {
      const work = startQueue(store);
      const second = (await store.second()).queue;
      const feed = await work.open("anna", { registration: AUDIENCE });
      await work.push(item("held", { recipient: "anna" }));
      const held = await collectOne(store, feed);
      const waiting = feed.take({ max: 1, waitMs: 20_000 }, []);
      await aMoment();
      equal(await second.unregister(work.name, "anna"), true);
      await within(store, registered(store, second, work.name), undefined, "the new registration");
      deepEqual(await second.push(work.name, [item("for all", { recipient: FOR_ALL })], LIMITS), [
        { id: "for all", duplicate: false, recipients: 1 },
      ]);
      deepEqual(textsOf((await within(store, waiting)).deliveries), ["for all"]);
      deepEqual(await settle(feed, ack(held)), [held.receipt]);
    },
  },
  {
    title:
      "queue: what is pushed while its recipient is unregistered by another backend is lost with it, or waits for the next",
    run: async (store) => {
      const work = startQueue(store);
      const second = (await store.second()).queue;
      for (let round = 0; round < 10; round += 1) {
        await work.register(["anna"]);
        const ids = numbered(`${round}-`, 5);
        const [pushed] = await Promise.all([
          all(ids, (id) => work.push(item(id, { recipient: "anna" }))),
          second.unregister(work.name, "anna"),
        ]);
        deepEqual(
          pushed.flat().map(({ duplicate }) => duplicate),
          ids.map(() => false),
        );
        await work.push(item(`${round} after`, { recipient: "anna" }));
        const { waiting } = await work.stats("anna");
        equal(await work.queue.count(work.name, {}), waiting, "what is counted can be had");
        equal(textsOf(await collect(store, await work.open("anna"), waiting)).at(-1), `${round} after`);
        await work.queue.clear(work.name);
      }
    },
  },
];

/** Resolves when a recipient is registered. */
async function registered(store: ContractStore, queue: Queue, name: string): Promise<void> {
  for (;;) {
    if ((await queue.recipients(name, { max: 1 })).recipients.length > 0) return;
    await aMoment();
    await store.elapse(10);
  }
}

const ending: readonly ContractCase[] = [
  {
    title: "queue: an item that several end at the same time is ended by one of them",
    run: async (store) => {
      const work = startQueue(store);
      const [one, other, third] = await threeOf(store);
      ok(one && other && third);
      const feed = await work.open();
      for (let round = 0; round < 10; round += 1) {
        const id = `item${round}`;
        await work.push(item(id));
        const held = await collectOne(store, feed);
        const ends: readonly boolean[] = await Promise.all([
          settle(feed, ack(held)).then((lost) => lost.length === 0),
          other.acknowledge(work.name, "", [id]).then(([was]) => was === true),
          third.remove(work.name, [id]).then((count) => count === 1),
        ]);
        deepEqual(ends.filter(Boolean), [true], `round ${round}`);
        equal(await one.count(work.name, {}), 0);
      }
    },
  },
  {
    title: "queue: finished in several backends at the same time, no more records are kept than there may be",
    run: async (store) => {
      const work = startQueue(store);
      await work.configure({ keepAckedMs: 60_000, maxRecords: 7, index: [] });
      const ids = numbered("item", 40);
      await work.push(...ids.map((id) => item(id)));
      const feeds = [await work.open(), await work.open("", { backend: await store.second() })];
      const taken = await all(feeds, (feed) => take(feed, 20));
      await all(feeds, (feed, index) => settled(feed, ...(taken[index]?.deliveries ?? []).map(ack)));
      equal((await work.list({ state: "acked" })).length, 7);
      equal(await work.queue.count(work.name, {}), 7);
    },
  },
  {
    title: "queue: a queue that is cleared while others push and take holds what came afterwards, and nothing else",
    run: async (store) => {
      const work = startQueue(store);
      const [one, other] = await threeOf(store);
      ok(one && other);
      const feed = await work.open(undefined, { backend: await store.second() });
      await work.push(...numbered("old", 30).map((id) => item(id)));
      const [taken] = await Promise.all([
        take(feed, 20),
        other.clear(work.name),
        ...numbered("new", 10).map((id) => one.push(work.name, [item(id)], LIMITS)),
      ]);
      await feed.take({ max: 0, waitMs: 0 }, taken.deliveries.map(ack));
      await work.push(item("new, after all"));
      const left = await work.browse("");
      ok(
        idsOf(left).every((id) => id.startsWith("new")),
        idsOf(left).join(),
      );
      equal(idsOf(left).at(-1), "new, after all");
      equal(await one.count(work.name, {}), left.length);
      await work.queue.clear(work.name);
      deepEqual([await one.count(work.name, {}), await work.browse("")], [0, []]);
    },
  },
  {
    title: "queue: a dead letter that several put back at the same time comes back once",
    run: async (store) => {
      const work = startQueue(store);
      const queues = await threeOf(store);
      const feed = await work.open();
      await work.push(item("a"));
      await settled(feed, deadLetter(await collectOne(store, feed)));
      const [letter] = (await work.queue.deadLetters(work.name, "").list({ max: 1 })).letters;
      ok(letter);
      const put = await all(queues, (queue) => queue.deadLetters(work.name, "").redrive([letter.id]));
      equal(
        put.reduce((sum, count) => sum + count, 0),
        1,
      );
      deepEqual(textsOf(await collect(store, feed, 1)), ["a"]);
      equal(await work.queue.count(work.name, {}), 1);
    },
  },
];

export const queueBetweenCases: readonly ContractCase[] = [...limits, ...recipients, ...ending];
