/** Looking at what a recipient has not finished: in its order, page by page, changing nothing. */

import { deepEqual, equal, ok } from "node:assert/strict";
import type { RecipientState, StoredItem } from "../core/backend.js";
import type { ContractCase } from "./contract.js";
import {
  ack,
  collect,
  collectOne,
  first,
  item,
  itemCountsOf,
  numbered,
  retry,
  settled,
  take,
  textOf,
  textsOf,
} from "./fixtures.js";
import { idsOf, startQueue } from "./test-queue.js";

/** How an item stands with the one recipient that is shown. */
function standingOf({ recipients }: StoredItem): RecipientState {
  equal(recipients.length, 1);
  return first(recipients);
}

const order: readonly ContractCase[] = [
  {
    title: "queue: what is ready is shown in the order in which it is handed out, and taken from by nobody",
    run: async (store) => {
      const work = startQueue(store);
      const priorities = { a: 0, b: 5, c: -3, d: 5, e: 0, f: 10 };
      for (const [id, priority] of Object.entries(priorities)) {
        await work.push(
          item(id, { recipient: "anna", priority }),
          item(`${id} of ben`, { recipient: "ben", priority }),
        );
      }
      const shown = await work.browse("anna");
      deepEqual(idsOf(shown), ["f", "b", "d", "a", "e", "c"]);
      deepEqual(
        shown.map((one) => standingOf(one).recipient),
        shown.map(() => "anna"),
      );
      const second = await store.second();
      const { items, cursor } = await second.queue.browse(work.name, "anna", { max: 100 });
      deepEqual([items, cursor], [shown, undefined]);
      deepEqual(textsOf(await collect(store, await work.open("anna"), 6)), idsOf(shown));
    },
  },
  {
    title: "queue: what is ready comes first, then what is delayed by when it is due, then what is leased by its lease",
    run: async (store) => {
      const work = startQueue(store);
      await work.push(...["leased long", "leased short", "retried"].map((id) => item(id, { priority: 9 })));
      const long = await work.open(undefined, { leaseMs: 90_000 });
      await collectOne(store, long);
      const short = await work.open(undefined, { leaseMs: 30_000 });
      await collectOne(store, short);
      await settled(short, retry(await collectOne(store, short), 50_000));
      await work.push(
        item("delayed longest", { priority: 99, delayMs: 80_000 }),
        item("ready"),
        item("delayed least", { delayMs: 40_000 }),
        item("more urgent", { priority: 1 }),
      );
      const shown = await work.browse("");
      deepEqual(idsOf(shown), [
        "more urgent",
        "ready",
        "delayed least",
        "retried",
        "delayed longest",
        "leased short",
        "leased long",
      ]);
      deepEqual(idsOf(await work.browse("", "waiting")), ["more urgent", "ready"]);
      deepEqual(idsOf(await work.browse("", "delayed")), ["delayed least", "retried", "delayed longest"]);
      deepEqual(idsOf(await work.browse("", "leased")), ["leased short", "leased long"]);
      for (const max of [1, 2, 3, 5])
        deepEqual(idsOf(await work.browse("", undefined, max)), idsOf(shown), `by ${max}`);
    },
  },
  {
    title: "queue: an item is shown whole, with how it stands",
    run: async (store) => {
      const work = startQueue(store);
      const before = await store.now();
      await work.push(
        item("plain", { priority: 3 }),
        item("with an end", { ttlMs: 60_000, data: new Uint8Array([0, 255, 7]) }),
        item("delayed", { delayMs: 40_000 }),
      );
      const after = await store.now();
      const feed = await work.open(undefined, { leaseMs: 30_000 });
      await settled(feed, retry(await collectOne(store, feed)));
      const leasedFrom = await store.now();
      equal((await collectOne(store, feed)).attempt, 2);
      const leasedUntil = await store.now();
      const [ends, delayed, plain] = await work.browse("");
      ok(ends && delayed && plain);
      deepEqual(
        [plain.id, plain.header, textOf(plain), plain.priority, plain.state, plain.expiresAt],
        ["plain", "header of plain", "plain", 3, "open", undefined],
      );
      deepEqual([...ends.data], [0, 255, 7]);
      for (const { at } of [ends, delayed, plain]) ok(at >= before && at <= after, "it tells when it was pushed");
      deepEqual([ends.updatedAt, delayed.updatedAt], [ends.at, delayed.at]);
      ok(plain.updatedAt >= after && plain.updatedAt <= leasedFrom, "it tells when it was put back");
      equal(ends.expiresAt, ends.at + 60_000);
      deepEqual(standingOf(ends), { recipient: "", state: "waiting", attempts: 0 });
      deepEqual(standingOf(delayed), { recipient: "", state: "delayed", attempts: 0, until: delayed.at + 40_000 });
      const { until = 0, ...leased } = standingOf(plain);
      deepEqual(leased, { recipient: "", state: "leased", attempts: 2 });
      ok(until >= leasedFrom + 30_000 && until <= leasedUntil + 30_000, `${until - leasedFrom} ms`);
    },
  },
  {
    title: "queue: what has expired is not shown, and what is due is shown as ready, though nobody has taken yet",
    run: async (store) => {
      const work = startQueue(store);
      await work.push(
        item("expired", { ttlMs: 600 }),
        item("expired while delayed", { ttlMs: 600, delayMs: 60_000 }),
        item("due", { delayMs: 600, priority: 1 }),
        item("ready"),
      );
      await store.elapse(800);
      const shown = await work.browse("");
      deepEqual(
        shown.map((one) => [one.id, standingOf(one).state]),
        [
          ["due", "waiting"],
          ["ready", "waiting"],
        ],
      );
      equal(await work.queue.get(work.name, "expired"), undefined);
      equal(await work.queue.count(work.name, {}), 2);
    },
  },
];

const paging: readonly ContractCase[] = [
  {
    title: "queue: many items are shown page by page, each once, in their order",
    run: async (store) => {
      const work = startQueue(store);
      const ids = numbered("item ", 230);
      await work.push(...ids.map((id, index) => item(id, { priority: index % 3 })));
      const expected = [2, 1, 0].flatMap((priority) => ids.filter((_id, index) => index % 3 === priority));
      for (const max of [1_000, 100, 7]) deepEqual(idsOf(await work.browse("", undefined, max)), expected, `by ${max}`);
      deepEqual(idsOf(await work.browse("", "waiting", 50)), expected);
      deepEqual(await work.browse("", "leased", 50), []);
    },
  },
  {
    title: "queue: what stays is shown once, while others come and go between the pages",
    run: async (store) => {
      const work = startQueue(store);
      await work.push(...numbered("item ", 60).map((id) => item(id)));
      const feed = await work.open();
      const shown: string[] = [];
      let cursor: string | undefined;
      for (let pages = 0; pages < 50; pages += 1) {
        const page = await work.queue.browse(work.name, "", cursor === undefined ? { max: 10 } : { max: 10, cursor });
        shown.push(...idsOf(page.items));
        cursor = page.cursor;
        if (cursor === undefined) break;
        // Some in front are finished, one of those shown as well, and what is more urgent comes.
        await settled(feed, ...(await take(feed, 2)).deliveries.map(ack));
        await work.push(item(`urgent ${pages}`, { priority: 9 }));
      }
      equal(cursor, undefined);
      equal(new Set(shown).size, shown.length, "none is shown twice");
      const staying = idsOf(await work.browse("")).filter((id) => id.startsWith("item"));
      ok(staying.length > 40);
      deepEqual(
        staying.filter((id) => !shown.includes(id)),
        [],
      );
    },
  },
  {
    title: "queue: an unknown recipient has nothing to show, a paused one has",
    run: async (store) => {
      const work = startQueue(store);
      deepEqual(await work.queue.browse(work.name, "nobody", { max: 10 }), { items: [] });
      await work.push(item("a", { recipient: "anna" }));
      await work.queue.pause(work.name, "anna");
      deepEqual(idsOf(await work.browse("anna")), ["a"]);
      deepEqual(await work.queue.browse(work.name, "nobody", { max: 10 }), { items: [] });
    },
  },
  {
    title: "queue: of what is for all, browsing shows how it stands with the browsed one alone",
    run: async (store) => {
      const work = startQueue(store);
      await work.register(["anna", "ben"]);
      await work.push(item("news", { recipient: { audience: "registered" } }));
      const ben = await work.open("ben");
      await collectOne(store, ben);
      deepEqual(standingOf(first(await work.browse("anna"))), { recipient: "anna", state: "waiting", attempts: 0 });
      const { until, ...standing } = standingOf(first(await work.browse("ben")));
      deepEqual(standing, { recipient: "ben", state: "leased", attempts: 1 });
      ok(until !== undefined);
      deepEqual(itemCountsOf(await work.stats("ben")), { waiting: 0, leased: 1, delayed: 0, dead: 0, expired: 0 });
    },
  },
];

export const browseCases: readonly ContractCase[] = [...order, ...paging];
