/** Turns the contract cases into the tests of one lane. */

import { beforeAll, describe, test } from "vitest";
import { contractCases } from "../../../src/testing/index.js";
import type { OpenStore } from "./lane-store.js";
import { runCase } from "./run-case.js";

/** Longer than any case takes on a slow machine. */
const CASE_TIMEOUT_MS = 90_000;
/** Cases on a real server mostly wait for its clock, and may as well wait together. */
const AT_THE_SAME_TIME = 10;

/** One test per case, one after the other: for stores with a clock of their own. */
export function defineLane(name: string, openStore: OpenStore): void {
  describe(name, () => {
    for (const contractCase of contractCases) {
      test(contractCase.title, () => runCase(contractCase, openStore), CASE_TIMEOUT_MS);
    }
  });
}

/**
 * One test per case, several running at the same time: for stores on the machine's clock.
 *
 * Vitest would run at most five tests at a time, so that the cases run by themselves, and each test awaits its own.
 */
export function defineParallelLane(name: string, openStore: OpenStore): void {
  describe(name, () => {
    const outcomes = new Map<string, Promise<void>>();
    // Vitest reads the names of fixtures from the first parameter, and wants to see that there are none.
    // oxlint-disable-next-line eslint/no-empty-pattern
    beforeAll(({}, suite) => {
      const inTurn = createTurns(AT_THE_SAME_TIME);
      const skipped = new Set(suite.tasks.filter(({ mode }) => mode === "skip").map((task) => task.name));
      for (const contractCase of contractCases) {
        if (skipped.has(contractCase.title)) continue;
        const outcome = inTurn(() => runCase(contractCase, openStore));
        // Its test may not be there yet to take the failure.
        outcome.catch(() => {});
        outcomes.set(contractCase.title, outcome);
      }
    });
    for (const { title } of contractCases) test(title, () => outcomes.get(title), 2 * CASE_TIMEOUT_MS);
  });
}

/** Runs at most `places` pieces of work at a time, in the order they were given. */
function createTurns(places: number): <T>(work: () => Promise<T>) => Promise<T> {
  let free = places;
  const waiting: (() => void)[] = [];
  return async (work) => {
    if (free > 0) free -= 1;
    else await new Promise<void>((resolve) => waiting.push(resolve));
    try {
      return await work();
    } finally {
      const next = waiting.shift();
      if (next === undefined) free += 1;
      else next();
    }
  };
}
