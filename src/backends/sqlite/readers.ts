/** The bookkeeping of groups and inboxes: one row each, which every port of the backend shares. */

import { NEVER } from "./schema.js";
import type { Database } from "./driver.js";
import { type StoredText, text } from "./values.js";
import { createRows, type Row, type Rows, type Tx } from "./writer.js";

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

type Columns = Omit<Reader, "changed">;

export interface Readers extends Rows<number, Reader> {
  /** The id of the reader of that name. */
  find(kind: ReaderKind, parent: number, name: string): number | undefined;
  insert(tx: Tx, kind: ReaderKind, parent: number, name: string, settings: string | null): Reader;
  /** All readers of a stream or queue, in the order they were made. */
  of(kind: ReaderKind, parent: number): readonly { readonly id: number; readonly name: StoredText }[];
  settingsOf(id: number): string;
  /** The fence of the last take that was committed. */
  fenceOf(id: number): number;
}

export function createReaders(db: Database): Readers {
  const find = db.prepare<{ id: number }>("SELECT id FROM sb1_readers WHERE kind = ? AND parent = ? AND name = ?");
  const insert = db.prepare("INSERT INTO sb1_readers (kind, parent, name, settings) VALUES (?, ?, ?, ?)");
  const of = db.prepare<{ id: number; name: StoredText }>(
    "SELECT id, name FROM sb1_readers WHERE kind = ? AND parent = ? ORDER BY id",
  );
  const fenceOf = db.prepare<{ fence: number }>("SELECT fence FROM sb1_readers WHERE id = ?");
  const settingsOf = db.prepare<{ settings: string | null }>("SELECT settings FROM sb1_readers WHERE id = ?");
  const load = db.prepare<Columns>(
    `SELECT id, cursor, not_before AS notBefore, fence, next_end AS nextEnd, items, dead, expired, unreported
     FROM sb1_readers WHERE id = ?`,
  );
  const save = db.prepare(
    `UPDATE sb1_readers SET cursor = ?, not_before = ?, fence = ?, next_end = ?, items = ?, dead = ?, expired = ?,
     unreported = ? WHERE id = ?`,
  );
  const rows = createRows<number, Reader>(
    (id) => {
      const row = load.get(id);
      return row && { ...row, changed: false };
    },
    ({ id, cursor, notBefore, fence, nextEnd, items, dead, expired, unreported }) =>
      void save.run(cursor, notBefore, fence, nextEnd, items, dead, expired, unreported, id),
  );
  const idOf = (kind: ReaderKind, parent: number, name: string): number | undefined =>
    find.get(kind, parent, text(name))?.id;
  return {
    ...rows,
    find: idOf,
    insert(tx, kind, parent, name, settings) {
      insert.run(kind, parent, text(name), settings);
      const id = idOf(kind, parent, name) ?? 0;
      const counts = { cursor: 0, notBefore: 0, fence: 0, items: 0, dead: 0, expired: 0, unreported: 0 };
      return rows.add(tx, id, { id, ...counts, nextEnd: NEVER, changed: false });
    },
    of: (kind, parent) => of.all(kind, parent),
    settingsOf: (id) => settingsOf.get(id)?.settings ?? "{}",
    fenceOf: (id) => fenceOf.get(id)?.fence ?? 0,
  };
}
