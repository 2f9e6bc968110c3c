/** Retention by age: what is dropped, by appends and by asking, and what a group keeps. */

import { deepEqual, equal, notEqual, ok } from "node:assert/strict";
import type { Retention } from "../core/backend.js";
import { SignalboxError } from "../core/errors.js";
import type { ContractCase, ContractStore } from "./contract.js";
import {
  ack,
  attemptsOf,
  collect,
  collectOne,
  entry,
  first,
  haul,
  quiet,
  ROOMY,
  rejectsWith,
  retry,
  settled,
  take,
  textsOf,
} from "./fixtures.js";
import { startGroup } from "./log-group.js";

const AGE_MS = 1_000;
const REJECT: Retention = { maxEntries: 100, maxAgeMs: AGE_MS, overflow: "reject" };
const BLOCK: Retention = { ...REJECT, overflow: "block" };
const DROP: Retention = { ...REJECT, overflow: "drop-oldest" };

/** What is there becomes too old. */
function age(store: ContractStore): Promise<void> {
  return store.elapse(AGE_MS + 100);
}

const appending: readonly ContractCase[] = [
  {
    title: "log: without groups, what is older than maxAgeMs is dropped when more is appended",
    run: async (store) => {
      const { log } = store.backend;
      for (const retention of [REJECT, DROP]) {
        const stream = store.name();
        await log.append(stream, ["a", "b"].map(entry), retention);
        await log.append(stream, [entry("c")], retention);
        deepEqual(textsOf(await log.read(stream, { max: 10 })), ["a", "b", "c"]);
        await age(store);
        await log.append(stream, [entry("d")], retention);
        deepEqual(textsOf(await log.read(stream, { max: 10 })), ["d"], retention.overflow);
      }
    },
  },
  {
    title: "log: age drops what every group has finished, and nothing that is young",
    run: async (store) => {
      const work = await startGroup(store);
      const feed = await work.open();
      await work.appendWithin(REJECT, "a", "b");
      await settled(feed, ...(await collect(store, feed, 2)).map(ack));
      await age(store);
      await work.appendWithin(REJECT, "c");
      deepEqual(await work.texts(), ["c"]);
      deepEqual(await work.counts(), { lag: 1, pending: 0, retrying: 0, held: 0, dead: 0 });
      const found = await haul(store, feed, ({ deliveries }) => deliveries.length > 0);
      deepEqual([attemptsOf(found.deliveries), found.gone], [["c"], 0]);
    },
  },
  {
    title: "log: an append is refused, as long as it is so, while a group has not finished what is too old",
    run: async (store) => {
      for (const retention of [REJECT, BLOCK]) {
        const work = await startGroup(store);
        const expectRefused = async (): Promise<void> => {
          for (let tries = 0; tries < 2; tries += 1) {
            const error = await work.appendWithin(retention, "new").catch((thrown: unknown) => thrown);
            ok(error instanceof SignalboxError && error.code === "LIMIT", `it is refused: ${String(error)}`);
            ok(error.message.includes(`"${work.group}"`), `it names the group: ${error.message}`);
          }
          deepEqual(await work.texts(), ["a", "b"]);
        };
        await work.appendWithin(retention, "a", "b");
        await age(store);
        await expectRefused();
        const feed = await work.open();
        const [a, b] = await collect(store, feed, 2);
        ok(a && b);
        await expectRefused();
        await settled(feed, retry(a, 60_000), ack(b));
        await expectRefused();
        await work.log.seek(work.stream, work.group, "new");
        await work.appendWithin(retention, "new");
        deepEqual(await work.texts(), ["new"]);
        deepEqual(textsOf(await collect(store, feed, 1)), ["new"]);
      }
    },
  },
  {
    title: "log: drop-oldest drops what is too old in front of a group, which counts it",
    run: async (store) => {
      const work = await startGroup(store);
      const feed = await work.open();
      await work.appendWithin(DROP, "a", "b", "c");
      const a = first((await take(feed, 1)).deliveries);
      await age(store);
      await work.appendWithin(DROP, "d");
      deepEqual(await work.texts(), ["d"]);
      equal((await work.counts()).lag, 1);
      const found = await haul(store, feed, ({ gone, deliveries }) => gone > 1 && deliveries.length > 0);
      deepEqual([found.gone, attemptsOf(found.deliveries)], [2, ["d"]]);
      await settled(feed, ack(a));
      await quiet(store, feed);
    },
  },
  {
    title: "log: a stored maxAgeMs goes before what an append says",
    run: async (store) => {
      const { log } = store.backend;
      const [aging, lasting] = [store.name(), store.name()];
      await log.configure(aging, REJECT);
      await log.configure(lasting, ROOMY);
      await log.append(aging, [entry("a")], ROOMY);
      await log.append(lasting, [entry("a")], REJECT);
      await age(store);
      await log.append(aging, [entry("b")], ROOMY);
      await log.append(lasting, [entry("b")], REJECT);
      deepEqual(textsOf(await log.read(aging, { max: 10 })), ["b"]);
      deepEqual(textsOf(await log.read(lasting, { max: 10 })), ["a", "b"]);
    },
  },
];

const trimming: readonly ContractCase[] = [
  {
    title: "log: a trim drops what is older than the stored maxAgeMs, and says how much",
    run: async (store) => {
      const { log } = store.backend;
      const stream = store.name();
      await log.configure(stream, REJECT);
      const [earlier] = await log.append(stream, ["a", "b", "c"].map(entry), ROOMY);
      ok(earlier);
      equal(await log.trim(stream), 0);
      await age(store);
      equal(await (await store.second()).log.trim(stream), 3);
      deepEqual(await log.read(stream, { max: 10 }), []);
      equal((await log.stats(stream)).length, 0);
      equal(await log.trim(stream), 0);
      // A stream that is empty now goes on where it was.
      const [later] = await log.append(stream, [entry("d")], ROOMY);
      ok(later);
      notEqual(later.position, earlier.position);
      deepEqual(textsOf(await log.read(stream, { max: 10, after: earlier.position })), ["d"]);
    },
  },
  {
    title: "log: a trim keeps what a group has not finished, unless it may drop that",
    run: async (store) => {
      const work = await startGroup(store);
      await work.log.configure(work.stream, REJECT);
      await work.append("a", "b", "c");
      const feed = await work.open();
      await settled(feed, ack(await collectOne(store, feed)));
      await age(store);
      equal(await work.log.trim(work.stream), 1);
      deepEqual(await work.texts(), ["b", "c"]);
      const loose = await startGroup(store);
      await loose.log.configure(loose.stream, DROP);
      await loose.append("a", "b", "c");
      await age(store);
      equal(await loose.log.trim(loose.stream), 3);
      const consumer = await loose.open();
      const found = await haul(store, consumer, ({ gone }) => gone > 2);
      deepEqual([found.gone, found.deliveries, (await loose.counts()).lag], [3, [], 0]);
    },
  },
  {
    title: "log: a trim of a stream without a stored age drops nothing",
    run: async (store) => {
      const { log } = store.backend;
      const [plain, stored] = [store.name(), store.name()];
      await log.configure(stored, { maxEntries: 2, overflow: "drop-oldest" });
      for (const stream of [plain, stored]) {
        await log.append(stream, ["a", "b"].map(entry), REJECT);
      }
      await age(store);
      for (const stream of [plain, stored, store.name()]) equal(await log.trim(stream), 0);
      deepEqual(textsOf(await log.read(plain, { max: 10 })), ["a", "b"]);
      await rejectsWith("NOT_FOUND", () => log.pause(plain, "nobody"));
    },
  },
];

export const ageCases: readonly ContractCase[] = [...appending, ...trimming];
