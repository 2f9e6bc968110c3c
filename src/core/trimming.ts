/** Drops what is too old from streams that say how old is too old, also while nobody publishes to them. */

import { atMost, wait } from "./clock.js";
import type { Consuming } from "./consumer-stats.js";
import { ClosedError } from "./errors.js";
import type { Runtime } from "./runtime.js";

/** Looks as often as a tenth of the age, within these. */
const MIN_PAUSE_MS = 1_000;
const MAX_PAUSE_MS = 60_000;

/** Trims each declared stream that has a `maxAgeMs`, until the broker closes. */
export function startTrimming(runtime: Runtime): void {
  for (const { name, retention } of runtime.streams.declared) {
    if (retention.maxAgeMs === undefined) continue;
    const pauseMs = Math.min(MAX_PAUSE_MS, Math.max(MIN_PAUSE_MS, Math.ceil(retention.maxAgeMs / 10)));
    const stop = new AbortController();
    const done = trim(runtime, name, pauseMs, stop.signal);
    const trimming: Consuming = {
      // It is no consumer of a group: `health()` has nothing to ask it.
      stats: () => [],
      async close({ drainMs = 0 } = {}) {
        stop.abort();
        await atMost(runtime.clock, drainMs, done);
      },
    };
    runtime.owner.ownConsumer(trimming);
  }
}

/** Never rejects. */
async function trim(runtime: Runtime, stream: string, pauseMs: number, stop: AbortSignal): Promise<void> {
  const { backend, clock } = runtime;
  let isFailing = false;
  for (;;) {
    await wait(clock, pauseMs, stop);
    if (stop.aborted) return;
    try {
      await backend.log.trim(stream);
      isFailing = false;
    } catch (error) {
      if (stop.aborted || error instanceof ClosedError) return;
      // The first failure of a row is news.
      if (!isFailing) runtime.report(error, `dropping what is too old from ${stream}`);
      isFailing = true;
    }
  }
}
