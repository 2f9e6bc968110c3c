/** Parked messages, of groups and inboxes alike. */

import type { DeadLetter, DeadLetters, DeadReason } from "../../core/backend.js";
import { NotFoundError } from "../../core/errors.js";
import type { Database } from "./driver.js";
import type { Reader } from "./readers.js";
import type { Store } from "./store.js";
import { type StoredText, text, textOf } from "./values.js";

interface LetterRow {
  readonly id: number;
  readonly position: StoredText;
  readonly header: StoredText;
  readonly data: Uint8Array;
  readonly attempts: number;
  readonly consumer: StoredText;
  readonly kind: DeadReason["kind"];
  readonly message: StoredText;
  readonly stack: StoredText | null;
  readonly at: number;
}

/** What becomes of a delivery that is parked for good. */
export interface Burial {
  readonly attempts: number;
  readonly consumer: StoredText;
  readonly reason: DeadReason;
  readonly at: number;
}

export interface Graveyard {
  /**
   * Copies a message to the reader's dead letters, so that trimming cannot hurt it; beyond `max` the oldest goes.
   *
   * @param key the message's, as the graveyard's `message` takes it
   * @returns false when the message is gone
   */
  bury(reader: Reader, burial: Burial, key: readonly number[], max: number): boolean;
}

/** @param message the statement that selects a message's `position`, `header` and `data` by its key */
export function createGraveyard(db: Database, message: string): Graveyard {
  const insert = db.prepare(
    `INSERT INTO sb1_dead (reader, attempts, consumer, kind, message, stack, at, position, header, data)
     SELECT ?, ?, ?, ?, ?, ?, ?, position, header, data FROM (${message})`,
  );
  const trim = db.prepare(
    "DELETE FROM sb1_dead WHERE id IN (SELECT id FROM sb1_dead WHERE reader = ? ORDER BY id LIMIT ?)",
  );
  return {
    bury(reader, { attempts, consumer, reason, at }, key, max) {
      const stack = reason.stack === undefined ? null : text(reason.stack);
      const values = [reader.id, attempts, consumer, reason.kind, text(reason.message), stack, at] as const;
      if (insert.run(...values, ...key) === 0) return false;
      reader.dead += 1;
      if (reader.dead > max) reader.dead -= trim.run(reader.id, reader.dead - max);
      reader.changed = true;
      return true;
    },
  };
}

/** Lists dead letters. @param findReader the reader's id, while it exists */
export type LettersOf = (findReader: () => number | undefined) => DeadLetters;

export function createLettersOf(store: Store): LettersOf {
  const page = store.db.prepare<LetterRow>("SELECT * FROM sb1_dead WHERE reader = ? AND id > ? ORDER BY id LIMIT ?");
  return (findReader) => ({
    async list({ max, cursor }) {
      store.assertOpen();
      const after = cursor === undefined ? 0 : Number(cursor);
      if (!Number.isSafeInteger(after)) throw new NotFoundError(`"${cursor}" is no cursor of these dead letters`);
      const rows = store.read(() => {
        const reader = findReader();
        return reader === undefined ? [] : page.all(reader, after, max + 1);
      });
      const letters = rows.slice(0, max).map(toLetter);
      const last = letters.at(-1);
      return rows.length > max && last !== undefined ? { letters, cursor: last.id } : { letters };
    },
  });
}

function toLetter(row: LetterRow): DeadLetter {
  const reason = { kind: row.kind, message: textOf(row.message) };
  return {
    id: String(row.id),
    position: textOf(row.position),
    header: textOf(row.header),
    data: row.data,
    attempts: row.attempts,
    consumer: textOf(row.consumer),
    reason: row.stack === null ? reason : { ...reason, stack: textOf(row.stack) },
    at: row.at,
  };
}
