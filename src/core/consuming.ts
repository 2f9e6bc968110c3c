/** Options that every consuming call takes, checked the same way. */

import { InvalidArgumentError } from "./errors.js";
import { aDuration, aNumber, anInteger, aSignal, type Checks, nested, show } from "./options.js";
import { DEFAULT_RETRY, type RetryPolicy } from "./retry.js";

export interface ConsumeOptions {
  /**
   * Handlers at once, for each stream. Default 10. In the iterable form: deliveries out at once. In batches: batches at
   * once, default 1.
   */
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

/** For the forms that run a handler. */
export interface HandlerOptions {
  /**
   * How long a handler may take. Then its signal aborts with a `TimeoutError`, its lease is renewed no more, its slot is
   * free, and it counts as a failed attempt; what it comes to later changes nothing. Default: as long as it likes.
   */
  readonly handlerTimeoutMs?: number;
}

/** For the form whose handler takes several at once. */
export interface BatchOptions {
  /** Largest batch. Default 100. */
  readonly max?: number;
  /** How long the first of a batch waits for others. Default 20. */
  readonly waitMs?: number;
}

export const DEFAULT_CONCURRENCY = 10;
export const DEFAULT_LEASE_MS = 30_000;
export const DEFAULT_MAX_DEAD_LETTERS = 10_000;
export const MAX_CONCURRENCY = 10_000;
/** A shorter lease would run out between two renewals on a busy machine. */
const MIN_LEASE_MS = 100;

export const RETRY_CHECKS: Checks<RetryPolicy> = {
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

export const HANDLER_CHECKS: Checks<HandlerOptions> = { handlerTimeoutMs: aDuration(1) };

export const BATCH_CHECKS: Checks<BatchOptions> = { max: anInteger(1, MAX_CONCURRENCY), waitMs: aDuration() };

/** The caller's policy over the defaults. What is given as undefined is not given. */
export function retryPolicy(partial: Partial<RetryPolicy> = {}): RetryPolicy {
  return {
    maxAttempts: partial.maxAttempts ?? DEFAULT_RETRY.maxAttempts,
    initialMs: partial.initialMs ?? DEFAULT_RETRY.initialMs,
    factor: partial.factor ?? DEFAULT_RETRY.factor,
    maxMs: partial.maxMs ?? DEFAULT_RETRY.maxMs,
    jitter: partial.jitter ?? DEFAULT_RETRY.jitter,
  };
}

/** For callers without types. @throws {InvalidArgumentError} */
export function assertHandler(handler: unknown): void {
  if (typeof handler !== "function")
    throw new InvalidArgumentError(`the handler must be a function, not ${show(handler)}`);
}

/** For callers without types. @throws {InvalidArgumentError} */
export function assertGiven(where: string, options: unknown): void {
  if (options === undefined)
    throw new InvalidArgumentError(`${where} takes options in front of its handler: {} for the defaults`);
}
