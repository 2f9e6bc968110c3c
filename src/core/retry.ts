/** The one retry policy: exponential backoff with jitter, for failed handlers and for a store that cannot be reached. */

import { randomInt } from "node:crypto";

/** Defaults: 3 attempts, 100 ms doubling up to 30 s, each ± 20 %. */
export interface RetryPolicy {
  /** The first attempt counts. */
  readonly maxAttempts: number;
  readonly initialMs: number;
  readonly factor: number;
  readonly maxMs: number;
  /** Share of the delay that is random, 0 to 1: 0.2 gives 80 % to 120 %. */
  readonly jitter: number;
}

export const DEFAULT_RETRY: RetryPolicy = { maxAttempts: 3, initialMs: 100, factor: 2, maxMs: 30_000, jitter: 0.2 };

/** For connections: never gives up, quick at first so that a restart is hardly noticed. */
export const RECONNECT: RetryPolicy = {
  maxAttempts: Number.POSITIVE_INFINITY,
  initialMs: 50,
  factor: 2,
  maxMs: 1_000,
  jitter: 0.5,
};

const RANDOM_STEPS = 1_000_000;

/** How long to wait after the given attempt (from 1) failed, in whole milliseconds. */
export function backoffMs(policy: RetryPolicy, attempt: number): number {
  if (policy.initialMs === 0) return 0; // Otherwise zero times an infinite factor, one day.
  const base = Math.min(policy.maxMs, policy.initialMs * policy.factor ** (attempt - 1));
  const swing = (randomInt(RANDOM_STEPS) / RANDOM_STEPS) * 2 - 1;
  return Math.round(base * (1 + policy.jitter * swing));
}
