/** Consuming, the same for the log and the queue. Knows how to wait, and nothing of what it waits for. */

import type { Feed, Outcome, Receipt, Taken, TakeRequest } from "../../core/backend.js";
import type { Clock } from "../../core/clock.js";
import { ClosedError } from "../../core/errors.js";
import type { Holder } from "./worklist.js";

/** Everyone who waits for something to become ready. A call wakes all: each looks for itself. */
export interface Bell {
  ring(): void;
  /** @returns a function that stops listening */
  listen(wake: () => void): () => void;
}

export function createBell(): Bell {
  const listeners = new Set<() => void>();
  return {
    ring() {
      for (const wake of listeners) wake();
    },
    listen(wake) {
      listeners.add(wake);
      return () => listeners.delete(wake);
    },
  };
}

/** However sure the wake-ups are, a waiting feed looks again after this long. */
const RECHECK_MS = 1_000;

/** Where deliveries come from: a group of the log, an inbox of the queue. */
export interface FeedSource {
  /** Settles, then takes what is ready. Throws when there is nothing to consume from any more. */
  take(want: { readonly max: number; readonly holder: Holder }, outcomes: readonly Outcome[], now: number): Taken;
  /** @returns the receipts that are no longer valid */
  extend(receipts: readonly Receipt[], now: number): readonly Receipt[];
  giveBack(holder: Holder, now: number): void;
  /** When something will be ready by the clock alone. */
  nextReadyAt(): number;
}

export interface FeedOptions {
  readonly source: FeedSource;
  /** Rings when something may have become ready otherwise than by the clock. */
  readonly bell: Bell;
  readonly clock: Clock;
  readonly consumer: string;
  /** Called once, when the feed closes. */
  readonly onClose: () => void;
}

export function createFeed({ source, bell, clock, consumer, onClose }: FeedOptions): Feed {
  const closing = new AbortController();
  const holder: Holder = { consumer };

  function takeNow(max: number, outcomes: readonly Outcome[]): Taken {
    const taken = source.take({ max, holder }, outcomes, clock.now());
    // What has just ended may have freed or parked something that another consumer waits for.
    if (outcomes.length > 0 || taken.poisoned > 0) bell.ring();
    return taken;
  }

  async function take(want: TakeRequest, outcomes: readonly Outcome[]): Promise<Taken> {
    if (closing.signal.aborted) throw new ClosedError("the feed is closed");
    let taken = takeNow(want.max, outcomes);
    if (outcomes.length > 0 || want.max === 0) return taken;
    const deadline = clock.now() + want.waitMs;
    while (isEmpty(taken) && clock.now() < deadline && want.signal?.aborted !== true) {
      await waitForWork(deadline, want.signal);
      if (closing.signal.aborted) break;
      taken = takeNow(want.max, []);
    }
    return taken;
  }

  /** Resolves when the bell rings, when something becomes ready by the clock, or when waiting should end. */
  function waitForWork(deadline: number, signal: AbortSignal | undefined): Promise<void> {
    const now = clock.now();
    const until = Math.min(deadline, source.nextReadyAt(), now + RECHECK_MS);
    return new Promise((resolve) => {
      const done = (): void => {
        timer.cancel();
        unlisten();
        signal?.removeEventListener("abort", done);
        closing.signal.removeEventListener("abort", done);
        resolve();
      };
      const timer = clock.setTimer(done, Math.max(0, until - now));
      const unlisten = bell.listen(done);
      signal?.addEventListener("abort", done, { once: true });
      closing.signal.addEventListener("abort", done, { once: true });
    });
  }

  async function extend(receipts: readonly Receipt[]): Promise<readonly Receipt[]> {
    if (closing.signal.aborted) throw new ClosedError("the feed is closed");
    return source.extend(receipts, clock.now());
  }

  async function close(): Promise<void> {
    if (closing.signal.aborted) return;
    closing.abort();
    source.giveBack(holder, clock.now());
    bell.ring();
    onClose();
  }

  return { take, extend, close };
}

function isEmpty(taken: Taken): boolean {
  return taken.deliveries.length === 0 && taken.gone === 0 && taken.expired === 0 && taken.poisoned === 0;
}
