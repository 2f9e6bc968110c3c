/** What a planted bug has to come to: found in time, by its rule, from a seed that passes without it. */

import { expect } from "vitest";
import { explain } from "../history.js";
import { type ChaosOptions, type ChaosReport, runChaos } from "./chaos-run.js";
import type { Side } from "./history-log.js";
import { type PlantedBug, type Scenario, SCENARIOS } from "./planted.js";

const SEED = 20_240_607;
/** From the first publish to the last operation: on a quiet machine, and on one that starts each process twice as slowly. */
const FOUND_WITHIN_S = process.env["CI"] === undefined ? 10 : 20;

export interface Hunt {
  /** Fails unless the bug is found. */
  find(bug: PlantedBug): Promise<void>;
}

/** @param side that has the bugs: the other is left out */
export function createHunt(side: Side, options: Pick<ChaosOptions, "rate" | "queueRate">): Hunt {
  function run(scenario: Scenario, bug?: string): Promise<ChaosReport> {
    const { script, consumers } = SCENARIOS[scenario];
    return runChaos({
      topology: "standalone",
      sides: [side],
      seed: SEED,
      faults: { script },
      publishers: 1,
      consumers,
      ...options,
      leaseMs: 1_000,
      patienceMs: 5_500,
      // Where nothing is wrong it is done when it is done; a bug may keep it from that for ever.
      ...(bug === undefined ? {} : { bug, drainMs: 5_000, onFailure: "forget" }),
    });
  }

  const soundScenarios = new Set<Scenario>();
  /** The same seed without any bug. */
  async function checkSound(scenario: Scenario): Promise<void> {
    if (soundScenarios.has(scenario)) return;
    const { verdict } = await run(scenario);
    expect(explain(verdict)).toBe("every property holds");
    soundScenarios.add(scenario);
  }

  return {
    async find({ name, foundBy, scenario }) {
      await checkSound(scenario);
      const { verdict } = await run(scenario, name);
      expect(Object.keys(verdict.broken)).toContain(foundBy);
      expect(verdict.seconds).toBeLessThan(FOUND_WITHIN_S);
    },
  };
}
