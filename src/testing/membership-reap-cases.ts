/** Membership: leases, what is left behind when they end, and those who clear it away. */

import { deepEqual, equal, ok } from "node:assert/strict";
import type { ContractCase } from "./contract.js";
import { first, LONG_LEASE_MS, numbered, SHORT_LEASE_MS } from "./fixtures.js";
import {
  changesOf,
  expectMembers,
  type Holder,
  listAll,
  MANY,
  member,
  membersOf,
  reapAll,
  removalsOf,
  startHolder,
  startLapsed,
  untilLapsing,
  versionOf,
} from "./members.js";

const leases: readonly ContractCase[] = [
  {
    title: "membership: a holder holds on by renewing, and one that nobody has begun has lapsed",
    run: async (store) => {
      const { membership } = store.backend;
      const holder = await startHolder(store, store.backend, SHORT_LEASE_MS);
      const started = await store.now();
      while ((await store.now()) - started < 2 * SHORT_LEASE_MS) {
        equal(await membership.renew(holder.id, SHORT_LEASE_MS), "held");
        deepEqual(await membership.lapsing(), []);
        await store.elapse(SHORT_LEASE_MS / 3);
      }
      equal(await membership.renew(store.name(), SHORT_LEASE_MS), "lapsed");
    },
  },
  {
    title: "membership: each lease is as long as it was asked for last",
    run: async (store) => {
      const { membership } = store.backend;
      const [short, long] = [
        await startHolder(store, store.backend, LONG_LEASE_MS),
        await startHolder(store, store.backend, SHORT_LEASE_MS),
      ];
      await membership.renew(long.id, LONG_LEASE_MS);
      const renewing = await store.now();
      await membership.renew(short.id, SHORT_LEASE_MS);
      await untilLapsing(store, short.id);
      ok((await store.now()) - renewing >= SHORT_LEASE_MS, "it does not end before its time");
      deepEqual(await membership.lapsing(), [short.id]);
    },
  },
  {
    title: "membership: a lease that has run out is renewed as long as nobody has reaped it",
    run: async (store) => {
      const [group, holder] = [store.name(), await startHolder(store, store.backend, SHORT_LEASE_MS)];
      const { version } = await holder.join(group, "ada");
      await untilLapsing(store, holder.id);
      await expectMembers(store.backend, group, "ada");
      equal(await store.backend.membership.renew(holder.id, LONG_LEASE_MS), "held");
      deepEqual(await store.backend.membership.lapsing(), []);
      deepEqual(await reapAll(await store.second(), holder.id), []);
      equal(await versionOf(store.backend, group), version);
      deepEqual(changesOf(await holder.join(group, "bob")), ["joined bob"]);
    },
  },
  {
    title: "membership: a holder that ends is to be reaped at once, by anybody, and has lapsed",
    run: async (store) => {
      const [group, holder] = [store.name(), await startHolder(store)];
      await holder.join(group, "ada");
      const { membership } = await store.second();
      deepEqual(await membership.lapsing(), []);
      for (let times = 0; times < 2; times += 1) await store.backend.membership.end(holder.id);
      deepEqual(await membership.lapsing(), [holder.id]);
      equal(await store.backend.membership.renew(holder.id, LONG_LEASE_MS), "lapsed");
      equal(await store.backend.membership.join(group, holder.id, [member("bob")], MANY), "lapsed");
      const reaped = await membership.reap(holder.id);
      deepEqual(removalsOf(reaped), [`${group}: left ada`]);
      await reapAll(store.backend, holder.id);
      deepEqual(await membership.lapsing(), []);
      await store.backend.membership.end(holder.id);
      await reapAll(store.backend, holder.id);
      deepEqual(await membership.lapsing(), [], "nothing of it comes back");
    },
  },
  {
    title: "membership: a lapsed holder's joins are refused and change nothing, also in groups that it was never in",
    run: async (store) => {
      const { membership } = store.backend;
      const group = store.name();
      const [holder, other] = [await startHolder(store, store.backend, SHORT_LEASE_MS), await startHolder(store)];
      await holder.join(group, "ada", "bob");
      await other.join(group, "bob");
      await untilLapsing(store, holder.id);
      await reapAll(await store.second(), holder.id);
      const { version } = await membership.list(group, { max: 0 });
      for (const name of [group, store.name(), group]) {
        equal(await membership.join(name, holder.id, [member("ada"), member("cleo")], MANY), "lapsed");
        deepEqual(changesOf(await holder.leave(name, "bob")), []);
      }
      equal(await membership.renew(holder.id, LONG_LEASE_MS), "lapsed");
      equal(await versionOf(store.backend, group), version);
      await expectMembers(store.backend, group, "bob");
    },
  },
];

const reaping: readonly ContractCase[] = [
  {
    title: "membership: reaping removes what the holder held in all its groups and nothing else, each once",
    run: async (store) => {
      const { membership } = store.backend;
      const [lobby, den, attic] = [store.name(), store.name(), store.name()];
      const [dead, alive] = [await startHolder(store, store.backend, SHORT_LEASE_MS), await startHolder(store)];
      await dead.join(lobby, "ada=1", "bob=2");
      await dead.join(den, "ada");
      await dead.join(attic, "ada");
      await dead.leave(attic, "ada");
      await alive.join(lobby, "bob=3*2", "cleo");
      await untilLapsing(store, dead.id);
      const removed = await reapAll(await store.second(), dead.id);
      deepEqual(
        removed.toSorted(),
        [`${den}: left ada`, `${lobby}: left ada=1`, `${lobby}: updated bob=3*2`].toSorted(),
      );
      deepEqual(await reapAll(store.backend, dead.id), []);
      deepEqual(await membership.lapsing(), []);
      await expectMembers(store.backend, lobby, "bob=3*2", "cleo");
      await expectMembers(store.backend, den);
    },
  },
  {
    title: "membership: what is reaped has versions like any other change",
    run: async (store) => {
      const [group, dead, alive] = [store.name(), await startHolder(store), await startHolder(store)];
      await alive.join(group, "bob");
      const { version } = await dead.join(group, "ada", "bob", "cleo");
      await store.backend.membership.end(dead.id);
      const { lapsed } = await store.backend.membership.reap(dead.id);
      const changes = lapsed.map(({ change }) => change);
      equal(first(changes).from, version);
      equal(changes.flatMap((change) => change.changes).length, 3);
      equal(changes.at(-1)?.version, await versionOf(store.backend, group));
      equal((await alive.join(group, "bob=x")).from, changes.at(-1)?.version);
    },
  },
  {
    title: "membership: reaping leaves a holder alone whose lease holds, or that nobody knows",
    run: async (store) => {
      const [group, holder] = [store.name(), await startHolder(store)];
      await holder.join(group, "ada");
      deepEqual(await store.backend.membership.reap(holder.id), { lapsed: [], isDone: true });
      deepEqual(await store.backend.membership.reap(store.name()), { lapsed: [], isDone: true });
      equal(await store.backend.membership.renew(holder.id, LONG_LEASE_MS), "held");
      await expectMembers(store.backend, group, "ada");
    },
  },
  {
    title: "membership: who died is told as last seen when its holder renewed last, who ended when that was",
    run: async (store) => {
      const group = store.name();
      const [dead, ended] = [await startHolder(store, store.backend, SHORT_LEASE_MS), await startHolder(store)];
      await dead.join(group, "ada");
      await ended.join(group, "bob");
      const renewing = await store.now();
      await store.backend.membership.renew(dead.id, SHORT_LEASE_MS);
      const renewed = await store.now();
      await untilLapsing(store, dead.id);
      await store.backend.membership.end(ended.id);
      const lastSeen = async ({ id }: Holder): Promise<number> => {
        const { lapsed } = await store.backend.membership.reap(id);
        return first(first(lapsed).change.changes).member.lastSeen;
      };
      const [ofDead, ofEnded] = [await lastSeen(dead), await lastSeen(ended)];
      ok(ofDead >= renewing && ofDead <= renewed, `${ofDead} is from ${renewing} to ${renewed}`);
      ok(ofEnded >= renewed + SHORT_LEASE_MS - 50 && ofEnded <= (await store.now()));
    },
  },
  {
    title: "membership: what several reap at the same time is reported once, by one of them",
    run: async (store) => {
      const groups = numbered(store.name(), 30);
      const ids = numbered("m", 50);
      const holder = await startHolder(store);
      for (const group of groups) await holder.join(group, ...ids);
      await store.backend.membership.end(holder.id);
      const backends = [store.backend, await store.second(), await store.second()];
      const removed = await Promise.all(backends.map((backend) => reapAll(backend, holder.id)));
      const expected = groups.flatMap((group) => ids.map((id) => `${group}: left ${id}`));
      deepEqual(removed.flat().toSorted(), expected.toSorted());
      deepEqual(await store.backend.membership.lapsing(), []);
      for (const group of groups) equal((await store.backend.membership.list(group, { max: 0 })).count, 0);
    },
  },
  {
    title: "membership: what one reaper leaves half done, another finishes",
    run: async (store) => {
      const { membership } = store.backend;
      const [group, holder, other] = [store.name(), await startHolder(store), await startHolder(store)];
      await other.join(group, "stays");
      const batches = numbered("batch", 3).map((prefix) => numbered(`${prefix}-`, 900));
      for (const batch of batches) await holder.join(group, ...batch);
      await membership.end(holder.id);
      const half = await membership.reap(holder.id);
      ok(!half.isDone && half.lapsed.length > 0, "a call does a part of so much");
      deepEqual(await membership.lapsing(), [holder.id]);
      equal(await membership.join(group, holder.id, [member("late")], MANY), "lapsed");
      const removed = [...removalsOf(half), ...(await reapAll(await store.second(), holder.id))];
      deepEqual(removed.toSorted(), batches.flatMap((ids) => ids.map((id) => `${group}: left ${id}`)).toSorted());
      await expectMembers(store.backend, group, "stays");
      deepEqual(await membership.lapsing(), []);
    },
  },
  {
    title: "membership: whoever joins while its holder is reaped is refused, or removed as well",
    run: async (store) => {
      const [one, other] = [await store.second(), await store.second()];
      for (let round = 0; round < 10; round += 1) {
        const groups = numbered(store.name(), 20);
        const holder = await startHolder(store);
        // Some before, some meanwhile, some after.
        const joining = groups.map(async (group, index) => {
          for (let turns = 0; turns < index; turns += 1) await aTurn();
          return store.backend.membership.join(group, holder.id, [member("ada")], MANY);
        });
        await one.membership.end(holder.id);
        const removed = (await Promise.all([reapAll(one, holder.id), reapAll(other, holder.id)])).flat();
        const joined = await Promise.all(joining);
        removed.push(...(await reapAll(one, holder.id)));
        const expected = groups.filter((_, index) => joined[index] !== "lapsed").map((group) => `${group}: left ada`);
        deepEqual(removed.toSorted(), expected.toSorted());
        for (const group of groups) deepEqual(await membersOf(store.backend, group), []);
      }
    },
  },
  {
    title: "membership: many holders that lapse together are named and reaped, the oldest first",
    run: async (store) => {
      const { membership } = store.backend;
      const group = store.name();
      const lapsed: Holder[] = [];
      for (let index = 0; index < 120; index += 1) {
        const holder = await startHolder(store);
        await holder.join(group, `m${index}`);
        lapsed.push(holder);
      }
      await Promise.all(lapsed.map(({ id }) => membership.end(id)));
      const removed: string[] = [];
      for (let rounds = 0; rounds < 10; rounds += 1) {
        const names = await membership.lapsing();
        if (names.length === 0) break;
        for (const name of names) removed.push(...(await reapAll(store.backend, name)));
      }
      deepEqual(removed.toSorted(), lapsed.map((_, index) => `${group}: left m${index}`).toSorted());
      deepEqual(await listAll(store.backend, group), []);
      const next = await startLapsed(store);
      deepEqual(await membership.lapsing(), [next.id]);
    },
  },
];

/** Lets whatever is ready run. */
function aTurn(): Promise<void> {
  return new Promise((resolve) => {
    setImmediate(resolve);
  });
}

export const membershipReapCases: readonly ContractCase[] = [...leases, ...reaping];
