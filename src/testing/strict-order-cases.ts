/** Strict order: one delivery at a time. */

import { deepEqual, ok } from "node:assert/strict";
import type { ContractCase } from "./contract.js";
import {
  ack,
  attemptsOf,
  collect,
  collectAfter,
  collectOne,
  deadLetter,
  defer,
  first,
  haul,
  quiet,
  retry,
  SHORT_LEASE_MS,
  settled,
} from "./fixtures.js";
import { startGroup } from "./log-group.js";
import { within } from "./waiting.js";

export const strictOrderCases: readonly ContractCase[] = [
  {
    title: "log: with strict order one delivery is out at a time, whatever its key, in any process",
    run: async (store) => {
      const group = await startGroup(store, { order: "strict" });
      await group.append("a:1", "b:1", "x", "a:2");
      const feeds = [await group.open(), await group.open(await store.second())] as const;
      for (const [turn, text] of ["a:1", "b:1", "x", "a:2"].entries()) {
        const [feed, other] = turn % 2 === 0 ? feeds : feeds.toReversed();
        ok(feed && other);
        const delivery = await collectOne(store, feed);
        deepEqual(attemptsOf([delivery]), [text]);
        await quiet(store, feed);
        await quiet(store, other, 100);
        await settled(feed, ack(delivery));
      }
      await quiet(store, feeds[0]);
      deepEqual(await group.counts(), { lag: 0, pending: 0, retrying: 0, held: 0, dead: 0 });
    },
  },
  {
    title: "log: with strict order a retry, at once or delayed, comes before all others",
    run: async (store) => {
      const group = await startGroup(store, { order: "strict" });
      await group.append("1", "2");
      const one = await group.open();
      const other = await group.open(await store.second());
      await settled(one, retry(await collectOne(store, one)));
      const second = await collectOne(store, other);
      deepEqual(attemptsOf([second]), ["1#2"]);
      await settled(other, defer(second));
      const again = await collectOne(store, one);
      deepEqual(attemptsOf([again]), ["1#2"]);
      const since = await store.now();
      await settled(one, retry(again, 400));
      await group.append("3");
      deepEqual(attemptsOf([await collectAfter(store, other, since, 400)]), ["1#3"]);
      await quiet(store, one);
    },
  },
  {
    title: "log: with strict order what is given back or abandoned comes before all others",
    run: async (store) => {
      const group = await startGroup(store, { order: "strict", leaseMs: SHORT_LEASE_MS, maxAttempts: 2 });
      await group.append("1", "2", "3");
      const closing = await group.open(await store.second());
      await collectOne(store, closing);
      await closing.close();
      deepEqual(attemptsOf(await collect(store, await group.open(), 1)), ["1"]);
      await store.elapse(SHORT_LEASE_MS + 100);
      deepEqual(attemptsOf(await collect(store, await group.open(), 1)), ["1#2"]);
      await store.elapse(SHORT_LEASE_MS + 100);
      const feed = await group.open();
      const found = await haul(store, feed, ({ poisoned, deliveries }) => poisoned > 0 && deliveries.length > 0);
      deepEqual([found.poisoned, attemptsOf(found.deliveries)], [1, ["2"]]);
      await settled(feed, deadLetter(first(found.deliveries)));
      deepEqual(attemptsOf(await collect(store, feed, 1)), ["3"]);
    },
  },
  {
    title: "log: with strict order a take that waits is woken when it is its turn",
    run: async (store) => {
      const group = await startGroup(store, { order: "strict" });
      await group.append("1", "2");
      const one = await group.open();
      const delivery = await collectOne(store, one);
      const waiting = (await group.open(await store.second())).take({ max: 5, waitMs: 20_000 }, []);
      await settled(one, ack(delivery));
      deepEqual(attemptsOf((await within(store, waiting)).deliveries), ["2"]);
    },
  },
];
