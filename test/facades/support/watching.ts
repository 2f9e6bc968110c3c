/** What a watcher of a presence has seen, written down; and a broker that might as well be dead. */

import { expect } from "vitest";
import { type Clock, type Presence, type PresenceChange, type PresentMember, systemClock } from "../../../src/index.js";
import { until } from "../../support/wait.js";

export interface Watcher {
  /** `"snapshot ada bob"`, `"joined ada"`, `"updated ada"`, `"left ada"`. */
  readonly seen: readonly string[];
  readonly changes: readonly PresenceChange[];
  /** Who is present, as the changes have it. */
  readonly present: ReadonlyMap<string, PresentMember>;
  /** Changes that do not follow from what was known, and why it ended by itself where it failed. */
  readonly problems: readonly string[];
  /** How often `left` came for this member. */
  lefts(id: string): number;
  stop(): Promise<void>;
  /** Whether there is more to come. */
  isOpen(): boolean;
  /** Resolves when it has ended by itself. */
  readonly ended: Promise<void>;
}

/** Watches until it is stopped; in force once this resolves. */
export async function watching(presence: Presence, options: { readonly buffer?: number } = {}): Promise<Watcher> {
  const changes: PresenceChange[] = [];
  const seen: string[] = [];
  const problems: string[] = [];
  const present = new Map<string, PresentMember>();
  const watch = presence.watch(options);
  const take = (change: PresenceChange): void => {
    changes.push(change);
    if (change.kind === "snapshot") {
      seen.push(["snapshot", ...change.members.map(({ id }) => id)].join(" "));
      present.clear();
      for (const member of change.members) present.set(member.id, member);
      return;
    }
    const { kind, member } = change;
    seen.push(`${kind} ${member.id}`);
    // Each change follows from what is known: nobody joins twice, and nobody leaves who is not there.
    if (present.has(member.id) === (kind === "joined")) problems.push(`${kind} ${member.id}, out of order`);
    if (kind === "left") present.delete(member.id);
    else present.set(member.id, member);
  };
  const first = await watch.next();
  if (first.done === true) throw new Error("the watching ended before it began");
  take(first.value);
  let isOpen = true;
  const ended = (async () => {
    for await (const change of watch) take(change);
    isOpen = false;
  })();
  ended.catch((error: unknown) => problems.push(String(error)));
  return {
    seen,
    changes,
    present,
    problems,
    lefts: (id) => seen.filter((text) => text === `left ${id}`).length,
    stop: () => watch.close(),
    isOpen: () => isOpen,
    ended,
  };
}

/** The clock of a process that hangs: nothing that it waits for ever comes. */
export function hangingClock(): Clock {
  return { now: () => systemClock.now(), setTimer: () => ({ cancel: () => undefined }) };
}

/** Waits until each watcher has seen so many things. */
export async function seenBy(watchers: readonly Watcher[], count: number, deadlineMs: number = 5_000): Promise<void> {
  await until(() => watchers.every(({ seen }) => seen.length >= count), {
    deadlineMs,
    what: `${count} things to be seen`,
  });
  expect(watchers.flatMap(({ problems }) => problems)).toEqual([]);
}
