/** What a queue keeps besides what delivering needs: who says so, who may say something else, and what that touches. */

import { describe, expect, test } from "vitest";
import { connect } from "../../src/index.js";
import { until } from "../support/wait.js";
import { onRedis, silentLogger } from "./support/lanes.js";

const HOUR = 3_600_000;
const RECORDED = { keepAckedMs: HOUR, index: ["source"] } as const;

test("who says something else of records than what is stored cannot publish, list or count, and may do all else", async () => {
  const reports: unknown[] = [];
  await using one = await connect("memory:records", { logger: silentLogger });
  await using two = await connect("memory:records", {
    logger: silentLogger,
    onError: (error) => void reports.push(error),
  });
  const { id } = await one.queue("tasks", { keepAckedMs: HOUR }).publish(1);
  await one.queue("tasks").publish(2);
  const other = two.queue("tasks", { keepAckedMs: 2 * HOUR });
  const refused = { code: "CONFIG", message: expect.stringContaining("keepAckedMs") };
  await expect(other.publish(3)).rejects.toMatchObject(refused);
  await expect(other.publishMany([3])).rejects.toMatchObject(refused);
  await expect(other.list()).rejects.toMatchObject(refused);
  await expect(other.count()).rejects.toMatchObject(refused);
  expect((await other.stats()).waiting).toBe(2);
  expect((await other.pending()).items).toHaveLength(2);
  expect((await other.explain(id)).found).toBe(true);
  expect(await other.acknowledge(id)).toBe(true);
  expect((await other.get(id))?.state).toBe("acked");
  expect(await other.delete(id)).toBe(true);
  await other.pause();
  await other.resume();
  const handled: unknown[] = [];
  const first = await other.subscribe({}, (data) => void handled.push(data));
  const second = await other.subscribe({}, (data) => void handled.push(data));
  await until(() => handled.length > 0);
  await Promise.all([first.close(), second.close()]);
  expect(handled).toEqual([2]);
  expect(reports, "once, and not at each consumer").toMatchObject([refused]);
  expect(await other.clear({ confirm: "tasks" })).toBe(1);
  await other.publish(4);
});

describe("a server that was emptied", () => {
  onRedis((lane, server) => {
    test("[X5] is told again what is kept by the next publish, list or consumer, and refuses nothing", async () => {
      const broker = await lane.open();
      for (const use of ["publish", "list", "subscribe"] as const) {
        const tasks = broker.queue(lane.unique("tasks"), RECORDED);
        await tasks.publish(1);
        await server().cli("flushall");
        if (use === "subscribe") await (await tasks.subscribe({ as: "ada" }, () => undefined)).close();
        if (use === "list") expect((await tasks.list()).items).toEqual([]);
        const { id } = await broker.queue(tasks.name, use === "publish" ? RECORDED : undefined).publish(2);
        expect(await tasks.acknowledge(id)).toBe(true);
        expect((await tasks.get(id))?.state, use).toBe("acked");
        expect((await tasks.stats()).waiting).toBe(0);
        expect(await tasks.count({ state: "acked" })).toBe(1);
      }
    });
  });
});

test("messages are found by their source and target, whoever has said what is indexed", async () => {
  await using broker = await connect("memory:", { logger: silentLogger });
  const [plain, indexed] = [broker.queue("tasks"), broker.queue("tasks", { index: ["source", "target"] })];
  await indexed.count();
  await plain.publish(1, { source: "s", target: "ada" });
  await indexed.publish(2, { source: "s", target: "ben" });
  expect(await indexed.count({ source: "s" })).toBe(2);
  expect(await indexed.count({ target: "ada" })).toBe(1);
  await expect(indexed.count({ filter: { source: "s" } } as object)).rejects.toThrow("takes the filter itself");
});

test("what is closed says so, whatever its handle says of records", async () => {
  const broker = await connect("memory:", { logger: silentLogger });
  const tasks = broker.queue("tasks", { keepAckedMs: HOUR });
  await broker.close();
  await expect(tasks.publish(1)).rejects.toThrow("the broker is closed");
  await expect(tasks.publishMany([1])).rejects.toThrow("the broker is closed");
});

test("the inbox of a fan-out consumer can be looked at, paused and forgotten by its listed name", async () => {
  await using broker = await connect("memory:", { logger: silentLogger });
  const tasks = broker.queue("tasks");
  await using _consuming = await tasks.subscribe({ fanout: true }, () => undefined);
  const { value: listed } = await tasks.recipients().next();
  const name: string = listed!.recipient;
  expect(listed!.lapsesAt - Date.now(), "whoever died is forgotten soon").toBeLessThanOrEqual(120_000);
  await tasks.pause(name);
  await tasks.publish("news", { audience: "registered" });
  expect(await tasks.stats(name)).toMatchObject({ waiting: 1, paused: true });
  expect((await tasks.pending(name)).items).toHaveLength(1);
  await tasks.resume(name);
  expect(await tasks.unregister(name)).toBe(true);
  await expect(tasks.publish(1, { target: name })).rejects.toMatchObject({ code: "INVALID_ARGUMENT" });
});

test("a dead letter without a record is explained, whoever it was for", async () => {
  await using broker = await connect("memory:", { logger: silentLogger });
  const tasks = broker.queue("tasks");
  const options = { retry: { maxAttempts: 1 } };
  const fail = (): never => {
    throw new Error("no");
  };
  await using _shared = await tasks.subscribe(options, fail);
  await using _ada = await tasks.subscribe({ ...options, as: "ada" }, fail);
  const [shared, hers] = [(await tasks.publish(1)).id, (await tasks.publish(2, { target: "ada" })).id];
  await until(async () => (await tasks.stats()).dead + (await tasks.stats("ada")).dead === 2);
  expect(await tasks.explain(hers, { recipient: "ada" })).toMatchObject({ found: false, dead: true });
  const told = await tasks.explain(shared, { recipient: "ada" });
  expect(told).toMatchObject({ dead: true, summary: expect.stringContaining("whoever consumes the queue") });
  const unknown = await tasks.explain(hers);
  expect(unknown).toMatchObject({ dead: false, summary: expect.stringContaining("ask with { recipient }") });
});

test("refusals and reports name what was wrong, and what to do", async () => {
  const reports: Error[] = [];
  await using broker = await connect("memory:", { logger: silentLogger, onError: (error) => void reports.push(error) });
  expect(() => broker.queue("tasks", { index: ["type"] } as object)).toThrow('it has "type"');
  const full = broker.queue("tasks", { maxItems: 1, overflow: "drop-oldest" });
  await full.publishMany([1, 2]).catch(() => undefined);
  await full.publish(3);
  await full.publish(4);
  await expect(broker.queue("tasks", { maxItems: 1 }).publish(5)).rejects.toThrow("recipients() and stats()");
  await using _consuming = await broker.queue("tasks").subscribe({}, () => undefined);
  await until(() => reports.length > 0);
  expect(reports[0]?.message).toContain('overflow "drop-oldest"');
  expect(reports[0]?.message).not.toContain("stream");
});
