/** Recipients of a queue: how they become known, how long they stay so, and what goes with them. */

import { deepEqual, equal, ok } from "node:assert/strict";
import type { ContractCase } from "./contract.js";
import {
  ack,
  attemptsOf,
  collect,
  collectOne,
  deadLetter,
  first,
  item,
  itemCountsOf,
  numbered,
  quiet,
  rejectsWith,
  retry,
  settle,
  settled,
  take,
  textsOf,
} from "./fixtures.js";
import { AUDIENCE, expectLosses, namesOf, OUTLIVED_MS, PRIVATE, SHORT_TTL_MS, startQueue } from "./test-queue.js";

const NOTHING = { waiting: 0, leased: 0, delayed: 0, dead: 0, expired: 0 };

const known: readonly ContractCase[] = [
  {
    title: "queue: registered recipients are listed in the order of their registration, page by page",
    run: async (store) => {
      const work = startQueue(store);
      deepEqual(await work.recipients(), []);
      const names = numbered("recipient", 25).map((name, index) => `${(index * 7) % 25} ${name}`);
      await work.register(names);
      for (const max of [1_000, 10, 25, 1]) deepEqual(namesOf(await work.recipients(max)), names, `pages of ${max}`);
      const second = await store.second();
      deepEqual(namesOf((await second.queue.recipients(work.name, { max: 3 })).recipients), names.slice(0, 3));
    },
  },
  {
    title: "queue: a recipient is listed as it was registered, and lapses no sooner than it should",
    run: async (store) => {
      const work = startQueue(store);
      const before = await store.now();
      await work.register(["anna"], { ttlMs: 50_000, isAudience: true });
      await work.register(["ben"], { ttlMs: 90_000, isAudience: false });
      const after = await store.now();
      const [anna, ben] = await work.recipients();
      ok(anna && ben);
      deepEqual([anna.recipient, anna.isAudience, anna.isOnline], ["anna", true, false]);
      deepEqual([ben.recipient, ben.isAudience, ben.isOnline], ["ben", false, false]);
      ok(anna.lapsesAt >= before + 50_000 && anna.lapsesAt <= after + 50_000, `${anna.lapsesAt - before} ms`);
      ok(ben.lapsesAt >= before + 90_000 && ben.lapsesAt <= after + 90_000, `${ben.lapsesAt - before} ms`);
    },
  },
  {
    title: "queue: registering a recipient again changes what it is, and begins anew",
    run: async (store) => {
      const work = startQueue(store);
      await work.register(["anna"], { ttlMs: SHORT_TTL_MS, isAudience: true });
      await (await store.second()).queue.register(work.name, "anna", { ttlMs: 90_000, isAudience: false });
      await store.elapse(OUTLIVED_MS);
      const [anna, ...others] = await work.recipients();
      ok(anna);
      deepEqual([anna.recipient, anna.isAudience, others.length], ["anna", false, 0]);
      ok(anna.lapsesAt > (await store.now()) + 60_000);
      // The other way round: from long to short.
      await work.register(["anna"], { ttlMs: SHORT_TTL_MS, isAudience: true });
      await store.elapse(OUTLIVED_MS);
      deepEqual(await work.recipients(), []);
    },
  },
  {
    title: "queue: opening registers a recipient where the consumer says so, and only there",
    run: async (store) => {
      const work = startQueue(store);
      await work.open();
      await work.open("unregistered");
      deepEqual(await work.recipients(), []);
      await work.open("anna", { registration: AUDIENCE });
      await work.open("ben", { registration: PRIVATE, backend: await store.second() });
      deepEqual(
        (await work.recipients()).map(({ recipient, isAudience }) => [recipient, isAudience]),
        [
          ["anna", true],
          ["ben", false],
        ],
      );
    },
  },
  {
    title: "queue: recipients belong to their queue and namespace",
    run: async (store) => {
      const [work, other] = [startQueue(store), startQueue(store)];
      const elsewhere = (await store.second({ namespace: "other" })).queue;
      await work.register(["anna"]);
      deepEqual(await other.recipients(), []);
      deepEqual(await elsewhere.recipients(work.name, { max: 10 }), { recipients: [] });
      equal(await other.queue.unregister(other.name, "anna"), false);
      equal(await elsewhere.unregister(work.name, "anna"), false);
      deepEqual(namesOf(await work.recipients()), ["anna"]);
    },
  },
  {
    title: "queue: a recipient is online while a feed is open for it, in any process",
    run: async (store) => {
      const work = startQueue(store);
      const second = await store.second();
      const isOnline = async (): Promise<boolean | undefined> => (await work.recipients())[0]?.isOnline;
      await work.register(["anna"]);
      equal(await isOnline(), false);
      const feeds = [await work.open("anna", { backend: second }), await work.open("anna")] as const;
      equal(await isOnline(), true);
      await feeds[1].close();
      equal(await isOnline(), true);
      await feeds[0].close();
      equal(await isOnline(), false);
      await work.open("anna", { backend: second });
      equal(await isOnline(), true);
      await second.close();
      equal(await isOnline(), false);
    },
  },
];

const lapsing: readonly ContractCase[] = [
  {
    title: "queue: a recipient stays registered while a feed of it takes, and lapses once nobody does",
    run: async (store) => {
      const work = startQueue(store);
      const feed = await work.open("anna", { registration: { ttlMs: SHORT_TTL_MS, isAudience: false } });
      await work.push(item("a", { recipient: "anna" }));
      for (let passed = 0; passed < 2 * SHORT_TTL_MS; passed += SHORT_TTL_MS / 3) {
        await store.elapse(SHORT_TTL_MS / 3);
        await take(feed, 0);
        deepEqual(namesOf(await work.recipients()), ["anna"]);
      }
      equal((await work.stats("anna")).waiting, 1);
      await feed.close();
      deepEqual(namesOf(await work.recipients()), ["anna"]);
      await store.elapse(OUTLIVED_MS);
      deepEqual(await work.recipients(), []);
      deepEqual(textsOf((await take(await work.open("anna"))).deliveries), []);
    },
  },
  {
    title: "queue: a waiting feed keeps its recipient registered",
    run: async (store) => {
      const work = startQueue(store);
      const feed = await work.open("anna", { registration: { ttlMs: SHORT_TTL_MS, isAudience: true } });
      const taken = feed.take({ max: 1, waitMs: 20_000 }, []);
      for (let passed = 0; passed < 3 * SHORT_TTL_MS; passed += SHORT_TTL_MS / 3) await store.elapse(SHORT_TTL_MS / 3);
      deepEqual(namesOf(await work.recipients()), ["anna"]);
      await work.push(item("a", { recipient: { audience: "registered" } }));
      deepEqual(textsOf((await taken).deliveries), ["a"]);
    },
  },
  {
    title: "queue: a recipient that has lapsed loses what it had, and where it was of an audience, that is reported",
    run: async (store) => {
      const work = startQueue(store);
      const feed = await work.open("anna", { registration: { ttlMs: SHORT_TTL_MS, isAudience: true } });
      const delayed = item("delayed", { recipient: "anna", delayMs: 60_000 });
      await work.push(item("dead", { recipient: "anna" }), delayed, item("waits", { recipient: "anna" }));
      await settled(feed, deadLetter(first((await take(feed, 1)).deliveries)));
      await feed.close();
      await store.elapse(OUTLIVED_MS);
      await work.register(["somebody else"]);
      await expectLosses(store, "anna");
      deepEqual(itemCountsOf(await work.stats("anna")), NOTHING);
      deepEqual(await work.letters("anna"), []);
      equal(await work.queue.count(work.name, {}), 0);
      equal(await work.queue.get(work.name, "waits"), undefined);
    },
  },
  {
    title: "queue: one of no audience lapses without a report, and one of an audience that had nothing",
    run: async (store) => {
      const work = startQueue(store);
      await work.register(["anna"], { ttlMs: SHORT_TTL_MS, isAudience: false });
      await work.register(["ben"], { ttlMs: SHORT_TTL_MS, isAudience: true });
      await work.push(item("a", { recipient: "anna" }), item("b", { recipient: "ben" }));
      await work.queue.acknowledge(work.name, "ben", ["b"]);
      await store.elapse(OUTLIVED_MS);
      await work.register(["somebody else"]);
      deepEqual(namesOf(await work.recipients()), ["somebody else"]);
      equal(await work.queue.count(work.name, {}), 0);
      await store.elapse(200);
      deepEqual(store.takeReports(), []);
    },
  },
  {
    title: "queue: a push for an audience, and an open of whomever, meet who has lapsed",
    run: async (store) => {
      const [one, other] = [startQueue(store), startQueue(store)];
      for (const work of [one, other]) {
        await work.register(["anna"], { ttlMs: SHORT_TTL_MS, isAudience: true });
        await work.push(item("a", { recipient: "anna" }));
      }
      await store.elapse(OUTLIVED_MS);
      const [pushed] = await one.push(item("news", { recipient: { audience: "registered" } }));
      equal(pushed?.recipients, 0);
      await expectLosses(store, "anna");
      await other.open("ben", { registration: PRIVATE });
      await expectLosses(store, "anna");
    },
  },
  {
    title: "queue: what is pushed to a recipient once it has lapsed is for whoever comes by that name",
    run: async (store) => {
      const work = startQueue(store);
      await work.register(["anna"], { ttlMs: SHORT_TTL_MS, isAudience: false });
      await work.push(item("old", { recipient: "anna" }));
      await store.elapse(OUTLIVED_MS);
      await work.push(item("new", { recipient: "anna" }));
      const feed = await work.open("anna", { registration: PRIVATE });
      deepEqual(attemptsOf(await collect(store, feed, 1)), ["new"]);
      await quiet(store, feed);
    },
  },
  {
    title: "queue: what is for a recipient that was never registered waits for it, however long",
    run: async (store) => {
      const work = startQueue(store);
      await work.push(item("a", { recipient: "anna" }));
      await work.register(["ben"], { ttlMs: SHORT_TTL_MS, isAudience: false });
      await store.elapse(OUTLIVED_MS);
      await work.register(["cara"]);
      deepEqual(attemptsOf(await collect(store, await work.open("anna", { registration: PRIVATE }), 1)), ["a"]);
    },
  },
  {
    title: "queue: of many that lapse together each is forgotten, and none who has not",
    run: async (store) => {
      const work = startQueue(store);
      const [dying, living] = [numbered("dying", 120), numbered("living", 30)];
      await work.register(dying, { ttlMs: 4_000, isAudience: false });
      await work.register(living);
      await work.push(...[...dying, ...living].map((recipient) => item(`for ${recipient}`, { recipient })));
      await store.elapse(4_600);
      deepEqual(namesOf(await work.recipients()), living);
      // Each call forgets some.
      for (let calls = 0; calls < 200 && (await work.queue.count(work.name, {})) > 30; calls += 1) {
        await work.register(["somebody else"]);
      }
      equal(await work.queue.count(work.name, {}), 30);
      for (const recipient of living) equal((await work.stats(recipient)).waiting, 1, recipient);
    },
  },
];

const unregistering: readonly ContractCase[] = [
  {
    title: "queue: unregistering forgets a recipient with all that it has, and ends its leases",
    run: async (store) => {
      const work = startQueue(store);
      await work.register(["ben"]);
      const feed = await work.open("anna", { registration: AUDIENCE });
      const ids = ["held", "dead", "retried", "waits"];
      await work.push(
        ...ids.map((id) => item(id, { recipient: "anna" })),
        item("delayed", { recipient: "anna", delayMs: 60_000 }),
        item("for ben", { recipient: "ben" }),
      );
      const [held, dead, retried] = await collect(store, feed, 3);
      ok(held && dead && retried);
      await settled(feed, deadLetter(dead), retry(retried, 60_000));
      await work.queue.pause(work.name, "anna");
      const second = (await store.second()).queue;
      equal(await second.unregister(work.name, "anna"), true);
      equal(await second.unregister(work.name, "anna"), false);
      deepEqual(namesOf(await work.recipients()), ["ben"]);
      const stats = await work.stats("anna");
      deepEqual([stats.paused, itemCountsOf(stats)], [false, NOTHING]);
      deepEqual(await work.letters("anna"), []);
      equal(await work.queue.count(work.name, {}), 1);
      equal((await work.stats("ben")).waiting, 1);
      deepEqual(await settle(feed, ack(held)), [held.receipt]);
      deepEqual(await work.queue.get(work.name, "held"), undefined);
    },
  },
  {
    title: "queue: what an unregistered recipient had leaves room, and its ids are free",
    run: async (store) => {
      const work = startQueue(store);
      await work.register(["anna"]);
      const two = { maxItems: 2 };
      await work.pushWithin(two, item("a", { recipient: "anna" }), item("b", { recipient: "anna" }));
      await rejectsWith("LIMIT", () => work.pushWithin(two, item("c")));
      await work.queue.unregister(work.name, "anna");
      deepEqual(
        (await work.pushWithin(two, item("a"), item("b"))).map(({ duplicate }) => duplicate),
        [false, false],
      );
      deepEqual(textsOf(await collect(store, await work.open(), 2)), ["a", "b"]);
    },
  },
  {
    title: "queue: one that was never registered can be forgotten all the same",
    run: async (store) => {
      const work = startQueue(store);
      await work.push(item("a", { recipient: "anna" }));
      equal((await work.stats("anna")).waiting, 1);
      equal(await work.queue.unregister(work.name, "anna"), false);
      deepEqual(itemCountsOf(await work.stats("anna")), NOTHING);
      equal(await work.queue.count(work.name, {}), 0);
      equal(await work.queue.unregister(store.name(), "nobody"), false);
    },
  },
  {
    title: "queue: a feed that goes on taking registers its recipient again",
    run: async (store) => {
      const work = startQueue(store);
      const feed = await work.open("anna", { registration: AUDIENCE });
      await work.queue.unregister(work.name, "anna");
      deepEqual(await work.recipients(), []);
      await take(feed, 1);
      deepEqual(
        (await work.recipients()).map(({ recipient, isAudience, isOnline }) => [recipient, isAudience, isOnline]),
        [["anna", true, true]],
      );
      await work.push(item("a", { recipient: { audience: "online" } }));
      await settled(feed, ack(await collectOne(store, feed)));
    },
  },
];

export const recipientCases: readonly ContractCase[] = [...known, ...lapsing, ...unregistering];
