/** What a queue tells of a recipient, exact in every mixture; and what stays with an item whatever comes to it. */

import { deepEqual, equal, ok } from "node:assert/strict";
import type { QueueStats } from "../core/backend.js";
import type { ContractCase } from "./contract.js";
import {
  ack,
  allLetters,
  attemptsOf,
  collect,
  collectOne,
  deadLetter,
  defer,
  first,
  haul,
  item,
  numbered,
  quiet,
  retry,
  SHORT_LEASE_MS,
  settled,
  textsOf,
} from "./fixtures.js";
import { startQueue } from "./test-queue.js";

const NOTHING = { waiting: 0, leased: 0, delayed: 0, dead: 0, expired: 0, dropped: 0, paused: false };

const counting: readonly ContractCase[] = [
  {
    title: "queue: stats are exact whatever items come to, and all backends agree",
    run: async (store) => {
      const work = startQueue(store);
      const second = (await store.second()).queue;
      const expectStats = async (expected: Partial<QueueStats>): Promise<void> => {
        for (const queue of [work.queue, second]) {
          const { oldestWaitingAt: _time, ...stats } = await queue.stats(work.name, "anna");
          deepEqual(stats, { ...NOTHING, ...expected });
        }
      };
      const to = { recipient: "anna" };
      await expectStats({});
      await work.push(...numbered("item ", 9).map((id) => item(id, to)), item("delayed", { ...to, delayMs: 60_000 }));
      await work.push(item("dying", { ...to, ttlMs: 2_000 }), item("another's", { recipient: "ben" }));
      await expectStats({ waiting: 10, delayed: 1 });
      const feed = await work.open("anna");
      const [one, two, three, four] = await collect(store, feed, 6);
      ok(one && two && three && four);
      await expectStats({ waiting: 4, leased: 6, delayed: 1 });
      await settled(feed, ack(one), retry(two, 60_000), deadLetter(three), defer(four));
      await expectStats({ waiting: 5, leased: 2, delayed: 2, dead: 1 });
      await work.queue.acknowledge(work.name, "anna", ["item 5", "item 9", "delayed"]);
      await expectStats({ waiting: 4, leased: 1, delayed: 1, dead: 1 });
      await store.elapse(2_100);
      await expectStats({ waiting: 3, leased: 1, delayed: 1, dead: 1, expired: 1 });
      await work.queue.pause(work.name, "anna");
      await expectStats({ waiting: 3, leased: 1, delayed: 1, dead: 1, expired: 1, paused: true });
      await work.queue.resume(work.name, "anna");
      const open = await work.queue.count(work.name, {});
      await work.pushWithin({ maxItems: open, overflow: "drop-oldest" }, item("new", to));
      // What waited for its retry was the oldest of all.
      await expectStats({ waiting: 4, leased: 1, dead: 1, expired: 1, dropped: 1 });
      await work.queue.remove(work.name, ["item 6", "item 8"]);
      const letters = work.queue.deadLetters(work.name, "anna");
      await letters.redrive([first(await allLetters(letters)).id]);
      await expectStats({ waiting: 4, expired: 1, dropped: 1 });
      await feed.close();
      await expectStats({ waiting: 4, expired: 1, dropped: 1 });
    },
  },
  {
    title: "queue: stats tell when the oldest that is ready was pushed, and nothing where none is",
    run: async (store) => {
      const work = startQueue(store);
      const oldest = async (): Promise<number | undefined> => (await work.stats()).oldestWaitingAt;
      equal(await oldest(), undefined);
      await work.push(item("delayed", { delayMs: 700 }));
      equal(await oldest(), undefined);
      const { at = 0 } = (await work.queue.get(work.name, "delayed")) ?? {};
      await store.elapse(100);
      const before = await store.now();
      await work.push(item("low", { priority: -1 }));
      const after = await store.now();
      await store.elapse(100);
      await work.push(item("high", { priority: 9 }));
      const found = (await oldest()) ?? 0;
      ok(found >= before && found <= after, "whatever its priority");
      await store.elapse(700);
      equal(await oldest(), at, "it has come due");
      const feed = await work.open();
      const deliveries = await collect(store, feed, 3);
      equal(await oldest(), undefined);
      const low = deliveries.find(({ position }) => position === "low");
      ok(low);
      await settled(feed, retry(low));
      equal(await oldest(), found, "a retry keeps its age");
      await work.queue.acknowledge(work.name, "", ["low"]);
      equal(await oldest(), undefined);
    },
  },
];

const keeping: readonly ContractCase[] = [
  {
    title:
      "queue: an item keeps its priority through retries, takeovers, giving back and redriving, one after the other",
    run: async (store) => {
      const work = startQueue(store);
      await work.push(item("travels", { priority: 5 }));
      const others = async (round: number): Promise<void> =>
        void (await work.push(item(`high ${round}`, { priority: 6 }), item(`low ${round}`, { priority: 4 })));
      const expectPlace = async (round: number, attempt: string): Promise<void> => {
        const feed = await work.open();
        const deliveries = await collect(store, feed, 3);
        deepEqual(attemptsOf(deliveries), [`high ${round}`, attempt, `low ${round}`]);
        await work.queue.acknowledge(work.name, "", [`high ${round}`, `low ${round}`]);
        await feed.close();
      };
      const feed = await work.open();
      await settled(feed, retry(await collectOne(store, feed), 100));
      await store.elapse(200);
      await others(1);
      await expectPlace(1, "travels#2");
      await collectOne(store, await work.open(undefined, { leaseMs: SHORT_LEASE_MS }));
      await others(2);
      await store.elapse(SHORT_LEASE_MS + 100);
      await expectPlace(2, "travels#3");
      await settled(feed, deadLetter(await collectOne(store, feed)));
      const letters = work.queue.deadLetters(work.name, "");
      equal(await letters.redrive([first(await allLetters(letters)).id]), 1);
      await others(3);
      await expectPlace(3, "travels");
    },
  },
  {
    title: "queue: of feeds with the same consumer's name each has its own deliveries, and none is lost",
    run: async (store) => {
      const work = startQueue(store);
      const backends = [store.backend, store.backend, await store.second()];
      await work.push(...numbered("item ", 11).map((id) => item(id)));
      const feeds = await Promise.all(backends.map((backend) => work.open(undefined, { consumer: "twin", backend })));
      const [one, near, far] = feeds;
      ok(one && near && far);
      const held = [await collect(store, one, 3), await collect(store, near, 3), await collect(store, far, 3)] as const;
      equal(new Set(textsOf(held.flat())).size, 9, "none is delivered twice");
      for (const [index, feed] of feeds.entries()) {
        const deliveries = first(held.slice(index));
        deepEqual(await feed.extend(deliveries.map(({ receipt }) => receipt)), []);
        await settled(feed, ack(first(deliveries)));
      }
      await one.close();
      // What the others hold is still their own.
      await settled(near, ...held[1].slice(1).map(ack));
      await settled(far, ...held[2].slice(1).map(ack));
      const rest = await haul(store, far, ({ deliveries }) => deliveries.length >= 4);
      deepEqual(
        attemptsOf(rest.deliveries).toSorted(),
        [...textsOf(held[0].slice(1)), "item 10", "item 11"].toSorted(),
      );
      await settled(far, ...rest.deliveries.map(ack));
      await quiet(store, near);
      equal(await work.queue.count(work.name, {}), 0);
    },
  },
];

export const queueStatsCases: readonly ContractCase[] = [...counting, ...keeping];
