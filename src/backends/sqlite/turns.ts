/** Order by key in one group: of each key one entry is on its way, and the next waits until that has come to its end. */

import type { Database } from "./driver.js";
import type { Reader } from "./readers.js";
import type { StoredText } from "./values.js";

/**
 * An entry's turn, from when the group has read it until it is finished. The first of its key is `out`, which is leased or
 * parked, or `ready` to be taken; all others are `held`.
 */
interface Turn {
  readonly seq: number;
  readonly key: StoredText;
  readonly state: "held" | "ready" | "out";
}

export class Turns {
  readonly #sql: ReturnType<typeof prepare>;

  constructor(db: Database) {
    this.#sql = prepare(db);
  }

  /** Takes an entry in that was just read. @returns whether its turn is now; if not, it is held */
  admit(reader: Reader, seq: number, key: StoredText): boolean {
    const isFree = this.#sql.first.get(reader.id, key) === undefined;
    this.#sql.add.run(reader.id, seq, key, isFree ? "out" : "held");
    if (!isFree) reader.held += 1;
    reader.changed = true;
    return isFree;
  }

  /** Takes what has become free, in order of position. */
  take(reader: Reader, max: number): readonly number[] {
    const ready = this.#sql.ready.all(reader.id, max);
    for (const { seq } of ready) this.#sql.setState.run("out", reader.id, seq);
    return ready.map(({ seq }) => seq);
  }

  any({ id }: Reader): boolean {
    return this.#sql.any.get(id) !== undefined;
  }

  hasReady({ id }: Reader): boolean {
    return this.#sql.ready.get(id, 1) !== undefined;
  }

  /** An entry is finished or gone: the next of its key takes its turn. */
  end(reader: Reader, seq: number): void {
    const turn = this.#sql.turn.get(reader.id, seq);
    if (turn === undefined) return;
    this.#remove(reader, turn);
    this.#free(reader, turn.key);
  }

  /** Ends the turns of deliveries that are acknowledged, while their leases still stand. */
  endLeased(reader: Reader, first: number, last: number, fence: number): void {
    for (const turn of this.#sql.leased.all(reader.id, first, last, fence)) {
      this.#remove(reader, turn);
      this.#free(reader, turn.key);
    }
  }

  /**
   * Ends the turns of entries before `first`, which were dropped; but for those that a consumer still has in hands.
   *
   * @returns how many of them were never delivered
   */
  dropBefore(reader: Reader, first: number): number {
    const turns = this.#sql.before.all(reader.id, first);
    for (const turn of turns) this.#remove(reader, turn);
    for (const key of new Set(turns.map((turn) => turn.key))) this.#free(reader, key);
    return turns.filter(({ state }) => state !== "out").length;
  }

  /** Forgets all. */
  clear(reader: Reader): void {
    this.#sql.clear.run(reader.id);
    reader.held = 0;
    reader.changed = true;
  }

  /** Frees keys whose delivery was finished by a process of an older build, which knows of no turns. */
  repair(reader: Reader): void {
    for (const { seq } of this.#sql.stale.all(reader.id)) this.end(reader, seq);
  }

  #remove(reader: Reader, { seq, state }: Turn): void {
    this.#sql.remove.run(reader.id, seq);
    if (state === "held") reader.held -= 1;
    reader.changed = true;
  }

  #free(reader: Reader, key: StoredText): void {
    if (reader.held === 0) return;
    const next = this.#sql.first.get(reader.id, key);
    if (next?.state !== "held") return;
    this.#sql.setState.run("ready", reader.id, next.seq);
    reader.held -= 1;
    reader.changed = true;
  }
}

// Parameters come in the order of the calls above.
function prepare(db: Database) {
  const columns = "seq, key, state";
  const isLeased = "SELECT 1 FROM sb1_leased AS own WHERE own.reader = sb1_turns.reader AND own.seq = sb1_turns.seq";
  const isParked = "SELECT 1 FROM sb1_parked AS own WHERE own.reader = sb1_turns.reader AND own.seq = sb1_turns.seq";
  return {
    first: db.prepare<Turn>(
      `SELECT ${columns} FROM sb1_turns INDEXED BY sb1_turns_key WHERE reader = ? AND key = ? ORDER BY seq LIMIT 1`,
    ),
    add: db.prepare("INSERT INTO sb1_turns (reader, seq, key, state) VALUES (?, ?, ?, ?)"),
    ready: db.prepare<{ seq: number }>(
      "SELECT seq FROM sb1_turns WHERE reader = ? AND state = 'ready' ORDER BY seq LIMIT ?",
    ),
    any: db.prepare("SELECT 1 FROM sb1_turns WHERE reader = ? LIMIT 1"),
    setState: db.prepare("UPDATE sb1_turns SET state = ? WHERE reader = ? AND seq = ?"),
    turn: db.prepare<Turn>(`SELECT ${columns} FROM sb1_turns WHERE reader = ? AND seq = ?`),
    leased: db.prepare<Turn>(
      `SELECT turns.seq, turns.key, turns.state FROM sb1_leased AS leased
       JOIN sb1_turns AS turns ON turns.reader = leased.reader AND turns.seq = leased.seq
       WHERE leased.reader = ? AND leased.seq BETWEEN ? AND ? AND leased.fence = ?`,
    ),
    before: db.prepare<Turn>(
      `SELECT ${columns} FROM sb1_turns WHERE reader = ? AND seq < ? AND NOT EXISTS (${isLeased})`,
    ),
    clear: db.prepare("DELETE FROM sb1_turns WHERE reader = ?"),
    stale: db.prepare<{ seq: number }>(
      `SELECT seq FROM sb1_turns WHERE reader = ? AND state = 'out'
       AND NOT EXISTS (${isLeased}) AND NOT EXISTS (${isParked})`,
    ),
    remove: db.prepare("DELETE FROM sb1_turns WHERE reader = ? AND seq = ?"),
  };
}
