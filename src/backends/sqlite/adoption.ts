/** Records for items that were stored before their queue was to have some. */

import { PUSHED_AT } from "./conditions.js";
import type { Database } from "./driver.js";
import { NOBODY } from "./items.js";
import type { QueueRow } from "./queues.js";
import type { Readers } from "./readers.js";
import type { Records } from "./records.js";
import type { StoredText } from "./values.js";
import type { Tx } from "./writer.js";

/** Items that one transaction looks at. */
const SLICE = 500;

/**
 * Gives some of a queue's items records.
 *
 * @param after the id of the last that was looked at; empty at first
 * @returns the id to go on with; undefined when all have records
 */
export type Adopt = (tx: Tx, queue: QueueRow, after: StoredText) => StoredText | undefined;

export function createAdopt(db: Database, readers: Readers, records: Records): Adopt {
  const next = db.prepare<{ seq: number; id: StoredText; reader: number; at: number; expiresAt: number | null }>(
    `SELECT seq, id, reader, expires_at AS expiresAt, ${PUSHED_AT} AS at
     FROM sb1_items AS items INDEXED BY sb1_items_id WHERE queue = ? AND id > ? ORDER BY id LIMIT ?`,
  );
  const release = db.prepare(`UPDATE sb1_items SET reader = ${NOBODY}, expires_at = NULL WHERE seq = ?`);

  return (tx, queue, after) => {
    const items = next.all(queue.id, after, SLICE);
    for (const { seq, reader, at, expiresAt } of items) {
      const inbox = reader === NOBODY ? undefined : readers.get(tx, reader);
      if (inbox === undefined) continue;
      release.run(seq);
      records.add(queue, seq, { at, expiresAt, fields: {} });
      records.give(reader, seq, expiresAt);
      // It was counted already.
      queue.items -= 1;
      inbox.items -= 1;
      inbox.changed = true;
    }
    tx.spend(items.length);
    return items.length < SLICE ? undefined : items.at(-1)?.id;
  };
}
