/** Changing how long streams may grow. */

import type { Retention } from "../core/backend.js";
import { ConfigError } from "../core/errors.js";
import { abortableCall } from "../core/lifecycle.js";
import { aSignal, type Checks, findProblems } from "../core/options.js";
import type { Runtime } from "../core/runtime.js";
import { LIMIT_CHECKS, type Stream } from "../core/streams.js";

/** What can be changed of how long a stream may grow. */
export interface StreamLimits {
  readonly maxEntries?: number;
  /** Events older than this are dropped. `null`: none for their age any more. */
  readonly maxAgeMs?: number | null;
  /** See `StreamOptions`. Publishers that are open go on refusing or waiting as they did when they connected. */
  readonly overflow?: Retention["overflow"];
  readonly signal?: AbortSignal;
}

const CHECKS: Checks<StreamLimits> = {
  ...LIMIT_CHECKS,
  maxAgeMs: (age) => (age === null ? undefined : LIMIT_CHECKS.maxAgeMs(age)),
  signal: aSignal,
};

/** Changes what is stored with the stream. @throws {ConfigError} for what cannot be meant */
export async function changeLimits(
  { backend, streams }: Runtime,
  { name }: Stream,
  changes: StreamLimits,
): Promise<Retention> {
  const problems = findProblems("events.configure", changes, CHECKS);
  const { signal, ...limits } = changes ?? {};
  if (problems.length === 0 && Object.values(limits).every((limit) => limit === undefined))
    problems.push("events.configure: there is nothing to change: give it maxEntries, maxAgeMs or overflow");
  if (problems.length > 0) throw new ConfigError(problems);
  return await abortableCall(() => backend.log.changeRetention(name, limits, streams.retentionOf(name)), signal);
}
