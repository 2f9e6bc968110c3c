/** Dead letters one by one, the same for the log and the queue: looked at, removed, purged; when each first failed. */

import { deepEqual, equal, ok } from "node:assert/strict";
import type { DeadLetter } from "../core/backend.js";
import type { ContractCase } from "./contract.js";
import {
  allLetters,
  collect,
  collectOne,
  deadLetter,
  defer,
  first,
  haul,
  numbered,
  quiet,
  retry,
  SHORT_LEASE_MS,
  settled,
  textOf,
  textsOf,
} from "./fixtures.js";
import { bothPorts, parkAll } from "./work.js";

const OUTLIVED_MS = SHORT_LEASE_MS + 100;
/** Ids that no letter has, whatever a backend's ids look like. */
const UNKNOWN: readonly string[] = [
  "",
  "nonsense",
  "0",
  "999999999",
  "0-1",
  "9999999999999-0",
  "-1",
  "1.5",
  "__proto__",
];

/** A letter to be compared: backends may have bytes in classes of their own. */
function shown(letter: DeadLetter): object {
  return { ...letter, data: textOf(letter) };
}

const looking: readonly ContractCase[] = [
  ...bothPorts("a dead letter can be looked at by its id, while it is kept", async (store, start) => {
    const work = await start();
    const letters = await parkAll(store, work, numbered("m", 3));
    for (const letter of letters) {
      const kept = await work.letters().get(letter.id);
      ok(kept !== undefined);
      deepEqual(shown(kept), shown(letter));
    }
    for (const id of UNKNOWN) equal(await work.letters().get(id), undefined, `"${id}"`);
    equal((await allLetters(work.letters())).length, 3);
  }),
  ...bothPorts("a dead letter tells when an attempt first failed, and when the last did", async (store, start) => {
    const work = await start();
    await work.add("a");
    const feed = await work.open();
    const taken = await collectOne(store, feed);
    const times = [await store.now()];
    await settled(feed, retry(taken));
    times.push(await store.now());
    await store.elapse(100);
    await settled(feed, retry(await collectOne(store, feed), 50));
    const third = await collectOne(store, feed);
    times.push(await store.now());
    await settled(feed, deadLetter(third));
    times.push(await store.now());
    const { firstFailedAt, at, attempts } = first(await allLetters(work.letters()));
    const [from = 0, to = 0, parkedFrom = 0, parkedTo = 0] = times;
    equal(attempts, 3);
    ok(firstFailedAt >= from && firstFailedAt <= to, `first failed at ${firstFailedAt}, between ${from} and ${to}`);
    ok(at >= parkedFrom && at <= parkedTo, `parked at ${at}, between ${parkedFrom} and ${parkedTo}`);
  }),
  ...bothPorts(
    "what fails once, or was only deferred or given back before, first failed when it was parked",
    async (store, start) => {
      const work = await start();
      await work.add("at-once");
      const feed = await work.open();
      await settled(feed, deadLetter(await collectOne(store, feed)));
      await work.add("deferred");
      await settled(feed, defer(await collectOne(store, feed)));
      await collectOne(store, feed);
      await feed.close();
      await store.elapse(100);
      const other = await work.open({ backend: await store.second() });
      await settled(other, deadLetter(await collectOne(store, other)));
      const letters = await allLetters(work.letters());
      deepEqual(textsOf(letters), ["at-once", "deferred"]);
      for (const { firstFailedAt, at } of letters) equal(firstFailedAt, at);
    },
  ),
  ...bothPorts("an abandoned attempt is a failed one, in what a dead letter tells", async (store, start) => {
    const work = await start({ leaseMs: SHORT_LEASE_MS, maxAttempts: 2 });
    await work.add("a");
    const since = await store.now();
    await collectOne(store, await work.open());
    await store.elapse(OUTLIVED_MS);
    await collectOne(store, await work.open());
    const takenAgain = await store.now();
    await store.elapse(OUTLIVED_MS);
    const found = await haul(store, await work.open(), ({ poisoned }) => poisoned > 0);
    equal(found.poisoned, 1);
    const { firstFailedAt, at } = first(await allLetters(work.letters()));
    ok(firstFailedAt >= since + SHORT_LEASE_MS && firstFailedAt <= takenAgain, `first failed at ${firstFailedAt}`);
    ok(at >= takenAgain, `parked at ${at}`);
  }),
];

const removing: readonly ContractCase[] = [
  ...bothPorts("dead letters are removed by their ids, each once, and the others stay", async (store, start) => {
    const work = await start();
    const [m1, m2, m3, m4] = await parkAll(store, work, numbered("m", 4));
    ok(m1 && m2 && m3 && m4);
    equal(await work.letters().remove([]), 0);
    equal(await work.letters().remove(UNKNOWN), 0);
    equal(await work.letters().remove([m2.id, "nonsense", m4.id, m2.id]), 2);
    equal(await work.letters().remove([m2.id]), 0);
    equal(await work.letters().get(m2.id), undefined);
    deepEqual(textsOf(await allLetters(work.letters())), ["m1", "m3"]);
    equal((await work.counts()).dead, 2);
    await quiet(store, await work.open(), 200);
  }),
  ...bothPorts(
    "purging forgets the dead letters that were parked that long ago, and no others",
    async (store, start) => {
      const work = await start();
      const [m1] = await parkAll(store, work, ["m1", "m2"]);
      ok(m1);
      await store.elapse(SHORT_LEASE_MS);
      await parkAll(store, work, ["m3"]);
      equal(await work.letters().purge(60_000), 0);
      const [, m2] = await allLetters(work.letters());
      ok(m2);
      equal(await work.letters().purge((await store.now()) - m2.at), 2);
      deepEqual(textsOf(await allLetters(work.letters())), ["m3"]);
      equal(await work.letters().purge(0), 1);
      equal(await work.letters().purge(0), 0);
      deepEqual(await work.counts(), { ready: 0, held: 0, later: 0, dead: 0 });
    },
  ),
  ...bothPorts(
    "letters that are removed while they are listed leave the pages of the others whole",
    async (store, start) => {
      const work = await start();
      await parkAll(store, work, numbered("m", 9));
      const letters = work.letters();
      const page = await letters.list({ max: 3 });
      ok(page.cursor !== undefined);
      equal(await letters.remove(page.letters.map(({ id }) => id)), 3);
      const next = await letters.list({ max: 3, cursor: page.cursor });
      deepEqual(textsOf(next.letters), ["m4", "m5", "m6"]);
      ok(next.cursor !== undefined);
      await parkAll(store, work, ["m10"]);
      deepEqual(textsOf((await letters.list({ max: 10, cursor: next.cursor })).letters), ["m7", "m8", "m9", "m10"]);
    },
  ),
  ...bothPorts("ids and pages of letters hold in every backend on the store", async (store, start) => {
    const work = await start();
    const parked = await parkAll(store, work, numbered("m", 4));
    const elsewhere = work.letters(await store.second());
    deepEqual((await allLetters(elsewhere, 3)).map(shown), parked.map(shown));
    const [m1, m2] = parked;
    ok(m1 && m2);
    const kept = await elsewhere.get(m1.id);
    deepEqual(kept && shown(kept), shown(m1));
    equal(await elsewhere.remove([m1.id]), 1);
    equal(await elsewhere.redrive([m2.id]), 1);
    deepEqual(textsOf(await allLetters(work.letters())), ["m3", "m4"]);
    deepEqual(textsOf(await collect(store, await work.open(), 1)), ["m2"]);
  }),
];

export const letterChangeCases: readonly ContractCase[] = [...looking, ...removing];
