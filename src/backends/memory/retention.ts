/** How long a stream may grow: what makes room for what is appended, and what has become too old. */

import type { Retention } from "../../core/backend.js";
import { streamFull } from "../../core/limits.js";
import type { MemoryStream } from "./stream.js";

/** Room is made in slices of this share of the stream, so that a full stream does not trim at each append. */
const TRIM_SHARE = 0.01;

/**
 * Drops the oldest entries where the stream would grow too long or they are too old; only finished ones unless it may
 * lose some.
 *
 * @throws {LimitError} when some group has not finished what would have to go
 */
export function makeRoom(stream: MemoryStream, adding: number, given: Retention, now: number): void {
  const retention = stream.retention ?? given;
  const { entries, name } = stream;
  const excess = Math.max(0, entries.length + adding - retention.maxEntries);
  const isLook = isTimeToLook(stream, retention, now);
  const needed = Math.max(excess, isLook ? countOld(stream, retention, now) : 0);
  if (needed > 0) {
    const { count: finished, slowest } = countFinished(stream);
    const mayLose = retention.overflow === "drop-oldest";
    if (needed > finished && !mayLose) throw streamFull(name, retention, slowest);
    const slice = excess > 0 ? Math.ceil(retention.maxEntries * TRIM_SHARE) : 0;
    // What alone is more than the stream may hold is stored whole, and goes with the next.
    dropOldest(stream, Math.min(entries.length, Math.max(needed, Math.min(slice, finished))));
  }
  if (isLook) stream.agedAt = now;
}

/** Drops what is older than the stored age and may go. @returns how many */
export function trimOld(stream: MemoryStream, now: number): number {
  const { retention } = stream;
  if (retention === undefined) return 0;
  const old = countOld(stream, retention, now);
  const count = retention.overflow === "drop-oldest" ? old : Math.min(old, countFinished(stream).count);
  dropOldest(stream, count);
  return count;
}

/** Ages are looked at now and then, so that not every append drops the one entry that has just become too old. */
function isTimeToLook({ agedAt }: MemoryStream, { maxAgeMs }: Retention, now: number): boolean {
  return maxAgeMs !== undefined && now - agedAt >= Math.min(1_000, maxAgeMs / 10);
}

function countOld({ entries }: MemoryStream, { maxAgeMs }: Retention, now: number): number {
  return maxAgeMs === undefined ? 0 : entries.countBefore(now - maxAgeMs);
}

/** How many of the oldest entries every group has finished, and which group is furthest behind. */
function countFinished({ entries, groups }: MemoryStream): { count: number; slowest: string | undefined } {
  let first = entries.end;
  let slowest: string | undefined;
  for (const [name, group] of groups) {
    const { number } = group.oldestUnfinished;
    if (number >= first) continue;
    first = number;
    slowest = name;
  }
  // What is leased may have been dropped long ago.
  return { count: Math.max(0, first - entries.first), slowest };
}

function dropOldest(stream: MemoryStream, count: number): void {
  if (count === 0) return;
  // What is not for a group is not gone for it. The entries tell, as long as they are there.
  for (const group of stream.groups.values()) group.drop(stream.entries.first + count);
  stream.entries.drop(count);
}
