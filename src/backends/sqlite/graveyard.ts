/** Where deliveries end that are parked for good, of groups and inboxes alike. */

import type { DeadReason } from "../../core/backend.js";
import type { Database, Value } from "./driver.js";
import type { Reader } from "./readers.js";
import { type StoredText, text } from "./values.js";

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
  const trim = db.prepare(
    "DELETE FROM sb1_dead WHERE id IN (SELECT id FROM sb1_dead WHERE reader = ? ORDER BY id LIMIT ?)",
  );
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
      reader.dead += 1;
      if (reader.dead > max) reader.dead -= trim.run(reader.id, reader.dead - max);
      reader.changed = true;
      return true;
    },
  };
}
