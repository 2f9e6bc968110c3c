/** Dead letters as they are looked at, put back and forgotten: those of groups and inboxes alike. */

import type { DeadLetter, DeadLetters, DeadReason } from "../../core/backend.js";
import { NotFoundError } from "../../core/errors.js";
import type { Database } from "./driver.js";
import type { Reader, Readers } from "./readers.js";
import type { Store } from "./store.js";
import { type StoredText, textOf } from "./values.js";
import type { Tx } from "./writer.js";

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
  /** Null where a build parked it that did not ask. */
  readonly first_failed_at: number | null;
  readonly at: number;
}

/** Whose letters they are. */
export interface Addressee {
  /** The reader's id, while it exists. */
  find(): number | undefined;
  /** Puts a letter's message back, to be delivered anew. @returns false when it has to stay */
  putBack(tx: Tx, reader: Reader, letter: number): boolean;
}

export type LettersOf = (addressee: Addressee) => DeadLetters;

/** Letters that one transaction changes; the next goes on. */
const SLICE = 500;

export function createLettersOf(store: Store, readers: Readers): LettersOf {
  const sql = prepare(store.db);
  const changes = createChanges(store, readers);

  function remove(reader: Reader, letter: number): boolean {
    const removed = sql.remove.run(letter, reader.id);
    reader.dead -= removed;
    reader.changed = true;
    return removed > 0;
  }

  /** Reads something of the reader's; undefined where there is no such reader. */
  function read<T>(addressee: Addressee, look: (reader: number) => T): T | undefined {
    store.assertOpen();
    return store.read(() => {
      const reader = addressee.find();
      return reader === undefined ? undefined : look(reader);
    });
  }

  return (addressee) => ({
    async list({ max, cursor }) {
      const after = cursor === undefined ? 0 : Number(cursor);
      if (!Number.isSafeInteger(after)) throw new NotFoundError(`"${cursor}" is no cursor of these dead letters`);
      const rows = read(addressee, (reader) => sql.page.all(reader, after, max + 1)) ?? [];
      const letters = rows.slice(0, max).map(toLetter);
      const last = letters.at(-1);
      return rows.length > max && last !== undefined ? { letters, cursor: last.id } : { letters };
    },

    async get(id) {
      const letter = numberOf(id);
      const row = read(addressee, (reader) => (letter === undefined ? undefined : sql.letter.get(letter, reader)));
      return row && toLetter(row);
    },

    redrive: async (ids) =>
      changes.each(addressee, ids, (tx, reader, letter) => {
        const isThere = sql.letter.get(letter, reader.id) !== undefined;
        return isThere && addressee.putBack(tx, reader, letter) && remove(reader, letter);
      }),

    remove: async (ids) => changes.each(addressee, ids, (_tx, reader, letter) => remove(reader, letter)),

    async purge(olderThanMs) {
      for (let count = 0; ; ) {
        const purged = await changes.all(addressee, (tx, reader) => {
          const removed = sql.purge.run(reader.id, tx.now - olderThanMs, SLICE);
          reader.dead -= removed;
          reader.changed = true;
          return removed;
        });
        count += purged;
        if (purged < SLICE) return count;
      }
    },
  });
}

interface Changes {
  /** @returns what `work` comes to; 0 where there is no such reader */
  all(addressee: Addressee, work: (tx: Tx, reader: Reader) => number): Promise<number>;
  /** Slice by slice. @returns for how many letters `work` came to something */
  each(
    addressee: Addressee,
    ids: readonly string[],
    work: (tx: Tx, reader: Reader, letter: number) => boolean,
  ): Promise<number>;
}

function createChanges(store: Store, readers: Readers): Changes {
  async function all(addressee: Addressee, work: (tx: Tx, reader: Reader) => number): Promise<number> {
    store.assertOpen();
    return store.writer.run((tx) => {
      const id = addressee.find();
      const reader = id === undefined ? undefined : readers.get(tx, id);
      if (reader === undefined) return 0;
      const count = work(tx, reader);
      tx.spend(count);
      return count;
    });
  }

  return {
    all,
    async each(addressee, ids, work) {
      store.assertOpen();
      const letters = [...new Set(ids)].map(numberOf).filter((letter) => letter !== undefined);
      let count = 0;
      for (let from = 0; from < letters.length; from += SLICE) {
        const slice = letters.slice(from, from + SLICE);
        count += await all(addressee, (tx, reader) => slice.filter((letter) => work(tx, reader, letter)).length);
      }
      return count;
    },
  };
}

/** The row of a letter of that id; undefined where no letter has such an id. */
function numberOf(id: string): number | undefined {
  const number = Number(id);
  return Number.isSafeInteger(number) && number > 0 && String(number) === id ? number : undefined;
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
    firstFailedAt: row.first_failed_at ?? row.at,
    at: row.at,
  };
}

// Parameters come in the order of the calls above.
function prepare(db: Database) {
  return {
    page: db.prepare<LetterRow>("SELECT * FROM sb1_dead WHERE reader = ? AND id > ? ORDER BY id LIMIT ?"),
    letter: db.prepare<LetterRow>("SELECT * FROM sb1_dead WHERE id = ? AND reader = ?"),
    remove: db.prepare("DELETE FROM sb1_dead WHERE id = ? AND reader = ?"),
    purge: db.prepare(
      "DELETE FROM sb1_dead WHERE id IN (SELECT id FROM sb1_dead WHERE reader = ? AND at <= ? ORDER BY id LIMIT ?)",
    ),
  };
}
