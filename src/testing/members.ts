/** The vocabulary of the membership cases: holders, members as short texts, and what a call has changed. */

import { deepEqual, equal, ok } from "node:assert/strict";
import type { Backend, Joined, Member, MembershipChange, NewMember, Reaped } from "../core/backend.js";
import type { ContractStore } from "./contract.js";
import { LONG_LEASE_MS, textOf } from "./fixtures.js";
import { eventually } from "./waiting.js";

export const MANY: { readonly maxMembers: number } = { maxMembers: 1_000_000 };

/** `"ada"`, `"ada=away"`, `"ada=away*2"`: an id, its meta, and for how many connections. */
export function member(text: string): NewMember {
  const [, id = "", meta = "", connections = "1"] = /^([^=*]*)(?:=([^*]*))?(?:\*(\d+))?$/.exec(text) ?? [];
  return { id, meta, connections: Number(connections) };
}

/** A member as {@link member} reads it. */
export function memberText({ id, meta, connections }: Member): string {
  const text = textOf({ data: meta });
  return id + (text === "" ? "" : `=${text}`) + (connections === 1 ? "" : `*${connections}`);
}

/** `"joined ada=away"` each. */
export function changesOf({ changes }: MembershipChange): string[] {
  return changes.map(({ kind, member }) => `${kind} ${memberText(member)}`);
}

export interface Holder {
  readonly id: string;
  readonly backend: Backend;
  /** Joins, and expects not to be refused. */
  join(group: string, ...members: readonly string[]): Promise<Joined>;
  leave(group: string, ...ids: readonly string[]): Promise<MembershipChange>;
}

export async function startHolder(
  store: ContractStore,
  backend: Backend = store.backend,
  leaseMs: number = LONG_LEASE_MS,
): Promise<Holder> {
  const id = store.name();
  const { membership } = backend;
  await membership.begin(id, leaseMs);
  return {
    id,
    backend,
    async join(group, ...members) {
      const joined = await membership.join(group, id, members.map(member), MANY);
      ok(joined !== "lapsed", `${id} has not lapsed`);
      deepEqual(joined.refused, []);
      return joined;
    },
    leave: (group, ...ids) => membership.leave(group, id, ids),
  };
}

/** A holder that has given up its lease. */
export async function startLapsed(store: ContractStore, backend: Backend = store.backend): Promise<Holder> {
  const holder = await startHolder(store, backend);
  await holder.backend.membership.end(holder.id);
  return holder;
}

/** All members in their order, read in pages. */
export async function listAll(backend: Backend, group: string, max: number = 100): Promise<Member[]> {
  const all: Member[] = [];
  let cursor: string | undefined;
  for (let pages = 0; pages < 10_000; pages += 1) {
    const page = await backend.membership.list(group, { max, cursor });
    ok(page.members.length <= max, "a page holds at most what was asked for");
    all.push(...page.members);
    cursor = page.cursor;
    if (cursor === undefined) return all;
  }
  throw new Error("the pages never end");
}

export async function membersOf(backend: Backend, group: string): Promise<string[]> {
  return (await listAll(backend, group)).map(memberText);
}

export async function expectMembers(backend: Backend, group: string, ...expected: readonly string[]): Promise<void> {
  deepEqual(await membersOf(backend, group), expected);
  equal((await backend.membership.list(group, { max: 0 })).count, expected.length);
}

/** Reaps until nothing is left of the holder. @returns what was removed, such as `"lobby: left ada"` */
export async function reapAll(backend: Backend, holder: string): Promise<string[]> {
  const removed: string[] = [];
  for (let calls = 0; calls < 1_000; calls += 1) {
    const { lapsed, isDone } = await backend.membership.reap(holder);
    removed.push(...removalsOf({ lapsed, isDone }));
    if (isDone) return removed;
  }
  throw new Error("there is no end to what is reaped");
}

export function removalsOf({ lapsed }: Reaped): string[] {
  return lapsed.flatMap(({ group, change }) => changesOf(change).map((text) => `${group}: ${text}`));
}

/** Waits until the holder's lease is over, by the store's clock. */
export async function untilLapsing(store: ContractStore, holder: string): Promise<void> {
  const isLapsing = async (): Promise<boolean> => (await store.backend.membership.lapsing()).includes(holder);
  await eventually(store, isLapsing, `the end of the lease of ${holder}`);
}

export async function versionOf(backend: Backend, group: string): Promise<number> {
  return (await backend.membership.list(group, { max: 0 })).version;
}
