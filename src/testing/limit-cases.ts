/** Limits that are stored with a stream, and what a full stream says. */

import { deepEqual, equal, ok } from "node:assert/strict";
import type { Retention } from "../core/backend.js";
import { SignalboxError } from "../core/errors.js";
import type { ContractCase } from "./contract.js";
import {
  ack,
  collect,
  entry,
  first,
  GROUP,
  haul,
  numbered,
  ROOMY,
  rejectsWith,
  settled,
  take,
  textsOf,
} from "./fixtures.js";
import { startGroup } from "./log-group.js";

const THREE: Retention = { maxEntries: 3, overflow: "reject" };

/** The error that a call is refused with. */
async function refusal(call: () => Promise<unknown>): Promise<SignalboxError> {
  const error = await call().then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  ok(error instanceof SignalboxError && error.code === "LIMIT", `it is refused: ${String(error)}`);
  return error;
}

const stored: readonly ContractCase[] = [
  {
    title: "log: limits are stored with their stream once, and whoever comes later is told what is stored",
    run: async (store) => {
      const { log } = store.backend;
      const second = await store.second();
      const all: Retention[] = [
        { maxEntries: 7, overflow: "reject" },
        { maxEntries: 8, maxAgeMs: 60_000, overflow: "drop-oldest" },
        { maxEntries: 9, maxAgeMs: 1_234, overflow: "block" },
      ];
      for (const retention of all) {
        const stream = store.name();
        equal((await log.stats(stream)).retention, undefined);
        deepEqual(await log.configure(stream, retention), retention);
        for (const other of all) deepEqual(await second.log.configure(stream, other), retention);
        deepEqual((await second.log.stats(stream)).retention, retention);
        equal((await log.stats(stream)).length, 0);
      }
    },
  },
  {
    title: "log: of limits stored at the same time by several backends, one set holds",
    run: async (store) => {
      const logs = [store.backend.log, (await store.second()).log];
      const stream = store.name();
      const told = await Promise.all(
        [1, 2, 3, 4, 5, 6].map((maxEntries) =>
          first(logs.slice(maxEntries % 2)).configure(stream, { maxEntries, overflow: "reject" }),
        ),
      );
      for (const retention of told) deepEqual(retention, told[0]);
      deepEqual((await store.backend.log.stats(stream)).retention, told[0]);
    },
  },
  {
    title: "log: stored limits go before what an append says, also for streams that are there already",
    run: async (store) => {
      const second = await store.second();
      const work = await startGroup(store);
      await work.append("a", "b");
      await work.log.configure(work.stream, THREE);
      await work.append("c");
      await rejectsWith("LIMIT", () => work.append("d"));
      await rejectsWith("LIMIT", () => second.log.append(work.stream, [entry("d")], ROOMY));
      await rejectsWith("LIMIT", () => work.appendWithin({ maxEntries: 3, overflow: "drop-oldest" }, "d"));
      deepEqual(await work.texts(), ["a", "b", "c"]);
      const roomy = await startGroup(store);
      await roomy.log.configure(roomy.stream, ROOMY);
      await roomy.appendWithin(THREE, ...numbered("e", 5));
      await roomy.appendWithin(THREE, "f");
      equal((await roomy.texts()).length, 6);
    },
  },
  {
    title: "log: limits belong to their stream and namespace",
    run: async (store) => {
      const { log } = store.backend;
      const elsewhere = (await store.second({ namespace: "other" })).log;
      const stream = store.name();
      await log.configure(stream, THREE);
      equal((await log.stats(store.name())).retention, undefined);
      equal((await elsewhere.stats(stream)).retention, undefined);
      deepEqual(await elsewhere.configure(stream, ROOMY), ROOMY);
      deepEqual((await log.stats(stream)).retention, THREE);
    },
  },
];

const changed: readonly ContractCase[] = [
  {
    title: "log: stored limits can be changed, and hold from the next append",
    run: async (store) => {
      const second = await store.second();
      const work = await startGroup(store);
      const { log, stream } = work;
      await log.configure(stream, THREE);
      await work.append("a", "b", "c");
      await refusal(() => work.append("d"));
      deepEqual(await second.log.changeRetention(stream, { maxEntries: 4 }, ROOMY), { ...THREE, maxEntries: 4 });
      await work.append("d");
      const { message } = await refusal(() => second.log.append(stream, [entry("e")], ROOMY));
      ok(message.includes("4"), message);
      const loose: Retention = { maxEntries: 4, overflow: "drop-oldest" };
      deepEqual(await log.changeRetention(stream, { overflow: "drop-oldest" }, ROOMY), loose);
      await second.log.append(stream, [entry("e")], ROOMY);
      deepEqual(await work.texts(), ["b", "c", "d", "e"]);
      deepEqual(await second.log.configure(stream, ROOMY), loose);
      // Nothing goes by the change itself.
      await log.changeRetention(stream, { maxEntries: 2 }, ROOMY);
      deepEqual(await work.texts(), ["b", "c", "d", "e"]);
      await work.append("f");
      deepEqual(await work.texts(), ["e", "f"]);
      deepEqual((await second.log.stats(stream)).retention, { maxEntries: 2, overflow: "drop-oldest" });
      const feed = await work.open();
      const { gone, deliveries } = await haul(store, feed, (found) => found.gone > 3 && found.deliveries.length > 1);
      deepEqual([gone, textsOf(deliveries)], [4, ["e", "f"]]);
    },
  },
  {
    title: "log: an age can be set and taken away again",
    run: async (store) => {
      const { log } = store.backend;
      const stream = store.name();
      const texts = async (): Promise<readonly string[]> => textsOf(await log.read(stream, { max: 10 }));
      await log.append(stream, [entry("a")], ROOMY);
      const aging = { ...ROOMY, maxAgeMs: 1_000 };
      deepEqual(await log.changeRetention(stream, { maxAgeMs: 1_000 }, ROOMY), aging);
      await store.elapse(1_100);
      await log.append(stream, [entry("b")], ROOMY);
      deepEqual(await texts(), ["b"]);
      deepEqual(await log.changeRetention(stream, { overflow: "reject" }, THREE), aging);
      deepEqual(await log.changeRetention(stream, { maxAgeMs: null }, THREE), ROOMY);
      await store.elapse(1_100);
      await log.append(stream, [entry("c")], ROOMY);
      equal(await log.trim(stream), 0);
      deepEqual(await texts(), ["b", "c"]);
    },
  },
  {
    title: "log: limits changed at the same time by several backends are all changed",
    run: async (store) => {
      const logs = [store.backend.log, (await store.second()).log];
      const stream = store.name();
      const changes = [{ maxEntries: 7 }, { maxAgeMs: 60_000 }, { overflow: "block" }] as const;
      await Promise.all(
        changes.map((change, index) => first(logs.slice(index % 2)).changeRetention(stream, change, ROOMY)),
      );
      const all: Retention = { maxEntries: 7, maxAgeMs: 60_000, overflow: "block" };
      deepEqual((await store.backend.log.stats(stream)).retention, all);
    },
  },
];

const full: readonly ContractCase[] = [
  {
    title: "log: where the publisher would wait for room, a full stream refuses as well, and takes it once there is",
    run: async (store) => {
      const block: Retention = { maxEntries: 3, overflow: "block" };
      const work = await startGroup(store);
      await work.appendWithin(block, "a", "b", "c");
      await refusal(() => work.appendWithin(block, "d"));
      deepEqual(await work.texts(), ["a", "b", "c"]);
      const feed = await work.open();
      await settled(feed, ...(await collect(store, feed, 1)).slice(0, 1).map(ack));
      await work.appendWithin(block, "d");
      deepEqual(await work.texts(), ["b", "c", "d"]);
    },
  },
  {
    title: "log: [E18] a full stream names the group that is furthest behind",
    run: async (store) => {
      const { log } = store.backend;
      const stream = store.name();
      for (const group of ["fast", "the-slow-one", "middling"]) await log.createGroup(stream, group, GROUP);
      await log.append(stream, ["a", "b", "c"].map(entry), THREE);
      const expectNamed = async (group: string): Promise<void> => {
        const { message } = await refusal(() => log.append(stream, [entry("d")], THREE));
        ok(message.includes(`"${group}"`), `it names ${group}: ${message}`);
        ok(message.includes(stream) && message.includes("3"), message);
      };
      const [fast, slow, middling] = [
        await log.open(stream, "fast", store.name()),
        await log.open(stream, "the-slow-one", store.name()),
        await log.open(stream, "middling", store.name()),
      ];
      const all = await collect(store, fast, 3);
      await settled(fast, ...all.map(ack));
      await settled(middling, ...(await collect(store, middling, 2)).map(ack));
      await expectNamed("the-slow-one");
      await settled(slow, ...(await collect(store, slow, 3)).map(ack));
      // A cursor at the end is no help while the oldest is still leased.
      await log.createGroup(stream, "again", GROUP);
      const again = await log.open(stream, "again", store.name());
      const leased = await collect(store, again, 3);
      await expectNamed("again");
      await settled(again, ...leased.slice(0, 2).map(ack));
      await log.append(stream, [entry("d")], THREE);
    },
  },
  {
    title: "log: a group that was made later is furthest behind when it has to read the oldest",
    run: async (store) => {
      const work = await startGroup(store);
      await work.appendWithin(THREE, "a", "b", "c");
      const feed = await work.open();
      await settled(feed, ...(await take(feed, 3)).deliveries.map(ack));
      await work.log.createGroup(work.stream, "latecomer", GROUP);
      const { message } = await refusal(() => work.appendWithin(THREE, "d"));
      ok(message.includes('"latecomer"'), message);
      await work.log.deleteGroup(work.stream, "latecomer");
      await work.appendWithin(THREE, "d");
      deepEqual(textsOf(await collect(store, feed, 1)), ["d"]);
    },
  },
];

export const limitCases: readonly ContractCase[] = [...stored, ...changed, ...full];
