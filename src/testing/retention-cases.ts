/** How long a stream may grow: what is trimmed, what is refused, what groups are told. */

import { deepEqual, equal, notEqual, ok } from "node:assert/strict";
import type { Feed, GroupSettings, Log, Retention } from "../core/backend.js";
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
  type GroupCounts,
  haul,
  numbered,
  quiet,
  rejectsWith,
  retry,
  SHORT_LEASE_MS,
  settled,
  textsOf,
} from "./fixtures.js";

const REJECT: Retention = { maxEntries: 5, overflow: "reject" };
const DROP: Retention = { maxEntries: 5, overflow: "drop-oldest" };

/** A stream that may hold five entries, holds `a` to `e`, and has one group that has read nothing. */
interface Full {
  readonly stream: string;
  readonly group: string;
  readonly positions: readonly string[];
  open(): Promise<Feed>;
  append(retention: Retention, ...texts: readonly string[]): Promise<void>;
  texts(): Promise<string[]>;
  counts(): Promise<GroupCounts>;
}

async function startFull(store: ContractStore, settings: Partial<GroupSettings> = {}): Promise<Full> {
  const { log } = store.backend;
  const [stream, group] = [store.name(), store.name()];
  await log.createGroup(stream, group, { ...GROUP, ...settings });
  const appended = await log.append(stream, ["a", "b", "c", "d", "e"].map(entry), REJECT);
  return {
    stream,
    group,
    positions: appended.map(({ position }) => position),
    open: () => log.open(stream, group, store.name()),
    append: async (retention, ...texts) => void (await log.append(stream, texts.map(entry), retention)),
    texts: () => readAll(log, stream),
    counts: async () => countsOf(first((await log.stats(stream)).groups)),
  };
}

async function readAll(log: Log, stream: string): Promise<string[]> {
  return textsOf(await log.read(stream, { max: 1_000 }));
}

const withoutGroups: readonly ContractCase[] = [
  {
    title: "log: without groups the oldest entries make room, whichever overflow is asked for",
    run: async (store) => {
      const { log } = store.backend;
      for (const retention of [REJECT, DROP]) {
        const stream = store.name();
        for (const text of numbered("e", 12)) await log.append(stream, [entry(text)], retention);
        deepEqual(await readAll(log, stream), ["e8", "e9", "e10", "e11", "e12"], retention.overflow);
        equal((await log.stats(stream)).length, 5);
      }
    },
  },
  {
    title: "log: more than a stream could ever hold is refused, and nothing is dropped for it",
    run: async (store) => {
      const { log } = store.backend;
      const stream = store.name();
      await log.append(stream, ["a", "b"].map(entry), REJECT);
      await rejectsWith("LIMIT", () => log.append(stream, numbered("e", 6).map(entry), REJECT));
      deepEqual(await readAll(log, stream), ["a", "b"]);
    },
  },
  {
    title: "log: with drop-oldest one append may be more than the stream holds, and the next makes it short again",
    run: async (store) => {
      const { log } = store.backend;
      const stream = store.name();
      await log.append(stream, ["a", "b"].map(entry), DROP);
      await log.append(stream, numbered("e", 8).map(entry), DROP);
      deepEqual(await readAll(log, stream), numbered("e", 8));
      await log.append(stream, [entry("last")], DROP);
      deepEqual(await readAll(log, stream), ["e5", "e6", "e7", "e8", "last"]);
    },
  },
  {
    title: "log: a position is never given again, also after everything else was trimmed",
    run: async (store) => {
      const { log } = store.backend;
      const stream = store.name();
      const positions: string[] = [];
      const one: Retention = { maxEntries: 1, overflow: "drop-oldest" };
      for (const text of numbered("e", 15)) {
        positions.push(first(await log.append(stream, [entry(text)], one)).position);
      }
      equal(new Set(positions).size, 15);
      deepEqual(await readAll(log, stream), ["e15"]);
      const [earliest] = positions;
      const latest = positions.at(-1);
      ok(earliest !== undefined && latest !== undefined);
      // Positions of entries that are gone still say where reading goes on.
      deepEqual(textsOf(await log.read(stream, { max: 10, after: earliest })), ["e15"]);
      deepEqual(textsOf(await log.read(stream, { max: 10, from: earliest })), ["e15"]);
      deepEqual(textsOf(await log.read(stream, { max: 10, after: latest })), []);
    },
  },
];

const rejecting: readonly ContractCase[] = [
  {
    title: "log: an append to a full stream is refused while a group has to read the oldest entry",
    run: async (store) => {
      const full = await startFull(store);
      await rejectsWith("LIMIT", () => full.append(REJECT, "f"));
      deepEqual(await full.texts(), ["a", "b", "c", "d", "e"]);
      const feed = await full.open();
      deepEqual(textsOf(await collect(store, feed, 5)), ["a", "b", "c", "d", "e"]);
    },
  },
  {
    title: "log: entries that are leased, or wait for their retry, are kept like unread ones",
    run: async (store) => {
      const full = await startFull(store);
      const feed = await full.open();
      const [a, b, c] = await collect(store, feed, 3);
      ok(a && b && c);
      await settled(feed, retry(a, 60_000), ack(b));
      await rejectsWith("LIMIT", () => full.append(REJECT, "f"));
      await settled(feed, ack(c));
      await rejectsWith("LIMIT", () => full.append(REJECT, "f"));
      deepEqual(await full.texts(), ["a", "b", "c", "d", "e"]);
      deepEqual(await full.counts(), { group: full.group, lag: 2, pending: 0, retrying: 1, held: 0, dead: 0 });
    },
  },
  {
    title: "log: entries that every group has finished make room, by acknowledgement or dead letter",
    run: async (store) => {
      const full = await startFull(store);
      const feed = await full.open();
      const [a, b] = await collect(store, feed, 2);
      ok(a && b);
      await settled(feed, ack(a), deadLetter(b));
      await full.append(REJECT, "f", "g");
      deepEqual(await full.texts(), ["c", "d", "e", "f", "g"]);
      await rejectsWith("LIMIT", () => full.append(REJECT, "h"));
      deepEqual(await full.counts(), { group: full.group, lag: 5, pending: 0, retrying: 0, held: 0, dead: 1 });
      deepEqual(textsOf(await collect(store, feed, 5)), ["c", "d", "e", "f", "g"]);
      // A dead letter outlives its entry.
      const letters = store.backend.log.deadLetters(full.stream, full.group);
      deepEqual(textsOf(await allLetters(letters)), ["b"]);
    },
  },
  {
    title: "log: the slowest of several groups decides what is kept",
    run: async (store) => {
      const { log } = store.backend;
      const full = await startFull(store);
      await log.createGroup(full.stream, "slow", GROUP);
      const fast = await full.open();
      await settled(fast, ...(await collect(store, fast, 5)).map(ack));
      await rejectsWith("LIMIT", () => full.append(REJECT, "f"));
      const slow = await log.open(full.stream, "slow", store.name());
      await settled(slow, ...(await collect(store, slow, 2)).map(ack));
      await full.append(REJECT, "f", "g");
      await rejectsWith("LIMIT", () => full.append(REJECT, "h"));
      deepEqual(textsOf(await collect(store, slow, 5)), ["c", "d", "e", "f", "g"]);
      deepEqual(textsOf(await collect(store, fast, 2)), ["f", "g"]);
    },
  },
  {
    title: "log: a group that starts behind the oldest entries does not keep them",
    run: async (store) => {
      const { log } = store.backend;
      const stream = store.name();
      await log.append(stream, ["a", "b", "c", "d", "e"].map(entry), REJECT);
      await log.createGroup(stream, "new", { ...GROUP, from: "new" });
      await log.append(stream, ["f", "g"].map(entry), REJECT);
      deepEqual(await readAll(log, stream), ["c", "d", "e", "f", "g"]);
      await log.append(stream, ["h", "i", "j"].map(entry), REJECT);
      await rejectsWith("LIMIT", () => log.append(stream, [entry("k")], REJECT));
      const feed = await log.open(stream, "new", store.name());
      deepEqual(textsOf(await collect(store, feed, 5)), ["f", "g", "h", "i", "j"]);
    },
  },
];

const dropping: readonly ContractCase[] = [
  {
    title: "log: drop-oldest makes room in front of a group, which counts what is gone and goes on with what is left",
    run: async (store) => {
      const full = await startFull(store);
      await full.append(DROP, "f", "g");
      deepEqual(await full.texts(), ["c", "d", "e", "f", "g"]);
      equal((await full.counts()).lag, 5);
      const feed = await full.open();
      const found = await haul(store, feed, ({ gone, deliveries }) => gone >= 2 && deliveries.length >= 5);
      deepEqual(attemptsOf(found.deliveries), ["c", "d", "e", "f", "g"]);
      equal(found.gone, 2);
      await quiet(store, feed);
    },
  },
  {
    title: "log: a retry whose entry was removed is not delivered but counted as gone, once",
    run: async (store) => {
      const full = await startFull(store);
      const feed = await full.open();
      const [a, b, c] = await collect(store, feed, 3);
      ok(a && b && c);
      await settled(feed, retry(a, 200), retry(b, 200), retry(c, 200));
      await full.append(DROP, "f", "g");
      const found = await haul(store, feed, ({ gone, deliveries }) => gone >= 2 && deliveries.length >= 5);
      deepEqual(attemptsOf(found.deliveries).toSorted(), ["c#2", "d", "e", "f", "g"]);
      equal(found.gone, 2);
      const again = await haul(store, feed, () => false, { limitMs: 300 });
      deepEqual([again.gone, again.deliveries.length], [0, 0]);
      deepEqual(await full.counts(), { group: full.group, lag: 0, pending: 5, retrying: 0, held: 0, dead: 0 });
    },
  },
  {
    title: "log: an abandoned delivery whose entry was removed is counted as gone, not as a dead letter",
    run: async (store) => {
      const full = await startFull(store, { leaseMs: SHORT_LEASE_MS });
      deepEqual(textsOf(await collect(store, await full.open(), 2)), ["a", "b"]);
      await full.append(DROP, "f", "g");
      await store.elapse(SHORT_LEASE_MS + 100);
      const feed = await full.open();
      const found = await haul(store, feed, ({ gone, deliveries }) => gone >= 2 && deliveries.length >= 5);
      deepEqual(attemptsOf(found.deliveries), ["c", "d", "e", "f", "g"]);
      deepEqual([found.gone, found.poisoned], [2, 0]);
      equal((await full.counts()).dead, 0);
    },
  },
  {
    title: "log: new positions stand behind all that was dropped",
    run: async (store) => {
      const full = await startFull(store);
      const { log } = store.backend;
      const last = full.positions.at(-1);
      ok(last !== undefined);
      await full.append(DROP, ...numbered("n", 5));
      const read = await log.read(full.stream, { max: 10, after: last });
      deepEqual(textsOf(read), numbered("n", 5));
      for (const { position } of read) for (const old of full.positions) notEqual(position, old);
      const feed = await full.open();
      deepEqual(textsOf([await collectOne(store, feed)]), ["n1"]);
    },
  },
];

export const retentionCases: readonly ContractCase[] = [...withoutGroups, ...rejecting, ...dropping];
