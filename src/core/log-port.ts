/** The port of streams: ordered, durable, replayable, read by groups that share a cursor. Types only. */

import type { Bytes, DeadLetter, DeadLetters, Feed } from "./feed-port.js";

/** What a write attained: process memory, a synced disk, or a replica's memory as well. */
export type Durability = "memory" | "fsync" | "replicated";

export interface Log {
  /**
   * Appends all entries together and in order, or none of them; those whose `dedupeId` the stream remembers are not
   * stored again. An interrupted append is completed or refused by the backend itself without storing anything twice.
   *
   * @param retention how long the stream may grow, unless `configure` has stored something else
   * @throws {LimitError} when the stream is full of what some group still has to read; nothing was appended
   * @throws {OutOfMemoryError} when the store refuses to grow; nothing was appended
   * @throws {PublishIndeterminateError} when the store was lost on the way and whether it was appended cannot be known
   */
  append(stream: string, entries: readonly NewEntry[], retention: Retention): Promise<readonly Appended[]>;
  /** Reads up to `range.max` entries in order, without any group. An unknown stream is empty. */
  read(stream: string, range: Range): Promise<readonly Entry[]>;
  /**
   * Stores how long the stream may grow, where nothing is stored yet: from then on it goes before what `append` says.
   *
   * @returns what is stored: what was given, or what somebody else had stored before
   */
  configure(stream: string, retention: Retention): Promise<Retention>;
  /**
   * Changes what is stored of how long the stream may grow; what is not named stays. Changes made at the same time are all
   * made. They hold from the next append on, whoever makes it; nothing is dropped before.
   *
   * @param unless what is changed and stored where nothing is stored yet
   * @returns what is stored from now on
   */
  changeRetention(stream: string, changes: RetentionChanges, unless: Retention): Promise<Retention>;
  /**
   * Drops what is older than the stored `maxAgeMs`, which each append does as well, now and then.
   *
   * @returns how many entries were dropped
   */
  trim(stream: string): Promise<number>;
  /**
   * Makes the group where it does not exist, otherwise changes nothing.
   *
   * @returns the settings stored with the group: those given, or those it was made with
   */
  createGroup(stream: string, group: string, settings: GroupSettings): Promise<GroupSettings>;
  /**
   * Changes settings that are stored with a group. Deliveries that are out keep the lease they have.
   *
   * @returns the settings stored from now on
   * @throws {NotFoundError} when there is no such group
   * @throws {ConfigError} when `order` is to change while something is leased, waits for its retry or is held back
   */
  configureGroup(stream: string, group: string, changes: GroupChanges): Promise<GroupSettings>;
  /**
   * Moves the group's cursor. What is leased, waits for its retry or is held back is dropped and its receipts become
   * worthless; dead letters stay.
   *
   * @throws {NotFoundError} when there is no such group
   */
  seek(stream: string, group: string, to: GroupStart): Promise<void>;
  /** From now on nothing is handed out, in any process, until `resume`. Settling goes on. @throws {NotFoundError} */
  pause(stream: string, group: string): Promise<void>;
  /** @throws {NotFoundError} when there is no such group */
  resume(stream: string, group: string): Promise<void>;
  /**
   * Removes the group with all that belongs to it, its dead letters as well. Feeds that are open on it reject with
   * `NotFoundError`.
   *
   * @returns whether there was one
   */
  deleteGroup(stream: string, group: string): Promise<boolean>;
  /**
   * Starts consuming as one consumer of a group that `createGroup` has made. The consumer's name is unique in the group.
   *
   * @throws {NotFoundError} when there is no such group
   */
  open(stream: string, group: string, consumer: string): Promise<Feed>;
  /** The dead letters of a group. */
  deadLetters(stream: string, group: string): DeadLetters;
  /**
   * Parks messages that no delivery brought among the dead letters of a group: beyond its `maxDeadLetters` the oldest go.
   *
   * @throws {NotFoundError} when there is no such group
   * @throws {OutOfMemoryError} when the store refuses to grow
   * @throws {ConnectionError} when the store was lost on the way: some of them may be parked
   */
  park(stream: string, group: string, letters: readonly NewLetter[]): Promise<void>;
  /** Counts of a stream and its groups. An unknown stream is empty and has no groups. */
  stats(stream: string): Promise<StreamStats>;
}

/** A dead letter that was never in a stream. When its attempts failed is when it is parked. */
export interface NewLetter extends Pick<DeadLetter, "position" | "header" | "attempts" | "consumer" | "reason"> {
  readonly data: Bytes;
}

export interface NewEntry {
  /** The routing header: opaque text without line feeds, at most 64 KiB. */
  readonly header: string;
  readonly data: Bytes;
  /** What order by key goes by. */
  readonly key?: string;
  /** Given by the caller: while the stream remembers it, an entry with the same one is not stored again. */
  readonly dedupeId?: string;
}

export interface Appended {
  /** Where the entry now stands: opaque text, ordered within its stream by `read`, not by comparison. */
  readonly position: string;
  /** The stream remembered its `dedupeId`: nothing was stored, and the position is the earlier entry's. */
  readonly duplicate: boolean;
  /**
   * A fallback keeps the entry until the server is back, and this is what that attained: it has no position yet, which is
   * empty. Absent: it is stored.
   */
  readonly fallback?: Durability;
}

/** How long a stream may grow. Entries that a group has not finished are dropped only by `drop-oldest`. */
export interface Retention {
  readonly maxEntries: number;
  /** Entries older than this are dropped, by the store's clock. Absent: none for their age. */
  readonly maxAgeMs?: number;
  /**
   * When the oldest has to go and a group still has to read it: `reject` refuses what is appended, `drop-oldest` drops
   * and tells the group. `block` is refused by the store as well, and tried again by whoever publishes.
   */
  readonly overflow: "reject" | "block" | "drop-oldest";
}

/** What can change later. */
export interface RetentionChanges {
  readonly maxEntries?: number;
  /** Null: none for their age any more. */
  readonly maxAgeMs?: number | null;
  readonly overflow?: Retention["overflow"];
}

export interface Range {
  /** First position wanted, inclusive; the beginning where absent. */
  readonly from?: string;
  /** Only entries behind this position; combines with paging: pass the last position read. */
  readonly after?: string;
  /** Only entries appended at or after this time, by the store's clock (ms since the epoch). */
  readonly since?: number;
  /** Last position wanted, inclusive, whether or not its entry is still there. */
  readonly until?: string;
  readonly max: number;
}

export interface Entry {
  readonly position: string;
  /** When it was appended, by the store's clock (ms since the epoch). */
  readonly at: number;
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
  /**
   * `key`: nothing of a key is handed out while a delivery of that key is leased or waits for its retry; entries
   * without a key have no order. `strict`: the same, as if all had one key.
   */
  readonly order: "none" | "key" | "strict";
  /** With `order: "key"`, entries that may be held back for others of their key; beyond it nothing new is read. */
  readonly maxHeld: number;
  /** Where the stream holds several types, those that the group handles; the others it passes by. Kept for the facade. */
  readonly types?: readonly string[];
}

/** What can change later. */
export type GroupChanges = { readonly [K in Exclude<keyof GroupSettings, "from">]?: GroupSettings[K] };

/**
 * Where a new group starts: `after` a position, or `at` one, inclusive. A time starts at the first entry appended at or
 * after it, by the store's clock (ms since the epoch).
 */
export type GroupStart =
  | "beginning"
  | "new"
  | { readonly after: string }
  | { readonly at: string }
  | { readonly time: number };

export interface StreamStats {
  readonly length: number;
  /** What the store keeps for the entries, as far as it can tell; undefined where it may not be asked. */
  readonly bytes: number | undefined;
  /** The oldest entry and the newest. */
  readonly oldest: EntryPlace | undefined;
  readonly newest: EntryPlace | undefined;
  /** When this was counted, by the store's clock (ms since the epoch). */
  readonly at: number;
  /** As `configure` has stored it. */
  readonly retention: Retention | undefined;
  readonly groups: readonly GroupStats[];
}

export interface EntryPlace {
  readonly position: string;
  /** When it was appended, by the store's clock (ms since the epoch). */
  readonly at: number;
}

export interface GroupStats {
  readonly group: string;
  readonly settings: GroupSettings;
  readonly paused: boolean;
  /** Entries never delivered to the group, those held back among them. Exact, also when entries have been trimmed. */
  readonly lag: number;
  /** Deliveries leased by a consumer. */
  readonly pending: number;
  /** Deliveries that wait for their retry. */
  readonly retrying: number;
  /** Entries that wait for another of their key. */
  readonly held: number;
  /** Dead letters kept. */
  readonly dead: number;
  /** When the oldest entry that the group has not finished was appended; undefined when it has finished all. */
  readonly oldestUnhandledAt: number | undefined;
  /** When the group last took or settled something; when it was made, if it never did. By the store's clock. */
  readonly lastProgressAt: number;
}
