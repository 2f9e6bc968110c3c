/** Items as they are looked at: what was stored, and how each recipient stands. */

import type { OpenState, RecipientState, StoredItem } from "../../core/backend.js";
import { PUSHED_AT } from "./conditions.js";
import type { Database } from "./driver.js";
import { NOBODY } from "./items.js";
import { keepsFinished, type QueueRow } from "./queues.js";
import type { End } from "./records.js";
import { type StoredText, textOf } from "./values.js";

/** Recipients of one item that are shown. */
const MAX_SHOWN = 1_000;

/** What every view of an item selects. */
export interface ItemRow {
  readonly seq: number;
  readonly id: StoredText;
  readonly header: StoredText;
  readonly data: Uint8Array;
  readonly urgency: number;
  readonly reader: number;
  readonly at: number;
  readonly expiresAt: number | null;
  /** Of its record; null where it has none. */
  readonly record: number | null;
  readonly state: StoredItem["state"] | null;
  readonly updatedAt: number | null;
}

/** How an item stands with a recipient that has it to finish. */
export interface DeliveryRow {
  readonly recipient: StoredText;
  readonly state: OpenState;
  /** Attempts that have begun. */
  readonly attempts: number;
  readonly until: number | null;
  readonly putBackAt: number | null;
}

interface EndRow {
  readonly recipient: StoredText;
  readonly state: Exclude<End, "gone">;
  readonly attempts: number;
  readonly at: number;
}

/** What {@link ItemRow} has of `items` and their `records`, but for the state. */
export const ITEM_COLUMNS: string = `items.seq, items.id, items.header, items.data, items.urgency, items.reader,
  ${PUSHED_AT} AS at, coalesce(items.expires_at, records.expires_at) AS expiresAt,
  records.id AS record, records.updated_at AS updatedAt`;

export function toStoredItem(item: ItemRow, open: readonly DeliveryRow[], ended: readonly EndRow[] = []): StoredItem {
  const times = [...open.map(({ putBackAt }) => putBackAt ?? 0), ...ended.map(({ at }) => at)];
  return {
    id: textOf(item.id),
    header: textOf(item.header),
    data: item.data,
    priority: 0 - item.urgency,
    at: item.at,
    updatedAt: times.reduce((latest, time) => Math.max(latest, time), item.updatedAt ?? item.at),
    expiresAt: item.expiresAt ?? undefined,
    state: item.state ?? "open",
    recipients: [...open.map(toState), ...ended.map((end) => toState({ ...end, until: end.at }))],
  };
}

function toState(
  row: Pick<DeliveryRow, "recipient" | "attempts" | "until"> & Pick<RecipientState, "state">,
): RecipientState {
  const { state, attempts, until } = row;
  const recipient = textOf(row.recipient);
  return until === null ? { recipient, state, attempts } : { recipient, state, attempts, until };
}

export class ItemViews {
  readonly #sql: ReturnType<typeof prepare>;

  constructor(db: Database) {
    this.#sql = prepare(db);
  }

  /** The item or record of that number, with up to 1,000 of its recipients: first those who have it to finish. */
  view(queue: QueueRow, seq: number): StoredItem | undefined {
    const item = this.#sql.item.get(seq);
    if (item === undefined) return undefined;
    const open = item.reader === NOBODY ? this.#sql.sharing.all(seq, MAX_SHOWN) : this.#sql.holding.all(seq, MAX_SHOWN);
    const left = keepsFinished(queue) ? MAX_SHOWN - open.length : 0;
    const ended = item.record === null || left === 0 ? [] : this.#sql.ends.all(item.record, left);
    return toStoredItem(item, open, ended);
  }
}

// Parameters come in the order of the calls above.
function prepare(db: Database) {
  const deliveries = (shares: string): string =>
    `SELECT readers.name AS recipient,
       CASE WHEN leased.seq IS NOT NULL THEN 'leased' WHEN parked.seq IS NOT NULL THEN 'delayed' ELSE 'waiting' END AS state,
       coalesce(leased.attempt, parked.attempt - 1, waiting.attempt - 1, 0) AS attempts,
       coalesce(leased.until, parked.due) AS until,
       coalesce(leased.put_back_at, parked.put_back_at, waiting.put_back_at) AS putBackAt
     FROM ${shares} AS shares
       JOIN sb1_readers AS readers ON readers.id = shares.reader AND readers.kind = 'inbox'
       JOIN sb1_items AS items ON items.seq = shares.seq
       LEFT JOIN sb1_leased AS leased ON leased.reader = shares.reader AND leased.seq = shares.seq
       LEFT JOIN sb1_parked AS parked ON parked.reader = shares.reader AND parked.seq = shares.seq
       LEFT JOIN sb1_waiting AS waiting
         ON waiting.reader = shares.reader AND waiting.urgency = items.urgency AND waiting.seq = shares.seq
     WHERE shares.seq = ? ORDER BY shares.reader LIMIT ?`;
  return {
    item: db.prepare<ItemRow>(
      `SELECT ${ITEM_COLUMNS}, records.state
       FROM sb1_items AS items LEFT JOIN sb1_records AS records ON records.seq = items.seq WHERE items.seq = ?`,
    ),
    sharing: db.prepare<DeliveryRow>(deliveries("sb1_shares")),
    holding: db.prepare<DeliveryRow>(deliveries("sb1_items")),
    ends: db.prepare<EndRow>("SELECT recipient, state, attempts, at FROM sb1_ends WHERE record = ? LIMIT ?"),
  };
}
