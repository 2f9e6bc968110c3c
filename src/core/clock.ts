/** The one clock that the core and the embedded backends read, injected so that tests never sleep. */

/** Time and timers. Everything that waits takes one of these. */
export interface Clock {
  /** Milliseconds since the epoch. */
  now(): number;
  /** Calls `fire` once, `ms` from now. A pending timer keeps the process alive: a subscription runs until it is closed. */
  setTimer(fire: () => void, ms: number): Timer;
}

export interface Timer {
  /** Safe to call twice, and after it fired. */
  cancel(): void;
  /** From now on it keeps the process alive, as it does at first. For clocks whose timers do. */
  ref?(): void;
  /** From now on it does not: a timer that waits for nothing may stay set. */
  unref?(): void;
}

/** The machine's clock. */
export const systemClock: Clock = {
  now: () => Date.now(),
  setTimer(fire, ms) {
    const timeout = setTimeout(fire, ms);
    return {
      cancel: () => clearTimeout(timeout),
      ref: () => void timeout.ref(),
      unref: () => void timeout.unref(),
    };
  },
};

/** Resolves after `ms`, or at once when `signal` aborts: a wait is not a failure, so it never rejects. */
export function wait(clock: Clock, ms: number, signal?: AbortSignal): Promise<void> {
  if (signal?.aborted) return Promise.resolve();
  return new Promise((resolve) => {
    const done = (): void => {
      timer.cancel();
      signal?.removeEventListener("abort", done);
      resolve();
    };
    const timer = clock.setTimer(done, ms);
    signal?.addEventListener("abort", done, { once: true });
  });
}

/** Resolves with `work`, or after `ms` without it: it goes on then, unobserved. Rejects as `work` does. */
export async function atMost(clock: Clock, ms: number, work: Promise<unknown>): Promise<void> {
  const done = new AbortController();
  try {
    await Promise.race([work, wait(clock, ms, done.signal)]);
  } finally {
    done.abort();
  }
}

/** Resolves when the event loop has come round: what is ready to run now has run by then. Takes no time of the clock. */
export function nextTurn(): Promise<void> {
  return new Promise((resolve) => {
    setImmediate(resolve);
  });
}
