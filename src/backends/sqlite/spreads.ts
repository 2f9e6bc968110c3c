/** How an audience gets its shares of an item: at once where it is small, else some at a time, by whoever comes along. */

import type { Audience } from "../../core/backend.js";
import type { Database } from "./driver.js";
import type { ItemPlace } from "./items.js";
import type { Intake } from "./intake.js";
import { inboxTopic, type QueueRow } from "./queues.js";
import type { RecordRef, Records } from "./records.js";
import { type StoredText, textOf } from "./values.js";
import type { Tx } from "./writer.js";

/** Shares that one transaction gives. */
export const MAX_GIVEN = 1_000;

/** One audience of one item, as far as it has its shares. */
interface Spread extends ItemPlace {
  readonly record: number;
  readonly audience: Audience["audience"];
  /** The place of the last recipient that has its share, and of the last that will have one. */
  readonly given: number;
  readonly last: number;
  readonly expiresAt: number | null;
  /** When it is due, where it was delayed. */
  readonly due: number | null;
}

interface Listener {
  readonly id: number;
  readonly name: StoredText;
  /** Grows from one to the next: the order in which they get their shares. */
  readonly place: number;
}

export class Spreads {
  readonly #sql: ReturnType<typeof prepare>;
  readonly #intake: Intake;
  readonly #records: Records;

  constructor(db: Database, intake: Intake, records: Records) {
    this.#sql = prepare(db);
    this.#intake = intake;
    this.#records = records;
  }

  /** How many recipients an audience has now. */
  count(queue: QueueRow, audience: Audience["audience"], now: number): number {
    const row =
      audience === "registered" ? this.#sql.registered.get(queue.id, now) : this.#sql.online.get(queue.id, now, now);
    return row?.count ?? 0;
  }

  /** All of an audience, by their readers. */
  readersOf(queue: QueueRow, audience: Audience["audience"], now: number): readonly number[] {
    return this.#listeners(queue, { audience, given: 0, last: Number.MAX_SAFE_INTEGER }, now, -1).map(({ id }) => id);
  }

  /**
   * Gives an item's audience its shares.
   *
   * @param max at most so many of them now
   * @returns how many that were
   */
  begin(
    tx: Tx,
    queue: QueueRow,
    { id, seq }: RecordRef,
    item: Pick<Spread, "urgency" | "audience" | "expiresAt" | "due">,
    max: number,
  ): number {
    const last = item.audience === "registered" ? queue.registrations : Number.MAX_SAFE_INTEGER;
    const spread: Spread = { ...item, record: id, seq, given: 0, last };
    const { count, place, isDone } = this.#give(tx, queue, spread, max);
    if (isDone) {
      // Whoever was online may be so no longer.
      this.#records.finishWhereOver(tx, queue, { id, seq });
    } else {
      this.#sql.add.run(id, queue.id, item.audience, place, last, item.due);
      queue.spreads += 1;
      queue.changed = true;
    }
    return count;
  }

  /** Gives some of the shares that are still to be given in a queue. */
  advance(tx: Tx, queue: QueueRow): void {
    for (let left = MAX_GIVEN; left > 0 && queue.spreads > 0; ) {
      const spread = this.#sql.first.get(queue.id);
      if (spread === undefined) {
        queue.spreads = 0;
        queue.changed = true;
        return;
      }
      const { count, place, isDone } = this.#give(tx, queue, spread, left);
      left -= count;
      if (isDone) this.#end(tx, queue, spread);
      else this.#sql.save.run(place, spread.record);
    }
  }

  /** Whether an audience has still to get shares of an item. */
  isUnderWay(record: number): boolean {
    return this.#sql.isUnderWay.get(record) !== undefined;
  }

  /** Nobody gets it any more. */
  stop(queue: QueueRow, record: number): void {
    const stopped = this.#sql.remove.run(record);
    queue.spreads -= stopped;
    if (stopped > 0) queue.changed = true;
  }

  #end(tx: Tx, queue: QueueRow, { record, seq }: Spread): void {
    this.stop(queue, record);
    this.#records.finishWhereOver(tx, queue, { id: record, seq });
  }

  #give(tx: Tx, queue: QueueRow, spread: Spread, max: number): { count: number; place: number; isDone: boolean } {
    const listeners = this.#listeners(queue, spread, tx.now, max);
    for (const { id, name } of listeners) {
      this.#intake.give({ id }, spread, spread);
      tx.changed(inboxTopic(queue.name, textOf(name)));
    }
    tx.spend(listeners.length);
    const place = listeners.at(-1)?.place ?? spread.given;
    return { count: listeners.length, place, isDone: listeners.length < max };
  }

  #listeners(
    { id }: QueueRow,
    { audience, given, last }: Pick<Spread, "audience" | "given" | "last">,
    now: number,
    max: number,
  ): readonly Listener[] {
    if (audience === "registered") return this.#sql.nextRegistered.all(id, given, last, now, max);
    return this.#sql.nextOnline.all(id, given, now, now, max);
  }
}

// Parameters come in the order of the calls above.
function prepare(db: Database) {
  const registered = "FROM sb1_readers INDEXED BY sb1_readers_audience WHERE parent = ? AND audience = 1";
  const online = `FROM sb1_online AS online JOIN sb1_readers AS readers ON readers.id = online.reader
    WHERE online.queue = ? AND online.until > ? AND readers.audience = 1 AND readers.lapses_at > ?`;
  return {
    registered: db.prepare<{ count: number }>(`SELECT count(*) AS count ${registered} AND lapses_at > ?`),
    online: db.prepare<{ count: number }>(`SELECT count(DISTINCT online.reader) AS count ${online}`),
    add: db.prepare("INSERT INTO sb1_spreads (record, queue, audience, given, last, due) VALUES (?, ?, ?, ?, ?, ?)"),
    first: db.prepare<Spread>(
      `SELECT spreads.record, spreads.audience, spreads.given, spreads.last, spreads.due,
         records.expires_at AS expiresAt, items.seq, items.urgency
       FROM sb1_spreads AS spreads
         JOIN sb1_records AS records ON records.id = spreads.record
         JOIN sb1_items AS items ON items.seq = records.seq
       WHERE spreads.queue = ? ORDER BY spreads.record LIMIT 1`,
    ),
    save: db.prepare("UPDATE sb1_spreads SET given = ? WHERE record = ?"),
    isUnderWay: db.prepare("SELECT 1 FROM sb1_spreads WHERE record = ?"),
    remove: db.prepare("DELETE FROM sb1_spreads WHERE record = ?"),
    nextRegistered: db.prepare<Listener>(
      `SELECT id, name, registered AS place ${registered}
       AND registered > ? AND registered <= ? AND lapses_at > ? ORDER BY registered LIMIT ?`,
    ),
    nextOnline: db.prepare<Listener>(
      `SELECT readers.id, readers.name, readers.id AS place
       FROM sb1_online AS online CROSS JOIN sb1_readers AS readers ON readers.id = online.reader
       WHERE online.queue = ? AND online.reader > ? AND online.until > ?
         AND readers.audience = 1 AND readers.lapses_at > ?
       GROUP BY online.reader ORDER BY online.reader LIMIT ?`,
    ),
  };
}
