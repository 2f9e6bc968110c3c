/** Hostile handlers, and every order in which things can be closed. On memory: none of it is a backend's business. */

import { describe, expect, test } from "vitest";
import { type Broker, connect, type ConnectOptions } from "../../src/index.js";
import { pause, until } from "../support/wait.js";
import { collect, silentLogger } from "./support/lanes.js";

const ONCE = { maxAttempts: 1 };

function open(options: ConnectOptions = {}): Promise<Broker> {
  return connect("memory:", { logger: silentLogger, ...options });
}

describe("a handler", () => {
  test("may return anything that has a then: it is awaited, as with query builders that start when they are", async () => {
    await using broker = await open();
    const queue = broker.queue("q");
    await queue.publishMany(["good", "bad"]);
    const ran = new Set<unknown>();
    await queue.subscribe({ retry: ONCE }, (data) => ({
      // oxlint-disable-next-line unicorn/no-thenable -- a lazy thenable is what this is about
      then(resolve: () => void, reject: (error: Error) => void) {
        ran.add(data);
        if (data === "good") resolve();
        else reject(new Error("query failed"));
      },
    }));
    await until(async () => (await queue.stats()).dead === 1);
    expect(ran).toEqual(new Set(["bad", "good"]));
    expect((await collect(queue.deadLetters()))[0]?.reason.message).toBe("Error: query failed");
  });

  test("may throw anything: it counts as a failure, and never harms the consumer", async () => {
    const hostile: readonly unknown[] = [
      undefined,
      "text",
      Symbol("s"),
      Object.freeze({ a: 1 }),
      Object.assign(new Error("no stack"), { stack: null }),
      Object.defineProperty(new Error("trap"), "message", {
        get: () => {
          throw new Error("boo");
        },
      }),
      new Proxy(
        {},
        {
          getPrototypeOf: () => {
            throw new Error("boo");
          },
        },
      ),
    ];
    await using broker = await open();
    const queue = broker.queue("q");
    await queue.publishMany(hostile.map((_, index) => index));
    const subscription = await queue.subscribe({ retry: ONCE }, (index) => {
      throw hostile[Number(index)];
    });
    await until(async () => (await queue.stats()).dead === hostile.length);
    expect(subscription.stats()[0]).toMatchObject({ running: 0, settled: hostile.length });
  });

  test("that fails with a codec's error is retried: the message itself was readable", async () => {
    await using broker = await open();
    const queue = broker.queue("q");
    await queue.publish("x");
    let attempts = 0;
    await queue.subscribe({ retry: { maxAttempts: 2, initialMs: 0 } }, async () => {
      attempts += 1;
      await broker.queue("other").publish({ bad: Number.NaN });
    });
    await until(async () => (await queue.stats()).dead === 1);
    expect(attempts).toBe(2);
    expect((await collect(queue.deadLetters()))[0]?.reason.kind).toBe("failed");
  });

  test("that asks for a delay which is none fails, and loses nothing", async () => {
    await using broker = await open();
    const { retry } = await import("../../src/index.js");
    const queue = broker.queue("q");
    await queue.publish("x");
    await queue.subscribe({ retry: ONCE }, () => retry({ delayMs: Number.NaN }));
    await until(async () => (await queue.stats()).dead === 1);
    expect((await collect(queue.deadLetters()))[0]?.reason.message).toContain("delayMs");
  });
});

describe("closing", () => {
  test("lets handlers that drain publish their results, and waits for these", async () => {
    const broker = await connect("memory:closing-drain", { logger: silentLogger });
    await using witness = await connect("memory:closing-drain", { logger: silentLogger });
    let started = false;
    await broker.queue("in").subscribe({ retry: ONCE }, async () => {
      started = true;
      await pause(50);
      await broker.queue("out").publish("result");
    });
    await broker.queue("in").publish("x");
    await until(() => started);
    await broker.close();
    expect(await witness.queue("out").stats()).toMatchObject({ waiting: 1 });
    expect(await witness.queue("in").stats()).toMatchObject({ waiting: 0, dead: 0 });
    await expect(broker.queue("out").publish("late")).rejects.toMatchObject({ code: "CLOSED" });
  });

  test.each(["close", "abort"])("the broker waits for a subscription that is closing already, by %s", async (how) => {
    const broker = await open();
    const stop = new AbortController();
    let started = false;
    let finished = false;
    const subscription = await broker.queue("q").subscribe({ signal: stop.signal }, async () => {
      started = true;
      await pause(50);
      finished = true;
    });
    await broker.queue("q").publish("x");
    await until(() => started);
    if (how === "close") void subscription.close();
    else stop.abort();
    await broker.close();
    expect(finished).toBe(true);
  });

  test("refuses a subscription that comes while it runs, and leaves none behind", async () => {
    const broker = await open();
    const coming = broker.queue("q").subscribe({}, () => undefined);
    const closing = broker.close();
    const late = broker.queue("q").subscribe({}, () => undefined);
    const results = await Promise.allSettled([coming, late, closing]);
    expect(results.map(({ status }) => status)).toEqual(["rejected", "rejected", "fulfilled"]);
    expect((await broker.health()).details.consumers).toEqual([]);
  });

  test("an iteration in hand may be settled within the drain, and ends at once", async () => {
    const broker = await open();
    await broker.queue("q").publishMany(["first", "second"]);
    const iterator = broker.queue("q").deliveries({ concurrency: 2 });
    const { value: inHand } = await iterator.next();
    const closing = broker.close({ drainMs: 2_000 });
    expect(await iterator.next()).toEqual({ done: true, value: undefined });
    await inHand?.ack();
    await closing;
  });

  test("what is settled too late for the drain hears that the consumer closed", async () => {
    const broker = await open();
    await broker.queue("q").publish("x");
    const iterator = broker.queue("q").deliveries();
    const { value: inHand } = await iterator.next();
    await broker.close({ drainMs: 0 });
    await expect(inHand?.ack()).rejects.toMatchObject({ code: "CLOSED" });
    expect(inHand?.signal.aborted).toBe(true);
  });

  test("leaves no listener on a signal that outlives its subscriptions", async () => {
    await using broker = await open();
    const { signal } = new AbortController();
    const warnings: Error[] = [];
    const record = (warning: Error): void => void warnings.push(warning);
    process.on("warning", record);
    for (let round = 0; round < 20; round += 1) {
      const subscription = await broker.queue("q").subscribe({ signal }, () => undefined);
      await subscription.close();
      const iterator = broker.queue("q").deliveries({ signal });
      await iterator.return();
    }
    await pause(1);
    process.off("warning", record);
    expect(warnings).toEqual([]);
  });

  test("refuses a drain that is no duration", async () => {
    const broker = await open();
    const subscription = await broker.queue("q").subscribe({}, () => undefined);
    await expect(subscription.close({ drainMs: Number.POSITIVE_INFINITY })).rejects.toMatchObject({ code: "CONFIG" });
    await expect(broker.close({ drainMs: -1 })).rejects.toMatchObject({ code: "CONFIG" });
    await broker.close();
  });
});

describe("bad calls", () => {
  test("are refused as typed errors, whatever is passed", async () => {
    await using broker = await open();
    const queue = broker.queue("q");
    const handler = (): void => undefined;
    const calls: readonly (() => Promise<unknown>)[] = [
      () => broker.events.subscribe(undefined as never, { group: "g", from: "new" }, handler),
      () => broker.events.subscribe([], { group: "g", from: "new" }, handler),
      () => broker.events.subscribe("t", undefined as never, handler),
      () => broker.events.subscribe("t", { group: "g" } as never, handler),
      () => broker.events.subscribe("t", { group: "g", from: "nwe" }, handler),
      () => broker.events.subscribe("t", { group: "g", from: "new", concurrancy: 1 } as never, handler),
      () => broker.events.subscribe("t", { group: "g", from: "new", concurrency: 0 }, handler),
      () => broker.events.subscribe("t", { group: "", from: "new" }, handler),
      () => broker.events.subscribe("t", { group: "g", from: "new" }, "handler" as never),
      () => queue.subscribe(undefined as never, handler),
      () => queue.subscribe({ leaseMs: 1 }, handler),
      () => queue.subscribe({ concurrency: "5" } as never, handler),
      () => queue.subscribe({ retry: { maxAttempts: 0 } }, handler),
      () => queue.publish("x", { prioity: 3 } as never),
      () => queue.publish("x", { signal: {} } as never),
      () => queue.publish("x", { source: "a\nb" }),
      () => queue.publish("x", { correlationId: "" }),
      () => queue.publishMany("xyz" as never),
      () => queue.publishMany(Array.from({ length: 50_001 }, () => 1)),
    ];
    for (const call of calls) {
      await expect(call(), String(call)).rejects.toMatchObject({
        code: expect.stringMatching(/CONFIG|INVALID_ARGUMENT|LIMIT|NOT_FOUND/),
      });
    }
    expect(await queue.stats()).toMatchObject({ waiting: 0 });
    // No group was made on the way: it would hold the stream back for ever.
    expect((await broker.events.stats("t")).groups).toEqual([]);
  });

  test("publishMany stores nothing when one of its messages cannot be stored", async () => {
    await using broker = await open();
    await expect(broker.queue("q").publishMany([1, { bad: Number.NaN }, 3])).rejects.toMatchObject({ code: "CODEC" });
    expect(await broker.queue("q").stats()).toMatchObject({ waiting: 0 });
  });

  test("an undefined among retry options is not given", async () => {
    await using broker = await open();
    let attempts = 0;
    await broker.queue("q").subscribe({ retry: { maxAttempts: undefined as never, initialMs: 0 } }, () => {
      attempts += 1;
      throw new Error("no");
    });
    await broker.queue("q").publish("x");
    await until(async () => (await broker.queue("q").stats()).dead === 1);
    expect(attempts).toBe(3);
  });
});

test("the iterable form goes by the attempts that its group was made with", async () => {
  await using broker = await open();
  await broker.events.publish("t", "x");
  const group = { group: "g", from: "beginning" } as const;
  const first = await broker.events.subscribe("t", { ...group, retry: { maxAttempts: 5 } }, () => undefined);
  await until(() => first.stats()[0]?.settled === 1);
  await first.close();
  await broker.events.publish("t", "y");
  const attempts: number[] = [];
  for await (const delivery of broker.events.deliveries("t", group)) {
    attempts.push(delivery.attempt);
    if (delivery.attempt === 5) break;
    await delivery.retry({ delayMs: 0 });
  }
  expect(attempts).toEqual([1, 2, 3, 4, 5]);
});

test("a consumer that is busy with all its slots is healthy", async () => {
  await using broker = await open();
  let release: (() => void) | undefined;
  await broker.queue("q").subscribe({ concurrency: 1 }, () => new Promise<void>((resolve) => (release = resolve)));
  await broker.queue("q").publish("x");
  await until(() => release);
  const { details } = await broker.health();
  expect(details.consumers).toMatchObject([{ running: 1, concurrency: 1, idleMs: 0, ok: true }]);
  release?.();
});
