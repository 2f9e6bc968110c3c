/** Finds items and kept records by their fields and states. */

import type { ItemFilter, ItemPage, PageRequest, StoredItem } from "../../core/backend.js";
import { notIndexed, PAGE_BYTES } from "../../core/limits.js";
import { placeOf } from "./cursors.js";
import type { Database, Statement } from "./driver.js";
import type { ItemViews } from "./item-views.js";
import { type QueueRow, settingsOf } from "./queues.js";
import { type StoredText, text } from "./values.js";

/** What one page looks through, and how many recipients of its items it tells, before it ends early. */
const MAX_LOOKED_AT = 5_000;
const MAX_RECIPIENTS = 10_000;

type Condition = readonly [name: StoredText, value: StoredText];

export class RecordLists {
  readonly #db: Database;
  readonly #sql: ReturnType<typeof prepare>;
  readonly #views: ItemViews;
  /** How items are counted by so many fields, and perhaps a state. */
  readonly #counts = new Map<string, Statement<{ count: number }>>();

  constructor(db: Database, views: ItemViews) {
    this.#db = db;
    this.#sql = prepare(db);
    this.#views = views;
  }

  /** The newest first. @throws {UnsupportedError | NotFoundError} */
  list(queue: QueueRow, filter: ItemFilter, { max, cursor }: PageRequest): ItemPage {
    const conditions = conditionsOf(queue, filter);
    const items: StoredItem[] = [];
    let [recipients, bytes] = [0, 0];
    let [before = 0] = placeOf(cursor, [Number.MAX_SAFE_INTEGER]);
    for (let looked = 0; looked < MAX_LOOKED_AT; ) {
      const size = Math.min(max + 1 - items.length, MAX_LOOKED_AT - looked);
      const candidates = this.#candidates(queue, filter, conditions, before, size);
      for (const seq of candidates) {
        if (this.#matches(queue, filter, conditions, seq)) {
          // There is more, as one more than the page holds was looked for.
          if (items.length === max || recipients >= MAX_RECIPIENTS || bytes >= PAGE_BYTES)
            return { items, cursor: String(before) };
          const item = this.#views.view(queue, seq);
          recipients += item?.recipients.length ?? 0;
          bytes += item?.data.byteLength ?? 0;
          if (item !== undefined) items.push(item);
        }
        before = seq;
      }
      looked += candidates.length;
      if (candidates.length < size) return { items };
    }
    return { items, cursor: String(before) };
  }

  /** @throws {UnsupportedError} */
  count(queue: QueueRow, filter: ItemFilter): number {
    const { state } = filter;
    if (state === undefined && Object.keys(filter.fields ?? {}).length === 0) return queue.items + queue.records;
    const conditions = conditionsOf(queue, filter);
    const values = conditions.flatMap(([name, value]) => [queue.id, name, value]);
    if (conditions.length === 0) return this.#sql.countState.get(queue.id, state ?? null)?.count ?? 0;
    return this.#countBy(conditions.length, state).get(...values, ...(state === undefined ? [] : [state]))?.count ?? 0;
  }

  #candidates(
    { id }: QueueRow,
    { state }: ItemFilter,
    [first]: readonly Condition[],
    before: number,
    size: number,
  ): readonly number[] {
    const rows =
      first !== undefined
        ? this.#sql.byField.all(id, ...first, before, size)
        : state !== undefined
          ? this.#sql.byState.all(id, state, before, size)
          : this.#sql.all.all(id, before, size);
    return rows.map(({ seq }) => seq);
  }

  /** What the first condition has found, by the others. */
  #matches({ id }: QueueRow, { state }: ItemFilter, conditions: readonly Condition[], seq: number): boolean {
    if (conditions.slice(1).some((condition) => this.#sql.hasField.get(id, ...condition, seq) === undefined))
      return false;
    return conditions.length === 0 || state === undefined || this.#sql.hasState.get(seq, state) !== undefined;
  }

  #countBy(fields: number, state: string | undefined): Statement<{ count: number }> {
    const key = `${fields} ${state === undefined}`;
    const known = this.#counts.get(key);
    if (known !== undefined) return known;
    const tables = Array.from({ length: fields }, (_, index) => `sb1_fields AS f${index}`);
    const conditions = tables.map((_, index) => {
      const isSame = index === 0 ? "" : ` AND f${index}.seq = f0.seq`;
      return `f${index}.queue = ? AND f${index}.name = ? AND f${index}.value = ?${isSame}`;
    });
    if (state !== undefined) {
      tables.push("sb1_records AS records");
      conditions.push("records.seq = f0.seq AND records.state = ?");
    }
    const statement = this.#db.prepare<{ count: number }>(
      `SELECT count(*) AS count FROM ${tables.join(" CROSS JOIN ")} WHERE ${conditions.join(" AND ")}`,
    );
    this.#counts.set(key, statement);
    return statement;
  }
}

/** @throws {UnsupportedError} */
function conditionsOf(queue: QueueRow, { fields = {} }: ItemFilter): readonly Condition[] {
  const { index } = settingsOf(queue);
  const names = Object.keys(fields);
  const missing = names.find((name) => index?.includes(name) !== true);
  if (index === undefined || missing !== undefined) throw notIndexed(queue.name, index, missing);
  return Object.entries(fields).map(([name, value]) => [text(name), text(value)]);
}

// Parameters come in the order of the calls above.
function prepare(db: Database) {
  return {
    all: db.prepare<{ seq: number }>(
      "SELECT seq FROM sb1_records WHERE queue = ? AND seq < ? ORDER BY seq DESC LIMIT ?",
    ),
    byState: db.prepare<{ seq: number }>(
      "SELECT seq FROM sb1_records WHERE queue = ? AND state = ? AND seq < ? ORDER BY seq DESC LIMIT ?",
    ),
    byField: db.prepare<{ seq: number }>(
      "SELECT seq FROM sb1_fields WHERE queue = ? AND name = ? AND value = ? AND seq < ? ORDER BY seq DESC LIMIT ?",
    ),
    hasField: db.prepare("SELECT 1 FROM sb1_fields WHERE queue = ? AND name = ? AND value = ? AND seq = ?"),
    hasState: db.prepare("SELECT 1 FROM sb1_records WHERE seq = ? AND state = ?"),
    countState: db.prepare<{ count: number }>(
      "SELECT count(*) AS count FROM sb1_records WHERE queue = ? AND state = ?",
    ),
  };
}
