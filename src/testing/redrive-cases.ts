/** Redriving, the same for the log and the queue: a dead letter is put back, and is delivered as if it were new. */

import { deepEqual, equal, ok } from "node:assert/strict";
import type { ContractCase } from "./contract.js";
import {
  ack,
  allLetters,
  attemptsOf,
  collect,
  collectOne,
  deadLetter,
  first,
  haul,
  LONG_WAIT_MS,
  numbered,
  quiet,
  retry,
  SHORT_LEASE_MS,
  settled,
  take,
  textsOf,
} from "./fixtures.js";
import { aMoment, within } from "./waiting.js";
import { bothPorts, parkAll } from "./work.js";

const again: readonly ContractCase[] = [
  ...bothPorts(
    "[E14] a redriven dead letter is delivered again, whole, with attempts counted from 1",
    async (store, start) => {
      const work = await start();
      await work.add("a");
      const feed = await work.open();
      await settled(feed, retry(await collectOne(store, feed)));
      await settled(feed, deadLetter(await collectOne(store, feed)));
      const { id } = first(await allLetters(work.letters()));
      equal(await work.letters().redrive([id]), 1);
      deepEqual(await allLetters(work.letters()), []);
      equal(await work.letters().get(id), undefined);
      deepEqual(await work.counts(), { ready: 1, held: 0, later: 0, dead: 0 });
      const delivery = await collectOne(store, feed);
      deepEqual([delivery.header, ...attemptsOf([delivery])], ["header of a", "a"]);
      await settled(feed, retry(delivery));
      const second = await collectOne(store, feed);
      equal(second.attempt, 2);
      await settled(feed, ack(second));
      await quiet(store, feed, 200);
      deepEqual(await work.counts(), { ready: 0, held: 0, later: 0, dead: 0 });
    },
  ),
  ...bothPorts("redriving passes over ids that are not kept, and counts each letter once", async (store, start) => {
    const work = await start();
    const [m1, m2, m3] = await parkAll(store, work, numbered("m", 3));
    ok(m1 && m2 && m3);
    equal(await work.letters().redrive([]), 0);
    equal(await work.letters().redrive(["nonsense", "", "0-1", "999999999"]), 0);
    equal(await work.letters().redrive([m3.id, "nonsense", m1.id, m3.id]), 2);
    equal(await work.letters().redrive([m1.id]), 0);
    deepEqual(textsOf(await allLetters(work.letters())), ["m2"]);
    const feed = await work.open();
    deepEqual(attemptsOf(await collect(store, feed, 2)).toSorted(), ["m1", "m3"]);
    await quiet(store, feed);
  }),
  ...bothPorts("what is redriven can fail again, be parked again, and be redriven again", async (store, start) => {
    const work = await start({ leaseMs: SHORT_LEASE_MS, maxAttempts: 2 });
    await work.add("a");
    const feed = await work.open();
    await settled(feed, deadLetter(await collectOne(store, feed)));
    const ids = new Set<string>();
    for (let round = 0; round < 2; round += 1) {
      const { id } = first(await allLetters(work.letters()));
      ids.add(id);
      await store.elapse(50);
      const since = await store.now();
      equal(await work.letters().redrive([id]), 1);
      await settled(feed, retry(await collectOne(store, feed)));
      const last = await collectOne(store, feed);
      equal(last.attempt, 2);
      await settled(feed, deadLetter(last, { kind: "rejected", message: `round ${round}` }));
      const letter = first(await allLetters(work.letters()));
      deepEqual([letter.attempts, letter.reason.message, ...textsOf([letter])], [2, `round ${round}`, "a"]);
      ok(letter.firstFailedAt >= since, "what failed before it was redriven is forgotten");
      ids.add(letter.id);
    }
    equal(ids.size, 3, "each time it is another letter");
  }),
  ...bothPorts("what is redriven and then abandoned out of attempts is parked again", async (store, start) => {
    const work = await start({ leaseMs: SHORT_LEASE_MS, maxAttempts: 1 });
    const { id } = first(await parkAll(store, work, ["a"]));
    equal(await work.letters().redrive([id]), 1);
    await collectOne(store, await work.open());
    await store.elapse(SHORT_LEASE_MS + 100);
    const found = await haul(store, await work.open(), ({ poisoned }) => poisoned > 0);
    deepEqual([found.poisoned, found.deliveries], [1, []]);
    const letter = first(await allLetters(work.letters()));
    deepEqual([letter.attempts, letter.reason.kind, ...textsOf([letter])], [1, "abandoned", "a"]);
  }),
  ...bothPorts("a redriven message that a closing consumer gives back comes again, uncounted", async (store, start) => {
    const work = await start();
    const { id } = first(await parkAll(store, work, ["a"]));
    equal(await work.letters().redrive([id]), 1);
    const closing = await work.open({ backend: await store.second() });
    await collectOne(store, closing);
    await closing.close();
    deepEqual(attemptsOf(await collect(store, await work.open(), 1)), ["a"]);
  }),
];

const together: readonly ContractCase[] = [
  ...bothPorts("a take that waits is woken by what is redriven, in any process", async (store, start) => {
    const work = await start();
    for (const backend of [store.backend, await store.second()]) {
      const { id } = first(await parkAll(store, work, ["a"]));
      const feed = await work.open({ backend });
      const taken = feed.take({ max: 5, waitMs: LONG_WAIT_MS }, []);
      taken.catch(() => {});
      await aMoment();
      equal(await work.letters().redrive([id]), 1);
      const { deliveries } = await within(store, taken);
      deepEqual(attemptsOf(deliveries), ["a"]);
      await settled(feed, ...deliveries.map(ack));
      await feed.close();
    }
  }),
  ...bothPorts(
    "letters redriven at the same time from several backends are put back once each",
    async (store, start) => {
      const work = await start();
      const texts = numbered("m", 12);
      const ids = (await parkAll(store, work, texts)).map(({ id }) => id);
      const letters = [work.letters(), work.letters(await store.second())];
      const counts = await Promise.all(
        numbered("call", 6).map((_, call) => first(letters.slice(call % 2)).redrive(ids)),
      );
      equal(
        counts.reduce((sum, count) => sum + count, 0),
        12,
      );
      const feed = await work.open();
      deepEqual(attemptsOf(await collect(store, feed, 12)).toSorted(), texts.toSorted());
      await quiet(store, feed);
    },
  ),
  ...bothPorts("letters that are redriven while they are listed are each put back once", async (store, start) => {
    const work = await start();
    const texts = numbered("m", 10);
    await parkAll(store, work, texts);
    const letters = work.letters();
    let page = await letters.list({ max: 4 });
    let count = await letters.redrive(page.letters.map(({ id }) => id));
    const feed = await work.open();
    // One of them fails again meanwhile, and stands behind all that are still to come.
    const [again1] = await collect(store, feed, 4);
    ok(again1);
    await settled(feed, deadLetter(again1));
    for (let pages = 0; page.cursor !== undefined && pages < 10; pages += 1) {
      page = await letters.list({ max: 4, cursor: page.cursor });
      count += await letters.redrive(page.letters.map(({ id }) => id));
    }
    equal(count, 11);
    deepEqual(await allLetters(letters), []);
    deepEqual(attemptsOf(await collect(store, feed, 7)).length, 7);
    await quiet(store, feed);
  }),
  ...bothPorts("many letters are redriven in one call", async (store, start) => {
    const work = await start({ maxDeadLetters: 2_000 });
    const texts = numbered("m", 1_200);
    const parked = await parkAll(store, work, texts);
    equal(await work.letters().redrive(parked.map(({ id }) => id)), 1_200);
    deepEqual(await work.counts(), { ready: 1_200, held: 0, later: 0, dead: 0 });
    const feed = await work.open();
    const seen: string[] = [];
    for (let calls = 0; seen.length < texts.length && calls < 50; calls += 1) {
      seen.push(...attemptsOf((await take(feed, 1_200)).deliveries));
    }
    deepEqual(seen.toSorted(), texts.toSorted());
  }),
];

export const redriveCases: readonly ContractCase[] = [...again, ...together];
