/** Live notifications by region, for whoever looks on now: nothing is stored, and nothing waits for a slow one. */

import { channel } from "signalbox";
import type { Quake, QuakeBroker } from "./contract.js";
import { count } from "./progress.js";

const region = channel("quakes.{region}");
/** A burst while the desk is busy with other things. */
const BUFFER = 10_000;

/** Tells whoever listens to the quake's region, or to all of them. Nobody waits for it: who misses one has missed it. */
export function notify(broker: QuakeBroker, quake: Quake): void {
  broker.pubsub.publish(region.name({ region: regionOf(quake) }), quake).catch(() => undefined);
}

/** The last part of the place. The feed itself says `CA` as well as `California`. */
export function regionOf({ place }: Quake): string {
  const region = place.split(", ").at(-1) ?? place;
  return region === "CA" ? "California" : region;
}

/** Looks on, as a screen on the wall would. @returns what it has heard so far, in a line */
export async function lookOn(broker: QuakeBroker): Promise<() => string> {
  let heard = 0;
  const regions = new Map<string, number>();
  await broker.pubsub.subscribe("quakes.{region}", { buffer: BUFFER }, (_, { params }) => {
    heard += 1;
    regions.set(params.region, (regions.get(params.region) ?? 0) + 1);
  });
  return () => {
    const [most] = [...regions].toSorted(([, a], [, b]) => b - a);
    const loudest = most === undefined ? "" : `, most of them from ${most[0]}`;
    return `Live        ${count(heard)} notifications heard from ${count(regions.size)} regions${loudest}`;
  };
}
