/** What changes of a group after it was made: its settings, or that it exists. */

import { deepEqual, equal, ok } from "node:assert/strict";
import type { DeadLetters, GroupChanges, GroupSettings } from "../core/backend.js";
import { SignalboxError } from "../core/errors.js";
import type { ContractCase } from "./contract.js";
import {
  ack,
  allLetters,
  attemptsOf,
  collect,
  collectOne,
  deadLetter,
  first,
  GROUP,
  haul,
  LONG_LEASE_MS,
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
import { startGroup } from "./log-group.js";
import { aMoment, within } from "./waiting.js";

const OUTLIVED_MS = SHORT_LEASE_MS + 100;

const configuring: readonly ContractCase[] = [
  {
    title: "log: a group's settings can be changed, each by itself, and are told from then on",
    run: async (store) => {
      const work = await startGroup(store);
      const { log, stream, group } = work;
      const second = await store.second();
      const expected = { ...GROUP };
      const changes: GroupChanges[] = [
        { leaseMs: 12_345 },
        { maxAttempts: 9, maxDeadLetters: 8 },
        { order: "key", maxHeld: 7 },
        { types: ["order.created"] },
        {},
      ];
      for (const change of changes) {
        Object.assign(expected, change);
        deepEqual(await second.log.configureGroup(stream, group, change), expected);
        deepEqual(await log.createGroup(stream, group, GROUP), expected);
        deepEqual((await work.stats()).settings, expected);
      }
    },
  },
  {
    title: "log: a changed lease holds for what is taken afterwards, and what is out keeps the lease it has",
    run: async (store) => {
      const work = await startGroup(store);
      const { log, stream, group } = work;
      await work.append("long", "short", "new");
      const feed = await work.open();
      const long = await collectOne(store, feed);
      await log.configureGroup(stream, group, { leaseMs: SHORT_LEASE_MS });
      await collectOne(store, feed);
      await store.elapse(OUTLIVED_MS);
      const other = await work.open(await store.second());
      deepEqual(attemptsOf(await collect(store, other, 2)).toSorted(), ["new", "short#2"]);
      await log.configureGroup(stream, group, { leaseMs: LONG_LEASE_MS });
      await store.elapse(OUTLIVED_MS);
      deepEqual(attemptsOf(await collect(store, feed, 2)).toSorted(), ["new#2", "short#3"]);
      await store.elapse(OUTLIVED_MS);
      await quiet(store, other);
      await settled(feed, ack(long));
    },
  },
  {
    title: "log: a changed number of attempts or dead letters holds for consumers that are open, in any process",
    run: async (store) => {
      const work = await startGroup(store, { leaseMs: SHORT_LEASE_MS });
      const { stream, group } = work;
      await work.append(...numbered("e", 4));
      const feed = await work.open();
      const deliveries = await collect(store, feed, 4);
      await settled(feed, ...deliveries.slice(0, 3).map((delivery) => deadLetter(delivery)));
      await (await store.second()).log.configureGroup(stream, group, { maxAttempts: 1, maxDeadLetters: 2 });
      await store.elapse(OUTLIVED_MS);
      const found = await haul(store, feed, ({ poisoned }) => poisoned > 0);
      deepEqual([found.poisoned, found.deliveries], [1, []]);
      deepEqual(textsOf(await allLetters(work.letters())), ["e3", "e4"]);
    },
  },
  {
    title: "log: order changes only while nothing is leased, waits for its retry or is held, else nothing changes",
    run: async (store) => {
      const work = await startGroup(store);
      const { log, stream, group } = work;
      const toKey = (): Promise<unknown> => log.configureGroup(stream, group, { order: "key", maxAttempts: 2 });
      await work.append("a:1", "a:2");
      const feed = await work.open();
      const a1 = first((await take(feed, 1)).deliveries);
      await rejectsWith("CONFIG", toKey, "while one is leased");
      await settled(feed, retry(a1, 200));
      await rejectsWith("CONFIG", toKey, "while one waits for its retry");
      deepEqual((await work.stats()).settings, GROUP);
      // The order that it has is no change.
      equal((await log.configureGroup(stream, group, { order: "none", maxAttempts: 4 })).maxAttempts, 4);
      const { deliveries } = await haul(store, feed, (sum) => sum.deliveries.length > 1);
      deepEqual(attemptsOf(deliveries).toSorted(), ["a:1#2", "a:2"]);
      await settled(feed, ...deliveries.map((delivery) => deadLetter(delivery)));
      await toKey();
      // What is read from now on goes by its key, also what was there before, and for consumers that are open.
      await work.append("a:3", "a:4");
      const a3 = await collectOne(store, feed);
      await quiet(store, feed);
      await quiet(store, await work.open(await store.second()));
      await rejectsWith("CONFIG", () => log.configureGroup(stream, group, { order: "none" }), "while one is held");
      await settled(feed, ack(a3));
      deepEqual(attemptsOf(await collect(store, feed, 1)), ["a:4"]);
    },
  },
  {
    title: "log: the settings of a group that does not exist cannot be changed",
    run: async (store) => {
      const { log, stream } = await startGroup(store);
      await rejectsWith("NOT_FOUND", () => log.configureGroup(stream, store.name(), { maxAttempts: 2 }));
      await rejectsWith("NOT_FOUND", () => log.configureGroup(store.name(), store.name(), {}));
      equal((await log.stats(stream)).groups.length, 1);
    },
  },
];

/** Expects that letters that were listed once are gone in every way. */
async function expectNoLetters(letters: DeadLetters, ids: readonly string[]): Promise<void> {
  deepEqual(await allLetters(letters), []);
  for (const id of ids) equal(await letters.get(id), undefined);
  equal(await letters.redrive(ids), 0);
  equal(await letters.remove(ids), 0);
}

const deleting: readonly ContractCase[] = [
  {
    title: "log: a deleted group is gone with its dead letters, and deleting says whether there was one",
    run: async (store) => {
      const work = await startGroup(store);
      const other = await startGroup(store, {}, work.stream);
      const { log, stream, group } = work;
      await work.append("a", "b");
      const feed = await work.open();
      await settled(feed, deadLetter(first((await take(feed, 1)).deliveries)));
      const ids = (await allLetters(work.letters())).map(({ id }) => id);
      equal(ids.length, 1);
      equal(await (await store.second()).log.deleteGroup(stream, group), true);
      deepEqual(
        (await log.stats(stream)).groups.map((one) => one.group),
        [other.group],
      );
      await expectNoLetters(work.letters(), ids);
      equal(await log.deleteGroup(stream, group), false);
      equal(await log.deleteGroup(stream, store.name()), false);
      equal(await log.deleteGroup(store.name(), group), false);
      await rejectsWith("NOT_FOUND", () => log.open(stream, group, store.name()), "open");
      await rejectsWith("NOT_FOUND", () => log.pause(stream, group), "pause");
      await rejectsWith("NOT_FOUND", () => log.resume(stream, group), "resume");
      await rejectsWith("NOT_FOUND", () => log.seek(stream, group, "new"), "seek");
      await rejectsWith("NOT_FOUND", () => log.configureGroup(stream, group, {}), "configureGroup");
      deepEqual(attemptsOf(await collect(store, await other.open(), 2)), ["a", "b"]);
    },
  },
  {
    title: "log: consumers that are open on a group when it is deleted reject, and do not bring it back",
    run: async (store) => {
      const work = await startGroup(store);
      const { log, stream, group } = work;
      await work.append("a", "b");
      const feeds = [await work.open(), await work.open(await store.second())] as const;
      const held = first((await take(feeds[0], 1)).deliveries);
      await log.deleteGroup(stream, group);
      for (let round = 0; round < 2; round += 1) {
        for (const feed of feeds) await rejectsWith("NOT_FOUND", () => take(feed), "take");
        await rejectsWith("NOT_FOUND", () => feeds[0].take({ max: 0, waitMs: 0 }, [ack(held)]), "settling");
        await store.elapse(600);
        deepEqual((await log.stats(stream)).groups, []);
      }
      for (const feed of feeds) await feed.close();
      deepEqual((await log.stats(stream)).groups, []);
    },
  },
  {
    title: "log: a take that waits when its group is deleted rejects, in any process",
    run: async (store) => {
      const work = await startGroup(store);
      const feeds = [await work.open(), await work.open(await store.second())];
      const ended = feeds.map((feed) =>
        feed.take({ max: 5, waitMs: LONG_WAIT_MS }, []).then(
          () => undefined,
          (error: unknown) => error,
        ),
      );
      await aMoment();
      await work.log.deleteGroup(work.stream, work.group);
      for (const end of await within(store, Promise.all(ended))) {
        ok(end instanceof SignalboxError && end.code === "NOT_FOUND", String(end));
      }
      deepEqual((await work.log.stats(work.stream)).groups, []);
    },
  },
  {
    title: "log: a group that is made again after it was deleted is a new one",
    run: async (store) => {
      const work = await startGroup(store, { order: "key" });
      const { log, stream, group } = work;
      await work.append("a:1", "a:2", "b:1");
      const before = await work.open();
      const [a1, b1] = await collect(store, before, 2);
      ok(a1 && b1);
      await settled(before, retry(b1, 300));
      await log.pause(stream, group);
      await log.deleteGroup(stream, group);
      const settings: GroupSettings = { ...GROUP, maxAttempts: 9 };
      deepEqual(await log.createGroup(stream, group, settings), settings);
      deepEqual(await work.counts(), { lag: 3, pending: 0, retrying: 0, held: 0, dead: 0 });
      equal((await work.stats()).paused, false);
      const feed = await work.open(await store.second());
      const deliveries = await collect(store, feed, 3);
      deepEqual(attemptsOf(deliveries), ["a:1", "a:2", "b:1"]);
      // What a consumer of the old group still held settles nothing of the new one.
      const late = await before.take({ max: 0, waitMs: 0 }, [ack(a1)]).catch((error: unknown) => {
        ok(error instanceof SignalboxError && error.code === "NOT_FOUND", String(error));
        return { lost: [a1.receipt] };
      });
      deepEqual(late.lost, [a1.receipt]);
      await before.close();
      await quiet(store, feed, 500);
      await settled(feed, ...deliveries.map(ack));
    },
  },
  {
    title: "log: a deleted group keeps nothing in the stream any more",
    run: async (store) => {
      const three = { maxEntries: 3, overflow: "reject" } as const;
      const work = await startGroup(store);
      await work.appendWithin(three, "a", "b", "c");
      const [a] = await collect(store, await work.open(), 2);
      ok(a);
      await rejectsWith("LIMIT", () => work.appendWithin(three, "d"));
      await work.log.deleteGroup(work.stream, work.group);
      await work.appendWithin(three, "d", "e");
      deepEqual(await work.texts(), ["c", "d", "e"]);
    },
  },
];

export const groupChangeCases: readonly ContractCase[] = [...configuring, ...deleting];
