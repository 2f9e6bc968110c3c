/** The ports: what a backend implements, and nothing else. Types only. */

import type { Clock } from "./clock.js";

/** Payload bytes on their way in; text is stored as UTF-8. What comes out is always a `Uint8Array`. */
export type Bytes = Uint8Array | string;

/** What a write attained: process memory, a synced disk, or a replica's memory as well. */
export type Durability = "memory" | "fsync" | "replicated";

/** What the composition root hands to every backend. A backend opens its store and nothing else. */
export interface BackendContext {
  /** Part of every key and row: two namespaces never see each other. */
  readonly namespace: string;
  readonly clock: Clock;
  /** Where failures go that no caller is waiting for. Never throws. */
  readonly report: (error: unknown, where: string) => void;
}

/** One place where messages live. Every backend passes the same contract suite, without exceptions. */
export interface Backend {
  /** `memory`, `sqlite`, `redis`. */
  readonly name: string;
  /** What a resolved `append` or `push` has attained. */
  readonly durability: Durability;
  readonly broadcast: Broadcast;
  readonly log: Log;
  readonly queue: Queue;
  /** Round trip to the store, in milliseconds. */
  ping(): Promise<number>;
  /** Checks everything this backend keeps open, end to end. Never rejects: a failure is a check that is not ok. */
  check(): Promise<readonly Check[]>;
  /** Closes what this backend opened, feeds and subscriptions included. Safe to call twice. Later calls reject with `ClosedError`. */
  close(): Promise<void>;
}

/** One part's health. */
export interface Check {
  readonly name: string;
  readonly ok: boolean;
  readonly latencyMs?: number;
  readonly error?: string;
}

// ---------------------------------------------------------------------------------------------- broadcast

/** At most once, no history: whoever listens now hears it. */
export interface Broadcast {
  /**
   * Sends each message to the present subscribers of its channel, in order per channel and publisher.
   *
   * @returns for each message, how many subscribed backends it reached as far as is known: a hint, not an acknowledgement
   */
  publish(messages: readonly BroadcastMessage[]): Promise<readonly number[]>;
  /**
   * Resolves once the subscription is in force: a message published afterwards is heard. A backend that subscribes to
   * the same target several times hears a message once for each.
   */
  subscribe(target: BroadcastTarget, listener: BroadcastListener): Promise<Unsubscribe>;
}

export interface BroadcastMessage {
  readonly channel: string;
  readonly data: Bytes;
}

/** One channel by its exact name, or all channels that match a Redis glob (`core/glob.ts`). */
export type BroadcastTarget = { readonly channel: string } | { readonly pattern: string };

export interface BroadcastListener {
  message(channel: string, data: Uint8Array): void;
  /** Messages may have been missed, for this reason. The subscription is in force again when this is called. */
  gap(reason: string): void;
}

/** Resolves when the listener will hear nothing more. Safe to call twice. */
export type Unsubscribe = () => Promise<void>;

// ---------------------------------------------------------------------------------------------------- log

/** Ordered, durable, replayable streams, read by groups that share a cursor. */
export interface Log {
  /**
   * Appends all entries together and in order, or none of them. An interrupted append is completed or refused by the
   * backend itself without storing anything twice.
   *
   * @throws {LimitError} when the stream holds `retention.maxEntries` and a group still has to read the oldest
   * @throws {OutOfMemoryError} when the store refuses to grow; nothing was appended
   * @throws {PublishIndeterminateError} when the store was lost on the way and whether it was appended cannot be known
   */
  append(stream: string, entries: readonly NewEntry[], retention: Retention): Promise<readonly Appended[]>;
  /** Reads up to `range.max` entries in order, without any group. An unknown stream is empty. */
  read(stream: string, range: Range): Promise<readonly Entry[]>;
  /**
   * Makes the group where it does not exist, otherwise changes nothing.
   *
   * @returns the settings stored with the group: those given, or those it was made with
   */
  createGroup(stream: string, group: string, settings: GroupSettings): Promise<GroupSettings>;
  /** Starts consuming as one consumer of a group that `createGroup` has made. The consumer's name is unique in the group. */
  open(stream: string, group: string, consumer: string): Promise<Feed>;
  /** The dead letters of a group. */
  deadLetters(stream: string, group: string): DeadLetters;
  /** Counts of a stream and its groups. An unknown stream is empty and has no groups. */
  stats(stream: string): Promise<StreamStats>;
}

export interface NewEntry {
  /** The routing header: opaque text without line feeds, at most 64 KiB. */
  readonly header: string;
  readonly data: Bytes;
  /** What order by key goes by. */
  readonly key?: string;
}

export interface Appended {
  /** Where the entry now stands: opaque text, ordered within its stream by `read`, not by comparison. */
  readonly position: string;
}

/** How long a stream may grow. Entries that a group has not finished are dropped only by `drop-oldest`. */
export interface Retention {
  readonly maxEntries: number;
  readonly overflow: "reject" | "drop-oldest";
}

export interface Range {
  /** First position wanted, inclusive; the beginning where absent. */
  readonly from?: string;
  /** Only entries behind this position; combines with paging: pass the last position read. */
  readonly after?: string;
  readonly max: number;
}

export interface Entry {
  readonly position: string;
  readonly header: string;
  readonly data: Uint8Array;
}

/** What belongs to a group and is stored with it. */
export interface GroupSettings {
  readonly from: GroupStart;
  readonly leaseMs: number;
  /** Deliveries that may fail, or die with their consumer, before the message is a dead letter. */
  readonly maxAttempts: number;
  /** Dead letters kept; beyond it the oldest goes. */
  readonly maxDeadLetters: number;
}

/** Where a new group starts. A time starts at the first entry appended at or after it, by the store's clock (ms since the epoch). */
export type GroupStart = "beginning" | "new" | { readonly after: string } | { readonly time: number };

export interface StreamStats {
  readonly length: number;
  readonly groups: readonly GroupStats[];
}

export interface GroupStats {
  readonly group: string;
  /** Entries never delivered to the group. */
  readonly lag: number;
  /** Deliveries leased by a consumer. */
  readonly pending: number;
  /** Deliveries that wait for their retry. */
  readonly retrying: number;
  /** Dead letters kept. */
  readonly dead: number;
}

// -------------------------------------------------------------------------------------------------- queue

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

// ------------------------------------------------------------------------------- consuming: log and queue

/**
 * Consuming is a handle, and the log and the queue share it. A feed owns its deadline, its sweep for abandoned
 * deliveries and its connections. Calls may overlap: settling never waits for a `take` that waits.
 */
export interface Feed {
  /**
   * Settles `outcomes`, then takes up to `want.max` deliveries, each leased to this consumer: retries that are due,
   * abandoned ones whose lease has run out, new ones. Waits up to `want.waitMs` only when it had nothing to settle and
   * found nothing. An abort of `want.signal` ends the wait, and the call resolves.
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
  | { readonly as: "ack" }
  /** Available again after `delayMs`. Uncounted: the next delivery has the same attempt. */
  | { readonly as: "retry"; readonly delayMs: number; readonly counted: boolean }
  /** Moved to the dead letters and acknowledged in one step. */
  | { readonly as: "deadLetter"; readonly reason: DeadReason }
);

export interface Taken {
  readonly deliveries: readonly Delivery[];
  /** Outcomes that came too late: the lease had passed to another attempt, or the delivery was settled already. */
  readonly lost: readonly Receipt[];
  /** Deliveries whose entry had been removed beneath the group since the last call. */
  readonly gone: number;
  /** Items found expired since the last call. */
  readonly expired: number;
  /** Abandoned deliveries that this call found out of attempts and made dead letters. */
  readonly poisoned: number;
}

// ------------------------------------------------------------------------------------------- dead letters

/** The parked messages of one group or recipient, oldest first. The same for the log and the queue. */
export interface DeadLetters {
  list(page: { readonly max: number; readonly cursor?: string }): Promise<DeadLetterPage>;
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
  readonly consumer: string;
  readonly reason: DeadReason;
  /** When it was parked, by the store's clock (ms since the epoch). */
  readonly at: number;
}

/** Why a message was parked. At most 8 KiB in all: longer texts are cut by the core. */
export interface DeadReason {
  /** `failed` after the last attempt, `rejected` by the handler's own outcome, `undecodable`, `abandoned` by consumers that died. */
  readonly kind: "failed" | "rejected" | "undecodable" | "abandoned";
  readonly message: string;
  readonly stack?: string;
}

// --------------------------------------------------------------------------------------------- membership

/**
 * Who is where, kept alive by each holder's one lease. The type is settled with the other ports; it becomes part of
 * {@link Backend} together with its first implementation.
 */
export interface Membership {
  /** Renews everything the holder registered. Lapsed: take a new holder id and join again. */
  renew(holder: string, leaseMs: number): Promise<"held" | "lapsed">;
  join(group: string, holder: string, members: readonly Member[]): Promise<MembershipChange>;
  leave(group: string, holder: string, ids: readonly string[]): Promise<MembershipChange>;
  list(group: string, page: { readonly max: number; readonly cursor?: string }): Promise<MemberPage>;
  find(id: string): Promise<readonly { readonly group: string; readonly member: Member }[]>;
  /** Removes what lapsed holders left behind. Each removal happens once; on a version gap, list again. */
  reap(): Promise<readonly Lapsed[]>;
}

export interface Member {
  readonly id: string;
  readonly holder: string;
  readonly meta: Uint8Array;
}

export interface MembershipChange {
  readonly version: number;
  readonly changes: readonly { readonly kind: "joined" | "updated" | "left"; readonly member: Member }[];
}

export interface MemberPage {
  readonly version: number;
  readonly members: readonly Member[];
  readonly cursor?: string;
}

export interface Lapsed {
  readonly group: string;
  readonly holder: string;
  readonly change: MembershipChange;
}
