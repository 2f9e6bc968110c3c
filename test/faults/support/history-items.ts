/** What a history says of a queue. Types only. */

import type { EndedAs } from "./history-log.js";

/** What each process knows of the queue. */
export interface QueueTraits {
  /** Registered before anything was published; whoever the queue is for besides, `""`, is not named. */
  readonly audience: readonly string[];
  readonly leaseMs: number;
  readonly maxAttempts: number;
}

/** For everybody in the audience. */
export const EVERYBODY = "*";

/** Of a queue's publisher, in the place of `invoke`. */
export interface ItemInvoke extends Traits {
  readonly op: "itemInvoke";
  readonly t: number;
  readonly n: number;
}

interface Traits {
  /** A recipient, `""` for whoever consumes the queue, or {@link EVERYBODY}. */
  readonly to: string;
  readonly priority: number;
  /** Absent: it never expires. */
  readonly ttlMs?: number;
  /** Absent: none. */
  readonly delayMs?: number;
}

/** Message `n` of publisher `p`, with a recipient, in attempt `a`. */
export interface OfItem {
  readonly r: string;
  readonly p: number;
  readonly n: number;
  readonly a: number;
}

/** When the store did something, at the earliest and the latest: it was asked for then, and answered then. */
export interface Within {
  readonly from: number;
  readonly until: number;
}

/** Of a queue's consumer. */
export type ItemDelivered =
  /** A handler begins; `at` is the message's id, and `from` and `until` are about the take that handed it out. */
  | (OfItem & Within & { readonly op: "itemBegin"; readonly t: number; readonly at: string })
  /** {@link ConsumerOp}'s `end`. For a retry the time after which it may come again. */
  | (OfItem & { readonly op: "itemEnd"; readonly t: number; readonly as: EndedAs; readonly delayMs?: number })
  | (OfItem & {
      readonly op: "itemStored" | "itemLost";
      readonly t: number;
      readonly as: EndedAs;
      readonly delayMs?: number;
    })
  /** Its lease was renewed, for all of `leaseMs`, at `from` or later. */
  | (OfItem & { readonly op: "itemExtended"; readonly t: number; readonly from: number })
  /** The store says that it has expired, which it found between these times. */
  | (Omit<OfItem, "a"> & Within & { readonly op: "itemExpired"; readonly t: number })
  /** A feed was closed: what the consumer holds of a recipient goes back, now or later. */
  | { readonly op: "itemsReleased"; readonly t: number; readonly r: string };

/** Of whoever causes the faults. */
export type ItemsFound =
  /** What the store says at the end of a recipient. */
  | {
      readonly op: "itemsLeft";
      readonly t: number;
      readonly r: string;
      readonly waiting: number;
      readonly leased: number;
      readonly delayed: number;
      readonly dead: number;
      readonly expired: number;
      readonly dropped: number;
    }
  | {
      readonly op: "itemLetter";
      readonly t: number;
      readonly r: string;
      readonly p: number;
      readonly n: number;
      readonly attempts: number;
      readonly kind: string;
    };

export type ItemOp = ItemInvoke | ItemDelivered | ItemsFound;
