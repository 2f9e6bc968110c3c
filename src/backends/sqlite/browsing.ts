/** Looks at what a recipient has not finished, page by page. */

import type { ItemPage, OpenState, PageRequest } from "../../core/backend.js";
import { isFresh } from "./conditions.js";
import { fitting, pageOf, placeOf } from "./cursors.js";
import type { Database, Statement } from "./driver.js";
import { type DeliveryRow, ITEM_COLUMNS, type ItemRow, toStoredItem } from "./item-views.js";

/** In the order in which they are shown. */
const STATES: readonly OpenState[] = ["waiting", "delayed", "leased"];
/** Items that are read together: they may be large. */
const SLICE = 32;
/** Where the first page of a state begins. */
const FIRST = [0, Number.MIN_SAFE_INTEGER, 0] as const;

/** An item, and its place: by state, by urgency or time, by age. */
interface BrowsedRow extends Omit<ItemRow, "state" | "updatedAt">, DeliveryRow {
  readonly rank: number;
}

/**
 * One page of an inbox; `state` shows only these.
 *
 * @throws {NotFoundError} when it is no cursor
 */
export type Browse = (reader: number, page: PageRequest, state: OpenState | undefined, now: number) => ItemPage;

export function createBrowse(db: Database): Browse {
  const sql = prepare(db);
  return (reader, { max, cursor }, state, now) => {
    const [from = 0, rank = 0, seq = 0] = placeOf(cursor, FIRST);
    const rows: BrowsedRow[] = [];
    const fit = (): number => Math.min(max, fitting(rows));
    for (const [index, shown] of STATES.entries()) {
      if (index < from || (state !== undefined && shown !== state)) continue;
      let after: readonly number[] | undefined = index === from ? [rank, seq] : FIRST.slice(1);
      // One more than the page holds tells that there is more.
      while (after !== undefined && rows.length <= fit()) {
        const size = Math.min(max + 1 - rows.length, SLICE);
        const slice: readonly BrowsedRow[] = sql[shown].all(reader, ...after, now, size);
        rows.push(...slice);
        const last: BrowsedRow | undefined = slice.length < size ? undefined : slice.at(-1);
        after = last && [last.rank, last.seq];
      }
    }
    const { items, ...rest } = pageOf(rows, fit(), (row) => [STATES.indexOf(row.state), row.rank, row.seq]);
    return { items: items.map((row) => toStoredItem({ ...row, state: "open", updatedAt: null }, [row])), ...rest };
  };
}

/** The statements of the three states: reader, place, time, how many. */
function prepare(db: Database): Readonly<Record<OpenState, Statement<BrowsedRow>>> {
  const browsed = (state: OpenState, table: string, rank: string, more: string): Statement<BrowsedRow> =>
    db.prepare<BrowsedRow>(
      `SELECT ${ITEM_COLUMNS}, '${state}' AS state, readers.name AS recipient,
         deliveries.${rank} AS rank, deliveries.put_back_at AS putBackAt, ${more}
       FROM ${table} AS deliveries
         JOIN sb1_items AS items ON items.seq = deliveries.seq
         JOIN sb1_readers AS readers ON readers.id = deliveries.reader
         LEFT JOIN sb1_records AS records ON records.seq = deliveries.seq
       WHERE deliveries.reader = ? AND (deliveries.${rank}, deliveries.seq) > (?, ?)
         AND (${isFresh("deliveries")} OR ${state === "leased" ? 1 : 0})
       ORDER BY deliveries.${rank}, deliveries.seq LIMIT ?`,
    );
  return {
    waiting: browsed("waiting", "sb1_waiting", "urgency", "attempt - 1 AS attempts, NULL AS until"),
    delayed: browsed("delayed", "sb1_parked", "due", "attempt - 1 AS attempts, due AS until"),
    leased: browsed("leased", "sb1_leased", "until", "attempt AS attempts, deliveries.until AS until"),
  };
}
