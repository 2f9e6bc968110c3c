/** What a feed consumes from: the part in which the log and the queue differ. */

import type { Delivery, Outcome, Receipt } from "../../core/backend.js";
import type { Connection, OwnConnection } from "./connection.js";

/** How much longer than it blocks a blocking command may take. */
export const BLOCK_GRACE_MS = 2_000;

/** More than fits into one reply that comes quickly. */
export const MAX_AT_ONCE = 1_000;

/** What one script call settles and takes. */
export interface Round {
  /** 0 only settles. */
  readonly max: number;
  readonly outcomes: readonly Outcome[];
  /** Some receipt may no longer be valid: they have to be looked at one by one. */
  readonly doubtful: boolean;
  /** Whether to look for abandoned deliveries, and after consumers that went away. */
  readonly sweep: "no" | "abandoned" | "consumers";
}

export interface RoundResult {
  /** May be more than asked for, where an earlier call's reply was lost. */
  readonly deliveries: readonly Delivery[];
  readonly lost: readonly Receipt[];
  readonly gone: number;
  readonly expired: number;
  readonly expiredIds?: readonly string[];
  readonly poisoned: number;
  /** When something will be ready by the clock alone, as far as is known. */
  readonly readyInMs: number | undefined;
  /** More was abandoned than there was room for. */
  readonly moreAbandoned: boolean;
  /** Nothing is to be handed out, not even what is held already. */
  readonly paused: boolean;
  /** All that was held until now is worthless: what is leased has to be looked for. */
  readonly restarted: boolean;
}

/** Deliveries; "unknown" when something was brought, and only `recover` can tell what. */
export type Brought = readonly Delivery[] | "unknown";

/** What the log and the queue do each in their own way. All of it is one command or script on the slot of `key`. */
export interface Source {
  readonly key: string;
  /** May change: it belongs to what is consumed. */
  readonly leaseMs: number;
  /**
   * @param own where to send it ahead of a wait, where `read` is defined; otherwise the shared connection
   * @throws {NotFoundError} when what is consumed was deleted
   */
  round(round: Round, own?: Connection): Promise<RoundResult>;
  /**
   * Takes what is new and nothing else, where that is cheaper than a round: sent right behind one that only settles, while
   * nothing is due. Undefined where it is not cheaper, or must not be done.
   */
  readonly read?: ((max: number) => Promise<readonly Delivery[]>) | undefined;
  /** Blocks until there may be something to take. What it brings is leased. */
  block(connection: OwnConnection, max: number, ms: number): Promise<Brought>;
  /** Whether a receipt may still count, as far as the last answers tell: not after a seek. */
  isCurrent(receipt: Receipt): boolean;
  /** Deliveries that are leased to this consumer, from `after`, where the last call ended. */
  recover(after: string): Promise<{ readonly deliveries: readonly Delivery[]; readonly after: string | undefined }>;
  /** @returns the receipts that are no longer valid */
  extend(receipts: readonly Receipt[]): Promise<readonly Receipt[]>;
  /** Makes everything this consumer holds available again, uncounted. */
  release(held: readonly Receipt[]): Promise<void>;
}
