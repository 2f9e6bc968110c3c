/** Membership in numbers: large groups by pages, and a model under everything that can happen. */

import { deepEqual, equal, ok } from "node:assert/strict";
import type { Backend, MembershipChange, MemberPage } from "../core/backend.js";
import { MAX_MEMBERS_AT_ONCE, MAX_META_BYTES } from "../core/membership-limits.js";
import type { ContractCase, ContractStore } from "./contract.js";
import { first, numbered } from "./fixtures.js";
import { changesOf, type Holder, listAll, member, membersOf, memberText, reapAll, startHolder } from "./members.js";
import { createRandom } from "./random.js";

/** Joins so many members, as many as a call takes. */
async function fill(holder: Holder, group: string, ids: readonly string[]): Promise<void> {
  for (let from = 0; from < ids.length; from += MAX_MEMBERS_AT_ONCE)
    await holder.join(group, ...ids.slice(from, from + MAX_MEMBERS_AT_ONCE));
}

const paging: readonly ContractCase[] = [
  {
    title:
      "membership: a group of 100,000 is listed by pages, and whoever stays is there once while others come and go",
    run: async (store) => {
      const [group, holder, other] = [store.name(), await startHolder(store), await startHolder(store)];
      const ids = numbered("m", 100_000);
      await fill(holder, group, ids);
      const { membership } = await store.second();
      const seen: string[] = [];
      const left = new Set<string>();
      let cursor: string | undefined;
      let pages = 0;
      do {
        const page: MemberPage = await membership.list(group, { max: MAX_MEMBERS_AT_ONCE, cursor });
        seen.push(...page.members.map(({ id }) => id));
        cursor = page.cursor;
        // From the part that was listed, from the last member listed on, and from far behind.
        const going = [pages * 500, seen.length - 1, seen.length, 100_000 - 1 - pages].map((at) => ids[at] ?? "m1");
        await holder.leave(group, ...going);
        for (const id of going) left.add(id);
        await other.join(group, `new-${pages}`, `m${50_000 + pages}`);
        pages += 1;
      } while (cursor !== undefined);
      equal(new Set(seen).size, seen.length, "nobody is listed twice");
      const listed = new Set(seen);
      deepEqual(
        ids.filter((id) => !left.has(id) && !listed.has(id)),
        [],
        "whoever stays is listed",
      );
    },
  },
  {
    title: "membership: a page is what was asked for, goes on behind the last, and 0 only counts",
    run: async (store) => {
      const { membership } = store.backend;
      const [group, holder] = [store.name(), await startHolder(store)];
      await holder.join(group, "a", "b", "c", "d", "e");
      const one = await membership.list(group, { max: 2 });
      deepEqual([one.members.map(memberText), one.count], [["a", "b"], 5]);
      const two = await membership.list(group, { max: 2, cursor: one.cursor });
      const three = await membership.list(group, { max: 2, cursor: two.cursor });
      deepEqual([...two.members, ...three.members].map(memberText), ["c", "d", "e"]);
      equal(three.cursor, undefined);
      deepEqual(await membership.list(group, { max: 0 }), { version: one.version, count: 5, members: [] });
      await holder.join(group, "b=x");
      deepEqual(await membersOf(store.backend, group), ["a", "b=x", "c", "d", "e"], "a change keeps its place");
      await holder.leave(group, "b");
      await holder.join(group, "b");
      deepEqual(await membersOf(store.backend, group), ["a", "c", "d", "e", "b"]);
    },
  },
  {
    title: "membership: a group whose metas are all as large as they may be is listed whole",
    run: async (store) => {
      const [group, holder] = [store.name(), await startHolder(store)];
      const ids = numbered("m", 600);
      const meta = "x".repeat(MAX_META_BYTES);
      for (let from = 0; from < ids.length; from += 100)
        await holder.join(group, ...ids.slice(from, from + 100).map((id) => `${id}=${meta}`));
      const all = await listAll(await store.second(), group, MAX_MEMBERS_AT_ONCE);
      deepEqual(
        all.map(({ id }) => id),
        ids,
      );
      ok(all.every((one) => one.meta.length === MAX_META_BYTES));
    },
  },
];

const IDS = "a b c d e f g h".split(" ");

interface Seat {
  readonly text: string;
  readonly connections: number;
}

/** What a group should hold: for each member the seats that holders have, the one given last at the end. */
class Model {
  readonly #members = new Map<string, Map<string, Seat>>();

  joined(holder: string, text: string): string[] {
    const { id, meta, connections } = member(text);
    const seats = this.#members.get(id);
    const seat: Seat = { text: String(meta), connections };
    if (seats === undefined) {
      this.#members.set(id, new Map([[holder, seat]]));
      return [`joined ${this.#show(id)}`];
    }
    const before = seats.get(holder);
    if (before?.text === seat.text && before.connections === connections) return [];
    // Only a new meta counts as given anew.
    if (before?.text !== seat.text) seats.delete(holder);
    seats.set(holder, seat);
    return [`updated ${this.#show(id)}`];
  }

  left(holder: string, id: string): string[] {
    const shown = this.#show(id);
    const seats = this.#members.get(id);
    if (seats?.delete(holder) !== true) return [];
    if (seats.size > 0) return [`updated ${this.#show(id)}`];
    this.#members.delete(id);
    return [`left ${shown}`];
  }

  ended(holder: string): string[] {
    return [...this.#members.keys()].flatMap((id) => this.left(holder, id));
  }

  members(): string[] {
    return [...this.#members.keys()].map((id) => this.#show(id));
  }

  #show(id: string): string {
    const seats = [...(this.#members.get(id)?.values() ?? [])];
    const connections = seats.reduce((sum, seat) => sum + seat.connections, 0);
    const text = seats.at(-1)?.text ?? "";
    return id + (text === "" ? "" : `=${text}`) + (connections === 1 ? "" : `*${connections}`);
  }
}

/** Holders in two processes that come and go, in two groups, as chance has it. */
class Play {
  readonly #store: ContractStore;
  readonly #backends: readonly Backend[];
  readonly #models: ReadonlyMap<string, Model>;
  readonly #versions = new Map<string, number>();
  readonly #random = createRandom(20_261_120);
  #holders: Holder[] = [];

  constructor(store: ContractStore, backends: readonly Backend[]) {
    this.#store = store;
    this.#backends = backends;
    this.#models = new Map([store.name(), store.name()].map((group) => [group, new Model()]));
  }

  #pick<T>(list: readonly T[]): T {
    return first(list.slice(Math.floor(this.#random() * list.length)));
  }

  async run(steps: number): Promise<void> {
    for (let step = 0; step < steps; step += 1) {
      const [group, model] = this.#pick([...this.#models]);
      const chance = this.#random();
      if (this.#holders.length < 2 || (chance < 0.05 && this.#holders.length < 6)) {
        this.#holders.push(await startHolder(this.#store, this.#pick(this.#backends)));
      } else if (chance < 0.08) {
        await this.#end(this.#pick(this.#holders));
      } else if (chance < 0.6) {
        await this.#join(this.#pick(this.#holders), group, model);
      } else {
        await this.#leave(this.#pick(this.#holders), group, model);
      }
      if (step % 25 === 0) await this.#expectListed();
    }
    for (const holder of this.#holders) await this.#end(holder);
    await this.#expectListed();
  }

  async #join(holder: Holder, group: string, model: Model): Promise<void> {
    const texts = new Map(
      numbered("x", 1 + Math.floor(this.#random() * 4)).map(() => {
        const id = this.#pick(IDS);
        return [id, `${id}=${this.#pick(["here", "away"])}*${this.#pick([1, 2, 3])}`];
      }),
    );
    const joined = await holder.join(group, ...texts.values());
    this.#expectTold(
      group,
      joined,
      [...texts.values()].flatMap((text) => model.joined(holder.id, text)),
    );
  }

  async #leave(holder: Holder, group: string, model: Model): Promise<void> {
    const ids = new Set([this.#pick(IDS), this.#pick(IDS)]);
    const left = await holder.leave(group, ...ids);
    this.#expectTold(
      group,
      left,
      [...ids].flatMap((id) => model.left(holder.id, id)),
    );
  }

  async #end(holder: Holder): Promise<void> {
    this.#holders = this.#holders.filter((one) => one !== holder);
    await this.#pick(this.#backends).membership.end(holder.id);
    const removed = await reapAll(this.#pick(this.#backends), holder.id);
    const expected = [...this.#models].flatMap(([group, model]) => {
      return model.ended(holder.id).map((text) => `${group}: ${text}`);
    });
    deepEqual(removed.toSorted(), expected.toSorted());
    for (const [group] of this.#models) this.#versions.delete(group);
  }

  #expectTold(group: string, change: MembershipChange, expected: readonly string[]): void {
    deepEqual(changesOf(change), expected);
    const known = this.#versions.get(group);
    if (known !== undefined && change.from !== 0) equal(change.from, known);
    this.#versions.set(group, change.version);
  }

  async #expectListed(): Promise<void> {
    for (const [group, model] of this.#models) {
      deepEqual(await membersOf(this.#pick(this.#backends), group), model.members());
    }
  }
}

export const membershipPageCases: readonly ContractCase[] = [
  ...paging,
  {
    title: "membership: whatever holders do and however they end, each change is told once and the list is right",
    run: async (store) => {
      await new Play(store, [store.backend, await store.second()]).run(400);
    },
  },
];
