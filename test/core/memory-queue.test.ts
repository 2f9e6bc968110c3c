/** What the memory backend's queues do beyond the contract that all backends share. */

import { expect, test } from "vitest";
import { createHeap } from "../../src/backends/memory/heap.js";
import { openMemory } from "../../src/backends/memory/index.js";
import { Levels } from "../../src/backends/memory/levels.js";
import { MemoryQueue } from "../../src/backends/memory/memory-queue.js";
import type { BackendContext, NewItem } from "../../src/core/backend.js";
import { DEDUPE_MAX_IDS, DEDUPE_WINDOW_MS } from "../../src/core/limits.js";
import { MAX_RECIPIENTS } from "../../src/core/queue-port.js";
import { createFakeClock } from "../../src/testing/index.js";

const clock = createFakeClock();
const context: BackendContext = { namespace: "n", clock, report: () => undefined };
const LIMITS = { maxItems: 1_000_000 };
const unheard = (): void => undefined;

function item(id: string, more: Partial<NewItem> = {}): NewItem {
  return { id, recipient: "", header: "h", data: "x", priority: 0, delayMs: 0, ...more };
}

function numbered(prefix: string, count: number): string[] {
  return Array.from({ length: count }, (_, index) => `${prefix}${index}`);
}

test("an id that its giver chose is remembered for ten minutes, and not for ever", async () => {
  const { queue } = await openMemory({}, context);
  const once = async (id: string): Promise<boolean | undefined> => {
    const [pushed] = await queue.push("q", [item(id, { dedupe: true })], LIMITS);
    await queue.acknowledge("q", "", [id]);
    return pushed?.duplicate;
  };
  expect(await once("id")).toBe(false);
  await clock.advance(DEDUPE_WINDOW_MS - 1);
  expect(await once("other")).toBe(false);
  expect(await once("id")).toBe(true);
  await clock.advance(2 * DEDUPE_WINDOW_MS);
  expect(await once("id")).toBe(false);
});

test("of very many chosen ids the last hundred thousand are remembered, and at most twice as many", async () => {
  const { queue } = await openMemory({}, context);
  const duplicates = async (ids: readonly string[]): Promise<number> => {
    const pushed = await queue.push(
      "q",
      ids.map((id) => item(id, { dedupe: true })),
      LIMITS,
    );
    await queue.acknowledge("q", "", ids);
    return pushed.filter(({ duplicate }) => duplicate).length;
  };
  const ids = numbered("id ", 2.5 * DEDUPE_MAX_IDS);
  for (let start = 0; start < ids.length; start += 5_000) await duplicates(ids.slice(start, start + 5_000));
  expect(await duplicates(ids.slice(-DEDUPE_MAX_IDS))).toBe(DEDUPE_MAX_IDS);
  expect(await duplicates(ids.slice(0, 1_000))).toBe(0);
});

test("a queue has a hundred thousand recipients and no more, until one of them goes", async () => {
  const { queue } = await openMemory({}, context);
  const registration = { ttlMs: 60_000, isAudience: false };
  for (const recipient of numbered("r", MAX_RECIPIENTS)) await queue.register("q", recipient, registration);
  await expect(queue.register("q", "one more", registration)).rejects.toMatchObject({ code: "LIMIT" });
  const consumer = { consumer: "c", leaseMs: 1_000, maxAttempts: 1, maxDeadLetters: 1, registration };
  await expect(queue.open("q", "one more", consumer)).rejects.toMatchObject({ code: "LIMIT" });
  // Who is known may register again.
  await queue.register("q", "r0", registration);
  await queue.unregister("q", "r1");
  await queue.register("q", "one more", registration);
});

test("recipients that come and go leave nothing behind", () => {
  const queue = new MemoryQueue("q");
  for (const recipient of numbered("r", 5_000)) {
    queue.register(recipient, { ttlMs: 1_000_000_000, isAudience: true }, 0, unheard);
    queue.push([item(`for ${recipient}`, { recipient })], LIMITS, 0, unheard);
    expect(queue.unregister(recipient, 0, unheard)).toBe(true);
  }
  expect([queue.inboxes.size, queue.items.size]).toEqual([0, 0]);
});

test("what is delayed for long and finished by its id leaves nothing behind", () => {
  const queue = new MemoryQueue("q");
  for (const id of numbered("id ", 5_000)) {
    queue.push([item(id, { delayMs: 1_000_000_000, ttlMs: 2_000_000_000 })], LIMITS, 0, unheard);
    expect(queue.acknowledge("", id, 0)).toBe(true);
  }
  expect(queue.inboxOf("").list.parkedWork().length).toBeLessThan(200);
});

test("a heap that was pruned gives the rest in order", () => {
  const heap = createHeap<number>((a, b) => a < b);
  const numbers = Array.from({ length: 500 }, (_, index) => (index * 7_919) % 1_000);
  for (const number of numbers) heap.push(number);
  heap.prune((number) => number % 3 === 0);
  const rest: number[] = [];
  for (let next = heap.pop(); next !== undefined; next = heap.pop()) rest.push(next);
  expect(rest).toEqual(numbers.filter((number) => number % 3 !== 0).toSorted((a, b) => a - b));
});

test("levels keep their order and their count, whatever ends in the middle of them or comes back", () => {
  const levels = new Levels<{ priority: number; arrival: number; isWaiting: boolean }>();
  const entries = Array.from({ length: 2_000 }, (_, arrival) => ({ priority: arrival % 3, arrival, isWaiting: true }));
  for (const entry of entries) levels.add(entry);
  const taken = entries.slice(0, 300).map(() => levels.next("strict"));
  for (const entry of entries.filter(({ arrival, priority }) => arrival % 2 === 0 && priority < 2)) {
    entry.isWaiting = false;
    levels.ended(entry);
  }
  for (const entry of taken.toReversed()) if (entry !== undefined) levels.add(entry);
  const expected = entries
    .filter(({ isWaiting }) => isWaiting)
    .toSorted((a, b) => b.priority - a.priority || a.arrival - b.arrival);
  expect(levels.size).toBe(expected.length);
  expect(levels.oldest).toBe(expected.reduce((oldest, one) => (one.arrival < oldest.arrival ? one : oldest)));
  expect([...levels.inOrder()]).toEqual(expected);
  expect([...levels.leastUrgentFirst()].map(({ priority }) => priority)).toEqual(
    expected.map(({ priority }) => priority).toReversed(),
  );
  expect(expected.map(() => levels.next("strict"))).toEqual(expected);
  expect([levels.size, levels.next("strict"), levels.next("weighted")]).toEqual([0, undefined, undefined]);
});
