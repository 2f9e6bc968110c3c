/** Stores in this process's memory, on a fake clock; without vitest, as other runtimes run the cases too. */

import { openMemory } from "../../../src/backends/memory/index.js";
import { createFakeClock } from "../../../src/testing/fake-clock.js";
import { type LaneStore, laneStore } from "./lane-store.js";

let opened = 0;

/** A store in this process's memory, under a name that its backends share. */
export async function openMemoryStore(): Promise<LaneStore> {
  const clock = createFakeClock();
  const name = `contract-${(opened += 1)}`;
  return laneStore({
    open: (context) => openMemory({ name }, context),
    clock,
    elapse: (ms) => clock.advance(ms),
    now: async () => clock.now(),
  });
}
