/** Delay and time to live of queued items. */

import { deepEqual, equal, ok } from "node:assert/strict";
import type { Feed, NewItem, QueueStats } from "../core/backend.js";
import type { ContractCase, ContractStore } from "./contract.js";
import {
  ack,
  allLetters,
  attemptsOf,
  collect,
  collectAfter,
  collectOne,
  deadLetter,
  haul,
  item,
  itemCountsOf,
  LIMITS,
  LONG_LEASE_MS,
  LONG_WAIT_MS,
  numbered,
  quiet,
  rejectsWith,
  retry,
  settled,
  textsOf,
} from "./fixtures.js";
import { aMoment, PROMPT_MS, within } from "./waiting.js";

/** Short enough to wait for, long enough to take an item in. */
const TTL_MS = 2_000;
const OUTLIVED_MS = TTL_MS + 100;

interface Inbox {
  push(...items: readonly NewItem[]): Promise<void>;
  open(leaseMs?: number, second?: "other backend"): Promise<Feed>;
  stats(): Promise<QueueStats>;
  letters(): Promise<string[]>;
}

function inboxOf(store: ContractStore): Inbox {
  const { queue } = store.backend;
  const [name, recipient] = [store.name(), store.name()];
  return {
    push: async (...items) =>
      void (await queue.push(
        name,
        items.map((one) => ({ ...one, recipient })),
        LIMITS,
      )),
    open: async (leaseMs = LONG_LEASE_MS, second) => {
      const backend = second === undefined ? store.backend : await store.second();
      const consumer = { consumer: store.name(), leaseMs, maxAttempts: 3, maxDeadLetters: 10 };
      return backend.queue.open(name, recipient, consumer);
    },
    stats: () => queue.stats(name, recipient),
    letters: async () => textsOf(await allLetters(queue.deadLetters(name, recipient))),
  };
}

const idsOfTheExpired: readonly ContractCase[] = [
  {
    title: "queue: the id of an item that has expired is free again, also when nobody has met it",
    run: async (store) => {
      const { queue } = store.backend;
      const [name, recipient] = [store.name(), store.name()];
      const again = { ...item("x"), recipient };
      await queue.push(name, [{ ...again, ttlMs: 200 }], LIMITS);
      await store.elapse(400);
      deepEqual(await queue.push(name, [again, { ...item("y"), recipient }], LIMITS), [
        { id: "x", duplicate: false, recipients: 1 },
        { id: "y", duplicate: false, recipients: 1 },
      ]);
      const { waiting, expired } = await queue.stats(name, recipient);
      deepEqual({ waiting, expired }, { waiting: 2, expired: 1 });
    },
  },
];

const delays: readonly ContractCase[] = [
  {
    title: "queue: a delayed item is not delivered before its time, and then is",
    run: async (store) => {
      const inbox = inboxOf(store);
      const since = await store.now();
      await inbox.push(item("later", { delayMs: 700, priority: 9 }), item("much later", { delayMs: 60_000 }));
      const feed = await inbox.open();
      deepEqual(attemptsOf([await collectAfter(store, feed, since, 700)]), ["later"]);
      await quiet(store, feed);
      deepEqual(itemCountsOf(await inbox.stats()), { waiting: 0, leased: 1, delayed: 1, dead: 0, expired: 0 });
    },
  },
  {
    title: "queue: a delayed item that is due is ready, by its priority",
    run: async (store) => {
      const inbox = inboxOf(store);
      await inbox.push(item("low", { priority: 1 }), item("high", { priority: 2, delayMs: 300 }));
      await store.elapse(400);
      deepEqual(itemCountsOf(await inbox.stats()), { waiting: 2, leased: 0, delayed: 0, dead: 0, expired: 0 });
      deepEqual(attemptsOf(await collect(store, await inbox.open(), 2)), ["high", "low"]);
    },
  },
  {
    title: "queue: a retry that is due counts as ready again",
    run: async (store) => {
      const inbox = inboxOf(store);
      await inbox.push(item("a"));
      const feed = await inbox.open();
      await settled(feed, retry(await collectOne(store, feed), 500));
      await store.elapse(600);
      deepEqual(itemCountsOf(await inbox.stats()), { waiting: 1, leased: 0, delayed: 0, dead: 0, expired: 0 });
    },
  },
  {
    title: "queue: a take that waits is woken by a delayed item that comes due",
    run: async (store) => {
      const inbox = inboxOf(store);
      await inbox.push(item("a", { delayMs: 500 }));
      const feed = await inbox.open();
      const taken = feed.take({ max: 5, waitMs: LONG_WAIT_MS }, []);
      deepEqual(attemptsOf((await within(store, taken)).deliveries), ["a"]);
    },
  },
  {
    title: "queue: a take that waits learns of a delayed item that another backend pushes",
    run: async (store) => {
      const inbox = inboxOf(store);
      const feed = await inbox.open(LONG_LEASE_MS, "other backend");
      const taken = feed.take({ max: 5, waitMs: LONG_WAIT_MS }, []);
      taken.catch(() => {});
      await aMoment();
      await inbox.push(item("a", { delayMs: 300 }));
      deepEqual(attemptsOf((await within(store, taken)).deliveries), ["a"]);
    },
  },
];

const expiring: readonly ContractCase[] = [
  {
    title: "queue: an expired item is never delivered, and counts as expired once",
    run: async (store) => {
      const inbox = inboxOf(store);
      await inbox.push(item("dies", { ttlMs: TTL_MS, priority: 5 }), item("lives"), item("lasts", { ttlMs: 60_000 }));
      await store.elapse(OUTLIVED_MS);
      const feeds = [await inbox.open(), await inbox.open(LONG_LEASE_MS, "other backend")] as const;
      const found = await haul(store, feeds[0], ({ expired, deliveries }) => expired > 0 && deliveries.length >= 2);
      deepEqual(attemptsOf(found.deliveries), ["lives", "lasts"]);
      equal(found.expired, 1);
      for (const feed of feeds) {
        const again = await haul(store, feed, () => false, { limitMs: 300 });
        deepEqual([again.deliveries.length, again.expired], [0, 0]);
      }
      deepEqual(itemCountsOf(await inbox.stats()), { waiting: 0, leased: 2, delayed: 0, dead: 0, expired: 1 });
      deepEqual(await inbox.letters(), []);
    },
  },
  {
    title: "queue: an item that is taken in time is delivered like any other",
    run: async (store) => {
      const inbox = inboxOf(store);
      await inbox.push(item("a", { ttlMs: 60_000 }));
      const feed = await inbox.open();
      await settled(feed, retry(await collectOne(store, feed)));
      const delivery = await collectOne(store, feed);
      equal(delivery.attempt, 2);
      await settled(feed, ack(delivery));
      deepEqual(itemCountsOf(await inbox.stats()), { waiting: 0, leased: 0, delayed: 0, dead: 0, expired: 0 });
    },
  },
  {
    title: "queue: many expired items in front do not keep the others from being found",
    run: async (store) => {
      const inbox = inboxOf(store);
      const dying = Array.from({ length: 300 }, (_, index) => item(`x${index}`, { ttlMs: TTL_MS, priority: 9 }));
      await inbox.push(...dying, item("a"));
      await store.elapse(OUTLIVED_MS);
      const found = await haul(store, await inbox.open(), (sum) => sum.expired >= 300 && sum.deliveries.length > 0);
      deepEqual([found.expired, attemptsOf(found.deliveries).join()], [300, "a"]);
    },
  },
  {
    title: "queue: an item that expires while it is delayed is never delivered",
    run: async (store) => {
      const inbox = inboxOf(store);
      await inbox.push(item("a", { delayMs: TTL_MS + 500, ttlMs: TTL_MS }), item("b", { delayMs: 200, ttlMs: 60_000 }));
      await store.elapse(TTL_MS + 600);
      const feed = await inbox.open();
      const found = await haul(store, feed, ({ expired, deliveries }) => expired > 0 && deliveries.length > 0);
      deepEqual([found.expired, attemptsOf(found.deliveries).join()], [1, "b"]);
    },
  },
  {
    title: "queue: the time to live does not end a running delivery",
    run: async (store) => {
      const inbox = inboxOf(store);
      await inbox.push(item("acked", { ttlMs: TTL_MS }), item("parked", { ttlMs: TTL_MS }));
      const feed = await inbox.open();
      const [acked, parked] = await collect(store, feed, 2);
      ok(acked && parked);
      await store.elapse(OUTLIVED_MS);
      const bystander = await haul(store, await inbox.open(), () => false, { limitMs: 300 });
      deepEqual([bystander.deliveries.length, bystander.expired], [0, 0]);
      deepEqual(await feed.extend([acked.receipt, parked.receipt]), []);
      await settled(feed, ack(acked), deadLetter(parked));
      deepEqual(await inbox.letters(), ["parked"]);
      deepEqual(itemCountsOf(await inbox.stats()), { waiting: 0, leased: 0, delayed: 0, dead: 1, expired: 0 });
    },
  },
  {
    title: "queue: the time to live ends retrying, at once or while the retry waits",
    run: async (store) => {
      const inbox = inboxOf(store);
      const ttlMs = TTL_MS;
      await inbox.push(item("late", { ttlMs }), item("waits", { ttlMs }), item("deferred", { ttlMs }));
      const feed = await inbox.open();
      const [late, waits, deferred] = await collect(store, feed, 3);
      ok(late && waits && deferred);
      await settled(feed, retry(waits, ttlMs));
      await store.elapse(OUTLIVED_MS);
      // The outcomes count, as the deliveries were running; it is the items that have expired.
      const taken = await feed.take({ max: 10, waitMs: 0 }, [
        retry(late),
        { receipt: deferred.receipt, as: "retry", delayMs: 100, counted: false },
      ]);
      deepEqual([taken.lost, attemptsOf(taken.deliveries)], [[], []]);
      const found = await haul(store, feed, ({ expired }) => taken.expired + expired >= 3);
      deepEqual([taken.expired + found.expired, found.deliveries.length], [3, 0]);
      deepEqual(itemCountsOf(await inbox.stats()), { waiting: 0, leased: 0, delayed: 0, dead: 0, expired: 3 });
    },
  },
  {
    title: "queue: an abandoned item that has expired is neither delivered nor a dead letter",
    run: async (store) => {
      const inbox = inboxOf(store);
      await inbox.push(item("a", { ttlMs: TTL_MS }));
      await collectOne(store, await inbox.open(TTL_MS));
      await store.elapse(OUTLIVED_MS);
      const feed = await inbox.open();
      const found = await haul(store, feed, ({ expired }) => expired > 0);
      deepEqual([found.expired, found.deliveries.length, found.poisoned], [1, 0, 0]);
      await quiet(store, feed, 300);
      deepEqual(itemCountsOf(await inbox.stats()), { waiting: 0, leased: 0, delayed: 0, dead: 0, expired: 1 });
      deepEqual(await inbox.letters(), []);
    },
  },
  {
    title: "queue: expired items fill no queue, though nobody has found them yet",
    run: async (store) => {
      const { queue } = store.backend;
      const name = store.name();
      const three = { maxItems: 3 };
      const dying = ["anna", "ben"].map((recipient) => item(`for ${recipient}`, { recipient, ttlMs: TTL_MS }));
      await queue.push(name, [...dying, item("lasts")], three);
      await store.elapse(OUTLIVED_MS);
      await queue.push(name, [item("new1"), item("new2", { recipient: "ben" })], three);
      await rejectsWith("LIMIT", () => queue.push(name, [item("new3")], three));
      equal((await queue.stats(name, "anna")).expired, 1);
    },
  },
  {
    title: "queue: an expired item's id is free again",
    run: async (store) => {
      const inbox = inboxOf(store);
      await inbox.push(item("a", { ttlMs: TTL_MS }));
      await store.elapse(OUTLIVED_MS);
      const feed = await inbox.open();
      await haul(store, feed, ({ expired }) => expired > 0);
      await inbox.push(item("a", { data: "anew" }));
      deepEqual(attemptsOf(await collect(store, feed, 1)), ["anew"]);
    },
  },
];

const telling: readonly ContractCase[] = [
  {
    title: "queue: a take tells the ids of those that it has found expired, whether they waited or came back",
    run: async (store) => {
      const inbox = inboxOf(store);
      const ttlMs = TTL_MS;
      await inbox.push(item("late", { ttlMs }), item("acked", { ttlMs }), item("waits", { ttlMs }), item("lives"));
      const feed = await inbox.open();
      const [late, acked] = await collect(store, feed, 2);
      ok(late && acked);
      await store.elapse(OUTLIVED_MS);
      const taken = await feed.take({ max: 5, waitMs: 0 }, [retry(late), ack(acked)]);
      const ids = [...(taken.expiredIds ?? [])];
      await haulIds(store, feed, ids, 2 - ids.length);
      deepEqual(ids.toSorted(), ["late", "waits"]);
      equal((await inbox.stats()).expired, 2);
    },
  },
  {
    title:
      "queue: ten thousand that expire together are found by calls that do a bounded part each, and what is more urgent waits for none",
    run: async (store) => {
      const { queue } = store.backend;
      const [name, recipient] = [store.name(), store.name()];
      const dying = numbered("item ", 10_000).map((id) => item(id, { recipient, ttlMs: 6_000, priority: 9 }));
      for (let start = 0; start < dying.length; start += 1_000) {
        await queue.push(name, dying.slice(start, start + 1_000), { maxItems: 20_000 });
      }
      const living = [item("lives", { recipient }), item("urgent", { recipient, priority: 10 })];
      await queue.push(name, living, { maxItems: 20_000 });
      await store.elapse(6_100);
      const consumer = { consumer: store.name(), leaseMs: LONG_LEASE_MS, maxAttempts: 3, maxDeadLetters: 10 };
      const feed = await queue.open(name, recipient, consumer);
      const first = await feed.take({ max: 1, waitMs: 0 }, []);
      deepEqual(textsOf(first.deliveries), ["urgent"]);
      const ids = [...(first.expiredIds ?? [])];
      const delivered: string[] = [];
      let { expired } = first;
      for (let calls = 0; calls < 500 && (expired < 10_000 || delivered.length === 0); calls += 1) {
        const taken = await feed.take({ max: 10, waitMs: 0 }, []);
        ok((taken.expiredIds ?? []).length <= 1_000, "at most a thousand ids");
        ids.push(...(taken.expiredIds ?? []));
        delivered.push(...textsOf(taken.deliveries));
        expired += taken.expired;
      }
      deepEqual([expired, delivered, new Set(ids).size], [10_000, ["lives"], 10_000]);
      const { waiting, expired: counted } = await queue.stats(name, recipient);
      deepEqual([waiting, counted, await queue.count(name, {})], [0, 10_000, 2]);
    },
  },
];

/** Takes until so many more ids have been told as expired, and adds them. */
async function haulIds(store: ContractStore, feed: Feed, ids: string[], count: number): Promise<void> {
  const end = ids.length + count;
  for (let passed = 0; passed < PROMPT_MS && ids.length < end; passed += 100) {
    await store.elapse(100);
    ids.push(...((await feed.take({ max: 5, waitMs: 0 }, [])).expiredIds ?? []));
  }
}

export const expiryCases: readonly ContractCase[] = [...idsOfTheExpired, ...delays, ...expiring, ...telling];
