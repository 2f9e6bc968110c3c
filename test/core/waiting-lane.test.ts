/** Publishing that waits for room: order, halves, deadlines, aborts. Time stands still. */

import { describe, expect, test } from "vitest";
import { LimitError } from "../../src/index.js";
import { WaitingLane, type WaitingLaneOptions } from "../../src/core/waiting-lane.js";
import { createFakeClock } from "../../src/testing/index.js";

/** A store of which the test says how much room it has. */
function createStage(options: Partial<WaitingLaneOptions<number, string>> = {}) {
  const clock = createFakeClock();
  const stop = new AbortController();
  const stored: number[] = [];
  const tried: (readonly number[])[] = [];
  const failed: number[] = [];
  let room = 0;
  let failure: Error | undefined;
  const lane = new WaitingLane<number, string>({
    refusal: (error) => error,
    async store(items) {
      tried.push(items);
      if (failure !== undefined) throw failure;
      if (items.length > room) throw new LimitError("full", { retryable: true });
      room -= items.length;
      stored.push(...items);
      return items.map((item) => `r${item}`);
    },
    sizeOf: () => 1,
    maxItems: 4,
    maxBytes: 1_000,
    maxPending: 10,
    maxPendingBytes: 1_000,
    blockMs: 5_000,
    clock,
    failed: (count) => void failed.push(count),
    stop: stop.signal,
    ...options,
  });
  return {
    lane,
    clock,
    stop,
    stored,
    tried,
    failed,
    make: (count: number) => {
      room += count;
    },
    fail: (error: Error | undefined) => {
      failure = error;
    },
  };
}

/** What becomes of each, in the order in which it does. */
function watch(promises: readonly Promise<string>[]): string[] {
  const seen: string[] = [];
  for (const promise of promises) {
    promise.then(
      (result) => seen.push(result),
      (error: unknown) => seen.push(error instanceof Error ? `${error.name}: ${error.message}` : String(error)),
    );
  }
  return seen;
}

describe("a lane that waits for room", () => {
  test("stores what fits, and the rest as soon as there is room again, in order", async () => {
    const { lane, clock, make, stored, tried } = createStage();
    make(3);
    const seen = watch([1, 2, 3, 4, 5].map((item) => lane.add(item, undefined)));
    await clock.advance(0);
    // By halves: a batch that does not fit whole is no reason to store nothing.
    expect(stored).toEqual([1, 2, 3]);
    expect(seen).toEqual(["r1", "r2", "r3"]);
    expect(lane.isIdle).toBe(false);
    const late = watch([lane.add(6, undefined)]);
    make(3);
    await clock.advance(250);
    expect(stored).toEqual([1, 2, 3, 4, 5, 6]);
    expect([...seen, ...late]).toEqual(["r1", "r2", "r3", "r4", "r5", "r6"]);
    expect(tried[0]).toEqual([1, 2, 3, 4]);
    await lane.idle();
    expect(lane.isIdle).toBe(true);
  });

  test("looks again every quarter of a second at least, however long it has waited", async () => {
    const { lane, clock, make, stored, tried } = createStage({ blockMs: 1_000_000 });
    watch([lane.add(1, undefined)]);
    await clock.advance(100_000);
    // At ten milliseconds at first: not so often that it is a burden.
    expect(tried.length).toBeGreaterThan(400);
    expect(tried.length).toBeLessThan(1_000);
    make(1);
    await clock.advance(250);
    expect(stored).toEqual([1]);
  });

  test("refuses what has waited for blockMs, with what the store said", async () => {
    const { lane, clock, failed, stored } = createStage();
    const first = watch([lane.add(1, undefined)]);
    await clock.advance(3_000);
    const second = watch([lane.add(2, undefined)]);
    await clock.advance(1_999);
    expect(first).toEqual([]);
    await clock.advance(1);
    expect(first).toEqual(["LimitError: no room within blockMs (5000): full"]);
    expect(second).toEqual([]);
    await clock.advance(3_000);
    expect(second).toHaveLength(1);
    expect([stored, failed]).toEqual([[], [1, 1]]);
    expect(lane.isIdle).toBe(true);
  });

  test("never stores what was given up while it waited", async () => {
    const { lane, clock, make, stored } = createStage();
    const signals = Array.from({ length: 5 }, () => new AbortController());
    watch(signals.map(({ signal }, item) => lane.add(item, signal)));
    await clock.advance(100);
    for (const index of [0, 2, 4]) signals[index]?.abort();
    make(5);
    await clock.advance(250);
    expect(stored).toEqual([1, 3]);
    await lane.idle();
  });

  test("any other failure is the batch's own, and those behind it go on", async () => {
    const { lane, clock, fail, make, stored } = createStage({ maxItems: 2 });
    const seen = watch([1, 2, 3].map((item) => lane.add(item, undefined)));
    fail(new Error("connection lost"));
    await new Promise((resolve) => process.nextTick(resolve));
    fail(undefined);
    make(1);
    await clock.advance(250);
    expect(seen).toEqual(["Error: connection lost", "Error: connection lost", "r3"]);
    expect(stored).toEqual([3]);
  });

  test("a limit that no room would help against is no reason to wait", async () => {
    const { lane, clock, stored, fail, make } = createStage();
    const never = new LimitError("too big", { retryable: false });
    fail(never);
    const seen = watch([lane.add(1, undefined)]);
    await clock.advance(0);
    expect(seen).toEqual(["LimitError: too big"]);
    fail(undefined);
    make(1);
    watch([lane.add(2, undefined)]);
    await clock.advance(0);
    expect(stored).toEqual([2]);
  });

  test("whoever hears that there was no room may publish again at once", async () => {
    const { lane, clock, stored, make } = createStage({ blockMs: 0 });
    const again = lane.add(1, undefined).catch(() => {
      make(1);
      return lane.add(2, undefined);
    });
    const seen = watch([again]);
    await clock.advance(0);
    expect([seen, stored]).toEqual([["r2"], [2]]);
    expect(lane.isIdle).toBe(true);
  });

  test("once it is stopped nothing waits any more, and nothing is stored", async () => {
    const { lane, clock, stop, make, stored } = createStage();
    const seen = watch([lane.add(1, undefined), lane.add(2, undefined)]);
    await clock.advance(100);
    stop.abort();
    make(2);
    await lane.idle();
    expect(seen.map((text) => text.split(":")[0])).toEqual(["ClosedError", "ClosedError"]);
    expect([stored, clock.pending()]).toEqual([[], 0]);
  });

  test("refuses to let more wait than it may", async () => {
    const { lane, stop } = createStage({ maxPending: 2 });
    watch([lane.add(1, undefined), lane.add(2, undefined)]);
    await expect(lane.add(3, undefined)).rejects.toMatchObject({ code: "LIMIT", retryable: true });
    stop.abort();
    await lane.idle();
  });
});
