/** The ids that callers gave, as far back as a stream or queue remembers them. */

import { DEDUPE_MAX_IDS, DEDUPE_WINDOW_MS } from "../../core/limits.js";
import type { Database } from "./driver.js";
import type { Row } from "./rows.js";
import { text } from "./values.js";
import type { Tx } from "./writer.js";

/** A stream or queue. */
export interface Rememberer extends Row {
  readonly id: number;
  /** How many ids it remembers. */
  ids: number;
}

/** An id, and its place among those that are remembered; of an entry its number. */
export interface Remembered {
  readonly id: string;
  readonly number: number;
}

export interface RememberedIds {
  /** The number of an id that is remembered. */
  find(tx: Tx, owner: Rememberer, id: string): number | undefined;
  /** The greatest number remembered; 0 where none is. */
  last(owner: Rememberer): number;
  /** Remembers ids that were not, and forgets some that are too old or too many. */
  remember(tx: Tx, owner: Rememberer, added: readonly Remembered[]): void;
  /** Forgets up to `max`, whatever their age. @returns how many */
  clear(owner: Rememberer, max: number): number;
}

/** Ids that each call forgets at least, where there are any to forget; besides two for each that it adds. */
const SLICE = 100;

/** @param owner the column that says whose they are */
export function createRememberedIds(
  db: Database,
  table: "sb1_ids" | "sb1_item_ids",
  owner: "stream" | "queue",
): RememberedIds {
  const sql = prepare(db, table, owner);

  function drop(owner: Rememberer, max: number, until: number): number {
    const dropped = sql.forget.run(owner.id, owner.id, max, until);
    owner.ids -= dropped;
    owner.changed = true;
    return dropped;
  }

  /** The oldest go first. More go than come, so that they never get to be twice as many. */
  function forget(tx: Tx, owner: Rememberer, added: number): void {
    const most = SLICE + 2 * added;
    const excess = Math.min(most, owner.ids - DEDUPE_MAX_IDS);
    if (excess > 0) drop(owner, excess, Number.MAX_SAFE_INTEGER);
    drop(owner, most, tx.now - DEDUPE_WINDOW_MS);
  }

  return {
    find(tx, owner, id) {
      const known = sql.find.get(owner.id, text(id));
      return known !== undefined && known.at > tx.now - DEDUPE_WINDOW_MS ? known.number : undefined;
    },

    last: (owner) => sql.last.get(owner.id)?.number ?? 0,

    remember(tx, owner, added) {
      for (const { id, number } of added) {
        if (sql.add.run(owner.id, text(id), number, tx.now) > 0) owner.ids += 1;
        // It is there still, from too long ago.
        else sql.renew.run(number, tx.now, owner.id, text(id));
      }
      if (added.length > 0) forget(tx, owner, added.length);
    },

    clear: (owner, max) => drop(owner, max, Number.MAX_SAFE_INTEGER),
  };
}

// Parameters come in the order of the calls above.
function prepare(db: Database, table: string, owner: string) {
  return {
    find: db.prepare<{ number: number; at: number }>(`SELECT number, at FROM ${table} WHERE ${owner} = ? AND id = ?`),
    last: db.prepare<{ number: number | null }>(`SELECT max(number) AS number FROM ${table} WHERE ${owner} = ?`),
    add: db.prepare(`INSERT OR IGNORE INTO ${table} (${owner}, id, number, at) VALUES (?, ?, ?, ?)`),
    renew: db.prepare(`UPDATE ${table} SET number = ?, at = ? WHERE ${owner} = ? AND id = ?`),
    forget: db.prepare(
      `DELETE FROM ${table} INDEXED BY ${table}_number WHERE ${owner} = ?
       AND number IN (SELECT number FROM ${table} WHERE ${owner} = ? ORDER BY number LIMIT ?) AND at <= ?`,
    ),
  };
}
