/** How a take waits, the same for the log and the queue: for what, how long, and what ends it. */

import { deepEqual, equal, ok } from "node:assert/strict";
import type { Feed, Taken } from "../core/backend.js";
import type { ContractCase, ContractStore } from "./contract.js";
import { ack, attemptsOf, collect, collectOne, LONG_WAIT_MS, retry, SHORT_LEASE_MS, settled } from "./fixtures.js";
import { aMoment, within } from "./waiting.js";
import { bothPorts } from "./work.js";

/** A take that waits longer than the case, unless it finds something or is told to stop. */
interface Waiting {
  readonly taken: Promise<Taken>;
  readonly stop: () => void;
}

async function startWaiting(feed: Feed, max: number = 10): Promise<Waiting> {
  const controller = new AbortController();
  const taken = feed.take({ max, waitMs: LONG_WAIT_MS, signal: controller.signal }, []);
  // The case ends by closing the store, and may not have come to the point of awaiting this.
  taken.catch(() => {});
  await aMoment();
  return { taken, stop: () => controller.abort() };
}

/** What the one call brought that was already waiting. */
async function brought(store: ContractStore, { taken }: Waiting): Promise<string[]> {
  return attemptsOf((await within(store, taken)).deliveries);
}

const waking: readonly ContractCase[] = [
  ...bothPorts("a take that waits is woken by a new message", async (store, start) => {
    const work = await start();
    const waiting = await startWaiting(await work.open());
    await work.add("a");
    deepEqual(await brought(store, waiting), ["a"]);
  }),
  ...bothPorts("a take that waits in another backend is woken too, each time", async (store, start) => {
    const work = await start();
    const feed = await work.open({ backend: await store.second() });
    for (const text of ["a", "b", "c"]) {
      const waiting = await startWaiting(feed);
      await work.add(text);
      const { deliveries } = await within(store, waiting.taken);
      deepEqual(attemptsOf(deliveries), [text]);
      await settled(feed, ...deliveries.map(ack));
    }
  }),
  ...bothPorts("a take that waits is woken by a retry that comes due", async (store, start) => {
    const work = await start();
    await work.add("a");
    const feed = await work.open();
    await settled(feed, retry(await collectOne(store, feed), 500));
    deepEqual(await brought(store, await startWaiting(feed)), ["a#2"]);
  }),
  ...bothPorts("a take that waits is woken by a retry that another consumer gives up", async (store, start) => {
    const work = await start();
    await work.add("a");
    const feed = await work.open();
    const held = await collectOne(store, feed);
    const waiting = await startWaiting(await work.open({ backend: await store.second() }));
    await settled(feed, retry(held));
    await feed.close();
    deepEqual(await brought(store, waiting), ["a#2"]);
  }),
  ...bothPorts("a take that waits is woken when an abandoned lease runs out", async (store, start) => {
    const work = await start({ leaseMs: SHORT_LEASE_MS });
    await work.add("a");
    await collectOne(store, await work.open({ backend: await store.second() }));
    deepEqual(await brought(store, await startWaiting(await work.open())), ["a#2"]);
  }),
  ...bothPorts("a take that waits is woken when a consumer closes and gives back", async (store, start) => {
    const work = await start();
    await work.add("a");
    const feed = await work.open({ backend: await store.second() });
    await collectOne(store, feed);
    const waiting = await startWaiting(await work.open());
    await feed.close();
    deepEqual(await brought(store, waiting), ["a"]);
  }),
  ...bothPorts("of the consumers that wait, one gets the message", async (store, start) => {
    const work = await start();
    const backends = [store.backend, store.backend, await store.second()];
    const feeds = await Promise.all(backends.map((backend) => work.open({ backend })));
    const waiting = await Promise.all(feeds.map((feed) => startWaiting(feed)));
    await work.add("a");
    await within(store, Promise.race(waiting.map(({ taken }) => taken)));
    for (const { stop } of waiting) stop();
    const taken = await within(store, Promise.all(waiting.map(({ taken }) => taken)));
    deepEqual(attemptsOf(taken.flatMap(({ deliveries }) => deliveries)), ["a"]);
  }),
  ...bothPorts("every consumer that waits is woken when there is enough for all", async (store, start) => {
    const work = await start();
    const backends = [store.backend, store.backend, await store.second()];
    const feeds = await Promise.all(backends.map((backend) => work.open({ backend })));
    const waiting = await Promise.all(feeds.map((feed) => startWaiting(feed, 1)));
    await work.add("a", "b", "c");
    const taken = await within(store, Promise.all(waiting.map(({ taken }) => taken)));
    deepEqual(attemptsOf(taken.flatMap(({ deliveries }) => deliveries)).toSorted(), ["a", "b", "c"]);
  }),
];

const ending: readonly ContractCase[] = [
  ...bothPorts("a take that finds nothing ends when its time is up", async (store, start) => {
    const work = await start();
    const feed = await work.open();
    const none = { deliveries: [], lost: [], gone: 0, expired: 0, poisoned: 0 };
    deepEqual(await within(store, feed.take({ max: 5, waitMs: 0 }, [])), none);
    deepEqual(await within(store, feed.take({ max: 5, waitMs: 400 }, [])), none);
  }),
  ...bothPorts("a take that finds something does not wait for more", async (store, start) => {
    const work = await start();
    await work.add("a");
    const taken = (await work.open()).take({ max: 5, waitMs: LONG_WAIT_MS }, []);
    deepEqual(attemptsOf((await within(store, taken)).deliveries), ["a"]);
  }),
  ...bothPorts("a take that had something to settle does not wait", async (store, start) => {
    const work = await start();
    await work.add("a");
    const feed = await work.open();
    const held = await collectOne(store, feed);
    const taken = await within(store, feed.take({ max: 5, waitMs: LONG_WAIT_MS }, [ack(held)]));
    deepEqual(taken.deliveries, []);
    deepEqual(await work.counts(), { ready: 0, held: 0, later: 0, dead: 0 });
  }),
  ...bothPorts("settling does not wait for a take that waits", async (store, start) => {
    const work = await start();
    await work.add("a");
    const feed = await work.open();
    const held = await collectOne(store, feed);
    const waiting = await startWaiting(feed);
    deepEqual(await within(store, feed.extend([held.receipt])), []);
    await within(store, settled(feed, ack(held)));
    deepEqual(await work.counts(), { ready: 0, held: 0, later: 0, dead: 0 });
    // The wait goes on, and still finds what comes later.
    await work.add("b");
    deepEqual(await brought(store, waiting), ["b"]);
  }),
  ...bothPorts("an abort ends the wait, and the call resolves", async (store, start) => {
    const work = await start();
    const feed = await work.open();
    const waiting = await startWaiting(feed);
    waiting.stop();
    deepEqual(await brought(store, waiting), []);
    await work.add("a");
    deepEqual(attemptsOf(await collect(store, feed, 1)), ["a"]);
  }),
  ...bothPorts("a signal that was aborted before still settles, and waits for nothing", async (store, start) => {
    const work = await start();
    await work.add("a");
    const feed = await work.open();
    const held = await collectOne(store, feed);
    const signal = AbortSignal.abort();
    const taken = await within(store, feed.take({ max: 5, waitMs: LONG_WAIT_MS, signal }, [ack(held)]));
    deepEqual(taken.lost, []);
    deepEqual(await work.counts(), { ready: 0, held: 0, later: 0, dead: 0 });
    await within(store, feed.take({ max: 5, waitMs: LONG_WAIT_MS, signal }, []));
  }),
  ...bothPorts("closing a consumer ends its wait, and loses nothing", async (store, start) => {
    const work = await start();
    const feed = await work.open();
    const waiting = await startWaiting(feed);
    await feed.close();
    await within(
      store,
      waiting.taken.catch(() => undefined),
    );
    await work.add("a");
    deepEqual(attemptsOf(await collect(store, await work.open(), 1)), ["a"]);
  }),
  ...bothPorts("a wait that was ended takes nothing afterwards", async (store, start) => {
    const work = await start();
    const idle = await work.open();
    for (let round = 0; round < 5; round += 1) {
      const waiting = await startWaiting(idle);
      waiting.stop();
      equal((await within(store, waiting.taken)).deliveries.length, 0);
    }
    await work.add("a");
    const feed = await work.open();
    const delivery = await collectOne(store, feed);
    ok(delivery.attempt === 1);
    deepEqual(await work.counts(), { ready: 0, held: 1, later: 0, dead: 0 });
  }),
];

export const waitCases: readonly ContractCase[] = [...waking, ...ending];
