/** Counts of a stream and its groups. */

import type { GroupStats, StreamStats } from "../../core/backend.js";
import { placeOf } from "./entries.js";
import type { Group } from "./group.js";
import type { MemoryStream } from "./stream.js";

/** @param stream undefined where nothing was ever stored */
export function streamStats(stream: MemoryStream | undefined, now: number): StreamStats {
  const entries = stream?.entries;
  return {
    length: entries?.length ?? 0,
    bytes: entries?.bytes ?? 0,
    oldest: entries && placeOf(entries.at(entries.first)),
    newest: entries && placeOf(entries.at(entries.end - 1)),
    at: now,
    retention: stream?.retention,
    groups: [...(stream?.groups ?? [])].map(([name, group]) => groupStats(name, group)),
  };
}

function groupStats(name: string, group: Group): GroupStats {
  const { settings, isPaused, lag, retrying, held, list, oldestUnfinished, lastProgressAt } = group;
  return {
    group: name,
    settings,
    paused: isPaused,
    lag,
    pending: list.leased.size,
    retrying,
    held,
    dead: list.dead.size,
    oldestUnhandledAt: oldestUnfinished.at,
    lastProgressAt,
  };
}
