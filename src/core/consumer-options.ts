/** What a consumer is made of, and what it reports. Types only. */

import type { Delivery, Feed, Taken } from "./backend.js";
import type { Clock } from "./clock.js";
import type { Verdict } from "./outcome.js";
import type { Run } from "./run.js";

export interface ConsumerOptions {
  /** Opens the feed: at the start, and again should the watchdog give one up. */
  readonly open: () => Promise<Feed>;
  /** Runs the handler and says what the delivery came to. Never rejects. */
  readonly handle: (delivery: Delivery, run: Run) => Promise<Verdict>;
  /** Handlers at once. */
  readonly concurrency: number;
  /** More than that may be fetched while handlers end in the turn in which they begin: such ones take the most per second. */
  readonly fetchAhead?: boolean;
  readonly leaseMs: number;
  /** Where the lease can be changed: asks for it. Undefined when there is no group, of which a fetch knows more. */
  readonly currentLeaseMs?: () => Promise<number | undefined>;
  readonly clock: Clock;
  readonly events: ConsumerEvents;
}

/** What the loop reports; the facade knows what to make of it. */
export interface ConsumerEvents {
  /** A handler has finished. */
  handled(run: Run, verdict: Verdict): void;
  taken(taken: Taken): void;
  /** Outcomes were stored. */
  settled(count: number): void;
  lost(count: number): void;
  failing(error: unknown, failures: number): void;
  recovered(): void;
  /** The consumer has ended by itself: what it reads from is no more, or a delivery has stopped it with this error. */
  ended(error: Error): void;
}
