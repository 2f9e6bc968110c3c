/** Consuming, the same for the log and the queue: taking, settling, sharing, giving back. */

import { deepEqual, equal, notEqual, ok } from "node:assert/strict";
import type { Delivery } from "../core/backend.js";
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
  ...bothPorts("messages are taken oldest first, and never more than asked for", async (store, start) => {
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
  ...bothPorts("a counted retry comes again after its delay, as the next attempt", async (store, start) => {
    const work = await start();
    await work.add("a");
    const feed = await work.open();
    const [position] = (await collect(store, feed, 1)).map((delivery) => delivery.position);
    await quiet(store, feed);
    await settled(feed, retry(await again(1), 700));
    await settled(feed, retry(await again(2), 0));
    equal((await again(3)).position, position);

    /** The delivery that is held, taken anew as the attempt it should be. */
    async function again(attempt: number): Promise<Delivery> {
      if (attempt === 1) return giveBackAndTake();
      const delivery = await collectOne(store, feed);
      equal(delivery.attempt, attempt);
      return delivery;
    }
    async function giveBackAndTake(): Promise<Delivery> {
      await feed.close();
      const other = await work.open();
      const delivery = await collectOne(store, other);
      equal(delivery.attempt, 1);
      return delivery;
    }
  }),
];
