/** Items are found by their ids: whatever they are like, their tickets can be made of their records. */

import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { NewItem } from "../../../src/core/backend.js";
import { type RedisServer, startRedis } from "../../support/redis-servers.js";
import { pause, until } from "../../support/wait.js";
import {
  acks,
  CONSUMER,
  collect,
  isScriptWith,
  item,
  LIMITS,
  losing,
  openPorts,
  textsOf,
} from "./log-queue-support.js";
import { faultsIn } from "./queue-audit.js";

let server: RedisServer;
beforeAll(async () => {
  server = await startRedis();
});
afterAll(() => server.stop());

let queues = 0;
const newName = (): string => `ids-${(queues += 1)}`;

const anyItem = fc.record({
  id: fc.string({ minLength: 1, unit: "grapheme" }),
  recipient: fc.oneof(
    fc.constant(""),
    fc.string({ minLength: 1, unit: "grapheme" }),
    fc.constantFrom("*", "a@1", "a|b", "\n"),
    fc.constant({ audience: "registered" } as const),
  ),
  header: fc.string({ unit: "grapheme" }).filter((header) => !header.includes("\n")),
  data: fc.oneof(fc.string({ unit: "binary" }), fc.uint8Array()),
  priority: fc.oneof(fc.integer({ min: -2, max: 20 }), fc.maxSafeInteger()),
  delayMs: fc.constantFrom(0, 60_000),
  ttlMs: fc.constantFrom(undefined, 60_000),
});

test("whatever an item is like, it comes back by its id as it was given, and is finished by it", async () => {
  const { queue, redis } = await openPorts(server);
  const items = fc.uniqueArray(anyItem, { selector: ({ id }) => id, minLength: 1, maxLength: 20 });
  await fc.assert(
    fc.asyncProperty(items, async (given: readonly NewItem[]) => {
      const name = newName();
      await queue.register(name, "some\nbody", { ttlMs: 60_000, isAudience: true });
      await queue.push(name, given, LIMITS);
      for (const { id, recipient, header, data, priority, delayMs } of given) {
        const whom = typeof recipient === "string" ? recipient : "some\nbody";
        const found = await queue.get(name, id);
        expect(found).toMatchObject({ id, header, priority, state: "open" });
        expect(Buffer.from(found?.data ?? [])).toEqual(Buffer.from(data as string));
        expect(found?.recipients).toMatchObject([
          { recipient: whom, state: delayMs > 0 ? "delayed" : "waiting", attempts: 0 },
        ]);
        expect(await queue.acknowledge(name, `not ${whom}`, [id])).toEqual([false]);
        expect(await queue.acknowledge(name, whom, [id])).toEqual([true]);
        expect(await queue.get(name, id)).toBeUndefined();
      }
      expect(await queue.count(name, {})).toBe(0);
    }),
    { numRuns: 60 },
  );
  expect(await faultsIn(redis.connections.shared("any"))).toEqual([]);
});

test("also the last ones of a push of thousands", async () => {
  const { queue } = await openPorts(server);
  const name = newName();
  const ids = Array.from({ length: 3_000 }, (_, index) => `${index}`);
  await queue.push(
    name,
    ids.map((id, index) => item(id, { priority: index % 3 })),
    LIMITS,
  );
  for (const id of ["0", "1023", "1024", "2999"])
    expect(await queue.get(name, id)).toMatchObject({ id, state: "open" });
  expect(await queue.acknowledge(name, "", ids)).toEqual(ids.map(() => true));
  expect(await queue.stats(name, "")).toMatchObject({ waiting: 0, leased: 0, delayed: 0 });
});

test("a place in line tells when the item was pushed, by the server's clock", async () => {
  const { queue } = await openPorts(server);
  const name = newName();
  const now = async (): Promise<number> => {
    const [seconds, micros] = ((await server.cli("TIME")) as string[]).map(Number);
    return Math.floor((seconds ?? 0) * 1_000 + (micros ?? 0) / 1_000);
  };
  const from = await now();
  await queue.push(name, [item("a")], LIMITS);
  const to = await now();
  await pause(20);
  await queue.push(name, [item("b")], LIMITS);
  const { at = 0 } = (await queue.get(name, "a")) ?? {};
  expect(at).toBeGreaterThanOrEqual(from);
  expect(at).toBeLessThanOrEqual(to);
  expect((await queue.stats(name, "")).oldestWaitingAt).toBe(at);
  const browsed = await queue.browse(name, "", { max: 10 });
  expect(browsed.items.map((one) => one.at)).toEqual([at, (await queue.get(name, "b"))?.at]);
});

test("places in line go on growing when the server's clock has been ahead", async () => {
  const { queue } = await openPorts(server);
  const name = newName();
  const ahead = (Date.now() + 3_600_000) * 16;
  await server.cli("HSET", `sb1:{test:queue:${name}:0}:state`, "line", ahead);
  for (const id of ["a", "b", "c"]) await queue.push(name, [item(id)], LIMITS);
  const feed = await queue.open(name, "", CONSUMER);
  expect(textsOf(await collect(feed, 3))).toEqual(["a", "b", "c"]);
});

describe("lost replies", () => {
  const isAcknowledge = isScriptWith("the-id");

  test.each(["unsent", "unanswered"] as const)(
    "an acknowledgement that is %s finishes once, and says so",
    async (fate) => {
      const ports = await openPorts(server);
      const name = newName();
      await ports.queue.push(name, [item("the-id"), item("other")], LIMITS);
      ports.judge(losing(isAcknowledge, fate));
      expect(await ports.queue.acknowledge(name, "", ["the-id", "nothing"])).toEqual([true, false]);
      expect(await ports.queue.acknowledge(name, "", ["the-id"])).toEqual([false]);
      expect((await ports.queue.stats(name, "")).waiting).toBe(1);
    },
  );

  test.each(["unsent", "unanswered"] as const)("a removal that is %s counts what it has removed", async (fate) => {
    const ports = await openPorts(server);
    const name = newName();
    await ports.queue.configure(name, { keepAckedMs: 60_000, maxRecords: 10, index: [] });
    await ports.queue.push(name, [item("the-id"), item("other")], LIMITS);
    ports.judge(losing(isAcknowledge, fate));
    expect(await ports.queue.remove(name, ["the-id", "nothing"])).toBe(1);
    expect(await ports.queue.count(name, {})).toBe(1);
  });

  test("forgetting, clearing and registering are done once, however often they are asked for", async () => {
    const ports = await openPorts(server);
    const name = newName();
    const interrupted = (): void => ports.judge(losing(isScriptWith(name), "unanswered"));
    await ports.queue.push(name, [item("a", { recipient: "anna" }), item("b"), item("c")], LIMITS);
    interrupted();
    await ports.queue.register(name, "anna", { ttlMs: 60_000, isAudience: true });
    expect((await ports.queue.recipients(name, { max: 10 })).recipients).toHaveLength(1);
    interrupted();
    await ports.queue.pause(name, "anna");
    expect(await ports.queue.stats(name, "anna")).toMatchObject({ paused: true, waiting: 1 });
    interrupted();
    await ports.queue.unregister(name, "anna");
    expect((await ports.queue.recipients(name, { max: 10 })).recipients).toEqual([]);
    expect(await ports.queue.stats(name, "anna")).toMatchObject({ paused: false, waiting: 0 });
    interrupted();
    await ports.queue.clear(name);
    expect(await ports.queue.count(name, {})).toBe(0);
  });
});

test("a server that has lost its scripts in the middle is none the wiser", async () => {
  const ports = await openPorts(server);
  const name = newName();
  await ports.queue.configure(name, { keepAckedMs: 60_000, maxRecords: 100, index: ["kind"] });
  const steps: readonly (() => Promise<unknown>)[] = [
    () => ports.queue.register(name, "anna", { ttlMs: 60_000, isAudience: true }),
    () => ports.queue.push(name, [item("a", { recipient: { audience: "registered" }, fields: { kind: "k" } })], LIMITS),
    () => ports.queue.push(name, [item("b", { recipient: "anna", ttlMs: 60_000 }), item("c")], LIMITS),
    () => ports.queue.list(name, { fields: { kind: "k" } }, { max: 10 }),
    () => ports.queue.browse(name, "anna", { max: 10 }),
    () => ports.queue.acknowledge(name, "anna", ["a"]),
    () => ports.queue.get(name, "a"),
    () => ports.queue.remove(name, ["c"]),
    () => ports.queue.clear(name),
  ];
  for (const step of steps) {
    await server.cli("SCRIPT", "FLUSH");
    await step();
  }
  expect(await ports.queue.count(name, {})).toBe(0);
  expect(ports.reports).toEqual([]);
});

describe("full memory", () => {
  test("what ends items goes on, and so does an answer; what adds some is refused whole", async () => {
    await using full = await startRedis();
    const { queue, redis, reports } = await openPorts(full);
    const ids = Array.from({ length: 20 }, (_, index) => `m${index}`);
    await queue.configure("q", { keepAckedMs: 60_000, maxRecords: 1_000, index: ["kind"] });
    await queue.register("q", "anna", { ttlMs: 60_000, isAudience: true });
    await queue.register("q", "asker", { ttlMs: 60_000, isAudience: false });
    await queue.push(
      "q",
      ids.map((id) => item(id, { recipient: { audience: "registered" }, fields: { kind: "k" } })),
      LIMITS,
    );
    await full.cli("CONFIG", "SET", "maxmemory", "1");
    await expect(queue.push("q", [item("no")], LIMITS)).rejects.toMatchObject({ code: "OUT_OF_MEMORY" });
    const feed = await queue.open("q", "anna", { ...CONSUMER, registration: { ttlMs: 60_000, isAudience: true } });
    const [first, second] = (await collect(feed, 2)).deliveries;
    if (first === undefined || second === undefined) throw new Error("there are two");
    const reply = { id: "answer", recipient: "asker", header: "h", data: "d", priority: 0, ttlMs: 60_000 };
    const reason = { kind: "rejected", message: "no" } as const;
    const outcomes = [{ receipt: first.receipt, as: "ack", reply } as const];
    await feed.take({ max: 0, waitMs: 0 }, [...outcomes, { receipt: second.receipt, as: "deadLetter", reason }]);
    expect((await queue.stats("q", "asker")).waiting).toBe(1);
    const [letter] = (await queue.deadLetters("q", "anna").list({ max: 1 })).letters;
    await expect(queue.deadLetters("q", "anna").redrive([letter?.id ?? ""])).rejects.toMatchObject({
      code: "OUT_OF_MEMORY",
    });
    expect(await queue.acknowledge("q", "anna", ["m2"])).toEqual([true]);
    expect(await queue.remove("q", ["m0", "m3"])).toBe(2);
    await queue.pause("q", "anna");
    await queue.resume("q", "anna");
    expect(await queue.unregister("q", "asker")).toBe(true);
    await feed.close();
    await until(async () => (await queue.clear("q")) === 0);
    expect(await faultsIn(redis.connections.shared("any"))).toEqual([]);
    expect(reports).toEqual([]);
  });
});

test("items of an earlier build are delivered, and not found by their ids", async () => {
  const { queue, redis } = await openPorts(server);
  const name = newName();
  const key = (part: string): string => `sb1:{test:queue:${name}:0}:${part}`;
  const connection = redis.connections.shared(key("records"));
  // As the build before wrote them: no start, and places that are counted from 1.
  for (const [index, id] of ["old1", "old2", "old3"].entries()) {
    await connection.command(["HSET", key("records"), id, `header of ${id}\n${id}`]);
    await connection.command(["ZADD", key("r::waiting"), "0", `00000000${index + 1}000|0|${id}`]);
  }
  await queue.push(name, [item("new")], LIMITS);
  expect(await queue.get(name, "old1")).toBeUndefined();
  expect(await queue.acknowledge(name, "", ["old1"])).toEqual([false]);
  expect((await queue.browse(name, "", { max: 10 })).items.map(({ id, at }) => [id, at > 0])).toEqual([
    ["old1", false],
    ["old2", false],
    ["old3", false],
    ["new", true],
  ]);
  expect((await queue.stats(name, "")).oldestWaitingAt).toBeUndefined();
  expect(await queue.push(name, [item("old3")], LIMITS)).toMatchObject([{ duplicate: true }]);
  expect(await queue.remove(name, ["old2"])).toBe(1);
  const feed = await queue.open(name, "", CONSUMER);
  const taken = await collect(feed, 3);
  expect([textsOf(taken), taken.gone]).toEqual([["old1", "old3", "new"], 1]);
  expect(taken.deliveries[0]?.header).toBe("header of old1");
  expect((await feed.take({ max: 0, waitMs: 0 }, acks(taken))).lost).toEqual([]);
  expect(await queue.count(name, {})).toBe(0);
});
