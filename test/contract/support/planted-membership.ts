/** Bugs of membership: of counting and telling, of pages, of leases and of reaping. */

import type { Joined, MemberChange, Membership, MembershipChange, NewMember } from "../../../src/core/backend.js";
import { type PlantedBug, withMembership } from "./planting.js";

/** What all backends of a store know of each other: by namespace, which is a store's own. */
const shared = new Map<string, Map<string, unknown>>();

/** A value that all backends of a store share. */
function sharedOf<T>(namespace: string, name: string, create: () => T): T {
  const values = shared.get(namespace) ?? new Map<string, unknown>();
  shared.set(namespace, values);
  if (!values.has(name)) values.set(name, create());
  return values.get(name) as T; // Of the type of this name alone.
}

function withTold(
  membership: Membership,
  change: (told: MembershipChange, group: string) => MembershipChange,
): Partial<Membership> {
  return {
    join: async (group, ...args) => {
      const joined = await membership.join(group, ...args);
      return joined === "lapsed" ? joined : { ...joined, ...change(joined, group) };
    },
    leave: async (group, ...args) => change(await membership.leave(group, ...args), group),
  };
}

async function joined(result: Promise<Joined | "lapsed">): Promise<Joined> {
  const found = await result;
  if (found === "lapsed") throw new Error("it has lapsed");
  return found;
}

const telling: readonly PlantedBug[] = [
  {
    title: "a member that is joined again is told as joined, not as changed",
    caughtBy: ["membership: a member joins, changes and leaves, and each call tells what it has changed"],
    plant: (sound) =>
      withMembership(sound, (membership) =>
        withTold(membership, (told) => ({
          ...told,
          changes: told.changes.map(({ kind, member }): MemberChange => {
            return { kind: kind === "updated" ? "joined" : kind, member };
          }),
        })),
      ),
  },
  {
    title: "a call that changes nothing tells a change",
    caughtBy: ["membership: joining again with the same meta and connections changes nothing"],
    plant: (sound) =>
      withMembership(sound, (membership) => ({
        join: async (group, holder, members, limits) => {
          const told = await joined(membership.join(group, holder, members, limits));
          if (told.changes.length > 0) return told;
          const found = await membership.find(group, [members[0]?.id ?? ""]);
          return { ...told, changes: found.map((member) => ({ kind: "updated", member })) };
        },
      })),
  },
  {
    title: "a version is told that is not the one before",
    caughtBy: [
      "membership: versions grow by one with each change, and a call tells the one before it",
      "membership: whatever holders do and however they end, each change is told once and the list is right",
    ],
    plant: (sound) =>
      withMembership(sound, (membership) =>
        withTold(membership, (told) => ({ ...told, from: told.version - told.changes.length + 1 })),
      ),
  },
  {
    title: "versions begin anew when a group was empty",
    caughtBy: ["membership: versions of a group do not come again when it was empty"],
    plant: (sound, { namespace }) => {
      const starts = sharedOf(namespace, "starts", () => new Map<string, number>());
      return withMembership(sound, (membership) =>
        withTold(membership, (told, group) => {
          if (told.from === 0) starts.set(group, told.version - told.changes.length);
          const start = starts.get(group) ?? 0;
          return { ...told, from: Math.max(0, told.from - start), version: told.version - start };
        }),
      );
    },
  },
  {
    title: "a lost call of a holder is not noticed",
    caughtBy: ["membership: versions tell where groups stand, and which call of a holder they know as its last"],
    plant: (sound) =>
      withMembership(sound, (membership) => ({
        versions: async (...args) =>
          (await membership.versions(...args)).map(({ version }) => ({ version, held: version })),
      })),
  },
  {
    title: "the first holder to leave takes the member with it",
    caughtBy: [
      "membership: a member stays until its last holder leaves, and shows what was given last",
      "membership: leaving is each holder's own, and what others hold stays as it is",
    ],
    plant: (sound, { namespace }) => {
      const holders = sharedOf(namespace, "holders", () => new Set<string>());
      return withMembership(sound, (membership) => ({
        join: (group, holder, ...args) => {
          holders.add(holder);
          return membership.join(group, holder, ...args);
        },
        leave: async (group, holder, ids) => {
          for (const other of holders) if (other !== holder) await membership.leave(group, other, ids);
          return membership.leave(group, holder, ids);
        },
      }));
    },
  },
  {
    title: "connections are not counted",
    caughtBy: ["membership: a member joins, changes and leaves, and each call tells what it has changed"],
    plant: (sound) =>
      withMembership(sound, (membership) => ({
        join: (group, holder, members, limits) =>
          membership.join(
            group,
            holder,
            members.map((member): NewMember => ({ ...member, connections: 1 })),
            limits,
          ),
      })),
  },
  {
    title: "times are those of whoever calls",
    caughtBy: ["membership: times are the store's, from the first join on, with each change"],
    plant: (sound) =>
      withMembership(sound, (membership) =>
        withTold(membership, (told) => ({
          ...told,
          changes: told.changes.map(({ kind, member }) => ({ kind, member: { ...member, joinedAt: Date.now() } })),
        })),
      ),
  },
  {
    title: "what is found is not in the order asked",
    caughtBy: ["membership: what is found is in the order asked, without those who are no members"],
    plant: (sound) =>
      withMembership(sound, (membership) => ({
        find: (group, ids) => membership.find(group, ids.toSorted()),
      })),
  },
];

const bounding: readonly PlantedBug[] = [
  {
    title: "a page is followed by a member too far",
    caughtBy: ["membership: a page is what was asked for, goes on behind the last, and 0 only counts"],
    plant: (sound) =>
      withMembership(sound, (membership) => ({
        list: async (group, page) => {
          const listed = await membership.list(group, page);
          if (listed.cursor === undefined) return listed;
          const beyond = await membership.list(group, { max: 1, cursor: listed.cursor });
          return beyond.cursor === undefined
            ? { ...listed, cursor: "9007199254740991" }
            : { ...listed, cursor: beyond.cursor };
        },
      })),
  },
  {
    title: "a page begins at a number of members, not behind a member",
    caughtBy: [
      "membership: a group of 100,000 is listed by pages, and whoever stays is there once while others come and go",
    ],
    plant: (sound) =>
      withMembership(sound, (membership) => ({
        list: async (group, { max, cursor }) => {
          const [behind, before = "0"] = cursor?.split("/") ?? [];
          const page = await membership.list(group, { max, cursor: behind });
          // Whoever has left meanwhile has moved up those behind, past where the page begins.
          const members = page.members.slice(Math.max(0, Number(before) - page.count));
          return { ...page, members, ...(page.cursor !== undefined && { cursor: `${page.cursor}/${page.count}` }) };
        },
      })),
  },
  {
    title: "a group takes more than it may",
    caughtBy: ["membership: a full group refuses who is new by name, and goes on with those who are members"],
    plant: (sound) =>
      withMembership(sound, (membership) => ({
        join: (group, holder, members) => membership.join(group, holder, members, { maxMembers: 1_000_000 }),
      })),
  },
  {
    title: "what is too large is cut, and joined",
    caughtBy: ["membership: what is beyond a limit is refused whole, and changes nothing"],
    plant: (sound) =>
      withMembership(sound, (membership) => ({
        join: (group, holder, members, limits) =>
          membership.join(
            group,
            holder,
            members.map((one) => ({ ...one, meta: one.meta.slice(0, 1_000) })),
            limits,
          ),
      })),
  },
  {
    title: "metas pass through text",
    caughtBy: ["membership: metas come out as they went in"],
    plant: (sound) =>
      withMembership(sound, (membership) => ({
        join: (group, holder, members, limits) =>
          membership.join(
            group,
            holder,
            members.map((one) => ({ ...one, meta: Buffer.from(one.meta).toString() })),
            limits,
          ),
      })),
  },
  {
    title: "holders of all namespaces are one",
    caughtBy: ["membership: namespaces never see each other, though all names are the same"],
    misread: (context) => ({ ...context, namespace: "one for all" }),
    plant: (sound) => sound,
  },
];

const leases: readonly PlantedBug[] = [
  {
    title: "a renewal is answered and not made",
    caughtBy: [
      "membership: a holder holds on by renewing, and one that nobody has begun has lapsed",
      "membership: a lease that has run out is renewed as long as nobody has reaped it",
    ],
    plant: (sound) => withMembership(sound, () => ({ renew: async () => "held" })),
  },
  {
    title: "a renewal is as long as the first lease",
    caughtBy: ["membership: each lease is as long as it was asked for last"],
    plant: (sound, { namespace }) => {
      const leases = sharedOf(namespace, "leases", () => new Map<string, number>());
      return withMembership(sound, (membership) => ({
        begin: async (holder, leaseMs) => {
          await membership.begin(holder, leaseMs);
          leases.set(holder, leaseMs);
        },
        renew: (holder, leaseMs) => membership.renew(holder, leases.get(holder) ?? leaseMs),
      }));
    },
  },
  {
    title: "a lapsed holder comes back by renewing",
    caughtBy: ["membership: a holder that ends is to be reaped at once, by anybody, and has lapsed"],
    plant: (sound) =>
      withMembership(sound, (membership) => ({
        renew: async (holder, leaseMs) => {
          await membership.begin(holder, leaseMs);
          return "held";
        },
      })),
  },
  {
    title: "a lapsed holder may join",
    caughtBy: [
      "membership: a lapsed holder's joins are refused and change nothing, also in groups that it was never in",
      "membership: whoever joins while its holder is reaped is refused, or removed as well",
    ],
    plant: (sound) =>
      withMembership(sound, (membership) => ({
        join: async (group, holder, members, limits) => {
          const result = await membership.join(group, holder, members, limits);
          if (result !== "lapsed") return result;
          await membership.begin(holder, 1_000);
          return membership.join(group, holder, members, limits);
        },
      })),
  },
  {
    title: "an ended holder keeps its members until its lease runs out",
    caughtBy: ["membership: a holder that ends is to be reaped at once, by anybody, and has lapsed"],
    plant: (sound) => withMembership(sound, () => ({ end: async () => {} })),
  },
];

const reaping: readonly PlantedBug[] = [
  {
    title: "a holder that lives is reaped",
    caughtBy: ["membership: reaping leaves a holder alone whose lease holds, or that nobody knows"],
    plant: (sound) =>
      withMembership(sound, (membership) => ({
        reap: async (holder) => {
          await membership.end(holder);
          return membership.reap(holder);
        },
      })),
  },
  {
    title: "what is reaped is not told",
    caughtBy: [
      "membership: reaping removes what the holder held in all its groups and nothing else, each once",
      "membership: what is reaped has versions like any other change",
    ],
    plant: (sound) =>
      withMembership(sound, (membership) => ({
        reap: async (holder) => ({ ...(await membership.reap(holder)), lapsed: [] }),
      })),
  },
  {
    title: "what is reaped is told twice",
    caughtBy: ["membership: what several reap at the same time is reported once, by one of them"],
    plant: (sound, { namespace }) => {
      const before = sharedOf(namespace, "before", () => new Map<string, Awaited<ReturnType<Membership["reap"]>>>());
      return withMembership(sound, (membership) => ({
        reap: async (holder) => {
          const reaped = await membership.reap(holder);
          const earlier = before.get(holder);
          before.set(holder, reaped);
          return { ...reaped, lapsed: [...reaped.lapsed, ...(earlier?.lapsed ?? [])] };
        },
      }));
    },
  },
  {
    title: "a reaper that stops half-way leaves the rest for ever",
    caughtBy: ["membership: what one reaper leaves half done, another finishes"],
    plant: (sound, { namespace }) => {
      const begun = sharedOf(namespace, "begun", () => new Map<string, Membership>());
      return withMembership(sound, (membership) => ({
        reap: async (holder) => {
          const owner = begun.get(holder) ?? membership;
          begun.set(holder, owner);
          return owner === membership ? membership.reap(holder) : { lapsed: [], isDone: true };
        },
      }));
    },
  },
  {
    title: "who died is told as last seen now",
    caughtBy: ["membership: who died is told as last seen when its holder renewed last, who ended when that was"],
    plant: (sound, { clock }) =>
      withMembership(sound, (membership) => ({
        reap: async (holder) => {
          const { lapsed, isDone } = await membership.reap(holder);
          const told = lapsed.map(({ group, change }) => {
            const changes = change.changes.map(({ kind, member }) => ({
              kind,
              member: { ...member, lastSeen: clock.now() },
            }));
            return { group, change: { ...change, changes } };
          });
          return { lapsed: told, isDone };
        },
      })),
  },
  {
    title: "all that lapses together is named only in part",
    caughtBy: ["membership: many holders that lapse together are named and reaped, the oldest first"],
    plant: (sound, { namespace }) => {
      const named = sharedOf(namespace, "named", () => new Set<string>());
      return withMembership(sound, (membership) => ({
        lapsing: async () => {
          const names = (await membership.lapsing()).filter((name) => named.has(name) || named.size < 100);
          for (const name of names) named.add(name);
          return names;
        },
      }));
    },
  },
];

export const membershipBugs: readonly PlantedBug[] = [...telling, ...bounding, ...leases, ...reaping];
