/** What stats tell of a stream and its groups: places, sizes, exact lags, and how long something has been waiting. */

import { deepEqual, equal, ok } from "node:assert/strict";
import type { Entry } from "../core/backend.js";
import type { ContractCase, ContractStore } from "./contract.js";
import {
  ack,
  collect,
  countsOf,
  deadLetter,
  entry,
  first,
  haul,
  numbered,
  quiet,
  ROOMY,
  retry,
  SHORT_LEASE_MS,
  settled,
  take,
} from "./fixtures.js";
import { type LogGroup, startGroup } from "./log-group.js";

const streams: readonly ContractCase[] = [
  {
    title: "log: stats tell a stream's length, its oldest and newest entry, and when they were counted",
    run: async (store) => {
      const { log } = store.backend;
      const stream = store.name();
      const expectEnds = async (entries: readonly Entry[]): Promise<void> => {
        const before = await store.now();
        const stats = await log.stats(stream);
        const after = await store.now();
        ok(stats.at >= before && stats.at <= after, `counted at ${stats.at}, between ${before} and ${after}`);
        const [oldest, newest] = [entries[0], entries.at(-1)];
        equal(stats.length, entries.length);
        deepEqual(stats.oldest, oldest && { position: oldest.position, at: oldest.at });
        deepEqual(stats.newest, newest && { position: newest.position, at: newest.at });
      };
      const entriesNow = (): Promise<readonly Entry[]> => log.read(stream, { max: 100 });
      await log.append(stream, [entry("a")], ROOMY);
      await expectEnds(await entriesNow());
      await store.elapse(20);
      await log.append(stream, ["b", "c"].map(entry), ROOMY);
      const three = await entriesNow();
      equal(three.length, 3);
      await expectEnds(three);
      await store.elapse(20);
      await log.append(stream, ["d"].map(entry), { maxEntries: 2, overflow: "drop-oldest" });
      await expectEnds(await entriesNow());
      equal((await entriesNow()).length, 2);
    },
  },
  {
    title: "log: the bytes of a stream, where they are told, grow with what is stored",
    run: async (store) => {
      const { log } = store.backend;
      const stream = store.name();
      const bytes = async (): Promise<number | undefined> => (await log.stats(stream)).bytes;
      await log.append(stream, [entry("a")], ROOMY);
      const before = await bytes();
      await log.append(
        stream,
        Array.from({ length: 100 }, () => ({ header: "h", data: "x".repeat(1_000) })),
        ROOMY,
      );
      const after = await bytes();
      equal(before === undefined, after === undefined);
      if (before !== undefined && after !== undefined) {
        ok(before > 0 && after >= before + 50_000, `${before} bytes, and then ${after}`);
      }
      equal((await log.stats(stream)).length, 101);
    },
  },
];

const lags: readonly ContractCase[] = [
  {
    title: "log: a lag is exact, also where entries have been trimmed or dropped behind, at or before the cursor",
    run: async (store) => {
      const five = { maxEntries: 5, overflow: "drop-oldest" } as const;
      const work = await startGroup(store);
      const idle = await startGroup(store, {}, work.stream);
      const late = await startGroup(store, { from: "new" }, work.stream);
      const feed = await work.open();
      const lagsNow = async (): Promise<number[]> =>
        Promise.all([work, idle, late].map(async (one) => (await one.counts()).lag));
      await work.appendWithin(five, ...numbered("a", 5));
      deepEqual(await lagsNow(), [5, 5, 5]);
      await settled(feed, ...(await collect(store, feed, 3)).map(ack));
      deepEqual(await lagsNow(), [2, 5, 5]);
      // Two before the cursor go.
      await work.appendWithin(five, ...numbered("b", 2));
      deepEqual(await lagsNow(), [4, 5, 5]);
      // All that it had not read goes, and some that were never read by anybody.
      await work.appendWithin(five, ...numbered("c", 5));
      await work.appendWithin(five, ...numbered("d", 3));
      deepEqual(await lagsNow(), [5, 5, 5]);
      const found = await haul(store, feed, ({ gone, deliveries }) => gone > 6 && deliveries.length > 4);
      equal(found.gone, 7);
      deepEqual(await lagsNow(), [0, 5, 5]);
      const made = await startGroup(store, {}, work.stream);
      equal((await made.counts()).lag, 5);
      await work.append("e");
      deepEqual([...(await lagsNow()), (await made.counts()).lag], [1, 6, 6, 6]);
    },
  },
  {
    title: "log: [E29] each count of a group is told apart: what it lags, leases, retries, holds back and has given up",
    run: async (store) => {
      const work = await startGroup(store, { order: "key" });
      deepEqual(await work.counts(), { lag: 0, pending: 0, retrying: 0, held: 0, dead: 0 });
      await work.append("a:1", "a:2", "a:3", "b:1", "c:1", "d:1");
      deepEqual(await work.counts(), { lag: 6, pending: 0, retrying: 0, held: 0, dead: 0 });
      const feed = await work.open();
      const [, b1, c1, d1] = await collect(store, feed, 4);
      ok(b1 && c1 && d1);
      await quiet(store, feed);
      await settled(feed, retry(b1, 60_000), deadLetter(c1), ack(d1));
      await work.append("e:1");
      const expected = { group: work.group, lag: 3, pending: 1, retrying: 1, held: 2, dead: 1 };
      deepEqual(countsOf(await work.stats()), expected);
      const elsewhere = (await (await store.second()).log.stats(work.stream)).groups;
      deepEqual(elsewhere.map(countsOf), [expected]);
    },
  },
];

/** When the oldest entry that the group has not finished was appended, as its stats tell, and as the stream has it. */
async function expectOldest(work: LogGroup, text: string | undefined, when: string): Promise<void> {
  const read = await work.log.read(work.stream, { max: 100 });
  const texts = await work.texts();
  const expected = text === undefined ? undefined : read[texts.indexOf(text)]?.at;
  equal((await work.stats()).oldestUnhandledAt, expected, when);
}

async function appendApart(store: ContractStore, work: LogGroup, ...texts: readonly string[]): Promise<void> {
  for (const text of texts) {
    await work.append(text);
    await store.elapse(20);
  }
}

const waiting: readonly ContractCase[] = [
  {
    title: "log: stats tell since when the oldest entry waits that a group has not finished, wherever it is",
    run: async (store) => {
      const work = await startGroup(store, { order: "key" });
      await expectOldest(work, undefined, "of nothing");
      await appendApart(store, work, "a:1", "b:1", "a:2", "c:1");
      await expectOldest(work, "a:1", "never delivered");
      const feed = await work.open();
      const [a1, b1, c1] = await collect(store, feed, 3);
      ok(a1 && b1 && c1);
      await expectOldest(work, "a:1", "leased");
      await settled(feed, retry(a1, 60_000), ack(b1));
      await expectOldest(work, "a:1", "waiting for its retry");
      await work.log.pause(work.stream, work.group);
      await expectOldest(work, "a:1", "paused");
      await work.log.resume(work.stream, work.group);
      await work.log.seek(work.stream, work.group, "new");
      await expectOldest(work, undefined, "sought to the end");
      await work.log.seek(work.stream, work.group, "beginning");
      const [again, b1again] = await collect(store, feed, 3);
      ok(again && b1again);
      await quiet(store, feed);
      await settled(feed, ack(again));
      await expectOldest(work, "b:1", "leased before one that is held no more");
      await settled(feed, deadLetter(b1again));
      await expectOldest(work, "a:2", "free, and not taken yet");
      await settled(feed, ...(await collect(store, feed, 1)).map(ack));
      await expectOldest(work, "c:1", "the last that is leased");
    },
  },
  {
    title: "log: nothing waits once a group has finished all, by acknowledgement or dead letter",
    run: async (store) => {
      const work = await startGroup(store);
      await work.append("a", "b");
      const feed = await work.open();
      const [a, b] = await collect(store, feed, 2);
      ok(a && b);
      await settled(feed, ack(b));
      await expectOldest(work, "a", "leased");
      await settled(feed, deadLetter(a));
      await expectOldest(work, undefined, "finished");
      await work.append("c");
      await expectOldest(work, "c", "new");
    },
  },
  {
    title: "log: stats tell when a group last took or settled something, or was made",
    run: async (store) => {
      const before = await store.now();
      const work = await startGroup(store, { leaseMs: SHORT_LEASE_MS });
      const progress = async (): Promise<number> => (await work.stats()).lastProgressAt;
      const made = await progress();
      ok(made >= before && made <= (await store.now()), `made at ${made}`);
      await store.elapse(20);
      const feed = await work.open();
      await quiet(store, feed);
      await work.append("a");
      equal(await progress(), made, "a take that finds nothing is no progress");
      /** Time passes, then `step` is taken; expects progress during it. */
      const expectProgress = async (what: string, step: () => Promise<unknown>): Promise<void> => {
        await store.elapse(20);
        const since = await store.now();
        await step();
        const at = await progress();
        ok(at >= since && at <= (await store.now()), `${what}: progress at ${at}, and not before ${since}`);
      };
      await expectProgress("taking", () => collect(store, feed, 1));
      const last = await progress();
      await store.elapse(SHORT_LEASE_MS + 100);
      equal(await progress(), last, "that time passes is no progress");
      const [delivery] = await collect(store, feed, 1);
      ok(delivery);
      await expectProgress("retrying", () => settled(feed, retry(delivery)));
      const again = first(await collect(store, feed, 1));
      await expectProgress("acknowledging", () => settled(feed, ack(again)));
      const end = await progress();
      await store.elapse(20);
      await quiet(store, feed);
      const { lost } = await feed.take({ max: 5, waitMs: 0 }, [ack(again)]);
      deepEqual([lost, await progress()], [[again.receipt], end]);
      await take(feed);
    },
  },
];

export const logStatsCases: readonly ContractCase[] = [...streams, ...lags, ...waiting];
