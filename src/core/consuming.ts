/** Options that every consuming call takes, checked the same way. */

import { aDuration, aNumber, anInteger, aSignal, type Check, type Checks, nested } from "./options.js";
import { DEFAULT_RETRY, type RetryPolicy } from "./retry.js";

export interface ConsumeOptions {
  /** Handlers at once, for each stream. Default 10. In the iterable form: deliveries out at once. */
  readonly concurrency?: number;
  /** Defaults: 3 attempts, 100 ms doubling up to 30 s, jitter 0.2. */
  readonly retry?: Partial<RetryPolicy>;
  /** How long a delivery stays with a consumer that shows no sign of life. Renewed while the handler runs. Default 30,000. */
  readonly leaseMs?: number;
  /** Dead letters kept; beyond it the oldest goes. Default 10,000. */
  readonly maxDeadLetters?: number;
  /** Ends the subscription, or the iteration, as their `close` does. */
  readonly signal?: AbortSignal;
}

export const DEFAULT_CONCURRENCY = 10;
export const DEFAULT_LEASE_MS = 30_000;
export const DEFAULT_MAX_DEAD_LETTERS = 10_000;
const MAX_CONCURRENCY = 10_000;
/** A shorter lease would run out between two renewals on a busy machine. */
const MIN_LEASE_MS = 100;

const RETRY_CHECKS: Checks<RetryPolicy> = {
  maxAttempts: anInteger(1, 1_000_000),
  initialMs: aDuration(),
  factor: aNumber(1, 1_000),
  maxMs: aDuration(),
  jitter: aNumber(0, 1),
};

export const CONSUME_CHECKS: Checks<ConsumeOptions> = {
  concurrency: anInteger(1, MAX_CONCURRENCY),
  retry: nested(RETRY_CHECKS),
  leaseMs: aDuration(MIN_LEASE_MS),
  maxDeadLetters: anInteger(0, 1_000_000),
  signal: aSignal,
};

/** The caller's policy over the defaults. */
export function retryPolicy(partial: Partial<RetryPolicy> | undefined): RetryPolicy {
  return { ...DEFAULT_RETRY, ...partial };
}

/** Demands an option that has no default. */
export const required =
  (check: Check, what: string): Check =>
  (value) =>
    value === undefined ? `is missing: ${what}` : check(value);
