/** Reading a watcher's changes, however many come at once and whatever goes wrong on the way. */

import { expect, test } from "vitest";
import type { KnownChange, KnownMember } from "../../src/core/group-news.js";
import type { ViewListener } from "../../src/core/group-view.js";
import type { PresentMember } from "../../src/presence/member.js";
import { PresenceWatch } from "../../src/presence/watch.js";

function changesOf(count: number): KnownChange[] {
  const numbers = Array.from({ length: count }, (_, index) => index);
  return numbers.map((index) => ({
    kind: "joined",
    member: { id: `m${index}`, meta: "null", connections: 1, joinedAt: 1, lastSeen: 1 },
  }));
}

/** A watch of a presence with nobody in it, which has told that. */
async function openWatch(
  tell: (member: KnownMember) => PresentMember = (member) => member,
): Promise<{ readonly watch: PresenceWatch; readonly listener: ViewListener; readonly isClosed: () => boolean }> {
  const listeners: ViewListener[] = [];
  let isClosed = false;
  const watch = new PresenceWatch({
    async start(listener) {
      listeners.push(listener);
      return { members: new Map(), close: async () => void (isClosed = true) };
    },
    toPresent: tell,
    buffer: 1_000,
    merged: () => undefined,
    report: () => undefined,
    ended: () => undefined,
    signal: undefined,
  });
  await watch.next();
  return { watch, listener: listeners[0]!, isClosed: () => isClosed };
}

/** Counts how often the event loop comes round, until it is told to stop. */
function countTurns(): { readonly stop: () => number } {
  let turns = 0;
  let next = setImmediate(function again() {
    turns += 1;
    next = setImmediate(again);
  });
  return {
    stop() {
      clearImmediate(next);
      return turns;
    },
  };
}

test("very many changes at once are all told, in their order, while other things go on", async () => {
  const { watch, listener } = await openWatch();
  const changes = changesOf(200_000);
  listener.changed(changes);
  const turns = countTurns();
  for (const { member } of changes) {
    const { value } = await watch.next();
    if (value?.kind !== "joined" || value.member.id !== member.id) expect(value).toMatchObject({ member });
  }
  expect(turns.stop()).toBeGreaterThan(100);
  await watch.close();
});

test("changes that come while others are read are told behind them", async () => {
  const { watch, listener } = await openWatch();
  const changes = changesOf(6_000);
  const told: string[] = [];
  for (let at = 0; at < 3_000; at += 500) {
    listener.changed(changes.slice(2 * at, 2 * at + 1_000));
    for (let read = 0; read < 900; read += 1) told.push((await nextOf(watch)) ?? "none");
  }
  while (told.length < changes.length) told.push((await nextOf(watch)) ?? "none");
  expect(told).toEqual(changes.map(({ member }) => member.id));
  await watch.close();
});

test("who asks for several changes at the same time gets them in the order in which they were asked for", async () => {
  const { watch, listener } = await openWatch();
  const changes = changesOf(1_000);
  const asked = changes.map(() => nextOf(watch));
  listener.changed(changes);
  expect(await Promise.all(asked)).toEqual(changes.map(({ member }) => member.id));
  await watch.close();
});

test("what next() throws ends the watching", async () => {
  const failure = new Error("cannot be told");
  const { watch, listener, isClosed } = await openWatch(() => {
    throw failure;
  });
  listener.changed(changesOf(1));
  await expect(watch.next()).rejects.toBe(failure);
  expect(isClosed()).toBe(true);
  expect(await watch.next()).toEqual({ done: true, value: undefined });
});

async function nextOf(watch: PresenceWatch): Promise<string | undefined> {
  const { value } = await watch.next();
  return value === undefined || value.kind === "snapshot" ? undefined : value.member.id;
}
