/** Coalescing: what leaves together, what waits, and what a failure does. */

import { describe, expect, test } from "vitest";
import { Batcher, type BatcherOptions } from "../../src/core/batcher.js";

interface Flight {
  readonly items: readonly number[];
  land(): void;
  crash(error: Error): void;
}

function createBatcher(limits: Partial<BatcherOptions<number, string>> = {}) {
  const flights: Flight[] = [];
  const batcher = new Batcher<number, string>({
    refusal: (error) => error,
    flush: (items) =>
      new Promise((resolve, reject) => {
        flights.push({ items, land: () => resolve(items.map((item) => `r${item}`)), crash: reject });
      }),
    sizeOf: (item) => item,
    maxItems: 3,
    maxBytes: 1_000,
    maxInFlight: 2,
    maxPending: 10,
    maxPendingBytes: 1_000_000,
    ...limits,
  });
  return { batcher, flights };
}

/** Two turns: one in which an answer arrives, one in which what waited for it leaves. */
const tick = async (): Promise<void> => {
  for (let turn = 0; turn < 2; turn += 1) await new Promise((resolve) => setImmediate(resolve));
};

describe("a batcher", () => {
  test("sends what is added in one tick together, and a lone item at once", async () => {
    const { batcher, flights } = createBatcher();
    const results = Promise.all([batcher.add(1), batcher.add(2)]);
    await tick();
    expect(flights.map(({ items }) => items)).toEqual([[1, 2]]);
    flights[0]?.land();
    expect(await results).toEqual(["r1", "r2"]);
  });

  test("collects while one is under way, and sends early only what is full", async () => {
    const { batcher, flights } = createBatcher();
    const all = [batcher.add(1)];
    await tick();
    all.push(batcher.add(2), batcher.add(3));
    await tick();
    expect(flights).toHaveLength(1);
    all.push(batcher.add(4));
    await tick();
    expect(flights.map(({ items }) => items)).toEqual([[1], [2, 3, 4]]);
    all.push(batcher.add(5), batcher.add(6), batcher.add(7), batcher.add(8));
    await tick();
    expect(flights).toHaveLength(2);
    flights[0]?.land();
    await tick();
    expect(flights[2]?.items).toEqual([5, 6, 7]);
    for (const flight of flights) flight.land();
    await tick();
    flights[3]?.land();
    expect(await Promise.all(all)).toEqual(["r1", "r2", "r3", "r4", "r5", "r6", "r7", "r8"]);
    await batcher.idle();
  });

  test("cuts a batch by bytes, but always sends one item", async () => {
    const { batcher, flights } = createBatcher({ maxBytes: 10, maxInFlight: 9 });
    void batcher.add(50);
    void batcher.add(6);
    void batcher.add(6);
    await tick();
    // The third is no full batch: it waits for one of the others.
    expect(flights.map(({ items }) => items)).toEqual([[50], [6]]);
    flights[0]?.land();
    await tick();
    expect(flights.map(({ items }) => items)).toEqual([[50], [6]]);
    flights[1]?.land();
    await tick();
    expect(flights[2]?.items).toEqual([6]);
  });

  test("a failed batch fails its own items, and the next goes on", async () => {
    const { batcher, flights } = createBatcher();
    const failed = [batcher.add(1), batcher.add(2)].map((promise) => promise.catch((error: unknown) => error));
    await tick();
    const next = batcher.add(3);
    const reason = new Error("gone");
    flights[0]?.crash(reason);
    expect(await Promise.all(failed)).toEqual([reason, reason]);
    await tick();
    flights[1]?.land();
    expect(await next).toBe("r3");
  });

  test("refuses more than may wait", async () => {
    const { batcher } = createBatcher({ maxPending: 2 });
    void batcher.add(1);
    void batcher.add(2);
    await expect(batcher.add(3)).rejects.toMatchObject({ code: "LIMIT", retryable: true });
  });
});
