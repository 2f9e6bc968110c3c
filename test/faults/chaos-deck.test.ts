/** Which faults a seed draws, and what they strike. */

import { expect, test } from "vitest";
import { queueKeys } from "../../src/backends/redis/keys.js";
import { slotOfKey } from "../../src/backends/redis/slots.js";
import { Deck, faultsOf } from "./support/chaos-faults.js";
import { STREAM_KEY, TOPOLOGIES, type Topology } from "./support/chaos-sites.js";
import { AUDIENCE, itemNamed, itemOf, QUEUE } from "./support/chaos-queue-load.js";
import { idOf } from "./support/chaos-load.js";
import { createRandom } from "./support/random.js";

function draw(topology: Topology, seed: number, count: number): string[] {
  const deck = new Deck(faultsOf(topology), createRandom(seed));
  return Array.from({ length: count }, () => deck.draw().kind);
}

test.each(TOPOLOGIES)("on %s a seed draws the same faults again, and another seed others", (topology) => {
  expect(draw(topology, 5, 100)).toEqual(draw(topology, 5, 100));
  expect(draw(topology, 5, 100)).not.toEqual(draw(topology, 6, 100));
});

test.each(TOPOLOGIES)("on %s each fault comes as often as it has copies before any comes again", (topology) => {
  const faults = faultsOf(topology).filter(({ copies }) => copies > 0);
  const all = faults.flatMap(({ kind, copies }) => Array.from({ length: copies }, () => kind)).sort();
  const drawn = draw(topology, 7, 3 * all.length);
  for (const from of [0, all.length, 2 * all.length]) expect(drawn.slice(from, from + all.length).sort()).toEqual(all);
});

test("two failovers are apart, and there are at least ten among a hundred faults", () => {
  for (const topology of ["sentinel", "cluster"] as const) {
    const failsOver = new Set(
      faultsOf(topology)
        .filter((fault) => fault.failsOver === true)
        .map(({ kind }) => kind),
    );
    const places = draw(topology, 9, 100).flatMap((kind, index) => (failsOver.has(kind) ? [index] : []));
    const gaps = places.slice(1).map((place, index) => place - (places[index] ?? 0));
    expect(places.length).toBeGreaterThanOrEqual(10);
    // At the end of a deck nothing else may be left to put between.
    expect(gaps.filter((gap) => gap < 3).length).toBeLessThan(gaps.length / 4);
  }
});

test("stream and queue lie in one slot, so that one fault meets both", () => {
  expect(slotOfKey(queueKeys("default", QUEUE).records)).toBe(slotOfKey(STREAM_KEY));
});

test("messages of the queue are of all kinds: for one, for anybody and for all, urgent and not, mortal and delayed", () => {
  const items = Array.from({ length: 5_000 }, (_, n) => itemOf(1, n));
  const share = (which: (item: (typeof items)[number]) => boolean): number => items.filter(which).length / items.length;
  for (const to of ["*", "", ...AUDIENCE]) expect(share((item) => item.to === to)).toBeGreaterThan(0.04);
  expect(new Set(items.map(({ priority }) => priority)).size).toBeGreaterThan(6);
  expect(share(({ ttlMs }) => ttlMs !== undefined)).toBeGreaterThan(0.1);
  expect(share(({ delayMs }) => delayMs !== undefined)).toBeGreaterThan(0.08);
  expect(share(({ ttlMs = Infinity, delayMs = 0 }) => delayMs > ttlMs)).toBeGreaterThan(0.01);
  expect(itemNamed(idOf(3, 14))).toEqual({ p: 3, n: 14 });
  expect(itemNamed("chaos-3-014")).toBeUndefined();
});
