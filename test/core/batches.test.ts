/** Batches: when they start, what their handlers settle, and what becomes of the rest. Time stands still. */

import { describe, expect, test } from "vitest";
import { type BatchContext, type BatchHandler, type Batching, createBatchRunner } from "../../src/core/batches.js";
import { nextTurn } from "../../src/core/clock.js";
import { Codecs } from "../../src/core/codecs.js";
import type { Delivery as Held } from "../../src/core/delivery.js";
import { createRunner, type Decoding, type Handle, type Handler } from "../../src/core/handler.js";
import { PASSED_BY, type Verdict } from "../../src/core/outcome.js";
import { DEFAULT_RETRY } from "../../src/core/retry.js";
import { Run } from "../../src/core/run.js";
import { ClosedError, jsonCodec, LeaseLostError, retry } from "../../src/index.js";
import { createFakeClock } from "../../src/testing/index.js";

const clock = createFakeClock();
const policy = { ...DEFAULT_RETRY, initialMs: 50, jitter: 0 };
const decoding: Decoding = {
  channel: "numbers",
  codecs: new Codecs({ namespace: "default", codec: jsonCodec, transforms: [] }),
  readerFor: () => (data) => data,
  isForOthers: undefined,
};

/** Hands deliveries to a runner, as the consumer would, and notes what they come to. */
function createStage(handle: Handle) {
  const runs: Run[] = [];
  const stopping = new AbortController();
  const verdicts: (Verdict | undefined)[] = [];
  return {
    runs,
    stopping,
    verdicts,
    give(data: unknown, { attempt = 1, header = "1\u001fid" } = {}): Run {
      const index = runs.length;
      const delivery = {
        receipt: `r${index}`,
        position: String(index),
        attempt,
        header,
        data: Buffer.from(typeof data === "string" ? data : JSON.stringify(data)),
      };
      const run = new Run(delivery, clock.now(), { stopping: stopping.signal, extend: async () => undefined });
      runs.push(run);
      verdicts.push(undefined);
      void handle(delivery, run).then((verdict) => {
        verdicts[index] = verdict;
        run.onSettled?.(run.failure);
      });
      return run;
    },
    outcomes: () => verdicts.map((verdict) => verdict?.as),
  };
}

function batchStage(handler: BatchHandler<unknown>, options: Partial<Batching> = {}) {
  const reported: unknown[] = [];
  const handle = createBatchRunner(decoding, handler, {
    policy,
    clock,
    timeoutMs: undefined,
    max: 3,
    waitMs: 20,
    concurrency: 1,
    report: (error) => void reported.push(error),
    ...options,
  });
  return { ...createStage(handle), reported };
}

/** A handler whose batches the test finishes. */
function heldHandler() {
  const batches: {
    readonly data: readonly unknown[];
    readonly deliveries: readonly Held[];
    readonly context: BatchContext;
    finish(value?: unknown): void;
    fail(error: Error): void;
  }[] = [];
  const handler: BatchHandler<unknown> = (deliveries, context) =>
    new Promise((resolve, reject) => {
      batches.push({ data: deliveries.map(({ data }) => data), deliveries, context, finish: resolve, fail: reject });
    });
  return { batches, handler };
}

describe("a batch", () => {
  test("starts at once when it is full, otherwise when its first delivery has waited", async () => {
    const { batches, handler } = heldHandler();
    const stage = batchStage(handler);
    for (const number of [1, 2, 3]) stage.give(number);
    await clock.advance(0);
    expect(batches.map(({ data }) => data)).toEqual([[1, 2, 3]]);
    batches[0]?.finish();
    await clock.advance(0);
    stage.give(4);
    await clock.advance(10);
    stage.give(5);
    await clock.advance(9);
    expect(batches).toHaveLength(1);
    await clock.advance(1);
    expect(batches[1]?.data).toEqual([4, 5]);
    expect(stage.outcomes()).toEqual(["ack", "ack", "ack", undefined, undefined]);
    batches[1]?.finish();
    await clock.advance(0);
    expect(clock.pending()).toBe(0);
  });

  test("waits for those that run, and takes all that has gathered meanwhile", async () => {
    const { batches, handler } = heldHandler();
    const stage = batchStage(handler, { concurrency: 2 });
    for (let number = 0; number < 9; number += 1) stage.give(number);
    await clock.advance(1_000);
    expect(batches.map(({ data }) => data)).toEqual([
      [0, 1, 2],
      [3, 4, 5],
    ]);
    stage.give(9);
    batches[1]?.finish();
    await clock.advance(0);
    expect(batches[2]?.data).toEqual([6, 7, 8]);
    batches[0]?.finish();
    await clock.advance(20);
    expect(batches[3]?.data).toEqual([9]);
  });

  test("settles each as its handler says; returning acknowledges the rest", async () => {
    const stage = batchStage(async (deliveries) => {
      await deliveries[0]?.retry({ delayMs: 7 });
      void deliveries[1]?.deadLetter("no good");
    });
    for (const number of [1, 2, 3]) stage.give(number);
    await clock.advance(0);
    expect(stage.verdicts).toEqual([
      { as: "retry", delayMs: 7, counted: true },
      { as: "deadLetter", reason: { kind: "rejected", message: "no good" } },
      { as: "ack" },
    ]);
  });

  test("throwing retries what is left, each by its own attempts, and leaves what was settled", async () => {
    const stage = batchStage((deliveries) => {
      void deliveries[0]?.ack();
      throw new RangeError("too many eggs");
    });
    stage.give(1);
    stage.give(2, { attempt: 2 });
    stage.give(3, { attempt: 3 });
    await clock.advance(0);
    expect(stage.verdicts).toMatchObject([
      { as: "ack" },
      { as: "retry", delayMs: 100, counted: true },
      { as: "deadLetter", reason: { kind: "failed", message: "RangeError: too many eggs" } },
    ]);
    expect(stage.reported).toEqual([]);
  });

  test("an outcome that is returned is that of all that are left", async () => {
    const stage = batchStage((deliveries) => {
      void deliveries[0]?.ack();
      return retry({ delayMs: 3 });
    });
    for (const number of [1, 2, 3]) stage.give(number);
    await clock.advance(0);
    expect(stage.outcomes()).toEqual(["ack", "retry", "retry"]);
  });

  test("a delay that is none is a failed attempt, also where nobody looks, and no acknowledgement", async () => {
    const told: unknown[] = [];
    const stage = batchStage(async (deliveries) => {
      void deliveries[0]?.retry({ delayMs: Number.NaN });
      void deliveries[1]?.defer({ delayMs: -5 });
      await deliveries[2]?.retry({ delayMs: 2 ** 40 }).catch((error: unknown) => told.push(error));
    });
    stage.give(1);
    stage.give(2, { attempt: 3 });
    stage.give(3);
    await clock.advance(0);
    expect(stage.verdicts).toMatchObject([
      { as: "retry", delayMs: 50, counted: true },
      { as: "deadLetter", reason: { kind: "failed", message: expect.stringContaining("delayMs must be a number") } },
      { as: "retry", delayMs: 50, counted: true },
    ]);
    expect(told).toMatchObject([{ code: "INVALID_ARGUMENT" }]);
    // For the log.
    expect(stage.runs[0]?.thrown).toMatchObject({ code: "INVALID_ARGUMENT" });
  });

  test("what its handler throws when everything is settled is reported, since it is nobody's failure", async () => {
    const error = new Error("afterwards");
    const stage = batchStage(async (deliveries) => {
      for (const delivery of deliveries) await delivery.ack();
      throw error;
    });
    for (const number of [1, 2, 3]) stage.give(number);
    await clock.advance(0);
    expect(stage.outcomes()).toEqual(["ack", "ack", "ack"]);
    expect(stage.reported).toEqual([error]);
  });

  test("what cannot be read is a dead letter of its own, and in no batch", async () => {
    const { batches, handler } = heldHandler();
    const stage = batchStage(handler);
    stage.give("{not json");
    stage.give(2);
    await clock.advance(20);
    expect(stage.verdicts[0]).toMatchObject({ as: "deadLetter", reason: { kind: "undecodable" } });
    expect(batches[0]?.data).toEqual([2]);
  });

  test("what was lost while it waited is in no batch, and a signal aborts once all of a batch are lost", async () => {
    const { batches, handler } = heldHandler();
    const stage = batchStage(handler);
    const lost = stage.give(1);
    lost.fail(new LeaseLostError("gone"));
    stage.give(2);
    stage.give(3);
    await clock.advance(20);
    expect(batches[0]?.data).toEqual([2, 3]);
    const { context, deliveries } = batches[0] ?? {};
    void deliveries?.[0]?.ack();
    expect(context?.signal.aborted).toBe(false);
    const reason = new ClosedError("closing");
    stage.runs[2]?.fail(reason);
    expect(context?.signal.reason).toBe(reason);
    expect(deliveries?.[1]?.signal.reason).toBe(reason);
  });

  test("what has gathered goes back when nothing comes any more, and what comes late as well", async () => {
    const { batches, handler } = heldHandler();
    const stage = batchStage(handler, { waitMs: 60_000 });
    for (const number of [1, 2, 3, 4, 5]) stage.give(number);
    await clock.advance(0);
    stage.stopping.abort();
    stage.give(6);
    await clock.advance(0);
    expect([stage.outcomes().slice(3), clock.pending()]).toEqual([["retry", "retry", "retry"], 0]);
    expect(stage.verdicts[3]).toEqual({ as: "retry", delayMs: 0, counted: false });
    batches[0]?.finish();
    await clock.advance(60_000);
    expect(stage.outcomes().slice(0, 3)).toEqual(["ack", "ack", "ack"]);
    expect(batches).toHaveLength(1);
  });

  test("nothing waits any more for what is given back while it gathers, or for a handler that nobody waits for", async () => {
    const { batches, handler } = heldHandler();
    const stage = batchStage(handler, { timeoutMs: 60_000, waitMs: 60_000 });
    const reason = new ClosedError("closing");
    for (const number of [1, 2]) stage.give(number);
    await clock.advance(0);
    expect(clock.pending()).toBe(1);
    for (const run of stage.runs) run.fail(reason);
    await clock.advance(0);
    expect([stage.outcomes(), clock.pending(), batches.length]).toEqual([["retry", "retry"], 0, 0]);
    for (const number of [3, 4, 5]) stage.give(number);
    await clock.advance(0);
    expect([batches.length, clock.pending()]).toEqual([1, 1]);
    for (const run of stage.runs) run.fail(reason);
    await clock.advance(0);
    expect([batches[0]?.context.signal.reason, clock.pending()]).toEqual([reason, 0]);
  });

  test("a handler that takes too long is aborted, what it left is a counted retry, and its slot is free", async () => {
    const { batches, handler } = heldHandler();
    const stage = batchStage(handler, { timeoutMs: 1_000 });
    for (const number of [1, 2, 3]) stage.give(number);
    await clock.advance(999);
    const late = batches[0];
    void late?.deliveries[0]?.ack();
    await clock.advance(1);
    expect(stage.outcomes()).toEqual(["ack", "retry", "retry"]);
    expect(late?.context.signal.reason).toMatchObject({ code: "TIMEOUT", message: expect.stringContaining("1000") });
    expect(late?.deliveries[1]?.signal.aborted).toBe(true);
    expect(late?.deliveries[0]?.signal.aborted).toBe(false);
    for (const number of [4, 5, 6]) stage.give(number);
    await clock.advance(0);
    expect(batches[1]?.data).toEqual([4, 5, 6]);
    // What it comes to later changes nothing, and says so.
    await expect(late?.deliveries[1]?.ack()).rejects.toThrow(LeaseLostError);
    late?.fail(new Error("late"));
    await clock.advance(0);
    expect(stage.outcomes().slice(0, 3)).toEqual(["ack", "retry", "retry"]);
    expect(stage.reported).toEqual([]);
  });

  test("a settlement that nobody awaits is no unhandled rejection", async () => {
    const unhandled: unknown[] = [];
    const record = (reason: unknown): void => void unhandled.push(reason);
    process.on("unhandledRejection", record);
    const stage = batchStage((deliveries) => {
      for (const delivery of deliveries) {
        void delivery.ack();
        void delivery.ack();
        void delivery.retry({ delayMs: Number.NaN });
      }
    });
    const run = stage.give(1);
    stage.give(2);
    stage.give(3);
    run.fail(new LeaseLostError("gone"));
    await clock.advance(20);
    await nextTurn();
    process.off("unhandledRejection", record);
    expect(unhandled).toEqual([]);
  });
});

describe("a handler's time limit", () => {
  const runnerStage = (handler: Handler<unknown>, limit: { timeoutMs: number | undefined } = { timeoutMs: 1_000 }) =>
    createStage(createRunner(decoding, handler, { policy, clock, ...limit }));

  test("aborts its signal and counts as a failed attempt; a dead letter after the last one says so", async () => {
    const signals: AbortSignal[] = [];
    const stage = runnerStage((_, { signal }) => {
      signals.push(signal);
      return new Promise(() => undefined);
    });
    stage.give(1);
    stage.give(2, { attempt: 3 });
    await clock.advance(999);
    expect(stage.outcomes()).toEqual([undefined, undefined]);
    await clock.advance(1);
    expect(stage.verdicts).toMatchObject([
      { as: "retry", delayMs: 50, counted: true },
      { as: "deadLetter", reason: { kind: "failed", message: expect.stringContaining("handlerTimeoutMs of 1000") } },
    ]);
    expect(signals.map(({ reason }) => (reason as Error).name)).toEqual(["TimeoutError", "TimeoutError"]);
    // For the log.
    expect(stage.runs[0]?.thrown).toMatchObject({ code: "TIMEOUT" });
  });

  test("goes on when the lease is lost, for the slot's sake, and ends with the consumer", async () => {
    const stage = runnerStage(() => new Promise(() => undefined));
    const [lost, given] = [stage.give(1), stage.give(2)];
    lost.fail(new LeaseLostError("gone"));
    given.fail(new ClosedError("closing"));
    expect(clock.pending()).toBe(1);
    await clock.advance(1_000);
    expect([stage.outcomes(), clock.pending()]).toEqual([["retry", undefined], 0]);
  });

  test("leaves no timer behind a handler that keeps it, and none without a limit", async () => {
    const stage = runnerStage(async () => undefined);
    stage.give(1);
    await clock.advance(0);
    expect([stage.outcomes(), clock.pending()]).toEqual([["ack"], 0]);
    const unlimited = runnerStage(() => new Promise(() => undefined), { timeoutMs: undefined });
    unlimited.give(1);
    await clock.advance(100_000);
    expect([unlimited.outcomes(), clock.pending()]).toEqual([[undefined], 0]);
  });

  test("holds for a schema that never answers as well", async () => {
    const hanging: Decoding = { ...decoding, readerFor: () => () => new Promise(() => undefined) };
    const stage = createStage(createRunner(hanging, () => undefined, { policy, clock, timeoutMs: 1_000 }));
    stage.give(1);
    await clock.advance(1_000);
    expect(stage.outcomes()).toEqual(["retry"]);
  });
});

describe("a message of another type", () => {
  const header = "1\u001fid\u001fyother";

  test("is passed by where the stream is shared, whatever it holds", async () => {
    const shared: Decoding = {
      ...decoding,
      isForOthers: (type) => type === "theirs",
      readerFor: (type) => (type === "mine" ? (data) => data : undefined),
    };
    const seen: unknown[] = [];
    const stage = createStage(
      createRunner(shared, (data) => void seen.push(data), { policy, clock, timeoutMs: undefined }),
    );
    stage.give("{not json", { header });
    stage.give(2);
    stage.give(3, { header: "1\u001fid\u001fymine" });
    stage.give(4, { header: "no header" });
    stage.give(5, { header: "1\u001fid\u001fytheirs" });
    await clock.advance(0);
    expect(seen).toEqual([3]);
    expect(stage.verdicts.map((verdict) => verdict === PASSED_BY)).toEqual([true, true, false, false, false]);
    expect(stage.outcomes()[3]).toBe("deadLetter");
    // What others of the group handle is left to them.
    expect(stage.verdicts[4]).toEqual({ as: "retry", delayMs: 1_000, counted: false });
  });

  test("is a dead letter where the stream is not: handled as something else it would do harm", async () => {
    const own: Decoding = { ...decoding, readerFor: (type) => (type === "numbers" ? (data) => data : undefined) };
    const stage = createStage(createRunner(own, () => undefined, { policy, clock, timeoutMs: undefined }));
    stage.give(1, { header });
    await clock.advance(0);
    expect(stage.verdicts).toMatchObject([
      { as: "deadLetter", reason: { kind: "undecodable", message: expect.stringContaining('the type "other"') } },
    ]);
  });
});
