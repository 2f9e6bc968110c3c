/** The ids that callers gave to what they appended: while a stream remembers one, its entry is not stored again. */

import { DEDUPE_MAX_IDS, DEDUPE_WINDOW_MS } from "../../core/limits.js";
import type { Database } from "./driver.js";
import type { BoundEntry, Stream } from "./streams.js";
import { text } from "./values.js";
import type { Tx } from "./writer.js";

/** Where an entry stands, or will stand. */
export interface Place {
  readonly number: number;
  readonly duplicate: boolean;
}

export interface Ids {
  /** Where each entry will stand, and which are duplicates, of earlier ones or of each other. Writes nothing. */
  place(tx: Tx, stream: Stream, entries: readonly BoundEntry[]): readonly Place[];
  /** Remembers the ids of entries that are stored, and forgets some that are too old or too many. */
  remember(tx: Tx, stream: Stream, entries: readonly BoundEntry[], places: readonly Place[]): void;
}

/** Ids that each append forgets at least, where there are any to forget; besides two for each that it adds. */
const SLICE = 100;

export function createIds(db: Database): Ids {
  const sql = prepare(db);

  function find(tx: Tx, stream: Stream, id: string): number | undefined {
    const known = sql.find.get(stream.id, text(id));
    return known !== undefined && known.at > tx.now - DEDUPE_WINDOW_MS ? known.number : undefined;
  }

  /** The oldest go first. More go than come, so that they never get to be twice as many. */
  function forget(tx: Tx, stream: Stream, added: number): void {
    const most = SLICE + 2 * added;
    const excess = Math.min(most, stream.ids - DEDUPE_MAX_IDS);
    if (excess > 0) stream.ids -= sql.forget.run(stream.id, stream.id, excess, Number.MAX_SAFE_INTEGER);
    stream.ids -= sql.forget.run(stream.id, stream.id, most, tx.now - DEDUPE_WINDOW_MS);
    stream.changed = true;
  }

  return {
    place(tx, stream, entries) {
      const placed = new Map<string, number>();
      let last = stream.last;
      return entries.map(({ dedupeId }) => {
        const known = dedupeId === undefined ? undefined : (placed.get(dedupeId) ?? find(tx, stream, dedupeId));
        if (known !== undefined) return { number: known, duplicate: true };
        last += 1;
        if (dedupeId !== undefined) placed.set(dedupeId, last);
        return { number: last, duplicate: false };
      });
    },

    remember(tx, stream, entries, places) {
      let added = 0;
      for (const [index, { dedupeId }] of entries.entries()) {
        const place = places[index];
        if (dedupeId === undefined || place === undefined || place.duplicate) continue;
        const id = text(dedupeId);
        added += 1;
        if (sql.add.run(stream.id, id, place.number, tx.now) > 0) stream.ids += 1;
        // It is there still, from too long ago.
        else sql.renew.run(place.number, tx.now, stream.id, id);
      }
      if (added > 0) forget(tx, stream, added);
    },
  };
}

function prepare(db: Database) {
  return {
    find: db.prepare<{ number: number; at: number }>("SELECT number, at FROM sb1_ids WHERE stream = ? AND id = ?"),
    add: db.prepare("INSERT OR IGNORE INTO sb1_ids (stream, id, number, at) VALUES (?, ?, ?, ?)"),
    renew: db.prepare("UPDATE sb1_ids SET number = ?, at = ? WHERE stream = ? AND id = ?"),
    forget: db.prepare(
      `DELETE FROM sb1_ids INDEXED BY sb1_ids_number WHERE stream = ?
       AND number IN (SELECT number FROM sb1_ids WHERE stream = ? ORDER BY number LIMIT ?) AND at <= ?`,
    ),
  };
}
