/** Consuming, the part that the ports log and queue share: deliveries, what they come to, and dead letters. Types only. */

/** Payload bytes on their way in; text is stored as UTF-8. What comes out is always a `Uint8Array`. */
export type Bytes = Uint8Array | string;

/**
 * Consuming is a handle, and the log and the queue share it. A feed owns its deadline, its sweep for abandoned
 * deliveries and its connections. Calls may overlap: settling never waits for a `take` that waits.
 */
export interface Feed {
  /**
   * Settles `outcomes`, then takes up to `want.max` deliveries, each leased to this consumer: retries that are due,
   * abandoned ones whose lease has run out, new ones. Waits up to `want.waitMs` only when it had nothing to settle and
   * found nothing. An abort of `want.signal` ends the wait, and the call resolves. When it had something to settle and
   * `want.waitMs` says that the caller is going to wait, a feed may begin that wait behind the call: what comes then is
   * leased, and the next call has it.
   *
   * Outcomes are settled once each, whatever order they are given in. When the call rejects, all of them may be given
   * again: one that had been settled after all is then reported in `lost`.
   *
   * A wake-up is a hint; each feed looks for itself at least once a second while it waits.
   */
  take(want: TakeRequest, outcomes: readonly Outcome[]): Promise<Taken>;
  /**
   * Renews the leases of running deliveries, each for the full lease from now.
   *
   * @returns the receipts that are no longer valid: their deliveries belong to somebody else, or are settled
   */
  extend(receipts: readonly Receipt[]): Promise<readonly Receipt[]>;
  /** Gives back what it still holds, uncounted and available at once, and ends any wait. Safe to call twice. */
  close(): Promise<void>;
}

export interface TakeRequest {
  /** 0 only settles. */
  readonly max: number;
  readonly waitMs: number;
  readonly signal?: AbortSignal;
}

/** Opaque proof of one attempt's lease. A receipt of an earlier attempt changes nothing. */
export type Receipt = string;

export interface Delivery {
  readonly receipt: Receipt;
  /** Log: the entry's position. Queue: the item's id. */
  readonly position: string;
  /** From 1. Survives the consumer's crash; grows with each counted retry and each abandoned lease. */
  readonly attempt: number;
  readonly header: string;
  readonly data: Uint8Array;
}

/** What a delivery came to. */
export type Outcome = { readonly receipt: Receipt } & (
  | { readonly as: "ack"; readonly reply?: Reply }
  /** Available again after `delayMs`. Uncounted: the next delivery has the same attempt. */
  | { readonly as: "retry"; readonly delayMs: number; readonly counted: boolean }
  /** Moved to the dead letters and acknowledged in one step. */
  | { readonly as: "deadLetter"; readonly reason: DeadReason; readonly reply?: Reply }
);

/**
 * Queues alone: an answer, stored in the same queue in the step that settles, whatever the queue's limits, and not at all
 * where the outcome is lost. Nobody is waiting for one to a recipient that is not registered: it is dropped. What is
 * for an inbox for answers (`isReplyInbox`) is its recipient's alone, in `browse` and `stats`: `list` and `count` know nothing
 * of it, it has no record, and it does not count for `maxItems`.
 */
export interface Reply {
  readonly id: string;
  readonly recipient: string;
  readonly header: string;
  readonly data: Bytes;
  readonly priority: number;
  readonly ttlMs: number;
}

export interface Taken {
  readonly deliveries: readonly Delivery[];
  /** Outcomes that came too late: the lease had passed to another attempt, or the delivery was settled already. */
  readonly lost: readonly Receipt[];
  /** Entries that were removed before the group had finished them, by whomever, found since the last call. */
  readonly gone: number;
  /** Items found expired since the last call. */
  readonly expired: number;
  /** Ids of those that this call itself ended, at most 1,000. */
  readonly expiredIds?: readonly string[];
  /** Abandoned deliveries that this call found out of attempts and made dead letters. */
  readonly poisoned: number;
}

// ------------------------------------------------------------------------------------------- dead letters

/** The parked messages of one group or recipient, oldest first. The same for the log and the queue. */
export interface DeadLetters {
  list(page: { readonly max: number; readonly cursor?: string }): Promise<DeadLetterPage>;
  /** The letter of that id, while it is kept. */
  get(id: string): Promise<DeadLetter | undefined>;
  /**
   * Puts messages back, each in one atomic step: they are delivered again, with attempts counted from 1, to this group
   * or recipient alone. In a log they stand behind all others, at a new position that neither `read` nor another group
   * sees, whatever the stream's limits; in a queue they keep their id and priority and expire no more.
   *
   * @returns how many were put back: ids that are not kept, or that a queue holds again, are passed over
   * @throws {OutOfMemoryError} when the store refuses to grow; what was not put back is kept
   */
  redrive(ids: readonly string[]): Promise<number>;
  /** Forgets letters. @returns how many there were */
  remove(ids: readonly string[]): Promise<number>;
  /** Forgets letters that were parked at least that long ago, by the store's clock. @returns how many there were */
  purge(olderThanMs: number): Promise<number>;
}

export interface DeadLetterPage {
  readonly letters: readonly DeadLetter[];
  /** Pass it to go on; absent on the last page. */
  readonly cursor?: string;
}

export interface DeadLetter {
  /** Of the letter itself, unique among the group's or recipient's. */
  readonly id: string;
  /** Where the message stood: its position in the log, its id in the queue. */
  readonly position: string;
  readonly header: string;
  readonly data: Uint8Array;
  readonly attempts: number;
  /** The consumer of the last attempt. */
  readonly consumer: string;
  readonly reason: DeadReason;
  /** When an attempt first failed or was abandoned, by the store's clock (ms since the epoch). */
  readonly firstFailedAt: number;
  /** When it was parked, which is when the last attempt failed. */
  readonly at: number;
}

/** Why a message was parked. At most 8 KiB in all: longer texts are cut by the core. */
export interface DeadReason {
  /** `failed` after the last attempt, `rejected` by the handler's own outcome, `undecodable`, `abandoned` by consumers that died. */
  readonly kind: "failed" | "rejected" | "undecodable" | "abandoned";
  readonly message: string;
  readonly stack?: string;
}
