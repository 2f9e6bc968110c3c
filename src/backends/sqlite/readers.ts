/** The bookkeeping of groups and inboxes: one row each. */

import type { GroupSettings } from "../../core/backend.js";
import type { Database } from "./driver.js";
import { type Row, Rows } from "./rows.js";
import { NEVER } from "./schema.js";
import { type StoredText, text } from "./values.js";
import type { Tx } from "./writer.js";

/** What was an inbox is `gone` when its recipient was forgotten, until all that it had is removed. */
export type ReaderKind = "group" | "inbox";

export interface Reader extends Row {
  readonly id: number;
  /** Groups: JSON. Inboxes: {@link ANSWERS}, or null. */
  settings: string | null;
  /** Groups: the number of the last entry handed out. */
  cursor: number;
  /** Groups: entries appended before this time are passed over. */
  notBefore: number;
  /** Grows with each take that hands something out; a receipt holds the fence of its take. */
  fence: number;
  /** No lease ends before this. */
  nextEnd: number;
  /** Inboxes: unfinished items that are its alone and have no record. */
  items: number;
  /** Dead letters kept. */
  dead: number;
  /** Inboxes: items that expired, ever. */
  expired: number;
  /** Groups: deliveries found gone; inboxes: items found expired; both since the last take. */
  unreported: number;
  /** Nothing is handed out. */
  paused: boolean;
  /** Groups with order by key: how many of their turns are held. */
  held: number;
  /** Groups: when something was last taken or settled; when it was made, if it never was. */
  progressAt: number;
  /** Inboxes: items that were dropped to make room, ever. */
  dropped: number;
  /** Inboxes: those of them that no take has told of. */
  gone: number;
  /** Inboxes: deliveries by weighted priorities, and the urgency from which one last went round; null at first. */
  rounds: number;
  rounded: number | null;
  /** Inboxes: the recipient's place in the order of registration; null where it is not registered. */
  registered: number | null;
  /** Registered recipients: whether an audience reaches it. */
  isAudience: boolean;
  /** Registered recipients: they lapse when nobody has read them for so long. */
  ttlMs: number;
  lapsesAt: number | null;
}

/** What an inbox for answers has for settings: nobody pushed what it holds, which no count of the queue knows of. */
export const ANSWERS = "answers";

/** What a group has where it was made by a build that did not ask. */
const EARLIER_SETTINGS = { order: "none", maxHeld: 1_000 } as const;

/** A group's settings. */
export function settingsOf({ settings }: Pick<Reader, "settings">): GroupSettings {
  return { ...EARLIER_SETTINGS, ...(JSON.parse(settings ?? "{}") as GroupSettings) }; // as they were stored
}

/** As SQLite has it. */
type StoredReader = Omit<Reader, "changed" | "paused" | "isAudience"> & {
  readonly paused: number;
  readonly isAudience: number;
};

/** What a new reader begins with. */
const FRESH = {
  cursor: 0,
  notBefore: 0,
  fence: 0,
  nextEnd: NEVER,
  items: 0,
  dead: 0,
  expired: 0,
  unreported: 0,
  paused: false,
  held: 0,
  dropped: 0,
  gone: 0,
  rounds: 0,
  rounded: null,
  registered: null,
  isAudience: false,
  ttlMs: 0,
  lapsesAt: null,
  changed: false,
} as const;

export class Readers {
  readonly #sql: ReturnType<typeof prepare>;
  readonly #rows: Rows<number, Reader>;

  constructor(db: Database) {
    const sql = prepare(db);
    this.#sql = sql;
    this.#rows = new Rows<number, Reader>(
      (id) => this.load(id),
      (reader) => this.#save(reader),
    );
  }

  /** As the transaction has it. */
  get(tx: Tx, id: number): Reader | undefined {
    return this.#rows.get(tx, id);
  }

  /** As it was last committed. */
  load(id: number): Reader | undefined {
    const row = this.#sql.load.get(id);
    return row && { ...row, paused: row.paused === 1, isAudience: row.isAudience === 1, changed: false };
  }

  /** Whether it is an inbox for answers, or was one. */
  isForAnswers(id: number): boolean {
    return this.#sql.settings.get(id)?.settings === ANSWERS;
  }

  /** The id of the reader of that name. */
  find(kind: ReaderKind, parent: number, name: string): number | undefined {
    return this.#sql.find.get(kind, parent, text(name))?.id;
  }

  insert(tx: Tx, kind: ReaderKind, parent: number, name: string, settings: string | null): Reader {
    const id = this.#sql.insert.insert(kind, parent, text(name), settings, tx.now) ?? 0;
    return this.#rows.add(tx, id, { ...FRESH, id, settings, progressAt: tx.now });
  }

  /** Removes a reader with its dead letters. Its id is never used again. */
  remove(tx: Tx, { id }: Reader): void {
    this.#sql.removeLetters.run(id);
    this.#sql.remove.run(id);
    this.#rows.remove(tx, id);
  }

  /** Registers a recipient, or changes that. */
  saveRegistration({ id, registered, isAudience, ttlMs, lapsesAt }: Reader): void {
    this.#sql.register.run(registered, isAudience ? 1 : 0, ttlMs, lapsesAt, id);
  }

  /** Nobody finds the reader any more, by its name or its id; what it has is still there. */
  letGo(tx: Tx, reader: Reader): void {
    this.#save(reader);
    this.#sql.letGo.run(reader.id);
    this.#rows.remove(tx, reader.id);
  }

  /** All readers of a stream or queue, in the order they were made. */
  of(kind: ReaderKind, parent: number): readonly { readonly id: number; readonly name: StoredText }[] {
    return this.#sql.of.all(kind, parent);
  }

  saveSettings(reader: Reader, settings: string): void {
    reader.settings = settings;
    this.#sql.saveSettings.run(settings, reader.id);
  }

  #save(reader: Reader): void {
    const { id, cursor, notBefore, fence, nextEnd, items, dead, expired, unreported, paused, held, progressAt } =
      reader;
    const counts = [items, dead, expired, unreported, paused ? 1 : 0, held, progressAt];
    const { dropped, gone, rounds, rounded } = reader;
    this.#sql.save.run(cursor, notBefore, fence, nextEnd, ...counts, dropped, gone, rounds, rounded, id);
  }
}

// Parameters come in the order of the calls above.
function prepare(db: Database) {
  return {
    find: db.prepare<{ id: number }>("SELECT id FROM sb1_readers WHERE kind = ? AND parent = ? AND name = ?"),
    insert: db.prepare("INSERT INTO sb1_readers (kind, parent, name, settings, progress_at) VALUES (?, ?, ?, ?, ?)"),
    remove: db.prepare("DELETE FROM sb1_readers WHERE id = ?"),
    removeLetters: db.prepare("DELETE FROM sb1_dead WHERE reader = ?"),
    of: db.prepare<{ id: number; name: StoredText }>(
      "SELECT id, name FROM sb1_readers WHERE kind = ? AND parent = ? ORDER BY id",
    ),
    saveSettings: db.prepare("UPDATE sb1_readers SET settings = ? WHERE id = ?"),
    settings: db.prepare<{ settings: string | null }>("SELECT settings FROM sb1_readers WHERE id = ?"),
    load: db.prepare<StoredReader>(
      `SELECT id, settings, cursor, not_before AS notBefore, fence, next_end AS nextEnd, items, dead, expired, unreported,
         paused, held, progress_at AS progressAt, dropped, gone, rounds, rounded, registered, audience AS isAudience,
         ttl_ms AS ttlMs, lapses_at AS lapsesAt
       FROM sb1_readers WHERE id = ? AND kind <> 'gone'`,
    ),
    save: db.prepare(
      `UPDATE sb1_readers SET cursor = ?, not_before = ?, fence = ?, next_end = ?, items = ?, dead = ?, expired = ?,
         unreported = ?, paused = ?, held = ?, progress_at = ?, dropped = ?, gone = ?, rounds = ?, rounded = ?
       WHERE id = ?`,
    ),
    register: db.prepare("UPDATE sb1_readers SET registered = ?, audience = ?, ttl_ms = ?, lapses_at = ? WHERE id = ?"),
    letGo: db.prepare(
      `UPDATE sb1_readers SET kind = 'gone', name = CAST(id AS TEXT), registered = NULL, audience = 0, lapses_at = NULL
       WHERE id = ?`,
    ),
  };
}
