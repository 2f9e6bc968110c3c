/** Items for an audience: stored once, delivered to each recipient, finished by each on its own. */

import { deepEqual, equal, ok } from "node:assert/strict";
import type { Audience, NewItem } from "../core/backend.js";
import type { ContractCase, ContractStore } from "./contract.js";
import {
  ack,
  allLetters,
  attemptsOf,
  collect,
  collectOne,
  deadLetter,
  first,
  haul,
  item,
  itemCountsOf,
  LONG_WAIT_MS,
  numbered,
  quiet,
  rejectsWith,
  retry,
  SHORT_LEASE_MS,
  settle,
  settled,
  textsOf,
} from "./fixtures.js";
import {
  AUDIENCE,
  expectLosses,
  OUTLIVED_MS,
  PRIVATE,
  SHORT_TTL_MS,
  startQueue,
  type TestQueue,
} from "./test-queue.js";
import { aMoment, within } from "./waiting.js";

const TO_ALL: Audience = { audience: "registered" };
const TO_THE_PRESENT: Audience = { audience: "online" };
const TTL_MS = 2_000;

function toAll(id: string, more: Partial<NewItem> = {}): NewItem {
  return item(id, { recipient: TO_ALL, ...more });
}

async function startAudience(store: ContractStore, ...recipients: readonly string[]): Promise<TestQueue> {
  const work = startQueue(store);
  await work.register(recipients);
  return work;
}

const reaching: readonly ContractCase[] = [
  {
    title: "queue: an item for the registered reaches each of them, and nobody else",
    run: async (store) => {
      const work = await startAudience(store, "anna", "ben");
      await work.register(["private"], PRIVATE);
      deepEqual(await work.push(toAll("news")), [{ id: "news", duplicate: false, recipients: 2 }]);
      await work.register(["late"]);
      for (const recipient of ["anna", "ben"]) {
        const feed = await work.open(recipient, { registration: AUDIENCE });
        const delivery = await collectOne(store, feed);
        deepEqual([delivery.position, delivery.header, ...textsOf([delivery])], ["news", "header of news", "news"]);
      }
      for (const recipient of ["private", "late", undefined]) await quiet(store, await work.open(recipient));
    },
  },
  {
    title: "queue: an item for those online reaches the registered ones that a feed is open for, in any process",
    run: async (store) => {
      const work = await startAudience(store, "away", "left");
      await work.open("here", { registration: AUDIENCE });
      await work.open("there", { registration: AUDIENCE, backend: await store.second() });
      await work.open("private", { registration: PRIVATE });
      await work.open("unregistered");
      await (await work.open("left", { registration: AUDIENCE })).close();
      const [pushed] = await work.push(item("now", { recipient: TO_THE_PRESENT }));
      equal(pushed?.recipients, 2);
      const waiting = async (recipient: string): Promise<number> => (await work.stats(recipient)).waiting;
      for (const recipient of ["here", "there"]) equal(await waiting(recipient), 1, recipient);
      for (const recipient of ["away", "left", "private", "unregistered"])
        equal(await waiting(recipient), 0, recipient);
    },
  },
  {
    title: "queue: an audience of nobody is told as such, and nothing is stored",
    run: async (store) => {
      const work = startQueue(store);
      await work.register(["private"], PRIVATE);
      const one = { maxItems: 1 };
      for (const recipient of [TO_ALL, TO_THE_PRESENT]) {
        const [pushed] = await work.pushWithin(one, item(recipient.audience, { recipient }));
        deepEqual(pushed, { id: recipient.audience, duplicate: false, recipients: 0 });
        equal(await work.queue.get(work.name, recipient.audience), undefined);
      }
      equal(await work.queue.count(work.name, {}), 0);
      await work.pushWithin(one, item("room for one"));
    },
  },
  {
    title: "queue: items for one, for all and for the present go together in one push, each in its place",
    run: async (store) => {
      const work = await startAudience(store, "anna", "ben");
      const anna = await work.open("anna", { registration: AUDIENCE });
      const pushed = await work.push(
        item("a1", { recipient: "anna", priority: 1 }),
        toAll("b5", { priority: 5 }),
        item("c9", { recipient: "ben", priority: 9 }),
        item("d1", { recipient: TO_THE_PRESENT, priority: 1 }),
        toAll("e1", { priority: 1 }),
        item("f5", { recipient: "anna", priority: 5 }),
      );
      deepEqual(
        pushed.map(({ recipients }) => recipients),
        [1, 2, 1, 1, 2, 1],
      );
      deepEqual(textsOf(await collect(store, anna, 5)), ["b5", "f5", "a1", "d1", "e1"]);
      deepEqual(textsOf(await collect(store, await work.open("ben"), 3)), ["c9", "b5", "e1"]);
    },
  },
  {
    title: "queue: takes that wait are woken by what is for all, in any process",
    run: async (store) => {
      const work = await startAudience(store);
      const backends = [store.backend, await store.second()];
      const feeds = await Promise.all(
        backends.map((backend, index) => work.open(`recipient ${index}`, { backend, registration: AUDIENCE })),
      );
      const taken = Promise.all(feeds.map((feed) => feed.take({ max: 1, waitMs: LONG_WAIT_MS }, [])));
      taken.catch(() => {});
      await aMoment();
      await work.push(item("news", { recipient: TO_THE_PRESENT }));
      deepEqual(
        (await within(store, taken)).map(({ deliveries }) => textsOf(deliveries)),
        [["news"], ["news"]],
      );
    },
  },
  {
    title: "queue: what is for many is for every one of them, and is over once each has finished it",
    run: async (store) => {
      // More than a backend would do in one step.
      const names = numbered("recipient", 300);
      const work = await startAudience(store, ...names);
      const [one, named, other, removed] = await work.push(
        toAll("one"),
        item("named", { recipient: "recipient7" }),
        toAll("other", { priority: 1 }),
        toAll("removed", { priority: 9 }),
      );
      deepEqual(
        [one, named, other, removed].map((pushed) => pushed?.recipients),
        [300, 1, 300, 300],
      );
      equal(await work.queue.count(work.name, {}), 4);
      equal(await work.queue.remove(work.name, ["removed"]), 1);
      const counts = await Promise.all(names.map(async (name) => (await work.stats(name)).waiting));
      deepEqual(
        counts,
        names.map((name) => (name === "recipient7" ? 3 : 2)),
      );
      deepEqual(textsOf(await collect(store, await work.open("recipient300"), 2)), ["other", "one"]);
      for (const name of names) {
        ok((await work.queue.get(work.name, "one")) !== undefined, `until ${name} has finished it`);
        deepEqual(await work.queue.acknowledge(work.name, name, ["one", "other"]), [true, true], name);
      }
      equal(await work.queue.get(work.name, "one"), undefined);
      equal(await work.queue.count(work.name, {}), 1);
      deepEqual(textsOf(await collect(store, await work.open("recipient7"), 1)), ["named"]);
    },
  },
];

const finishing: readonly ContractCase[] = [
  {
    title: "queue: each recipient finishes what is for all on its own",
    run: async (store) => {
      const work = await startAudience(store, "anna", "ben", "cara");
      await work.push(toAll("news"));
      const [anna, ben, cara] = [await work.open("anna"), await work.open("ben"), await work.open("cara")];
      await settled(anna, ack(await collectOne(store, anna)));
      const bens = await collectOne(store, ben);
      await settled(ben, retry(bens));
      const again = await collectOne(store, ben);
      deepEqual(attemptsOf([again]), ["news#2"]);
      deepEqual(await settle(anna, ack(again)), [again.receipt], "another's receipt is worthless");
      await settled(ben, deadLetter(again));
      await quiet(store, anna);
      await quiet(store, ben);
      deepEqual(attemptsOf([await collectOne(store, cara)]), ["news"]);
      deepEqual(await work.letters("ben"), ["news"]);
      deepEqual([await work.letters("anna"), await work.letters("cara")], [[], []]);
      const counts = await Promise.all(
        ["anna", "ben", "cara"].map(async (name) => itemCountsOf(await work.stats(name))),
      );
      deepEqual(counts, [
        { waiting: 0, leased: 0, delayed: 0, dead: 0, expired: 0 },
        { waiting: 0, leased: 0, delayed: 0, dead: 1, expired: 0 },
        { waiting: 0, leased: 1, delayed: 0, dead: 0, expired: 0 },
      ]);
    },
  },
  {
    title: "queue: what is for all counts once, and makes room when the last has finished it",
    run: async (store) => {
      const work = await startAudience(store, "anna", "ben", "cara");
      const one = { maxItems: 1 };
      await work.pushWithin(one, toAll("news"));
      equal(await work.queue.count(work.name, {}), 1);
      for (const [index, name] of ["anna", "ben", "cara"].entries()) {
        await rejectsWith("LIMIT", () => work.pushWithin(one, toAll("more")));
        const feed = await work.open(name);
        const delivery = await collectOne(store, feed);
        await settled(feed, index === 1 ? deadLetter(delivery) : ack(delivery));
      }
      equal(await work.queue.count(work.name, {}), 0);
      deepEqual(await work.pushWithin(one, toAll("news")), [{ id: "news", duplicate: false, recipients: 3 }]);
    },
  },
  {
    title: "queue: of an id that is pushed to all several times at once, each recipient gets one",
    run: async (store) => {
      const names = ["anna", "ben", "cara"];
      const work = await startAudience(store, ...names);
      const queues = [work.queue, (await store.second()).queue];
      const pushes = numbered("push", 6).map((data, index) =>
        first(queues.slice(index % 2)).push(work.name, [toAll("news", { data }), toAll("more")], { maxItems: 10 }),
      );
      const pushed = (await Promise.all(pushes)).flat();
      equal(pushed.filter(({ duplicate }) => !duplicate).length, 2);
      equal(
        pushed.reduce((sum, { recipients }) => sum + recipients, 0),
        6,
      );
      deepEqual(await work.push(toAll("news")), [{ id: "news", duplicate: true, recipients: 0 }]);
      for (const name of names) {
        const feed = await work.open(name);
        await collect(store, feed, 2);
        await quiet(store, feed);
      }
    },
  },
  {
    title: "queue: what is for all expires for each who has not finished it",
    run: async (store) => {
      const work = await startAudience(store, "anna", "ben", "cara", "dora");
      await work.push(toAll("news", { ttlMs: TTL_MS }));
      const [anna, ben, cara] = [await work.open("anna"), await work.open("ben"), await work.open("cara")];
      await settled(anna, ack(await collectOne(store, anna)));
      const running = await collectOne(store, ben);
      await store.elapse(TTL_MS + 100);
      const found = await haul(store, cara, ({ expired }) => expired > 0);
      deepEqual([found.expired, found.deliveries.length], [1, 0]);
      const expired = async (name: string): Promise<number> => (await work.stats(name)).expired;
      deepEqual([await expired("anna"), await expired("cara"), await expired("dora")], [0, 1, 1]);
      await settled(ben, ack(running));
      equal(await expired("ben"), 0);
      equal(await work.queue.count(work.name, {}), 0);
    },
  },
  {
    title: "queue: what is for many expires for every one of them",
    run: async (store) => {
      const names = numbered("recipient", 300);
      const work = await startAudience(store, ...names);
      await work.push(toAll("brief", { ttlMs: TTL_MS }), toAll("lasting"));
      await store.elapse(TTL_MS + 100);
      equal(await work.queue.count(work.name, {}), 1);
      equal(await work.queue.get(work.name, "brief"), undefined);
      const stats = await Promise.all(names.map(async (name) => itemCountsOf(await work.stats(name))));
      deepEqual(
        stats,
        names.map(() => ({ waiting: 1, leased: 0, delayed: 0, dead: 0, expired: 1 })),
      );
    },
  },
  {
    title: "queue: what is for all is delayed, retried and taken over for each recipient alone",
    run: async (store) => {
      const work = await startAudience(store, "anna", "ben");
      await work.push(toAll("later", { delayMs: 400 }), toAll("now"));
      deepEqual((await work.stats("ben")).delayed, 1);
      const crashing = await work.open("anna", { leaseMs: SHORT_LEASE_MS });
      deepEqual(attemptsOf([await collectOne(store, crashing)]), ["now"]);
      const ben = await work.open("ben");
      await settled(ben, retry(await collectOne(store, ben), 60_000));
      await store.elapse(SHORT_LEASE_MS + 100);
      deepEqual(attemptsOf(await collect(store, await work.open("anna"), 2)), ["later", "now#2"]);
      deepEqual(attemptsOf(await collect(store, ben, 1)), ["later"]);
      deepEqual((await work.stats("ben")).delayed, 1);
    },
  },
  {
    title:
      "queue: what one recipient parked of what is for all is redriven for it alone, before and after the others finish",
    run: async (store) => {
      const work = await startAudience(store, "anna", "ben");
      await work.push(toAll("early"), toAll("late"));
      const [anna, ben] = [await work.open("anna"), await work.open("ben")];
      await settled(anna, ...(await collect(store, anna, 2)).map((delivery) => deadLetter(delivery)));
      const letters = work.queue.deadLetters(work.name, "anna");
      const [early, late] = (await allLetters(letters)).map(({ id }) => id);
      ok(early && late);
      equal(await letters.redrive([early]), 1);
      const again = await collectOne(store, anna);
      deepEqual(attemptsOf([again]), ["early"]);
      const bens = await collect(store, ben, 2);
      deepEqual(attemptsOf(bens), ["early", "late"]);
      await settled(ben, ...bens.map(ack));
      await settled(anna, ack(again));
      equal(await work.queue.count(work.name, {}), 0);
      equal(await letters.redrive([late]), 1);
      equal(await work.queue.count(work.name, {}), 1);
      await quiet(store, ben);
      await settled(anna, ack(await collectOne(store, anna)));
      equal(await work.queue.count(work.name, {}), 0);
    },
  },
];

const leaving: readonly ContractCase[] = [
  {
    title: "queue: a recipient that is unregistered leaves what is for all to the others, and the last one ends it",
    run: async (store) => {
      const work = await startAudience(store, "anna", "ben", "cara");
      const two = { maxItems: 2 };
      await work.pushWithin(two, toAll("news"), toAll("more"));
      await work.queue.unregister(work.name, "anna");
      equal(await work.queue.count(work.name, {}), 2);
      await work.queue.unregister(work.name, "ben");
      const cara = await work.open("cara");
      const [held] = await collect(store, cara, 1);
      ok(held);
      await rejectsWith("LIMIT", () => work.pushWithin(two, item("x")));
      await work.queue.unregister(work.name, "cara");
      equal(await work.queue.count(work.name, {}), 0);
      deepEqual(await settle(cara, ack(held)), [held.receipt]);
      await work.pushWithin(two, item("x"), item("y"));
    },
  },
  {
    title: "queue: a recipient that lapses leaves what is for all to the others, and its loss is reported",
    run: async (store) => {
      const work = await startAudience(store, "living");
      await work.register(["dying"], { ttlMs: SHORT_TTL_MS, isAudience: true });
      equal((await work.push(toAll("news")))[0]?.recipients, 2);
      await store.elapse(OUTLIVED_MS);
      equal((await work.push(toAll("more")))[0]?.recipients, 1);
      await expectLosses(store, "dying");
      const living = await work.open("living");
      await settled(living, ...(await collect(store, living, 2)).map(ack));
      equal(await work.queue.count(work.name, {}), 0);
      await quiet(store, await work.open("dying"));
    },
  },
];

export const audienceCases: readonly ContractCase[] = [...reaching, ...finishing, ...leaving];
