/** Seeking: where a group goes on, and what it leaves behind. */

import { deepEqual, equal, ok } from "node:assert/strict";
import type { GroupStart } from "../core/backend.js";
import type { ContractCase, ContractStore } from "./contract.js";
import {
  ack,
  allLetters,
  attemptsOf,
  collect,
  collectOne,
  deadLetter,
  haul,
  LONG_WAIT_MS,
  numbered,
  quiet,
  rejectsWith,
  retry,
  SHORT_LEASE_MS,
  settle,
  settled,
  take,
  textsOf,
} from "./fixtures.js";
import { type LogGroup, startGroup } from "./log-group.js";
import { aMoment, within } from "./waiting.js";

const OUTLIVED_MS = SHORT_LEASE_MS + 100;

/** Seeks, and expects the group to be given these and nothing else, each as its first attempt; all are acknowledged. */
async function expectFrom(
  store: ContractStore,
  work: LogGroup,
  to: GroupStart,
  texts: readonly string[],
): Promise<void> {
  const { log, stream, group } = work;
  await log.seek(stream, group, to);
  const what = `after a seek to ${JSON.stringify(to)}`;
  deepEqual(await work.counts(), { lag: texts.length, pending: 0, retrying: 0, held: 0, dead: 0 }, what);
  const feed = await work.open();
  const deliveries = await collect(store, feed, texts.length);
  deepEqual(attemptsOf(deliveries), texts, what);
  await quiet(store, feed);
  await settled(feed, ...deliveries.map(ack));
  await feed.close();
}

const places: readonly ContractCase[] = [
  {
    title: "log: a group seeks to the beginning, the end, a position or behind it, and each entry comes anew",
    run: async (store) => {
      const work = await startGroup(store);
      const texts = numbered("e", 5);
      const [p1, , p3, , p5] = await work.append(...texts);
      ok(p1 && p3 && p5);
      const feed = await work.open();
      await settled(feed, ...(await collect(store, feed, 5)).map(ack));
      await feed.close();
      await expectFrom(store, work, "beginning", texts);
      await expectFrom(store, work, { at: p3 }, ["e3", "e4", "e5"]);
      await expectFrom(store, work, { after: p3 }, ["e4", "e5"]);
      await expectFrom(store, work, { after: p5 }, []);
      await expectFrom(store, work, { at: p1 }, texts);
      await expectFrom(store, work, "new", []);
      await work.append("e6");
      await expectFrom(store, work, { at: p5 }, ["e5", "e6"]);
    },
  },
  {
    title: "log: a group seeks to a time of the store's clock",
    run: async (store) => {
      const work = await startGroup(store);
      await work.append("a");
      await store.elapse(50);
      const between = await store.now();
      await store.elapse(50);
      await work.append("b", "c");
      await store.elapse(50);
      await expectFrom(store, work, { time: between }, ["b", "c"]);
      await expectFrom(store, work, { time: 0 }, ["a", "b", "c"]);
      await expectFrom(store, work, { time: await store.now() }, []);
      await work.append("d");
      await expectFrom(store, work, { time: between }, ["b", "c", "d"]);
    },
  },
  {
    title: "log: a group that seeks to a time to come is not given what is appended before",
    run: async (store) => {
      const work = await startGroup(store);
      await work.append("a");
      const time = (await store.now()) + 3_000;
      await work.log.seek(work.stream, work.group, { time });
      const feed = await work.open();
      await work.append("early");
      await quiet(store, feed);
      await store.elapse(time - (await store.now()) + 50);
      await work.append("late");
      deepEqual(attemptsOf(await collect(store, feed, 1)), ["late"]);
      await quiet(store, feed);
      // Where it starts is asked anew each time.
      await work.log.seek(work.stream, work.group, "beginning");
      deepEqual(attemptsOf(await collect(store, feed, 3)), ["a", "early", "late"]);
    },
  },
  {
    title: "log: a seek to a position whose entry is gone goes to the next that is there",
    run: async (store) => {
      const work = await startGroup(store, { from: "new" });
      const [p1 = ""] = await work.append("a", "b", "c");
      const feed = await work.open();
      await settled(feed, ...(await collect(store, feed, 3)).map(ack));
      await work.appendWithin({ maxEntries: 3, overflow: "reject" }, "d", "e");
      await settled(feed, ...(await collect(store, feed, 2)).map(ack));
      for (const to of [{ at: p1 }, { after: p1 }, "beginning"] as const) {
        await expectFrom(store, work, to, ["c", "d", "e"]);
      }
    },
  },
  {
    title: "log: a seek of no group, or to no position, changes nothing",
    run: async (store) => {
      const work = await startGroup(store);
      const { log, stream, group } = work;
      await work.append("a", "b");
      const feed = await work.open();
      const a = (await take(feed, 1)).deliveries[0];
      ok(a);
      await rejectsWith("NOT_FOUND", () => log.seek(stream, group, { at: "nonsense" }));
      await rejectsWith("NOT_FOUND", () => log.seek(stream, group, { after: "" }));
      await rejectsWith("NOT_FOUND", () => log.seek(stream, store.name(), "beginning"));
      await rejectsWith("NOT_FOUND", () => log.seek(store.name(), group, "beginning"));
      await settled(feed, ack(a));
      deepEqual(attemptsOf(await collect(store, feed, 1)), ["b"]);
    },
  },
];

const leaving: readonly ContractCase[] = [
  {
    title: "log: a seek drops what is leased, waits for its retry or is held, and keeps dead letters",
    run: async (store) => {
      const work = await startGroup(store, { order: "key" });
      await work.append("a:1", "a:2", "b:1", "c:1", "d:1");
      const feed = await work.open();
      const [, b1, c1] = await collect(store, feed, 4);
      ok(b1 && c1);
      await settled(feed, retry(b1, 200), deadLetter(c1));
      await quiet(store, feed);
      await work.log.seek(work.stream, work.group, "new");
      deepEqual(await work.counts(), { lag: 0, pending: 0, retrying: 0, held: 0, dead: 1 });
      await quiet(store, feed, 500);
      deepEqual(textsOf(await allLetters(work.letters())), ["c:1"]);
      await work.append("a:3");
      deepEqual(attemptsOf(await collect(store, feed, 1)), ["a:3"]);
    },
  },
  {
    title: "log: receipts from before a seek are worthless for ever, even when the same entry is delivered again",
    run: async (store) => {
      const work = await startGroup(store);
      await work.append("a", "b", "c");
      const before = await work.open();
      const old = await collect(store, before, 3);
      await settled(before, retry(old[2] as (typeof old)[number]));
      const second = await collectOne(store, before);
      const { log, stream, group } = work;
      const expectWorthless = async (): Promise<void> => {
        const receipts = [...old, second].map(({ receipt }) => receipt);
        deepEqual([...(await before.extend(receipts))].toSorted(), receipts.toSorted());
        for (const outcome of [ack, retry, deadLetter]) {
          const lost = await settle(before, ...[...old, second].map((delivery) => outcome(delivery)));
          deepEqual([...lost].toSorted(), receipts.toSorted(), outcome.name);
        }
      };
      const after = await work.open(await store.second());
      for (let seeks = 0; seeks < 2; seeks += 1) {
        await log.seek(stream, group, "beginning");
        await expectWorthless();
        const deliveries = await collect(store, after, 3);
        deepEqual(attemptsOf(deliveries), ["a", "b", "c"]);
        await expectWorthless();
        // Retried as often as before the seek, so that a count of attempts alone would not tell the receipts apart.
        await settled(after, retry(deliveries[2] as (typeof deliveries)[number]));
        deepEqual(attemptsOf(await collect(store, after, 1)), ["c#2"]);
        await expectWorthless();
        deepEqual(await work.counts(), { lag: 0, pending: 3, retrying: 0, held: 0, dead: 0 });
      }
    },
  },
  {
    title: "log: a consumer that held deliveries before a seek neither gives them back nor abandons them",
    run: async (store) => {
      const work = await startGroup(store, { leaseMs: SHORT_LEASE_MS });
      await work.append("a", "b");
      const [closing, dying] = [await work.open(), await work.open()];
      for (const feed of [closing, dying]) equal((await take(feed, 1)).deliveries.length, 1);
      await work.log.seek(work.stream, work.group, "new");
      await closing.close();
      const feed = await work.open(await store.second());
      const found = await haul(store, feed, () => false, { limitMs: OUTLIVED_MS });
      deepEqual([attemptsOf(found.deliveries), found.gone, found.poisoned], [[], 0, 0]);
    },
  },
  {
    title: "log: after a seek each key is free, and what came before frees nothing",
    run: async (store) => {
      const work = await startGroup(store, { order: "key" });
      await work.append("a:1", "a:2", "b:1");
      const before = await work.open();
      const [a1, b1] = await collect(store, before, 2);
      ok(a1 && b1);
      await settled(before, retry(b1, 60_000));
      await work.log.seek(work.stream, work.group, "beginning");
      const feed = await work.open(await store.second());
      const [a1again] = await collect(store, feed, 2);
      ok(a1again);
      deepEqual(attemptsOf([a1again]), ["a:1"]);
      deepEqual(await settle(before, ack(a1)), [a1.receipt]);
      await before.close();
      await quiet(store, feed);
      await settled(feed, ack(a1again));
      deepEqual(attemptsOf(await collect(store, feed, 1)), ["a:2"]);
    },
  },
];

const going: readonly ContractCase[] = [
  {
    title: "log: consumers that are open go on from where their group was sought to, also one that waits",
    run: async (store) => {
      const work = await startGroup(store);
      await work.append("a", "b");
      const waiting = await work.open(await store.second());
      await settled(waiting, ...(await collect(store, waiting, 2)).map(ack));
      const taken = waiting.take({ max: 5, waitMs: LONG_WAIT_MS }, []);
      taken.catch(() => {});
      await aMoment();
      await work.log.seek(work.stream, work.group, "beginning");
      deepEqual(attemptsOf((await within(store, taken)).deliveries), ["a", "b"]);
      await work.append("c");
      deepEqual(attemptsOf(await collect(store, waiting, 1)), ["c"]);
    },
  },
  {
    title: "log: a seek changes what a stream has to keep for the group",
    run: async (store) => {
      const three = { maxEntries: 3, overflow: "reject" } as const;
      const work = await startGroup(store);
      const { log, stream, group } = work;
      await work.appendWithin(three, "a", "b", "c");
      await rejectsWith("LIMIT", () => work.appendWithin(three, "d"));
      await log.seek(stream, group, "new");
      await work.appendWithin(three, "d");
      deepEqual(await work.texts(), ["b", "c", "d"]);
      await log.seek(stream, group, "beginning");
      await rejectsWith("LIMIT", () => work.appendWithin(three, "e"));
      deepEqual(textsOf(await collect(store, await work.open(), 3)), ["b", "c", "d"]);
    },
  },
  {
    title: "log: a seek concerns its own group alone, and leaves its settings as they are",
    run: async (store) => {
      const work = await startGroup(store, { maxAttempts: 7 });
      const other = await startGroup(store, {}, work.stream);
      await work.append("a", "b");
      const feed = await other.open();
      const deliveries = await collect(store, feed, 2);
      await work.log.seek(work.stream, work.group, "new");
      const { settings } = await work.stats();
      deepEqual([settings.from, settings.maxAttempts], ["beginning", 7]);
      deepEqual(await other.counts(), { lag: 0, pending: 2, retrying: 0, held: 0, dead: 0 });
      await settled(feed, ...deliveries.map(ack));
      await quiet(store, await work.open());
    },
  },
];

export const seekCases: readonly ContractCase[] = [...places, ...leaving, ...going];
