/** Finished items that a queue keeps for a while: what is told of them, when they go, and what stays of none. */

import { deepEqual, equal, ok } from "node:assert/strict";
import { NO_RECORDS } from "../core/backend.js";
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
  numbered,
  quiet,
  retry,
  settle,
  settled,
  take,
  textOf,
} from "./fixtures.js";
import { expectListed, standingsOf, startQueue, stateOf } from "./test-queue.js";
import { eventually } from "./waiting.js";

const KEPT = { keepAckedMs: 3_600_000, maxRecords: 1_000, index: [] };
/** Short enough to wait for. */
const KEEP_MS = 1_500;

export const recordCases: readonly ContractCase[] = [
  {
    title: "queue: a finished item stays as a record, and tells how it ended",
    run: async (store) => {
      const work = startQueue(store);
      deepEqual(await work.configure(KEPT), KEPT);
      await work.push(item("acked"), item("parked"), item("expired", { ttlMs: 800, delayMs: 60_000 }), item("open"));
      const feed = await work.open();
      const [acked, parked] = await collect(store, feed, 3);
      ok(acked && parked);
      const before = await store.now();
      await settled(feed, ack(acked), deadLetter(parked));
      const after = await store.now();
      await store.elapse(900);
      await haul(store, feed, ({ expired }) => expired > 0);
      const record = await (await store.second()).queue.get(work.name, "acked");
      ok(record);
      deepEqual([textOf(record), record.header, record.state], ["acked", "header of acked", "acked"]);
      ok(record.updatedAt >= before && record.updatedAt <= after);
      deepEqual(record.recipients, [{ recipient: "", state: "acked", attempts: 1, until: record.updatedAt }]);
      deepEqual(
        (await work.queue.get(work.name, "parked"))?.recipients.map(({ state }) => state),
        ["dead"],
      );
      deepEqual(
        (await work.queue.get(work.name, "expired"))?.recipients.map(({ state }) => state),
        ["expired"],
      );
      await expectListed(work, {}, ["open", "expired", "parked", "acked"]);
      for (const state of ["open", "expired", "acked"] as const) await expectListed(work, { state }, [state]);
      await expectListed(work, { state: "dead" }, ["parked"]);
      await quiet(store, feed);
      equal((await work.stats()).leased, 1);
    },
  },
  {
    title: "queue: what is kept is decided while the queue is empty, and holds until it is again",
    run: async (store) => {
      const work = startQueue(store);
      const other = { keepAckedMs: 0, maxRecords: 0, index: ["kind"] };
      await work.push(item("a"));
      deepEqual(await work.configure(KEPT), NO_RECORDS);
      await work.queue.remove(work.name, ["a"]);
      deepEqual(await work.configure(KEPT), KEPT);
      await work.push(item("b"));
      const feed = await work.open();
      await settled(feed, ack(await collectOne(store, feed)));
      // The record alone is left.
      deepEqual(await (await store.second()).queue.configure(work.name, other), KEPT);
      equal(await work.queue.clear(work.name), 1);
      deepEqual(await (await store.second()).queue.configure(work.name, other), other);
    },
  },
  {
    title: "queue: a record goes when it was kept for long enough, and an unfinished item never",
    run: async (store) => {
      const work = startQueue(store);
      await work.configure({ keepAckedMs: KEEP_MS, maxRecords: 100, index: ["kind"] });
      const fields = { kind: "k" };
      await work.push(item("acked", { fields }), item("parked", { fields }), item("open", { fields }));
      const feed = await work.open();
      const [acked, parked] = await collect(store, feed, 3);
      ok(acked && parked);
      await settled(feed, ack(acked), deadLetter(parked));
      await expectListed(work, { fields }, ["open", "parked", "acked"]);
      await store.elapse(KEEP_MS + 100);
      await eventually(store, async () => (await work.queue.count(work.name, {})) === 1, "the end of the records");
      await expectListed(work, { fields }, ["open"]);
      await expectListed(work, {}, ["open"]);
      equal(await stateOf(work, "acked"), undefined);
      deepEqual(await work.letters(), ["parked"]);
      deepEqual(
        (await work.push(item("acked"), item("parked"))).map(({ duplicate }) => duplicate),
        [false, false],
      );
    },
  },
  {
    title: "queue: beyond maxRecords the record that was finished first goes",
    run: async (store) => {
      const work = startQueue(store);
      await work.configure({ ...KEPT, maxRecords: 3 });
      await work.push(...numbered("item ", 6).map((id) => item(id)));
      const feed = await work.open();
      const deliveries = await collect(store, feed, 5);
      for (const delivery of deliveries.toReversed()) await settled(feed, ack(delivery));
      await expectListed(work, { state: "acked" }, ["item 3", "item 2", "item 1"]);
      await expectListed(work, {}, ["item 6", "item 3", "item 2", "item 1"]);
      await work.queue.acknowledge(work.name, "", ["item 6"]);
      await expectListed(work, {}, ["item 6", "item 2", "item 1"]);
      // Several in one step.
      await work.push(...numbered("more ", 5).map((id) => item(id)));
      await settled(feed, ...(await collect(store, feed, 5)).map(ack));
      await expectListed(work, {}, ["more 5", "more 4", "more 3"]);
    },
  },
  {
    title: "queue: an id of which a record is kept is not stored again, and a record fills no queue",
    run: async (store) => {
      const work = startQueue(store);
      await work.configure(KEPT);
      const one = { maxItems: 1 };
      await work.pushWithin(one, item("a"));
      const feed = await work.open();
      await settled(feed, ack(await collectOne(store, feed)));
      deepEqual(await work.pushWithin(one, item("a")), [{ id: "a", duplicate: true, recipients: 0 }]);
      await work.pushWithin(one, item("b"));
      await settled(feed, ack(await collectOne(store, feed)));
      await work.queue.remove(work.name, ["a"]);
      deepEqual(await work.pushWithin(one, item("a")), [{ id: "a", duplicate: false, recipients: 1 }]);
      await expectListed(work, {}, ["a", "b"]);
    },
  },
  {
    title: "queue: what is for all is open until each has finished it, and then dead, expired or acknowledged",
    run: async (store) => {
      const work = startQueue(store);
      await work.configure(KEPT);
      await work.register(["anna", "ben"]);
      const toAll = { recipient: { audience: "registered" } } as const;
      await work.push(
        item("acked", toAll),
        item("dead", { ...toAll, ttlMs: 1_500 }),
        item("expired", { ...toAll, ttlMs: 1_500 }),
      );
      const anna = await work.open("anna");
      const [acked, dead, expired] = await collect(store, anna, 3);
      ok(acked && dead && expired);
      await settled(anna, ack(acked), deadLetter(dead), ack(expired));
      const half = await work.queue.get(work.name, "acked");
      ok(half);
      // Who has it to finish comes first.
      deepEqual([half.state, standingsOf(half)], ["open", ["ben:waiting", "anna:acked"]]);
      await work.queue.acknowledge(work.name, "ben", ["acked"]);
      await store.elapse(1_600);
      deepEqual(await Promise.all(["acked", "dead", "expired"].map((id) => stateOf(work, id))), [
        "acked",
        "dead",
        "expired",
      ]);
      const whole = await work.queue.get(work.name, "expired");
      deepEqual(whole && standingsOf(whole).toSorted(), ["anna:acked", "ben:expired"]);
      await expectListed(work, { state: "open" }, []);
    },
  },
  {
    title: "queue: redriving opens a dead record again, for the one who had parked it",
    run: async (store) => {
      const work = startQueue(store);
      await work.configure(KEPT);
      await work.register(["anna", "ben"]);
      await work.push(item("news", { recipient: { audience: "registered" }, ttlMs: 60_000 }));
      const [anna, ben] = [await work.open("anna"), await work.open("ben")];
      await settled(ben, ack(await collectOne(store, ben)));
      await settled(anna, deadLetter(await collectOne(store, anna)));
      equal(await stateOf(work, "news"), "dead");
      const letters = work.queue.deadLetters(work.name, "anna");
      equal(await letters.redrive([first(await allLetters(letters)).id]), 1);
      const reopened = await work.queue.get(work.name, "news");
      deepEqual([reopened?.state, reopened?.expiresAt], ["open", undefined]);
      deepEqual(reopened && standingsOf(reopened), ["anna:waiting", "ben:acked"]);
      await quiet(store, ben);
      const delivery = await collectOne(store, anna);
      equal(delivery.attempt, 1);
      await settled(anna, ack(delivery));
      equal(await stateOf(work, "news"), "acked");
      equal(await work.queue.count(work.name, {}), 1);
    },
  },
  {
    title: "queue: receipts from before a redrive are lost, however many attempts there were",
    run: async (store) => {
      for (const kept of [true, false]) {
        const work = startQueue(store);
        if (kept) await work.configure(KEPT);
        await work.register(["anna", "ben"]);
        await work.push(item("news", { recipient: { audience: "registered" } }));
        const letters = work.queue.deadLetters(work.name, "anna");
        const parking = await work.open("anna");
        const early = await collectOne(store, parking);
        await settled(parking, retry(early));
        const parked = await collectOne(store, parking);
        await settled(parking, deadLetter(parked));
        equal(await letters.redrive([first(await allLetters(letters)).id]), 1);
        const again = await work.open("anna");
        const second = await collectOne(store, again);
        equal(second.attempt, 1);
        for (const old of [early, parked]) {
          deepEqual(await settle(parking, ack(old)), [old.receipt], "an old receipt finishes nothing");
          deepEqual(await settle(parking, deadLetter(old)), [old.receipt]);
          deepEqual(await parking.extend([old.receipt]), [old.receipt]);
        }
        await settled(again, deadLetter(second));
        equal(await letters.redrive([first(await allLetters(letters)).id]), 1);
        const third = await collectOne(store, parking);
        for (const old of [early, parked, second]) deepEqual(await settle(again, ack(old)), [old.receipt]);
        await settled(parking, ack(third));
      }
    },
  },
  {
    title: "queue: of what was redriven, and then forgotten with its recipient, no record says that it was finished",
    run: async (store) => {
      const work = startQueue(store);
      await work.configure(KEPT);
      await work.register(["anna"]);
      await work.push(item("parked", { recipient: "anna" }));
      const feed = await work.open("anna");
      await settled(feed, deadLetter(await collectOne(store, feed)));
      const letters = work.queue.deadLetters(work.name, "anna");
      equal(await letters.redrive([first(await allLetters(letters)).id]), 1);
      await work.queue.unregister(work.name, "anna");
      equal(await work.queue.get(work.name, "parked"), undefined);
      await expectListed(work, {}, []);
      deepEqual(await work.push(item("parked")), [{ id: "parked", duplicate: false, recipients: 1 }]);
    },
  },
  {
    title:
      "queue: of what several recipients parked each is redriven on its own, where a record tells that it is the same",
    run: async (store) => {
      const names = ["anna", "ben"];
      for (const kept of [true, false]) {
        const work = startQueue(store);
        if (kept) await work.configure(KEPT);
        await work.register(names);
        await work.push(item("news", { recipient: { audience: "registered" } }));
        const redriven: number[] = [];
        for (const name of names) {
          const feed = await work.open(name);
          await settled(feed, deadLetter(await collectOne(store, feed)));
        }
        for (const name of names) {
          const letters = work.queue.deadLetters(work.name, name);
          redriven.push(await letters.redrive([first(await allLetters(letters)).id]));
        }
        // Without a record the queue holds but an item of that id.
        deepEqual(redriven, kept ? [1, 1] : [1, 0]);
        await work.queue.acknowledge(work.name, "anna", ["news"]);
        const letters = work.queue.deadLetters(work.name, "ben");
        equal(await letters.redrive((await allLetters(letters)).map(({ id }) => id)), kept ? 0 : 1);
        deepEqual(attemptsOf(await collect(store, await work.open("ben"), 1)), ["news"]);
        equal(await work.queue.count(work.name, {}), 1);
      }
    },
  },
  {
    title: "queue: acknowledged by its id an item leaves a record, removed or forgotten with its recipient none",
    run: async (store) => {
      const work = startQueue(store);
      await work.configure(KEPT);
      await work.register(["anna"]);
      await work.push(item("acked"), item("removed"), item("forgotten", { recipient: "anna" }));
      await work.queue.acknowledge(work.name, "", ["acked"]);
      await work.queue.remove(work.name, ["removed"]);
      await work.queue.unregister(work.name, "anna");
      await expectListed(work, {}, ["acked"]);
      const record = await work.queue.get(work.name, "acked");
      ok(record);
      deepEqual(record.recipients, [{ recipient: "", state: "acked", attempts: 0, until: record.updatedAt }]);
    },
  },
  {
    title: "queue: of very many recipients a thousand are shown, those who have it to finish first",
    run: async (store) => {
      const work = startQueue(store);
      await work.configure(KEPT);
      const names = numbered("recipient ", 1_010);
      await Promise.all(names.map((name) => work.register([name])));
      equal((await work.push(item("news", { recipient: { audience: "registered" } })))[0]?.recipients, 1_010);
      for (const name of names.slice(0, 20)) await work.queue.acknowledge(work.name, name, ["news"]);
      const shown = (await work.queue.get(work.name, "news"))?.recipients ?? [];
      equal(shown.length, 1_000);
      deepEqual(
        shown.slice(0, 990).filter(({ state }) => state !== "waiting"),
        [],
      );
      deepEqual(
        shown.slice(990).map(({ state }) => state),
        numbered("", 10).map(() => "acked"),
      );
      equal((await take(await work.open("recipient 900"))).deliveries.length, 1);
    },
  },
];
