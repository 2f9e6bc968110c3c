/** Consuming a queue: who gets what and in which order, alone, in batches and by hand. */

import { expect, test } from "vitest";
import { connect, type ExpiredMessages, type QueueDelivery } from "../../src/index.js";
import { createFakeClock } from "../../src/testing/index.js";
import { pause, until } from "../support/wait.js";
import { collect, onEveryBackend, silentLogger } from "./support/lanes.js";

const FAST = { initialMs: 1, maxMs: 2 };
const numbersTo = (count: number): number[] => Array.from({ length: count }, (_, number) => number);

onEveryBackend("consuming a queue", (lane) => {
  test("[C7] higher priority is delivered first, whatever the order of publishing", async () => {
    const broker = await lane.open();
    const tasks = broker.queue(lane.unique("tasks"));
    await tasks.publish("routine_check", { source: "system", priority: 10 });
    await tasks.publish("urgent_fix", { source: "system", priority: 100 });
    await tasks.publish("someday", { priority: -1 });
    const got: unknown[] = [];
    await tasks.subscribe({ concurrency: 1 }, (data) => void got.push(data));
    await until(() => got.length === 3);
    expect(got).toEqual(["urgent_fix", "routine_check", "someday"]);
  });

  test("[C33] what is published meanwhile takes its place by priority, first in first out within one, through retries", async () => {
    const broker = await lane.open();
    const tasks = broker.queue(lane.unique("tasks"));
    await tasks.publishMany(["first", "second", "third"]);
    const got: string[] = [];
    const options = { concurrency: 1, retry: { initialMs: 0, maxMs: 0 } } as const;
    await tasks.subscribe(options, async (data, { attempt, message }) => {
      got.push(`${String(data)}@${attempt}`);
      // Live, while others wait: the next one handed out is this one.
      if (data === "first") await tasks.publish("urgent", { priority: 7 });
      if (data === "urgent" && attempt === 1) throw new Error("again");
      if (data === "urgent") expect(message.priority).toBe(7);
    });
    await until(() => got.length === 5);
    expect(got).toEqual(["first@1", "urgent@1", "urgent@2", "second@1", "third@1"]);
  });

  test("[C33] weighted priorities let nothing wait for ever behind a stream of urgent messages", async () => {
    const broker = await lane.open();
    const tasks = broker.queue(lane.unique("tasks"));
    await tasks.publish("low", { priority: -1 });
    await tasks.publish("middle");
    await tasks.publishMany(numbersTo(40), { priority: 9 });
    const got: unknown[] = [];
    const sub = await tasks.subscribe({ concurrency: 1, priorities: "weighted" }, (data) => void got.push(data));
    await until(() => got.includes("low") && got.includes("middle"));
    await sub.close();
    // Three rounds of five: the third goes to the last of three priorities.
    expect(Math.max(got.indexOf("low"), got.indexOf("middle"))).toBeLessThan(15);
    // Strictly they are last.
    const others: unknown[] = [];
    await tasks.publish("low", { priority: -1 });
    await tasks.subscribe({ concurrency: 1 }, (data) => void others.push(data));
    await until(() => others.length + got.length === 43);
    expect(others.at(-1)).toBe("low");
  });

  test("[C21] a targeted message reaches a waiting consumer of another process within a second", async () => {
    const [publisher, consumer] = [await lane.open(), await lane.open()];
    const name = lane.unique("tasks");
    const arrivals: number[] = [];
    await consumer.queue(name).subscribe({ as: "coder" }, () => void arrivals.push(performance.now()));
    for (let times = 1; times <= 5; times += 1) {
      // Until it waits again.
      await pause(20);
      const publishedAt = performance.now();
      await publisher.queue(name).publish("review", { target: "coder" });
      await until(() => arrivals.length === times);
      expect(arrivals.at(-1)! - publishedAt).toBeLessThan(1_000);
    }
  });

  test("[C24] from a backlog to what is published meanwhile without a gap, twice, or a limit", async () => {
    const [one, two] = [await lane.open(), await lane.open()];
    const name = lane.unique("tasks");
    const backlog = numbersTo(500);
    await one.queue(name).publishMany(backlog, { target: "ada" });
    const live = numbersTo(500).map((number) => 500 + number);
    const got: number[] = [];
    const publishing = (async () => {
      for (let start = 0; start < live.length; start += 10)
        await one.queue(name).publishMany(live.slice(start, start + 10), { target: "ada" });
    })();
    await two.queue(name).subscribe({ as: "ada", concurrency: 7 }, (data) => void got.push(Number(data)));
    await publishing;
    await until(() => got.length >= 1_000);
    expect(got.toSorted((a, b) => a - b)).toEqual([...backlog, ...live]);
  });

  test("[C25] consumers of one recipient compete, whatever process they are in", async () => {
    const name = lane.unique("tasks");
    const got: number[] = [];
    const byConsumer = new Map<number, number>();
    for (let consumer = 0; consumer < 2; consumer += 1) {
      const broker = await lane.open();
      await broker.queue(name).subscribe({ as: "ada", concurrency: 2 }, async (data) => {
        got.push(Number(data));
        byConsumer.set(consumer, (byConsumer.get(consumer) ?? 0) + 1);
        await pause(1);
      });
    }
    const publisher = await lane.open();
    await publisher.queue(name).publishMany(numbersTo(100), { target: "ada" });
    await until(() => got.length >= 100);
    expect(got.toSorted((a, b) => a - b)).toEqual(numbersTo(100));
    expect(new Set(byConsumer.keys())).toEqual(new Set([0, 1]));
  });

  test("[C25] fan-out gives each consumer its own copy while it runs, and leaves nothing behind", async () => {
    const [one, two] = [await lane.open(), await lane.open()];
    const name = lane.unique("tasks");
    const [first, second, shared]: unknown[][] = [[], [], []];
    const sub = await one.queue(name).subscribe({ fanout: true }, (data) => void first!.push(data));
    await two.queue(name).subscribe({ fanout: true }, (data) => void second!.push(data));
    await two.queue(name).subscribe({}, (data) => void shared!.push(data));
    expect(await one.queue(name).publish("news", { audience: "online" })).toMatchObject({ recipients: 2 });
    await one.queue(name).publish("work");
    await until(() => first!.length === 1 && second!.length === 1 && shared!.length === 1);
    expect([first, second, shared]).toEqual([["news"], ["news"], ["work"]]);
    await sub.close();
    await sub.close();
    expect(await collect(one.queue(name).recipients())).toHaveLength(1);
    expect(await one.queue(name).publish("more", { audience: "registered" })).toMatchObject({ recipients: 1 });
    await until(() => second!.length === 2);
    await two.close();
    expect(await collect(one.queue(name).recipients())).toEqual([]);
    expect(await one.queue(name).count()).toBe(0);
  });

  test("fan-out with a recipient's name is refused, and so is what cannot be meant", async () => {
    const broker = await lane.open();
    const tasks = broker.queue(lane.unique("tasks"));
    const none = (): undefined => undefined;
    for (const options of [
      { fanout: true, as: "ada" },
      { fanout: false },
      { priorities: "fair" },
      { concurrency: 0 },
      { group: "g" },
      { max: 5 },
    ]) {
      await expect(tasks.subscribe(options as object, none), JSON.stringify(options)).rejects.toMatchObject({
        code: "CONFIG",
      });
      expect(() => tasks.deliveries(options as object)).toThrow(expect.objectContaining({ code: "CONFIG" }));
    }
    await expect(tasks.subscribeBatch({ max: 5_000, concurrency: 3 }, none)).rejects.toMatchObject({ code: "CONFIG" });
    await expect(tasks.subscribe(undefined as never, none)).rejects.toMatchObject({ code: "INVALID_ARGUMENT" });
    await expect(tasks.subscribeBatch({}, 1 as never)).rejects.toMatchObject({ code: "INVALID_ARGUMENT" });
    await expect(tasks.subscribe({ as: "{reply}" }, none)).rejects.toMatchObject({ code: "INVALID_ARGUMENT" });
    expect(await collect(tasks.recipients())).toEqual([]);
  });

  test("[C38] messages are pushed, consumed and acknowledged in batches, each settled on its own", async () => {
    const broker = await lane.open();
    const tasks = broker.queue(lane.unique("tasks"));
    const receipts = await tasks.publishMany(numbersTo(230));
    expect(new Set(receipts.map(({ id }) => id)).size).toBe(230);
    const ids = receipts.slice(0, 30).map(({ id }) => id);
    expect(await tasks.acknowledgeMany([...ids, "nobody's"])).toEqual([...ids.map(() => true), false]);
    const batches: number[][] = [];
    const seen: string[] = [];
    const sub = await tasks.subscribeBatch({ retry: FAST }, (deliveries, { channel }) => {
      expect(channel).toBe(tasks.name);
      batches.push(deliveries.map(({ data }) => Number(data)));
      for (const delivery of deliveries) {
        seen.push(`${String(delivery.data)}@${delivery.attempt}`);
        if (delivery.data === 31 && delivery.attempt === 1) void delivery.retry({ delayMs: 1 });
        if (delivery.data === 32) void delivery.deadLetter("no good");
      }
    });
    await until(() => sub.stats()[0]?.settled === 201);
    expect(Math.max(...batches.map(({ length }) => length))).toBeGreaterThan(10);
    expect(Math.max(...batches.map(({ length }) => length))).toBeLessThanOrEqual(100);
    expect(batches[0]!.slice(0, 3)).toEqual([30, 31, 32]);
    expect(seen).toContain("31@2");
    expect(await tasks.stats()).toMatchObject({ waiting: 0, leased: 0, delayed: 0, dead: 1 });
  });

  test("the iterable form settles each by hand, as a recipient, registered while it reads", async () => {
    const broker = await lane.open();
    const tasks = broker.queue(lane.unique("tasks"));
    await tasks.publishMany(["ack", "retry", "dead", "skip"], { target: "ada" });
    const seen: string[] = [];
    for await (const delivery of tasks.deliveries({ as: "ada", concurrency: 1, retry: FAST })) {
      seen.push(`${String(delivery.data)}@${delivery.attempt}`);
      await settle(delivery);
      if (seen.length === 5) break;
    }
    expect(seen.toSorted()).toEqual(["ack@1", "dead@1", "retry@1", "retry@2", "skip@1"]);
    expect(await collect(tasks.recipients())).toMatchObject([{ recipient: "ada", isAudience: true }]);
    expect(await tasks.stats("ada")).toMatchObject({ waiting: 0, leased: 0, delayed: 0, dead: 1 });
  });

  test("a paused inbox hands out nothing in any process, its consumer goes on when it is resumed, and others never notice", async () => {
    const [one, two] = [await lane.open(), await lane.open()];
    const name = lane.unique("tasks");
    const got: unknown[] = [];
    await one.queue(name).subscribe({ as: "ada" }, (data) => void got.push(data));
    await one.queue(name).subscribe({ as: "bob" }, (data) => void got.push(data));
    await two.queue(name).pause("ada");
    expect(await one.queue(name).stats("ada")).toMatchObject({ paused: true });
    await one.queue(name).publish("for Ada", { target: "ada" });
    await one.queue(name).publish("for Bob", { target: "bob" });
    await until(() => got.length === 1);
    expect(got).toEqual(["for Bob"]);
    await two.queue(name).resume("ada");
    await until(() => got.length === 2);
    await two.queue(name).pause();
    await one.queue(name).publish("anyone's");
    await one.queue(name).subscribe({}, (data) => void got.push(data));
    expect((await two.queue(name).pending()).items).toHaveLength(1);
    await two.queue(name).resume();
    await until(() => got.length === 3);
  });

  test("onExpired tells of what expired before it was handled, and may fail without doing harm", async () => {
    const failures: unknown[] = [];
    const broker = await lane.open({ onError: (error, where) => void failures.push([String(error), where]) });
    const told: ExpiredMessages[] = [];
    const name = lane.unique("tasks");
    const tasks = broker.queue(name, {
      ttlMs: 1,
      async onExpired(expired) {
        told.push(expired);
        await Promise.resolve();
        throw new Error("the hook failed");
      },
    });
    const { id } = await tasks.publish("late", { target: "ada" });
    await pause(5);
    const got: unknown[] = [];
    await tasks.subscribe({ as: "ada" }, (data) => void got.push(data));
    await until(() => told.length === 1 && failures.length === 1);
    expect(told).toEqual([{ queue: name, recipient: "ada", count: 1, ids: [id] }]);
    expect(failures).toEqual([["Error: the hook failed", `onExpired of the queue ${name}`]]);
    await tasks.publish("in time", { target: "ada", ttlMs: null });
    await until(() => got.length === 1);
    expect(got).toEqual(["in time"]);
  });

  test("[C47] redelivers what a consumer leaves or hangs on to, and expires what waits too long, alike on every backend", async () => {
    const [one, two] = [await lane.open(), await lane.open()];
    const name = lane.unique("tasks");
    await one.queue(name).publish("left behind");
    const held = await one.queue(name).deliveries({ concurrency: 1 }).next();
    expect(held.value?.attempt).toBe(1);
    await one.close({ drainMs: 0 });
    await two.queue(name).publish("hangs", { priority: -1 });
    await two.queue(name).publish("too late", { ttlMs: 1 });
    await pause(5);
    const got: string[] = [];
    const options = { concurrency: 1, handlerTimeoutMs: 50, retry: FAST } as const;
    await two.queue(name).subscribe(options, async (data, { attempt }) => {
      got.push(`${String(data)}@${attempt}`);
      if (data === "hangs" && attempt === 1) await new Promise(() => undefined);
    });
    await until(async () => (await two.queue(name).count()) === 0);
    expect(got).toEqual(["left behind@1", "hangs@1", "hangs@2"]);
    expect(await two.queue(name).stats()).toMatchObject({ expired: 1, dead: 0 });
  });

  test("[C2] what is stored is the truth: nothing that is published is lost with the news of it", async () => {
    const [publisher, consumer] = [await lane.open(), await lane.open()];
    const name = lane.unique("tasks");
    // Nobody is there to hear of it, and the one who comes later finds it all the same.
    await publisher.queue(name).publishMany(numbersTo(20), { target: "ada" });
    await publisher.close();
    const got: unknown[] = [];
    await consumer.queue(name).subscribe({ as: "ada", concurrency: 1 }, (data) => void got.push(data));
    await until(() => got.length === 20);
    expect(got).toEqual(numbersTo(20));
  });

  test("[C34] a broker closes by call or by leaving its scope, twice if need be, and lets its handlers finish", async () => {
    const name = lane.unique("tasks");
    const done: unknown[] = [];
    {
      const broker = await lane.open();
      await using scoped = broker;
      await scoped.queue(name).publishMany([1, 2]);
      let begun = 0;
      await scoped.queue(name).subscribe({}, async (data) => {
        begun += 1;
        await pause(20);
        done.push(data);
      });
      await until(() => begun === 2);
    }
    expect(new Set(done)).toEqual(new Set([1, 2]));
    const again = await lane.open();
    expect(await again.queue(name).count()).toBe(0);
    await Promise.all([again.close(), again.close()]);
    await again.close();
  });

  test("a handler that finishes while its broker closes may still look, acknowledge and publish", async () => {
    const [broker, other] = [await lane.open(), await lane.open()];
    const tasks = broker.queue(lane.unique("tasks"));
    const { id } = await tasks.publish("another's", { target: "bob" });
    const seen: unknown[] = [];
    let begin = (): void => undefined;
    const begun = new Promise<void>((resolve) => {
      begin = resolve;
    });
    await tasks.subscribe({ as: "ada" }, async () => {
      begin();
      await pause(20);
      seen.push((await tasks.get(id))?.data, await tasks.acknowledge(id, { recipient: "bob" }));
      await tasks.publish("done", { target: "eve" });
    });
    await tasks.publish("work", { target: "ada" });
    await begun;
    await broker.close();
    expect(seen).toEqual(["another's", true]);
    expect((await other.queue(tasks.name).pending("eve")).items).toMatchObject([{ data: "done" }]);
  });

  test("[C17] connecting needs no second step, and every call on a closed broker says so", async () => {
    const broker = await lane.open();
    expect(await broker.ping()).toBeGreaterThanOrEqual(0);
    const tasks = broker.queue(lane.unique("tasks"));
    await tasks.publish(1);
    await broker.close();
    for (const use of [
      () => tasks.publish(1),
      () => tasks.publishMany([1]),
      () => tasks.request(1),
      () => tasks.subscribe({}, () => undefined),
      () => tasks.subscribeBatch({}, () => undefined),
      () => tasks.pending(),
      () => tasks.get("1"),
      () => tasks.list(),
      () => tasks.count(),
      () => tasks.acknowledge("1"),
      () => tasks.delete("1"),
      () => tasks.clear({ confirm: tasks.name }),
      () => tasks.explain("1"),
      () => tasks.register("ada"),
      () => tasks.unregister("ada"),
      () => collect(tasks.recipients()),
      () => tasks.pause(),
      () => tasks.resume(),
      () => tasks.stats(),
      () => collect(tasks.deadLetters()),
      () => tasks.redrive(),
      () => tasks.purge(),
      () => broker.ping(),
    ]) {
      await expect(use(), use.toString()).rejects.toMatchObject({ code: "CLOSED" });
    }
  });

  test("[C48] liveness is asked through public calls, and names each consumer", async () => {
    const broker = await lane.open();
    const name = lane.unique("tasks");
    await broker.queue(name).subscribe({ as: "ada" }, () => undefined);
    expect(await broker.ping()).toBeLessThan(5_000);
    await until(async () => (await broker.health()).status === "up");
    const { details } = await broker.health();
    expect(details.checks.every(({ ok }) => ok)).toBe(true);
    expect(details.consumers).toMatchObject([{ channel: name, reader: "ada", state: "running", ok: true }]);
  });

  test("[C39] depth, oldest age and what is in flight are gauges, of each recipient", async () => {
    const broker = await lane.open();
    const tasks = broker.queue(lane.unique("tasks"));
    const { id } = await tasks.publish(1, { target: "ada" });
    await tasks.publishMany([2, 3], { target: "ada" });
    await tasks.publish(4, { target: "ada", delayMs: 60_000 });
    const { createdAt } = (await tasks.get(id))!;
    const before = await tasks.stats("ada");
    expect(before).toMatchObject({ waiting: 3, leased: 0, delayed: 1, oldestWaitingAt: createdAt, paused: false });
    const deliveries = tasks.deliveries({ as: "ada", concurrency: 2 });
    await deliveries.next();
    await until(async () => (await tasks.stats("ada")).leased === 2);
    expect(await tasks.stats("ada")).toMatchObject({
      waiting: 1,
      leased: 2,
      delayed: 1,
      dead: 0,
      expired: 0,
      dropped: 0,
    });
    expect((await tasks.stats("ada")).oldestWaitingAt).toBeGreaterThanOrEqual(createdAt);
    expect(await tasks.stats("nobody")).toMatchObject({ waiting: 0, oldestWaitingAt: undefined });
    await deliveries.close();
  });

  test("a handler's own wishes are honoured: retry, defer, skip, dead letter", async () => {
    const broker = await lane.open();
    const tasks = broker.queue(lane.unique("tasks"));
    let moment = 0;
    await tasks.publish("x", { priority: 3 });
    for await (const delivery of tasks.deliveries({ concurrency: 1 })) {
      moment += 1;
      if (moment === 1) await delivery.defer({ delayMs: 1 });
      else if (moment === 2) {
        expect(delivery.attempt).toBe(1);
        await delivery.retry({ delayMs: 1 });
      } else {
        expect([delivery.attempt, delivery.message.priority]).toEqual([2, 3]);
        await delivery.deadLetter("enough");
        break;
      }
    }
    expect(await collect(tasks.deadLetters())).toMatchObject([{ attempts: 2, reason: { message: "enough" } }]);
    const [letter] = await collect(tasks.deadLetters(undefined, {}));
    expect(await tasks.inspect(letter!.id)).toMatchObject({ id: letter!.id });
    expect(await tasks.redrive({ ids: [letter!.id] })).toBe(1);
    expect((await tasks.pending()).items).toMatchObject([{ priority: 3, attempts: 0, state: "waiting" }]);
    expect(await tasks.purge()).toBe(0);
  });
});

async function settle(delivery: QueueDelivery): Promise<void> {
  if (delivery.data === "retry" && delivery.attempt === 1) await delivery.retry({ delayMs: 1 });
  else if (delivery.data === "dead") await delivery.deadLetter("no good");
  else if (delivery.data === "skip") await delivery.skip();
  else await delivery.ack();
}

test("a recipient that nobody reads is forgotten after its time, and what it had is reported", async () => {
  const clock = createFakeClock();
  const reported: unknown[] = [];
  await using broker = await connect("memory:", {
    clock,
    logger: silentLogger,
    onError: (error) => void reported.push(error),
  });
  const tasks = broker.queue("tasks", { recipientTtlMs: 60_000 });
  await tasks.register("ada");
  await tasks.register("bob", { ttlMs: 600_000 });
  await tasks.publish("news", { audience: "registered" });
  await clock.advance(59_999);
  expect(await tasks.count()).toBe(1);
  await clock.advance(1);
  expect(await tasks.publish("more", { audience: "registered" })).toMatchObject({ recipients: 1 });
  expect(reported).toMatchObject([{ code: "DATA_LOSS", channel: "tasks", reader: "ada", count: 1 }]);
  expect(await collect(tasks.recipients())).toMatchObject([{ recipient: "bob", isOnline: false }]);
  expect(await tasks.unregister("bob")).toBe(true);
  expect(await tasks.unregister("bob")).toBe(false);
  expect(await tasks.count()).toBe(0);
});
