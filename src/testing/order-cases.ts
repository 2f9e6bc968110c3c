/** Order by key: at most one delivery of a key is on its way in a group, and a key's entries come in order. */

import { deepEqual, equal, ok } from "node:assert/strict";
import type { Delivery, Feed, Retention } from "../core/backend.js";
import type { ContractCase, ContractStore } from "./contract.js";
import {
  ack,
  attemptsOf,
  collect,
  collectAfter,
  collectOne,
  deadLetter,
  defer,
  type Haul,
  haul,
  numbered,
  quiet,
  rejectsWith,
  retry,
  SHORT_LEASE_MS,
  settle,
  settled,
  textsOf,
} from "./fixtures.js";
import { startGroup } from "./log-group.js";
import { eventually, within } from "./waiting.js";

const OUTLIVED_MS = SHORT_LEASE_MS + 100;

async function sorted(store: ContractStore, feed: Feed, count: number): Promise<Delivery[]> {
  const deliveries = await collect(store, feed, count);
  return deliveries.toSorted((a, b) =>
    textsOf([a])
      .join()
      .localeCompare(textsOf([b]).join()),
  );
}

const busy: readonly ContractCase[] = [
  {
    title: "log: [E17] with order by key nothing of a key is delivered while another of it is leased, in any process",
    run: async (store) => {
      const group = await startGroup(store, { order: "key" });
      await group.append("a:1", "a:2", "b:1", "b:2", "a:3");
      const one = await group.open();
      const other = await group.open(await store.second());
      const [a1, b1] = await sorted(store, one, 2);
      ok(a1 && b1);
      deepEqual(attemptsOf([a1, b1]), ["a:1", "b:1"]);
      await quiet(store, one);
      await quiet(store, other, 300);
      await settled(one, ack(a1));
      const a2 = await collectOne(store, other);
      deepEqual(attemptsOf([a2]), ["a:2"]);
      await quiet(store, one);
      await settled(one, ack(b1));
      deepEqual(attemptsOf(await collect(store, one, 1)), ["b:2"]);
      await settled(other, ack(a2));
      deepEqual(attemptsOf(await collect(store, one, 1)), ["a:3"]);
      await quiet(store, other);
    },
  },
  {
    title: "log: with order by key a take gives one of each key at most, and entries without a key freely",
    run: async (store) => {
      const group = await startGroup(store, { order: "key" });
      await group.append("a:1", "x", "a:2", "b:1", "y", "b:2", "c:1", "z");
      const feed = await group.open();
      const deliveries = await collect(store, feed, 6);
      deepEqual(textsOf(deliveries).toSorted(), ["a:1", "b:1", "c:1", "x", "y", "z"]);
      await quiet(store, feed);
      await eventually(store, async () => (await group.counts()).held === 2, "two are held");
      deepEqual(await group.counts(), { lag: 2, pending: 6, retrying: 0, held: 2, dead: 0 });
      await settled(feed, ...deliveries.map(ack));
      const rest = await sorted(store, feed, 2);
      deepEqual(attemptsOf(rest), ["a:2", "b:2"]);
      await settled(feed, ...rest.map(ack));
      deepEqual(await group.counts(), { lag: 0, pending: 0, retrying: 0, held: 0, dead: 0 });
    },
  },
  {
    title: "log: with order by key a retry keeps its key, at once or delayed, counted or not",
    run: async (store) => {
      const group = await startGroup(store, { order: "key" });
      await group.append("a:1", "a:2");
      const one = await group.open();
      const other = await group.open(await store.second());
      await settled(one, retry(await collectOne(store, one)));
      const second = await collectOne(store, other);
      deepEqual(attemptsOf([second]), ["a:1#2"]);
      await settled(other, defer(second));
      const again = await collectOne(store, one);
      deepEqual(attemptsOf([again]), ["a:1#2"]);
      const since = await store.now();
      await settled(one, retry(again, 400));
      const third = await collectAfter(store, other, since, 400);
      deepEqual(attemptsOf([third]), ["a:1#3"]);
      await quiet(store, one);
      await settled(other, ack(third));
      deepEqual(attemptsOf(await collect(store, one, 1)), ["a:2"]);
    },
  },
  {
    title: "log: with order by key a delayed retry keeps back its own key and no other",
    run: async (store) => {
      const group = await startGroup(store, { order: "key" });
      await group.append("a:1", "a:2", "b:1");
      const feed = await group.open();
      const [a1] = await sorted(store, feed, 2);
      ok(a1);
      await settled(feed, retry(a1, 60_000));
      await group.append("a:3", "c:1", "x");
      deepEqual(attemptsOf(await sorted(store, feed, 2)), ["c:1", "x"]);
      await quiet(store, feed, 300);
      await quiet(store, await group.open(await store.second()));
      const { retrying, lag } = await group.counts();
      deepEqual([retrying, lag], [1, 2]);
    },
  },
  {
    title: "log: with order by key an abandoned delivery keeps its key, and comes before the rest of it",
    run: async (store) => {
      const group = await startGroup(store, { order: "key", leaseMs: SHORT_LEASE_MS });
      await group.append("a:1", "a:2");
      const late = await group.open(await store.second());
      const lost = await collectOne(store, late);
      await store.elapse(OUTLIVED_MS);
      const feed = await group.open();
      const delivery = await collectOne(store, feed);
      deepEqual(attemptsOf([delivery]), ["a:1#2"]);
      // What comes too late frees nothing.
      deepEqual(await settle(late, ack(lost)), [lost.receipt]);
      await quiet(store, feed);
      await settled(feed, ack(delivery));
      deepEqual(attemptsOf(await collect(store, feed, 1)), ["a:2"]);
    },
  },
  {
    title: "log: with order by key, closing a consumer gives back and keeps the order",
    run: async (store) => {
      const group = await startGroup(store, { order: "key" });
      await group.append("a:1", "b:1", "a:2", "b:2");
      const backend = await store.second();
      const closing = await group.open(backend);
      await collect(store, closing, 2);
      await quiet(store, closing);
      await closing.close();
      const feed = await group.open();
      const [a1, b1] = await sorted(store, feed, 2);
      ok(a1 && b1);
      deepEqual(attemptsOf([a1, b1]), ["a:1", "b:1"]);
      await quiet(store, feed);
      // What the closed one had read past is everybody's.
      await backend.close();
      await settled(feed, ack(a1), ack(b1));
      deepEqual(attemptsOf(await sorted(store, feed, 2)), ["a:2", "b:2"]);
    },
  },
];

const free: readonly ContractCase[] = [
  {
    title: "log: with order by key a dead letter frees its key, as an acknowledgement does",
    run: async (store) => {
      const group = await startGroup(store, { order: "key" });
      await group.append("a:1", "a:2", "a:3");
      const feed = await group.open();
      await settled(feed, deadLetter(await collectOne(store, feed)));
      const a2 = await collectOne(store, feed);
      deepEqual(attemptsOf([a2]), ["a:2"]);
      const { deliveries, lost } = await feed.take({ max: 5, waitMs: 0 }, [ack(a2)]);
      deepEqual(lost, []);
      deepEqual(attemptsOf(deliveries.length > 0 ? deliveries : await collect(store, feed, 1)), ["a:3"]);
    },
  },
  {
    title: "log: with order by key what is abandoned out of attempts frees its key",
    run: async (store) => {
      const group = await startGroup(store, { order: "key", leaseMs: SHORT_LEASE_MS, maxAttempts: 1 });
      await group.append("a:1", "a:2");
      await collectOne(store, await group.open());
      await store.elapse(OUTLIVED_MS);
      const feed = await group.open();
      const found = await haul(store, feed, ({ poisoned, deliveries }) => poisoned > 0 && deliveries.length > 0);
      deepEqual([found.poisoned, attemptsOf(found.deliveries)], [1, ["a:2"]]);
    },
  },
  {
    title: "log: with order by key a take that waits is woken when a key becomes free in another process",
    run: async (store) => {
      const group = await startGroup(store, { order: "key" });
      await group.append("a:1", "a:2");
      const one = await group.open();
      const a1 = await collectOne(store, one);
      const waiting = (await group.open(await store.second())).take({ max: 5, waitMs: 20_000 }, []);
      await settled(one, ack(a1));
      deepEqual(attemptsOf((await within(store, waiting)).deliveries), ["a:2"]);
    },
  },
  {
    title: "log: with order by key a retry whose entry was removed is gone, and frees its key",
    run: async (store) => {
      const five: Retention = { maxEntries: 5, overflow: "reject" };
      const group = await startGroup(store, { order: "key" });
      await group.appendWithin(five, "a:1", "a:2", "x", "y", "z");
      const feed = await group.open();
      const [a1, ...others] = await sorted(store, feed, 4);
      ok(a1);
      await settled(feed, retry(a1, 200), ...others.map(ack));
      await group.appendWithin({ ...five, overflow: "drop-oldest" }, "w");
      const found = await haul(store, feed, ({ gone, deliveries }) => gone > 0 && deliveries.length > 1);
      deepEqual([found.gone, attemptsOf(found.deliveries).toSorted()], [1, ["a:2", "w"]]);
    },
  },
  {
    title: "log: a held entry that was removed is gone, and the next of its key takes its turn",
    run: async (store) => {
      const five: Retention = { maxEntries: 5, overflow: "reject" };
      const group = await startGroup(store, { order: "key" });
      await group.appendWithin(five, "a:1", "a:2", "a:3", "x", "y");
      const feed = await group.open();
      const [a1] = await sorted(store, feed, 3);
      ok(a1);
      await eventually(
        store,
        async () => {
          await quiet(store, feed);
          return (await group.counts()).held === 2;
        },
        "two are held",
      );
      await group.appendWithin({ ...five, overflow: "drop-oldest" }, "v", "w");
      const first = await feed.take({ max: 0, waitMs: 0 }, [ack(a1)]);
      deepEqual(first.lost, []);
      const isAll = ({ gone, deliveries }: Haul): boolean => first.gone + gone > 0 && deliveries.length > 2;
      const found = await haul(store, feed, isAll);
      deepEqual([first.gone + found.gone, attemptsOf(found.deliveries).toSorted()], [1, ["a:3", "v", "w"]]);
      deepEqual(await group.counts(), { lag: 0, pending: 5, retrying: 0, held: 0, dead: 0 });
    },
  },
];

const held: readonly ContractCase[] = [
  {
    title: "log: no more than maxHeld are held back; then nothing new is read until one is free",
    run: async (store) => {
      const group = await startGroup(store, { order: "key", maxHeld: 3 });
      await group.append("a:1", "a:2", "a:3", "a:4", "a:5", "a:6", "b:1");
      const feed = await group.open();
      const seen: string[] = [];
      for (let round = 1; round <= 6; round += 1) {
        const deliveries = await collect(store, feed, round === 4 ? 2 : 1);
        seen.push(...attemptsOf(deliveries));
        await quiet(store, feed);
        const { held: heldBack } = await group.counts();
        ok(heldBack <= 3, `${heldBack} are held`);
        await settled(feed, ...deliveries.map(ack));
      }
      // While three are held the entry of the other key is out of reach, though its key is free.
      ok(seen.indexOf("b:1") > seen.indexOf("a:3"), seen.join());
      deepEqual(
        seen.filter((text) => text !== "b:1"),
        numbered("a:", 6),
      );
      deepEqual(await group.counts(), { lag: 0, pending: 0, retrying: 0, held: 0, dead: 0 });
    },
  },
  {
    title: "log: retries and abandoned deliveries come though maxHeld is reached",
    run: async (store) => {
      const group = await startGroup(store, { order: "key", maxHeld: 1, leaseMs: SHORT_LEASE_MS });
      await group.append("a:1", "b:1", "a:2", "c:1");
      const feed = await group.open();
      const [a1, b1] = await sorted(store, feed, 2);
      ok(a1 && b1);
      await quiet(store, feed);
      await settled(feed, retry(b1));
      const b1again = await collectOne(store, feed);
      deepEqual(attemptsOf([b1again]), ["b:1#2"]);
      await settled(feed, ack(b1again));
      await store.elapse(OUTLIVED_MS);
      const a1again = await collectOne(store, feed);
      deepEqual(attemptsOf([a1again]), ["a:1#2"]);
      await quiet(store, feed);
      await settled(feed, ack(a1again));
      deepEqual(attemptsOf(await sorted(store, feed, 2)), ["a:2", "c:1"]);
    },
  },
  {
    title: "log: entries that are held back, or whose turn it is, are kept like unread ones",
    run: async (store) => {
      const three: Retention = { maxEntries: 3, overflow: "reject" };
      const group = await startGroup(store, { order: "key" });
      await group.appendWithin(three, "a:1", "a:2", "x");
      const feed = await group.open();
      const [a1, x] = await sorted(store, feed, 2);
      ok(a1 && x);
      await quiet(store, feed);
      await settled(feed, ack(x));
      await rejectsWith("LIMIT", () => group.appendWithin(three, "y"), "while one is held");
      await settled(feed, ack(a1));
      await group.appendWithin(three, "y");
      await rejectsWith("LIMIT", () => group.appendWithin(three, "z"), "while it is its turn");
      deepEqual(await group.texts(), ["a:2", "x", "y"]);
      deepEqual(attemptsOf(await sorted(store, feed, 2)), ["a:2", "y"]);
    },
  },
  {
    title: "log: keys keep order apart for each group, and groups without order take no notice",
    run: async (store) => {
      const one = await startGroup(store, { order: "key" });
      const other = await startGroup(store, { order: "key" }, one.stream);
      const free = await startGroup(store, {}, one.stream);
      await one.append("a:1", "a:2");
      const feed = await one.open();
      const [a1] = await collect(store, feed, 1);
      ok(a1);
      deepEqual(attemptsOf(await collect(store, await free.open(), 2)), ["a:1", "a:2"]);
      deepEqual(attemptsOf(await collect(store, await other.open(), 1)), ["a:1"]);
      await settled(feed, ack(a1));
      deepEqual(attemptsOf(await collect(store, feed, 1)), ["a:2"]);
      await quiet(store, await other.open());
    },
  },
  {
    title: "log: keys may be any text, and never run together",
    run: async (store) => {
      const group = await startGroup(store, { order: "key" });
      const keys = ["a", "A", "a b", "a|b", "{a}", "%3A", "0", "1 2", "__proto__", "constructor", "é", "e\u0301", "😀"];
      const entries = ["1", "2"].flatMap((turn) => keys.map((key) => ({ header: key, data: turn, key })));
      await group.log.append(group.stream, entries, { maxEntries: 1_000, overflow: "reject" });
      const feed = await group.open();
      const deliveries = await collect(store, feed, keys.length);
      deepEqual(new Set(textsOf(deliveries)), new Set(["1"]));
      await quiet(store, feed);
      for (const delivery of deliveries) {
        await settled(feed, ack(delivery));
        const next = await collectOne(store, feed);
        deepEqual([next.header, ...textsOf([next])], [delivery.header, "2"]);
      }
      equal((await group.counts()).held, 0);
    },
  },
];

export const orderCases: readonly ContractCase[] = [...busy, ...free, ...held];
