/** Publishing without pause, as long as there is room, and writing down what was tried and what was told of it. */

import { PublishIndeterminateError, TimeoutError } from "../../../src/core/errors.js";
import { pause } from "../../support/wait.js";
import { type HistoryLog, now, type Op } from "./history-log.js";

/** After a refusal, which comes at once: without it this would do nothing but collect them. */
const REFUSED_MS = 100;
/** How often something is published again that may not have been stored. */
const MAX_REPEATS = 3;
/** The broker itself gives up earlier. */
const FINISH_MS = 25_000;
const LOOK_MS = 5;

export interface PublishingOptions {
  readonly history: HistoryLog;
  /** Messages a second, as long as there is room in the window. */
  readonly rate: number;
  /** Publishes under way at once. */
  readonly window: number;
  /** How long messages are saved up that are then published together. */
  readonly tickMs: number;
  /** What is written down before message `n` leaves the process. */
  invoke(n: number): Op;
  /** @returns what is written down of the receipt besides */
  publish(n: number): Promise<{ readonly count?: number }>;
  /** Whether it may be published again when it may not have been stored. */
  mayRepeat(n: number): boolean;
  /** Notes a failure that should not exist. */
  noteForeign(error: unknown): void;
}

export interface Publishing {
  setRate(perSecond: number): void;
  /** Publishes so many at once, whatever the rate. */
  burst(count: number): void;
  /** Publishes no more, and waits for what is under way. */
  finish(): Promise<void>;
}

export function startPublishing(options: PublishingOptions): Publishing {
  const { history, window, tickMs } = options;
  const state = { next: 0, underway: 0, running: true, allowance: 0, rate: options.rate, resumeAt: 0 };

  async function publish(n: number): Promise<void> {
    for (let repeats = 0; ; repeats += 1) {
      try {
        const told = await options.publish(n);
        history.write({ op: "ok", t: now(), n, ...told });
        return;
      } catch (error) {
        options.noteForeign(error);
        const isUnknown = error instanceof PublishIndeterminateError || error instanceof TimeoutError;
        if (isUnknown && repeats < MAX_REPEATS && state.running && options.mayRepeat(n)) continue;
        const name = error instanceof Error ? error.name : String(error);
        // What was unknown once is not made certain by a later refusal.
        history.write({ op: isUnknown || repeats > 0 ? "unknown" : "fail", t: now(), n, error: name });
        state.resumeAt = performance.now() + REFUSED_MS;
        return;
      }
    }
  }

  /** All are written down before the first of them leaves. */
  function publishSome(count: number): void {
    const first = state.next;
    state.next += count;
    for (let n = first; n < state.next; n += 1) history.write(options.invoke(n));
    history.flush();
    for (let n = first; n < state.next; n += 1) {
      state.underway += 1;
      void publish(n).finally(() => (state.underway -= 1));
    }
  }

  async function publishOn(): Promise<void> {
    let lookedAt = performance.now();
    while (state.running) {
      await pause(tickMs);
      const at = performance.now();
      state.allowance = Math.min(state.allowance + ((at - lookedAt) / 1_000) * state.rate, state.rate / 4);
      lookedAt = at;
      if (at < state.resumeAt) continue;
      const count = Math.min(Math.floor(state.allowance), window - state.underway);
      if (count <= 0) continue;
      state.allowance -= count;
      publishSome(count);
    }
  }

  const publishing = publishOn();
  return {
    setRate(perSecond) {
      state.rate = perSecond;
      state.allowance = 0;
    },
    burst: publishSome,
    async finish() {
      state.running = false;
      await publishing;
      const deadline = performance.now() + FINISH_MS;
      while (state.underway > 0 && performance.now() < deadline) await pause(LOOK_MS);
    },
  };
}
