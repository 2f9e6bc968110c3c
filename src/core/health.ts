/** What `broker.health()` makes of the backend's checks, the consumers' progress and the groups'. */

import type { Check, GroupStats, Log } from "./backend.js";
import type { SubscriptionStats } from "./consumer-stats.js";
import { toError } from "./errors.js";
import type { HolderHealth } from "./holder-lease.js";

export interface Health {
  /** `down`: the backend cannot be used. `degraded`: something fails or does not move. */
  readonly status: "up" | "degraded" | "down";
  readonly details: {
    readonly checks: readonly Check[];
    readonly consumers: readonly ConsumerHealth[];
    /** Groups that have something to do and do not get on, of streams that this broker publishes to or consumes from. */
    readonly groups: readonly GroupHealth[];
    /** The lease that keeps what this broker has entered present; absent while that is nothing. */
    readonly presence?: HolderHealth;
  };
}

export interface ConsumerHealth extends SubscriptionStats {
  readonly ok: boolean;
  /** What is wrong, where something is. */
  readonly error?: string;
}

/** A group that nobody reads, or that does not get on: it keeps its stream from being trimmed. */
export interface GroupHealth {
  readonly stream: string;
  readonly group: string;
  readonly paused: boolean;
  readonly lag: number;
  readonly pending: number;
  readonly retrying: number;
  /** For how long it has had something to do and taken or settled nothing. */
  readonly idleMs: number;
  /** What is wrong, in words. */
  readonly error: string;
}

/** A fetch waits two seconds at most: a consumer that completed none for this long does not move. */
const STALE_MS = 10_000;
/** Streams that are asked at a time. */
const STREAMS_AT_ONCE = 16;

export function assessHealth(
  checks: readonly Check[],
  consumers: readonly SubscriptionStats[],
  groups: readonly GroupHealth[],
  presence?: HolderHealth,
): Health {
  const assessed = consumers.map(assessConsumer);
  const failed = checks.filter(({ ok }) => !ok).length;
  const degraded = failed > 0 || groups.length > 0 || assessed.some(({ ok }) => !ok) || presence?.ok === false;
  const status = checks.length > 0 && failed === checks.length ? "down" : degraded ? "degraded" : "up";
  return { status, details: { checks, consumers: assessed, groups, ...(presence !== undefined && { presence }) } };
}

function assessConsumer(stats: SubscriptionStats): ConsumerHealth {
  if (stats.state === "failing") return { ...stats, ok: false, error: "its backend fails; it tries again" };
  if (stats.state === "ended")
    return { ...stats, ok: false, error: "it has ended by itself: its group was deleted, or stop() was its outcome" };
  if (stats.state === "running" && stats.idleMs > STALE_MS) {
    return { ...stats, ok: false, error: `no fetch completed for ${stats.idleMs} ms` };
  }
  return { ...stats, ok: true };
}

/**
 * Looks for groups that have had something to do for `groupIdleMs` and made no progress. Never rejects: a stream that
 * cannot be asked is a check that is not ok.
 */
export async function findIdleGroups(
  log: Log,
  streams: readonly string[],
  groupIdleMs: number,
): Promise<{ readonly groups: readonly GroupHealth[]; readonly checks: readonly Check[] }> {
  const groups: GroupHealth[] = [];
  const checks: Check[] = [];
  const ask = async (stream: string): Promise<void> => {
    try {
      const stats = await log.stats(stream);
      for (const group of stats.groups) {
        const idleMs = idleTime(group, stats.at);
        if (idleMs >= groupIdleMs) groups.push(toHealth(stream, group, idleMs));
      }
    } catch (error) {
      checks.push({ name: `groups of ${stream}`, ok: false, error: toError(error).message });
    }
  };
  for (let start = 0; start < streams.length; start += STREAMS_AT_ONCE)
    await Promise.all(streams.slice(start, start + STREAMS_AT_ONCE).map(ask));
  return { groups, checks };
}

/** A group that had finished everything is not idle from then on, but from when there is something to do again. */
function idleTime({ lag, pending, retrying, lastProgressAt, oldestUnhandledAt }: GroupStats, at: number): number {
  if (lag + pending + retrying === 0) return 0;
  return at - Math.max(lastProgressAt, oldestUnhandledAt ?? lastProgressAt);
}

function toHealth(stream: string, group: GroupStats, idleMs: number): GroupHealth {
  const { paused, lag, pending, retrying } = group;
  const unpaused =
    lag + pending === 0
      ? "its retries are not due yet, or nobody reads it"
      : "nobody reads it, or its handlers do not finish";
  const why = paused ? "it is paused" : unpaused;
  const error = `nothing taken or settled for ${idleMs} ms, with ${lag + pending + retrying} to do: ${why}`;
  return { stream, group: group.group, paused, lag, pending, retrying, idleMs, error };
}
