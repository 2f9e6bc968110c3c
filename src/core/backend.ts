/** The ports: what a backend implements, and nothing else. Types only. */

import type { Clock } from "./clock.js";
import type { Bytes } from "./feed-port.js";
import type { Durability, Log } from "./log-port.js";
import type { Membership } from "./membership-port.js";
import type { Queue } from "./queue-port.js";

export type {
  Bytes,
  DeadLetter,
  DeadLetters,
  DeadReason,
  Delivery,
  Feed,
  Outcome,
  Receipt,
  Reply,
  TakeRequest,
  Taken,
} from "./feed-port.js";
export type {
  Appended,
  Durability,
  Entry,
  EntryPlace,
  GroupChanges,
  GroupSettings,
  GroupStart,
  GroupStats,
  Log,
  NewEntry,
  NewLetter,
  Range,
  Retention,
  RetentionChanges,
  StreamStats,
} from "./log-port.js";
export type {
  GroupVersion,
  Joined,
  Lapsed,
  Member,
  MemberChange,
  MemberPage,
  Membership,
  MembershipChange,
  NewMember,
  Reaped,
} from "./membership-port.js";
export type {
  Audience,
  NewItem,
  OpenState,
  Pushed,
  Queue,
  QueueConsumer,
  QueueLimits,
  QueueStats,
  RecipientPage,
  RegisteredRecipient,
  Registration,
} from "./queue-port.js";
export { MAX_RECIPIENTS, SHARED_RECIPIENT } from "./queue-port.js";
export type {
  ItemFilter,
  ItemPage,
  ItemState,
  PageRequest,
  RecipientState,
  RecordSettings,
  RecordState,
  StoredItem,
} from "./records-port.js";
export { NO_RECORDS } from "./records-port.js";

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
  readonly membership: Membership;
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
   * Sends each message to the present subscribers of its channel, in order per channel and publisher. This backend's own
   * subscribers hear it before the store is asked, and whatever becomes of that.
   *
   * @returns for each message, how many subscribed backends it reached as far as is known: a hint, not an acknowledgement
   * @throws {ConnectionError} when the store cannot be reached: others may not have heard
   */
  publish(messages: readonly BroadcastMessage[]): Promise<readonly number[]>;
  /**
   * Resolves once the subscription is in force: a message published afterwards is heard. A backend that subscribes to
   * the same target several times hears a message once for each; the store may be asked once for all of them, and told
   * up to a second late that the last has gone.
   */
  subscribe(target: BroadcastTarget, listener: BroadcastListener): Promise<Unsubscribe>;
}

export interface BroadcastMessage {
  readonly channel: string;
  readonly data: Bytes;
  /** For the sharded channel of that name, which has nothing to do with the other one. */
  readonly sharded?: true;
}

/**
 * One channel by its exact name, or all channels that match a Redis glob (`core/glob.ts`). A sharded channel lives on one
 * node of a Cluster instead of all, and no pattern hears it.
 */
export type BroadcastTarget =
  | { readonly channel: string; readonly sharded?: true }
  | { readonly pattern: string; readonly sharded?: never };

export interface BroadcastListener {
  /** Text that was published may come as text or as bytes, bytes come as bytes. All listeners may be given the same. */
  message(channel: string, data: Bytes): void;
  /** Messages may have been missed, for this reason. The subscription is in force again when this is called. */
  gap(reason: string): void;
}

/** Resolves when the listener will hear nothing more. Safe to call twice. */
export type Unsubscribe = () => Promise<void>;
