/** The contract suite itself: a case that cannot fail proves nothing, so each of these bugs has to be found. */

import { describe, expect, test } from "vitest";
import { openMemory } from "../../src/backends/memory/index.js";
import type { ContractCase } from "../../src/testing/contract.js";
import { contractCases, createFakeClock } from "../../src/testing/index.js";
import { type LaneStore, laneStore } from "./support/lane-store.js";
import { openMemoryStore } from "./support/memory-store.js";
import { openNothing } from "./support/nothing.js";
import { broadcastBugs } from "./support/planted-broadcast.js";
import { consumingBugs } from "./support/planted-consuming.js";
import { edgeBugs } from "./support/planted-edges.js";
import { groupBugs } from "./support/planted-groups.js";
import { keepingBugs } from "./support/planted-keeping.js";
import { queueBugs } from "./support/planted-queues.js";
import { membershipBugs } from "./support/planted-membership.js";
import { storingBugs } from "./support/planted-storing.js";
import type { PlantedBug } from "./support/planting.js";
import { runCase } from "./support/run-case.js";

let opened = 0;

/** A store in memory, all of whose backends have the bug. */
function openWith({ plant, misread = (context) => context }: PlantedBug): Promise<LaneStore> {
  const clock = createFakeClock();
  const name = `planted-${(opened += 1)}`;
  return laneStore({
    open: async (context) => plant(await openMemory({ name }, misread(context)), context),
    clock,
    elapse: (ms) => clock.advance(ms),
    now: async () => clock.now(),
  });
}

function caseOf(title: string): ContractCase {
  const found = contractCases.find((contractCase) => contractCase.title === title);
  if (found === undefined) throw new Error(`there is no case "${title}"`);
  return found;
}

describe.concurrent.each([
  ...consumingBugs,
  ...storingBugs,
  ...groupBugs,
  ...keepingBugs,
  ...queueBugs,
  ...edgeBugs,
  ...broadcastBugs,
  ...membershipBugs,
])("where $title", (bug) => {
  test.each(bug.caughtBy)("this fails: %s", async (title) => {
    const contractCase = caseOf(title);
    await runCase(contractCase, openMemoryStore);
    await expect(runCase(contractCase, () => openWith(bug))).rejects.toThrow();
  });
});

test("a backend that does nothing passes only what asks for nothing", async () => {
  const passes = contractCases.map(async (contractCase) => {
    const clock = createFakeClock();
    const store = { open: openNothing, clock, elapse: clock.advance, now: async () => clock.now() };
    return runCase(contractCase, () => laneStore(store)).then(
      () => [contractCase.title],
      () => [],
    );
  });
  expect((await Promise.all(passes)).flat()).toEqual([
    "backend: it has a name, says what a write attains, and measures a round trip",
    "backend: while all is well, every check is ok, also with feeds and subscriptions open",
    "backend: closing is safe to do twice, also at the same time",
    "broadcast: publishing tells a count for each message",
    "log: an append of nothing stores nothing",
    "log: an unknown stream is empty and has no groups",
    "queue: an unknown queue or recipient is empty",
    "log: a take that finds nothing ends when its time is up",
    "queue: a take that finds nothing ends when its time is up",
    "log: where nothing was parked there are no dead letters",
    "queue: where nothing was parked there are no dead letters",
    "membership: an unknown group is empty, and has no version",
  ]);
});

test("every case has a title of its own that begins with its port", () => {
  const titles = contractCases.map(({ title }) => title);
  expect(titles.filter((title, index) => titles.indexOf(title) !== index)).toEqual([]);
  expect(titles.filter((title) => !/^(backend|broadcast|log|queue|membership|log, queue): \S/.test(title))).toEqual([]);
});
