/** How much an inbox has of everything. */

import type { QueueStats } from "../../core/backend.js";
import { isFresh, isLeased, PUSHED_AT } from "./conditions.js";
import type { Database } from "./driver.js";
import type { Reader } from "./readers.js";

interface Counts {
  readonly unfinished: number;
  readonly leased: number;
  readonly delayed: number;
  /** Expired, and not ended yet. */
  readonly over: number;
}

const NO_STATS: QueueStats = {
  waiting: 0,
  leased: 0,
  delayed: 0,
  dead: 0,
  expired: 0,
  dropped: 0,
  paused: false,
  oldestWaitingAt: undefined,
};

export class InboxCounts {
  readonly #sql: ReturnType<typeof prepare>;

  constructor(db: Database) {
    this.#sql = prepare(db);
  }

  stats(reader: Reader | undefined, now: number): QueueStats {
    if (reader === undefined) return NO_STATS;
    const { dead, expired, dropped, paused } = reader;
    const { unfinished, leased, delayed, over } = this.#counts(reader, now);
    const waiting = unfinished - leased - delayed - over;
    const oldestWaitingAt = waiting > 0 ? this.#oldestWaitingAt(reader, now) : undefined;
    return { waiting, leased, delayed, dead, expired: expired + over, dropped, paused, oldestWaitingAt };
  }

  /** What the recipient has to finish. */
  unfinished({ id, items }: Reader, now: number): number {
    const row = this.#sql.unfinished.get(id, id, now, id, now);
    return row === undefined ? items : items + row.shares - row.over - row.overShares;
  }

  #counts({ id, items }: Reader, now: number): Counts {
    const unfinished = this.#sql.unfinished.get(id, id, now, id, now);
    const inHands = this.#sql.inHands.get(id, id, now, now);
    const { shares, over, overShares } = unfinished ?? { shares: 0, over: 0, overShares: 0 };
    return { unfinished: items + shares, over: over + overShares, ...(inHands ?? { leased: 0, delayed: 0 }) };
  }

  #oldestWaitingAt({ id }: Reader, now: number): number | undefined {
    const waiting = this.#sql.oldestWaiting.get(id, id, id, now)?.seq ?? undefined;
    const due = this.#sql.oldestDue.get(id, now, now)?.seq ?? undefined;
    const oldest = waiting === undefined || due === undefined ? (waiting ?? due) : Math.min(waiting, due);
    return oldest === undefined ? undefined : this.#sql.pushedAt.get(oldest)?.at;
  }
}

// Parameters come in the order of the calls above.
function prepare(db: Database) {
  return {
    inHands: db.prepare<Pick<Counts, "leased" | "delayed">>(
      `SELECT
         (SELECT count(*) FROM sb1_leased WHERE reader = ?) AS leased,
         (SELECT count(*) FROM sb1_parked AS parked JOIN sb1_items AS items ON items.seq = parked.seq
          WHERE parked.reader = ? AND due > ? AND ${isFresh("parked")}) AS delayed`,
    ),
    unfinished: db.prepare<{ readonly shares: number; readonly over: number; readonly overShares: number }>(
      `SELECT
         (SELECT count(*) FROM sb1_shares WHERE reader = ?) AS shares,
         (SELECT count(*) FROM sb1_items AS items WHERE reader = ? AND expires_at <= ? AND NOT ${isLeased("items")}) AS over,
         (SELECT count(*) FROM sb1_shares AS shares WHERE reader = ? AND expires_at <= ? AND NOT ${isLeased("shares")})
           AS overShares`,
    ),
    // Goes from one priority to the next, as within one the oldest comes first.
    oldestWaiting: db.prepare<{ seq: number | null }>(
      `WITH RECURSIVE levels (urgency) AS (
         SELECT min(urgency) FROM sb1_waiting WHERE reader = ?
         UNION ALL
         SELECT (SELECT min(urgency) FROM sb1_waiting WHERE reader = ? AND urgency > levels.urgency)
         FROM levels WHERE levels.urgency IS NOT NULL
       )
       SELECT min((
         SELECT waiting.seq FROM sb1_waiting AS waiting JOIN sb1_items AS items ON items.seq = waiting.seq
         WHERE waiting.reader = ? AND waiting.urgency = levels.urgency AND ${isFresh("waiting")}
         ORDER BY waiting.seq LIMIT 1
       )) AS seq FROM levels WHERE levels.urgency IS NOT NULL`,
    ),
    oldestDue: db.prepare<{ seq: number | null }>(
      `SELECT min(parked.seq) AS seq FROM sb1_parked AS parked JOIN sb1_items AS items ON items.seq = parked.seq
       WHERE parked.reader = ? AND parked.due <= ? AND ${isFresh("parked")}`,
    ),
    pushedAt: db.prepare<{ at: number }>(`SELECT ${PUSHED_AT} AS at FROM sb1_items AS items WHERE seq = ?`),
  };
}
