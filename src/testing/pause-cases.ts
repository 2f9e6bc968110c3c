/** Pausing a group: nothing is handed out, in any process, while settling goes on. */

import { deepEqual, equal, ok } from "node:assert/strict";
import type { Feed, Taken } from "../core/backend.js";
import type { ContractCase, ContractStore } from "./contract.js";
import {
  ack,
  allLetters,
  attemptsOf,
  collect,
  collectOne,
  deadLetter,
  GROUP,
  haul,
  LONG_WAIT_MS,
  numbered,
  quiet,
  rejectsWith,
  retry,
  SHORT_LEASE_MS,
  settled,
  take,
  textsOf,
} from "./fixtures.js";
import { type LogGroup, startGroup } from "./log-group.js";
import { aMoment, within } from "./waiting.js";

/** Longer than a feed that waits takes to look for itself. */
const A_LOOK_MS = 1_200;

function pause({ log, stream, group }: LogGroup): Promise<void> {
  return log.pause(stream, group);
}

function resume({ log, stream, group }: LogGroup): Promise<void> {
  return log.resume(stream, group);
}

/** A take that waits longer than the case; what it brings is looked at later. */
async function startWaiting(feed: Feed): Promise<{ readonly taken: Promise<Taken>; isOver(): boolean }> {
  let over = false;
  const taken = feed.take({ max: 10, waitMs: LONG_WAIT_MS }, []);
  const end = (): void => {
    over = true;
  };
  taken.then(end, end);
  await aMoment();
  return { taken, isOver: () => over };
}

async function expectNothing(store: ContractStore, feeds: readonly Feed[], ms: number = 0): Promise<void> {
  for (const feed of feeds) await quiet(store, feed, ms);
}

const pausing: readonly ContractCase[] = [
  {
    title: "log: a paused group is handed nothing, in any process, until it is resumed",
    run: async (store) => {
      const work = await startGroup(store);
      const second = await store.second();
      await work.append("a", "b", "c");
      const feeds = [await work.open(), await work.open(second)] as const;
      deepEqual(attemptsOf((await take(feeds[0], 1)).deliveries), ["a"]);
      await second.log.pause(work.stream, work.group);
      await expectNothing(store, [...feeds, await work.open()], 300);
      await work.append("d");
      await expectNothing(store, feeds);
      deepEqual(await work.counts(), { lag: 3, pending: 1, retrying: 0, held: 0, dead: 0 });
      await resume(work);
      deepEqual(attemptsOf(await collect(store, feeds[1], 3)), ["b", "c", "d"]);
    },
  },
  {
    title: "log: a take that waits when its group is paused gets nothing until it is resumed, and then at once",
    run: async (store) => {
      const work = await startGroup(store);
      const waiting = [
        await startWaiting(await work.open()),
        await startWaiting(await work.open(await store.second())),
      ];
      await pause(work);
      await work.append(...numbered("e", 3));
      await store.elapse(A_LOOK_MS);
      await aMoment();
      deepEqual(
        waiting.map((one) => one.isOver()),
        [false, false],
      );
      await resume(work);
      const { deliveries } = await within(store, Promise.race(waiting.map(({ taken }) => taken)));
      ok(deliveries.length > 0, "what was there is handed out");
    },
  },
  {
    title: "log: a group is paused and resumed many times while consumers wait, and each entry is delivered once",
    run: async (store) => {
      const work = await startGroup(store);
      const feed = await work.open(await store.second());
      const seen: string[] = [];
      for (const text of numbered("e", 5)) {
        const waiting = await startWaiting(feed);
        await pause(work);
        await work.append(text);
        await aMoment();
        equal(waiting.isOver(), false, `${text} was handed out`);
        await resume(work);
        const { deliveries } = await within(store, waiting.taken);
        seen.push(...attemptsOf(deliveries));
        await settled(feed, ...deliveries.map(ack));
      }
      deepEqual(seen, numbered("e", 5));
      deepEqual(await work.counts(), { lag: 0, pending: 0, retrying: 0, held: 0, dead: 0 });
    },
  },
  {
    title: "log: due retries and what consumers give back or abandon wait as well while a group is paused",
    run: async (store) => {
      const work = await startGroup(store, { leaseMs: SHORT_LEASE_MS });
      await work.append("retried", "given-back", "abandoned");
      const feed = await work.open();
      const closing = await work.open();
      const dying = await work.open(await store.second());
      const retried = await collectOne(store, feed);
      await collectOne(store, closing);
      await collectOne(store, dying);
      await pause(work);
      await settled(feed, retry(retried));
      await closing.close();
      await expectNothing(store, [feed, await work.open()], SHORT_LEASE_MS + 200);
      await resume(work);
      const expected = ["abandoned#2", "given-back", "retried#2"];
      deepEqual(attemptsOf(await collect(store, feed, 3)).toSorted(), expected);
      await quiet(store, feed);
    },
  },
  {
    title: "log: with order, what becomes free waits while the group is paused",
    run: async (store) => {
      for (const order of ["key", "strict"] as const) {
        const work = await startGroup(store, { order });
        await work.append("a:1", "a:2");
        const feed = await work.open();
        const a1 = await collectOne(store, feed);
        await quiet(store, feed);
        await pause(work);
        await settled(feed, ack(a1));
        await expectNothing(store, [feed, await work.open(await store.second())], 200);
        await resume(work);
        deepEqual(attemptsOf(await collect(store, feed, 1)), ["a:2"], order);
      }
    },
  },
];

const goingOn: readonly ContractCase[] = [
  {
    title: "log: settling and extending go on while a group is paused",
    run: async (store) => {
      const work = await startGroup(store, { leaseMs: SHORT_LEASE_MS });
      await work.append("acked", "retried", "parked", "kept", "new");
      const feed = await work.open();
      const [acked, retried, parked, kept] = (await take(feed, 4)).deliveries;
      if (!acked || !retried || !parked || !kept) throw new Error("four were to be taken");
      await pause(work);
      const { deliveries, lost } = await feed.take({ max: 5, waitMs: LONG_WAIT_MS }, [
        ack(acked),
        retry(retried, 60_000),
        deadLetter(parked),
      ]);
      deepEqual([attemptsOf(deliveries), lost], [[], []]);
      deepEqual(await feed.extend([kept.receipt, acked.receipt]), [acked.receipt]);
      deepEqual(await work.counts(), { lag: 1, pending: 1, retrying: 1, held: 0, dead: 1 });
      deepEqual(textsOf(await allLetters(work.letters())), ["parked"]);
      for (let passed = 0; passed < 2 * SHORT_LEASE_MS; passed += SHORT_LEASE_MS / 3) {
        await store.elapse(SHORT_LEASE_MS / 3);
        deepEqual(await feed.extend([kept.receipt]), []);
      }
      await settled(feed, ack(kept));
    },
  },
  {
    title: "log: pausing and resuming may be done twice, and stats tell",
    run: async (store) => {
      const work = await startGroup(store);
      const isPaused = async (): Promise<boolean> => (await work.stats()).paused;
      equal(await isPaused(), false);
      await resume(work);
      equal(await isPaused(), false);
      await pause(work);
      await pause(work);
      equal(await isPaused(), true);
      await work.append("a");
      await resume(work);
      await resume(work);
      equal(await isPaused(), false);
      const feed = await work.open();
      deepEqual(attemptsOf(await collect(store, feed, 1)), ["a"]);
      await quiet(store, feed);
    },
  },
  {
    title: "log: a pause belongs to its group alone, and outlives the backend that made it",
    run: async (store) => {
      const work = await startGroup(store);
      const other = await startGroup(store, {}, work.stream);
      const second = await store.second();
      await second.log.pause(work.stream, work.group);
      await second.close();
      await work.append("a");
      deepEqual(await work.log.createGroup(work.stream, work.group, GROUP), GROUP);
      await quiet(store, await work.open(), 200);
      deepEqual(attemptsOf(await collect(store, await other.open(), 1)), ["a"]);
      deepEqual([(await work.stats()).paused, (await other.stats()).paused], [true, false]);
    },
  },
  {
    title: "log: a group that does not exist can be neither paused nor resumed",
    run: async (store) => {
      const { log, stream } = await startGroup(store);
      const nobody = store.name();
      await rejectsWith("NOT_FOUND", () => log.pause(stream, nobody));
      await rejectsWith("NOT_FOUND", () => log.resume(stream, nobody));
      await rejectsWith("NOT_FOUND", () => log.pause(store.name(), nobody));
      equal((await log.stats(stream)).groups.length, 1);
    },
  },
];

const meanwhile: readonly ContractCase[] = [
  {
    title: "log: a paused group stays paused when it is sought, and goes on from there when it is resumed",
    run: async (store) => {
      const work = await startGroup(store);
      const [, p2] = await work.append("a", "b", "c");
      if (p2 === undefined) throw new Error("three were appended");
      const feed = await work.open();
      await settled(feed, ...(await collect(store, feed, 3)).map(ack));
      await pause(work);
      await work.log.seek(work.stream, work.group, { at: p2 });
      equal((await work.stats()).paused, true);
      equal((await work.counts()).lag, 2);
      await expectNothing(store, [feed, await work.open()], 200);
      await resume(work);
      deepEqual(attemptsOf(await collect(store, feed, 2)), ["b", "c"]);
      await quiet(store, feed);
    },
  },
  {
    title: "log: a stream keeps what a paused group has not finished",
    run: async (store) => {
      const three = { maxEntries: 3, overflow: "reject" } as const;
      const work = await startGroup(store);
      await work.appendWithin(three, "a", "b", "c");
      const feed = await work.open();
      const [a, b] = await collect(store, feed, 2);
      if (!a || !b) throw new Error("two were to be taken");
      await pause(work);
      await rejectsWith("LIMIT", () => work.appendWithin(three, "d"));
      await settled(feed, ack(a));
      await work.appendWithin(three, "d");
      await rejectsWith("LIMIT", () => work.appendWithin(three, "e"));
      await settled(feed, ack(b));
      await work.appendWithin(three, "e");
      deepEqual(await work.texts(), ["c", "d", "e"]);
      deepEqual(await work.counts(), { lag: 3, pending: 0, retrying: 0, held: 0, dead: 0 });
      await resume(work);
      deepEqual(attemptsOf(await collect(store, feed, 3)), ["c", "d", "e"]);
    },
  },
  {
    title: "log: what is dropped in front of a paused group is counted as gone when it goes on",
    run: async (store) => {
      const three = { maxEntries: 3, overflow: "drop-oldest" } as const;
      const work = await startGroup(store);
      const feed = await work.open();
      await work.appendWithin(three, "a", "b", "c");
      await pause(work);
      await work.appendWithin(three, "d", "e");
      equal((await work.counts()).lag, 3);
      const before = await haul(store, feed, () => true);
      deepEqual(before.deliveries, []);
      await resume(work);
      const after = await haul(store, feed, ({ gone, deliveries }) => before.gone + gone > 1 && deliveries.length > 2);
      deepEqual([before.gone + after.gone, attemptsOf(after.deliveries)], [2, ["c", "d", "e"]]);
    },
  },
];

export const pauseCases: readonly ContractCase[] = [...pausing, ...goingOn, ...meanwhile];
