/** Queues at their edges: nothing stored yet, a busy consumer, answers beside the items, pages of large items. */

import { deepEqual, equal, ok } from "node:assert/strict";
import type { ItemPage, PageRequest, RecordSettings } from "../core/backend.js";
import type { ContractCase } from "./contract.js";
import { ack, collect, collectOne, item, LIMITS, numbered, rejectsWith, settled, textsOf } from "./fixtures.js";
import {
  AUDIENCE,
  expectListed,
  idsOf,
  namesOf,
  OUTLIVED_MS,
  PRIVATE,
  SHORT_TTL_MS,
  startQueue,
} from "./test-queue.js";

const RECORDS: RecordSettings = { keepAckedMs: 60_000, maxRecords: 10, index: ["source"] };
const TO_ALL = { recipient: { audience: "registered" } } as const;

const keeping: readonly ContractCase[] = [
  {
    title: "queue: a push stores what its publisher wants kept where nothing is stored and nothing is held",
    run: async (store) => {
      const work = startQueue(store);
      await work.pushWithin({ ...LIMITS, records: RECORDS }, item("a", { fields: { source: "here" } }));
      await expectListed(work, { fields: { source: "here" } }, ["a"]);
      await work.queue.acknowledge(work.name, "", ["a"]);
      await expectListed(work, { state: "acked" }, ["a"]);
      deepEqual(await (await store.second()).queue.configure(work.name, { ...RECORDS, keepAckedMs: 1 }), RECORDS);
    },
  },
  {
    title: "queue: a push changes nothing of what is stored to be kept, nor of a queue that holds something",
    run: async (store) => {
      const [stored, held] = [startQueue(store), startQueue(store)];
      await stored.configure({ index: [] });
      await stored.pushWithin({ ...LIMITS, records: RECORDS }, item("a", { fields: { source: "here" } }));
      await rejectsWith("UNSUPPORTED", () => stored.list({ fields: { source: "here" } }));
      await stored.queue.remove(stored.name, ["a"]);
      await stored.pushWithin({ ...LIMITS, records: RECORDS }, item("b"));
      deepEqual(await stored.configure(RECORDS), { keepAckedMs: 0, maxRecords: 0, index: [] });
      await held.push(item("a"));
      await held.pushWithin({ ...LIMITS, records: RECORDS }, item("b"));
      await rejectsWith("UNSUPPORTED", () => held.list());
      await held.queue.remove(held.name, ["a", "b"]);
      await held.pushWithin({ ...LIMITS, records: RECORDS }, item("c"));
      await expectListed(held, {}, ["c"]);
    },
  },
];

const busy: readonly ContractCase[] = [
  {
    title: "queue: an open feed keeps its recipient registered, however long what it has taken is under way",
    run: async (store) => {
      const work = startQueue(store);
      const registration = { ...AUDIENCE, ttlMs: SHORT_TTL_MS };
      const feed = await work.open("anna", { backend: await store.second(), registration });
      await work.push(item("long", TO_ALL), item("next", TO_ALL));
      const long = await collectOne(store, feed);
      for (let passed = 0; passed < 2 * OUTLIVED_MS; passed += 300) await store.elapse(300);
      deepEqual(namesOf(await work.recipients()), ["anna"]);
      const [pushed] = await work.push(item("news", TO_ALL));
      equal(pushed?.recipients, 1);
      await settled(feed, ack(long));
      deepEqual(textsOf(await collect(store, feed, 2)), ["next", "news"]);
      await feed.close();
      await store.elapse(OUTLIVED_MS);
      deepEqual(await work.recipients(), [], "once it is closed the recipient lapses");
      await work.queue.unregister(work.name, "anna");
      store.takeReports();
    },
  },
];

const answers: readonly ContractCase[] = [
  {
    title: "queue: an answer is listed, counted and kept nowhere, and takes no room",
    run: async (store) => {
      const work = startQueue(store);
      await work.configure({ ...RECORDS, index: [] });
      const asker = "{reply}:asker";
      await work.register([asker], PRIVATE);
      await work.push(item("question 1"), item("question 2"));
      const feed = await work.open();
      for (const answer of ["answer 1", "answer 2"]) {
        const { receipt } = await collectOne(store, feed);
        const reply = { id: answer, recipient: asker, header: "h", data: answer, priority: 0, ttlMs: 60_000 };
        await settled(feed, { receipt, as: "ack", reply });
      }
      const records = ["question 2", "question 1"];
      await expectListed(work, {}, records);
      await expectListed(work, { state: "open" }, []);
      equal((await work.stats(asker)).waiting, 2);
      deepEqual(idsOf(await work.browse(asker)), ["answer 1", "answer 2"]);
      await work.pushWithin({ maxItems: 1 }, item("third"));
      await rejectsWith("LIMIT", () => work.pushWithin({ maxItems: 1 }, item("fourth")));
      const waiting = await work.open(asker);
      const [first] = await collect(store, waiting, 2);
      ok(first);
      await settled(waiting, ack(first));
      await expectListed(work, {}, ["third", ...records]);
      equal(await work.queue.unregister(work.name, asker), true);
      await expectListed(work, {}, ["third", ...records]);
      equal(await work.queue.clear(work.name), 3);
      equal(await work.queue.count(work.name, {}), 0);
    },
  },
];

const refusals: readonly ContractCase[] = [
  {
    title: "queue: no limit is met where nothing would be stored",
    run: async (store) => {
      const work = startQueue(store);
      await work.push(item("a"), item("b"), item("c", { dedupe: true }));
      await work.queue.acknowledge(work.name, "", ["c"]);
      for (const maxItems of [2, 1]) {
        const pushed = await work.pushWithin({ maxItems }, item("a"), item("b"), item("c"));
        deepEqual(
          pushed.map(({ duplicate }) => duplicate),
          [true, true, true],
        );
        const [forNobody] = await work.pushWithin({ maxItems }, item(`to nobody ${maxItems}`, TO_ALL));
        deepEqual([forNobody?.duplicate, forNobody?.recipients], [false, 0]);
        await rejectsWith("LIMIT", () => work.pushWithin({ maxItems }, item("a"), item("new")));
      }
      equal(await work.queue.count(work.name, {}), 2);
    },
  },
  {
    title: "queue: an id stands in a push once, also where it comes first for an audience that is nobody",
    run: async (store) => {
      const work = startQueue(store);
      const pushed = await work.push(item("a", TO_ALL), item("a"), item("b"), item("b", TO_ALL));
      deepEqual(
        pushed.map(({ duplicate, recipients }) => [duplicate, recipients]),
        [
          [false, 0],
          [true, 0],
          [false, 1],
          [true, 0],
        ],
      );
      deepEqual(idsOf(await work.browse("")), ["b"]);
    },
  },
  {
    title: "queue: what is no cursor is refused",
    run: async (store) => {
      const work = startQueue(store);
      await work.configure({ index: [] });
      await work.register(["anna"]);
      await work.push(item("a"));
      for (const cursor of ["none of yours", "twelvelettrs"]) {
        const page = { max: 10, cursor };
        await rejectsWith("NOT_FOUND", () => work.queue.browse(work.name, "", page));
        await rejectsWith("NOT_FOUND", () => work.queue.list(work.name, {}, page));
        await rejectsWith("NOT_FOUND", () => work.queue.recipients(work.name, page));
      }
    },
  },
];

const pages: readonly ContractCase[] = [
  {
    title: "queue: a page of large items ends early, and its cursor goes on",
    run: async (store) => {
      const work = startQueue(store);
      await work.configure({ index: [] });
      const ids = numbered("large ", 7);
      const data = "x".repeat(400_000);
      for (const id of ids) await work.push(item(id, { data }));
      const readings = [
        { ids, read: (page: PageRequest) => work.queue.browse(work.name, "", page) },
        { ids: ids.toReversed(), read: (page: PageRequest) => work.queue.list(work.name, {}, page) },
      ];
      for (const { ids: inOrder, read } of readings) {
        const found: string[] = [];
        for (let page: ItemPage | undefined = await read({ max: 100 }); page !== undefined; ) {
          ok(page.items.length > 0 && page.items.length <= 3, `${page.items.length} items of 400 kB`);
          found.push(...idsOf(page.items));
          page = page.cursor === undefined ? undefined : await read({ max: 100, cursor: page.cursor });
        }
        deepEqual(found, inOrder);
      }
    },
  },
];

export const queueEdgeCases: readonly ContractCase[] = [...keeping, ...busy, ...answers, ...refusals, ...pages];
