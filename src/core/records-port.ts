/** The part of the port of queues that looks at items one by one: what is kept of them, and by what they are found. */

/** What a queue keeps of its items besides what delivering needs. */
export interface RecordSettings {
  /** How long a finished item stays as a record. 0: not at all. */
  readonly keepAckedMs: number;
  /** Finished records kept; beyond it the one that was finished first goes. */
  readonly maxRecords: number;
  /** Fields by which items are found. Empty: `list` and `count` know states alone. Undefined: there is no `list`. */
  readonly index: readonly string[] | undefined;
}

export interface PageRequest {
  /** At most 1,000. */
  readonly max: number;
  readonly cursor?: string;
}

export interface ItemPage {
  /** May be fewer than asked for, also where there are more. */
  readonly items: readonly StoredItem[];
  /** Pass it to go on; absent on the last page. */
  readonly cursor?: string;
}

/** All that is named has to hold. */
export interface ItemFilter {
  /** Exact values of indexed fields. */
  readonly fields?: Readonly<Record<string, string>>;
  readonly state?: RecordState;
}

/**
 * `open`: some recipient has to finish it. Otherwise all have: `dead` where one parked it, else `expired` where it expired
 * for one, else `acked`.
 */
export type RecordState = "open" | "acked" | "dead" | "expired";

/** How an item stands with one recipient. */
export type ItemState = "waiting" | "delayed" | "leased" | "acked" | "dead" | "expired";

export interface StoredItem {
  readonly id: string;
  readonly header: string;
  readonly data: Uint8Array;
  readonly priority: number;
  /** When it was pushed, by the store's clock like all times here (ms since the epoch). */
  readonly at: number;
  /** When it was last put back for a retry, or finished by a recipient; `at` before that. */
  readonly updatedAt: number;
  readonly expiresAt: number | undefined;
  readonly state: RecordState;
  /**
   * Those who have it to finish, and where records are kept, those who have finished it: at most 1,000, the former first.
   * `browse` names the browsed one alone.
   */
  readonly recipients: readonly RecipientState[];
}

export interface RecipientState {
  readonly recipient: string;
  readonly state: ItemState;
  /** Attempts that have begun. */
  readonly attempts: number;
  /** Leased: when the lease ends. Delayed: when it is ready. Finished: when that was. Waiting: absent. */
  readonly until?: number;
}

/** Of a queue that nobody configured. */
export const NO_RECORDS: RecordSettings = { keepAckedMs: 0, maxRecords: 0, index: undefined };
