/** Publishing to a queue: whom it reaches, how long it lives, and what becomes of it when there is no room. */

import { expect, test } from "vitest";
import { connect, defineContract, type Queue } from "../../src/index.js";
import { createFakeClock } from "../../src/testing/index.js";
import { z } from "zod";
import { until } from "../support/wait.js";
import { onEveryBackend, recordingLogger, silentLogger } from "./support/lanes.js";

const HOUR = 3_600_000;
const numbersTo = (count: number): number[] => Array.from({ length: count }, (_, number) => number);

async function waitingIn(queue: Queue<unknown>, recipient?: string): Promise<unknown[]> {
  return (await queue.pending(recipient)).items.map(({ data }) => data);
}

onEveryBackend("publishing to a queue", (lane) => {
  test("[C18] takes source, target, priority and time to live; the receipt's id leads to the whole record", async () => {
    const broker = await lane.open();
    const tasks = broker.queue(lane.unique("tasks"));
    const before = Date.now();
    const receipt = await tasks.publish(
      { task: "process_data", data: [1, 2, 3] },
      { source: "agent_1", target: "agent_2", priority: 10, ttlMs: 300_000, headers: { team: "blue" } },
    );
    const durability = lane.name === "sqlite" ? "fsync" : "memory";
    expect(receipt).toEqual({ id: receipt.id, duplicate: false, recipients: 1, durability });
    const record = await tasks.get(receipt.id);
    expect(record).toMatchObject({
      id: receipt.id,
      data: { task: "process_data", data: [1, 2, 3] },
      message: { source: "agent_1", target: "agent_2", channel: tasks.name, headers: { team: "blue" }, priority: 10 },
      priority: 10,
      acknowledged: false,
      recipients: [{ recipient: "agent_2", state: "waiting", attempts: 0 }],
    });
    expect(record!.expiresAt! - record!.createdAt).toBe(300_000);
    expect(record!.createdAt).toBeGreaterThan(before - 5_000);
  });

  test("[C6] refuses what cannot be encoded, naming the path to it, and stores nothing", async () => {
    const broker = await lane.open();
    const tasks = broker.queue(lane.unique("tasks"));
    for (const [data, path] of [
      [{ steps: [{ at: new Map() }] }, "payload.steps[0].at"],
      [{ total: Number.NaN }, "payload.total"],
      [{ run: () => undefined }, "payload.run"],
    ] as const) {
      await expect(tasks.publish(data)).rejects.toMatchObject({
        code: "CODEC",
        message: expect.stringContaining(path),
      });
    }
    expect(await tasks.count()).toBe(0);
  });

  test("[C5] a message expires by its own time to live or the queue's, and is never delivered then", async () => {
    const broker = await lane.open();
    const name = lane.unique("tasks");
    const [short, plain] = [broker.queue(name, { ttlMs: 1 }), broker.queue(name)];
    await short.publish("by the queue's");
    await plain.publish("by its own", { ttlMs: 1 });
    await plain.publish("never");
    await until(async () => (await plain.stats()).expired === 2);
    const got: unknown[] = [];
    await plain.subscribe({}, (data) => void got.push(data));
    await until(() => got.length > 0);
    await until(async () => (await plain.count()) === 0);
    expect(got).toEqual(["never"]);
  });

  test("[C23] a time to live of null switches the queue's default off", async () => {
    const broker = await lane.open();
    const tasks = broker.queue(lane.unique("tasks"), { ttlMs: 60_000 });
    const { id: usual } = await tasks.publish("usual");
    const { id: endless } = await tasks.publish("endless", { ttlMs: null });
    const { id: own } = await tasks.publish("own", { ttlMs: 5_000 });
    const left = async (id: string): Promise<number | undefined> => {
      const { expiresAt, createdAt } = (await tasks.get(id))!;
      return expiresAt === undefined ? undefined : expiresAt - createdAt;
    };
    expect([await left(usual), await left(endless), await left(own)]).toEqual([60_000, undefined, 5_000]);
    await expect(tasks.publish("none", { ttlMs: 0 })).rejects.toMatchObject({ code: "INVALID_ARGUMENT" });
  });

  test("[C22] all of a batch is stored or nothing, and one message's expiry touches no other", async () => {
    const broker = await lane.open();
    const tasks = broker.queue(lane.unique("tasks"), { maxItems: 3 });
    // Too many for the room that there is: they travel together.
    const results = await Promise.allSettled(numbersTo(4).map((number) => tasks.publish(number, { target: "ada" })));
    expect(results.map(({ status }) => status)).toEqual(Array(4).fill("rejected"));
    expect(await tasks.stats("ada")).toMatchObject({ waiting: 0, delayed: 0 });
    await tasks.publish("a second", { target: "ada", ttlMs: 1 });
    await tasks.publish("a day", { target: "ada", ttlMs: 24 * HOUR });
    await tasks.publish("for ever", { target: "ada" });
    await until(async () => (await tasks.stats("ada")).expired === 1);
    expect(await waitingIn(tasks, "ada")).toEqual(["a day", "for ever"]);
  });

  test("[C20] a broadcast reaches everyone registered, also those who come later, or who is online alone", async () => {
    const broker = await lane.open();
    const tasks = broker.queue(lane.unique("tasks"));
    await tasks.register("ada");
    await tasks.register("bob");
    const sub = await tasks.subscribe({ as: "cyd" }, () => undefined);
    const got: unknown[] = [];
    expect(await tasks.publish("to all", { source: "system", audience: "registered" })).toMatchObject({
      recipients: 3,
    });
    await sub.close();
    await tasks.register("dan");
    // Who comes after it was published was not meant.
    expect(await waitingIn(tasks, "dan")).toEqual([]);
    expect(await waitingIn(tasks, "ada")).toEqual(["to all"]);
    await tasks.subscribe({ as: "bob" }, (data) => void got.push(data));
    await until(() => got.length === 1);
    expect(await tasks.publish("who is here", { audience: "online" })).toMatchObject({ recipients: 1 });
    await until(() => got.length === 2);
    expect(got).toEqual(["to all", "who is here"]);
    expect(await waitingIn(tasks, "ada")).toEqual(["to all"]);
    // Nobody is an audience as well: nothing is stored for it.
    const empty = broker.queue(lane.unique("tasks"));
    expect(await empty.publish("hello?", { audience: "registered" })).toMatchObject({ recipients: 0 });
    expect(await empty.count()).toBe(0);
  });

  test("a message has a target or an audience", async () => {
    const broker = await lane.open();
    const tasks = broker.queue(lane.unique("tasks"));
    const both = { target: "ada", audience: "registered" } as const;
    await expect(tasks.publish(1, both)).rejects.toMatchObject({
      code: "INVALID_ARGUMENT",
      message: expect.stringContaining("not to both"),
    });
    await expect(tasks.publish(1, { audience: "everybody" as "online" })).rejects.toMatchObject({
      code: "INVALID_ARGUMENT",
      message: expect.stringContaining('"registered" or "online"'),
    });
    expect(await tasks.count()).toBe(0);
  });

  test("an own id is stored once, while it waits and after it was handled", async () => {
    const broker = await lane.open();
    const tasks = broker.queue(lane.unique("tasks"));
    expect(await tasks.publish("first", { id: "order 7|x" })).toMatchObject({ id: "order 7|x", duplicate: false });
    expect(await tasks.publish("again", { id: "order 7|x" })).toMatchObject({
      id: "order 7|x",
      duplicate: true,
      recipients: 0,
    });
    const got: unknown[] = [];
    const sub = await tasks.subscribe({}, (data, { message }) => void got.push([data, message.id]));
    await until(() => sub.stats()[0]?.settled === 1);
    expect(await tasks.publish("late", { id: "order 7|x" })).toMatchObject({ duplicate: true });
    const many = await tasks.publishMany(["a", "b", "a"], { id: (data) => `of ${data}` });
    expect(many.map(({ id, duplicate }) => [id, duplicate])).toEqual([
      ["of a", false],
      ["of b", false],
      ["of a", true],
    ]);
    await until(() => got.length === 3);
    expect(got).toEqual([
      ["first", "order 7|x"],
      ["a", "of a"],
      ["b", "of b"],
    ]);
    await expect(tasks.publishMany([1], { id: "one for all" as never })).rejects.toMatchObject({
      code: "INVALID_ARGUMENT",
    });
    await expect(tasks.publish(1, { id: "x".repeat(201) })).rejects.toMatchObject({ code: "INVALID_ARGUMENT" });
  });

  test("[C37] a full queue rejects, blocks until there is room, or drops the oldest of the least urgent, as it is told", async () => {
    const broker = await lane.open();
    const rejecting = broker.queue(lane.unique("tasks"), { maxItems: 2 });
    await rejecting.publishMany([1, 2]);
    await expect(rejecting.publish(3)).rejects.toMatchObject({ code: "LIMIT", retryable: true });

    const name = lane.unique("tasks");
    const blocking = broker.queue(name, { maxItems: 2, overflow: "block", blockMs: 10_000 });
    await blocking.publishMany([1, 2]);
    let stored = false;
    const waits = blocking.publish(3).then(() => (stored = true));
    const [first] = (await blocking.pending()).items;
    expect(stored).toBe(false);
    expect(await blocking.acknowledge(first!.id)).toBe(true);
    await waits;
    expect(await waitingIn(blocking)).toEqual([2, 3]);
    const impatient = broker.queue(name, { maxItems: 2, overflow: "block", blockMs: 20 });
    await expect(impatient.publish(4)).rejects.toMatchObject({
      code: "LIMIT",
      message: expect.stringContaining("blockMs (20)"),
    });

    const dropping = broker.queue(lane.unique("tasks"), { maxItems: 3, overflow: "drop-oldest" });
    await dropping.publish("urgent", { priority: 5 });
    await dropping.publishMany(["old", "new"]);
    await dropping.publish("newest");
    expect(await waitingIn(dropping)).toEqual(["urgent", "new", "newest"]);
    expect(await dropping.stats()).toMatchObject({ dropped: 1 });
    const reported: unknown[] = [];
    const consumer = await lane.open({ onError: (error) => void reported.push(error) });
    const got: unknown[] = [];
    const mine = consumer.queue(dropping.name, { overflow: "drop-oldest" });
    await mine.subscribe({ concurrency: 1 }, (data) => void got.push(data));
    await until(() => got.length === 3);
    // It was wanted so: counted, and no failure.
    expect(reported).toEqual([]);
  });

  test("what is dropped and nobody wanted dropped is reported to who consumes it", async () => {
    const reported: unknown[] = [];
    const { logger, entries } = recordingLogger();
    const broker = await lane.open({ logger, onError: (error) => void reported.push(error) });
    const name = lane.unique("tasks");
    await broker.queue(name, { maxItems: 1, overflow: "drop-oldest" }).publish("old");
    await broker.queue(name, { maxItems: 1, overflow: "drop-oldest" }).publish("new");
    const got: unknown[] = [];
    await broker.queue(name).subscribe({}, (data) => void got.push(data));
    await until(() => got.length === 1 && reported.length === 1);
    expect(reported).toMatchObject([{ code: "DATA_LOSS", channel: name, count: 1 }]);
    expect(entries).toContainEqual({
      level: "warn",
      fields: { event: "message_gone", channel: name, reader: "", count: 1 },
    });
  });

  test("[C37] a queue is bounded without a word said, and unbounded it cannot be made", async () => {
    const broker = await lane.open();
    for (const maxItems of [0, Number.POSITIVE_INFINITY, 2 ** 40]) {
      expect(() => broker.queue(lane.unique("tasks"), { maxItems })).toThrow(
        expect.objectContaining({ code: "CONFIG", message: expect.stringContaining("maxItems") }),
      );
    }
  });

  test("options belong to the handle: two of one queue go by their own, and share the messages", async () => {
    const broker = await lane.open();
    const name = lane.unique("tasks");
    const [narrow, wide] = [broker.queue(name, { maxItems: 1, ttlMs: 60_000 }), broker.queue(name)];
    await wide.publishMany([1, 2]);
    await expect(narrow.publish(3)).rejects.toMatchObject({ code: "LIMIT" });
    const { id } = await wide.publish(4);
    expect((await narrow.get(id))?.expiresAt).toBeUndefined();
    expect(await waitingIn(narrow)).toEqual([1, 2, 4]);
  });

  test("what is said of records is the queue's: a handle that says something else is refused, naming both", async () => {
    const [one, two] = [await lane.open(), await lane.open()];
    const name = lane.unique("tasks");
    await one.queue(name, { keepAckedMs: HOUR, index: ["source"] }).publish(1);
    const other = two.queue(name, { keepAckedMs: 2 * HOUR, maxRecords: 5, index: ["target", "source"] });
    for (const use of [() => other.publish(2), () => other.list(), () => other.count({ source: "anybody" })]) {
      await expect(use()).rejects.toMatchObject({
        code: "CONFIG",
        problems: [
          expect.stringContaining("keepAckedMs 3600000, and this handle says 7200000"),
          expect.stringContaining("maxRecords 10000, and this handle says 5"),
          expect.stringContaining("index [source], and this handle says [source, target]"),
        ],
      });
    }
    await expect(two.queue(name, { index: ["source"] }).count()).rejects.toMatchObject({ code: "CONFIG" });
    // Who says nothing takes it as it is, and the same may be said again in another order.
    expect((await two.queue(name).list()).items).toHaveLength(1);
    const same = two.queue(name, { index: ["source", "source"], maxRecords: 10_000, keepAckedMs: HOUR });
    expect((await same.list()).items).toHaveLength(1);
    // Of an empty queue it can be changed.
    await one.queue(name).clear({ confirm: name });
    await other.publish(3);
    expect(await other.count({ target: "nobody" })).toBe(0);
  });

  test("options that cannot be meant are refused, all at once", async () => {
    const broker = await lane.open();
    for (const [options, count] of [
      [{ overflow: "drop", ttlMs: 0, maxItmes: 1 }, 3],
      [{ blockMs: 5 }, 1],
      [{ maxRecords: 5 }, 1],
      [{ index: ["source", "colour"] }, 1],
      [{ index: "source" }, 1],
      [{ recipientTtlMs: 100, onExpired: "shout" }, 2],
    ] as const) {
      expect(() => broker.queue("tasks", options as object), JSON.stringify(options)).toThrow(
        expect.objectContaining({ code: "CONFIG", problems: expect.objectContaining({ length: count }) }),
      );
    }
  });
});

test("[C14] options have the names of the source in this one's spelling, and their defaults are bounds", async () => {
  const clock = createFakeClock();
  // redis_url, namespace: connect's; ttl_seconds, max_items: the queue's. The source's own 10,000 belongs to its preset.
  await using broker = await connect("memory:", { namespace: "default", logger: silentLogger, clock });
  const tasks = broker.queue("tasks", { ttlMs: 3_600_000, maxItems: 10_000 });
  await tasks.publishMany(numbersTo(10_000));
  await expect(tasks.publish(10_001)).rejects.toMatchObject({
    code: "LIMIT",
    message: expect.stringContaining("10000"),
  });
  await clock.advance(3_600_000);
  expect(await tasks.stats()).toMatchObject({ waiting: 0, expired: 10_000 });
  // Without a word: no expiry, and room for a million.
  const plain = broker.queue("plain");
  await plain.publishMany(numbersTo(10_001));
  await clock.advance(365 * 24 * HOUR);
  expect(await plain.stats()).toMatchObject({ waiting: 10_001, expired: 0 });
});

test("[C35] short and long times to live both hold, to the millisecond of the store's clock", async () => {
  const clock = createFakeClock();
  await using broker = await connect("memory:", { logger: silentLogger, clock });
  const tasks = broker.queue("tasks");
  await tasks.publish({ status: "online" }, { source: "agent_1", ttlMs: 30_000 });
  await tasks.publish({ report: "daily_summary" }, { source: "agent_1", ttlMs: 86_400_000 });
  await clock.advance(29_999);
  expect(await tasks.count()).toBe(2);
  await clock.advance(1);
  expect(await waitingIn(tasks)).toEqual([{ report: "daily_summary" }]);
  await clock.advance(86_400_000 - 30_001);
  expect(await tasks.count()).toBe(1);
  await clock.advance(1);
  expect(await tasks.count()).toBe(0);
});

onEveryBackend("a typed queue", (lane) => {
  test("is checked at both ends: a payload of another shape is refused, and what a schema transforms arrives so", async () => {
    const at = z.string().transform((text) => new Date(text));
    const contract = defineContract({ queues: { visits: z.object({ at }) } });
    const namespace = lane.unique("ns");
    const visits = (await lane.open({ contract, namespace })).queue("visits");
    await expect(visits.publish({ at: 5 } as never)).rejects.toMatchObject({ code: "SCHEMA" });
    const { id } = await visits.publish({ at: "2026-01-01T00:00:00.000Z" });
    expect((await visits.get(id))?.data).toEqual({ at: new Date("2026-01-01") });
    const [item] = (await visits.pending()).items;
    expect(item?.message?.data.at).toEqual(new Date("2026-01-01"));
    // What the contract refuses is shown as it was published.
    const stranger = (await lane.open({ namespace })).queue("visits");
    const { id: odd } = await stranger.publish({ at: 5 });
    expect((await visits.get(odd))?.data).toEqual({ at: 5 });
  });
});
