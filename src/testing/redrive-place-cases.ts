/** Where a redriven message stands: in a log behind all others and for its group alone, in a queue where it was. */

import { deepEqual, equal, notEqual, ok } from "node:assert/strict";
import type { Feed } from "../core/backend.js";
import type { ContractCase, ContractStore } from "./contract.js";
import {
  ack,
  allLetters,
  attemptsOf,
  collect,
  collectOne,
  deadLetter,
  entry,
  first,
  haul,
  item,
  itemCountsOf,
  LIMITS,
  LONG_LEASE_MS,
  LONG_WAIT_MS,
  numbered,
  quiet,
  rejectsWith,
  settled,
  take,
  textsOf,
} from "./fixtures.js";
import { type LogGroup, startGroup } from "./log-group.js";
import { aMoment, within } from "./waiting.js";

/** Takes what is there, makes it dead letters, and puts them all back; resolves with how many. */
async function parkAndRedrive(store: ContractStore, work: LogGroup, count: number): Promise<number> {
  const feed = await work.open();
  await settled(feed, ...(await collect(store, feed, count)).map((delivery) => deadLetter(delivery)));
  await feed.close();
  return work.letters().redrive((await allLetters(work.letters())).map(({ id }) => id));
}

const inLogs: readonly ContractCase[] = [
  {
    title: "log: a redriven message stands behind all others, at a new position that no read sees",
    run: async (store) => {
      const work = await startGroup(store);
      const [p1, p2, p3] = await work.append("a", "b", "c");
      ok(p1 && p2 && p3);
      const feed = await work.open();
      await settled(feed, deadLetter(first((await take(feed, 1)).deliveries)));
      const letter = first(await allLetters(work.letters()));
      equal(letter.position, p1);
      equal(await work.letters().redrive([letter.id]), 1);
      await work.append("d");
      deepEqual(await work.texts(), ["a", "b", "c", "d"]);
      equal((await work.counts()).lag, 4);
      const deliveries = await collect(store, feed, 4);
      deepEqual(attemptsOf(deliveries), ["b", "c", "a", "d"]);
      const redriven = deliveries[2];
      ok(redriven);
      for (const position of [p1, p2, p3]) notEqual(redriven.position, position);
      const { log, stream } = work;
      deepEqual(textsOf(await log.read(stream, { max: 10, after: p3 })), ["d"]);
      deepEqual(textsOf(await log.read(stream, { max: 10, from: redriven.position })), ["d"]);
      deepEqual(textsOf(await log.read(stream, { max: 2, after: p2 })), ["c", "d"]);
      await settled(feed, deadLetter(redriven));
      equal(first(await allLetters(work.letters())).position, redriven.position);
    },
  },
  {
    title: "log: what one group redrives comes to no other, neither now nor to one that is made or sought later",
    run: async (store) => {
      const work = await startGroup(store);
      const other = await startGroup(store, {}, work.stream);
      const ordered = await startGroup(store, { order: "key" }, work.stream);
      await work.append("k:a", "k:b");
      const feeds = [await other.open(await store.second()), await ordered.open()] as const;
      for (const feed of feeds) {
        for (let seen = 0; seen < 2; seen += 1) await settled(feed, ack(await collectOne(store, feed)));
      }
      equal(await parkAndRedrive(store, work, 2), 2);
      for (const feed of feeds) await quiet(store, feed, 200);
      await work.append("c");
      for (const feed of feeds) {
        const delivery = await collectOne(store, feed);
        deepEqual(attemptsOf([delivery]), ["c"]);
        await quiet(store, feed);
        await settled(feed, ack(delivery));
      }
      for (const one of [other, ordered]) {
        deepEqual(await one.counts(), { lag: 0, pending: 0, retrying: 0, held: 0, dead: 0 });
      }
      await work.log.seek(work.stream, other.group, "beginning");
      const made = await startGroup(store, {}, work.stream);
      for (const one of [other, made]) {
        const feed = await one.open();
        const deliveries = await collect(store, feed, 3);
        deepEqual(attemptsOf(deliveries), ["k:a", "k:b", "c"]);
        await quiet(store, feed, 100);
        await settled(feed, ...deliveries.map(ack));
        equal((await one.stats()).oldestUnhandledAt, undefined);
      }
      deepEqual(attemptsOf(await collect(store, await work.open(), 3)), ["k:a", "k:b", "c"]);
    },
  },
  {
    title: "log: a consumer of another group that waits is not given what is redriven, and waits on",
    run: async (store) => {
      const work = await startGroup(store);
      const other = await startGroup(store, { from: "new" }, work.stream);
      await work.append("a");
      const waiting = await other.open(await store.second());
      await settled(waiting, ack(await collectOne(store, waiting)));
      const taken = waiting.take({ max: 5, waitMs: LONG_WAIT_MS }, []);
      taken.catch(() => {});
      await aMoment();
      equal(await parkAndRedrive(store, work, 1), 1);
      await store.elapse(1_200);
      await work.append("b");
      deepEqual(attemptsOf((await within(store, taken)).deliveries), ["b"]);
      deepEqual(await other.counts(), { lag: 0, pending: 1, retrying: 0, held: 0, dead: 0 });
    },
  },
  {
    title: "log: redriving succeeds where the stream is full, and what is redriven is kept until it is finished",
    run: async (store) => {
      const three = { maxEntries: 3, overflow: "reject" } as const;
      const work = await startGroup(store);
      await work.log.configure(work.stream, three);
      await work.append("a");
      const feed = await work.open();
      await settled(feed, deadLetter(await collectOne(store, feed)));
      await work.append("b", "c", "d");
      await rejectsWith("LIMIT", () => work.append("e"));
      const { id } = first(await allLetters(work.letters()));
      equal(await work.letters().redrive([id]), 1);
      const deliveries = await collect(store, feed, 4);
      deepEqual(attemptsOf(deliveries), ["b", "c", "d", "a"]);
      await settled(feed, ...deliveries.slice(0, 3).map(ack));
      // All but the redriven one may go, and it is still there to be delivered again.
      await work.append("e");
      await feed.close();
      const found = await haul(store, await work.open(), (sum) => sum.deliveries.length > 1);
      deepEqual([attemptsOf(found.deliveries).toSorted(), found.gone], [["a", "e"], 0]);
    },
  },
  {
    title: "log: a dead letter whose entry was trimmed long ago is redriven whole, whatever its dedupe id",
    run: async (store) => {
      const two = { maxEntries: 2, overflow: "reject" } as const;
      const work = await startGroup(store);
      const { log, stream } = work;
      const [{ position } = { position: "" }] = await log.append(stream, [{ ...entry("a"), dedupeId: "id" }], two);
      const feed = await work.open();
      await settled(feed, deadLetter(await collectOne(store, feed)));
      for (const text of numbered("n", 4)) {
        await work.appendWithin(two, text);
        await settled(feed, ack(await collectOne(store, feed)));
      }
      deepEqual(await work.texts(), ["n3", "n4"]);
      equal(await work.letters().redrive([first(await allLetters(work.letters())).id]), 1);
      const delivery = await collectOne(store, feed);
      deepEqual([delivery.header, ...textsOf([delivery])], ["header of a", "a"]);
      deepEqual(await log.append(stream, [{ ...entry("a"), dedupeId: "id" }], two), [{ position, duplicate: true }]);
    },
  },
  {
    title: "log: with order, what is redriven takes its turn behind all others of its key",
    run: async (store) => {
      for (const order of ["key", "strict"] as const) {
        const work = await startGroup(store, { order });
        await work.append("a:1", "a:2", "a:3");
        const feed = await work.open();
        await settled(feed, deadLetter(await collectOne(store, feed)));
        const a2 = await collectOne(store, feed);
        equal(await work.letters().redrive([first(await allLetters(work.letters())).id]), 1);
        await work.append("a:4");
        await quiet(store, feed, 100);
        const seen: string[] = [];
        await settled(feed, ack(a2));
        for (let count = 0; count < 3; count += 1) {
          const delivery = await collectOne(store, feed);
          seen.push(...attemptsOf([delivery]));
          await quiet(store, feed);
          await settled(feed, ack(delivery));
        }
        deepEqual(seen, ["a:3", "a:1", "a:4"], order);
      }
    },
  },
  {
    title: "log: what is redriven to a paused group waits until it is resumed",
    run: async (store) => {
      const work = await startGroup(store);
      await work.append("a");
      const feed = await work.open();
      await settled(feed, deadLetter(await collectOne(store, feed)));
      await work.log.pause(work.stream, work.group);
      equal(await work.letters().redrive([first(await allLetters(work.letters())).id]), 1);
      await quiet(store, feed, 300);
      equal((await work.counts()).lag, 1);
      await work.log.resume(work.stream, work.group);
      deepEqual(attemptsOf(await collect(store, feed, 1)), ["a"]);
    },
  },
];

async function openQueue(store: ContractStore, queue: string, recipient: string = ""): Promise<Feed> {
  const consumer = { consumer: store.name(), leaseMs: LONG_LEASE_MS, maxAttempts: 5, maxDeadLetters: 100 };
  return store.backend.queue.open(queue, recipient, consumer);
}

const inQueues: readonly ContractCase[] = [
  {
    title: "queue: a redriven item keeps its id and its priority",
    run: async (store) => {
      const { queue } = store.backend;
      const name = store.name();
      await queue.push(name, [item("urgent", { priority: 9 }), item("idle", { priority: -9 })], LIMITS);
      const feed = await openQueue(store, name);
      const parked = await collect(store, feed, 2);
      await settled(feed, ...parked.map((delivery) => deadLetter(delivery)));
      await queue.push(name, [item("usual")], LIMITS);
      const letters = queue.deadLetters(name, "");
      const ids = (await allLetters(letters)).map(({ id }) => id);
      equal(await letters.redrive(ids.toReversed()), 2);
      const deliveries = await collect(store, feed, 3);
      deepEqual(
        deliveries.map(({ position }) => position),
        ["urgent", "usual", "idle"],
      );
      deepEqual(await queue.push(name, [item("urgent")], LIMITS), [{ id: "urgent", duplicate: true, recipients: 0 }]);
    },
  },
  {
    title: "queue: a redriven item expires no more",
    run: async (store) => {
      const { queue } = store.backend;
      const name = store.name();
      await queue.push(name, [item("a", { ttlMs: 1_500 }), item("b", { ttlMs: 1_500 })], LIMITS);
      const feed = await openQueue(store, name);
      await settled(feed, ...(await collect(store, feed, 2)).map((delivery) => deadLetter(delivery)));
      const letters = queue.deadLetters(name, "");
      const [a, b] = (await allLetters(letters)).map(({ id }) => id);
      ok(a && b);
      // One is put back before its time would be over, the other after it.
      equal(await letters.redrive([a]), 1);
      await store.elapse(1_600);
      equal(await letters.redrive([b]), 1);
      deepEqual(itemCountsOf(await queue.stats(name, "")), { waiting: 2, leased: 0, delayed: 0, dead: 0, expired: 0 });
      const found = await haul(store, feed, ({ deliveries }) => deliveries.length > 1);
      deepEqual([attemptsOf(found.deliveries).toSorted(), found.expired], [["a", "b"], 0]);
    },
  },
  {
    title: "queue: a letter whose id the queue holds again stays, until that is finished",
    run: async (store) => {
      const { queue } = store.backend;
      const name = store.name();
      const feed = await openQueue(store, name);
      await queue.push(name, [item("same", { data: "first" }), item("other")], LIMITS);
      await settled(feed, ...(await collect(store, feed, 2)).map((delivery) => deadLetter(delivery)));
      deepEqual(await queue.push(name, [item("same", { data: "second" })], LIMITS), [
        { id: "same", duplicate: false, recipients: 1 },
      ]);
      const letters = queue.deadLetters(name, "");
      const ids = (await allLetters(letters)).map(({ id }) => id);
      equal(await letters.redrive(ids), 1);
      deepEqual(textsOf(await allLetters(letters)), ["first"]);
      const second = (await collect(store, feed, 2)).find(({ position }) => position === "same");
      ok(second);
      deepEqual(textsOf([second]), ["second"]);
      equal(await letters.redrive(ids), 0, "while it is leased");
      await settled(feed, ack(second));
      equal(await letters.redrive(ids), 1);
      deepEqual(attemptsOf(await collect(store, feed, 1)), ["first"]);
    },
  },
  {
    title: "queue: a redriven item is for its recipient alone, and finds room in a full queue",
    run: async (store) => {
      const { queue } = store.backend;
      const name = store.name();
      const two = { maxItems: 2 };
      await queue.push(name, [item("a", { recipient: "anna" })], two);
      const anna = await openQueue(store, name, "anna");
      await settled(anna, deadLetter(await collectOne(store, anna)));
      await queue.push(name, [item("b", { recipient: "ben" }), item("s")], two);
      const letters = queue.deadLetters(name, "anna");
      const { id } = first(await allLetters(letters));
      equal(await queue.deadLetters(name, "ben").redrive([id]), 0);
      equal(await letters.redrive([id]), 1);
      deepEqual(textsOf(await collect(store, await openQueue(store, name, "ben"), 1)), ["b"]);
      deepEqual(textsOf(await collect(store, await openQueue(store, name), 1)), ["s"]);
      const delivery = await collectOne(store, anna);
      deepEqual(textsOf([delivery]), ["a"]);
      await rejectsWith("LIMIT", () => queue.push(name, [item("c")], two));
    },
  },
];

export const redrivePlaceCases: readonly ContractCase[] = [...inLogs, ...inQueues];
