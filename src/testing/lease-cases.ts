/** Leases, the same for the log and the queue: abandonment, takeover, extension, poison. */

import { deepEqual, equal, ok } from "node:assert/strict";
import type { ContractCase } from "./contract.js";
import {
  ack,
  allLetters,
  attemptsOf,
  collect,
  collectAfter,
  collectOne,
  deadLetter,
  first,
  haul,
  quiet,
  retry,
  SHORT_LEASE_MS,
  settle,
  settled,
  textsOf,
} from "./fixtures.js";
import { bothPorts } from "./work.js";

/** A little longer than the short lease. */
const OUTLIVED_MS = SHORT_LEASE_MS + 100;

const abandoned: readonly ContractCase[] = [
  ...bothPorts("an abandoned delivery comes again after its lease, as the next attempt", async (store, start) => {
    const work = await start({ leaseMs: SHORT_LEASE_MS });
    const [position] = await work.add("a");
    const other = await work.open({ backend: await store.second() });
    const since = await store.now();
    await collectOne(store, await work.open());
    const delivery = await collectAfter(store, other, since, SHORT_LEASE_MS);
    equal(delivery.attempt, 2);
    equal(delivery.position, position);
    equal(delivery.header, "header of a");
    deepEqual(textsOf([delivery]), ["a"]);
  }),
  ...bothPorts("a consumer that comes back finds its own abandoned delivery", async (store, start) => {
    const work = await start({ leaseMs: SHORT_LEASE_MS });
    await work.add("a");
    const feed = await work.open();
    await collectOne(store, feed);
    await store.elapse(OUTLIVED_MS);
    const delivery = await collectOne(store, feed);
    equal(delivery.attempt, 2);
    await settled(feed, ack(delivery));
  }),
  ...bothPorts("an abandoned delivery goes to one consumer only", async (store, start) => {
    const work = await start({ leaseMs: SHORT_LEASE_MS });
    await work.add("a", "b", "c", "d");
    await collect(store, await work.open(), 4);
    await store.elapse(OUTLIVED_MS);
    const other = await work.open();
    const third = await work.open({ backend: await store.second() });
    const [one, two] = await Promise.all([collect(store, other, 2), collect(store, third, 2)]);
    await settled(other, ...one.map(ack));
    await settled(third, ...two.map(ack));
    deepEqual(attemptsOf([...one, ...two]).toSorted(), ["a#2", "b#2", "c#2", "d#2"]);
    await quiet(store, other, OUTLIVED_MS);
  }),
  ...bothPorts("each lease that runs out counts, and counted retries count along", async (store, start) => {
    const work = await start({ leaseMs: SHORT_LEASE_MS });
    await work.add("a");
    const feed = await work.open();
    await collectOne(store, feed);
    await store.elapse(OUTLIVED_MS);
    const second = await collectOne(store, feed);
    equal(second.attempt, 2);
    await settled(feed, retry(second));
    equal((await collectOne(store, feed)).attempt, 3);
    await store.elapse(OUTLIVED_MS);
    equal((await collectOne(store, feed)).attempt, 4);
  }),
  ...bothPorts("what was abandoned out of attempts becomes a dead letter, once", async (store, start) => {
    const work = await start({ leaseMs: SHORT_LEASE_MS, maxAttempts: 2 });
    const [position] = await work.add("poison");
    const consumer = store.name();
    await collectOne(store, await work.open());
    await store.elapse(OUTLIVED_MS);
    equal((await collectOne(store, await work.open({ consumer }))).attempt, 2);
    await store.elapse(OUTLIVED_MS);
    const feed = await work.open();
    const found = await haul(store, feed, ({ poisoned }) => poisoned > 0);
    deepEqual(attemptsOf(found.deliveries), []);
    equal(found.poisoned, 1);
    const letters = await allLetters(work.letters());
    equal(letters.length, 1);
    const letter = first(letters);
    equal(letter.reason.kind, "abandoned");
    equal(letter.attempts, 2);
    equal(letter.consumer, consumer);
    equal(letter.position, position);
    equal(letter.header, "header of poison");
    deepEqual(textsOf(letters), ["poison"]);
    deepEqual(await work.counts(), { ready: 0, held: 0, later: 0, dead: 1 });
    const again = await haul(store, feed, () => false, { limitMs: OUTLIVED_MS });
    deepEqual([again.poisoned, again.deliveries.length], [0, 0]);
  }),
  ...bothPorts("with a single attempt, abandoning is the end", async (store, start) => {
    const work = await start({ leaseMs: SHORT_LEASE_MS, maxAttempts: 1 });
    await work.add("a", "b", "c");
    await collect(store, await work.open(), 3);
    await store.elapse(OUTLIVED_MS);
    const found = await haul(store, await work.open(), ({ poisoned }) => poisoned >= 3);
    deepEqual([found.poisoned, found.deliveries.length], [3, 0]);
    deepEqual(textsOf(await allLetters(work.letters())).toSorted(), ["a", "b", "c"]);
  }),
  ...bothPorts("giving back does not use up attempts", async (store, start) => {
    const work = await start({ maxAttempts: 1 });
    await work.add("a");
    for (let round = 0; round < 3; round += 1) {
      const feed = await work.open();
      equal((await collectOne(store, feed)).attempt, 1);
      await feed.close();
    }
    deepEqual(await allLetters(work.letters()), []);
  }),
];

const fenced: readonly ContractCase[] = [
  ...bothPorts("an outcome that comes after a takeover is lost and changes nothing", async (store, start) => {
    const work = await start({ leaseMs: SHORT_LEASE_MS });
    await work.add("a", "b", "c");
    const late = await work.open();
    const [a, b, c] = await collect(store, late, 3);
    ok(a && b && c);
    await store.elapse(OUTLIVED_MS);
    const feed = await work.open({ backend: await store.second() });
    const taken = await collect(store, feed, 3);
    const lost = await settle(late, ack(a), retry(b), deadLetter(c));
    deepEqual([...lost].toSorted(), [a, b, c].map(({ receipt }) => receipt).toSorted());
    // Whatever the late outcomes had changed, these would now be lost instead.
    await settled(feed, ...taken.map(ack));
    deepEqual(await work.counts(), { ready: 0, held: 0, later: 0, dead: 0 });
    deepEqual(await allLetters(work.letters()), []);
  }),
  ...bothPorts("an extension that comes after a takeover is lost and changes nothing", async (store, start) => {
    const work = await start({ leaseMs: SHORT_LEASE_MS });
    await work.add("a");
    const late = await work.open();
    const { receipt } = await collectOne(store, late);
    await store.elapse(OUTLIVED_MS);
    const feed = await work.open();
    const current = await collectOne(store, feed);
    deepEqual(await late.extend([receipt]), [receipt]);
    await settled(feed, ack(current));
  }),
  ...bothPorts("an outcome after the lease's end counts while nobody has taken over", async (store, start) => {
    const work = await start({ leaseMs: SHORT_LEASE_MS });
    await work.add("a");
    const feed = await work.open();
    const delivery = await collectOne(store, feed);
    await store.elapse(OUTLIVED_MS);
    await settled(feed, ack(delivery));
    deepEqual(await work.counts(), { ready: 0, held: 0, later: 0, dead: 0 });
    await quiet(store, feed, 300);
  }),
];

const extending: readonly ContractCase[] = [
  ...bothPorts("an extended delivery stays with its consumer, each time for the full lease", async (store, start) => {
    const leaseMs = 2 * SHORT_LEASE_MS;
    const work = await start({ leaseMs });
    await work.add("kept", "left");
    const feed = await work.open();
    const [kept] = await collect(store, feed, 2);
    ok(kept);
    const other = await work.open({ backend: await store.second() });
    const others: string[] = [];
    for (let passed = 0; passed < 2 * leaseMs; passed += leaseMs / 3) {
      await store.elapse(leaseMs / 3);
      deepEqual(await feed.extend([kept.receipt]), []);
      const taken = await haul(store, other, () => true);
      others.push(...attemptsOf(taken.deliveries));
      await settled(other, ...taken.deliveries.map(ack));
    }
    await settled(feed, ack(kept));
    deepEqual(others, ["left#2"]);
  }),
  ...bothPorts("an extended delivery that is then abandoned comes again", async (store, start) => {
    const work = await start({ leaseMs: SHORT_LEASE_MS });
    await work.add("a");
    const feed = await work.open();
    const { receipt } = await collectOne(store, feed);
    deepEqual(await feed.extend([receipt]), []);
    await store.elapse(OUTLIVED_MS);
    deepEqual(attemptsOf(await collect(store, await work.open(), 1)), ["a#2"]);
  }),
  ...bothPorts("extending reports the receipts that are settled, and keeps the others", async (store, start) => {
    const work = await start();
    await work.add("acked", "retried", "parked", "held");
    const feed = await work.open();
    const [acked, retried, parked, held] = await collect(store, feed, 4);
    ok(acked && retried && parked && held);
    await settled(feed, ack(acked), retry(retried, 60_000), deadLetter(parked));
    const invalid = [acked, retried, parked].map(({ receipt }) => receipt);
    const lost = await feed.extend([held.receipt, ...invalid]);
    deepEqual([...lost].toSorted(), invalid.toSorted());
    deepEqual(await feed.extend([]), []);
    await settled(feed, ack(held));
    deepEqual(await work.counts(), { ready: 0, held: 0, later: 1, dead: 1 });
  }),
];

export const leaseCases: readonly ContractCase[] = [...abandoned, ...fenced, ...extending];
