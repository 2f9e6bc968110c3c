/** The consumer loop against a feed that the test plays: slots, leases, failures, draining. Time stands still. */

import { describe, expect, test } from "vitest";
import type { Delivery, Feed, Outcome, Receipt, Taken, TakeRequest } from "../../src/core/backend.js";
import { nextTurn } from "../../src/core/clock.js";
import { Consumer } from "../../src/core/consumer.js";
import type { ConsumerOptions } from "../../src/core/consumer-options.js";
import type { Run } from "../../src/core/run.js";
import { ACK, type Verdict } from "../../src/core/outcome.js";
import { NotFoundError } from "../../src/index.js";
import { createFakeClock } from "../../src/testing/index.js";
import { until } from "../support/wait.js";

interface Call {
  readonly want: TakeRequest;
  readonly outcomes: readonly Outcome[];
  answer(taken?: Partial<Taken>): void;
  fail(error: Error): void;
}

const EMPTY: Taken = { deliveries: [], lost: [], gone: 0, expired: 0, poisoned: 0 };

/** A feed whose calls the test answers, and a consumer on it whose handlers the test finishes. */
function createStage(options: Partial<ConsumerOptions> = {}) {
  const clock = createFakeClock();
  const calls: Call[] = [];
  const extended: (readonly Receipt[])[] = [];
  let lostLeases: readonly Receipt[] = [];
  let closed = 0;
  const feed: Feed = {
    take: (want, outcomes) =>
      new Promise((resolve, reject) => {
        const answer = (taken: Partial<Taken> = {}): void => resolve({ ...EMPTY, ...taken });
        calls.push({ want, outcomes, answer, fail: reject });
        // It ends a wait, and nothing else.
        if (want.waitMs > 0) want.signal?.addEventListener("abort", () => answer(), { once: true });
      }),
    async extend(receipts) {
      extended.push(receipts);
      return lostLeases;
    },
    async close() {
      closed += 1;
    },
  };
  const running = new Map<string, { run: Run; finish(verdict?: Verdict): void }>();
  const failures: unknown[] = [];
  const ended: unknown[] = [];
  let opened = 0;
  const consumer = new Consumer({
    open: async () => {
      opened += 1;
      return feed;
    },
    handle: ({ position }, run) =>
      new Promise((resolve) => running.set(position, { run, finish: (verdict = ACK) => resolve(verdict) })),
    concurrency: 2,
    leaseMs: 3_000,
    clock,
    events: {
      handled: () => undefined,
      taken: () => undefined,
      settled: () => undefined,
      lost: () => undefined,
      failing: (error) => void failures.push(error),
      recovered: () => undefined,
      ended: (error) => void ended.push(error),
    },
    ...options,
  });
  return {
    clock,
    calls,
    extended,
    running,
    failures,
    ended,
    consumer,
    loseLeases: (receipts: readonly Receipt[]) => {
      lostLeases = receipts;
    },
    opened: () => opened,
    closed: () => closed,
    /** Closes the consumer, whatever runs and whoever does not answer. */
    end: async () => {
      const closing = consumer.close(0);
      await clock.advance(60_000);
      await closing;
    },
    next: (index: number) => until(() => calls[index], { what: `call ${index} of the feed` }),
  };
}

const delivery = (position: string): Delivery => ({
  receipt: `r${position}`,
  position,
  attempt: 1,
  header: "1\u001fid",
  data: new Uint8Array(),
});

const many = (from: number, count: number): Delivery[] =>
  Array.from({ length: count }, (_, index) => delivery(`${from + index}`));

describe("the consumer loop", () => {
  test("fetches as many as there are free slots, and settles together with the next fetch", async () => {
    const stage = createStage();
    await stage.consumer.start();
    const first = await stage.next(0);
    expect([first.want.max, first.want.waitMs > 0, first.outcomes]).toEqual([2, true, []]);
    first.answer({ deliveries: [delivery("a"), delivery("b")] });
    await until(() => stage.running.size === 2);
    stage.running.get("a")?.finish();
    stage.running.get("b")?.finish({ as: "retry", delayMs: 5, counted: true });
    const second = await stage.next(1);
    expect(second.want.max).toBe(2);
    expect(second.outcomes).toEqual([
      { receipt: "ra", as: "ack" },
      { receipt: "rb", as: "retry", delayMs: 5, counted: true },
    ]);
    second.answer();
    await until(() => stage.consumer.stats().settled === 2);
    await stage.consumer.close(0);
  });

  test("settles at once while a fetch waits for messages", async () => {
    const stage = createStage();
    await stage.consumer.start();
    (await stage.next(0)).answer({ deliveries: [delivery("a")] });
    const waiting = await stage.next(1);
    expect(waiting.want.max).toBe(1);
    stage.running.get("a")?.finish();
    const settling = await stage.next(2);
    expect(settling.want).toMatchObject({ max: 0, waitMs: 0 });
    expect(settling.outcomes).toEqual([{ receipt: "ra", as: "ack" }]);
    settling.answer();
    await until(() => stage.consumer.stats().settled === 1);
    await stage.consumer.close(0);
  });

  test("has two fetches under way while much is waiting, never for more than there are slots, and one once there is less", async () => {
    /** By position: how many calls there had been when its handler began. */
    const callsBefore = new Map<string, number>();
    const handle = async ({ position }: Delivery): Promise<Verdict> => {
      callsBefore.set(position, stage.calls.length);
      return ACK;
    };
    const stage = createStage({ concurrency: 64, handle });
    await stage.consumer.start();
    const first = await stage.next(0);
    expect([first.want.max, first.want.waitMs > 0]).toEqual([32, true]);
    first.answer({ deliveries: many(0, 32) });
    const [one, two] = [await stage.next(1), await stage.next(2)];
    expect([one, two].map(({ want, outcomes }) => [want, outcomes.length])).toMatchObject([
      [{ max: 32, waitMs: 0 }, 32],
      [{ max: 32, waitMs: 0 }, 0],
    ]);
    // In the order in which they were asked for; what comes together is asked for apart.
    two.answer({ deliveries: many(64, 32) });
    one.answer({ deliveries: many(32, 32) });
    const [three, four] = [await stage.next(3), await stage.next(4)];
    expect([three, four].map(({ want, outcomes }) => [want.max, outcomes.length])).toEqual([
      [32, 32],
      [32, 32],
    ]);
    expect(["32", "63", "64", "95"].map((position) => callsBefore.get(position))).toEqual([3, 3, 4, 4]);
    three.answer({ deliveries: many(96, 5) });
    four.answer();
    // There is no more: one fetch, which waits.
    const five = await stage.next(5);
    expect([five.want, five.outcomes.length]).toMatchObject([{ max: 32, waitMs: 2_000 }, 5]);
    five.answer();
    const six = await stage.next(6);
    expect([six.want.waitMs, stage.calls.length, stage.consumer.stats().settled]).toEqual([2_000, 7, 101]);
    await stage.consumer.close(0);
  });

  test("fetches as many as there are free slots, and starts what comes at once, while handlers take their time", async () => {
    const stage = createStage({ concurrency: 64 });
    await stage.consumer.start();
    (await stage.next(0)).answer({ deliveries: many(0, 32) });
    const second = await stage.next(1);
    expect(second.want.max).toBe(32);
    for (const position of ["0", "1", "2"]) stage.running.get(position)?.finish();
    second.answer({ deliveries: many(32, 32) });
    const third = await stage.next(2);
    expect([third.want.max, third.outcomes.length, stage.running.size]).toEqual([3, 3, 64]);
    third.answer();
    await stage.end();
  });

  test("what a fetch brings after a stop is not started, and goes back at once", async () => {
    const stage = createStage({ concurrency: 64 });
    await stage.consumer.start();
    (await stage.next(0)).answer({ deliveries: many(0, 32) });
    const late = await stage.next(1);
    const closing = stage.consumer.close(60_000);
    late.answer({ deliveries: many(32, 32) });
    const back = await stage.next(2);
    expect([back.want.max, stage.running.size, stage.closed()]).toEqual([0, 32, 0]);
    expect(back.outcomes).toEqual(
      many(32, 32).map(({ receipt }) => ({ receipt, as: "retry", delayMs: 0, counted: false })),
    );
    back.answer();
    for (const { finish } of stage.running.values()) finish();
    (await stage.next(3)).answer();
    await closing;
    // What was not started counts for nothing.
    expect([stage.consumer.stats().settled, stage.closed()]).toEqual([32, 1]);
  });

  test("a stop waits for both fetches", async () => {
    const stage = createStage({ concurrency: 64, handle: async () => ACK });
    await stage.consumer.start();
    (await stage.next(0)).answer({ deliveries: many(0, 32) });
    const [one, two] = [await stage.next(1), await stage.next(2)];
    const closing = stage.consumer.close(5_000);
    two.answer({ deliveries: many(64, 32) });
    one.answer({ deliveries: many(32, 32) });
    const back = await stage.next(3);
    expect(back.outcomes.map(({ receipt }) => receipt)).toEqual(many(32, 64).map(({ receipt }) => receipt));
    back.answer();
    await closing;
    expect(stage.closed()).toBe(1);
  });

  test("while nothing can be settled nothing is taken beside it, and it counts as failing", async () => {
    const stage = createStage({ concurrency: 64, handle: async () => ACK });
    await stage.consumer.start();
    (await stage.next(0)).answer({ deliveries: many(0, 32) });
    const [settling, taking] = [await stage.next(1), await stage.next(2)];
    settling.fail(new Error("no permission"));
    taking.answer({ deliveries: many(32, 32) });
    await until(() => stage.failures.length === 1);
    for (let round = 0; round < 3; round += 1) {
      await stage.clock.advance(1_000);
      const again = await stage.next(3 + round);
      expect([again.outcomes.length, stage.consumer.stats().state]).toEqual([64, "failing"]);
      again.fail(new Error("no permission"));
      await until(() => stage.failures.length === 2 + round);
    }
    await stage.clock.advance(1_000);
    const last = await stage.next(6);
    expect([last.want.max, last.outcomes.length, stage.calls.length]).toEqual([32, 64, 7]);
    last.answer();
    await until(() => stage.consumer.stats().state === "running");
    await stage.end();
  });

  test("settling that fails is not forgotten because another call, made before, comes through", async () => {
    // The first 32 end when the test says so, the others after two turns: so two calls at once have outcomes.
    const first: ((verdict: Verdict) => void)[] = [];
    const handle = async ({ position }: Delivery): Promise<Verdict> => {
      if (Number(position) < 32) return await new Promise((resolve) => first.push(resolve));
      await nextTurn();
      await nextTurn();
      return ACK;
    };
    const stage = createStage({ concurrency: 64, handle });
    await stage.consumer.start();
    (await stage.next(0)).answer({ deliveries: many(0, 32) });
    const second = await stage.next(1);
    for (const finish of first) finish(ACK);
    second.answer({ deliveries: many(32, 32) });
    const [refused, well] = [await stage.next(2), await stage.next(3)];
    expect([refused.outcomes.length, well.outcomes.length]).toEqual([32, 32]);
    refused.fail(new Error("no permission"));
    await until(() => stage.failures.length === 1);
    well.answer({ deliveries: many(64, 32) });
    await until(() => stage.consumer.stats().settled === 32);
    expect(stage.consumer.stats().state).toBe("failing");
    await stage.clock.advance(1_000);
    const again = await stage.next(4);
    expect(again.outcomes[0]).toEqual({ receipt: "r0", as: "ack" });
    again.answer();
    await until(() => stage.consumer.stats().state === "running");
    await stage.end();
  });

  test("what a feed had brought that is given up is not started", async () => {
    const stage = createStage({ concurrency: 64, handle: async () => ACK });
    await stage.consumer.start();
    (await stage.next(0)).answer({ deliveries: many(0, 32) });
    const [, second] = [await stage.next(1), await stage.next(2)];
    second.answer({ deliveries: many(32, 32) });
    await stage.clock.advance(16_000);
    await until(() => stage.failures.length === 1);
    await stage.clock.advance(1_000);
    const again = await stage.next(3);
    // Of the first answer alone.
    expect([again.outcomes.length, again.want.max, stage.opened()]).toEqual([32, 32, 2]);
    await stage.end();
  });

  test("has two fetches under way with an odd number of slots as well", async () => {
    const stage = createStage({ concurrency: 33, handle: async () => ACK });
    await stage.consumer.start();
    (await stage.next(0)).answer({ deliveries: many(0, 16) });
    expect([(await stage.next(1)).want.max, (await stage.next(2)).want.max]).toEqual([16, 16]);
    const closing = stage.consumer.close(0);
    for (const { answer } of stage.calls) answer();
    await stage.clock.advance(60_000);
    await closing;
  });

  test("all calls of a feed end with it: the next is of another, however late they were made", async () => {
    const stage = createStage({ concurrency: 64, handle: async () => ACK });
    await stage.consumer.start();
    (await stage.next(0)).answer({ deliveries: many(0, 32) });
    const [one] = [await stage.next(1), await stage.next(2)];
    await stage.clock.advance(10_000);
    one.answer({ deliveries: many(32, 32) });
    await stage.next(3);
    await stage.clock.advance(6_000);
    await until(() => stage.failures.length === 2);
    await stage.clock.advance(1_000);
    const again = await stage.next(4);
    expect([again.outcomes.length, stage.opened(), stage.closed()]).toEqual([32, 2, 1]);
    await stage.end();
  });

  test("fetches ahead of handlers that never wait, runs no more than there are slots, and gives back what would wait long", async () => {
    const slow = new Map<string, (verdict: Verdict) => void>();
    let isSlow = false;
    let handled = 0;
    const handle = async ({ position }: Delivery): Promise<Verdict> => {
      if (isSlow) return await new Promise((resolve) => slow.set(position, resolve));
      handled += 1;
      return ACK;
    };
    const stage = createStage({ concurrency: 64, fetchAhead: true, handle });
    await stage.consumer.start();
    (await stage.next(0)).answer({ deliveries: many(0, 32) });
    // As many as there are slots, and as many again before an answer has come.
    const [one, two] = [await stage.next(1), await stage.next(2)];
    expect([one.want.max, one.outcomes.length, two.want.max, two.outcomes.length]).toEqual([64, 32, 64, 0]);
    isSlow = true;
    one.answer({ deliveries: many(32, 64) });
    await until(() => slow.size === 64);
    two.answer({ deliveries: many(96, 64) });
    slow.get("32")?.(ACK);
    const settling = await stage.next(3);
    expect([settling.want.max, settling.outcomes]).toEqual([0, [{ receipt: "r32", as: "ack" }]]);
    settling.answer();
    await until(() => slow.size === 65);
    expect([handled, stage.consumer.stats().running]).toEqual([32, 64]);
    await stage.clock.advance(1_000);
    const back = await stage.next(4);
    expect(back.outcomes).toEqual(
      many(97, 63).map(({ receipt }) => ({ receipt, as: "retry", delayMs: 0, counted: false })),
    );
    back.answer();
    await stage.end();
  });

  test("renews the leases of all running handlers in one call, and aborts the handler whose lease is lost", async () => {
    const stage = createStage();
    await stage.consumer.start();
    (await stage.next(0)).answer({ deliveries: [delivery("a"), delivery("b")] });
    await until(() => stage.running.size === 2);
    await stage.clock.advance(1_000);
    expect(stage.extended).toEqual([["ra", "rb"]]);
    stage.loseLeases(["ra"]);
    await stage.clock.advance(1_000);
    const lost = stage.running.get("a")?.run.signal;
    expect(lost?.aborted).toBe(true);
    expect(lost?.reason).toMatchObject({ code: "LEASE_LOST" });
    expect(stage.running.get("b")?.run.signal.aborted).toBe(false);
    // Its outcome is no longer anybody's business.
    stage.running.get("a")?.finish();
    stage.running.get("b")?.finish();
    const settling = await stage.next(1);
    expect(settling.outcomes).toEqual([{ receipt: "rb", as: "ack" }]);
    await stage.consumer.close(0);
  });

  test("keeps outcomes over a failure, backs off, and says that it fails until it does not", async () => {
    const stage = createStage();
    await stage.consumer.start();
    (await stage.next(0)).answer({ deliveries: [delivery("a")] });
    stage.calls[1]?.answer();
    await until(() => stage.running.size === 1);
    (await stage.next(1)).answer();
    stage.running.get("a")?.finish();
    const broken = await until(() => stage.calls.find(({ outcomes }) => outcomes.length === 1));
    broken.fail(new Error("connection reset"));
    await until(() => stage.failures.length === 1);
    expect(stage.consumer.stats().state).toBe("failing");
    const before = stage.calls.length;
    await stage.clock.advance(1_000);
    const again = await until(() => stage.calls.slice(before).find(({ outcomes }) => outcomes.length === 1));
    expect(again.outcomes).toEqual([{ receipt: "ra", as: "ack" }]);
    again.answer();
    await until(() => stage.consumer.stats().state === "running");
    await stage.consumer.close(0);
  });

  test("gives up a feed that never answers, and opens another: silently dead does not exist", async () => {
    const stage = createStage();
    await stage.consumer.start();
    await stage.next(0);
    await stage.clock.advance(20_000);
    await until(() => stage.failures.length > 0);
    expect(stage.failures[0]).toMatchObject({ code: "TIMEOUT" });
    await stage.clock.advance(1_000);
    await stage.next(1);
    expect([stage.opened(), stage.closed()]).toEqual([2, 1]);
    await stage.consumer.close(0);
  });

  test("close waits for handlers, settles what they return, then gives the feed back", async () => {
    const stage = createStage();
    await stage.consumer.start();
    (await stage.next(0)).answer({ deliveries: [delivery("a")] });
    await until(() => stage.running.size === 1);
    const closing = stage.consumer.close(5_000);
    expect(stage.consumer.stats().state).toBe("draining");
    stage.running.get("a")?.finish();
    const settling = await until(() => stage.calls.find(({ outcomes }) => outcomes.length === 1));
    expect(stage.closed()).toBe(0);
    settling.answer();
    await closing;
    expect([stage.closed(), stage.consumer.stats().state, stage.consumer.stats().settled]).toEqual([1, "closed", 1]);
  });

  test("close aborts what has not finished in time, and its late outcome goes nowhere", async () => {
    const stage = createStage();
    await stage.consumer.start();
    (await stage.next(0)).answer({ deliveries: [delivery("a")] });
    await until(() => stage.running.size === 1);
    const closing = stage.consumer.close(1_000);
    await stage.clock.advance(1_000);
    await closing;
    const { run, finish } = stage.running.get("a") ?? {};
    expect(run?.signal.aborted).toBe(true);
    finish?.();
    expect(stage.calls.filter(({ outcomes }) => outcomes.length > 0)).toEqual([]);
    expect(stage.closed()).toBe(1);
  });

  test("the first failure to open is the caller's", async () => {
    const stage = createStage({ open: () => Promise.reject(new Error("no such group")) });
    await expect(stage.consumer.start()).rejects.toThrow("no such group");
  });

  test("ends by itself once its group is deleted: says so once, aborts its handlers, and asks no more", async () => {
    const stage = createStage();
    await stage.consumer.start();
    (await stage.next(0)).answer({ deliveries: [delivery("a")] });
    await until(() => stage.running.size === 1);
    const gone = new NotFoundError("the group was deleted");
    (await stage.next(1)).fail(gone);
    await until(() => stage.ended.length === 1);
    await stage.clock.advance(10);
    await until(() => stage.closed() === 1);
    expect(stage.ended).toEqual([gone]);
    expect(stage.consumer.stats().state).toBe("ended");
    expect(stage.failures).toEqual([]);
    expect(stage.running.get("a")?.run.signal.reason).toBe(gone);
    const calls = stage.calls.length;
    stage.running.get("a")?.finish();
    await stage.clock.advance(60_000);
    expect(stage.calls.length).toBe(calls);
    await stage.consumer.close(0);
  });

  test("outcomes of a group that was deleted are dropped, also while it drains: whoever gave one hears why", async () => {
    const stage = createStage();
    await stage.consumer.start();
    (await stage.next(0)).answer({ deliveries: [delivery("a")] });
    await until(() => stage.running.size === 1);
    const { run, finish } = stage.running.get("a") ?? {};
    const told: unknown[] = [];
    if (run !== undefined) run.onSettled = (failure) => void told.push(failure);
    const closing = stage.consumer.close(5_000);
    finish?.();
    const settling = await until(() => stage.calls.find(({ outcomes }) => outcomes.length === 1));
    const gone = new NotFoundError("the group was deleted");
    settling.fail(gone);
    await closing;
    expect(told).toEqual([gone]);
    expect(stage.calls.filter(({ outcomes }) => outcomes.length > 0)).toHaveLength(1);
  });

  test("goes by the lease that is stored: one that was made shorter is renewed as often as it needs", async () => {
    let leaseMs = 30_000;
    const stage = createStage({ leaseMs, currentLeaseMs: async () => leaseMs });
    await stage.consumer.start();
    (await stage.next(0)).answer({ deliveries: [delivery("a")] });
    await until(() => stage.running.size === 1);
    await stage.clock.advance(1);
    leaseMs = 3_000;
    await stage.clock.advance(9_999);
    expect(stage.extended).toHaveLength(1);
    await stage.clock.advance(3_000);
    expect(stage.extended).toHaveLength(4);
    await stage.end();
  });

  test("learns of another lease with what it takes, and asks once a second at most", async () => {
    let leaseMs = 30_000;
    let asked = 0;
    const currentLeaseMs = async (): Promise<number> => {
      asked += 1;
      return leaseMs;
    };
    const stage = createStage({ leaseMs, currentLeaseMs });
    await stage.consumer.start();
    (await stage.next(0)).answer({ deliveries: [delivery("a")] });
    await until(() => stage.running.size === 1);
    await stage.clock.advance(1);
    expect(asked).toBe(1);
    leaseMs = 1_500;
    (await stage.next(1)).answer({ deliveries: [delivery("b")] });
    await until(() => stage.running.size === 2);
    await stage.clock.advance(999);
    expect([asked, stage.extended.length]).toEqual([1, 0]);
    await stage.clock.advance(1);
    expect(asked).toBe(2);
    await stage.clock.advance(500);
    expect(stage.extended).toEqual([["ra", "rb"]]);
    await stage.end();
    expect(stage.clock.pending()).toBe(0);
  });

  test("a renewal does not wait for the question what the lease is by now", async () => {
    const stage = createStage({ leaseMs: 9_000, currentLeaseMs: () => new Promise(() => undefined) });
    await stage.consumer.start();
    (await stage.next(0)).answer({ deliveries: [delivery("a")] });
    await until(() => stage.running.size === 1);
    await stage.clock.advance(9_000);
    expect(stage.extended).toHaveLength(3);
    await stage.end();
  });

  test("where no lease is stored it goes by the one that it had: whether the group is lost or deleted, a fetch tells", async () => {
    const stage = createStage({ leaseMs: 9_000, currentLeaseMs: async () => undefined });
    await stage.consumer.start();
    (await stage.next(0)).answer({ deliveries: [delivery("a")] });
    await until(() => stage.running.size === 1);
    await stage.clock.advance(9_000);
    expect([stage.extended.length, stage.ended, stage.consumer.stats().state]).toEqual([3, [], "running"]);
    await stage.end();
  });
});
