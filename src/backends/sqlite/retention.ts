/** How long a stream may grow: only what every group has finished makes room, unless the stream may lose some. */

import type { Retention } from "../../core/backend.js";
import { streamFull } from "../../core/limits.js";
import type { Database } from "./driver.js";
import type { Readers } from "./readers.js";
import type { Stream } from "./streams.js";
import type { Tx } from "./writer.js";

/** Room is made in slices of this share of the stream, so that a full stream does not trim at each append. */
const TRIM_SHARE = 0.01;
/** A slice is never larger than this unless it must be, so that one append does not wait for long. */
const MAX_SLICE = 1_000;

export interface Keeper {
  /**
   * Drops the oldest entries where the stream would grow too long.
   *
   * @throws {LimitError} when too few may go; nothing was dropped
   */
  makeRoom(tx: Tx, stream: Stream, adding: number, retention: Retention): void;
}

export function createKeeper(db: Database, readers: Readers): Keeper {
  const remove = db.prepare("DELETE FROM sb1_entries WHERE id BETWEEN (? << 40) | ? AND (? << 40) | ?");
  const removeParked = db.prepare("DELETE FROM sb1_parked WHERE reader = ? AND seq < ?");
  const firstHeld = db.prepare<{ seq: number | null }>(
    `SELECT min(seq) AS seq FROM (
       SELECT min(seq) AS seq FROM sb1_leased WHERE reader = ? UNION ALL SELECT min(seq) FROM sb1_parked WHERE reader = ?
     )`,
  );

  /** The number of the oldest entry that some group has not finished; behind the last without any. */
  function firstUnfinished(tx: Tx, stream: Stream): number {
    let first = stream.last + 1;
    for (const { id } of readers.of("group", stream.id)) {
      const cursor = readers.get(tx, id)?.cursor ?? stream.last;
      first = Math.min(first, cursor + 1, firstHeld.get(id, id)?.seq ?? first);
    }
    return first;
  }

  function dropBefore(tx: Tx, stream: Stream, first: number): void {
    remove.run(stream.id, stream.first, stream.id, first - 1);
    tx.spend(first - stream.first);
    stream.first = first;
    stream.changed = true;
    for (const { id } of readers.of("group", stream.id)) {
      const group = readers.get(tx, id);
      if (group === undefined) continue;
      const unread = Math.max(0, first - 1 - group.cursor);
      const parked = removeParked.run(id, first);
      if (unread + parked === 0) continue;
      group.unreported += unread + parked;
      group.cursor += unread;
      group.changed = true;
    }
  }

  return {
    makeRoom(tx, stream, adding, { maxEntries, overflow }) {
      const length = stream.last - stream.first + 1;
      const excess = length + adding - maxEntries;
      if (excess <= 0) return;
      const finished = firstUnfinished(tx, stream) - stream.first;
      const droppable = overflow === "drop-oldest" ? Math.max(finished, excess) : finished;
      if (droppable < excess) {
        throw streamFull(stream.name, maxEntries);
      }
      const slice = Math.max(excess, Math.min(MAX_SLICE, Math.ceil(maxEntries * TRIM_SHARE)));
      dropBefore(tx, stream, stream.first + Math.min(slice, droppable, length));
    },
  };
}
