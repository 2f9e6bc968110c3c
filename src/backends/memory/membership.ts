/** Who is where, while its holder lives; the readable specification of the membership port. */

import type { BackendContext, Lapsed, Membership } from "../../core/backend.js";
import {
  assertCount,
  assertLease,
  assertMembers,
  isLapsing,
  MAX_GROUPS_AT_ONCE,
  MAX_LAPSING,
  MAX_MEMBERS_AT_ONCE,
  MAX_REAPED,
  placeOf,
} from "../../core/membership-limits.js";
import { MemoryGroup } from "./members.js";
import { type Session, scoped } from "./session.js";

/** By `scoped` names. */
export interface MemoryMembership {
  readonly holders: Map<string, Holder>;
  /** Those that have members. */
  readonly groups: Map<string, MemoryGroup>;
  /** The last version of all groups, so that none comes again. */
  versions: number;
}

interface Holder {
  /** When its lease ends; {@link OVER} once it has ended or somebody has begun to reap it, and cannot be renewed any more. */
  until: number;
  renewedAt: number;
  /** Names of the groups that it may have members in. */
  readonly groups: Set<string>;
}

const OVER = 0;

export function createMembership(session: Session, all: MemoryMembership, context: BackendContext): Membership {
  const { namespace, clock } = context;
  const keyOf = (name: string): string => scoped(namespace, name);
  const groupOf: Groups["groupOf"] = (name) =>
    all.groups.get(keyOf(name)) ?? new MemoryGroup(() => (all.versions += 1));
  const keep: Groups["keep"] = (name, group) => {
    if (group.size > 0) all.groups.set(keyOf(name), group);
    else all.groups.delete(keyOf(name));
  };

  return {
    ...createHolders(session, all.holders, { groupOf, keep }, context),

    async join(name, holderName, members, { maxMembers }) {
      session.assertOpen();
      assertMembers(name, members);
      const holder = all.holders.get(keyOf(holderName));
      if (holder === undefined || holder.until === OVER) return "lapsed";
      holder.groups.add(name);
      const group = groupOf(name);
      const refused: string[] = [];
      for (const member of members) {
        if (group.size < maxMembers || group.has(member.id)) group.join(holderName, member, clock.now());
        else refused.push(member.id);
      }
      keep(name, group);
      return { ...group.told(holderName), refused };
    },

    async leave(name, holder, ids) {
      session.assertOpen();
      assertCount("ids", ids.length, MAX_MEMBERS_AT_ONCE);
      const group = groupOf(name);
      for (const id of ids) group.leave(holder, id, clock.now());
      keep(name, group);
      return group.told(holder);
    },

    async list(name, { max, cursor }) {
      session.assertOpen();
      assertCount("page", max, MAX_MEMBERS_AT_ONCE);
      const group = groupOf(name);
      return { version: group.versions("").version, count: group.size, ...group.page(placeOf(cursor), max) };
    },

    async find(name, ids) {
      session.assertOpen();
      assertCount("ids", ids.length, MAX_MEMBERS_AT_ONCE);
      return ids.flatMap((id) => groupOf(name).find(id));
    },

    async versions(names, holder) {
      session.assertOpen();
      assertCount("groups", names.length, MAX_GROUPS_AT_ONCE);
      return names.map((name) => groupOf(name).versions(holder));
    },
  };
}

interface Groups {
  /** The group of that name; a new one where there is none. */
  readonly groupOf: (name: string) => MemoryGroup;
  /** Keeps a group that has members, and forgets one that has none. */
  readonly keep: (name: string, group: MemoryGroup) => void;
}

function createHolders(
  session: Session,
  holders: Map<string, Holder>,
  { groupOf, keep }: Groups,
  { namespace, clock }: BackendContext,
): Pick<Membership, "begin" | "renew" | "end" | "lapsing" | "reap"> {
  const prefix = scoped(namespace, "");
  return {
    async begin(name, leaseMs) {
      session.assertOpen();
      assertLease(leaseMs);
      const now = clock.now();
      holders.set(prefix + name, { until: now + leaseMs, renewedAt: now, groups: new Set() });
    },

    async renew(name, leaseMs) {
      session.assertOpen();
      assertLease(leaseMs);
      const holder = holders.get(prefix + name);
      if (holder === undefined || holder.until === OVER) return "lapsed";
      holder.renewedAt = clock.now();
      holder.until = holder.renewedAt + leaseMs;
      return "held";
    },

    async end(name) {
      session.assertOpen();
      const holder = holders.get(prefix + name);
      if (holder === undefined || holder.until === OVER) return;
      holder.until = OVER;
      holder.renewedAt = clock.now();
    },

    async lapsing() {
      session.assertOpen();
      const now = clock.now();
      return [...holders]
        .filter(([name, { until }]) => name.startsWith(prefix) && isLapsing(until, now))
        .toSorted(([, one], [, other]) => one.until - other.until)
        .slice(0, MAX_LAPSING)
        .map(([name]) => name.slice(prefix.length));
    },

    async reap(name) {
      session.assertOpen();
      const holder = holders.get(prefix + name);
      if (holder === undefined || !isLapsing(holder.until, clock.now())) return { lapsed: [], isDone: true };
      holder.until = OVER;
      const lapsed: Lapsed[] = [];
      let room = MAX_REAPED;
      for (const groupName of holder.groups) {
        const group = groupOf(groupName);
        const ids = group.heldBy(name);
        for (const id of ids.slice(0, room)) group.leave(name, id, holder.renewedAt);
        keep(groupName, group);
        if (ids.length > 0) lapsed.push({ group: groupName, change: group.told(name) });
        if (ids.length > room) return { lapsed, isDone: false };
        room -= ids.length;
        group.forget(name);
        holder.groups.delete(groupName);
      }
      holders.delete(prefix + name);
      return { lapsed, isDone: true };
    },
  };
}
