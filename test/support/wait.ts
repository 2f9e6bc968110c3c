/** Waiting for a condition with a deadline, in place of sleeping for a time. */

export interface UntilOptions {
  /** Longest wait; default 5,000. */
  readonly deadlineMs?: number;
  /** Pause between two looks; default 5. */
  readonly everyMs?: number;
  /** What is awaited, for the error: "the replica to be in sync". */
  readonly what?: string;
  /** Asked before each look; a text that it returns ends the wait at once, as its reason. */
  readonly giveUp?: () => string | undefined;
}

/** Resolves after `ms`, which is at least one turn of the event loop. */
export function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

/**
 * Looks at `condition` until it gives a truthy value, and resolves with that value.
 *
 * A condition that throws or rejects is taken as "not yet"; its last error is part of the message when the deadline passes.
 * A look that never settles does not outlive the deadline.
 *
 * @throws {Error} naming `what`, when the deadline passes or `giveUp` names a reason
 */
export async function until<T>(
  condition: () => T | Promise<T>,
  options: UntilOptions = {},
): Promise<Exclude<T, false | 0 | "" | null | undefined>> {
  const { deadlineMs = 5_000, everyMs = 5, what = "the condition", giveUp } = options;
  const startedAt = performance.now();
  let seen = "it was never looked at";
  for (;;) {
    const reason = giveUp?.();
    if (reason !== undefined) throw new Error(`gave up waiting for ${what}: ${reason}`);
    const leftMs = deadlineMs - (performance.now() - startedAt);
    if (leftMs <= 0) throw new Error(`waited ${deadlineMs} ms in vain for ${what}; last look: ${seen}`);
    try {
      const value = await withDeadline(condition, leftMs);
      // The cast only states what the test beside it has shown.
      if (value) return value as Exclude<T, false | 0 | "" | null | undefined>;
      seen = String(value);
    } catch (error) {
      seen = error instanceof Error ? error.message : String(error);
    }
    await pause(everyMs);
  }
}

/** Runs `work`, rejecting after `deadlineMs` when it has not settled by then. */
export async function withDeadline<T>(work: () => T | Promise<T>, deadlineMs: number, what = "it"): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const expiry = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(
      () => reject(new Error(`${what} was still running after ${Math.round(deadlineMs)} ms`)),
      deadlineMs,
    );
  });
  try {
    return await Promise.race([work(), expiry]);
  } finally {
    clearTimeout(timer);
  }
}
