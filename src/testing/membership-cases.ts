/** Membership: who joins, changes and leaves, what is told of it, and what is found again. */

import { deepEqual, equal, ok } from "node:assert/strict";
import type { Member } from "../core/backend.js";
import { MAX_GROUPS_AT_ONCE, MAX_LEASE_MS, MAX_MEMBERS_AT_ONCE, MAX_META_BYTES } from "../core/membership-limits.js";
import type { ContractCase, ContractStore } from "./contract.js";
import { first, numbered, rejectsWith } from "./fixtures.js";
import {
  changesOf,
  expectMembers,
  listAll,
  MANY,
  member,
  membersOf,
  memberText,
  reapAll,
  startHolder,
  versionOf,
} from "./members.js";
import { AWKWARD, forEachName } from "./name-cases.js";

const coming: readonly ContractCase[] = [
  {
    title: "membership: a member joins, changes and leaves, and each call tells what it has changed",
    run: async (store) => {
      const [group, holder] = [store.name(), await startHolder(store)];
      deepEqual(changesOf(await holder.join(group, "ada", "bob=busy*3")), ["joined ada", "joined bob=busy*3"]);
      await expectMembers(store.backend, group, "ada", "bob=busy*3");
      deepEqual(changesOf(await holder.join(group, "ada=away", "cleo")), ["updated ada=away", "joined cleo"]);
      await expectMembers(await store.second(), group, "ada=away", "bob=busy*3", "cleo");
      deepEqual(changesOf(await holder.leave(group, "bob", "ada")), ["left bob=busy*3", "left ada=away"]);
      await expectMembers(store.backend, group, "cleo");
      deepEqual(changesOf(await holder.join(group, "ada")), ["joined ada"]);
      await expectMembers(store.backend, group, "cleo", "ada");
    },
  },
  {
    title: "membership: joining again with the same meta and connections changes nothing",
    run: async (store) => {
      const [group, holder] = [store.name(), await startHolder(store)];
      const { version } = await holder.join(group, "ada=away*2", "bob");
      const again = await holder.join(group, "bob", "ada=away*2");
      deepEqual([again.from, again.version, changesOf(again)], [version, version, []]);
      deepEqual(changesOf(await holder.join(group, "ada=away*2", "bob=x")), ["updated bob=x"]);
    },
  },
  {
    title: "membership: versions grow by one with each change, and a call tells the one before it",
    run: async (store) => {
      const [group, one] = [store.name(), await startHolder(store)];
      const other = await startHolder(store, await store.second());
      const calls = [
        await one.join(group, "ada", "bob"),
        await other.join(group, "ada=x", "cleo"),
        await one.leave(group, "bob", "nobody"),
        await other.leave(group, "ada"),
        await one.join(group, "ada"),
        await other.leave(group, "cleo", "dan"),
      ];
      deepEqual(
        calls.map(({ changes }) => changes.length),
        [2, 2, 1, 1, 0, 1],
      );
      equal(first(calls).from, 0);
      for (const [index, call] of calls.entries()) {
        if (index > 0) equal(call.from, calls[index - 1]?.version, "it goes on where the one before has ended");
        // The first of a group begins anywhere; the changes of a call have the versions before its last.
        if (index > 0 && call.changes.length === 0) equal(call.version, call.from);
        else ok(call.version >= call.from + call.changes.length, "each change counts one");
      }
      equal(await versionOf(store.backend, group), calls.at(-1)?.version);
    },
  },
  {
    title: "membership: a member stays until its last holder leaves, and shows what was given last",
    run: async (store) => {
      const group = store.name();
      const phone = await startHolder(store);
      const laptop = await startHolder(store, await store.second());
      await phone.join(group, "ada=away");
      deepEqual(changesOf(await laptop.join(group, "ada=online*2")), ["updated ada=online*3"]);
      // Only how often: what is shown stays the laptop's.
      deepEqual(changesOf(await phone.join(group, "ada=away*2")), ["updated ada=online*4"]);
      deepEqual(changesOf(await phone.join(group, "ada=back*2")), ["updated ada=back*4"]);
      await expectMembers(store.backend, group, "ada=back*4");
      deepEqual(changesOf(await phone.leave(group, "ada")), ["updated ada=online*2"]);
      deepEqual(changesOf(await laptop.leave(group, "ada")), ["left ada=online*2"]);
      await expectMembers(store.backend, group);
    },
  },
  {
    title: "membership: leaving is each holder's own, and what others hold stays as it is",
    run: async (store) => {
      const group = store.name();
      const [one, other] = [await startHolder(store), await startHolder(store, await store.second())];
      const { version } = await one.join(group, "ada", "bob");
      deepEqual(changesOf(await other.leave(group, "ada", "nobody")), []);
      deepEqual(changesOf(await other.leave(store.name(), "ada")), []);
      equal(await versionOf(store.backend, group), version);
      await expectMembers(store.backend, group, "ada", "bob");
    },
  },
  {
    title: "membership: an id that comes twice in one call is taken one after the other",
    run: async (store) => {
      const [group, holder] = [store.name(), await startHolder(store)];
      deepEqual(changesOf(await holder.join(group, "ada=1", "bob", "ada=2")), [
        "joined ada=1",
        "joined bob",
        "updated ada=2",
      ]);
      await expectMembers(store.backend, group, "ada=2", "bob");
      deepEqual(changesOf(await holder.leave(group, "ada", "ada")), ["left ada=2"]);
      await expectMembers(store.backend, group, "bob");
    },
  },
  {
    title: "membership: an unknown group is empty, and has no version",
    run: async (store) => {
      const { membership } = store.backend;
      const group = store.name();
      deepEqual(await membership.list(group, { max: 10 }), { version: 0, count: 0, members: [] });
      deepEqual(await membership.find(group, ["ada"]), []);
      deepEqual(await membership.versions([group], "nobody"), [{ version: 0, held: 0 }]);
      const { changes, from, version } = await membership.leave(group, "nobody", ["ada"]);
      deepEqual([changes, from, version], [[], 0, 0]);
    },
  },
  {
    title: "membership: versions of a group do not come again when it was empty",
    run: async (store) => {
      const [group, holder] = [store.name(), await startHolder(store)];
      const seen: number[] = [];
      for (let round = 0; round < 5; round += 1) {
        seen.push((await holder.join(group, "ada")).version, (await holder.leave(group, "ada")).version);
      }
      deepEqual(
        seen,
        [...new Set(seen)].toSorted((a, b) => a - b),
      );
    },
  },
  {
    title: "membership: what is found is in the order asked, without those who are no members",
    run: async (store) => {
      const [group, holder] = [store.name(), await startHolder(store)];
      await holder.join(group, "ada=1", "bob=2*2", "cleo=3");
      const { membership } = await store.second();
      const found = await membership.find(group, ["cleo", "dan", "ada", "Bob", "bob"]);
      deepEqual(found.map(memberText), ["cleo=3", "ada=1", "bob=2*2"]);
      deepEqual(found, await Promise.all(found.map(async ({ id }) => first(await membership.find(group, [id])))));
      deepEqual(await membership.find(group, []), []);
    },
  },
  {
    title: "membership: times are the store's, from the first join on, with each change",
    run: async (store) => {
      const [group, one, other] = [store.name(), await startHolder(store), await startHolder(store)];
      const before = await store.now();
      const joined = first((await one.join(group, "ada")).changes).member;
      ok(joined.joinedAt >= before && joined.joinedAt <= (await store.now()));
      equal(joined.lastSeen, joined.joinedAt);
      await store.elapse(30);
      const updated = first((await other.join(group, "ada=x")).changes).member;
      equal(updated.joinedAt, joined.joinedAt);
      ok(updated.lastSeen >= joined.lastSeen + 30 && updated.lastSeen <= (await store.now()));
      deepEqual(await listAll(store.backend, group), [updated]);
      await one.leave(group, "ada");
      await store.elapse(30);
      const left = first((await other.leave(group, "ada")).changes).member;
      equal(left.joinedAt, joined.joinedAt);
      ok(left.lastSeen >= updated.lastSeen + 30 && left.lastSeen <= (await store.now()));
    },
  },
  {
    title: "membership: metas come out as they went in",
    run: async (store) => {
      const { membership } = store.backend;
      const [group, holder] = [store.name(), await startHolder(store)];
      const metas = ["", " ", "a\nb", "1 2 3 ", "\0", "é😀", "x".repeat(MAX_META_BYTES), Uint8Array.of(0, 10, 32, 255)];
      const members = metas.map((meta, index) => ({ id: `m${index}`, meta, connections: 1 }));
      await membership.join(group, holder.id, members, MANY);
      const expected = metas.map((meta) => [...Buffer.from(meta)]);
      const bytesOf = (found: readonly Member[]): number[][] => found.map(({ meta }) => [...meta]);
      deepEqual(bytesOf(await listAll(store.backend, group)), expected);
      const ids = members.map(({ id }) => id);
      deepEqual(bytesOf(await membership.find(group, ids)), expected);
      const { changes } = await membership.leave(group, holder.id, ids);
      deepEqual(bytesOf(changes.map(({ member }) => member)), expected);
    },
  },
  {
    title: "membership: what the caller does to a meta's bytes afterwards changes nothing",
    run: async (store) => {
      const { membership } = store.backend;
      const [group, holder] = [store.name(), await startHolder(store)];
      const meta = Uint8Array.of(1, 2, 3);
      await membership.join(group, holder.id, [{ id: "ada", meta, connections: 1 }], MANY);
      meta.fill(9);
      const [found] = await membership.find(group, ["ada"]);
      deepEqual([...(found?.meta ?? [])], [1, 2, 3]);
      found?.meta.fill(8);
      deepEqual([...(first(await membership.find(group, ["ada"])).meta ?? [])], [1, 2, 3]);
    },
  },
  {
    title: "membership: versions tell where groups stand, and which call of a holder they know as its last",
    run: async (store) => {
      const { membership } = await store.second();
      const [busy, quiet, left] = [store.name(), store.name(), store.name()];
      const [one, other] = [await startHolder(store), await startHolder(store)];
      const held = [await one.join(busy, "ada", "bob"), await one.join(quiet, "ada"), await one.leave(busy, "bob")];
      const { version } = await other.join(busy, "ada=x");
      ok(held.every((call) => call.version > 0));
      await one.join(left, "ada");
      await one.leave(left, "ada");
      const [ofBusy, ofQuiet, ofLeft, ofUnknown] = await membership.versions([busy, quiet, left, "unknown"], one.id);
      deepEqual(ofBusy, { version, held: held[2]?.version });
      deepEqual(ofQuiet, { version: held[1]?.version, held: held[1]?.version });
      equal(ofLeft?.version, await versionOf(store.backend, left));
      deepEqual(ofUnknown, { version: 0, held: 0 });
      equal(first(await membership.versions([quiet], other.id)).held, 0);
      deepEqual(await membership.versions([], one.id), []);
    },
  },
];

/** Everything that is beyond a limit, and how it is refused. */
function excessesOf(store: ContractStore, group: string, holder: string): Record<string, () => Promise<unknown>> {
  const { membership } = store.backend;
  const tooMany = (max: number): string[] => numbered("m", max + 1);
  return {
    "INVALID_ARGUMENT members": () => membership.join(group, holder, tooMany(MAX_MEMBERS_AT_ONCE).map(member), MANY),
    "INVALID_ARGUMENT connections": () => membership.join(group, holder, [member("ada"), member("bob*0")], MANY),
    "INVALID_ARGUMENT id": () => membership.join(group, holder, [member("ada"), member("")], MANY),
    "LIMIT meta": () =>
      membership.join(group, holder, [member("ada"), member(`bob=${"é".repeat(MAX_META_BYTES / 2)}x`)], MANY),
    "INVALID_ARGUMENT ids to leave": () => membership.leave(group, holder, tooMany(MAX_MEMBERS_AT_ONCE)),
    "INVALID_ARGUMENT ids to find": () => membership.find(group, tooMany(MAX_MEMBERS_AT_ONCE)),
    "INVALID_ARGUMENT page": () => membership.list(group, { max: MAX_MEMBERS_AT_ONCE + 1 }),
    "INVALID_ARGUMENT page below 0": () => membership.list(group, { max: -1 }),
    "INVALID_ARGUMENT cursor": () => membership.list(group, { max: 1, cursor: "behind ada" }),
    "INVALID_ARGUMENT groups": () => membership.versions(tooMany(MAX_GROUPS_AT_ONCE), holder),
    "INVALID_ARGUMENT lease": () => membership.begin(store.name(), MAX_LEASE_MS + 1),
    "INVALID_ARGUMENT no lease": () => membership.renew(holder, 0),
  };
}

const bounds: readonly ContractCase[] = [
  {
    title: "membership: a full group refuses who is new by name, and goes on with those who are members",
    run: async (store) => {
      const { membership } = store.backend;
      const [group, one, other] = [store.name(), await startHolder(store), await startHolder(store)];
      await one.join(group, "ada", "bob");
      const more = ["cleo", "ada=x", "dan", "eve"].map(member);
      const joined = await membership.join(group, other.id, more, { maxMembers: 3 });
      ok(joined !== "lapsed");
      deepEqual(
        [joined.refused, changesOf(joined)],
        [
          ["dan", "eve"],
          ["joined cleo", "updated ada=x*2"],
        ],
      );
      await expectMembers(store.backend, group, "ada=x*2", "bob", "cleo");
      await one.leave(group, "bob");
      const again = await membership.join(group, other.id, [member("dan"), member("eve")], { maxMembers: 3 });
      ok(again !== "lapsed");
      deepEqual([again.refused, changesOf(again)], [["eve"], ["joined dan"]]);
    },
  },
  {
    title: "membership: what is beyond a limit is refused whole, and changes nothing",
    run: async (store) => {
      const [group, holder] = [store.name(), await startHolder(store)];
      for (const [excess, call] of Object.entries(excessesOf(store, group, holder.id)))
        await rejectsWith(excess.startsWith("LIMIT") ? "LIMIT" : "INVALID_ARGUMENT", call, excess);
      await expectMembers(store.backend, group);
      const ids = numbered("m", MAX_MEMBERS_AT_ONCE);
      equal((await holder.join(group, ...ids)).changes.length, ids.length);
      deepEqual((await store.backend.membership.find(group, ids)).map(memberText), ids);
      equal((await store.backend.membership.list(group, { max: MAX_MEMBERS_AT_ONCE })).members.length, ids.length);
      equal((await holder.leave(group, ...ids)).changes.length, ids.length);
      await expectMembers(store.backend, group);
    },
  },
];

const apart: readonly ContractCase[] = [
  {
    title: "membership: groups, holders and ids of awkward names stay apart",
    run: async (store) => {
      const { membership } = store.backend;
      const shared = store.name();
      await forEachName(async (name) => {
        await membership.begin(name, MAX_LEASE_MS);
        const members = [{ id: name, meta: name, connections: 1 }];
        for (const group of [name, shared]) await membership.join(group, name, members, MANY);
      });
      await forEachName(async (name) => {
        deepEqual(await membersOf(store.backend, name), [memberText(await only(store, name, name))], name);
        equal((await only(store, shared, name)).connections, 1, name);
        equal(first(await membership.versions([name], name)).held, await versionOf(store.backend, name), name);
      });
      const isEnded = (name: string): boolean => AWKWARD.indexOf(name) % 2 === 0;
      await forEachName(async (name) => {
        if (!isEnded(name)) return;
        await membership.end(name);
        await reapAll(store.backend, name);
      });
      const left = (await listAll(store.backend, shared)).map(({ id }) => id);
      deepEqual(left.toSorted(), AWKWARD.filter((name) => !isEnded(name)).toSorted());
      await forEachName(async (name) => {
        equal(await membership.renew(name, MAX_LEASE_MS), isEnded(name) ? "lapsed" : "held", name);
        equal((await membership.find(name, [name])).length, isEnded(name) ? 0 : 1, name);
      });
    },
  },
  {
    title: "membership: namespaces never see each other, though all names are the same",
    run: async (store) => {
      const others = [await store.second({ namespace: "other" }), await store.second({ namespace: "other:same" })];
      const backends = [store.backend, ...others];
      for (const [index, { membership }] of backends.entries()) {
        await membership.begin("same", MAX_LEASE_MS);
        await membership.join("same", "same", [member(`same=${index}`)], MANY);
      }
      await store.backend.membership.end("same");
      deepEqual(await reapAll(first(others), "same"), [], "it is another holder");
      for (const [index, backend] of backends.entries()) {
        await expectMembers(backend, "same", `same=${index}`);
        deepEqual(await backend.membership.lapsing(), index === 0 ? ["same"] : []);
      }
    },
  },
];

/** The one member of that id. */
async function only(store: ContractStore, group: string, id: string): Promise<Member> {
  const found = await store.backend.membership.find(group, [id]);
  equal(found.length, 1, id);
  return first(found);
}

export const membershipCases: readonly ContractCase[] = [...coming, ...bounds, ...apart];
