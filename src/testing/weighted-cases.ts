/** Priorities of a queue where the most urgent must not have everything: one delivery in five goes round. */

import { deepEqual, equal, ok } from "node:assert/strict";
import type { Delivery, Feed } from "../core/backend.js";
import type { ContractCase, ContractStore } from "./contract.js";
import { ack, collect, collectOne, item, numbered, settled, textsOf } from "./fixtures.js";
import { startQueue, type TestQueue } from "./test-queue.js";

/** A queue that has `count` items at each of these priorities; their texts tell both: `5:1`, `5:2` … */
async function fill(store: ContractStore, priorities: readonly number[], count: number): Promise<TestQueue> {
  const work = startQueue(store);
  for (const priority of priorities) {
    await work.push(...numbered(`${priority}:`, count).map((id) => item(id, { priority })));
  }
  return work;
}

/** How many deliveries there are of each priority. */
function perPriority(deliveries: readonly Delivery[]): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const text of textsOf(deliveries)) {
    const priority = text.split(":")[0] ?? "";
    counts[priority] = (counts[priority] ?? 0) + 1;
  }
  return counts;
}

/** Takes `count`, and acknowledges them, one after the other. */
async function handleOneByOne(store: ContractStore, feed: Feed, count: number): Promise<readonly Delivery[]> {
  const deliveries: Delivery[] = [];
  for (let index = 0; index < count; index += 1) {
    const delivery = await collectOne(store, feed);
    deliveries.push(delivery);
    await settled(feed, ack(delivery));
  }
  return deliveries;
}

function expectEachInOrder(deliveries: readonly Delivery[], priorities: readonly number[]): void {
  const texts = textsOf(deliveries);
  for (const priority of priorities) {
    const own = texts.filter((text) => text.startsWith(`${priority}:`));
    deepEqual(own, numbered(`${priority}:`, own.length), "the oldest of a priority comes first");
  }
}

const PRIORITIES = [9, 5, -1];

export const weightedCases: readonly ContractCase[] = [
  {
    title: "queue: a strict consumer leaves what is less urgent until nothing else waits",
    run: async (store) => {
      const work = await fill(store, PRIORITIES, 20);
      deepEqual(perPriority(await collect(store, await work.open(), 30)), { 9: 20, 5: 10 });
      const explicit = await work.open(undefined, { priorities: "strict" });
      deepEqual(perPriority(await collect(store, explicit, 9)), { 5: 9 });
      deepEqual(perPriority(await collect(store, explicit, 21)), { 5: 1, "-1": 20 });
    },
  },
  {
    title: "queue: of a weighted consumer's deliveries one in five goes round the priorities, in batches",
    run: async (store) => {
      const work = await fill(store, PRIORITIES, 100);
      const feed = await work.open(undefined, { priorities: "weighted" });
      const deliveries = [...(await collect(store, feed, 40)), ...(await collect(store, feed, 35))];
      // Fifteen of them go round, five to each priority.
      deepEqual(perPriority(deliveries), { 9: 65, 5: 5, "-1": 5 });
      expectEachInOrder(deliveries, PRIORITIES);
    },
  },
  {
    title: "queue: of a weighted consumer's deliveries one in five goes round the priorities, one by one",
    run: async (store) => {
      const work = await fill(store, PRIORITIES, 40);
      const feed = await work.open(undefined, { priorities: "weighted" });
      const deliveries = await handleOneByOne(store, feed, 30);
      deepEqual(perPriority(deliveries), { 9: 26, 5: 2, "-1": 2 });
      expectEachInOrder(deliveries, PRIORITIES);
    },
  },
  {
    title: "queue: under a weighted consumer no priority waits for ever, whatever more urgent work comes",
    run: async (store) => {
      const work = await fill(store, [1, 2, 3], 3);
      const feed = await work.open(undefined, { priorities: "weighted" });
      let urgent = 0;
      const seen = new Set<string>();
      const low = ["1:1", "1:2", "1:3"];
      for (let step = 0; step < 80 && !low.every((text) => seen.has(text)); step += 1) {
        await work.push(item(`9:${(urgent += 1)}`, { priority: 9 }), item(`9:${(urgent += 1)}`, { priority: 9 }));
        for (const text of textsOf(await handleOneByOne(store, feed, 1))) seen.add(text);
      }
      ok(
        low.every((text) => seen.has(text)),
        [...seen].join(),
      );
    },
  },
  {
    title: "queue: each of many priorities has its turn under a weighted consumer",
    run: async (store) => {
      const priorities = [50, 40, 30, 20, 10];
      const work = await fill(store, priorities, 60);
      const feed = await work.open(undefined, { priorities: "weighted" });
      for (let round = 1; round <= 2; round += 1) {
        deepEqual(
          perPriority(await collect(store, feed, 25)),
          { 50: 21, 40: 1, 30: 1, 20: 1, 10: 1 },
          `round ${round}`,
        );
      }
    },
  },
  {
    title: "queue: with one priority a weighted consumer gets the oldest first, and everything",
    run: async (store) => {
      const work = await fill(store, [0], 23);
      const feed = await work.open(undefined, { priorities: "weighted" });
      deepEqual(textsOf(await collect(store, feed, 23)), numbered("0:", 23));
    },
  },
  {
    title: "queue: a strict consumer beside a weighted one is given the most urgent all the same",
    run: async (store) => {
      const work = await fill(store, PRIORITIES, 60);
      const weighted = await work.open(undefined, { priorities: "weighted" });
      const strict = await work.open();
      const both: Delivery[] = [];
      for (let turn = 0; turn < 15; turn += 1) {
        const deliveries = await collect(store, strict, 1);
        deepEqual(perPriority(deliveries), { 9: 1 });
        both.push(...deliveries, ...(await collect(store, weighted, 1)));
      }
      // Three of the weighted one's fifteen went round, to each priority one.
      deepEqual(perPriority(both), { 9: 28, 5: 1, "-1": 1 });
      equal(new Set(textsOf(both)).size, 30);
    },
  },
];
