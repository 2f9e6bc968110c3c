/** Counts of a stream and its groups, as callers see them. */

import type { EntryPlace, GroupSettings, GroupStats, Retention, StreamStats } from "../core/backend.js";

export interface EventStats {
  /** The stream: the type's own, or one that several types share. */
  readonly stream: string;
  readonly length: number;
  /** What the store keeps for the events, as far as it can tell; undefined where it may not be asked. */
  readonly bytes: number | undefined;
  /** The oldest event and the newest, with the time at which each was stored (ms since the epoch). */
  readonly oldest: EntryPlace | undefined;
  readonly newest: EntryPlace | undefined;
  /** The limits that are stored with the stream. */
  readonly retention: Retention | undefined;
  readonly groups: readonly EventGroupStats[];
}

export interface EventGroupStats {
  readonly group: string;
  readonly settings: GroupSettings;
  readonly paused: boolean;
  /** Events never delivered to the group, those held back among them. */
  readonly lag: number;
  /** Deliveries in a consumer's hands. */
  readonly pending: number;
  /** Deliveries that wait for their retry. */
  readonly retrying: number;
  /** Events that wait for another of their key. */
  readonly held: number;
  /** Dead letters kept. */
  readonly dead: number;
  /** For how long the oldest event that the group has not finished has been stored; undefined when all are finished. */
  readonly oldestUnhandledAgeMs: number | undefined;
  /** When the group last took or settled something, by the store's clock (ms since the epoch); when it was made, if it never did. */
  readonly lastProgressAt: number;
}

export function toEventStats(stream: string, stats: StreamStats): EventStats {
  const { length, bytes, oldest, newest, retention, at } = stats;
  return {
    stream,
    length,
    bytes,
    oldest,
    newest,
    retention,
    groups: stats.groups.map((each) => toGroupStats(each, at)),
  };
}

/** @param at when it was counted, by the store's clock */
export function toGroupStats(stats: GroupStats, at: number): EventGroupStats {
  const { group, settings, paused, lag, pending, retrying, held, dead, oldestUnhandledAt, lastProgressAt } = stats;
  const oldestUnhandledAgeMs = oldestUnhandledAt === undefined ? undefined : Math.max(0, at - oldestUnhandledAt);
  return { group, settings, paused, lag, pending, retrying, held, dead, oldestUnhandledAgeMs, lastProgressAt };
}
