/** One fault under load: what every test of this folder has in common. */

import { expect } from "vitest";
import { until } from "../../support/wait.js";
import { type Facade, FACADES, type Load, type LoadOptions, startLoad, timeToProgress } from "./load.js";

/** From the moment that a primary accepts writes again. */
export const RECOVERY_MS = 5_000;

export interface SurviveOptions extends LoadOptions {
  /** Default both, at once. */
  readonly facades?: readonly Facade[];
  /**
   * Until when publishing goes on. `fault` (default): until just before it, so that what is left has to move by itself;
   * `healed`: until the injection has resolved.
   */
  readonly publishingUntil?: "fault" | "healed";
  /** The fault takes messages away that were acknowledged; what is missing is for the test to judge. Default false. */
  readonly mayLose?: boolean;
  /** The server may have forgotten what became of interrupted batches: some are stored again, under the same ids. */
  readonly mayDouble?: boolean;
}

/**
 * Puts load on a server, injects a fault, and checks what has to hold: nothing acknowledged is lost, nothing comes from
 * nowhere or twice, every error has a type, and work goes on within 5 s without a new publish.
 *
 * @param inject injects the fault and heals it: resolves once the server accepts writes again
 * @returns the loads, closed, for what else has to hold
 */
export async function survive(
  url: string,
  inject: (loads: readonly Load[]) => Promise<unknown>,
  options: SurviveOptions = {},
): Promise<readonly Load[]> {
  const { facades = FACADES, publishingUntil = "fault", mayLose = false, mayDouble = mayLose } = options;
  const loads = await Promise.all(facades.map((facade) => startLoad(url, facade, options)));
  try {
    await Promise.all(loads.map(warm));
    const stop = (): Promise<unknown> => Promise.all(loads.map((load) => load.stopPublishing()));
    let stopped = publishingUntil === "fault" ? stop() : undefined;
    await inject(loads);
    const recovered = loads.map((load) => timeToProgress(load, RECOVERY_MS));
    stopped ??= stop();
    for (const ms of await Promise.all(recovered)) expect(ms).toBeLessThan(RECOVERY_MS);
    await stopped;
    await Promise.all(loads.map((load) => load.settle({ mayLose, mayDouble })));
    return loads;
  } finally {
    await Promise.all(loads.map((load) => load.close()));
  }
}

/** Both publishing and consuming have got going, and there is work left. */
async function warm(load: Load): Promise<void> {
  await until(() => load.handled.size >= 100, { deadlineMs: 15_000, what: `the ${load.facade} to be handled` });
  await until(() => load.acked.size >= load.handled.size + 500, { deadlineMs: 15_000, what: "a backlog" });
}

/** Waits until each load has so many more acknowledged messages than now. */
export async function moreAcked(loads: readonly Load[], count: number, deadlineMs = 15_000): Promise<void> {
  const goals = loads.map((load) => load.acked.size + count);
  await until(() => loads.every((load, index) => load.acked.size >= (goals[index] ?? 0)), {
    deadlineMs,
    what: `${count} more messages to be acknowledged`,
  });
}
