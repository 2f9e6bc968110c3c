/** Eight minutes of chaos on each topology: a million acknowledged events and a hundred thousand messages to a queue, a hundred faults of all kinds, nothing lost. */

import { expect, test } from "vitest";
import { expectChaosToHold } from "./support/chaos-expect.js";
import { faultsOf } from "./support/chaos-faults.js";
import { TOPOLOGIES } from "./support/chaos-sites.js";

const MINUTES = 8;

test.each(TOPOLOGIES)(
  "eight minutes of faults on %s",
  async (topology) => {
    const { verdict, failovers } = await expectChaosToHold({ topology, minutes: MINUTES, seed: 8 });
    const { published, queue, recovery } = verdict;
    expect(published.ok).toBeGreaterThanOrEqual(1_000_000);
    expect(queue?.published.ok).toBeGreaterThanOrEqual(100_000);
    expect(recovery.faults).toBeGreaterThanOrEqual(100);
    const drawn = faultsOf(topology).filter(({ copies }) => copies > 0);
    expect(Object.keys(recovery.byKind).sort()).toEqual(drawn.map(({ kind }) => kind).sort());
    if (topology !== "standalone") expect(failovers).toBeGreaterThanOrEqual(10);
  },
  1_200_000,
);
