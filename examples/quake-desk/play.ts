/** Playing the feed: publishes each quake once, in order and at its pace, whatever was stopped or killed before. */

import { setTimeout as sleep } from "node:timers/promises";
import { LimitError } from "signalbox";
import { LEASE_MS, PATIENT, type Quake, type QuakeBroker } from "./contract.js";
import type { Ledger } from "./ledger.js";

/** Few and small enough that the broker stores them in one write: all of them, or none. */
const BATCH = 50;
const HOUR_MS = 3_600_000;

/**
 * How many quakes of the feed are in the store, and so, where to go on.
 *
 * The stream's own length tells, exactly: nothing else publishes to it, one desk at a time does (see `play`), a write is
 * stored whole or not at all, and the next one begins when it is stored. What a kill leaves behind is always the
 * feed's beginning. A note of our own beside the store would be wrong whenever a kill came between the two. (A stream
 * keeps 1,000,000 events; a feed longer than that would need another way.)
 */
export async function playedSoFar(broker: QuakeBroker): Promise<number> {
  const { length } = await broker.events.stats("quake.recorded");
  return length;
}

export interface Played {
  readonly published: number;
  readonly ms: number;
}

/**
 * Publishes what is left of the feed. Ends early when the signal aborts.
 *
 * @param hoursPerSecond of the feed; absent: as fast as it goes
 */
export async function play(
  broker: QuakeBroker,
  quakes: readonly Quake[],
  hoursPerSecond: number | undefined,
  ledger: Ledger,
  signal: AbortSignal,
): Promise<Played> {
  // Two desks that play at once would publish quakes twice, and the first may live on unseen when only its npm was
  // killed. So a desk plays while it holds the turn: a message whose lease it renews, and loses when it dies.
  const turn = broker.queue("turn", { maxItems: 1 });
  const { waiting, leased, delayed } = await turn.stats();
  if (waiting + leased + delayed === 0) {
    await turn.publish("play").catch((error: unknown) => {
      if (!(error instanceof LimitError)) throw error; // Another desk was faster, and the queue takes no second one.
    });
  }
  let published = 0;
  const startedAt = performance.now();
  for await (const held of turn.deliveries({ concurrency: 1, leaseMs: LEASE_MS, retry: PATIENT, signal })) {
    // With nothing played, a ledger that has entries belongs to a store that is gone.
    if ((await playedSoFar(broker)) === 0) ledger.reset();
    published += await publishRest(broker, quakes, hoursPerSecond, AbortSignal.any([signal, held.signal]));
    if (!held.signal.aborted) break; // Leaving the loop gives the turn back.
  }
  return { published, ms: performance.now() - startedAt };
}

/** @returns how many it published */
async function publishRest(
  broker: QuakeBroker,
  quakes: readonly Quake[],
  hoursPerSecond: number | undefined,
  signal: AbortSignal,
): Promise<number> {
  const first = await playedSoFar(broker);
  const startedAt = performance.now();
  const origin = quakes[first]?.time ?? 0;
  const dueInMs = ({ time }: Quake): number =>
    hoursPerSecond === undefined
      ? 0
      : ((time - origin) / (hoursPerSecond * HOUR_MS)) * 1_000 - (performance.now() - startedAt);

  let published = 0;
  for (let next = first; !signal.aborted; next = await playedSoFar(broker)) {
    const quake = quakes[next];
    if (quake === undefined) break;
    const waitMs = dueInMs(quake);
    if (waitMs > 0) {
      // An aborted sleep is no failure: the loop looks at the signal.
      await sleep(waitMs, undefined, { signal }).catch(() => undefined);
      continue;
    }
    // Up to the first that is not due yet: what comes behind one that is left out would take its place in the store.
    const batch = quakes.slice(next, next + BATCH);
    const notDue = batch.findIndex((each) => dueInMs(each) > 0);
    if (notDue >= 0) batch.length = notDue;
    await Promise.all(batch.map((each) => broker.events.publish("quake.recorded", each, { key: each.net })));
    published += batch.length;
  }
  return published;
}
