/** Room for items in a queue that is full: what may be dropped for others. */

import { isLeased } from "./conditions.js";
import type { Database } from "./driver.js";
import type { HeldItem, ItemPlace } from "./items.js";

/** Items of one inbox that are looked at together. */
const PAGE = 100;
/** Inboxes that one push looks through, and shares that it drops: where there are more, the others stay as they are. */
const MAX_INBOXES = 1_000;
const MAX_DROPPED = 10_000;

/** What is to be dropped, and of whom. */
export interface Choice {
  readonly item: HeldItem;
  readonly readers: readonly number[];
}

export interface Room {
  /**
   * Chooses `count` items that may be dropped: the least urgent, the oldest first. They wait or are delayed, and nobody
   * but these readers has them to finish, so that each makes room for one.
   *
   * @returns undefined where there are too few
   */
  choose(count: number, readers: ReadonlySet<number>): readonly Choice[] | undefined;
}

export function createRoom(db: Database): Room {
  const sql = prepare(db);

  /** What nobody holds of one inbox. */
  function* leastUrgentFirst(reader: number): Generator<ItemPlace> {
    let level = sql.level.get(reader, Number.MAX_SAFE_INTEGER, reader, Number.MAX_SAFE_INTEGER)?.urgency;
    while (typeof level === "number") {
      for (let after = 0; ; ) {
        const page = sql.page.all(reader, level, after, reader, level, after, PAGE);
        for (const { seq } of page) yield { seq, urgency: level };
        const last = page.at(-1);
        if (page.length < PAGE || last === undefined) break;
        after = last.seq;
      }
      level = sql.level.get(reader, level - 1, reader, level - 1)?.urgency;
    }
  }

  /** Whose it is to finish, where these are all, and nobody holds it. */
  function droppable(seq: number, readers: ReadonlySet<number>): Choice | undefined {
    const item = sql.item.get(seq);
    if (item === undefined) return undefined;
    if (item.record === null) return readers.has(item.reader) ? { item, readers: [item.reader] } : undefined;
    if (sql.isUnderWay.get(item.record) !== undefined) return undefined;
    const shares = sql.shares.all(seq, MAX_DROPPED + 1);
    const areIts = shares.every(({ reader, isLeased }) => isLeased === 0 && readers.has(reader));
    return areIts ? { item, readers: shares.map(({ reader }) => reader) } : undefined;
  }

  return {
    choose(count, readers) {
      const chosen = new Map<number, Choice>();
      const refused = new Set<number>();
      let shares = 0;
      for (const { seq } of merged([...readers].slice(0, MAX_INBOXES).map(leastUrgentFirst))) {
        if (chosen.has(seq) || refused.has(seq)) continue;
        const choice = droppable(seq, readers);
        if (choice === undefined) {
          refused.add(seq);
          continue;
        }
        chosen.set(seq, choice);
        shares += choice.readers.length;
        if (chosen.size === count || shares > MAX_DROPPED) break;
      }
      return chosen.size === count && shares <= MAX_DROPPED ? [...chosen.values()] : undefined;
    },
  };
}

/** One order out of several. */
function* merged(sources: readonly Generator<ItemPlace>[]): Generator<ItemPlace> {
  const heads = sources.map((source) => ({ source, next: source.next() }));
  for (;;) {
    let first: { item: ItemPlace; head: (typeof heads)[number] } | undefined;
    for (const head of heads) {
      if (head.next.done === true) continue;
      const item = head.next.value;
      if (first === undefined || isLessUrgent(item, first.item)) first = { item, head };
    }
    if (first === undefined) return;
    yield first.item;
    first.head.next = first.head.source.next();
  }
}

function isLessUrgent(a: ItemPlace, b: ItemPlace): boolean {
  return a.urgency > b.urgency || (a.urgency === b.urgency && a.seq < b.seq);
}

// Parameters come in the order of the calls above.
function prepare(db: Database) {
  return {
    level: db.prepare<{ urgency: number | null }>(
      `SELECT max(urgency) AS urgency FROM (
         SELECT max(urgency) AS urgency FROM sb1_waiting WHERE reader = ? AND urgency <= ?
         UNION ALL
         SELECT max(urgency) AS urgency FROM sb1_parked INDEXED BY sb1_parked_urgency
         WHERE reader = ? AND urgency IS NOT NULL AND urgency <= ?
       )`,
    ),
    page: db.prepare<{ seq: number }>(
      `SELECT seq FROM sb1_waiting WHERE reader = ? AND urgency = ? AND seq > ?
       UNION ALL
       SELECT seq FROM sb1_parked INDEXED BY sb1_parked_urgency WHERE reader = ? AND urgency = ? AND seq > ?
       ORDER BY seq LIMIT ?`,
    ),
    item: db.prepare<HeldItem>(
      `SELECT items.seq, items.urgency, items.reader, records.id AS record, records.state,
         items.expires_at AS expiresAt, NULL AS finishedAt
       FROM sb1_items AS items LEFT JOIN sb1_records AS records ON records.seq = items.seq WHERE items.seq = ?`,
    ),
    isUnderWay: db.prepare("SELECT 1 FROM sb1_spreads WHERE record = ?"),
    shares: db.prepare<{ reader: number; isLeased: number }>(
      `SELECT reader, ${isLeased("shares")} AS isLeased FROM sb1_shares AS shares WHERE seq = ? LIMIT ?`,
    ),
  };
}
