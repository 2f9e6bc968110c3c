/** Asking across a queue: the answer leaves with the acknowledgement, and whoever asked hears of every end. */

import { expect, test } from "vitest";
import { type Broker, connect, deadLetter, RequestError, retry } from "../../src/index.js";
import { createFakeClock } from "../../src/testing/index.js";
import { pause, until } from "../support/wait.js";
import { collect, onEveryBackend, recordingLogger, silentLogger } from "./support/lanes.js";

const FAST = { initialMs: 1, maxMs: 2 };
const numbersTo = (count: number): number[] => Array.from({ length: count }, (_, number) => number);

/** What a promise rejects with. */
const failureOf = (promise: Promise<unknown>): Promise<unknown> =>
  promise.then(
    () => undefined,
    (error: unknown) => error,
  );

function lateReplies(broker: Broker): number {
  const counter = broker.metrics().find(({ name }) => name === "signalbox.late.replies");
  return counter?.kind === "counter" ? counter.value : 0;
}

onEveryBackend("a request", (lane) => {
  test("[C45] is processed, answered and acknowledged in one step, and the answer finds whoever asked", async () => {
    const [asker, answerer] = [await lane.open(), await lane.open()];
    const name = lane.unique("tasks");
    await answerer.queue(name).subscribe({ as: "coder" }, async (task, ctx) => {
      await pause(5);
      ctx.reply({ result: `done: ${String(task)}` });
    });
    const answers = numbersTo(20).map((number) =>
      asker.queue(name).request(number, { target: "coder", timeoutMs: 10_000 }),
    );
    expect(await Promise.all(answers)).toEqual(numbersTo(20).map((number) => ({ result: `done: ${number}` })));
    // Nothing is left, of the requests or of the answers.
    await until(async () => (await asker.queue(name).count()) === 0);
    // The inbox for answers is no recipient of anybody's, and no audience.
    expect((await collect(asker.queue(name).recipients())).map(({ recipient }) => recipient)).toEqual(["coder"]);
    expect(await asker.queue(name).publish("news", { audience: "registered" })).toMatchObject({ recipients: 1 });
  });

  test("[C45] is acknowledged after the work, and not before: what fails meanwhile is done again and answered once", async () => {
    const broker = await lane.open();
    const tasks = broker.queue(lane.unique("tasks"));
    const seen: string[] = [];
    const sub = await tasks.subscribe({ retry: FAST, concurrency: 1 }, async (task, ctx) => {
      seen.push(`${String(task)}@${ctx.attempt}`);
      expect(await tasks.stats()).toMatchObject({ leased: 1 });
      // An answer of an attempt that fails is not sent.
      ctx.reply(`attempt ${ctx.attempt}`);
      if (ctx.attempt === 1) throw new Error("once more");
      if (ctx.attempt === 2) return retry({ delayMs: 1 });
      return undefined;
    });
    expect(await tasks.request("work", { timeoutMs: 10_000 })).toBe("attempt 3");
    expect(seen).toEqual(["work@1", "work@2", "work@3"]);
    await until(() => sub.stats()[0]?.settled === 3);
    expect(await tasks.stats()).toMatchObject({ waiting: 0, leased: 0, delayed: 0, dead: 0 });
  });

  test("carries who asked, what it belongs to, its priority, and expires with its asker's patience", async () => {
    const broker = await lane.open();
    const tasks = broker.queue(lane.unique("tasks"));
    const asking = tasks.request(
      { file: 1 },
      {
        target: "coder",
        source: "planner",
        priority: 3,
        timeoutMs: 20_000,
        correlationId: "talk",
        headers: { a: "b" },
      },
    );
    let [item] = (await tasks.pending("coder")).items;
    await until(async () => ([item] = (await tasks.pending("coder")).items).length === 1);
    expect(item?.message).toMatchObject({
      source: "planner",
      target: "coder",
      priority: 3,
      correlationId: "talk",
      headers: { a: "b" },
      replyTo: expect.stringContaining("{reply}:"),
    });
    expect(item!.expiresAt! - item!.createdAt).toBe(20_000);
    for await (const delivery of tasks.deliveries({ as: "coder" })) {
      await delivery.reply("done");
      break;
    }
    expect(await asking).toBe("done");
    const endless = tasks.request("x", { target: "ada", timeoutMs: 100, ttlMs: null });
    await expect(endless).rejects.toMatchObject({ code: "TIMEOUT" });
    expect((await tasks.pending("ada")).items).toMatchObject([{ expiresAt: undefined }]);
    expect((await tasks.pending("ada")).items[0]?.message?.correlationId).toBe(
      (await tasks.pending("ada")).items[0]?.id,
    );
  });

  test("that comes to nothing says so at once: parked, unreadable, or acknowledged without an answer", async () => {
    const broker = await lane.open();
    const tasks = broker.queue(lane.unique("tasks"));
    await tasks.subscribe({ retry: { ...FAST, maxAttempts: 2 } }, (task) => {
      if (task === "fails") throw new Error("cannot be done");
      if (task === "rejected") return deadLetter("not for me");
      return undefined;
    });
    const options = { timeoutMs: 10_000 };
    for (const [task, kind, message] of [
      ["fails", "failed", "cannot be done"],
      ["rejected", "rejected", "not for me"],
      ["silent", "unanswered", "without an answer"],
    ] as const) {
      const error = await failureOf(tasks.request(task, options));
      expect(error).toBeInstanceOf(RequestError);
      expect(error).toMatchObject({
        code: "REQUEST",
        retryable: false,
        kind,
        message: expect.stringContaining(message),
      });
    }
    expect((await collect(tasks.deadLetters())).map(({ message }) => message?.data)).toEqual(["fails", "rejected"]);
  });

  test("times out, is aborted with the caller's reason, and drops what comes later, counted", async () => {
    const { logger, entries } = recordingLogger();
    const broker = await lane.open({ logger });
    const tasks = broker.queue(lane.unique("tasks"));
    const stop = new AbortController();
    const held: (() => void)[] = [];
    await tasks.subscribe({}, async (task, ctx) => {
      await new Promise<void>((resolve) => held.push(resolve));
      ctx.reply(task);
    });
    const aborted = tasks.request("aborted", { signal: stop.signal, timeoutMs: 10_000 });
    const late = tasks.request("late", { timeoutMs: 300 });
    const failures = Promise.all([failureOf(aborted), failureOf(late)]);
    await until(() => held.length === 2);
    stop.abort(new Error("enough"));
    expect(await failures).toMatchObject([
      { message: "enough" },
      { code: "TIMEOUT", retryable: true, message: expect.stringContaining("timeoutMs (300)") },
    ]);
    for (const release of held) release();
    await until(() => lateReplies(broker) === 2);
    const dropped = entries.filter(({ fields }) => fields["event"] === "reply_dropped");
    expect(dropped).toMatchObject([{ level: "info" }, { level: "info" }]);
    await until(async () => (await tasks.count()) === 0);
  });

  test("is not sent when nobody waits any more by the time that it could be", async () => {
    const broker = await lane.open();
    const tasks = broker.queue(lane.unique("tasks"));
    const stop = new AbortController();
    const aborted = failureOf(tasks.request("too late", { signal: stop.signal }));
    stop.abort(new Error("enough"));
    expect(await aborted).toMatchObject({ message: "enough" });
    // Behind it on the same inbox: by now that one would have been sent as well.
    expect(await failureOf(tasks.request("in time", { timeoutMs: 500, ttlMs: null }))).toMatchObject({
      code: "TIMEOUT",
    });
    expect((await tasks.pending()).items.map(({ data }) => data)).toEqual(["in time"]);
  });

  test("reply is once, only where somebody has asked, and only before the end", async () => {
    const broker = await lane.open();
    const tasks = broker.queue(lane.unique("tasks"));
    const refused: string[] = [];
    const kept: { reply(value: unknown): void }[] = [];
    const failure = (use: () => void): string => {
      try {
        use();
        return "";
      } catch (error) {
        return `${(error as { code: string }).code}: ${(error as Error).message}`;
      }
    };
    await tasks.subscribe({ retry: { maxAttempts: 1 } }, (task, ctx) => {
      kept.push(ctx);
      refused.push(failure(() => ctx.reply(task === "odd" ? new Map() : task)));
      refused.push(failure(() => ctx.reply("again")));
    });
    expect(await tasks.request("once", { timeoutMs: 10_000 })).toBe("once");
    expect(failure(() => kept[0]?.reply("late"))).toMatch(/^INVALID_ARGUMENT: .*too late/);
    expect(await tasks.request("odd", { timeoutMs: 10_000 })).toBe("again");
    await tasks.publish("nobody asks");
    await until(() => refused.length === 6);
    expect(refused).toEqual([
      "",
      expect.stringMatching(/^INVALID_ARGUMENT: .*once is enough/),
      expect.stringMatching(/^CODEC: /),
      "",
      expect.stringMatching(/^INVALID_ARGUMENT: nobody waits/),
      expect.stringMatching(/^INVALID_ARGUMENT: nobody waits/),
    ]);
  });

  test("is answered in the iterable form and in batches as well; an answer to nobody is a failed attempt", async () => {
    const broker = await lane.open();
    const tasks = broker.queue(lane.unique("tasks"));
    const answers = Promise.all(
      numbersTo(5).map((number) => tasks.request(number, { target: "ada", timeoutMs: 10_000 })),
    );
    await tasks.subscribeBatch({ as: "ada" }, (deliveries) => {
      for (const delivery of deliveries) void delivery.reply(Number(delivery.data) * 2);
    });
    expect(await answers).toEqual([0, 2, 4, 6, 8]);
    const asked = tasks.request("x", { target: "bob", timeoutMs: 10_000 });
    await tasks.publish("plain", { target: "bob", priority: -1 });
    const refused: unknown[] = [];
    for await (const delivery of tasks.deliveries({ as: "bob", concurrency: 1, retry: { maxAttempts: 1 } })) {
      await delivery.reply("answer").catch((error: unknown) => refused.push(error));
      await expect(delivery.ack()).rejects.toMatchObject({ code: "LEASE_LOST" });
      if (delivery.data === "plain") break;
    }
    expect(await asked).toBe("answer");
    expect(refused).toMatchObject([{ code: "INVALID_ARGUMENT", message: expect.stringContaining("nobody waits") }]);
    expect(await tasks.stats("bob")).toMatchObject({ dead: 1 });
  });

  test("a handler may ask in turn, and closing waits for the answers that its handlers wait for", async () => {
    const [desk, back] = [await lane.open(), await lane.open()];
    const name = lane.unique("tasks");
    await back.queue(name).subscribe({ as: "back" }, async (task, ctx) => {
      await pause(50);
      ctx.reply(`${String(task)}!`);
    });
    // Opened before the closing begins: an inbox cannot be opened any more then.
    expect(await desk.queue(name).request("warm up", { target: "back", timeoutMs: 10_000 })).toBe("warm up!");
    const done: unknown[] = [];
    let begun = false;
    await desk.queue(name).subscribe({ as: "desk" }, async (task) => {
      begun = true;
      done.push(await desk.queue(name).request(task, { target: "back", timeoutMs: 10_000 }));
    });
    await back.queue(name).publish("help", { target: "desk" });
    await until(() => begun);
    await desk.close();
    expect(done).toEqual(["help!"]);
  });

  test("what waits when its broker is closed hears of it, and nothing stays behind", async () => {
    const [one, two] = [await lane.open(), await lane.open()];
    const name = lane.unique("tasks");
    const asking = one.queue(name).request("x", { timeoutMs: 60_000, ttlMs: null });
    const refused = failureOf(asking);
    await until(async () => (await two.queue(name).count()) === 1);
    await one.close();
    expect(await refused).toMatchObject({ code: "CLOSED" });
    // An answer to somebody who is gone is dropped.
    await two.queue(name).subscribe({}, (_, ctx) => ctx.reply("too late"));
    await until(async () => (await two.queue(name).count()) === 0);
  });

  test("what cannot be meant is refused before anything is stored", async () => {
    const broker = await lane.open();
    const tasks = broker.queue(lane.unique("tasks"));
    for (const [options, code] of [
      [{ timeoutMs: 0 }, "CONFIG"],
      [{ audience: "registered" }, "CONFIG"],
      [{ id: "own" }, "CONFIG"],
      [{ ttlMs: -1 }, "CONFIG"],
      [{ priority: 0.5 }, "CONFIG"],
      [{ target: "" }, "INVALID_ARGUMENT"],
      [{ headers: { a: 1 } }, "INVALID_ARGUMENT"],
    ] as const)
      await expect(tasks.request(1, options as object), JSON.stringify(options)).rejects.toMatchObject({ code });
    await expect(tasks.request(new Map())).rejects.toMatchObject({ code: "CODEC" });
    await expect(tasks.publish(1, { request: { id: "1", replyTo: "x" } } as object)).rejects.toMatchObject({
      code: "INVALID_ARGUMENT",
    });
    expect(await tasks.count()).toBe(0);
  });
});

test("a full queue refuses a request, and an answer finds room all the same", async () => {
  await using broker = await connect("memory:", { logger: silentLogger });
  const tasks = broker.queue("tasks", { maxItems: 1 });
  const asking = tasks.request("first", { target: "ada", timeoutMs: 10_000 });
  await until(async () => (await tasks.count()) === 1);
  await expect(tasks.request("second", { timeoutMs: 10_000 })).rejects.toMatchObject({ code: "LIMIT" });
  for await (const delivery of tasks.deliveries({ as: "ada" })) {
    await delivery.reply("done");
    break;
  }
  expect(await asking).toBe("done");
});

test("waits by the injected clock", async () => {
  const clock = createFakeClock();
  await using broker = await connect("memory:", { clock, logger: silentLogger });
  let failure: unknown;
  broker
    .queue("tasks")
    .request("x")
    .catch((error: unknown) => {
      failure = error;
    });
  await clock.advance(29_999);
  expect(failure).toBeUndefined();
  await clock.advance(1);
  await until(() => failure);
  expect(failure).toMatchObject({ code: "TIMEOUT", message: expect.stringContaining("30000") });
  expect(await broker.queue("tasks").count()).toBe(0);
});
