/** The members of groups, and which holders hold them: rows, within the transaction of whoever calls. */

import type { Member, MemberChange, MembershipChange, NewMember } from "../../core/backend.js";
import type { Database } from "./driver.js";
import { payload, type StoredText, text, textOf } from "./values.js";
import type { Tx } from "./writer.js";

/** A group as a call finds it, and what the call changes. */
export interface GroupCall {
  readonly id: number;
  readonly from: number;
  version: number;
  members: number;
  readonly changes: MemberChange[];
}

interface MemberRow {
  readonly id: StoredText;
  readonly place: number;
  readonly joinedAt: number;
  readonly lastSeen: number;
  readonly connections: number;
  readonly meta: Uint8Array;
}

interface GroupRow {
  readonly id: number;
  readonly version: number;
  readonly members: number;
}

export class Members {
  readonly #sql: ReturnType<typeof prepare>;
  readonly #namespace: StoredText;

  constructor(db: Database, namespace: string) {
    this.#sql = prepare(db);
    this.#namespace = text(namespace);
  }

  find(name: string): GroupRow | undefined {
    return this.#sql.group.get(this.#namespace, text(name));
  }

  /** Begins a call on a group; made where there is none. */
  open(name: string): GroupCall {
    const { id, version, members } = this.find(name) ?? {
      id: this.#sql.addGroup.insert(this.#namespace, text(name)) ?? 0,
      version: 0,
      members: 0,
    };
    return { id, from: version, version, members, changes: [] };
  }

  /** Ends a call: a group that nobody is left in is forgotten. */
  close(tx: Tx, call: GroupCall, holder: number): MembershipChange {
    const { id, from, version, members, changes } = call;
    tx.spend(changes.length);
    if (members === 0) {
      this.#sql.removeGroup.run(id);
      this.#sql.removeHeld.run(id);
    } else {
      this.#sql.saveGroup.run(version, members, id);
      this.#sql.hold.run(id, holder, version);
    }
    return { from, version, changes };
  }

  has(call: GroupCall, id: string): boolean {
    return this.#sql.exists.get(call.id, text(id)) !== undefined;
  }

  join(tx: Tx, call: GroupCall, holder: number, { id, meta, connections }: NewMember): void {
    const member = text(id);
    const before = this.#sql.seat.get(call.id, member, holder);
    const isSameMeta = before !== undefined && Buffer.compare(before.meta, Buffer.from(meta)) === 0;
    if (isSameMeta && before.connections === connections) return;
    const isNew = before === undefined && !this.has(call, id);
    const version = this.#nextVersion(call);
    if (isNew) {
      this.#sql.addMember.run(call.id, member, version, tx.now, tx.now);
      call.members += 1;
    } else {
      this.#sql.seen.run(tx.now, call.id, member);
    }
    // Only a new meta counts as given anew.
    const given = isSameMeta ? before.given : version;
    this.#sql.sit.run(call.id, member, holder, connections, given, payload(meta));
    this.#tell(call, isNew ? "joined" : "updated", this.#shown(call, member));
  }

  /** @param at when it was seen last */
  leave(call: GroupCall, holder: number, id: StoredText, at: number): void {
    const before = this.#shown(call, id);
    if (before === undefined || this.#sql.rise.run(call.id, id, holder) === 0) return;
    this.#nextVersion(call);
    const after = this.#shown(call, id);
    if (after === undefined) {
      this.#sql.removeMember.run(call.id, id);
      call.members -= 1;
      this.#tell(call, "left", { ...before, lastSeen: at });
    } else {
      this.#sql.seen.run(at, call.id, id);
      this.#tell(call, "updated", { ...after, lastSeen: at });
    }
  }

  /** Of the members that the holder holds in a group, some. */
  heldBy(holder: number, group: number, max: number): StoredText[] {
    return this.#sql.heldBy.all(holder, group, max).map(({ member }) => member);
  }

  one(group: number, id: string): Member | undefined {
    const row = this.#sql.member.get(group, text(id));
    return row && toMember(row);
  }

  /** Up to `max` members behind a place, and the place of the last where there are more. */
  page(group: number, behind: number, max: number): { members: Member[]; cursor?: string } {
    const rows = this.#sql.page.all(group, behind, max + 1);
    const shown = rows.slice(0, max);
    const last = shown.at(-1);
    const members = shown.map(toMember);
    return rows.length > max && last !== undefined ? { members, cursor: String(last.place) } : { members };
  }

  held(group: number, holder: string): number {
    return this.#sql.held.get(this.#namespace, text(holder), group)?.version ?? 0;
  }

  /** Of all groups of a file together, so that none comes again. */
  #nextVersion(call: GroupCall): number {
    this.#sql.count.run();
    call.version = this.#sql.counted.get()?.version ?? 0;
    return call.version;
  }

  #shown(call: GroupCall, id: StoredText): MemberRow | undefined {
    return this.#sql.member.get(call.id, id);
  }

  #tell(call: GroupCall, kind: MemberChange["kind"], row: MemberRow | undefined): void {
    if (row !== undefined) call.changes.push({ kind, member: toMember(row) });
  }
}

function toMember({ id, meta, connections, joinedAt, lastSeen }: MemberRow): Member {
  return { id: textOf(id), meta, connections, joinedAt, lastSeen };
}

/** A member: beside `max(given)`, SQLite takes the meta of that same row (https://sqlite.org/lang_select.html#bareagg). */
const MEMBER = `
  SELECT members.id AS id, place, joined_at AS joinedAt, last_seen AS lastSeen, sum(connections) AS connections,
    meta, max(given) AS given
  FROM sb1_members AS members JOIN sb1_seats AS seats ON seats.grp = members.grp AND seats.member = members.id`;

// Parameters come in the order of the calls above.
function prepare(db: Database) {
  return {
    group: db.prepare<GroupRow>("SELECT id, version, members FROM sb1_member_groups WHERE namespace = ? AND name = ?"),
    addGroup: db.prepare("INSERT INTO sb1_member_groups (namespace, name, version, members) VALUES (?, ?, 0, 0)"),
    saveGroup: db.prepare("UPDATE sb1_member_groups SET version = ?, members = ? WHERE id = ?"),
    removeGroup: db.prepare("DELETE FROM sb1_member_groups WHERE id = ?"),
    removeHeld: db.prepare("DELETE FROM sb1_held WHERE grp = ?"),
    hold: db.prepare("INSERT OR REPLACE INTO sb1_held (grp, holder, version) VALUES (?, ?, ?)"),
    held: db.prepare<{ version: number }>(
      `SELECT version FROM sb1_held
       WHERE holder = (SELECT id FROM sb1_holders WHERE namespace = ? AND name = ?) AND grp = ?`,
    ),
    exists: db.prepare("SELECT 1 FROM sb1_members WHERE grp = ? AND id = ?"),
    addMember: db.prepare("INSERT INTO sb1_members (grp, id, place, joined_at, last_seen) VALUES (?, ?, ?, ?, ?)"),
    seen: db.prepare("UPDATE sb1_members SET last_seen = ? WHERE grp = ? AND id = ?"),
    removeMember: db.prepare("DELETE FROM sb1_members WHERE grp = ? AND id = ?"),
    seat: db.prepare<{ connections: number; given: number; meta: Uint8Array }>(
      "SELECT connections, given, meta FROM sb1_seats WHERE grp = ? AND member = ? AND holder = ?",
    ),
    sit: db.prepare(
      `INSERT OR REPLACE INTO sb1_seats (grp, member, holder, connections, given, meta)
       VALUES (?, ?, ?, ?, ?, CAST(? AS BLOB))`,
    ),
    rise: db.prepare("DELETE FROM sb1_seats WHERE grp = ? AND member = ? AND holder = ?"),
    heldBy: db.prepare<{ member: StoredText }>("SELECT member FROM sb1_seats WHERE holder = ? AND grp = ? LIMIT ?"),
    member: db.prepare<MemberRow>(`${MEMBER} WHERE members.grp = ? AND members.id = ? GROUP BY place`),
    page: db.prepare<MemberRow>(`${MEMBER} WHERE members.grp = ? AND place > ? GROUP BY place ORDER BY place LIMIT ?`),
    count: db.prepare("UPDATE sb1_versions SET version = version + 1 WHERE name = 'members'"),
    counted: db.prepare<{ version: number }>("SELECT version FROM sb1_versions WHERE name = 'members'"),
  };
}
