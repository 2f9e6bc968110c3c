/** The port of queues. Types only, but for the name that no recipient has. */

import type { Bytes, DeadLetters, Feed } from "./feed-port.js";
import type { ItemFilter, ItemPage, ItemState, PageRequest, RecordSettings, StoredItem } from "./records-port.js";

/** Work for recipients: by priority, with delay and expiry, one holder at a time. */
export interface Queue {
  /**
   * Stores all items together, or none. An id that the queue holds already, as an item or as a kept record, or still
   * remembers, is not stored again, and an interrupted push is completed or refused by the backend itself without storing
   * anything twice. No limit is met where nothing would be stored: of duplicates, and for an audience that is nobody.
   *
   * An item for an audience is stored once and gives each recipient a delivery of its own. Once the push has resolved all
   * of them get it; where there are many, some may get it before others, and a publisher that dies on the way changes
   * nothing of that.
   *
   * @throws {LimitError} when the queue would hold more than `limits.maxItems` unfinished items; nothing was stored
   * @throws {OutOfMemoryError} {@link Log.append}
   * @throws {PublishIndeterminateError} {@link Log.append}
   */
  push(queue: string, items: readonly NewItem[], limits: QueueLimits): Promise<readonly Pushed[]>;
  /**
   * Starts consuming one recipient's items: highest priority first, oldest first within a priority. Registers the recipient
   * as `consumer.registration` says, and keeps it registered until the feed is closed, however long what it has taken is
   * under way: not by takes alone, but by a timer of its own, at least every third of its `ttlMs`.
   */
  open(queue: string, recipient: string, consumer: QueueConsumer): Promise<Feed>;
  deadLetters(queue: string, recipient: string): DeadLetters;
  /** Counts of one recipient. An unknown one has none. */
  stats(queue: string, recipient: string): Promise<QueueStats>;

  // ------------------------------------------------------------------------------------------------- recipients

  /**
   * Makes a recipient known until nobody has read it for `ttlMs`; again, it changes that and begins anew. What lapses is
   * forgotten with all that it had, and unfinished items and dead letters of an audience's recipient are reported.
   *
   * @throws {LimitError} when the queue has 100,000 recipients already
   */
  register(queue: string, recipient: string, registration: Registration): Promise<void>;
  /** Forgets a recipient with all that it has, its dead letters as well; leases end. @returns whether it was registered */
  unregister(queue: string, recipient: string): Promise<boolean>;
  /** The registered recipients that have not lapsed, in the order of their registration. */
  recipients(queue: string, page: PageRequest): Promise<RecipientPage>;
  /** From now on nothing is handed out of this inbox, in any process, until `resume`. Settling and expiry go on. */
  pause(queue: string, recipient: string): Promise<void>;
  resume(queue: string, recipient: string): Promise<void>;

  // --------------------------------------------------------------------------------------- items, one and all

  /**
   * Stores what is kept of a queue's items besides what delivering needs, while the queue holds no item and no record:
   * what came before would not be found.
   *
   * @returns what is stored: what was given, or what somebody else had stored before
   */
  configure(queue: string, settings: RecordSettings): Promise<RecordSettings>;
  /**
   * What a recipient has not finished: first what is ready, in the order in which it would be handed out; then what is
   * delayed or waits for its retry, the soonest due first; then what is leased, the first to run out first.
   *
   * @param state only these
   */
  browse(queue: string, recipient: string, page: PageRequest, state?: OpenState): Promise<ItemPage>;
  /** An unfinished item or a kept record. */
  get(queue: string, id: string): Promise<StoredItem | undefined>;
  /**
   * Items and kept records, the newest first.
   *
   * @throws {UnsupportedError} where `configure` has stored no index, or not of a field that the filter names
   */
  list(queue: string, filter: ItemFilter, page: PageRequest): Promise<ItemPage>;
  /** How many `list` would give: exact. Without a filter it needs no index. @throws {UnsupportedError} as `list` */
  count(queue: string, filter: ItemFilter): Promise<number>;
  /**
   * Finishes items for one recipient, whether they wait or are held: a holder's outcome is then lost.
   *
   * @returns for each id whether the recipient had it to finish
   */
  acknowledge(queue: string, recipient: string, ids: readonly string[]): Promise<readonly boolean[]>;
  /** Removes items for all their recipients, and kept records; dead letters stay. @returns how many of the ids there were */
  remove(queue: string, ids: readonly string[]): Promise<number>;
  /**
   * Empties a queue: items, kept records, dead letters and remembered ids. Recipients stay registered, and paused.
   *
   * @returns how many items and kept records there were
   */
  clear(queue: string): Promise<number>;
}

/** The recipient of items that are for whoever consumes the queue. Users' recipient names are never empty. */
export const SHARED_RECIPIENT = "";

/** Recipients that one queue may have. */
export const MAX_RECIPIENTS = 100_000;

/** `online`: recipients that a feed is open for. One whose process died counts for up to 30 s after it last took or extended. */
export interface Audience {
  readonly audience: "registered" | "online";
}

export interface NewItem {
  /** Unique in the queue; the item's position in its deliveries. */
  readonly id: string;
  /** Given by the caller: it is remembered for ten minutes, or 100,000 other such ids, also once the item is finished. */
  readonly dedupe?: boolean;
  /**
   * The caller has just made the id, and gives it to nobody else before the push is decided on. Where all items of a push
   * are so, a backend need not look for each: should they come again, they all do.
   */
  readonly isNew?: boolean;
  readonly recipient: string | Audience;
  readonly header: string;
  readonly data: Bytes;
  /** Any safe integer; higher is more urgent. */
  readonly priority: number;
  /** Not delivered before this much time has passed. 0 delivers at once. */
  readonly delayMs: number;
  /** Waiting and retrying end after this much time, by the store's clock. Absent: never. */
  readonly ttlMs?: number | undefined;
  /** By which `list` finds it, where they are indexed. */
  readonly fields?: Readonly<Record<string, string>> | undefined;
}

/**
 * `reject` refuses what would be too much. `drop-oldest` drops, of the recipients that get something, what waits or is
 * delayed: the least urgent, the oldest first; that is counted for their consumers as `gone`. Where they have too little of
 * it, the push is refused. `block` is refused by the store as well, and tried again by whoever publishes.
 */
export interface QueueLimits {
  readonly maxItems: number;
  readonly overflow?: "reject" | "block" | "drop-oldest";
  /**
   * What the publisher wants kept: stored in the same step where the queue holds nothing and nothing is stored. Absent, or
   * where something else is stored: what is stored stays.
   */
  readonly records?: RecordSettings;
}

export interface Pushed {
  readonly id: string;
  /** The queue held or remembered this id already; nothing was stored. */
  readonly duplicate: boolean;
  /** How many recipients have it to finish: 1, or those of its audience; 0 of a duplicate, and where an audience is nobody. */
  readonly recipients: number;
}

export interface QueueConsumer {
  /** Unique in the queue. */
  readonly consumer: string;
  readonly leaseMs: number;
  readonly maxAttempts: number;
  readonly maxDeadLetters: number;
  /**
   * `strict`: always the most urgent. `weighted`: one delivery in five goes round the priorities in turn, each time to the
   * oldest of the next less urgent one, so that none waits for ever. Default `strict`.
   */
  readonly priorities?: "strict" | "weighted";
  /** Absent for the shared recipient, which is never registered. */
  readonly registration?: Registration;
}

export interface Registration {
  /** It lapses when nobody has read it for so long. */
  readonly ttlMs: number;
  /** Whether items for `registered` and `online` recipients reach it. */
  readonly isAudience: boolean;
}

export interface RecipientPage {
  readonly recipients: readonly RegisteredRecipient[];
  readonly cursor?: string;
}

export interface RegisteredRecipient {
  readonly recipient: string;
  readonly isAudience: boolean;
  readonly isOnline: boolean;
  /** By the store's clock (ms since the epoch), unless somebody reads it before. */
  readonly lapsesAt: number;
}

/** How an item stands with a recipient that has not finished it. */
export type OpenState = Extract<ItemState, "waiting" | "delayed" | "leased">;

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
  /** Dropped by `drop-oldest`, since the queue exists. */
  readonly dropped: number;
  readonly paused: boolean;
  /** When the oldest that is ready was pushed, by the store's clock (ms since the epoch); undefined when none is. */
  readonly oldestWaitingAt: number | undefined;
}
