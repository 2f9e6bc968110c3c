/** Consuming, the same for the log and the queue: taking, settling, sharing, giving back. */

import { deepEqual, equal, notEqual, ok } from "node:assert/strict";
import type { Delivery } from "../core/backend.js";
import type { ContractCase } from "./contract.js";
import {
  ack,
  allLetters,
  attemptsOf,
  collect,
  collectAfter,
  collectOne,
  deadLetter,
  defer,
  first,
  numbered,
  quiet,
  rejectsWith,
  retry,
  settle,
  settled,
  take,
  textsOf,
} from "./fixtures.js";
import { bothPorts } from "./work.js";

const taking: readonly ContractCase[] = [
  ...bothPorts("a delivery carries its position, header and data, and is the first attempt", async (store, start) => {
    const work = await start();
    const [position] = await work.add("hello");
    const delivery = await collectOne(store, await work.open());
    equal(delivery.position, position);
    equal(delivery.header, "header of hello");
    deepEqual(textsOf([delivery]), ["hello"]);
    equal(delivery.attempt, 1);
    ok(typeof delivery.receipt === "string" && delivery.receipt !== "", "a receipt is a text");
  }),
  ...bothPorts("messages are taken oldest first, and never more than asked for", async (_store, start) => {
    const work = await start();
    const texts = numbered("m", 25);
    await work.add(...texts.slice(0, 10));
    await work.add(...texts.slice(10));
    const feed = await work.open();
    const all: Delivery[] = [];
    while (all.length < texts.length) {
      const { deliveries } = await take(feed, 4);
      ok(deliveries.length > 0 && deliveries.length <= 4, `asked for 4, got ${deliveries.length}`);
      all.push(...deliveries);
    }
    deepEqual(textsOf(all), texts);
    equal(new Set(all.map(({ receipt }) => receipt)).size, texts.length, "every receipt is its own");
  }),
  ...bothPorts("what is leased is not delivered again", async (store, start) => {
    const work = await start();
    await work.add("a", "b");
    const feed = await work.open();
    await collect(store, feed, 2);
    await quiet(store, feed, 300);
    await quiet(store, await work.open(), 300);
  }),
  ...bothPorts("consumers share the messages without duplicates, also from another backend", async (store, start) => {
    const work = await start();
    const texts = numbered("m", 60);
    await work.add(...texts);
    const feeds = [await work.open(), await work.open(), await work.open({ backend: await store.second() })];
    const all: Delivery[] = [];
    for (let rounds = 0; all.length < texts.length && rounds < 100; rounds += 1) {
      const taken = await Promise.all(feeds.map((feed) => take(feed, 3)));
      all.push(...taken.flatMap(({ deliveries }) => deliveries));
      for (const [index, { deliveries }] of taken.entries()) {
        const feed = feeds[index];
        if (feed !== undefined) await settled(feed, ...deliveries.map(ack));
      }
    }
    deepEqual(textsOf(all).toSorted(), texts.toSorted());
    ok(
      all.every(({ attempt }) => attempt === 1),
      "none was delivered twice",
    );
    deepEqual(await work.counts(), { ready: 0, held: 0, later: 0, dead: 0 });
  }),
  ...bothPorts("takes of one consumer may overlap and never get the same message", async (store, start) => {
    const work = await start();
    const texts = numbered("m", 12);
    await work.add(...texts);
    const feed = await work.open();
    const taken = await Promise.all([1, 2, 3, 4, 5].map((max) => take(feed, max)));
    const got = taken.flatMap(({ deliveries }) => deliveries);
    const rest = await collect(store, feed, texts.length - got.length);
    deepEqual(textsOf([...got, ...rest]).toSorted(), texts.toSorted());
  }),
  ...bothPorts(
    "thousands of messages are stored, taken, extended and settled in a call each",
    async (_store, start) => {
      const work = await start();
      const texts = numbered("m", 2_500);
      await work.add(...texts);
      const feed = await work.open();
      const all: Delivery[] = [];
      // One call may give less than there is, and never more than asked for.
      for (let calls = 0; all.length < texts.length && calls < 100; calls += 1) {
        all.push(...(await take(feed, texts.length - all.length)).deliveries);
      }
      deepEqual(textsOf(all), texts);
      deepEqual(await feed.extend(all.map(({ receipt }) => receipt)), []);
      await settled(feed, ...all.map((delivery, index) => (index % 5 === 0 ? retry(delivery, 60_000) : ack(delivery))));
      deepEqual(await work.counts(), { ready: 0, held: 0, later: 500, dead: 0 });
    },
  ),
  ...bothPorts("each count says exactly what became of the messages", async (store, start) => {
    const work = await start();
    deepEqual(await work.counts(), { ready: 0, held: 0, later: 0, dead: 0 });
    await work.add(...numbered("m", 10));
    deepEqual(await work.counts(), { ready: 10, held: 0, later: 0, dead: 0 });
    const feed = await work.open();
    const [one, two, three, four] = await collect(store, feed, 7);
    ok(one && two && three && four);
    deepEqual(await work.counts(), { ready: 3, held: 7, later: 0, dead: 0 });
    await settled(feed, ack(one), retry(two, 60_000), retry(three, 60_000), deadLetter(four));
    deepEqual(await work.counts(), { ready: 3, held: 3, later: 2, dead: 1 });
  }),
];

const settling: readonly ContractCase[] = [
  ...bothPorts("an acknowledged message is never delivered again", async (store, start) => {
    const work = await start();
    await work.add("a");
    const feed = await work.open();
    await settled(feed, ack(await collectOne(store, feed)));
    await quiet(store, feed, 300);
    await quiet(store, await work.open(), 300);
    deepEqual(await work.counts(), { ready: 0, held: 0, later: 0, dead: 0 });
  }),
  ...bothPorts("outcomes of all kinds are settled in one call, in whatever order", async (store, start) => {
    const work = await start();
    await work.add("acked", "retried", "deferred", "parked", "kept");
    const feed = await work.open();
    const [acked, retried, deferred, parked] = await collect(store, feed, 5);
    ok(acked && retried && deferred && parked);
    await settled(feed, deadLetter(parked), retry(retried), ack(acked), defer(deferred));
    deepEqual(textsOf(await allLetters(work.letters())), ["parked"]);
    deepEqual(attemptsOf(await collect(store, feed, 2)).toSorted(), ["deferred", "retried#2"]);
    deepEqual(await work.counts(), { ready: 0, held: 3, later: 0, dead: 1 });
  }),
  ...bothPorts("a retry waits for its delay and comes again as the next attempt", async (store, start) => {
    const work = await start();
    const [position] = await work.add("a");
    const feed = await work.open();
    const held = await collectOne(store, feed);
    const since = await store.now();
    await settled(feed, retry(held, 700));
    const second = await collectAfter(store, feed, since, 700);
    equal(second.attempt, 2);
    equal(second.position, position);
    equal(second.header, "header of a");
    await settled(feed, retry(second));
    deepEqual(attemptsOf(await collect(store, feed, 1)), ["a#3"]);
  }),
  ...bothPorts("a message that waits for its retry is taken by whichever consumer is there", async (store, start) => {
    const work = await start();
    await work.add("a", "b");
    const feed = await work.open();
    const [a, b] = await collect(store, feed, 2);
    ok(a && b);
    await settled(feed, retry(a, 200), retry(b, 200));
    await feed.close();
    const other = await work.open({ backend: await store.second() });
    deepEqual(attemptsOf(await collect(store, other, 2)), ["a#2", "b#2"]);
  }),
  ...bothPorts("an uncounted retry keeps the attempt", async (store, start) => {
    const work = await start();
    await work.add("a");
    const feed = await work.open();
    await settled(feed, retry(await collectOne(store, feed)));
    for (let round = 0; round < 3; round += 1) {
      const delivery = await collectOne(store, feed);
      equal(delivery.attempt, 2);
      await settled(feed, defer(delivery));
    }
  }),
  ...bothPorts("an uncounted retry with a delay waits for it too", async (store, start) => {
    const work = await start();
    await work.add("a");
    const feed = await work.open();
    const { receipt } = await collectOne(store, feed);
    const since = await store.now();
    await settled(feed, { receipt, as: "retry", delayMs: 700, counted: false });
    equal((await collectAfter(store, feed, since, 700)).attempt, 1);
  }),
  ...bothPorts(
    "taking settles first, so that what was given back can come with the same call",
    async (store, start) => {
      const work = await start();
      await work.add("a");
      const feed = await work.open();
      const held = await collectOne(store, feed);
      const { deliveries, lost } = await feed.take({ max: 5, waitMs: 0 }, [retry(held)]);
      deepEqual(lost, []);
      const rest = deliveries.length > 0 ? deliveries : await collect(store, feed, 1);
      deepEqual(attemptsOf(rest), ["a#2"]);
    },
  ),
  ...bothPorts("an outcome that comes a second time is lost and changes nothing", async (store, start) => {
    const work = await start();
    await work.add("acked", "parked", "retried");
    const feed = await work.open();
    const [acked, parked, retried] = await collect(store, feed, 3);
    ok(acked && parked && retried);
    await settled(feed, ack(acked), deadLetter(parked), retry(retried, 60_000));
    const over: readonly Delivery[] = [acked, parked, retried];
    for (const outcome of [ack, retry, defer, deadLetter]) {
      for (const delivery of over) {
        deepEqual(await settle(feed, outcome(delivery)), [delivery.receipt], `${outcome.name} of a settled delivery`);
      }
    }
    deepEqual(await work.counts(), { ready: 0, held: 0, later: 1, dead: 1 });
  }),
  ...bothPorts("a receipt from before a retry is worthless, counted or not", async (store, start) => {
    const work = await start();
    await work.add("a");
    const feed = await work.open();
    const old: Delivery[] = [];
    for (const giveBack of [retry, defer, retry, defer]) {
      const delivery: Delivery = await collectOne(store, feed);
      old.push(delivery);
      await settled(feed, giveBack(delivery));
    }
    const current = await collectOne(store, feed);
    for (const late of old) {
      notEqual(late.receipt, current.receipt, "each attempt has a receipt of its own");
      deepEqual(await feed.extend([late.receipt]), [late.receipt]);
      deepEqual(await settle(feed, ack(late)), [late.receipt]);
      deepEqual(await settle(feed, retry(late)), [late.receipt]);
      deepEqual(await settle(feed, deadLetter(late)), [late.receipt]);
    }
    deepEqual(await work.counts(), { ready: 0, held: 1, later: 0, dead: 0 });
    await settled(feed, ack(current));
  }),
  ...bothPorts("what is lost is reported beside what counts, each once", async (store, start) => {
    const work = await start();
    await work.add("a", "b", "c");
    const feed = await work.open();
    const [a, b, c] = await collect(store, feed, 3);
    ok(a && b && c);
    await settled(feed, ack(b));
    deepEqual(await settle(feed, ack(a), ack(b), ack(c)), [b.receipt]);
    deepEqual(await work.counts(), { ready: 0, held: 0, later: 0, dead: 0 });
  }),
];

const closing: readonly ContractCase[] = [
  ...bothPorts("closing a consumer gives back what it holds, uncounted and at once", async (store, start) => {
    const work = await start();
    await work.add("a", "b", "c");
    const feed = await work.open();
    const [a, b] = await collect(store, feed, 3);
    ok(a && b);
    await settled(feed, retry(b));
    await collect(store, feed, 1);
    await settled(feed, ack(a));
    const other = await work.open({ backend: await store.second() });
    await quiet(store, other);
    await feed.close();
    deepEqual(attemptsOf(await collect(store, other, 2)).toSorted(), ["b#2", "c"]);
    await quiet(store, other);
  }),
  ...bothPorts("a consumer can be closed twice, and takes nothing afterwards", async (store, start) => {
    const work = await start();
    await work.add("a", "b");
    const feed = await work.open();
    const held = first((await feed.take({ max: 1, waitMs: 0 }, [])).deliveries);
    await Promise.all([feed.close(), feed.close()]);
    await feed.close();
    await rejectsWith("CLOSED", () => take(feed), "take");
    await rejectsWith("CLOSED", () => settle(feed, ack(held)), "settling");
    await rejectsWith("CLOSED", () => feed.extend([held.receipt]), "extend");
    deepEqual(attemptsOf(await collect(store, await work.open(), 2)).toSorted(), ["a", "b"]);
  }),
  ...bothPorts("a receipt from before a close is worthless, also to a consumer of that name", async (store, start) => {
    const work = await start();
    await work.add("a");
    const consumer = store.name();
    const before = await work.open({ consumer });
    const old = await collectOne(store, before);
    await before.close();
    const feed = await work.open({ consumer });
    const current = await collectOne(store, feed);
    equal(current.attempt, 1);
    deepEqual(await settle(feed, ack(old)), [old.receipt]);
    deepEqual(await feed.extend([old.receipt]), [old.receipt]);
    await settled(feed, ack(current));
  }),
  ...bothPorts("attempts survive the consumer and its backend", async (store, start) => {
    const work = await start();
    await work.add("a");
    const backend = await store.second();
    const feed = await work.open({ backend });
    await settled(feed, retry(await collectOne(store, feed)));
    await settled(feed, retry(await collectOne(store, feed), 300));
    await backend.close();
    const other = await work.open();
    deepEqual(attemptsOf(await collect(store, other, 1)), ["a#3"]);
  }),
];

export const feedCases: readonly ContractCase[] = [...taking, ...settling, ...closing];
