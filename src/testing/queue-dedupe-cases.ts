/** Ids that callers give to items: remembered for a while also when the item is finished. */

import { deepEqual, equal } from "node:assert/strict";
import type { NewItem, Pushed } from "../core/backend.js";
import type { ContractCase } from "./contract.js";
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
  LIMITS,
  numbered,
  quiet,
  rejectsWith,
  settled,
  textsOf,
} from "./fixtures.js";
import { startQueue } from "./test-queue.js";

/** An item whose id its giver chose. */
function once(id: string, more: Partial<NewItem> = {}): NewItem {
  return item(id, { dedupe: true, ...more });
}

function duplicatesIn(pushed: readonly Pushed[]): boolean[] {
  return pushed.map(({ duplicate }) => duplicate);
}

export const queueDedupeCases: readonly ContractCase[] = [
  {
    title: "queue: an id that its giver chose is remembered once its item is finished, any other is not",
    run: async (store) => {
      const work = startQueue(store);
      await work.push(once("chosen"), item("made"));
      const feed = await work.open();
      await settled(feed, ...(await collect(store, feed, 2)).map(ack));
      const second = (await store.second()).queue;
      deepEqual(await second.push(work.name, [once("chosen", { data: "again" })], LIMITS), [
        { id: "chosen", duplicate: true, recipients: 0 },
      ]);
      deepEqual(duplicatesIn(await work.push(item("chosen"), item("made"))), [true, false]);
      deepEqual(attemptsOf(await collect(store, feed, 1)), ["made"]);
      await quiet(store, feed);
    },
  },
  {
    title: "queue: what was just made an id for is stored beside what has to be looked for",
    run: async (store) => {
      const work = startQueue(store);
      const made = (id: string): NewItem => item(id, { isNew: true });
      await work.push(item("held"), once("chosen"));
      const pushed = await work.push(made("a"), item("held"), made("b"), once("other"), once("chosen"), once("other"));
      deepEqual(duplicatesIn(pushed), [false, true, false, false, true, true]);
      deepEqual(duplicatesIn(await work.push(made("c"), made("d"))), [false, false]);
      // What is sent again is all that was.
      deepEqual(duplicatesIn(await work.push(made("c"), made("d"))), [true, true]);
      const feed = await work.open();
      deepEqual(attemptsOf(await collect(store, feed, 7)), ["held", "chosen", "a", "b", "other", "c", "d"]);
      await quiet(store, feed);
    },
  },
  {
    title: "queue: what was just made an id for is found among those that callers gave again",
    run: async (store) => {
      const work = startQueue(store);
      const made = (id: string): NewItem => item(id, { isNew: true });
      await work.push(once("b"));
      const feed = await work.open();
      await settled(feed, ack(await collectOne(store, feed)));
      deepEqual(duplicatesIn(await work.push(made("a"), made("b"))), [false, true]);
      deepEqual(attemptsOf(await collect(store, feed, 1)), ["a"]);
      await quiet(store, feed);
    },
  },
  {
    title: "queue: items of one push keep their places, whatever their priorities, and whoever of them is a duplicate",
    run: async (store) => {
      const work = startQueue(store);
      const ttlMs = 60_000;
      const mixed = (prefix: string, more: Partial<NewItem>): NewItem[] => [
        item(`${prefix}1`, { ...more, priority: 5 }),
        item(`${prefix}2`, { ...more, ttlMs }),
        item(`${prefix}3`, { ...more, priority: -7 }),
        item(`${prefix}4`, { ...more, priority: 5, ttlMs }),
        item(`${prefix}5`, { ...more }),
        item(`${prefix}6`, { ...more, priority: 5 }),
      ];
      deepEqual(duplicatesIn(await work.push(item("a4", { priority: 9 }))), [false]);
      deepEqual(duplicatesIn(await work.push(...mixed("a", {}))), [false, false, false, true, false, false]);
      deepEqual(duplicatesIn(await work.push(...mixed("b", { isNew: true }))), Array(6).fill(false));
      const feed = await work.open();
      const order = ["a4", "a1", "a6", "b1", "b4", "b6", "a2", "a5", "b2", "b5", "a3", "b3"];
      deepEqual(attemptsOf(await collect(store, feed, order.length)), order);
      await quiet(store, feed);
    },
  },
  {
    title: "queue: an id is remembered whatever became of its item",
    run: async (store) => {
      const work = startQueue(store);
      await work.push(once("parked"), once("acknowledged"), once("expired", { ttlMs: 800 }), once("removed"));
      await work.queue.acknowledge(work.name, "", ["acknowledged"]);
      await work.queue.remove(work.name, ["removed"]);
      const feed = await work.open();
      await settled(feed, deadLetter(await collectOne(store, feed)));
      await store.elapse(900);
      await haul(store, feed, ({ expired }) => expired > 0);
      const ids = ["parked", "acknowledged", "expired", "removed"];
      deepEqual(duplicatesIn(await work.push(...ids.map((id) => once(id)))), [true, true, true, true]);
      await quiet(store, feed);
      // To be remembered is not to be held.
      const letters = work.queue.deadLetters(work.name, "");
      equal(await letters.redrive([first(await allLetters(letters)).id]), 1);
      deepEqual(attemptsOf(await collect(store, feed, 1)), ["parked"]);
    },
  },
  {
    title: "queue: within one push the same id is stored once, whoever it is for",
    run: async (store) => {
      const work = startQueue(store);
      await work.register(["anna"]);
      const pushed = await work.push(
        once("x", { data: "x1" }),
        once("y"),
        once("x", { data: "x2", recipient: "anna" }),
        item("x", { data: "x3" }),
        once("y", { recipient: { audience: "registered" } }),
      );
      deepEqual(
        pushed.map(({ duplicate, recipients }) => [duplicate, recipients]),
        [
          [false, 1],
          [false, 1],
          [true, 0],
          [true, 0],
          [true, 0],
        ],
      );
      deepEqual(textsOf(await collect(store, await work.open(), 2)), ["x1", "y"]);
      await quiet(store, await work.open("anna"));
    },
  },
  {
    title: "queue: remembered ids belong to their queue and namespace",
    run: async (store) => {
      const [work, other] = [startQueue(store), startQueue(store)];
      const elsewhere = (await store.second({ namespace: "other" })).queue;
      await work.push(once("id"));
      await work.queue.acknowledge(work.name, "", ["id"]);
      deepEqual(duplicatesIn(await other.push(once("id"))), [false]);
      deepEqual(duplicatesIn(await elsewhere.push(work.name, [once("id")], LIMITS)), [false]);
      deepEqual(duplicatesIn(await work.push(once("id"))), [true]);
    },
  },
  {
    title: "queue: a refused push remembers none of its ids",
    run: async (store) => {
      const work = startQueue(store);
      const two = { maxItems: 2 };
      await work.pushWithin(two, item("a"), item("b"));
      await rejectsWith("LIMIT", () => work.pushWithin(two, once("id")));
      await work.queue.acknowledge(work.name, "", ["a", "b"]);
      deepEqual(duplicatesIn(await work.pushWithin(two, once("id"))), [false]);
      // What is remembered takes no room.
      await work.queue.acknowledge(work.name, "", ["id"]);
      await work.pushWithin(two, item("a"), item("b"));
      deepEqual(duplicatesIn(await work.pushWithin(two, once("id"), once("id"))), [true, true]);
    },
  },
  {
    title: "queue: of pushes of one id at the same time, from several backends, one is stored",
    run: async (store) => {
      const work = startQueue(store);
      const queues = [work.queue, (await store.second()).queue];
      const ids = numbered("id ", 5);
      for (const id of ids) {
        const pushes = numbered("text ", 8).map((data, index) =>
          first(queues.slice(index % 2)).push(work.name, [once(id, { data })], LIMITS),
        );
        const pushed = (await Promise.all(pushes)).flat();
        equal(pushed.filter(({ duplicate }) => !duplicate).length, 1, id);
        await work.queue.acknowledge(work.name, "", [id]);
        deepEqual(duplicatesIn(await first(queues).push(work.name, [once(id)], LIMITS)), [true]);
      }
      equal(await work.queue.count(work.name, {}), 0);
    },
  },
  {
    title: "queue: thousands of chosen ids in one push are all remembered",
    run: async (store) => {
      const work = startQueue(store);
      const ids = numbered("id ", 2_500);
      equal(duplicatesIn(await work.push(...ids.map((id) => once(id)))).includes(true), false);
      equal((await work.queue.acknowledge(work.name, "", ids)).includes(false), false);
      equal(duplicatesIn(await work.push(...ids.map((id) => item(id)))).includes(false), false);
      equal(await work.queue.count(work.name, {}), 0);
    },
  },
];
