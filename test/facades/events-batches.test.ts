/** Handlers that take several events at once, and those that take too long, the same on every backend. */

import { expect, test } from "vitest";
import { connect, type Delivery } from "../../src/index.js";
import { createFakeClock } from "../../src/testing/index.js";
import { pause as moment, until } from "../support/wait.js";
import { collect, onEveryBackend, silentLogger } from "./support/lanes.js";

const FAST = { initialMs: 1, maxMs: 2 };
const numbersTo = (count: number): number[] => Array.from({ length: count }, (_, number) => number);
const dataOf = (deliveries: readonly Delivery[]): unknown[] => deliveries.map(({ data }) => data);

onEveryBackend("a batch of events", (lane) => {
  test("[E17] holds what there is, up to max, in order; returning acknowledges all of it", async () => {
    const broker = await lane.open();
    const type = lane.unique("t");
    await broker.events.publishMany(type, numbersTo(230));
    const batches: unknown[][] = [];
    const sub = await broker.events.subscribeBatch(type, { group: "g", from: "beginning" }, (deliveries, context) => {
      expect(context.channel).toBe(type);
      batches.push(dataOf(deliveries));
    });
    await until(() => sub.stats()[0]?.settled === 230);
    expect(batches.flat()).toEqual(numbersTo(230));
    expect(batches.map(({ length }) => length)).toEqual([100, 100, 30]);
    expect(await broker.events.group(type, "g").stats()).toMatchObject({ lag: 0, pending: 0, retrying: 0, dead: 0 });
    await broker.events.publish(type, "alone");
    await until(() => batches.length === 4);
  });

  test("settles each on its own; throwing retries what is left, up to its last attempt", async () => {
    const broker = await lane.open();
    const type = lane.unique("t");
    await broker.events.publishMany(type, ["ack", "retry", "dead", "defer", "skip", "left"]);
    const seen: string[] = [];
    const options = { group: "g", from: "beginning", max: 10, retry: FAST } as const;
    await broker.events.subscribeBatch(type, options, async (deliveries) => {
      for (const delivery of deliveries) {
        const { data, attempt, message } = delivery;
        expect(message).toMatchObject({ type, data });
        seen.push(`${String(data)}@${attempt}`);
        if (data === "retry" && attempt === 1) await delivery.retry({ delayMs: 1 });
        else if (data === "dead") await delivery.deadLetter("no good");
        else if (data === "defer" && seen.filter((one) => one.startsWith("defer")).length === 1)
          await delivery.defer({ delayMs: 1 });
        else if (data === "skip") await delivery.skip();
        else if (data !== "left") await delivery.ack();
        // What is left is still theirs; what is settled is nobody's.
        const lost = await delivery.extend().catch((error: unknown) => error);
        expect(lost).toEqual(data === "left" ? undefined : expect.objectContaining({ code: "LEASE_LOST" }));
      }
      if (deliveries.some(({ data }) => data === "left")) throw new Error("no");
    });
    const group = broker.events.group(type, "g");
    await until(async () => (await group.stats()).dead === 2);
    await until(async () => {
      const { pending, retrying } = await group.stats();
      return pending + retrying === 0;
    });
    expect(seen.toSorted()).toEqual([
      "ack@1",
      "dead@1",
      "defer@1",
      "defer@1",
      "left@1",
      "left@2",
      "left@3",
      "retry@1",
      "retry@2",
      "skip@1",
    ]);
    const letters = await collect(group.deadLetters());
    expect(letters.map(({ message, reason }) => `${String(message?.data)}: ${reason.message}`).toSorted()).toEqual([
      "dead: no good",
      "left: Error: no",
    ]);
  });

  test("[E17] several run at once, a batch that is lost goes to others, and closing drains them", async () => {
    const broker = await lane.open();
    const type = lane.unique("t");
    await broker.events.publishMany(type, numbersTo(40));
    let running = 0;
    let most = 0;
    const seen: unknown[] = [];
    const options = { group: "g", from: "beginning", max: 5, concurrency: 3 } as const;
    const sub = await broker.events.subscribeBatch(type, options, async (deliveries) => {
      running += 1;
      most = Math.max(most, running);
      await moment(30);
      seen.push(...dataOf(deliveries));
      running -= 1;
    });
    await until(() => seen.length >= 10);
    await sub.close();
    expect(running).toBe(0);
    expect(most).toBe(3);
    const settled = sub.stats()[0]?.settled ?? 0;
    expect(settled).toBe(seen.length);
    // What had been taken and was in no batch yet is given back, or was handled: nothing is left in between.
    const { lag, pending, retrying } = await broker.events.group(type, "g").stats();
    expect([lag + retrying, pending]).toEqual([40 - settled, 0]);
    await broker.events.subscribeBatch(type, options, (deliveries) => void seen.push(...dataOf(deliveries)));
    await until(() => seen.length === 40);
    expect(new Set(seen).size).toBe(40);
  });

  test("a batch whose time to drain is over hears of it, and goes to others", async () => {
    const broker = await lane.open();
    const type = lane.unique("t");
    await broker.events.publishMany(type, [1, 2]);
    let stopped: AbortSignal | undefined;
    const options = { group: "g", from: "beginning", max: 2 } as const;
    const sub = await broker.events.subscribeBatch(type, options, (_, { signal }) => {
      stopped = signal;
      return new Promise(() => undefined);
    });
    await until(() => stopped);
    await sub.close({ drainMs: 10 });
    expect(stopped?.reason).toMatchObject({ code: "CLOSED" });
    const again: number[] = [];
    await broker.events.subscribeBatch(type, options, (deliveries) => {
      again.push(...deliveries.map(({ attempt }) => attempt));
    });
    await until(() => again.length === 2);
    expect(again).toEqual([1, 1]);
  });

  test("in order by key a batch holds one of each key at most", async () => {
    const broker = await lane.open();
    const type = lane.unique("t");
    await broker.events.publishMany(type, numbersTo(30), { key: (data) => `k${Number(data) % 3}` });
    const seen: unknown[] = [];
    const options = { group: "g", from: "beginning", order: "key", waitMs: 1 } as const;
    await broker.events.subscribeBatch(type, options, (deliveries) => {
      const keys = deliveries.map(({ message }) => message.key);
      expect(new Set(keys).size).toBe(keys.length);
      seen.push(...dataOf(deliveries));
    });
    await until(() => seen.length === 30);
    for (let key = 0; key < 3; key += 1) {
      const ofKey = seen.filter((number) => Number(number) % 3 === key);
      expect(ofKey).toEqual(numbersTo(30).filter((number) => number % 3 === key));
    }
  });

  test("a handler that hangs is a counted retry: its slot is free, its signal tells, and its late result changes nothing", async () => {
    const broker = await lane.open();
    const type = lane.unique("t");
    await broker.events.publishMany(type, ["hangs", "works"]);
    const seen: string[] = [];
    const reasons: unknown[] = [];
    const late: (() => void)[] = [];
    const options = { group: "g", from: "beginning", concurrency: 1, leaseMs: 2_000, handlerTimeoutMs: 60 } as const;
    const retrying = { ...options, retry: { ...FAST, maxAttempts: 2 } };
    const sub = await broker.events.subscribe(type, retrying, async (data, { attempt, signal }) => {
      seen.push(`${String(data)}@${attempt}`);
      if (data === "works") return;
      signal.addEventListener("abort", () => reasons.push(signal.reason), { once: true });
      await new Promise<void>((resolve) => late.push(resolve));
    });
    const group = broker.events.group(type, "g");
    await until(async () => (await group.stats()).dead === 1);
    expect(seen.toSorted()).toEqual(["hangs@1", "hangs@2", "works@1"]);
    expect(reasons).toMatchObject([{ code: "TIMEOUT" }, { code: "TIMEOUT" }]);
    expect(await collect(group.deadLetters())).toMatchObject([
      { attempts: 2, reason: { kind: "failed", message: expect.stringContaining("handlerTimeoutMs of 60") } },
    ]);
    for (const finish of late) finish();
    await moment(20);
    expect(await group.stats()).toMatchObject({ dead: 1, pending: 0, retrying: 0, lag: 0 });
    expect(sub.stats()[0]).toMatchObject({ running: 0, lost: 0, settled: 3 });
  });

  test("the same of a queue's handler, and of a batch", async () => {
    const broker = await lane.open();
    const queue = broker.queue(lane.unique("q"));
    await queue.publish("hangs");
    const never = (): Promise<void> => new Promise(() => undefined);
    await queue.subscribe({ handlerTimeoutMs: 30, retry: { maxAttempts: 1 } }, never);
    await until(async () => (await queue.stats()).dead === 1);
    const type = lane.unique("t");
    await broker.events.publishMany(type, ["settled", "left", "left"]);
    const options = { group: "g", from: "beginning", max: 3, handlerTimeoutMs: 30, retry: { maxAttempts: 1 } } as const;
    await broker.events.subscribeBatch(type, options, async (deliveries) => {
      await deliveries.find(({ data }) => data === "settled")?.ack();
      await never();
    });
    const group = broker.events.group(type, "g");
    await until(async () => (await group.stats()).dead === 2);
    expect(await group.stats()).toMatchObject({ pending: 0, retrying: 0, lag: 0 });
  });

  test("a delay that is none keeps nothing in hand: it is a failed attempt, and the iteration goes on", async () => {
    const broker = await lane.open();
    const type = lane.unique("t");
    await broker.events.publishMany(type, [1, 2]);
    const seen: string[] = [];
    const options = { group: "g", from: "beginning", concurrency: 1, retry: { ...FAST, maxAttempts: 2 } } as const;
    for await (const delivery of broker.events.deliveries(type, options)) {
      seen.push(`${String(delivery.data)}@${delivery.attempt}`);
      if (delivery.data === 1) void delivery.retry({ delayMs: -1 });
      else await delivery.ack();
      if (seen.length === 3) break;
    }
    expect(seen.toSorted()).toEqual(["1@1", "1@2", "2@1"]);
    const group = broker.events.group(type, "g");
    await until(async () => (await group.stats()).dead === 1);
    expect(await collect(group.deadLetters())).toMatchObject([
      { reason: { message: expect.stringContaining("delayMs") } },
    ]);
  });

  test("a lease that is renewed too late, after the delivery was settled, is not lost to anybody", async () => {
    const broker = await lane.open();
    const type = lane.unique("t");
    await broker.events.publish(type, 1);
    let refused: unknown;
    const sub = await broker.events.subscribeBatch(type, { group: "g", from: "beginning" }, async ([delivery]) => {
      await delivery?.ack();
      refused = await delivery?.extend().catch((error: unknown) => error);
    });
    await until(() => refused);
    expect(refused).toMatchObject({ code: "LEASE_LOST" });
    expect(sub.stats()[0]).toMatchObject({ settled: 1, lost: 0 });
  });

  test("settlements that nobody awaits are no unhandled rejections, in a batch or in an iteration", async () => {
    const unhandled: unknown[] = [];
    const record = (reason: unknown): void => void unhandled.push(reason);
    process.on("unhandledRejection", record);
    const broker = await lane.open();
    const type = lane.unique("t");
    await broker.events.publishMany(type, [1, 2, 3]);
    for await (const delivery of broker.events.deliveries(type, { group: "g", from: "beginning", concurrency: 1 })) {
      void delivery.ack();
      void delivery.ack();
      void delivery.retry({ delayMs: -1 });
      void delivery.extend();
      if (delivery.data === 3) break;
    }
    await broker.events.subscribeBatch(type, { group: "h", from: "beginning", max: 3 }, (deliveries) => {
      for (const delivery of deliveries) {
        void delivery.ack();
        void delivery.deadLetter("twice");
      }
    });
    await until(async () => (await broker.events.group(type, "h").stats()).pending === 0);
    await broker.close({ drainMs: 0 });
    await moment(20);
    process.off("unhandledRejection", record);
    expect(unhandled).toEqual([]);
  });

  test("what cannot be meant is refused, and no group is made", async () => {
    const broker = await lane.open();
    const type = lane.unique("t");
    const batch = (options: object): Promise<unknown> =>
      broker.events.subscribeBatch(type, { group: "g", from: "new", ...options }, () => undefined);
    for (const options of [
      { max: 0 },
      { max: 10_001 },
      { max: 5_000, concurrency: 3 },
      { waitMs: -1 },
      { handlerTimeoutMs: 0 },
      { concurrency: 0 },
      { batchSize: 3 },
      { from: undefined },
    ]) {
      await expect(batch(options), JSON.stringify(options)).rejects.toMatchObject({ code: "CONFIG" });
    }
    await expect(broker.events.subscribeBatch(type, { group: "g", from: "new" }, 1 as never)).rejects.toMatchObject({
      code: "INVALID_ARGUMENT",
    });
    expect(() => broker.events.deliveries(type, { group: "g", from: "new", handlerTimeoutMs: 5 } as never)).toThrow(
      expect.objectContaining({ code: "CONFIG" }),
    );
    expect(await broker.events.groups(type)).toEqual([]);
  });
});

test("what waits for its batch to fill goes to others at once when its consumer closes: it can fill no more", async () => {
  const clock = createFakeClock();
  await using broker = await connect("memory:", { clock, logger: silentLogger });
  const options = { group: "g", from: "beginning", max: 3, waitMs: 60_000 } as const;
  const batches: unknown[][] = [];
  const release: (() => void)[] = [];
  const sub = await broker.events.subscribeBatch("t", options, async (deliveries) => {
    batches.push(dataOf(deliveries));
    await new Promise<void>((resolve) => release.push(resolve));
  });
  await broker.events.publishMany("t", [1, 2]);
  await until(() => sub.stats()[0]?.running === 2);
  await sub.close();
  expect(batches).toEqual([]);
  expect(await broker.events.group("t", "g").stats()).toMatchObject({ pending: 0, lag: 0, retrying: 2 });
  const others: string[] = [];
  const next = await broker.events.subscribe("t", { group: "g", from: "new" }, (data, { attempt }) => {
    others.push(`${String(data)}@${attempt}`);
  });
  await until(() => others.length === 2);
  expect(others.toSorted()).toEqual(["1@1", "2@1"]);
  await next.close();
  // A batch that runs is drained, and what has gathered behind it is not begun any more.
  const busy = await broker.events.subscribeBatch("t", options, async (deliveries) => {
    batches.push(dataOf(deliveries));
    await new Promise<void>((resolve) => release.push(resolve));
  });
  await broker.events.publishMany("t", [3, 4, 5]);
  await until(() => batches.length === 1);
  const closing = busy.close();
  for (const finish of release) finish();
  await closing;
  expect(busy.stats()).toMatchObject([{ settled: 3, lost: 0 }]);
});

test("a batch waits by the injected clock", async () => {
  const clock = createFakeClock();
  await using broker = await connect("memory:", { clock, logger: silentLogger });
  const batches: unknown[][] = [];
  const options = { group: "g", from: "beginning", waitMs: 5_000 } as const;
  await broker.events.subscribeBatch("t", options, (deliveries) => void batches.push(dataOf(deliveries)));
  await broker.events.publish("t", 1);
  await clock.advance(4_000);
  await broker.events.publish("t", 2);
  await clock.advance(900);
  expect(batches).toEqual([]);
  await clock.advance(100);
  expect(batches).toEqual([[1, 2]]);
});
