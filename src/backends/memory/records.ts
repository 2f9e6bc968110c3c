/** What a queue keeps of items besides what delivering needs: finished ones as records, and by what all are found. */

import type { ItemFilter, PageRequest, RecordSettings } from "../../core/backend.js";
import { NO_RECORDS } from "../../core/backend.js";
import { createPage, type Page, placeOf } from "./cursors.js";
import { type Item, stateOf } from "./items.js";

/** A kept record. */
interface Kept {
  readonly item: Item;
  readonly finishedAt: number;
}

const NO_FIELDS: ReadonlyMap<string, string> = new Map();

export class Records {
  settings: RecordSettings = NO_RECORDS;
  /** Somebody has said what is kept. */
  isConfigured = false;
  /** By id, the one that was finished first in front. */
  readonly #kept = new Map<string, Kept>();
  /** Unfinished items and records in the order in which they were pushed, where there is an index. */
  readonly #all = new Set<Item>();
  /** Those by the value of an indexed field. */
  readonly #byField = new Map<string, Map<string, Set<Item>>>();

  get size(): number {
    return this.#kept.size;
  }

  /** Whether finished items stay for a while. */
  get areKept(): boolean {
    return this.settings.keepAckedMs > 0 && this.settings.maxRecords > 0;
  }

  get(id: string): Item | undefined {
    return this.#kept.get(id)?.item;
  }

  configure(settings: RecordSettings): void {
    this.settings = settings;
    this.isConfigured = true;
    this.#byField.clear();
    for (const field of settings.index ?? []) this.#byField.set(field, new Map());
  }

  /** Of the fields that an item is given, those that it can be found by. */
  fieldsOf(given: Readonly<Record<string, string>> | undefined): ReadonlyMap<string, string> {
    if (given === undefined || this.#byField.size === 0) return NO_FIELDS;
    return new Map(Object.entries(given).filter(([field]) => this.#byField.has(field)));
  }

  /** A new item. */
  add(item: Item): void {
    if (this.settings.index === undefined) return;
    this.#all.add(item);
    for (const [field, byValue] of this.#byField) {
      const value = item.fields.get(field);
      if (value === undefined) continue;
      const items = byValue.get(value) ?? new Set();
      byValue.set(value, items.add(item));
    }
  }

  /** Keeps what is finished, for as long as it is to be kept. */
  keep(item: Item, now: number): void {
    if (!this.areKept) {
      this.forget(item);
      return;
    }
    this.#kept.set(item.id, { item, finishedAt: now });
    this.age(now);
  }

  /** Forgets an item, whether it was finished or not. */
  forget(item: Item): void {
    this.#kept.delete(item.id);
    if (!this.#all.delete(item)) return;
    for (const [field, byValue] of this.#byField) {
      const value = item.fields.get(field);
      const items = value === undefined ? undefined : byValue.get(value);
      if (value === undefined || items?.delete(item) !== true || items.size > 0) continue;
      byValue.delete(value);
    }
  }

  /** A record is an unfinished item again. */
  reopen(item: Item): void {
    this.#kept.delete(item.id);
  }

  /** Forgets what is too old, or too much; to be called before records are looked at. */
  age(now: number): void {
    const { keepAckedMs, maxRecords } = this.settings;
    for (const { item, finishedAt } of this.#kept.values()) {
      if (this.#kept.size <= maxRecords && finishedAt + keepAckedMs > now) break;
      this.forget(item);
    }
  }

  clear(): void {
    for (const { item } of this.#kept.values()) this.forget(item);
  }

  // ------------------------------------------------------------------------------------------------ finding

  /** The newest first. */
  list(filter: ItemFilter, { max, cursor }: PageRequest): Page<Item> {
    const [before = 0] = placeOf(cursor, [Number.POSITIVE_INFINITY]);
    const page = createPage<Item>(max, (item) => item);
    for (const item of [...this.#candidates(filter)].toReversed()) {
      if (item.arrival >= before || !matches(item, filter)) continue;
      const { last } = page;
      if (last !== undefined && page.isFull) return page.upTo([last.arrival]);
      page.add(item);
    }
    return page.all();
  }

  count(filter: ItemFilter): number {
    let count = 0;
    for (const item of this.#candidates(filter)) if (matches(item, filter)) count += 1;
    return count;
  }

  /** The fewest of which all that match are part. */
  #candidates({ fields = {} }: ItemFilter): ReadonlySet<Item> {
    let fewest = this.#all;
    for (const [field, value] of Object.entries(fields)) {
      const items = this.#byField.get(field)?.get(value) ?? new Set<Item>();
      if (items.size < fewest.size) fewest = items;
    }
    return fewest;
  }
}

function matches(item: Item, { fields = {}, state }: ItemFilter): boolean {
  if (state !== undefined && stateOf(item) !== state) return false;
  return Object.entries(fields).every(([field, value]) => item.fields.get(field) === value);
}
