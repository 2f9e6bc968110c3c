/** The port of queues. Types only, but for the name that no recipient has. */

import type { Bytes, DeadLetters, Feed } from "./feed-port.js";

/** Work for recipients: by priority, with delay and expiry, one holder at a time. */
export interface Queue {
  /**
   * Stores all items together, or none. An id that the queue holds already is not stored again, and an interrupted
   * push is completed or refused by the backend itself without storing anything twice.
   *
   * @throws {LimitError} when the queue would hold more than `limits.maxItems` unfinished items; nothing was stored
   * @throws {OutOfMemoryError} {@link Log.append}
   * @throws {PublishIndeterminateError} {@link Log.append}
   */
  push(queue: string, items: readonly NewItem[], limits: QueueLimits): Promise<readonly Pushed[]>;
  /** Starts consuming one recipient's items: highest priority first, oldest first within a priority. */
  open(queue: string, recipient: string, consumer: QueueConsumer): Promise<Feed>;
  deadLetters(queue: string, recipient: string): DeadLetters;
  /** Counts of one recipient. An unknown one has none. */
  stats(queue: string, recipient: string): Promise<QueueStats>;
}

/** The recipient of items that are for whoever consumes the queue. Users' recipient names are never empty. */
export const SHARED_RECIPIENT = "";

export interface NewItem {
  /** Unique in the queue; the item's position in its deliveries. */
  readonly id: string;
  readonly recipient: string;
  readonly header: string;
  readonly data: Bytes;
  /** Any safe integer; higher is more urgent. */
  readonly priority: number;
  /** Not delivered before this much time has passed. 0 delivers at once. */
  readonly delayMs: number;
  /** Waiting and retrying end after this much time, by the store's clock. Absent: never. */
  readonly ttlMs?: number | undefined;
}

export interface QueueLimits {
  readonly maxItems: number;
}

export interface Pushed {
  readonly id: string;
  /** The queue held this id already; nothing was stored. */
  readonly duplicate: boolean;
}

export interface QueueConsumer {
  /** Unique in the queue. */
  readonly consumer: string;
  readonly leaseMs: number;
  readonly maxAttempts: number;
  readonly maxDeadLetters: number;
}

export interface QueueStats {
  /** Ready to be taken. */
  readonly waiting: number;
  /** Held by a consumer. */
  readonly leased: number;
  /** Not ready before some time: delayed at publish, or waiting for a retry. */
  readonly delayed: number;
  readonly dead: number;
  /** Expired before they were handled, since the queue exists. */
  readonly expired: number;
}
