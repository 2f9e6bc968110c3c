/** Consuming from a work list: the same for the log and the queue. Knows how to wait, and nothing of what it waits for. */

import type { Delivery, Feed, Outcome, Receipt, Taken, TakeRequest } from "../../core/backend.js";
import type { Clock } from "../../core/clock.js";
import { ClosedError } from "../../core/errors.js";
import { toBytes } from "./stored.js";
import type { LeaseRules, Lease, Work, WorkList } from "./worklist.js";

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

export interface Tally {
  readonly gone: number;
  readonly expired: number;
}

/** However sure the wake-ups are, a waiting feed looks again after this long. */
const RECHECK_MS = 1_000;

export interface FeedSource<W extends Work> {
  readonly list: WorkList<W>;
  readonly bell: Bell;
  readonly clock: Clock;
  readonly consumer: string;
  readonly rules: LeaseRules;
  /** What was found gone or expired since the last call. */
  takeTally(): Tally;
  /** Called once, when the feed closes. */
  onClose(): void;
}

export function createFeed<W extends Work>(source: FeedSource<W>): Feed {
  const { list, bell, clock, consumer, rules } = source;
  const closing = new AbortController();

  function takeNow(max: number, outcomes: readonly Outcome[]): Taken {
    const now = clock.now();
    const lost = outcomes.filter((outcome) => !list.settle(outcome, now, rules)).map(({ receipt }) => receipt);
    const { leases, poisoned } = list.take(max, consumer, now, rules);
    // What was just settled may have freed or parked something that another consumer waits for.
    if (outcomes.length > 0) bell.ring();
    return { deliveries: leases.map(toDelivery), lost, poisoned, ...source.takeTally() };
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
    const until = Math.min(deadline, list.nextReadyAt(), now + RECHECK_MS);
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
    const until = clock.now() + rules.leaseMs;
    return receipts.filter((receipt) => !list.extend(receipt, until));
  }

  async function close(): Promise<void> {
    if (closing.signal.aborted) return;
    closing.abort();
    list.giveBack(consumer);
    bell.ring();
    source.onClose();
  }

  return { take, extend, close };
}

function isEmpty(taken: Taken): boolean {
  return taken.deliveries.length === 0 && taken.gone === 0 && taken.expired === 0 && taken.poisoned === 0;
}

function toDelivery<W extends Work>({ receipt, work }: Lease<W>): Delivery {
  return { receipt, position: work.position, attempt: work.attempts, header: work.header, data: toBytes(work.data) };
}
