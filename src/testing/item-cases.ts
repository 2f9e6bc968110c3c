/** The items of a queue, one and all: got by id, listed by fields and states, counted. */

import { deepEqual, equal, ok } from "node:assert/strict";
import type { ItemFilter } from "../core/backend.js";
import type { ContractCase } from "./contract.js";
import {
  ack,
  collect,
  collectOne,
  deadLetter,
  first,
  item,
  numbered,
  rejectsWith,
  retry,
  settled,
  textOf,
} from "./fixtures.js";
import { expectListed, idsOf, standingsOf, startQueue, stateOf } from "./test-queue.js";

const open: readonly ContractCase[] = [
  {
    title: "queue: an unfinished item is got by its id, as it was pushed and as it stands",
    run: async (store) => {
      const work = startQueue(store);
      const before = await store.now();
      await work.push(item("a", { recipient: "anna", priority: 7, ttlMs: 60_000 }), item("b", { delayMs: 30_000 }));
      const after = await store.now();
      const second = await store.second();
      const a = await second.queue.get(work.name, "a");
      ok(a);
      deepEqual([a.id, a.header, textOf(a), a.priority, a.state], ["a", "header of a", "a", 7, "open"]);
      ok(a.at >= before && a.at <= after, `${a.at - before}`);
      deepEqual([a.updatedAt, a.expiresAt], [a.at, a.at + 60_000]);
      deepEqual(a.recipients, [{ recipient: "anna", state: "waiting", attempts: 0 }]);
      const b = await work.queue.get(work.name, "b");
      ok(b);
      deepEqual(b.recipients, [{ recipient: "", state: "delayed", attempts: 0, until: b.at + 30_000 }]);
      deepEqual([b.expiresAt, await work.queue.get(work.name, "c")], [undefined, undefined]);
      equal(await work.queue.get(store.name(), "a"), undefined);
    },
  },
  {
    title: "queue: without records an item is forgotten once it is finished, whichever way",
    run: async (store) => {
      const work = startQueue(store);
      await work.push(...["acked", "parked", "retried"].map((id) => item(id)), item("expired", { ttlMs: 800 }));
      const feed = await work.open();
      const [acked, parked, retried] = await collect(store, feed, 3);
      ok(acked && parked && retried);
      const leased = await work.queue.get(work.name, "acked");
      deepEqual(leased && standingsOf(leased), [":leased"]);
      await settled(feed, ack(acked), deadLetter(parked), retry(retried, 60_000));
      await store.elapse(900);
      deepEqual(await Promise.all(["acked", "parked", "expired", "retried"].map((id) => stateOf(work, id))), [
        undefined,
        undefined,
        undefined,
        "open",
      ]);
      equal(await work.queue.count(work.name, {}), 1);
    },
  },
  {
    title: "queue: a count without a filter needs no index, and is exact in every mixture",
    run: async (store) => {
      const work = startQueue(store);
      const count = (): Promise<number> => work.queue.count(work.name, {});
      equal(await count(), 0);
      await work.register(["anna", "ben"]);
      await work.push(
        ...numbered("item ", 20).map((id, index) => item(id, { recipient: index % 2 === 0 ? "anna" : "" })),
        item("news", { recipient: { audience: "registered" } }),
        item("delayed", { delayMs: 60_000 }),
        item("dying", { ttlMs: 800 }),
      );
      equal(await count(), 23);
      const feed = await work.open("anna");
      const [one, two, three] = await collect(store, feed, 4);
      ok(one && two && three);
      await settled(feed, ack(one), deadLetter(two), retry(three, 60_000));
      equal(await count(), 21);
      await store.elapse(900);
      equal(await count(), 20);
      equal(await (await store.second()).queue.count(work.name, {}), 20);
    },
  },
  {
    title: "queue: without an index there is no list, and no count by a filter",
    run: async (store) => {
      const work = startQueue(store);
      const expectRefused = async (filter: ItemFilter): Promise<void> => {
        await rejectsWith("UNSUPPORTED", () => work.queue.list(work.name, filter, { max: 10 }), "the list");
        await rejectsWith("UNSUPPORTED", () => work.queue.count(work.name, filter), "the count");
      };
      await rejectsWith("UNSUPPORTED", () => work.queue.list(work.name, {}, { max: 10 }));
      await work.push(item("a", { fields: { source: "planner" } }));
      await rejectsWith("UNSUPPORTED", () => work.queue.list(work.name, {}, { max: 10 }));
      await expectRefused({ state: "open" });
      await expectRefused({ fields: { source: "planner" } });
      const other = startQueue(store);
      await other.configure({ index: ["source"] });
      await rejectsWith("UNSUPPORTED", () => other.queue.list(other.name, { fields: { target: "x" } }, { max: 10 }));
      await rejectsWith("UNSUPPORTED", () => other.queue.count(other.name, { fields: { source: "x", target: "y" } }));
      deepEqual(await other.list({ fields: { source: "x" } }), []);
    },
  },
  {
    title: "queue: what is kept and indexed is settled by the first, and can change while a queue holds nothing",
    run: async (store) => {
      const work = startQueue(store);
      const second = (await store.second()).queue;
      const [one, other] = [
        { keepAckedMs: 60_000, maxRecords: 10, index: ["a", "b"] },
        { keepAckedMs: 0, maxRecords: 5, index: undefined },
      ];
      deepEqual(await work.configure(one), one);
      deepEqual(await second.configure(work.name, other), other);
      deepEqual(await work.configure(one), one);
      await work.push(item("a"));
      deepEqual(await second.configure(work.name, other), one);
      const feed = await work.open();
      await settled(feed, ack(await collectOne(store, feed)));
      deepEqual(await second.configure(work.name, other), one, "a record is kept");
      await work.queue.clear(work.name);
      deepEqual(await second.configure(work.name, other), other);
      await work.push(item("b"));
      deepEqual(await work.configure(one), other);
    },
  },
];

const listing: readonly ContractCase[] = [
  {
    title: "queue: items are listed the newest first, by fields and states, and counted",
    run: async (store) => {
      const work = startQueue(store);
      await work.configure({ index: ["source", "target"] });
      const specs = ["p:c", "q:c", "p:d", "p:c", "q:d", "p:"];
      for (const [index, spec] of specs.entries()) {
        const [source = "", target = ""] = spec.split(":");
        const fields = target === "" ? { source } : { source, target };
        await work.push(
          item(`${index}`, { recipient: target, priority: index % 2, fields, delayMs: index === 2 ? 60_000 : 0 }),
        );
      }
      await expectListed(work, {}, ["5", "4", "3", "2", "1", "0"]);
      await expectListed(work, { fields: { source: "p" } }, ["5", "3", "2", "0"]);
      await expectListed(work, { fields: { source: "p", target: "c" } }, ["3", "0"]);
      await expectListed(work, { fields: { target: "d" }, state: "open" }, ["4", "2"]);
      await expectListed(work, { fields: { source: "p", target: "" } }, []);
      await expectListed(work, { fields: { source: "nobody" } }, []);
      await expectListed(work, { state: "acked" }, []);
      const second = await store.second();
      equal(await second.queue.count(work.name, { fields: { source: "q" } }), 2);
      const feed = await work.open("c");
      await settled(feed, ...(await collect(store, feed, 3)).map(ack));
      await expectListed(work, { fields: { source: "p" } }, ["5", "2"]);
      await expectListed(work, {}, ["5", "4", "2"]);
    },
  },
  {
    title: "queue: values are exact, and fields that are not indexed are passed over",
    run: async (store) => {
      const work = startQueue(store);
      await work.configure({ index: ["source"] });
      const values = ["a", "A", "a ", "a*", "*", "a\u0000b", "é", "", "a:b", "x".repeat(200)];
      await work.push(
        ...values.map((source, index) => item(`${index}`, { fields: { source, other: "o", constructor: "c" } })),
        item("without"),
      );
      for (const [index, source] of values.entries()) await expectListed(work, { fields: { source } }, [`${index}`]);
      for (const name of ["other", "constructor", ""]) {
        await rejectsWith("UNSUPPORTED", () => work.queue.count(work.name, { fields: { [name]: "o" } }));
      }
      equal(await work.queue.count(work.name, {}), values.length + 1);
    },
  },
  {
    title: "queue: many are listed page by page, each once, while newer ones come and others end",
    run: async (store) => {
      const work = startQueue(store);
      await work.configure({ index: ["kind"] });
      const ids = numbered("item ", 90);
      await work.push(...ids.map((id, index) => item(id, { fields: { kind: index % 3 === 0 ? "fizz" : "plain" } })));
      const seen: string[] = [];
      let cursor: string | undefined;
      for (let pages = 0; pages < 50; pages += 1) {
        const request = cursor === undefined ? { max: 7 } : { max: 7, cursor };
        const page = await work.queue.list(work.name, { fields: { kind: "fizz" } }, request);
        seen.push(...idsOf(page.items));
        cursor = page.cursor;
        if (cursor === undefined) break;
        await work.push(item(`new ${pages}`, { fields: { kind: "fizz" } }));
        await work.queue.remove(work.name, [first(idsOf(page.items)), `item ${pages + 1}`]);
      }
      equal(new Set(seen).size, seen.length);
      const staying = idsOf(await work.list({ fields: { kind: "fizz" } })).filter((id) => id.startsWith("item"));
      ok(staying.length > 20);
      deepEqual(
        staying.filter((id) => !seen.includes(id)),
        [],
      );
      deepEqual(
        seen.filter((id) => id.startsWith("new")),
        [],
      );
    },
  },
  {
    title: "queue: of a thousand and more the list and the count leave none out",
    run: async (store) => {
      const work = startQueue(store);
      await work.configure({ index: ["kind"] });
      const ids = numbered("item ", 1_200);
      await work.push(...ids.map((id, index) => item(id, { fields: { kind: index < 1_100 ? "many" : "few" } })));
      deepEqual(idsOf(await work.list({}, 1_000)), ids.toReversed());
      deepEqual(idsOf(await work.list({ fields: { kind: "many" } }, 400)), ids.slice(0, 1_100).toReversed());
      equal(await work.queue.count(work.name, { fields: { kind: "many" } }), 1_100);
      equal(await work.queue.count(work.name, { fields: { kind: "many" }, state: "open" }), 1_100);
      equal(await work.queue.count(work.name, { state: "open" }), 1_200);
    },
  },
];

export const itemCases: readonly ContractCase[] = [...open, ...listing];
