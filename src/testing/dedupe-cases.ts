/** Ids that callers give to what they append: while a stream remembers one, its entry is not stored again. */

import { deepEqual, equal, notEqual } from "node:assert/strict";
import type { Appended, Log, NewEntry, Retention } from "../core/backend.js";
import type { ContractCase } from "./contract.js";
import {
  ack,
  attemptsOf,
  collect,
  entry,
  first,
  numbered,
  quiet,
  ROOMY,
  rejectsWith,
  settled,
  textsOf,
} from "./fixtures.js";
import { startGroup } from "./log-group.js";

/** An entry that holds `text`, by default its id. */
function once(dedupeId: string, text: string = dedupeId): NewEntry {
  // An id may hold what a header may not.
  return { ...entry(text), header: "header", dedupeId };
}

async function appendOnce(log: Log, stream: string, id: string, retention: Retention = ROOMY): Promise<Appended> {
  return first(await log.append(stream, [once(id)], retention));
}

async function readAll(log: Log, stream: string): Promise<string[]> {
  return textsOf(await log.read(stream, { max: 10_000 }));
}

function duplicatesIn(appended: readonly Appended[]): boolean[] {
  return appended.map(({ duplicate }) => duplicate);
}

const remembering: readonly ContractCase[] = [
  {
    title: "log: an entry whose id the stream remembers is not stored again, but answered with the earlier position",
    run: async (store) => {
      const { log } = store.backend;
      const stream = store.name();
      const { position, duplicate } = await appendOnce(log, stream, "id");
      equal(duplicate, false);
      deepEqual(await log.append(stream, [once("id", "another text")], ROOMY), [{ position, duplicate: true }]);
      await log.append(stream, [entry("between")], ROOMY);
      const second = await store.second();
      deepEqual(await second.log.append(stream, [once("id", "a third")], ROOMY), [{ position, duplicate: true }]);
      const read = await log.read(stream, { max: 10 });
      deepEqual(textsOf(read), ["id", "between"]);
      equal(first(read).position, position);
    },
  },
  {
    title: "log: within one append the same id is stored once",
    run: async (store) => {
      const { log } = store.backend;
      const stream = store.name();
      const batch = [once("x", "x1"), once("y"), once("x", "x2"), entry("none"), once("x", "x3"), once("y", "y2")];
      const appended = await log.append(stream, batch, ROOMY);
      deepEqual(duplicatesIn(appended), [false, false, true, false, true, true]);
      const positions = appended.map(({ position }) => position);
      deepEqual([positions[2], positions[4], positions[5]], [positions[0], positions[0], positions[1]]);
      const read = await log.read(stream, { max: 10 });
      deepEqual(textsOf(read), ["x1", "y", "none"]);
      deepEqual(
        read.map(({ position }) => position),
        [positions[0], positions[1], positions[3]],
      );
    },
  },
  {
    title: "log: new entries among duplicates are stored in order, and each is answered in its place",
    run: async (store) => {
      const { log } = store.backend;
      const stream = store.name();
      const earlier = await log.append(
        stream,
        ["a", "b", "c"].map((id) => once(id)),
        ROOMY,
      );
      const appended = await log.append(
        stream,
        ["b", "d", "a", "e", "c", "f"].map((id) => once(id)),
        ROOMY,
      );
      deepEqual(duplicatesIn(appended), [true, false, true, false, true, false]);
      deepEqual(
        [appended[2], appended[0], appended[4]].map((one) => one?.position),
        earlier.map(({ position }) => position),
      );
      const read = await log.read(stream, { max: 10 });
      deepEqual(textsOf(read), ["a", "b", "c", "d", "e", "f"]);
      deepEqual(
        read.slice(3).map(({ position }) => position),
        [appended[1], appended[3], appended[5]].map((one) => one?.position),
      );
    },
  },
  {
    title: "log: entries without an id are never taken for duplicates, however alike they are",
    run: async (store) => {
      const { log } = store.backend;
      const stream = store.name();
      const same = { ...entry("same"), key: "key" };
      deepEqual(duplicatesIn(await log.append(stream, [same, same], ROOMY)), [false, false]);
      deepEqual(duplicatesIn(await log.append(stream, [same, { ...same, dedupeId: "id" }, same], ROOMY)), [
        false,
        false,
        false,
      ]);
      equal((await readAll(log, stream)).length, 5);
    },
  },
  {
    title: "log: an id is remembered after its entry was trimmed",
    run: async (store) => {
      const { log } = store.backend;
      const stream = store.name();
      const two: Retention = { maxEntries: 2, overflow: "reject" };
      const { position } = await appendOnce(log, stream, "first", two);
      for (const id of numbered("id", 6)) await appendOnce(log, stream, id, two);
      deepEqual(await readAll(log, stream), ["id5", "id6"]);
      deepEqual(await appendOnce(log, stream, "first", two), { position, duplicate: true });
      deepEqual(await readAll(log, stream), ["id5", "id6"]);
    },
  },
  {
    title: "log: ids belong to their stream and namespace",
    run: async (store) => {
      const stream = store.name();
      const elsewhere = await store.second({ namespace: "other" });
      equal((await appendOnce(store.backend.log, stream, "id")).duplicate, false);
      equal((await appendOnce(store.backend.log, store.name(), "id")).duplicate, false);
      equal((await appendOnce(elsewhere.log, stream, "id")).duplicate, false);
      equal((await appendOnce(store.backend.log, stream, "id")).duplicate, true);
    },
  },
  {
    title: "log: ids may be any text",
    run: async (store) => {
      const { log } = store.backend;
      const stream = store.name();
      const ids = [
        "a A a:b a%3Ab a::b {a} a|b 'a' \"a\" a';-- % * ? 0 1 01 1.0 -1 __proto__ constructor null true".split(" "),
        ["a b", "a  b", " a", "a\nb", "é", "e\u0301", "日本", "😀", "x".repeat(1_000), `${"x".repeat(999)}y`],
      ].flat();
      const appended = await log.append(
        stream,
        ids.map((id) => once(id)),
        ROOMY,
      );
      deepEqual(
        duplicatesIn(appended),
        ids.map(() => false),
      );
      for (const [index, id] of ids.entries()) {
        deepEqual(await appendOnce(log, stream, id), { position: appended[index]?.position, duplicate: true }, id);
      }
      deepEqual(await readAll(log, stream), ids);
    },
  },
  {
    title: "log: thousands of ids in one append are all remembered",
    run: async (store) => {
      const { log } = store.backend;
      const stream = store.name();
      const batch = numbered("id", 2_500).map((id) => once(id));
      const appended = await log.append(stream, batch, ROOMY);
      equal(duplicatesIn(appended).includes(true), false);
      deepEqual(
        await log.append(stream, batch, ROOMY),
        appended.map(({ position }) => ({ position, duplicate: true })),
      );
      equal((await log.stats(stream)).length, 2_500);
    },
  },
];

const together: readonly ContractCase[] = [
  {
    title: "log: of appends of one id at the same time, from several backends, one is stored",
    run: async (store) => {
      const logs = [store.backend.log, (await store.second()).log];
      const stream = store.name();
      for (const id of numbered("id", 5)) {
        const appends = numbered("text", 8).map((text, index) =>
          first(logs.slice(index % 2)).append(stream, [once(id, text)], ROOMY),
        );
        const appended = (await Promise.all(appends)).flat();
        equal(duplicatesIn(appended).filter((duplicate) => !duplicate).length, 1, id);
        equal(new Set(appended.map(({ position }) => position)).size, 1, "all are answered with the one position");
      }
      equal((await readAll(store.backend.log, stream)).length, 5);
    },
  },
  {
    title: "log: a refused append remembers none of its ids",
    run: async (store) => {
      const group = await startGroup(store);
      const { log, stream } = group;
      const two: Retention = { maxEntries: 2, overflow: "reject" };
      await group.appendWithin(two, "a", "b");
      await rejectsWith("LIMIT", () => appendOnce(log, stream, "id", two));
      await rejectsWith("LIMIT", () =>
        log.append(
          stream,
          ["id", "x", "y"].map((id) => once(id)),
          two,
        ),
      );
      const feed = await group.open();
      await settled(feed, ...(await collect(store, feed, 2)).map(ack));
      equal((await appendOnce(log, stream, "id", two)).duplicate, false);
      equal((await appendOnce(log, stream, "x", two)).duplicate, false);
      deepEqual(await group.texts(), ["id", "x"]);
    },
  },
  {
    title: "log: duplicates need no room in a full stream",
    run: async (store) => {
      const group = await startGroup(store);
      const { log, stream } = group;
      const three: Retention = { maxEntries: 3, overflow: "reject" };
      await log.append(stream, [once("a"), once("b")], three);
      const mixed = await log.append(stream, [once("a"), once("c"), once("b"), once("c")], three);
      deepEqual(duplicatesIn(mixed), [true, false, true, true]);
      deepEqual(duplicatesIn(await log.append(stream, [once("c"), once("a")], three)), [true, true]);
      await rejectsWith("LIMIT", () => log.append(stream, [once("a"), once("d")], three));
      deepEqual(await group.texts(), ["a", "b", "c"]);
    },
  },
  {
    title: "log: a duplicate is delivered to no group, and counted by none",
    run: async (store) => {
      const group = await startGroup(store);
      const { log, stream } = group;
      await log.append(stream, [once("a"), once("a"), once("b")], ROOMY);
      await log.append(stream, [once("b"), once("a")], ROOMY);
      equal((await group.counts()).lag, 2);
      const feed = await group.open();
      const deliveries = await collect(store, feed, 2);
      deepEqual(attemptsOf(deliveries), ["a", "b"]);
      await settled(feed, ...deliveries.map(ack));
      await log.append(stream, [once("a")], ROOMY);
      await quiet(store, feed, 300);
      deepEqual(await group.counts(), { lag: 0, pending: 0, retrying: 0, held: 0, dead: 0 });
    },
  },
  {
    title: "log: positions go on behind duplicates as if these had never been",
    run: async (store) => {
      const { log } = store.backend;
      const stream = store.name();
      const { position } = await appendOnce(log, stream, "a");
      await log.append(stream, [once("a"), once("a")], ROOMY);
      const next = await appendOnce(log, stream, "b");
      notEqual(next.position, position);
      deepEqual(textsOf(await log.read(stream, { max: 10, after: position })), ["b"]);
      deepEqual(textsOf(await log.read(stream, { max: 10, until: position })), ["a"]);
    },
  },
];

export const dedupeCases: readonly ContractCase[] = [...remembering, ...together];
