/** What a chaos run has to come to. */

import { expect } from "vitest";
import { reportOf } from "./chaos-report.js";
import { type ChaosReport, runChaos } from "./chaos-run.js";
import type { Topology } from "./chaos-sites.js";

/** From the first accepted write until every process works, and from a kill until that write (ms). */
const RECOVERY_MS = 5_000;
const KILL_TO_WRITE_MS = 10_000;

/** Runs it, and fails with the report, and with it the seed, unless every property holds. */
export async function expectChaosToHold(run: {
  readonly topology: Topology;
  readonly minutes: number;
  readonly seed: number;
}): Promise<ChaosReport> {
  const { topology, minutes, seed } = run;
  const report = await runChaos({ topology, seed, faults: { minutes } });
  const { broken, groups, recovery } = report.verdict;
  console.log(reportOf(report));
  expect(broken, reportOf(report)).toEqual({});
  for (const { lost } of Object.values(groups)) expect(lost).toBe(0);
  expect(recovery.recovery.p99).toBeLessThanOrEqual(RECOVERY_MS);
  expect(recovery.killToWrite.p99).toBeLessThanOrEqual(KILL_TO_WRITE_MS);
  return report;
}
