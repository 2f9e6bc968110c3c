/** Handling what is heard, the same on every backend: buffers, slots, retries, limits of time, and the end. */

import { expect, test } from "vitest";
import { z } from "zod";
import { type Context, defer, defineContract, retry, type SubscribeChannelOptions } from "../../src/index.js";
import { pause, until } from "../support/wait.js";
import { onEveryBackend, recordingLogger } from "./support/lanes.js";

const FAST = { initialMs: 1, maxMs: 2 };

/** A handler that holds each message until it is released. */
function createGate() {
  const started: unknown[] = [];
  let waiting: (() => void)[] = [];
  let isOpen = false;
  return {
    started,
    handler: async (data: unknown): Promise<void> => {
      started.push(data);
      if (!isOpen) await new Promise<void>((resolve) => void waiting.push(resolve));
    },
    release(): void {
      const released = waiting;
      waiting = [];
      for (const resolve of released) resolve();
    },
    open(): void {
      isOpen = true;
      this.release();
    },
  };
}

const numbers = (count: number): number[] => Array.from({ length: count }, (_, index) => index);

onEveryBackend("pub/sub handlers", (lane) => {
  test("[D5][X3] a hundred messages may wait for a handler, then the oldest go, and it is counted", async () => {
    const { logger, entries } = recordingLogger();
    const here = await lane.open({ logger });
    const there = await lane.open();
    const name = lane.unique("news");
    const gate = createGate();
    const subscription = await here.pubsub.subscribe(name, { concurrency: 1 }, gate.handler);
    await there.pubsub.publishMany(name, numbers(250));
    await until(() => subscription.stats().received === 250 && subscription.stats().waiting === 100);
    expect(subscription.stats()).toMatchObject({ running: 1, dropped: 149, handled: 0 });
    gate.open();
    await until(() => subscription.stats().handled === 101);
    expect(gate.started).toEqual([0, ...numbers(250).slice(150)]);
    expect(entries.map(({ fields }) => fields)).toContainEqual(
      expect.objectContaining({ event: "messages_dropped", channel: name }),
    );
  });

  const overflows: readonly (readonly [string, SubscribeChannelOptions, (all: number[]) => unknown[]])[] = [
    ["the newest", { buffer: 5, overflow: "drop-newest" }, (all) => all.slice(0, 6)],
    ["the oldest", { buffer: 5, overflow: "drop-oldest" }, (all) => [0, ...all.slice(-5)]],
    ["all", { buffer: 0 }, () => [0]],
  ];
  for (const [what, options, left] of overflows) {
    test(`[D5] beyond a buffer of one's own ${what} of those that wait go`, async () => {
      const [here, there] = [await lane.open(), await lane.open()];
      const name = lane.unique("news");
      const gate = createGate();
      const subscription = await here.pubsub.subscribe(name, { ...options, concurrency: 1 }, gate.handler);
      await there.pubsub.publishMany(name, numbers(40));
      await until(() => subscription.stats().received === 40 && subscription.stats().waiting <= (options.buffer ?? 0));
      gate.open();
      const expected = left(numbers(40));
      await until(() => subscription.stats().handled === expected.length);
      expect(gate.started).toEqual(expected);
      expect(subscription.stats().dropped).toBe(40 - expected.length);
    });
  }

  test('[D5] with overflow "error" a buffer that runs over ends the subscription, and says so', async () => {
    const reports: Error[] = [];
    const here = await lane.open({ onError: (error) => void reports.push(error) });
    const there = await lane.open();
    const name = lane.unique("news");
    const gate = createGate();
    const options = { buffer: 5, overflow: "error", concurrency: 1 } as const;
    const subscription = await here.pubsub.subscribe(name, options, gate.handler);
    await using heard = here.pubsub.listen(name, { buffer: 5, overflow: "error" });
    await heard.ready();
    await there.pubsub.publishMany(name, numbers(40));
    await until(() => reports.length === 1 && heard.stats().state === "closed");
    expect(reports[0]).toMatchObject({ code: "LIMIT", message: expect.stringContaining("the buffer of 5") });
    expect(subscription.stats()).toMatchObject({ state: "ended", dropped: 39 });
    expect((await here.health()).details.consumers).toMatchObject([{ channel: name, state: "ended", ok: false }]);
    await expect(heard.next()).rejects.toMatchObject({ code: "LIMIT" });
    expect(await heard.next()).toEqual({ done: true, value: undefined });
    gate.open();
  });

  test("[X3] an iteration buffers a hundred messages unless told otherwise", async () => {
    const [here, there] = [await lane.open(), await lane.open()];
    const name = lane.unique("news");
    await using heard = here.pubsub.listen(name);
    await using small = here.pubsub.listen(name, { buffer: 3, overflow: "drop-newest" });
    await Promise.all([heard.ready(), small.ready()]);
    await there.pubsub.publishMany(name, numbers(250));
    await until(() => heard.stats().received === 250 && heard.stats().waiting === 100 && small.stats().waiting === 3);
    expect((await heard.next()).value?.data).toBe(150);
    expect((await small.next()).value?.data).toBe(0);
    expect([heard.stats().dropped, small.stats().dropped]).toEqual([150, 247]);
  });

  test("a burst costs handlers nothing that need no more than a few turns of microtasks", async () => {
    const [here, there] = [await lane.open(), await lane.open()];
    const name = lane.unique("news");
    const seen: unknown[] = [];
    const subscription = await here.pubsub.subscribe(name, async (data) => {
      await Promise.resolve();
      seen.push(data);
    });
    await there.pubsub.publishMany(name, numbers(5_000));
    await until(() => seen.length === 5_000);
    expect(subscription.stats().dropped).toBe(0);
  });

  test("a slow subscriber delays nobody", async () => {
    const [here, there] = [await lane.open(), await lane.open()];
    const name = lane.unique("news");
    const gate = createGate();
    const quick: unknown[] = [];
    await here.pubsub.subscribe(name, { concurrency: 1 }, gate.handler);
    await here.pubsub.subscribe(name, { concurrency: 1 }, (data) => void quick.push(data));
    for (const round of numbers(5)) {
      await there.pubsub.publishMany(name, numbers(50));
      await until(() => quick.length === 50 * (round + 1));
    }
    expect(gate.started).toEqual([0]);
    gate.open();
  });

  test("ten handlers run at once unless told otherwise, and start in order", async () => {
    const [here, there] = [await lane.open(), await lane.open()];
    const name = lane.unique("news");
    const [ten, two] = [createGate(), createGate()];
    const subscription = await here.pubsub.subscribe(name, ten.handler);
    await here.pubsub.subscribe(name, { concurrency: 2 }, two.handler);
    await there.pubsub.publishMany(name, numbers(30));
    await until(() => subscription.stats().running === 10 && subscription.stats().waiting === 20);
    expect([ten.started, two.started]).toEqual([numbers(10), [0, 1]]);
    ten.open();
    two.open();
    await until(() => ten.started.length === 30 && two.started.length === 30);
    expect(ten.started).toEqual(numbers(30));
  });

  test("[D8] a failing handler is tried three times in its place, with delays that double, and then reported", async () => {
    const reports: [string, string][] = [];
    const here = await lane.open({ onError: (error, where) => void reports.push([error.message, where]) });
    const there = await lane.open();
    const name = lane.unique("news");
    const attempts: [unknown, number, number][] = [];
    const subscription = await here.pubsub.subscribe(name, { concurrency: 1, name: "mailer" }, (data, { attempt }) => {
      attempts.push([data, attempt, performance.now()]);
      if (data === "bad") throw new Error("no way");
    });
    await there.pubsub.publishMany(name, ["bad", "good"]);
    await until(() => subscription.stats().handled === 1);
    // Nothing has overtaken it.
    expect(attempts.map(([data, attempt]) => [data, attempt])).toEqual([
      ["bad", 1],
      ["bad", 2],
      ["bad", 3],
      ["good", 1],
    ]);
    const gaps = attempts.slice(1, 3).map(([, , at], index) => at - (attempts[index]?.[2] ?? 0));
    // 100 ms and 200 ms, each up to a fifth shorter.
    expect(gaps[0]).toBeGreaterThanOrEqual(79);
    expect(gaps[1]).toBeGreaterThanOrEqual(159);
    expect(reports).toEqual([["no way", `subscription to ${name} (mailer)`]]);
    expect(subscription.stats()).toMatchObject({ handled: 1, failed: 1 });
  });

  test("retry, defer, skip and other values are what they are everywhere", async () => {
    const here = await lane.open();
    const name = lane.unique("news");
    const attempts: [unknown, number][] = [];
    const subscription = await here.pubsub.subscribe(name, { retry: { maxAttempts: 2 } }, (data, { attempt }) => {
      attempts.push([data, attempt]);
      const times = attempts.filter(([other]) => other === data).length;
      if (data === "defer" && times < 4) return defer({ delayMs: 1 });
      if (data === "retry" && times < 2) return retry({ delayMs: 1 });
      return { as: "retry" };
    });
    await here.pubsub.publish(name, "defer");
    await until(() => subscription.stats().handled === 1);
    await here.pubsub.publish(name, "retry");
    await until(() => subscription.stats().handled === 2);
    expect(attempts).toEqual([
      ["defer", 1],
      ["defer", 1],
      ["defer", 1],
      ["defer", 1],
      ["retry", 1],
      ["retry", 2],
    ]);
  });

  test("[D6] a handler that takes too long has its signal aborted, frees its slot and is tried again", async () => {
    const here = await lane.open({ onError: () => undefined });
    const name = lane.unique("news");
    const contexts: Context[] = [];
    const options = { concurrency: 1, handlerTimeoutMs: 50, retry: { ...FAST, maxAttempts: 2 } };
    const subscription = await here.pubsub.subscribe(name, options, (_, context) => {
      contexts.push(context);
      return new Promise(() => undefined);
    });
    await here.pubsub.publishMany(name, ["hangs", "hangs too"]);
    await until(() => subscription.stats().failed === 2);
    expect(contexts.map(({ attempt, signal }) => [attempt, signal.reason])).toEqual(
      [1, 2, 1, 2].map((attempt) => [attempt, expect.objectContaining({ code: "TIMEOUT" })]),
    );
    // Unless told otherwise it is half a minute: nothing that a test could wait for, nor one that it could meet.
    const patient = await here.pubsub.subscribe(lane.unique("news"), () => undefined);
    await patient.close();
  });

  test("an attempt that comes to an end too late changes nothing", async () => {
    const here = await lane.open({ onError: () => undefined });
    const name = lane.unique("news");
    const release: (() => void)[] = [];
    const options = { handlerTimeoutMs: 20, retry: { maxAttempts: 1 } };
    const subscription = await here.pubsub.subscribe(
      name,
      options,
      () => new Promise<void>((done) => void release.push(done)),
    );
    await here.pubsub.publish(name, 1);
    await until(() => subscription.stats().failed === 1);
    for (const done of release) done();
    await pause(20);
    expect(subscription.stats()).toMatchObject({ handled: 0, failed: 1, running: 0 });
  });

  test("[D36] a subscription is a handle: it tells its figures, ends once, and nothing is delivered afterwards", async () => {
    const [here, there] = [await lane.open(), await lane.open()];
    const name = lane.unique("news");
    const heard: unknown[] = [];
    const subscription = await here.pubsub.subscribe([name, `${name}.*`], (data) => void heard.push(data));
    const kept = await here.pubsub.subscribe(name, () => undefined);
    expect(subscription.stats()).toEqual({
      channels: [name, `${name}.*`],
      state: "running",
      waiting: 0,
      running: 0,
      concurrency: 10,
      received: 0,
      handled: 0,
      failed: 0,
      dropped: 0,
      gaps: 0,
      lastMessageAt: undefined,
    });
    await there.pubsub.publish(name, 1);
    await until(() => subscription.stats().handled === 1 && kept.stats().handled === 1);
    expect(Math.abs((subscription.stats().lastMessageAt ?? 0) - Date.now())).toBeLessThan(5_000);
    await Promise.all([subscription.close(), subscription.close()]);
    await subscription[Symbol.asyncDispose]();
    await there.pubsub.publish(name, 2);
    await until(() => kept.stats().handled === 2);
    expect(heard).toEqual([1]);
    expect(subscription.stats().state).toBe("closed");
    expect((await here.health()).details.consumers.map(({ channel }) => channel)).toEqual([name]);
  });

  test("[D36] closing lets handlers finish, those of what waits included, and aborts what takes too long", async () => {
    const [here, there] = [await lane.open(), await lane.open()];
    const name = lane.unique("news");
    const [gate, stubborn] = [createGate(), createGate()];
    const signals: AbortSignal[] = [];
    const patient = await here.pubsub.subscribe(name, { concurrency: 1 }, gate.handler);
    const hasty = await here.pubsub.subscribe(name, { concurrency: 1 }, (data, { signal }) => {
      signals.push(signal);
      return stubborn.handler(data);
    });
    await there.pubsub.publishMany(name, [1, 2, 3]);
    await until(() => patient.stats().received === 3 && hasty.stats().received === 3);
    const closing = patient.close();
    expect(patient.stats().state).toBe("draining");
    gate.open();
    await closing;
    expect(gate.started).toEqual([1, 2, 3]);
    await hasty.close({ drainMs: 10 });
    expect(signals.map(({ aborted }) => aborted)).toEqual([true]);
    expect(hasty.stats()).toMatchObject({ state: "closed", dropped: 2, waiting: 0 });
    stubborn.open();
  });

  test("closing the broker closes its subscriptions and its iterations", async () => {
    const [here, there] = [await lane.open(), await lane.open()];
    const name = lane.unique("news");
    const gate = createGate();
    const subscription = await here.pubsub.subscribe(name, gate.handler);
    const heard = here.pubsub.listen(name);
    const next = heard.next();
    await heard.ready();
    await there.pubsub.publish(name, 1);
    expect((await next).value?.data).toBe(1);
    const waiting = heard.next();
    await until(() => gate.started.length === 1);
    const closing = here.close();
    gate.open();
    await closing;
    expect(await waiting).toEqual({ done: true, value: undefined });
    expect(subscription.stats()).toMatchObject({ state: "closed", handled: 1 });
    await expect(here.pubsub.publish(name, 1)).rejects.toMatchObject({ code: "CLOSED" });
    await expect(here.pubsub.subscribe(name, () => undefined)).rejects.toMatchObject({ code: "CLOSED" });
    expect(() => here.pubsub.listen(name)).toThrow(expect.objectContaining({ code: "CLOSED" }));
  });

  test("a signal gives up subscribing with its reason, and later ends the subscription or the iteration", async () => {
    const [here, there] = [await lane.open(), await lane.open()];
    const name = lane.unique("news");
    const given = new AbortController();
    const reason = new Error("enough");
    const aborted = AbortSignal.abort(reason);
    await expect(here.pubsub.subscribe(name, { signal: aborted }, () => undefined)).rejects.toBe(reason);
    await expect(here.pubsub.publish(name, 1, { signal: aborted })).rejects.toBe(reason);
    await expect(here.pubsub.listen(name, { signal: aborted }).ready()).rejects.toBe(reason);
    const { signal } = given;
    const subscription = await here.pubsub.subscribe(name, { signal }, () => undefined);
    const heard = here.pubsub.listen(name, { signal });
    const got: unknown[] = [];
    const iterating = (async () => {
      for await (const { data } of heard) got.push(data);
    })();
    await heard.ready();
    await there.pubsub.publish(name, 1);
    await until(() => got.length === 1 && subscription.stats().handled === 1);
    given.abort(reason);
    await iterating;
    await until(() => subscription.stats().state === "closed");
    await there.pubsub.publish(name, 2);
    expect(got).toEqual([1]);
  });

  test("leaving an iteration's loop ends it", async () => {
    const [here, there] = [await lane.open(), await lane.open()];
    const name = lane.unique("news");
    const heard = here.pubsub.listen(name);
    await heard.ready();
    await there.pubsub.publishMany(name, [1, 2]);
    for await (const { data } of heard) {
      expect(data).toBe(1);
      break;
    }
    expect(heard.stats().state).toBe("closed");
    expect(await heard.next()).toEqual({ done: true, value: undefined });
    await expect(heard.ready()).rejects.toMatchObject({ code: "CLOSED" });
    expect((await here.health()).details.consumers).toEqual([]);
  });

  test("what a handler does with the bytes that it gets is its own affair", async () => {
    const [here, there] = [await lane.open(), await lane.open()];
    const name = lane.unique("news");
    const seen: number[][] = [];
    for (let subscriber = 0; subscriber < 3; subscriber += 1) {
      await here.pubsub.subscribe(name, (data) => {
        const bytes = data as Uint8Array; // As it is published below.
        seen.push([...bytes]);
        bytes.fill(9);
      });
    }
    for (const broker of [here, there]) await broker.pubsub.publish(name, Uint8Array.of(1, 2, 3));
    await until(() => seen.length === 6);
    expect(seen).toEqual(Array.from({ length: 6 }, () => [1, 2, 3]));
  });

  test("[X3] a thousand messages may wait to be sent on a channel unless told otherwise, and then publishing is refused", async () => {
    const contract = defineContract({ channels: { "news.{id}": z.number() } });
    const [broker, narrow] = [await lane.open({ contract }), await lane.open({ publishBuffer: 10 })];
    const publishAll = async (
      name: string,
      count: number,
      open: { pubsub: { publish(n: never, d: never): Promise<unknown> } },
    ) => {
      const results = await Promise.allSettled(
        numbers(count).map((n) => open.pubsub.publish(name as never, n as never)),
      );
      return results.filter(({ status }) => status === "rejected").length;
    };
    expect(await publishAll("news.1", 1_000, broker)).toBe(0);
    expect(await publishAll("news.1", 1_003, broker)).toBe(3);
    expect(await publishAll("news", 10, narrow)).toBe(0);
    expect(await publishAll("news", 12, narrow)).toBe(2);
    const [refused] = await Promise.allSettled(numbers(11).map((n) => narrow.pubsub.publish("news", n))).then((all) =>
      all.filter(({ status }) => status === "rejected"),
    );
    expect(refused).toMatchObject({ reason: { code: "LIMIT", retryable: true } });
    // Several in one call take turns.
    expect(await narrow.pubsub.publishMany("news", numbers(95))).toHaveLength(95);
  });
});
