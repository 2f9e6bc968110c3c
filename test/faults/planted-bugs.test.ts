/** The chaos runner and its checker against bugs that brokers have had: what cannot find them proves nothing. */

import { describe, expect, test } from "vitest";
import { explain } from "./history.js";
import { type ChaosReport, runChaos } from "./support/chaos-run.js";
import { PLANTED_BUGS, SCENARIOS } from "./support/planted-bugs.js";

type Scenario = keyof typeof SCENARIOS;

const SEED = 20_240_607;
/** From the first publish to the last operation. */
const FOUND_WITHIN_S = 10;

function run(scenario: Scenario, bug?: string): Promise<ChaosReport> {
  const { script, consumers } = SCENARIOS[scenario];
  return runChaos({
    topology: "standalone",
    seed: SEED,
    faults: { script },
    publishers: 1,
    consumers,
    rate: 3_000,
    leaseMs: 1_000,
    patienceMs: 5_500,
    drainMs: 3_500,
    ...(bug === undefined ? {} : { bug, onFailure: "forget" }),
  });
}

/** What the same seed comes to without any bug. */
const soundRuns = new Map<Scenario, Promise<ChaosReport>>();
function soundRun(scenario: Scenario): Promise<ChaosReport> {
  const known = soundRuns.get(scenario) ?? run(scenario);
  soundRuns.set(scenario, known);
  return known;
}

describe.each(PLANTED_BUGS)("where $name", ({ name, foundBy, scenario }) => {
  test(`it is found by the rule "${foundBy}", from a seed that passes without the bug`, async () => {
    const { verdict: sound } = await soundRun(scenario);
    expect(explain(sound)).toBe("every property holds");
    const { verdict } = await run(scenario, name);
    expect(Object.keys(verdict.broken)).toContain(foundBy);
    expect(verdict.seconds).toBeLessThan(FOUND_WITHIN_S);
  }, 60_000);
});
