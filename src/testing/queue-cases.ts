/** The queue: order by priority and age, ids, limits, recipients. */

import { deepEqual, equal, ok } from "node:assert/strict";
import type { Feed, NewItem, Queue, QueueConsumer } from "../core/backend.js";
import { SHARED_RECIPIENT } from "../core/backend.js";
import type { ContractCase, ContractStore } from "./contract.js";
import {
  ack,
  allLetters,
  attemptsOf,
  collect,
  collectOne,
  deadLetter,
  first,
  item,
  itemCountsOf,
  LIMITS,
  LONG_LEASE_MS,
  quiet,
  rejectsWith,
  retry,
  SHORT_LEASE_MS,
  settled,
  take,
  textsOf,
} from "./fixtures.js";

/** Opens a consumer of its own name. */
function openQueue(
  store: ContractStore,
  queue: string,
  recipient: string = SHARED_RECIPIENT,
  more: Partial<QueueConsumer> = {},
): Promise<Feed> {
  const consumer = { consumer: store.name(), leaseMs: LONG_LEASE_MS, maxAttempts: 5, maxDeadLetters: 100, ...more };
  return store.backend.queue.open(queue, recipient, consumer);
}

function push(queue: Queue, name: string, ...items: readonly NewItem[]): Promise<unknown> {
  return queue.push(name, items, LIMITS);
}

/** `["low:1", "high:9"]` pushed in that order: a text and its priority each. */
function prioritised(...specs: readonly string[]): NewItem[] {
  return specs.map((spec) => item(spec.split(":")[0] ?? spec, { priority: Number(spec.split(":")[1]) }));
}

const ordering: readonly ContractCase[] = [
  {
    title: "queue: the highest priority comes first, and the oldest first within a priority",
    run: async (store) => {
      const queue = store.name();
      await push(store.backend.queue, queue, ...prioritised("a:0", "b:5", "c:-3", "d:5", "e:0"));
      await push((await store.second()).queue, queue, ...prioritised("f:5", "g:10", "h:-3"));
      await push(store.backend.queue, queue, ...prioritised("i:0"));
      const feed = await openQueue(store, queue);
      const taken = [...(await collect(store, feed, 3)), ...(await collect(store, feed, 6))];
      equal(textsOf(taken).join(""), "gbdfaeich");
    },
  },
  {
    title: "queue: many items of one priority keep their order, whatever their ids",
    run: async (store) => {
      const { queue } = store.backend;
      const name = store.name();
      const ids = Array.from({ length: 60 }, (_, index) => `${(index * 7_919) % 100}-${index}`);
      await push(queue, name, ...ids.slice(0, 40).map((id) => item(id)));
      for (const id of ids.slice(40)) await push(queue, name, item(id));
      const feed = await openQueue(store, name);
      deepEqual(textsOf(await collect(store, feed, 60)), ids);
    },
  },
  {
    title: "queue: every safe integer is a priority, and neighbours are told apart",
    run: async (store) => {
      const queue = store.name();
      const { MAX_SAFE_INTEGER: most, MIN_SAFE_INTEGER: least } = Number;
      const priorities = [0, least, most - 1, 1, most, -1, least + 1, most - 1];
      const items = priorities.map((priority, index) => item(`${index}`, { priority }));
      await push(store.backend.queue, queue, ...items);
      const feed = await openQueue(store, queue);
      equal(textsOf(await collect(store, feed, items.length)).join(""), "42730561");
    },
  },
  {
    title: "queue: what arrives later and is more urgent is taken before what waits",
    run: async (store) => {
      const queue = store.name();
      await push(store.backend.queue, queue, ...prioritised("a:1", "b:1", "c:1"));
      const feed = await openQueue(store, queue);
      deepEqual(textsOf(await collect(store, feed, 1)), ["a"]);
      await push(store.backend.queue, queue, ...prioritised("urgent:2"));
      deepEqual(textsOf(await collect(store, feed, 3)), ["urgent", "b", "c"]);
    },
  },
  {
    title: "queue: a retry keeps the item's priority and age",
    run: async (store) => {
      const { queue } = store.backend;
      const name = store.name();
      await push(queue, name, ...prioritised("low:1", "old:5", "young:5"));
      const feed = await openQueue(store, name);
      const old = await collectOne(store, feed);
      deepEqual(textsOf([old]), ["old"]);
      await push(queue, name, ...prioritised("younger:5", "urgent:6"));
      await settled(feed, retry(old));
      deepEqual(attemptsOf(await collect(store, feed, 5)), ["urgent", "old#2", "young", "younger", "low"]);
    },
  },
  {
    title: "queue: a delayed retry keeps the item's priority and age too",
    run: async (store) => {
      const queue = store.name();
      await push(store.backend.queue, queue, ...prioritised("low:1", "old:5", "young:5"));
      const feed = await openQueue(store, queue);
      await settled(feed, retry(await collectOne(store, feed), 300));
      await store.elapse(400);
      deepEqual(attemptsOf(await collect(store, feed, 3)), ["old#2", "young", "low"]);
    },
  },
  {
    title: "queue: an abandoned item keeps its priority and age",
    run: async (store) => {
      const queue = store.name();
      await push(store.backend.queue, queue, ...prioritised("low:1", "old:5", "young:5"));
      const crashed = await openQueue(store, queue, SHARED_RECIPIENT, { leaseMs: SHORT_LEASE_MS });
      deepEqual(textsOf(await collect(store, crashed, 1)), ["old"]);
      await store.elapse(SHORT_LEASE_MS + 100);
      const feed = await openQueue(store, queue);
      deepEqual(attemptsOf(await collect(store, feed, 3)), ["old#2", "young", "low"]);
    },
  },
  {
    title: "queue: an item that is given back keeps its priority and age",
    run: async (store) => {
      const queue = store.name();
      await push(store.backend.queue, queue, ...prioritised("low:1", "old:5", "young:5"));
      const closing = await openQueue(store, queue);
      await collect(store, closing, 2);
      await closing.close();
      const feed = await openQueue(store, queue);
      deepEqual(attemptsOf(await collect(store, feed, 3)), ["old", "young", "low"]);
    },
  },
];

const identity: readonly ContractCase[] = [
  {
    title: "queue: an item's id is its position, and each push tells what it stored",
    run: async (store) => {
      const { queue } = store.backend;
      const name = store.name();
      const pushed = await queue.push(name, [item("a"), item("b")], LIMITS);
      deepEqual(pushed, [
        { id: "a", duplicate: false, recipients: 1 },
        { id: "b", duplicate: false, recipients: 1 },
      ]);
      const taken = await collect(store, await openQueue(store, name), 2);
      deepEqual(
        taken.map(({ position }) => position),
        ["a", "b"],
      );
      deepEqual(await queue.push(name, [], LIMITS), []);
    },
  },
  {
    title: "queue: an id that the queue holds is not stored again, neither within a push nor across",
    run: async (store) => {
      const { queue } = store.backend;
      const name = store.name();
      const other = (await store.second()).queue;
      const once = await queue.push(name, [item("a"), item("b"), item("a", { data: "again" })], LIMITS);
      deepEqual(
        once.map(({ duplicate }) => duplicate),
        [false, false, true],
      );
      const twice = await other.push(name, [item("c"), item("b", { data: "again", priority: 9 })], LIMITS);
      deepEqual(
        twice.map(({ duplicate }) => duplicate),
        [false, true],
      );
      const elsewhere = await queue.push(name, [item("a", { recipient: "somebody" })], LIMITS);
      deepEqual(elsewhere, [{ id: "a", duplicate: true, recipients: 0 }]);
      deepEqual(textsOf(await collect(store, await openQueue(store, name), 3)), ["a", "b", "c"]);
      await quiet(store, await openQueue(store, name, "somebody"));
    },
  },
  {
    title: "queue: the queue holds an id while its item is leased, delayed or waits for its retry",
    run: async (store) => {
      const { queue } = store.backend;
      const name = store.name();
      await push(queue, name, item("retried"), item("leased"), item("delayed", { delayMs: 60_000 }));
      const feed = await openQueue(store, name);
      const [retried, leased] = await collect(store, feed, 2);
      ok(retried && leased);
      await settled(feed, retry(retried, 60_000));
      const again = await queue.push(name, [item("retried"), item("leased"), item("delayed")], LIMITS);
      deepEqual(
        again.map(({ duplicate }) => duplicate),
        [true, true, true],
      );
      await quiet(store, feed);
      await settled(feed, ack(leased));
      deepEqual(await queue.push(name, [item("leased")], LIMITS), [{ id: "leased", duplicate: false, recipients: 1 }]);
      deepEqual(attemptsOf(await collect(store, feed, 1)), ["leased"]);
    },
  },
  {
    title: "queue: an id is free in every other queue",
    run: async (store) => {
      const { queue } = store.backend;
      const names = [store.name(), store.name()];
      for (const name of names)
        deepEqual(await queue.push(name, [item("a")], LIMITS), [{ id: "a", duplicate: false, recipients: 1 }]);
      for (const name of names) deepEqual(textsOf(await collect(store, await openQueue(store, name), 1)), ["a"]);
    },
  },
  {
    title: "queue: pushes at the same time store each id once",
    run: async (store) => {
      const [one, other] = [store.backend.queue, (await store.second()).queue];
      const name = store.name();
      const ids = ["a", "b", "c", "d", "e", "f"];
      const pushes = [one, other, one, other].map((queue) =>
        queue.push(
          name,
          ids.map((id) => item(id)),
          LIMITS,
        ),
      );
      const pushed = (await Promise.all(pushes)).flat();
      equal(pushed.filter(({ duplicate }) => !duplicate).length, ids.length);
      deepEqual(textsOf(await collect(store, await openQueue(store, name), ids.length)), ids);
    },
  },
];

const limits: readonly ContractCase[] = [
  {
    title: "queue: a push beyond maxItems is refused whole",
    run: async (store) => {
      const { queue } = store.backend;
      const name = store.name();
      const three = { maxItems: 3 };
      await queue.push(name, [item("a"), item("b")], three);
      await rejectsWith("LIMIT", () => queue.push(name, [item("c"), item("d")], three));
      await rejectsWith("LIMIT", () => queue.push(name, [item("c"), item("d", { recipient: "somebody" })], three));
      equal((await queue.stats(name, SHARED_RECIPIENT)).waiting, 2);
      deepEqual(await queue.push(name, [item("c")], three), [{ id: "c", duplicate: false, recipients: 1 }]);
      // What is a duplicate takes no room.
      deepEqual(await queue.push(name, [item("a"), item("c")], three), [
        { id: "a", duplicate: true, recipients: 0 },
        { id: "c", duplicate: true, recipients: 0 },
      ]);
      deepEqual(textsOf(await collect(store, await openQueue(store, name), 3)), ["a", "b", "c"]);
    },
  },
  {
    title: "queue: leased, delayed and retrying items fill the queue, finished ones do not",
    run: async (store) => {
      const { queue } = store.backend;
      const name = store.name();
      const four = { maxItems: 4 };
      await queue.push(name, [item("acked"), item("parked"), item("retried"), item("x", { delayMs: 60_000 })], four);
      const feed = await openQueue(store, name);
      const [acked, parked, retried] = await collect(store, feed, 3);
      ok(acked && parked && retried);
      await rejectsWith("LIMIT", () => queue.push(name, [item("new")], four));
      await settled(feed, retry(retried, 60_000));
      await rejectsWith("LIMIT", () => queue.push(name, [item("new")], four));
      await settled(feed, ack(acked), deadLetter(parked));
      await queue.push(name, [item("new1"), item("new2")], four);
      await rejectsWith("LIMIT", () => queue.push(name, [item("new3")], four));
    },
  },
  {
    title: "queue: the items of all recipients count together",
    run: async (store) => {
      const { queue } = store.backend;
      const name = store.name();
      const items = ["a", "b", "c"].map((recipient) => item(`for-${recipient}`, { recipient }));
      await queue.push(name, items, { maxItems: 3 });
      await rejectsWith("LIMIT", () => queue.push(name, [item("d", { recipient: "d" })], { maxItems: 3 }));
      const feed = await openQueue(store, name, "b");
      await settled(feed, ack(await collectOne(store, feed)));
      await queue.push(name, [item("d", { recipient: "d" })], { maxItems: 3 });
    },
  },
];

const recipients: readonly ContractCase[] = [
  {
    title: "queue: each recipient gets its own items, and the shared one only what names nobody",
    run: async (store) => {
      const { queue } = store.backend;
      const name = store.name();
      const to = { anna: ["a1", "a2"], ben: ["b1"], [SHARED_RECIPIENT]: ["s1", "s2"] };
      for (const [recipient, ids] of Object.entries(to)) {
        await push(queue, name, ...ids.map((id) => item(id, { recipient })));
      }
      for (const [recipient, ids] of Object.entries(to)) {
        const feed = await openQueue(store, name, recipient);
        deepEqual(textsOf(await collect(store, feed, ids.length)), ids);
        await quiet(store, feed);
      }
    },
  },
  {
    title: "queue: counts and dead letters belong to one recipient",
    run: async (store) => {
      const { queue } = store.backend;
      const name = store.name();
      await push(queue, name, item("a", { recipient: "anna" }), item("b", { recipient: "ben" }));
      const feed = await openQueue(store, name, "anna");
      await settled(feed, deadLetter(await collectOne(store, feed)));
      deepEqual(textsOf(await allLetters(queue.deadLetters(name, "anna"))), ["a"]);
      deepEqual(await allLetters(queue.deadLetters(name, "ben")), []);
      deepEqual(itemCountsOf(await queue.stats(name, "anna")), {
        waiting: 0,
        leased: 0,
        delayed: 0,
        dead: 1,
        expired: 0,
      });
      deepEqual(itemCountsOf(await queue.stats(name, "ben")), {
        waiting: 1,
        leased: 0,
        delayed: 0,
        dead: 0,
        expired: 0,
      });
    },
  },
  {
    title: "queue: an unknown queue or recipient is empty",
    run: async (store) => {
      const { queue } = store.backend;
      const none = { waiting: 0, leased: 0, delayed: 0, dead: 0, expired: 0 };
      const name = store.name();
      deepEqual(itemCountsOf(await queue.stats(name, "nobody")), none);
      deepEqual(await queue.deadLetters(name, "nobody").list({ max: 10 }), { letters: [] });
      await quiet(store, await openQueue(store, name, "nobody"));
      await push(queue, name, item("a"));
      deepEqual(itemCountsOf(await queue.stats(name, "nobody")), none);
    },
  },
  {
    title: "queue: consumers of one recipient may have leases of different lengths",
    run: async (store) => {
      const queue = store.name();
      await push(store.backend.queue, queue, item("short"), item("long"));
      const hasty = await openQueue(store, queue, SHARED_RECIPIENT, { leaseMs: SHORT_LEASE_MS });
      const patient = await openQueue(store, queue);
      deepEqual(textsOf((await take(hasty, 1)).deliveries), ["short"]);
      const long = first((await take(patient, 1)).deliveries);
      await store.elapse(SHORT_LEASE_MS + 100);
      const feed = await openQueue(store, queue);
      deepEqual(attemptsOf(await collect(store, feed, 1)), ["short#2"]);
      await quiet(store, feed, 300);
      await settled(patient, ack(long));
    },
  },
];

export const queueCases: readonly ContractCase[] = [...ordering, ...identity, ...limits, ...recipients];
