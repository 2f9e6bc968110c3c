/** Queues as their users see them, the same on every backend. */

import { expect, test } from "vitest";
import { until } from "../support/wait.js";
import { collect, onEveryBackend } from "./support/lanes.js";

const FAST = { initialMs: 1, maxMs: 2 };

onEveryBackend("a queue", (lane) => {
  test("hands out the most urgent first, the oldest first within a priority, and names its durability", async () => {
    const broker = await lane.open();
    const tasks = broker.queue(lane.unique("tasks"));
    const receipt = await tasks.publish("low 1", { priority: -5 });
    expect(receipt).toEqual({
      id: receipt.id,
      duplicate: false,
      recipients: 1,
      durability: lane.name === "sqlite" ? "fsync" : "memory",
    });
    await tasks.publish("normal 1");
    await tasks.publish("high 1", { priority: 1_000_000 });
    await tasks.publish("normal 2");
    await tasks.publish("high 2", { priority: 1_000_000 });
    const got: unknown[] = [];
    await tasks.subscribe({ concurrency: 1 }, (data) => void got.push(data));
    await until(() => got.length === 5);
    expect(got).toEqual(["high 1", "high 2", "normal 1", "normal 2", "low 1"]);
  });

  test("consumers compete: each message goes to one of them, and a recipient's inbox is its own", async () => {
    const [one, two] = [await lane.open(), await lane.open()];
    const name = lane.unique("tasks");
    const shared: number[] = [];
    const inbox: unknown[] = [];
    for (const broker of [one, two]) {
      await broker.queue(name).subscribe({ concurrency: 4 }, (data) => void shared.push(Number(data)));
    }
    await two.queue(name).subscribe({ as: "coder" }, (data, { message }) => void inbox.push([data, message.target]));
    const numbers = Array.from({ length: 200 }, (_, number) => number);
    await one.queue(name).publishMany(numbers);
    await one.queue(name).publish("review this", { target: "coder" });
    await until(() => shared.length >= 200 && inbox.length >= 1);
    expect(shared.toSorted((a, b) => a - b)).toEqual(numbers);
    expect(inbox).toEqual([["review this", "coder"]]);
  });

  test("retries with backoff, keeps the priority, and parks after the last attempt", async () => {
    const broker = await lane.open();
    const tasks = broker.queue(lane.unique("tasks"));
    await tasks.publish("bad", { priority: 7 });
    await tasks.publish("good");
    const seen: string[] = [];
    await tasks.subscribe({ concurrency: 1, retry: { ...FAST, maxAttempts: 2 } }, (data, { attempt, message }) => {
      seen.push(`${String(data)}@${attempt} of priority ${message.priority ?? 0}`);
      if (data === "bad") throw new Error("no");
    });
    await until(async () => (await tasks.stats()).dead === 1);
    await until(() => seen.length === 3);
    expect(seen.toSorted()).toEqual(["bad@1 of priority 7", "bad@2 of priority 7", "good@1 of priority 0"]);
    const letters = await collect(tasks.deadLetters());
    expect(letters).toMatchObject([
      { attempts: 2, message: { data: "bad", priority: 7 }, reason: { kind: "failed", message: "Error: no" } },
    ]);
    expect(await tasks.stats()).toEqual({
      waiting: 0,
      leased: 0,
      delayed: 0,
      dead: 1,
      expired: 0,
      dropped: 0,
      paused: false,
      oldestWaitingAt: undefined,
    });
  });

  test("keeps a message back until its delay has passed, and never delivers one whose time to live has", async () => {
    const broker = await lane.open();
    const tasks = broker.queue(lane.unique("tasks"));
    await tasks.publish("expires", { ttlMs: 1 });
    const publishedAt = Date.now();
    await tasks.publish("later", { delayMs: 300, ttlMs: null });
    expect(await tasks.stats()).toMatchObject({ delayed: 1 });
    await until(async () => (await tasks.stats()).expired === 1);
    const got: unknown[] = [];
    await tasks.subscribe({}, (data) => void got.push(data));
    await until(() => got.length === 1);
    expect(got).toEqual(["later"]);
    expect(Date.now() - publishedAt).toBeGreaterThanOrEqual(295);
  });

  test("the iterable form: what the loop leaves goes back at once", async () => {
    const broker = await lane.open();
    const tasks = broker.queue(lane.unique("tasks"));
    await tasks.publishMany(["one", "two"]);
    for await (const delivery of tasks.deliveries({ concurrency: 1 })) {
      if (delivery.data === "two") break;
      await delivery.ack();
    }
    expect(await tasks.stats()).toMatchObject({ waiting: 1, leased: 0 });
    const stopped = new AbortController();
    const iterator = tasks.deliveries({ signal: stopped.signal });
    const { value } = await iterator.next();
    expect([value?.data, value?.attempt]).toEqual(["two", 1]);
    const next = iterator.next();
    stopped.abort();
    expect(await next).toEqual({ done: true, value: undefined });
  });

  test("a full queue refuses to take more, and says what to do", async () => {
    const broker = await lane.open();
    const tasks = broker.queue(lane.unique("tasks"), { maxItems: 2 });
    await tasks.publishMany([1, 2]);
    await expect(tasks.publish(3)).rejects.toMatchObject({
      code: "LIMIT",
      message: expect.stringContaining("maxItems"),
    });
    expect(await tasks.stats()).toMatchObject({ waiting: 2 });
  });

  test("refuses what cannot be meant, before anything is written", async () => {
    const broker = await lane.open();
    const tasks = broker.queue(lane.unique("tasks"));
    for (const options of [
      { priority: Number.NaN },
      { priority: 2 ** 53 },
      { priority: 1.5 },
      { ttlMs: 0 },
      { ttlMs: -1 },
      { delayMs: -1 },
      { delayMs: 2 ** 40 },
      { target: "" },
      { headers: Object.fromEntries(Array.from({ length: 10_000 }, (_, index) => [`h${index}`, "x"])) },
    ]) {
      await expect(tasks.publish({}, options)).rejects.toMatchObject({
        code: expect.stringMatching(/INVALID_ARGUMENT|LIMIT/),
      });
    }
    expect(await tasks.stats()).toMatchObject({ waiting: 0, delayed: 0 });
  });
});
