/** The log itself: appending and reading, without any group. */

import { deepEqual, equal, ok } from "node:assert/strict";
import type { Entry, Log, Range } from "../core/backend.js";
import type { ContractCase } from "./contract.js";
import { countsOf, entry, first, GROUP, numbered, ROOMY, rejectsWith, textsOf } from "./fixtures.js";

/** Appends one entry for each text, each in a call of its own; resolves with their positions. */
async function appendEach(log: Log, stream: string, texts: readonly string[]): Promise<string[]> {
  const positions: string[] = [];
  for (const text of texts) positions.push(first(await log.append(stream, [entry(text)], ROOMY)).position);
  return positions;
}

async function readTexts(log: Log, stream: string, range: Partial<Range> = {}): Promise<string[]> {
  return textsOf(await log.read(stream, { max: 1_000, ...range }));
}

const appending: readonly ContractCase[] = [
  {
    title: "log: entries appended together are stored together, in order, each at its position",
    run: async (store) => {
      const { log } = store.backend;
      const stream = store.name();
      const texts = numbered("e", 20);
      const appended = await log.append(stream, texts.map(entry), ROOMY);
      const read = await log.read(stream, { max: 100 });
      deepEqual(textsOf(read), texts);
      deepEqual(
        read.map(({ position }) => position),
        appended.map(({ position }) => position),
      );
      deepEqual(
        read.map(({ header }) => header),
        texts.map((text) => `header of ${text}`),
      );
    },
  },
  {
    title: "log: entries appended one after the other are read in that order",
    run: async (store) => {
      const { log } = await store.second();
      const stream = store.name();
      const texts = numbered("e", 30);
      const positions = await appendEach(store.backend.log, stream, texts);
      deepEqual(await readTexts(log, stream), texts);
      equal(new Set(positions).size, texts.length, "every position is its own");
    },
  },
  {
    title: "log: appends at the same time, also from another backend, never mix nor lose entries",
    run: async (store) => {
      const [one, other] = [store.backend.log, (await store.second()).log];
      const stream = store.name();
      const batches = numbered("b", 12).map((batch) => numbered(`${batch}-`, 5));
      const appends = batches.map((batch, index) =>
        (index % 2 === 0 ? one : other).append(stream, batch.map(entry), ROOMY),
      );
      const positions = (await Promise.all(appends)).map((appended) => appended.map(({ position }) => position));
      const read = await store.backend.log.read(stream, { max: 1_000 });
      equal(read.length, 60);
      // Each batch stands together: cutting what was read into fives gives the batches back, in some order.
      const groups = Array.from({ length: 12 }, (_, index) => read.slice(index * 5, index * 5 + 5));
      const byFirst = (one: string[], other: string[]): number => String(one).localeCompare(String(other));
      deepEqual(groups.map(textsOf).sort(byFirst), batches.toSorted(byFirst));
      for (const group of groups) {
        const batch = batches.findIndex((texts) => texts[0] === textsOf(group)[0]);
        deepEqual(
          group.map(({ position }) => position),
          positions[batch],
        );
      }
    },
  },
  {
    title: "log: an append of nothing stores nothing",
    run: async (store) => {
      const stream = store.name();
      deepEqual(await store.backend.log.append(stream, [], ROOMY), []);
      equal((await store.backend.log.stats(stream)).length, 0);
    },
  },
  {
    title: "log: keys are no part of what is stored with an entry, and entries with and without mix",
    run: async (store) => {
      const { log } = store.backend;
      const stream = store.name();
      await log.append(stream, [{ ...entry("a"), key: "k😀" }, entry("b"), { ...entry("c"), key: "k😀" }], ROOMY);
      const read = await log.read(stream, { max: 10 });
      deepEqual(textsOf(read), ["a", "b", "c"]);
      for (const one of read) deepEqual(Object.keys(one).sort(), ["at", "data", "header", "position"]);
    },
  },
  {
    title: "log: a refused append stores nothing at all",
    run: async (store) => {
      const { log } = store.backend;
      const stream = store.name();
      const five = { maxEntries: 5, overflow: "reject" } as const;
      await log.createGroup(stream, store.name(), GROUP);
      await log.append(stream, ["a", "b", "c"].map(entry), five);
      await rejectsWith("LIMIT", () => log.append(stream, ["d", "e", "f"].map(entry), five));
      deepEqual(await readTexts(log, stream), ["a", "b", "c"]);
      await log.append(stream, ["d", "e"].map(entry), five);
      deepEqual(await readTexts(log, stream), ["a", "b", "c", "d", "e"]);
    },
  },
];

const reading: readonly ContractCase[] = [
  {
    title: "log: an unknown stream is empty and has no groups",
    run: async (store) => {
      const { log } = store.backend;
      const stream = store.name();
      deepEqual(await log.read(stream, { max: 10 }), []);
      // Asking makes nothing either.
      for (let asked = 0; asked < 2; asked += 1) {
        const { length, bytes = 0, oldest, newest, retention, groups } = await log.stats(stream);
        deepEqual([length, bytes, oldest, newest, retention, groups], [0, 0, undefined, undefined, undefined, []]);
      }
      equal(await log.trim(stream), 0);
    },
  },
  {
    title: "log: a read begins at `from`, or behind `after`, and gives at most `max`",
    run: async (store) => {
      const { log } = store.backend;
      const stream = store.name();
      const [p1, p2, p3, p4, p5] = await appendEach(log, stream, ["1", "2", "3", "4", "5"]);
      ok(p1 && p2 && p3 && p4 && p5);
      const cases: [Partial<Range>, string][] = [
        [{}, "12345"],
        [{ max: 2 }, "12"],
        [{ max: 5 }, "12345"],
        [{ from: p1 }, "12345"],
        [{ from: p3 }, "345"],
        [{ from: p5 }, "5"],
        [{ from: p3, max: 2 }, "34"],
        [{ after: p1 }, "2345"],
        [{ after: p4 }, "5"],
        [{ after: p5 }, ""],
        [{ after: p2, max: 2 }, "34"],
        [{ from: p2, after: p3 }, "45"],
        [{ from: p4, after: p1 }, "45"],
        [{ from: p2, after: p2, max: 1 }, "3"],
        [{ until: p3 }, "123"],
        [{ until: p5 }, "12345"],
        [{ until: p3, max: 2 }, "12"],
        [{ from: p2, until: p4 }, "234"],
        [{ from: p3, until: p3 }, "3"],
        [{ after: p2, until: p4 }, "34"],
        [{ after: p2, until: p4, max: 1 }, "3"],
        [{ after: p3, until: p3 }, ""],
        [{ from: p4, until: p2 }, ""],
      ];
      for (const [range, expected] of cases) {
        equal((await readTexts(log, stream, range)).join(""), expected, JSON.stringify(range));
      }
    },
  },
  {
    title: "log: a read ends at `until`, whether or not its entry is still there",
    run: async (store) => {
      const { log } = store.backend;
      const stream = store.name();
      const [p1, p2, p3] = await appendEach(log, stream, ["1", "2", "3"]);
      ok(p1 && p2 && p3);
      await log.append(stream, [entry("4"), entry("5")], { maxEntries: 3, overflow: "drop-oldest" });
      equal((await readTexts(log, stream)).join(""), "345");
      equal((await readTexts(log, stream, { until: p1 })).join(""), "");
      equal((await readTexts(log, stream, { until: p2 })).join(""), "");
      equal((await readTexts(log, stream, { until: p3 })).join(""), "3");
      equal((await readTexts(log, stream, { from: p1, until: p3 })).join(""), "3");
    },
  },
  {
    title: "log: an entry says when it was appended, and a read may begin at a time of the store's clock",
    run: async (store) => {
      const { log } = store.backend;
      const stream = store.name();
      const times: number[] = [];
      for (const text of ["1", "2", "3"]) {
        times.push(await store.now());
        await log.append(stream, [entry(text)], ROOMY);
        times.push(await store.now());
        await store.elapse(50);
      }
      const [before1 = 0, after1 = 0, before2 = 0, after2 = 0, before3 = 0, after3 = 0] = times;
      const read = await log.read(stream, { max: 10 });
      const [at1 = 0, at2 = 0, at3 = 0] = read.map(({ at }) => at);
      ok(at1 >= before1 && at1 <= after1 && at2 >= before2 && at2 <= after2 && at3 >= before3 && at3 <= after3);
      const [p1, p2] = read.map(({ position }) => position);
      ok(p1 && p2);
      const cases: [Partial<Range>, string][] = [
        [{ since: 0 }, "123"],
        [{ since: at1 }, "123"],
        [{ since: at1 + 1 }, "23"],
        [{ since: at2 }, "23"],
        [{ since: at3 }, "3"],
        [{ since: at3 + 1 }, ""],
        [{ since: at3 + 60_000 }, ""],
        [{ since: at1, max: 2 }, "12"],
        [{ since: at2, until: p2 }, "2"],
        [{ since: at2, until: p1 }, ""],
        [{ since: at1, after: p1 }, "23"],
        [{ since: at2, after: p1, max: 1 }, "2"],
        [{ since: at2, from: p1 }, "23"],
        [{ since: at1, from: p2 }, "23"],
      ];
      for (const [range, expected] of cases) {
        equal((await readTexts(log, stream, range)).join(""), expected, JSON.stringify(range));
      }
    },
  },
  {
    title: "log: a read at what is no position says so",
    run: async (store) => {
      const { log } = store.backend;
      const stream = store.name();
      await appendEach(log, stream, ["1"]);
      for (const range of [{ from: "nonsense" }, { after: "nonsense" }, { until: "nonsense" }]) {
        await rejectsWith("NOT_FOUND", () => readTexts(log, stream, range), JSON.stringify(range));
      }
    },
  },
  {
    title: "log: reading page by page sees every entry once, also while more are appended",
    run: async (store) => {
      const { log } = store.backend;
      const stream = store.name();
      const texts = numbered("e", 23);
      await log.append(stream, texts.slice(0, 20).map(entry), ROOMY);
      const all: Entry[] = [];
      for (;;) {
        const last = all.at(-1)?.position;
        const page = await log.read(stream, last === undefined ? { max: 7 } : { max: 7, after: last });
        all.push(...page);
        if (all.length === 20) await log.append(stream, texts.slice(20).map(entry), ROOMY);
        if (page.length === 0) break;
      }
      deepEqual(textsOf(all), texts);
    },
  },
  {
    title: "log: reading leaves groups untouched, and settled entries stay readable",
    run: async (store) => {
      const { log } = store.backend;
      const stream = store.name();
      await log.createGroup(stream, "group", GROUP);
      await log.append(stream, [entry("a"), entry("b")], ROOMY);
      const feed = await log.open(stream, "group", store.name());
      const { deliveries } = await feed.take({ max: 1, waitMs: 0 }, []);
      const outcomes = deliveries.map(({ receipt }) => ({ receipt, as: "ack" }) as const);
      await feed.take({ max: 0, waitMs: 0 }, outcomes);
      deepEqual(await readTexts(log, stream), ["a", "b"]);
      const { groups } = await log.stats(stream);
      deepEqual(groups.map(countsOf), [{ group: "group", lag: 1, pending: 0, retrying: 0, held: 0, dead: 0 }]);
    },
  },
  {
    title: "log: streams are apart from each other",
    run: async (store) => {
      const { log } = store.backend;
      const [one, other] = [store.name(), store.name()];
      await log.append(one, [entry("a")], ROOMY);
      await log.append(other, [entry("b")], ROOMY);
      deepEqual(await readTexts(log, one), ["a"]);
      deepEqual(await readTexts(log, other), ["b"]);
      equal((await log.stats(one)).length, 1);
    },
  },
];

export const logCases: readonly ContractCase[] = [...appending, ...reading];
