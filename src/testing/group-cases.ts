/** Groups of a log: where they start, what is stored with them, how they stay apart. */

import { deepEqual, equal, ok } from "node:assert/strict";
import type { GroupSettings, GroupStart, Log } from "../core/backend.js";
import type { ContractCase, ContractStore } from "./contract.js";
import {
  ack,
  allLetters,
  attemptsOf,
  collect,
  collectOne,
  countsOf,
  deadLetter,
  entry,
  first,
  GROUP,
  haul,
  quiet,
  ROOMY,
  rejectsWith,
  retry,
  SHORT_LEASE_MS,
  settle,
  settled,
  take,
  textsOf,
} from "./fixtures.js";

async function append(log: Log, stream: string, ...texts: readonly string[]): Promise<string[]> {
  return (await log.append(stream, texts.map(entry), ROOMY)).map(({ position }) => position);
}

/** What a new group that starts at `from` is given, when `count` deliveries are expected, and nothing else. */
async function startedAt(store: ContractStore, stream: string, from: GroupStart, count: number): Promise<string[]> {
  const { log } = store.backend;
  const group = store.name();
  await log.createGroup(stream, group, { ...GROUP, from });
  const { groups } = await log.stats(stream);
  equal(groups.find((one) => one.group === group)?.lag, count, `lag of a group from ${JSON.stringify(from)}`);
  const feed = await log.open(stream, group, store.name());
  const deliveries = await collect(store, feed, count);
  await quiet(store, feed);
  return textsOf(deliveries);
}

const creating: readonly ContractCase[] = [
  {
    title: "log: making a group gives back its settings, and making it again changes nothing",
    run: async (store) => {
      const { log } = store.backend;
      const stream = store.name();
      const made: GroupSettings = {
        from: "beginning",
        leaseMs: 12_345,
        maxAttempts: 7,
        maxDeadLetters: 9,
        order: "key",
        maxHeld: 11,
        types: ["order.created", "order.paid"],
      };
      const other: GroupSettings = { ...GROUP, from: "new", leaseMs: 54_321, maxAttempts: 1, order: "strict" };
      await append(log, stream, "a");
      deepEqual(await log.createGroup(stream, "group", made), made);
      deepEqual(await log.createGroup(stream, "group", made), made);
      deepEqual(await log.createGroup(stream, "group", other), made);
      deepEqual(await (await store.second()).log.createGroup(stream, "group", other), made);
      const { groups } = await log.stats(stream);
      deepEqual(groups.map(countsOf), [{ group: "group", lag: 1, pending: 0, retrying: 0, held: 0, dead: 0 }]);
      deepEqual(first(groups).settings, made);
    },
  },
  {
    title: "log: every kind of start is stored with its group",
    run: async (store) => {
      const { log } = store.backend;
      const stream = store.name();
      const [position = ""] = await append(log, stream, "a");
      const starts: GroupStart[] = [
        "beginning",
        "new",
        { after: position },
        { at: position },
        { time: 1_700_000_000_123 },
      ];
      for (const from of starts) {
        const group = store.name();
        deepEqual((await log.createGroup(stream, group, { ...GROUP, from })).from, from);
        deepEqual((await log.createGroup(stream, group, GROUP)).from, from);
      }
    },
  },
  {
    title: "log: of groups made at the same time by several backends, one set of settings holds",
    run: async (store) => {
      const logs = [store.backend.log, (await store.second()).log];
      const stream = store.name();
      const made = await Promise.all(
        [1, 2, 3, 4, 5, 6].map((maxAttempts) =>
          first(logs.slice(maxAttempts % 2)).createGroup(stream, "group", { ...GROUP, maxAttempts }),
        ),
      );
      for (const settings of made) deepEqual(settings, made[0]);
      deepEqual(await store.backend.log.createGroup(stream, "group", GROUP), made[0]);
    },
  },
  {
    title: "log: the settings that hold are those stored with the group",
    run: async (store) => {
      const { log } = store.backend;
      const stream = store.name();
      await log.createGroup(stream, "group", { ...GROUP, leaseMs: SHORT_LEASE_MS, maxAttempts: 1 });
      await log.createGroup(stream, "group", { ...GROUP, maxAttempts: 9 });
      await append(log, stream, "a");
      await collectOne(store, await log.open(stream, "group", store.name()));
      await store.elapse(SHORT_LEASE_MS + 100);
      const other = await (await store.second()).log.open(stream, "group", store.name());
      const found = await haul(store, other, ({ poisoned }) => poisoned > 0);
      deepEqual([found.poisoned, found.deliveries.length], [1, 0]);
    },
  },
];

const starting: readonly ContractCase[] = [
  {
    title: "log: a group from the beginning is given what was there and what comes",
    run: async (store) => {
      const { log } = store.backend;
      const stream = store.name();
      await append(log, stream, "a", "b");
      await log.createGroup(stream, "group", { ...GROUP, from: "beginning" });
      await append(log, stream, "c");
      const feed = await log.open(stream, "group", store.name());
      deepEqual(attemptsOf(await collect(store, feed, 3)), ["a", "b", "c"]);
    },
  },
  {
    title: "log: a group from new is given what comes after it was made",
    run: async (store) => {
      const { log } = store.backend;
      const stream = store.name();
      await append(log, stream, "a", "b");
      await log.createGroup(stream, "group", { ...GROUP, from: "new" });
      await append(log, stream, "c");
      const feed = await log.open(stream, "group", store.name());
      deepEqual(attemptsOf(await collect(store, feed, 1)), ["c"]);
      await quiet(store, feed);
    },
  },
  {
    title: "log: a group may be made before its stream, from anywhere",
    run: async (store) => {
      const { log } = store.backend;
      for (const from of ["beginning", "new", { time: 0 }] as const) {
        const stream = store.name();
        await log.createGroup(stream, "group", { ...GROUP, from });
        const feed = await log.open(stream, "group", store.name());
        await quiet(store, feed);
        await append(log, stream, "a");
        deepEqual(attemptsOf(await collect(store, feed, 1)), ["a"], JSON.stringify(from));
      }
    },
  },
  {
    title: "log: [E9] a group may start at any position, or behind it",
    run: async (store) => {
      const { log } = store.backend;
      const stream = store.name();
      const [a = "", b = "", c = ""] = await append(log, stream, "a", "b", "c");
      deepEqual(await startedAt(store, stream, { after: a }, 2), ["b", "c"]);
      deepEqual(await startedAt(store, stream, { after: b }, 1), ["c"]);
      deepEqual(await startedAt(store, stream, { after: c }, 0), []);
      deepEqual(await startedAt(store, stream, { at: a }, 3), ["a", "b", "c"]);
      deepEqual(await startedAt(store, stream, { at: c }, 1), ["c"]);
      // The position's entry need not be there any more.
      await log.append(stream, ["d", "e"].map(entry), { maxEntries: 2, overflow: "drop-oldest" });
      deepEqual(await startedAt(store, stream, { after: a }, 2), ["d", "e"]);
      deepEqual(await startedAt(store, stream, { at: b }, 2), ["d", "e"]);
    },
  },
  {
    title: "log: a group cannot start at what is no position, and is not made",
    run: async (store) => {
      const { log } = store.backend;
      const stream = store.name();
      await append(log, stream, "a");
      for (const from of [{ after: "nonsense" }, { at: "nonsense" }, { at: "" }]) {
        await rejectsWith(
          "NOT_FOUND",
          () => log.createGroup(stream, "group", { ...GROUP, from }),
          JSON.stringify(from),
        );
      }
      deepEqual((await log.stats(stream)).groups, []);
      await rejectsWith("NOT_FOUND", () => log.open(stream, "group", store.name()));
    },
  },
  {
    title: "log: a group may start at a time of the store's clock",
    run: async (store) => {
      const { log } = store.backend;
      const stream = store.name();
      const start = await store.now();
      await append(log, stream, "a");
      await store.elapse(50);
      const between = await store.now();
      await store.elapse(50);
      await append(log, stream, "b");
      await store.elapse(50);
      deepEqual(await startedAt(store, stream, { time: 0 }, 2), ["a", "b"]);
      deepEqual(await startedAt(store, stream, { time: start }, 2), ["a", "b"]);
      deepEqual(await startedAt(store, stream, { time: between }, 1), ["b"]);
      deepEqual(await startedAt(store, stream, { time: await store.now() }, 0), []);
    },
  },
  {
    title: "log: a group that starts at a time to come is not given what is appended before",
    run: async (store) => {
      const { log } = store.backend;
      const stream = store.name();
      const time = (await store.now()) + 3_000;
      await log.createGroup(stream, "group", { ...GROUP, from: { time } });
      const feed = await log.open(stream, "group", store.name());
      await append(log, stream, "early");
      await quiet(store, feed);
      await store.elapse(time - (await store.now()) + 50);
      await append(log, stream, "late");
      deepEqual(attemptsOf(await collect(store, feed, 1)), ["late"]);
      await quiet(store, feed);
    },
  },
];

const apart: readonly ContractCase[] = [
  {
    title: "log: each group is given every entry, and what one does concerns no other",
    run: async (store) => {
      const { log } = store.backend;
      const stream = store.name();
      for (const group of ["one", "two"]) await log.createGroup(stream, group, GROUP);
      await append(log, stream, "a", "b", "c");
      const one = await log.open(stream, "one", "same-name");
      const two = await log.open(stream, "two", "same-name");
      const [a, b, c] = await collect(store, one, 3);
      ok(a && b && c);
      await settled(one, ack(a), deadLetter(b), retry(c, 60_000));
      deepEqual(attemptsOf(await collect(store, two, 3)), ["a", "b", "c"]);
      const groups = (await log.stats(stream)).groups.toSorted((x, y) => x.group.localeCompare(y.group));
      deepEqual(groups.map(countsOf), [
        { group: "one", lag: 0, pending: 0, retrying: 1, held: 0, dead: 1 },
        { group: "two", lag: 0, pending: 3, retrying: 0, held: 0, dead: 0 },
      ]);
      deepEqual(textsOf(await allLetters(log.deadLetters(stream, "one"))), ["b"]);
      deepEqual(await allLetters(log.deadLetters(stream, "two")), []);
    },
  },
  {
    title: "log: a receipt means nothing to another group",
    run: async (store) => {
      const { log } = store.backend;
      const stream = store.name();
      for (const group of ["one", "two"]) await log.createGroup(stream, group, GROUP);
      await append(log, stream, "a", "b");
      const one = await log.open(stream, "one", store.name());
      const [a, b] = await collect(store, one, 2);
      ok(a && b);
      await settled(one, retry(b));
      const [b2] = await collect(store, one, 1);
      ok(b2 && b2.attempt === 2);
      const two = await log.open(stream, "two", store.name());
      deepEqual(attemptsOf(await collect(store, two, 1)), ["a"]);
      deepEqual(await settle(two, ack(b2)), [b2.receipt]);
      deepEqual(attemptsOf(await collect(store, two, 1)), ["b"]);
      await settled(one, ack(a), ack(b2));
    },
  },
  {
    title: "log: [E11] unfinished deliveries come before new ones: due retries, then abandoned ones",
    run: async (store) => {
      const { log } = store.backend;
      const stream = store.name();
      await log.createGroup(stream, "group", { ...GROUP, leaseMs: SHORT_LEASE_MS });
      await append(log, stream, "abandoned", "retried");
      const crashed = await log.open(stream, "group", store.name());
      const [, retried] = await collect(store, crashed, 2);
      ok(retried);
      await settled(crashed, retry(retried, SHORT_LEASE_MS));
      await store.elapse(SHORT_LEASE_MS + 200);
      await append(log, stream, "new1", "new2");
      const feed = await (await store.second()).log.open(stream, "group", store.name());
      const { deliveries } = await take(feed, 2);
      deepEqual(attemptsOf(deliveries).toSorted(), ["abandoned#2", "retried#2"]);
      deepEqual(attemptsOf(await collect(store, feed, 2)), ["new1", "new2"]);
    },
  },
  {
    title: "log: consumers of one group are told apart by their names alone",
    run: async (store) => {
      const { log } = store.backend;
      const stream = store.name();
      await log.createGroup(stream, "group", GROUP);
      await append(log, stream, "a", "b");
      const names = ["consumer", "consumer:1", "consumer%3A1", "Consumer"];
      const feeds = await Promise.all(names.map((name) => log.open(stream, "group", name)));
      const taken = await Promise.all(feeds.map((feed) => take(feed, 1)));
      deepEqual(attemptsOf(taken.flatMap(({ deliveries }) => deliveries)).toSorted(), ["a", "b"]);
      // Closing one gives back what it holds, and nothing of the others'.
      for (const feed of feeds.slice(1)) await feed.close();
      const { deliveries } = first(taken);
      await settled(first(feeds), ...deliveries.map(ack));
      const rest = await collect(store, first(feeds), 2 - deliveries.length);
      equal(rest.length + deliveries.length, 2);
    },
  },
];

export const groupCases: readonly ContractCase[] = [...creating, ...starting, ...apart];
