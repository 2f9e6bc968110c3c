/** Waiting for conditions, in real time and in a store's time. */

import { AssertionError } from "node:assert";
import type { ContractStore } from "./contract.js";

/** How much of the store's time a case allows for what should come at once, or within the second of a lost wake-up. */
export const PROMPT_MS = 5_000;
const STEP_MS = 100;

/**
 * Looks at `condition` every few milliseconds of real time until it holds.
 *
 * @throws {AssertionError} naming `what`, after `deadlineMs` (default 5,000)
 */
export async function until(
  condition: () => boolean | Promise<boolean>,
  options: { readonly what?: string; readonly deadlineMs?: number } = {},
): Promise<void> {
  const { what = "the condition", deadlineMs = 5_000 } = options;
  if (!(await holdsSoon(condition, deadlineMs))) fail(`${what} did not come in ${deadlineMs} ms`);
}

/**
 * Waits until `condition` holds, while the store's clock passes: first a moment in which it stands still, as most things
 * come by themselves, then step by step.
 *
 * @throws {AssertionError} naming `what`, when `limitMs` of the store's time have passed
 */
export async function eventually(
  store: ContractStore,
  condition: () => boolean | Promise<boolean>,
  what: string,
  limitMs: number = PROMPT_MS,
): Promise<void> {
  if (await holdsSoon(condition, STEP_MS)) return;
  for (let passed = 0; passed < limitMs; passed += STEP_MS) {
    await store.elapse(STEP_MS);
    // What the clock set off may still be on its way here from another process.
    if (await holdsSoon(condition, 2)) return;
  }
  if (!(await holdsSoon(condition, 500))) fail(`${what} did not come in ${limitMs} ms`);
}

/** Resolves or rejects as `promise` does, while the store's clock passes; see {@link eventually}. */
export async function within<T>(
  store: ContractStore,
  promise: Promise<T>,
  limitMs: number = PROMPT_MS,
  what: string = "the result",
): Promise<T> {
  let settled = false;
  const settle = (): void => {
    settled = true;
  };
  promise.then(settle, settle);
  await eventually(store, () => settled, what, limitMs);
  return promise;
}

/** Waits, in real time, long enough for a call that was just made to have reached the point where it waits. */
export function aMoment(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, 30));
}

async function holdsSoon(condition: () => boolean | Promise<boolean>, ms: number): Promise<boolean> {
  const start = performance.now();
  for (;;) {
    if (await condition()) return true;
    if (performance.now() - start >= ms) return false;
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
}

function fail(message: string): never {
  throw new AssertionError({ message });
}
