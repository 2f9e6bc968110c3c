/** How much an inbox has of everything. */

import type { QueueStats } from "../../core/backend.js";
import type { Database } from "./driver.js";
import type { Reader } from "./readers.js";
import { pushedAtOf } from "./schema.js";

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
  unfinished(reader: Reader, now: number): number {
    const { unfinished, over } = this.#counts(reader, now);
    return unfinished - over;
  }

  #counts({ id, items }: Reader, now: number): Counts {
    const row = this.#sql.counts.get(id, id, id, now, now, id, now, id, now);
    if (row === undefined) return { unfinished: items, leased: 0, delayed: 0, over: 0 };
    const { shares, leased, delayed, over, overShares } = row;
    return { unfinished: items + shares, leased, delayed, over: over + overShares };
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
  const expiresAt = `coalesce(items.expires_at,
    (SELECT expires_at FROM sb1_shares AS shares WHERE shares.reader = parked.reader AND shares.seq = parked.seq))`;
  const isLeased = (item: string): string =>
    `EXISTS (SELECT 1 FROM sb1_leased AS leased WHERE leased.reader = ${item}.reader AND leased.seq = ${item}.seq)`;
  return {
    counts: db.prepare<Omit<Counts, "unfinished"> & { readonly shares: number; readonly overShares: number }>(
      `SELECT
         (SELECT count(*) FROM sb1_shares WHERE reader = ?) AS shares,
         (SELECT count(*) FROM sb1_leased WHERE reader = ?) AS leased,
         (SELECT count(*) FROM sb1_parked AS parked JOIN sb1_items AS items ON items.seq = parked.seq
          WHERE parked.reader = ? AND due > ? AND coalesce(${expiresAt} > ?, 1)) AS delayed,
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
         WHERE waiting.reader = ? AND waiting.urgency = levels.urgency AND coalesce(${expiresAt.replaceAll("parked", "waiting")} > ?, 1)
         ORDER BY waiting.seq LIMIT 1
       )) AS seq FROM levels WHERE levels.urgency IS NOT NULL`,
    ),
    oldestDue: db.prepare<{ seq: number | null }>(
      `SELECT min(parked.seq) AS seq FROM sb1_parked AS parked JOIN sb1_items AS items ON items.seq = parked.seq
       WHERE parked.reader = ? AND parked.due <= ? AND coalesce(${expiresAt} > ?, 1)`,
    ),
    pushedAt: db.prepare<{ at: number }>(`SELECT ${pushedAtOf("items")} AS at FROM sb1_items AS items WHERE seq = ?`),
  };
}
