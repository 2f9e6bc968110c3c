/** A full queue that makes room: the least urgent goes, the oldest first, and whoever had it is told. */

import { deepEqual, equal, ok } from "node:assert/strict";
import type { QueueLimits } from "../core/backend.js";
import type { ContractCase } from "./contract.js";
import {
  ack,
  attemptsOf,
  collect,
  collectOne,
  haul,
  item,
  itemCountsOf,
  numbered,
  rejectsWith,
  retry,
  settled,
  textsOf,
} from "./fixtures.js";
import { startQueue } from "./test-queue.js";

function dropping(maxItems: number): QueueLimits {
  return { maxItems, overflow: "drop-oldest" };
}

const TO_ALL = { recipient: { audience: "registered" } } as const;

export const queueLimitCases: readonly ContractCase[] = [
  {
    title: "queue: a full queue that drops the oldest drops the least urgent first, and counts it as gone",
    run: async (store) => {
      const work = startQueue(store);
      const four = dropping(4);
      await work.pushWithin(four, item("a", { priority: 1 }), item("b"), item("c", { priority: 2 }), item("d"));
      await work.pushWithin(four, item("e", { priority: -1 }));
      // The least urgent is the one that has just come.
      await work.pushWithin(four, item("f", { priority: 1 }), item("g"));
      const { dropped } = await work.stats();
      equal(dropped, 3);
      const second = await work.open(undefined, { backend: await store.second() });
      const found = await haul(store, second, ({ gone, deliveries }) => gone > 2 && deliveries.length > 3);
      deepEqual([attemptsOf(found.deliveries), found.gone, found.expired], [["c", "a", "f", "g"], 3, 0]);
      const again = await haul(store, await work.open(), () => true);
      equal(again.gone, 0, "what is gone is told once");
      equal((await work.stats()).dropped, 3);
    },
  },
  {
    title: "queue: what is delayed or waits for its retry is dropped like what is ready, what is held is not",
    run: async (store) => {
      const work = startQueue(store);
      const four = dropping(4);
      await work.pushWithin(four, item("held"), item("retried"), item("delayed", { delayMs: 60_000 }), item("ready"));
      const feed = await work.open();
      const [held, retried] = await collect(store, feed, 2);
      ok(held && retried);
      await settled(feed, retry(retried, 60_000));
      await work.pushWithin(four, item("new 1"));
      deepEqual(itemCountsOf(await work.stats()), { waiting: 2, leased: 1, delayed: 1, dead: 0, expired: 0 });
      await work.pushWithin(four, item("new 2"), item("new 3"));
      deepEqual(attemptsOf(await collect(store, feed, 3)), ["new 1", "new 2", "new 3"]);
      await settled(feed, ack(held));
      deepEqual(itemCountsOf(await work.stats()), { waiting: 0, leased: 3, delayed: 0, dead: 0, expired: 0 });
    },
  },
  {
    title: "queue: only what is for the recipients of a push makes room for it",
    run: async (store) => {
      const work = startQueue(store);
      const three = dropping(3);
      const [anna, ben] = [{ recipient: "anna" }, { recipient: "ben" }];
      await work.pushWithin(three, item("a1", anna), item("b1", ben), item("b2", { ...ben, priority: 5 }));
      await work.pushWithin(three, item("b3", { ...ben, priority: 9 }));
      deepEqual(textsOf(await collect(store, await work.open("ben"), 2)), ["b3", "b2"]);
      // What is his is held now, and what is hers is not dropped for him.
      await rejectsWith("LIMIT", () => work.pushWithin(three, item("b4", ben)));
      await rejectsWith("LIMIT", () => work.pushWithin(three, item("for nobody", { recipient: "cara" })));
      await work.pushWithin(three, item("a2", anna));
      deepEqual(textsOf(await collect(store, await work.open("anna"), 1)), ["a2"]);
      deepEqual([(await work.stats("anna")).dropped, (await work.stats("ben")).dropped], [1, 1]);
    },
  },
  {
    title: "queue: where too little can be dropped a push is refused, and nothing is dropped",
    run: async (store) => {
      const work = startQueue(store);
      const three = dropping(3);
      await work.pushWithin(three, ...["a", "b", "c"].map((id) => item(id)));
      const feed = await work.open();
      const held = await collectOne(store, feed);
      await rejectsWith("LIMIT", () => work.pushWithin(three, ...numbered("new ", 3).map((id) => item(id))));
      await rejectsWith("LIMIT", () => work.pushWithin(three, ...numbered("new ", 4).map((id) => item(id))));
      equal((await work.stats()).dropped, 0);
      deepEqual(attemptsOf(await collect(store, feed, 2)), ["b", "c"]);
      await settled(feed, ack(held));
      equal(await work.queue.count(work.name, {}), 2);
    },
  },
  {
    title: "queue: duplicates drop nothing, and what has expired makes room before anything is dropped",
    run: async (store) => {
      const work = startQueue(store);
      const three = dropping(3);
      await work.pushWithin(three, item("a"), item("b", { ttlMs: 600, priority: 9 }), item("c"));
      deepEqual(
        (await work.pushWithin(three, item("a"), item("c"))).map(({ duplicate }) => duplicate),
        [true, true],
      );
      await store.elapse(800);
      await work.pushWithin(three, item("d"));
      const { dropped, expired } = await work.stats();
      deepEqual({ dropped, expired }, { dropped: 0, expired: 1 });
      deepEqual(attemptsOf(await collect(store, await work.open(), 3)), ["a", "c", "d"]);
    },
  },
  {
    title: "queue: what is dropped leaves no record, and its id is free",
    run: async (store) => {
      const work = startQueue(store);
      await work.configure({ keepAckedMs: 60_000, maxRecords: 10, index: [] });
      await work.pushWithin(dropping(1), item("a"));
      await work.pushWithin(dropping(1), item("b"));
      equal(await work.queue.get(work.name, "a"), undefined);
      deepEqual(await work.pushWithin(dropping(1), item("a")), [{ id: "a", duplicate: false, recipients: 1 }]);
      deepEqual([await work.queue.get(work.name, "b"), await work.queue.count(work.name, {})], [undefined, 1]);
    },
  },
  {
    title: "queue: what is for all makes room as one, once only those who get something have it to finish",
    run: async (store) => {
      const work = startQueue(store);
      await work.register(["anna", "ben"]);
      const two = dropping(2);
      await work.pushWithin(two, item("old", TO_ALL), item("young", TO_ALL));
      await rejectsWith("LIMIT", () => work.pushWithin(two, item("for her alone", { recipient: "anna" })));
      await work.pushWithin(two, item("new", TO_ALL));
      for (const name of ["anna", "ben"]) {
        const { waiting, dropped } = await work.stats(name);
        deepEqual({ waiting, dropped }, { waiting: 2, dropped: 1 }, name);
      }
      await work.queue.acknowledge(work.name, "ben", ["young"]);
      await work.pushWithin(two, item("for her alone", { recipient: "anna" }));
      deepEqual(attemptsOf(await collect(store, await work.open("anna"), 2)), ["new", "for her alone"]);
      deepEqual(attemptsOf(await collect(store, await work.open("ben"), 1)), ["new"]);
      // What one of them holds is dropped for nobody.
      await rejectsWith("LIMIT", () => work.pushWithin(two, item("newer", TO_ALL)));
    },
  },
  {
    title: "queue: what must not be dropped hides nothing that may, however much of it there is",
    run: async (store) => {
      const work = startQueue(store);
      await work.register(["anna", "ben"]);
      await work.push(...numbered("shared ", 300).map((id) => item(id, TO_ALL)));
      const anna = { recipient: "anna" };
      await work.push(item("a1", { ...anna, priority: 5 }), item("a2", { ...anna, priority: 1 }));
      const limits = dropping(302);
      await work.pushWithin(limits, item("a3", { ...anna, priority: 9 }));
      await rejectsWith("LIMIT", () =>
        work.pushWithin(limits, ...numbered("too many ", 3).map((id) => item(id, anna))),
      );
      await work.pushWithin(limits, item("a4", { ...anna, priority: 7 }));
      deepEqual(textsOf(await collect(store, await work.open("anna"), 3)), ["a3", "a4", "shared 1"]);
      deepEqual([(await work.stats("anna")).dropped, (await work.stats("ben")).dropped], [2, 0]);
    },
  },
  {
    title: "queue: a full queue drops as many as come, however many that are",
    run: async (store) => {
      const work = startQueue(store);
      const limits = dropping(1_500);
      await work.pushWithin(limits, ...numbered("old ", 1_500).map((id) => item(id)));
      await work.pushWithin(limits, ...numbered("new ", 1_200).map((id) => item(id)));
      equal(await work.queue.count(work.name, {}), 1_500);
      equal((await work.stats()).dropped, 1_200);
      const feed = await work.open();
      const found = await haul(store, feed, ({ gone }) => gone >= 1_200, { max: 1 });
      deepEqual([found.gone, attemptsOf(found.deliveries)], [1_200, ["old 1201"]]);
    },
  },
  {
    title: "queue: a queue that blocks refuses what is too much, like one that rejects",
    run: async (store) => {
      const work = startQueue(store);
      for (const overflow of ["reject", "block"] as const) {
        await work.pushWithin({ maxItems: 1, overflow }, item("a"));
        await rejectsWith("LIMIT", () => work.pushWithin({ maxItems: 1, overflow }, item("b")), overflow);
        equal((await work.stats()).dropped, 0);
        await work.queue.clear(work.name);
      }
    },
  },
];
