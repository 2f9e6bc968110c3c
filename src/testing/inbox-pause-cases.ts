/** Pausing a recipient: nothing is handed out of its inbox, in any process, while everything else goes on. */

import { deepEqual, equal, ok } from "node:assert/strict";
import type { ContractCase } from "./contract.js";
import {
  ack,
  attemptsOf,
  collect,
  collectOne,
  deadLetter,
  haul,
  item,
  itemCountsOf,
  LONG_WAIT_MS,
  numbered,
  quiet,
  retry,
  SHORT_LEASE_MS,
  settled,
  take,
} from "./fixtures.js";
import { startQueue } from "./test-queue.js";
import { aMoment, within } from "./waiting.js";

/** Longer than a feed that waits takes to look for itself. */
const A_LOOK_MS = 1_200;

export const inboxPauseCases: readonly ContractCase[] = [
  {
    title: "queue: of a paused recipient nothing is handed out, in any process, until it is resumed",
    run: async (store) => {
      const work = startQueue(store);
      const second = await store.second();
      const to = { recipient: "anna" };
      await work.push(item("a", to), item("b", to), item("c", to), item("of ben", { recipient: "ben" }));
      const feeds = [await work.open("anna"), await work.open("anna", { backend: second })] as const;
      const held = await collect(store, feeds[0], 1);
      await second.queue.pause(work.name, "anna");
      for (const feed of [...feeds, await work.open("anna")]) await quiet(store, feed, 300);
      await work.push(item("d", { ...to, priority: 9 }));
      for (const feed of feeds) await quiet(store, feed);
      deepEqual(itemCountsOf(await work.stats("anna")), { waiting: 3, leased: 1, delayed: 0, dead: 0, expired: 0 });
      deepEqual(attemptsOf(await collect(store, await work.open("ben"), 1)), ["of ben"]);
      await settled(feeds[0], ...held.map(ack));
      await work.queue.resume(work.name, "anna");
      deepEqual(attemptsOf(await collect(store, feeds[1], 3)), ["d", "b", "c"]);
    },
  },
  {
    title: "queue: a take that waits while its recipient is paused gets nothing, and everything once that is resumed",
    run: async (store) => {
      const work = startQueue(store);
      const second = await store.second();
      for (const feed of [await work.open("anna"), await work.open("anna", { backend: second })]) {
        let isOver = false;
        const taken = feed.take({ max: 10, waitMs: LONG_WAIT_MS }, []);
        taken.then(
          () => (isOver = true),
          () => (isOver = true),
        );
        await aMoment();
        await work.queue.pause(work.name, "anna");
        await work.push(item("a", { recipient: "anna" }), item("b", { recipient: "anna", delayMs: 200 }));
        await store.elapse(A_LOOK_MS);
        await aMoment();
        equal(isOver, false);
        await second.queue.resume(work.name, "anna");
        const { deliveries } = await within(store, taken);
        deepEqual(attemptsOf(deliveries), ["a", "b"]);
        await settled(feed, ...deliveries.map(ack));
        await feed.close();
      }
    },
  },
  {
    title: "queue: a recipient is paused and resumed many times while a consumer waits, and each item comes once",
    run: async (store) => {
      const work = startQueue(store);
      const feed = await work.open(undefined, { backend: await store.second() });
      const seen: string[] = [];
      for (const id of numbered("item ", 5)) {
        const taken = feed.take({ max: 10, waitMs: LONG_WAIT_MS }, []);
        taken.catch(() => {});
        await aMoment();
        await work.queue.pause(work.name, "");
        await work.push(item(id));
        await aMoment();
        await work.queue.resume(work.name, "");
        const { deliveries } = await within(store, taken);
        seen.push(...attemptsOf(deliveries));
        await settled(feed, ...deliveries.map(ack));
      }
      deepEqual(seen, numbered("item ", 5));
    },
  },
  {
    title: "queue: settling, extending and expiry go on while a recipient is paused",
    run: async (store) => {
      const work = startQueue(store);
      const ids = ["acked", "retried", "parked", "kept"];
      await work.push(...ids.map((id) => item(id)), item("expires", { ttlMs: 700 }), item("waits"));
      const feed = await work.open(undefined, { leaseMs: SHORT_LEASE_MS });
      const [acked, retried, parked, kept] = await collect(store, feed, 4);
      ok(acked && retried && parked && kept);
      await work.queue.pause(work.name, "");
      const outcomes = [ack(acked), retry(retried, 60_000), deadLetter(parked)];
      const { deliveries, lost } = await feed.take({ max: 5, waitMs: LONG_WAIT_MS }, outcomes);
      deepEqual([attemptsOf(deliveries), lost], [[], []]);
      deepEqual(await feed.extend([kept.receipt, acked.receipt]), [acked.receipt]);
      await store.elapse(800);
      const found = await haul(store, feed, ({ expired }) => expired > 0);
      deepEqual([found.expired, found.deliveries.length], [1, 0]);
      deepEqual(await feed.extend([kept.receipt]), []);
      deepEqual(itemCountsOf(await work.stats()), { waiting: 1, leased: 1, delayed: 1, dead: 1, expired: 1 });
      await settled(feed, ack(kept));
      deepEqual(await work.letters(), ["parked"]);
    },
  },
  {
    title: "queue: due retries and what consumers give back or abandon wait as well while a recipient is paused",
    run: async (store) => {
      const work = startQueue(store);
      const second = await store.second();
      await work.push(...["retried", "given back", "abandoned"].map((id) => item(id)));
      const feed = await work.open();
      const closing = await work.open();
      const dying = await work.open(undefined, { backend: second, leaseMs: SHORT_LEASE_MS });
      const retried = await collectOne(store, feed);
      await collectOne(store, closing);
      await collectOne(store, dying);
      await work.queue.pause(work.name, "");
      await settled(feed, retry(retried, 100));
      await closing.close();
      await quiet(store, feed, SHORT_LEASE_MS + 200);
      await work.queue.resume(work.name, "");
      deepEqual(attemptsOf(await collect(store, feed, 3)).toSorted(), ["abandoned#2", "given back", "retried#2"]);
    },
  },
  {
    title: "queue: pausing and resuming may be done twice, of whomever, and stats tell",
    run: async (store) => {
      const work = startQueue(store);
      const isPaused = async (): Promise<boolean> => (await work.stats("anna")).paused;
      const { queue, name } = work;
      await queue.resume(name, "anna");
      equal(await isPaused(), false);
      await queue.pause(name, "anna");
      await queue.pause(name, "anna");
      equal(await isPaused(), true);
      equal((await work.stats("ben")).paused, false);
      await work.push(item("a", { recipient: "anna" }));
      equal(await isPaused(), true);
      await queue.resume(name, "anna");
      await queue.resume(name, "anna");
      equal(await isPaused(), false);
      deepEqual(attemptsOf(await collect(store, await work.open("anna"), 1)), ["a"]);
    },
  },
  {
    title: "queue: a pause outlives the backend that made it, and concerns its recipient alone",
    run: async (store) => {
      const work = startQueue(store);
      const second = await store.second();
      await second.queue.pause(work.name, "anna");
      await second.close();
      await work.register(["anna", "ben"]);
      await work.push(item("news", { recipient: { audience: "registered" } }));
      await quiet(store, await work.open("anna"), 200);
      deepEqual(attemptsOf(await collect(store, await work.open("ben"), 1)), ["news"]);
      // What is for a paused recipient can be finished by its id.
      deepEqual(await work.queue.acknowledge(work.name, "anna", ["news"]), [true]);
      deepEqual((await take(await work.open("anna"))).deliveries, []);
    },
  },
];
