/** Where deliveries end that are parked for good, of groups and inboxes alike. */

import type { DeadReason, NewLetter } from "../../core/backend.js";
import type { Database, Value } from "./driver.js";
import type { Reader } from "./readers.js";
import { payload, type StoredText, text } from "./values.js";

/** What becomes of a delivery that is parked for good. */
export interface Burial {
  readonly attempts: number;
  readonly consumer: StoredText;
  readonly reason: DeadReason;
  readonly firstFailedAt: number;
  readonly at: number;
}

export interface Graveyard {
  /**
   * Copies a message to the reader's dead letters, so that trimming cannot hurt it; beyond `max` the oldest goes.
   *
   * @param message what the statement that selects it takes
   * @returns false when the message is gone
   */
  bury(reader: Reader, burial: Burial, message: readonly Value[], max: number): boolean;
}

/**
 * @param columns which of them are copied
 * @param message the statement that selects them
 */
export function createGraveyard(db: Database, columns: string, message: string): Graveyard {
  const insert = db.prepare(
    `INSERT INTO sb1_dead (reader, attempts, consumer, kind, message, stack, first_failed_at, at, ${columns})
     SELECT ?, ?, ?, ?, ?, ?, ?, ?, ${columns} FROM (${message})`,
  );
  const added = createCounting(db);
  return {
    bury(reader, { attempts, consumer, reason, firstFailedAt, at }, message, max) {
      const stack = reason.stack === undefined ? null : text(reason.stack);
      const values = [
        reader.id,
        attempts,
        consumer,
        reason.kind,
        text(reason.message),
        stack,
        firstFailedAt,
        at,
      ] as const;
      if (insert.run(...values, ...message) === 0) return false;
      added(reader, 1, max);
      return true;
    },
  };
}

/** Counts letters that were added to a reader's; beyond `max` the oldest go. */
function createCounting(db: Database): (reader: Reader, count: number, max: number) => void {
  const trim = db.prepare(
    "DELETE FROM sb1_dead WHERE id IN (SELECT id FROM sb1_dead WHERE reader = ? ORDER BY id LIMIT ?)",
  );
  return (reader, count, max) => {
    reader.dead += count;
    if (reader.dead > max) reader.dead -= trim.run(reader.id, reader.dead - max);
    reader.changed = true;
  };
}

/** What parks messages that were never in a stream. */
export type Parking = (reader: Reader, letters: readonly NewLetter[], at: number, max: number) => void;

export function createParking(db: Database): Parking {
  const insert = db.prepare(
    `INSERT INTO sb1_dead
       (reader, attempts, consumer, kind, message, stack, first_failed_at, at, position, header, data)
     VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, CAST(? AS BLOB))`,
  );
  const added = createCounting(db);
  return (reader, letters, at, max) => {
    for (const { position, header, data, attempts, consumer, reason } of letters) {
      const stack = reason.stack === undefined ? null : text(reason.stack);
      const why = [reason.kind, text(reason.message), stack, at, at] as const;
      insert.run(reader.id, attempts, text(consumer), ...why, text(position), text(header), payload(data));
    }
    added(reader, letters.length, max);
  };
}
