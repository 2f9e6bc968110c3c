/** The bookkeeping of groups and inboxes: one row each. */

import type { Database } from "./driver.js";
import { type Row, Rows } from "./rows.js";
import { NEVER } from "./schema.js";
import { type StoredText, text } from "./values.js";
import type { Tx } from "./writer.js";

export type ReaderKind = "group" | "inbox";

export interface Reader extends Row {
  readonly id: number;
  /** Groups: the number of the last entry handed out. */
  cursor: number;
  /** Groups: entries appended before this time are passed over. */
  notBefore: number;
  /** Grows with each take that hands something out; a receipt holds the fence of its take. */
  fence: number;
  /** No lease ends before this. */
  nextEnd: number;
  /** Inboxes: unfinished items. */
  items: number;
  /** Dead letters kept. */
  dead: number;
  /** Inboxes: items that expired, ever. */
  expired: number;
  /** Groups: deliveries found gone; inboxes: items found expired; both since the last take. */
  unreported: number;
}

export class Readers {
  readonly #sql: ReturnType<typeof prepare>;
  readonly #rows: Rows<number, Reader>;

  constructor(db: Database) {
    const sql = prepare(db);
    this.#sql = sql;
    this.#rows = new Rows<number, Reader>(
      (id) => {
        const row = sql.load.get(id);
        return row && { ...row, changed: false };
      },
      ({ id, cursor, notBefore, fence, nextEnd, items, dead, expired, unreported }) =>
        void sql.save.run(cursor, notBefore, fence, nextEnd, items, dead, expired, unreported, id),
    );
  }

  /** As the transaction has it. */
  get(tx: Tx, id: number): Reader | undefined {
    return this.#rows.get(tx, id);
  }

  /** The id of the reader of that name. */
  find(kind: ReaderKind, parent: number, name: string): number | undefined {
    return this.#sql.find.get(kind, parent, text(name))?.id;
  }

  insert(tx: Tx, kind: ReaderKind, parent: number, name: string, settings: string | null): Reader {
    const id = this.#sql.insert.insert(kind, parent, text(name), settings) ?? 0;
    const counts = { cursor: 0, notBefore: 0, fence: 0, items: 0, dead: 0, expired: 0, unreported: 0 };
    return this.#rows.add(tx, id, { id, ...counts, nextEnd: NEVER, changed: false });
  }

  /** All readers of a stream or queue, in the order they were made. */
  of(kind: ReaderKind, parent: number): readonly { readonly id: number; readonly name: StoredText }[] {
    return this.#sql.of.all(kind, parent);
  }

  settingsOf(id: number): string {
    return this.#sql.settings.get(id)?.settings ?? "{}";
  }

  /** The fence of the last take that was committed. */
  fenceOf(id: number): number {
    return this.#sql.load.get(id)?.fence ?? 0;
  }
}

function prepare(db: Database) {
  return {
    find: db.prepare<{ id: number }>("SELECT id FROM sb1_readers WHERE kind = ? AND parent = ? AND name = ?"),
    insert: db.prepare("INSERT INTO sb1_readers (kind, parent, name, settings) VALUES (?, ?, ?, ?)"),
    of: db.prepare<{ id: number; name: StoredText }>(
      "SELECT id, name FROM sb1_readers WHERE kind = ? AND parent = ? ORDER BY id",
    ),
    settings: db.prepare<{ settings: string | null }>("SELECT settings FROM sb1_readers WHERE id = ?"),
    load: db.prepare<Omit<Reader, "changed">>(
      `SELECT id, cursor, not_before AS notBefore, fence, next_end AS nextEnd, items, dead, expired, unreported
       FROM sb1_readers WHERE id = ?`,
    ),
    save: db.prepare(
      `UPDATE sb1_readers SET cursor = ?, not_before = ?, fence = ?, next_end = ?, items = ?, dead = ?, expired = ?,
       unreported = ? WHERE id = ?`,
    ),
  };
}
