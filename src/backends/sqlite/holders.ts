/** Holders and their leases: rows, within the transaction of whoever calls. */

import { isLapsing, MAX_LAPSING, MAX_LEASE_MS } from "../../core/membership-limits.js";
import type { Database } from "./driver.js";
import { type StoredText, text, textOf } from "./values.js";

export interface HolderRow {
  readonly id: number;
  /** When its lease ends; {@link OVER} once it has ended or somebody has begun to reap it. */
  readonly until: number;
  readonly renewedAt: number;
}

export const OVER = 0;

export class Holders {
  readonly #sql: ReturnType<typeof prepare>;
  readonly #namespace: StoredText;

  constructor(db: Database, namespace: string) {
    this.#sql = prepare(db);
    this.#namespace = text(namespace);
  }

  find(name: string): HolderRow | undefined {
    return this.#sql.find.get(this.#namespace, text(name));
  }

  begin(name: string, until: number, now: number): void {
    this.#sql.begin.run(this.#namespace, text(name), until, now);
  }

  /** @param until {@link OVER} ends it. @returns false when it is over already, or not known */
  renew(name: string, until: number, now: number): boolean {
    return this.#sql.renew.run(until, now, this.#namespace, text(name)) > 0;
  }

  lapsing(now: number): string[] {
    return this.#sql.lapsing.all(this.#namespace, now, now + MAX_LEASE_MS, MAX_LAPSING).map(({ name }) => textOf(name));
  }

  /** From now on it cannot be renewed. @returns it, where its lease is over */
  lapse(name: string, now: number): HolderRow | undefined {
    const holder = this.find(name);
    if (holder === undefined || !isLapsing(holder.until, now)) return undefined;
    if (holder.until !== OVER) this.#sql.lapse.run(holder.id);
    return holder;
  }

  /** The groups that it may have members in. */
  groupsOf({ id }: HolderRow): string[] {
    return this.#sql.groups.all(id).map(({ name }) => textOf(name));
  }

  /** Nothing of it is left in the group. */
  left({ id }: HolderRow, group: number): void {
    this.#sql.left.run(id, group);
  }

  remove({ id }: HolderRow): void {
    this.#sql.remove.run(id);
  }
}

// Parameters come in the order of the calls above.
function prepare(db: Database) {
  return {
    find: db.prepare<HolderRow>(
      "SELECT id, until, renewed_at AS renewedAt FROM sb1_holders WHERE namespace = ? AND name = ?",
    ),
    begin: db.prepare(
      `INSERT INTO sb1_holders (namespace, name, until, renewed_at) VALUES (?, ?, ?, ?)
       ON CONFLICT (namespace, name) DO UPDATE SET until = excluded.until, renewed_at = excluded.renewed_at`,
    ),
    renew: db.prepare(
      `UPDATE sb1_holders SET until = ?, renewed_at = ? WHERE namespace = ? AND name = ? AND until <> ${OVER}`,
    ),
    lapsing: db.prepare<{ name: StoredText }>(
      "SELECT name FROM sb1_holders WHERE namespace = ? AND (until <= ? OR until > ?) ORDER BY until LIMIT ?",
    ),
    lapse: db.prepare(`UPDATE sb1_holders SET until = ${OVER} WHERE id = ?`),
    groups: db.prepare<{ name: StoredText }>(
      `SELECT name FROM sb1_held AS held JOIN sb1_member_groups AS groups ON groups.id = held.grp WHERE held.holder = ?`,
    ),
    left: db.prepare("DELETE FROM sb1_held WHERE holder = ? AND grp = ?"),
    remove: db.prepare("DELETE FROM sb1_holders WHERE id = ?"),
  };
}
