/** Who is where in SQLite: each call is one transaction, on the members and on the holder whose lease keeps them. */

import type { Lapsed, Membership, MembershipChange, Reaped } from "../../core/backend.js";
import {
  assertCount,
  assertLease,
  assertMembers,
  MAX_GROUPS_AT_ONCE,
  MAX_MEMBERS_AT_ONCE,
  MAX_REAPED,
  placeOf,
} from "../../core/membership-limits.js";
import { Holders, type HolderRow, OVER } from "./holders.js";
import { Members } from "./members.js";
import type { Store } from "./store.js";
import { text } from "./values.js";
import type { Tx } from "./writer.js";

export function createMembership(store: Store): Membership {
  const { db, namespace, writer } = store;
  const holders = new Holders(db, namespace);
  const members = new Members(db, namespace);

  return {
    ...createLeases(store, holders, members),

    async join(group, holderName, newMembers, { maxMembers }) {
      store.assertOpen();
      assertMembers(group, newMembers);
      // What the caller does to its buffers before the transaction changes nothing.
      const copies = newMembers.map(({ meta, ...rest }) => ({ ...rest, meta: copyOf(meta) }));
      return writer.run((tx) => {
        const holder = holders.find(holderName);
        if (holder === undefined || holder.until === OVER) return "lapsed";
        const call = members.open(group);
        const refused: string[] = [];
        for (const member of copies) {
          if (call.members < maxMembers || members.has(call, member.id)) members.join(tx, call, holder.id, member);
          else refused.push(member.id);
        }
        return { ...members.close(tx, call, holder.id), refused };
      });
    },

    async leave(group, holderName, ids) {
      store.assertOpen();
      assertCount("ids", ids.length, MAX_MEMBERS_AT_ONCE);
      return writer.run((tx): MembershipChange => {
        const holder = holders.find(holderName);
        const { version } = members.find(group) ?? { version: 0 };
        if (holder === undefined || version === 0) return { from: version, version, changes: [] };
        const call = members.open(group);
        for (const id of ids) members.leave(call, holder.id, text(id), tx.now);
        return members.close(tx, call, holder.id);
      });
    },

    async list(group, { max, cursor }) {
      store.assertOpen();
      assertCount("page", max, MAX_MEMBERS_AT_ONCE);
      const behind = placeOf(cursor);
      return store.read(() => {
        const found = members.find(group);
        if (found === undefined) return { version: 0, count: 0, members: [] };
        const page = max === 0 ? { members: [] } : members.page(found.id, behind, max);
        return { version: found.version, count: found.members, ...page };
      });
    },

    async find(group, ids) {
      store.assertOpen();
      assertCount("ids", ids.length, MAX_MEMBERS_AT_ONCE);
      return store.read(() => {
        const found = members.find(group);
        return found === undefined ? [] : ids.flatMap((id) => members.one(found.id, id) ?? []);
      });
    },

    async versions(groups, holder) {
      store.assertOpen();
      assertCount("groups", groups.length, MAX_GROUPS_AT_ONCE);
      return store.read(() =>
        groups.map((group) => {
          const found = members.find(group);
          return { version: found?.version ?? 0, held: found === undefined ? 0 : members.held(found.id, holder) };
        }),
      );
    },
  };
}

function createLeases(
  store: Store,
  holders: Holders,
  members: Members,
): Pick<Membership, "begin" | "renew" | "end" | "lapsing" | "reap"> {
  const { writer, clock } = store;
  return {
    async begin(holder, leaseMs) {
      store.assertOpen();
      assertLease(leaseMs);
      await writer.run(({ now }) => holders.begin(holder, now + leaseMs, now));
    },

    async renew(holder, leaseMs) {
      store.assertOpen();
      assertLease(leaseMs);
      return writer.run(({ now }) => (holders.renew(holder, now + leaseMs, now) ? "held" : "lapsed"));
    },

    async end(holder) {
      store.assertOpen();
      await writer.run(({ now }) => void holders.renew(holder, OVER, now));
    },

    async lapsing() {
      store.assertOpen();
      return store.read(() => holders.lapsing(clock.now()));
    },

    async reap(name) {
      store.assertOpen();
      return writer.run((tx) => {
        const holder = holders.lapse(name, tx.now);
        return holder === undefined ? { lapsed: [], isDone: true } : reap(tx, holders, members, holder);
      });
    },
  };
}

function reap(tx: Tx, holders: Holders, members: Members, holder: HolderRow): Reaped {
  const lapsed: Lapsed[] = [];
  let room = MAX_REAPED;
  for (const group of holders.groupsOf(holder)) {
    const call = members.open(group);
    const held = members.heldBy(holder.id, call.id, room + 1);
    for (const id of held.slice(0, room)) members.leave(call, holder.id, id, holder.renewedAt);
    const change = members.close(tx, call, holder.id);
    if (change.changes.length > 0) lapsed.push({ group, change });
    if (held.length > room) return { lapsed, isDone: false };
    room -= held.length;
    holders.left(holder, call.id);
  }
  holders.remove(holder);
  return { lapsed, isDone: true };
}

function copyOf(meta: Uint8Array | string): Uint8Array | string {
  return typeof meta === "string" ? meta : meta.slice();
}
