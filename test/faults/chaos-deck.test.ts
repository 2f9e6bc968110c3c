/** Which faults a seed draws. */

import { expect, test } from "vitest";
import { Deck, faultsOf } from "./support/chaos-faults.js";
import { TOPOLOGIES, type Topology } from "./support/chaos-sites.js";
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
