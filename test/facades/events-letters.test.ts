/** Retries and dead letters of events as their users see them, the same on every backend. */

import { expect, test } from "vitest";
import type { Broker, EventDeadLetter, EventGroup } from "../../src/index.js";
import { until } from "../support/wait.js";
import { collect, onEveryBackend } from "./support/lanes.js";

const FAST = { initialMs: 1, maxMs: 2 };
const ONCE = { maxAttempts: 1 };

onEveryBackend("dead letters of events", (lane) => {
  /** A group with these dead letters, oldest first; its consumer has gone. */
  async function bury(broker: Broker, type: string, data: readonly unknown[]): Promise<EventGroup> {
    await broker.events.publishMany(type, data);
    const options = { group: "g", from: "beginning", concurrency: 1, retry: ONCE } as const;
    const sub = await broker.events.subscribe(type, options, () => {
      throw new Error("no");
    });
    const group = broker.events.group(type, "g");
    await until(async () => (await group.stats()).dead === data.length, { deadlineMs: 20_000 });
    await sub.close();
    return group;
  }

  const dataOf = (letters: readonly EventDeadLetter[]): unknown[] => letters.map(({ message }) => message?.data);

  test("[E13][E30] an event that fails is tried again with backoff, and is a dead letter only after its last attempt", async () => {
    const broker = await lane.open();
    const type = lane.unique("t");
    const { id } = await broker.events.publish(type, { bad: true });
    const attempts: number[] = [];
    const times: number[] = [];
    const options = { group: "g", from: "beginning", retry: { maxAttempts: 4, initialMs: 40, jitter: 0 } } as const;
    await broker.events.subscribe(type, options, (_, { attempt }) => {
      attempts.push(attempt);
      times.push(performance.now());
      throw new TypeError(`attempt ${attempt}`);
    });
    const group = broker.events.group(type, "g");
    await until(async () => (await group.stats()).retrying === 1);
    expect(await collect(group.deadLetters())).toEqual([]);
    await until(async () => (await group.stats()).dead === 1);
    expect(attempts).toEqual([1, 2, 3, 4]);
    const gaps = times.slice(1).map((time, index) => time - (times[index] ?? 0));
    for (const [index, least] of [39, 79, 159].entries()) expect(gaps[index]).toBeGreaterThanOrEqual(least);
    expect(await collect(group.deadLetters())).toMatchObject([
      { attempts: 4, message: { id }, reason: { kind: "failed", message: "TypeError: attempt 4" } },
    ]);
    expect(await group.stats()).toMatchObject({ pending: 0, retrying: 0, lag: 0, dead: 1 });
  });

  test("[E14] a dead letter says where it comes from, who gave up, why, and since when it failed", async () => {
    const broker = await lane.open();
    const type = lane.unique("t");
    const traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    const sent = await broker.events.publish(type, { bad: 1 }, { traceparent, key: "c-7", headers: { tenant: "z" } });
    const options = { group: "billing", from: "beginning", retry: { ...FAST, maxAttempts: 2, initialMs: 30 } } as const;
    const before = Date.now();
    await broker.events.subscribe(type, options, () => {
      throw new RangeError("too many eggs");
    });
    const group = broker.events.group(type, "billing");
    const [letter] = await until(async () => {
      const letters = await collect(group.deadLetters());
      return letters.length > 0 && letters;
    });
    expect(letter).toMatchObject({
      stream: type,
      group: "billing",
      position: sent.position,
      attempts: 2,
      consumer: expect.stringContaining(String(process.pid)),
      reason: {
        kind: "failed",
        message: "RangeError: too many eggs",
        stack: expect.stringContaining("events-letters"),
      },
      message: { id: sent.id, data: { bad: 1 }, traceparent, key: "c-7", headers: { tenant: "z" } },
    });
    expect(Buffer.from(letter?.raw ?? []).toString()).toBe('{"bad":1}');
    // The store and this process share the machine's clock.
    expect(letter?.firstFailedAt).toBeGreaterThanOrEqual(before - 1);
    expect((letter?.at ?? 0) - (letter?.firstFailedAt ?? 0)).toBeGreaterThanOrEqual(1);
    expect(letter?.at).toBeLessThanOrEqual(Date.now() + 1);
    expect(await group.inspect(String(letter?.id))).toEqual(letter);
    await group.purge({ ids: [String(letter?.id)] });
    expect(await group.inspect(String(letter?.id))).toBeUndefined();
  });

  test("[E14][E30] redriven letters are delivered again, to their group alone, with attempts from 1", async () => {
    const broker = await lane.open();
    const type = lane.unique("t");
    const group = await bury(broker, type, [1, 2, 3]);
    const audit: unknown[] = [];
    await broker.events.subscribe(type, { group: "audit", from: "beginning" }, (data) => void audit.push(data));
    await until(() => audit.length === 3);

    expect(await group.redrive({ max: 2 })).toBe(2);
    expect(dataOf(await collect(group.deadLetters()))).toEqual([3]);
    const seen: unknown[] = [];
    const options = { group: "g", from: "beginning", concurrency: 1 } as const;
    await broker.events.subscribe(type, options, (data, { attempt }) => void seen.push([data, attempt]));
    expect(await group.redrive()).toBe(1);
    await until(() => seen.length === 3);
    expect(seen).toEqual([
      [1, 1],
      [2, 1],
      [3, 1],
    ]);
    await until(async () => (await group.stats()).pending === 0);
    expect(await group.stats()).toMatchObject({ lag: 0, dead: 0, retrying: 0 });
    expect(await group.redrive()).toBe(0);
    expect(audit).toEqual([1, 2, 3]);
    // Nor does a replay see them twice.
    expect(await broker.events.replay(type, { from: "beginning" }, () => undefined)).toMatchObject({ handled: 3 });
  });

  test("[E14] redriving ends with the letters that were there, also when their handler fails again meanwhile", async () => {
    const broker = await lane.open();
    const type = lane.unique("t");
    const count = 250;
    const group = await bury(
      broker,
      type,
      Array.from({ length: count }, (_, number) => number),
    );
    let calls = 0;
    await broker.events.subscribe(type, { group: "g", from: "beginning" }, () => {
      calls += 1;
      throw new Error("still not");
    });
    expect(await group.redrive()).toBe(count);
    await until(async () => (await group.stats()).dead === count, { deadlineMs: 20_000 });
    expect(calls).toBe(count);
  });

  test("[E14] letters are redriven and purged by id and by age, and read in pages", async () => {
    const broker = await lane.open();
    const type = lane.unique("t");
    const numbers = Array.from({ length: 120 }, (_, number) => number);
    const group = await bury(broker, type, numbers);
    const letters = await collect(group.deadLetters());
    expect(dataOf(letters)).toEqual(numbers);
    const ids = letters.map(({ id }) => id);
    expect(await group.redrive({ ids: [ids[5]!, ids[5]!, ids[3]!, "no such letter"] })).toBe(2);
    expect(await group.purge({ ids: [ids[0]!, ids[5]!] })).toBe(1);
    expect(dataOf(await collect(group.deadLetters()))).toEqual(numbers.filter((number) => ![0, 3, 5].includes(number)));
    expect(await group.purge({ olderThanMs: 3_600_000 })).toBe(0);
    expect(await group.purge()).toBe(117);
    expect(await collect(group.deadLetters())).toEqual([]);
    const seen: unknown[] = [];
    const options = { group: "g", from: "beginning", concurrency: 1 } as const;
    await broker.events.subscribe(type, options, (data) => void seen.push(data));
    await until(() => seen.length === 2);
    expect(seen).toEqual([5, 3]);
  });

  test("what cannot be read is a dead letter with its bytes, and can be redriven once it can", async () => {
    const [plain, picky] = [
      await lane.open(),
      await lane.open({
        codec: {
          contentType: "rot",
          encode: (value) => `rot:${JSON.stringify(value)}`,
          decode: (bytes) => JSON.parse(Buffer.from(bytes).toString().slice(4)) as unknown,
        },
      }),
    ];
    const type = lane.unique("t");
    await picky.events.publish(type, { a: 1 });
    const sub = await plain.events.subscribe(type, { group: "g", from: "beginning" }, () => undefined);
    const group = plain.events.group(type, "g");
    await until(async () => (await group.stats()).dead === 1);
    const [letter] = await collect(group.deadLetters());
    expect(letter).toMatchObject({ message: undefined, attempts: 1, reason: { kind: "undecodable" } });
    expect(Buffer.from(letter?.raw ?? []).toString()).toBe('rot:{"a":1}');
    await sub.close();
    const seen: unknown[] = [];
    await picky.events.subscribe(type, { group: "g", from: "beginning" }, (data) => void seen.push(data));
    await group.redrive();
    await until(() => seen.length === 1);
    expect(seen).toEqual([{ a: 1 }]);
  });

  test("a group that does not exist has no letters to show: it is told, and so is what cannot be meant", async () => {
    const broker = await lane.open();
    const type = lane.unique("t");
    await broker.events.publish(type, 1);
    const none = broker.events.group(type, "none");
    for (const call of [
      () => collect(none.deadLetters()),
      () => none.inspect("1"),
      () => none.redrive(),
      () => none.redrive({ ids: ["1"] }),
      () => none.purge(),
    ]) {
      await expect(call(), String(call)).rejects.toMatchObject({ code: "NOT_FOUND" });
    }
    const group = await bury(broker, lane.unique("t"), [1]);
    for (const call of [
      () => group.redrive({ max: 0 }),
      () => group.redrive({ ids: "1" as never }),
      () => group.redrive({ maxx: 1 } as never),
      () => group.purge({ olderThanMs: -1 }),
      () => group.purge({ ids: ["1"], olderThanMs: 1 }),
      () => group.inspect(7 as never),
    ]) {
      await expect(call(), String(call)).rejects.toMatchObject({
        code: expect.stringMatching(/CONFIG|INVALID_ARGUMENT/),
      });
    }
    expect((await group.stats()).dead).toBe(1);
  });

  test("a queue's dead letters can be looked at, redriven and purged in the same way", async () => {
    const broker = await lane.open();
    const queue = broker.queue(lane.unique("q"));
    await queue.publishMany(["a", "b", "c"], { target: "ada", priority: 3 });
    const sub = await queue.subscribe({ as: "ada", concurrency: 1, retry: ONCE }, () => {
      throw new Error("no");
    });
    await until(async () => (await queue.stats("ada")).dead === 3);
    await sub.close();
    const [letter] = await collect(queue.deadLetters("ada"));
    expect(letter).toMatchObject({
      queue: queue.name,
      recipient: "ada",
      attempts: 1,
      message: { data: "a", priority: 3 },
    });
    expect(letter?.position).toBe(letter?.message?.id);
    expect(await queue.inspect(letter!.id, { recipient: "ada" })).toEqual(letter);
    expect(await queue.redrive({ recipient: "ada", max: 1 })).toBe(1);
    expect(await queue.stats("ada")).toMatchObject({ waiting: 1, dead: 2 });
    expect(await queue.purge({ recipient: "ada" })).toBe(2);
    expect(await queue.redrive({ recipient: "ada" })).toBe(0);
    const seen: unknown[] = [];
    await queue.subscribe({ as: "ada" }, (data, { attempt, message }) => {
      seen.push([data, attempt, message.priority, message.id]);
    });
    await until(() => seen.length === 1);
    expect(seen).toEqual([["a", 1, 3, letter?.position]]);
    for (const call of [
      () => queue.inspect("1", { recipiant: "ada" } as never),
      () => queue.inspect("1", { signal: "now" } as never),
      () => queue.inspect("1", null as never),
      () => queue.redrive({ recipiant: "ada" } as never),
      () => queue.redrive(null as never),
      () => queue.purge({ recipient: "ada", older: 1 } as never),
      () => queue.purge(null as never),
      () => queue.purge({ ids: ["1"], olderThanMs: 1 }),
    ]) {
      await expect(call(), String(call)).rejects.toMatchObject({
        code: expect.stringMatching(/CONFIG|INVALID_ARGUMENT/),
      });
    }
  });
});
