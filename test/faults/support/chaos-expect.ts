/** What a chaos run has to come to. */

import { expect } from "vitest";
import { RECIPIENTS } from "./chaos-queue-load.js";
import { reportOf } from "./chaos-report.js";
import { type ChaosOptions, type ChaosReport, runChaos } from "./chaos-run.js";

/** From the first accepted write until every process works, and from a kill until that write (ms). */
const RECOVERY_MS = 5_000;
const KILL_TO_WRITE_MS = 10_000;
/** A run that did less than this has shown nothing, on however busy a machine. */
const LEAST_A_MINUTE = { faults: 8, events: 15_000, items: 2_500, expired: 50, compared: 250 };

/** Runs it, and fails with the report, and with it the seed, unless every property holds. */
export async function expectChaosToHold(
  run: Pick<ChaosOptions, "topology" | "seed" | "rate" | "queueRate"> & { readonly minutes: number },
): Promise<ChaosReport> {
  const { minutes, ...options } = run;
  const report = await runChaos({ ...options, faults: { minutes } });
  const page = reportOf(report);
  console.log(page);
  const { broken, groups, published, queue, recovery } = report.verdict;
  expect(broken, page).toEqual({});
  expect(Object.values(groups).map(({ lost }) => lost)).toEqual([0, 0]);
  const recipients = Object.values(queue?.recipients ?? {});
  expect(recipients.map(({ lost }) => lost)).toEqual(RECIPIENTS.map(() => 0));
  expect(recovery.recovery.p99).toBeLessThanOrEqual(RECOVERY_MS);
  expect(recovery.killToWrite.p99).toBeLessThanOrEqual(KILL_TO_WRITE_MS);
  expect(recovery.faults).toBeGreaterThanOrEqual(LEAST_A_MINUTE.faults * minutes);
  expect(published.ok).toBeGreaterThanOrEqual(LEAST_A_MINUTE.events * minutes);
  expect(queue?.published.ok).toBeGreaterThanOrEqual(LEAST_A_MINUTE.items * minutes);
  for (const count of ["expired", "compared"] as const) {
    const sum = recipients.reduce((total, counts) => total + counts[count], 0);
    expect(sum, count).toBeGreaterThanOrEqual(LEAST_A_MINUTE[count] * minutes);
  }
  return report;
}
