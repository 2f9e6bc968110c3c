/** Ending items by their ids, whoever holds them: acknowledged for one recipient, removed for all, a queue emptied. */

import { deepEqual, equal, ok } from "node:assert/strict";
import type { ContractCase } from "./contract.js";
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
  numbered,
  quiet,
  rejectsWith,
  retry,
  settle,
  settled,
  take,
  textsOf,
} from "./fixtures.js";
import { AUDIENCE, namesOf, startQueue } from "./test-queue.js";

const NOTHING = { waiting: 0, leased: 0, delayed: 0, dead: 0, expired: 0 };

const acknowledging: readonly ContractCase[] = [
  {
    title: "queue: acknowledged by its id an item is finished, whether it waits, is delayed or waits for its retry",
    run: async (store) => {
      const work = startQueue(store);
      await work.push(item("retried"), item("waits"), item("stays"), item("delayed", { delayMs: 60_000 }));
      const feed = await work.open();
      await settled(feed, retry(await collectOne(store, feed), 60_000));
      const second = (await store.second()).queue;
      const ids = ["waits", "unknown", "delayed", "retried", "waits", ""];
      deepEqual(await second.acknowledge(work.name, "", ids), [true, false, true, true, false, false]);
      deepEqual(
        await work.queue.acknowledge(work.name, "", ids),
        ids.map(() => false),
      );
      deepEqual(attemptsOf(await collect(store, feed, 1)), ["stays"]);
      deepEqual(itemCountsOf(await work.stats()), { ...NOTHING, leased: 1 });
      equal(await work.queue.count(work.name, {}), 1);
      deepEqual(await work.queue.acknowledge(work.name, "", []), []);
      deepEqual(await work.queue.acknowledge(store.name(), "", ["a"]), [false]);
    },
  },
  {
    title: "queue: acknowledged by its id an item that is held is finished, and its holder's outcome is lost",
    run: async (store) => {
      const work = startQueue(store);
      await work.push(...["a", "b", "c"].map((id) => item(id)));
      const feed = await work.open(undefined, { backend: await store.second() });
      const deliveries = await collect(store, feed, 3);
      const receipts = deliveries.map(({ receipt }) => receipt);
      deepEqual(await work.queue.acknowledge(work.name, "", ["a", "b", "c"]), [true, true, true]);
      deepEqual(itemCountsOf(await work.stats()), NOTHING);
      deepEqual([...(await feed.extend(receipts))].toSorted(), receipts.toSorted());
      const [a, b, c] = deliveries;
      ok(a && b && c);
      deepEqual([...(await settle(feed, ack(a), retry(b), deadLetter(c)))].toSorted(), receipts.toSorted());
      await quiet(store, feed, 200);
      deepEqual([itemCountsOf(await work.stats()), await work.letters()], [NOTHING, []]);
    },
  },
  {
    title: "queue: an item is acknowledged for its recipient alone",
    run: async (store) => {
      const work = startQueue(store);
      await work.register(["anna", "ben"]);
      await work.push(item("hers", { recipient: "anna" }), item("news", { recipient: { audience: "registered" } }));
      const { queue, name } = work;
      deepEqual(await queue.acknowledge(name, "ben", ["hers", "news"]), [false, true]);
      deepEqual(await queue.acknowledge(name, "", ["hers", "news"]), [false, false]);
      deepEqual(await queue.acknowledge(name, "cara", ["hers", "news"]), [false, false]);
      await quiet(store, await work.open("ben"));
      deepEqual(textsOf(await collect(store, await work.open("anna"), 2)), ["hers", "news"]);
      deepEqual(await queue.acknowledge(name, "anna", ["news", "hers"]), [true, true]);
      equal(await queue.count(name, {}), 0);
    },
  },
  {
    title: "queue: what has expired is not acknowledged, unless it was held in time",
    run: async (store) => {
      const work = startQueue(store);
      await work.push(item("held", { ttlMs: 1_500 }), item("expired", { ttlMs: 1_500 }));
      const feed = await work.open();
      await collectOne(store, feed);
      await store.elapse(1_600);
      deepEqual(await work.queue.acknowledge(work.name, "", ["expired", "held"]), [false, true]);
      deepEqual(itemCountsOf(await work.stats()), { ...NOTHING, expired: 1 });
    },
  },
  {
    title: "queue: a dead letter is not acknowledged, and stays",
    run: async (store) => {
      const work = startQueue(store);
      await work.push(item("a"));
      const feed = await work.open();
      await settled(feed, deadLetter(await collectOne(store, feed)));
      deepEqual(await work.queue.acknowledge(work.name, "", ["a"]), [false]);
      deepEqual(await work.letters(), ["a"]);
    },
  },
  {
    title: "queue: what is acknowledged by its id makes room, and its id is free",
    run: async (store) => {
      const work = startQueue(store);
      const one = { maxItems: 1 };
      await work.pushWithin(one, item("a"));
      await collectOne(store, await work.open());
      await rejectsWith("LIMIT", () => work.pushWithin(one, item("b")));
      await work.queue.acknowledge(work.name, "", ["a"]);
      deepEqual(await work.pushWithin(one, item("a", { data: "anew" })), [
        { id: "a", duplicate: false, recipients: 1 },
      ]);
      deepEqual(attemptsOf(await collect(store, await work.open(), 1)), ["anew"]);
    },
  },
  {
    title: "queue: a thousand items are acknowledged in one call, in any order and any state",
    run: async (store) => {
      const work = startQueue(store);
      const ids = numbered("item ", 1_000);
      await work.push(
        ...ids.map((id, index) => item(id, { priority: index % 4, delayMs: index % 10 === 0 ? 60_000 : 0 })),
      );
      const feed = await work.open();
      const held = (await take(feed, 50)).deliveries;
      const acknowledged = ids.filter((_id, index) => index % 7 !== 0).toReversed();
      deepEqual(
        await work.queue.acknowledge(work.name, "", acknowledged),
        acknowledged.map(() => true),
      );
      const staying = ids.filter((_id, index) => index % 7 === 0);
      equal(await work.queue.count(work.name, {}), staying.length);
      const lost = await settle(feed, ...held.map(ack));
      equal(lost.length, held.filter(({ position }) => !staying.includes(position)).length);
    },
  },
];

const removing: readonly ContractCase[] = [
  {
    title: "queue: removed items are gone for all their recipients, and leases of them end",
    run: async (store) => {
      const work = startQueue(store);
      await work.register(["anna", "ben"]);
      await work.push(
        item("news", { recipient: { audience: "registered" } }),
        item("hers", { recipient: "anna" }),
        item("shared", { delayMs: 60_000 }),
        item("stays", { recipient: "ben" }),
      );
      const anna = await work.open("anna");
      const held = await collect(store, anna, 2);
      const second = (await store.second()).queue;
      equal(await second.remove(work.name, ["news", "hers", "unknown", "shared", "news"]), 3);
      equal(await second.remove(work.name, ["news", "hers", "shared"]), 0);
      equal((await settle(anna, ...held.map(ack))).length, 2);
      await quiet(store, anna);
      deepEqual(textsOf(await collect(store, await work.open("ben"), 1)), ["stays"]);
      deepEqual(itemCountsOf(await work.stats()), NOTHING);
      equal(await work.queue.count(work.name, {}), 1);
      deepEqual([await second.remove(work.name, []), await second.remove(store.name(), ["stays"])], [0, 0]);
    },
  },
  {
    title: "queue: what is removed is told by nobody as gone, and is no dead letter",
    run: async (store) => {
      const work = startQueue(store);
      await work.push(item("a"), item("b"));
      await work.queue.remove(work.name, ["a"]);
      const { deliveries, gone, expired } = await take(await work.open());
      deepEqual([textsOf(deliveries), gone, expired], [["b"], 0, 0]);
      const { dropped } = await work.stats();
      deepEqual([dropped, await work.letters()], [0, []]);
    },
  },
  {
    title: "queue: kept records are removed as well, dead letters stay and can be redriven",
    run: async (store) => {
      const work = startQueue(store);
      await work.configure({ keepAckedMs: 60_000, maxRecords: 100, index: [] });
      await work.push(item("acked"), item("parked"));
      const feed = await work.open();
      const [acked, parked] = await collect(store, feed, 2);
      ok(acked && parked);
      await settled(feed, ack(acked), deadLetter(parked));
      equal(await work.queue.remove(work.name, ["acked", "parked"]), 2);
      equal(await work.queue.count(work.name, {}), 0);
      deepEqual(await work.list(), []);
      deepEqual(await work.letters(), ["parked"]);
      const letters = work.queue.deadLetters(work.name, "");
      equal(await letters.redrive([first(await allLetters(letters)).id]), 1);
      deepEqual(attemptsOf(await collect(store, feed, 1)), ["parked"]);
    },
  },
];

const clearing: readonly ContractCase[] = [
  {
    title: "queue: a cleared queue has no items, no dead letters and no remembered ids, and leases have ended",
    run: async (store) => {
      const work = startQueue(store);
      await work.register(["anna", "ben"]);
      const { queue, name } = work;
      await work.push(
        ...["held", "parked", "waits"].map((id) => item(id)),
        item("news", { recipient: { audience: "registered" } }),
        item("delayed", { recipient: "anna", delayMs: 60_000 }),
        item("once", { dedupe: true }),
      );
      const feed = await work.open();
      const [held, parked] = await collect(store, feed, 2);
      ok(held && parked);
      await settled(feed, deadLetter(parked));
      await queue.acknowledge(name, "", ["once"]);
      equal(await (await store.second()).queue.clear(name), 4);
      equal(await queue.clear(name), 0);
      deepEqual(await settle(feed, ack(held)), [held.receipt]);
      for (const recipient of ["", "anna", "ben"]) {
        deepEqual(itemCountsOf(await work.stats(recipient)), NOTHING, recipient);
        deepEqual(await work.letters(recipient), []);
      }
      equal(await queue.count(name, {}), 0);
      deepEqual((await work.push(item("once", { dedupe: true }), item("held")))[0]?.duplicate, false);
      deepEqual(attemptsOf(await collect(store, feed, 2)), ["once", "held"]);
      equal(await queue.clear(store.name()), 0);
    },
  },
  {
    title: "queue: clearing counts and forgets kept records, and finds nothing any more by their fields",
    run: async (store) => {
      const work = startQueue(store);
      await work.configure({ keepAckedMs: 60_000, maxRecords: 100, index: ["kind"] });
      await work.push(...["a", "b", "c"].map((id) => item(id, { fields: { kind: "k" } })));
      const feed = await work.open();
      await settled(feed, ack(await collectOne(store, feed)));
      // One has finished it, and another has not.
      await work.register(["anna", "ben"]);
      await work.push(item("news", { recipient: { audience: "registered" } }));
      await work.queue.acknowledge(work.name, "anna", ["news"]);
      equal(await work.queue.clear(work.name), 4);
      equal(await work.queue.get(work.name, "news"), undefined);
      deepEqual([await work.list({ fields: { kind: "k" } }), await work.list()], [[], []]);
      equal(await work.queue.count(work.name, { fields: { kind: "k" } }), 0);
      equal(await work.queue.get(work.name, "a"), undefined);
      await work.push(item("a", { fields: { kind: "k" } }));
      equal(await work.queue.count(work.name, { fields: { kind: "k" } }), 1);
    },
  },
  {
    title: "queue: clearing leaves recipients registered and paused, and feeds go on",
    run: async (store) => {
      const work = startQueue(store);
      await work.register(["anna"]);
      const feed = await work.open("ben", { registration: AUDIENCE });
      await work.queue.pause(work.name, "anna");
      await work.push(item("a", { recipient: { audience: "registered" } }));
      await collectOne(store, feed);
      await work.queue.clear(work.name);
      deepEqual(namesOf(await work.recipients()), ["anna", "ben"]);
      equal((await work.stats("anna")).paused, true);
      equal((await work.push(item("b", { recipient: { audience: "registered" } })))[0]?.recipients, 2);
      deepEqual(attemptsOf(await collect(store, feed, 1)), ["b"]);
      await quiet(store, await work.open("anna"));
    },
  },
  {
    title: "queue: clearing is about one queue of one namespace alone",
    run: async (store) => {
      const work = startQueue(store);
      const other = startQueue(store);
      const elsewhere = (await store.second({ namespace: "other" })).queue;
      await work.push(item("a"));
      await other.push(item("b"));
      await elsewhere.push(work.name, [item("a", { data: "elsewhere", dedupe: true })], LIMITS);
      equal(await work.queue.clear(work.name), 1);
      equal(await other.queue.count(other.name, {}), 1);
      equal(await elsewhere.count(work.name, {}), 1);
      const usual = { consumer: store.name(), leaseMs: 60_000, maxAttempts: 5, maxDeadLetters: 10 };
      deepEqual(textsOf(await collect(store, await elsewhere.open(work.name, "", usual), 1)), ["elsewhere"]);
    },
  },
  {
    title: "queue: what more than a thousand items and letters fill is emptied in one call",
    run: async (store) => {
      const work = startQueue(store);
      const ids = numbered("item ", 2_500);
      await work.push(...ids.map((id, index) => item(id, { recipient: `r${index % 3}`, dedupe: index % 2 === 0 })));
      const feed = await work.open("r0", { maxDeadLetters: 1_000 });
      for (let calls = 0; calls < 3; calls += 1) {
        const { deliveries } = await take(feed, 100);
        await settled(feed, ...deliveries.map((delivery) => deadLetter(delivery)));
      }
      const { dead } = await work.stats("r0");
      ok(dead > 0);
      equal(await work.queue.clear(work.name), 2_500 - dead);
      equal(await work.queue.count(work.name, {}), 0);
      deepEqual(await work.letters("r0"), []);
      equal((await work.push(...ids.map((id) => item(id)))).filter(({ duplicate }) => duplicate).length, 0);
    },
  },
];

export const acknowledgeCases: readonly ContractCase[] = [...acknowledging, ...removing, ...clearing];
