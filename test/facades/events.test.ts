/** Events as their users see them, the same on every backend. */

import { expect, test } from "vitest";
import { type Context, deadLetter, defer, LeaseLostError, retry, skip } from "../../src/index.js";
import { pause, until } from "../support/wait.js";
import { collect, onEveryBackend, recordingLogger } from "./support/lanes.js";

const FAST = { initialMs: 1, maxMs: 2 };

onEveryBackend("events", (lane) => {
  test("[E5] publishing appends to the stream of the event's type and says where", async () => {
    const broker = await lane.open();
    const type = lane.unique("order.created");
    const first = await broker.events.publish(type, { total: 1 });
    const second = await broker.events.publish(type, { total: 2 });
    expect(first.id).toMatch(/^[0-9a-f-]{36}$/);
    expect(first.position).not.toBe(second.position);
    expect(first.durability).toBe(lane.name === "sqlite" ? "fsync" : "memory");
    expect((await broker.events.stats(type)).length).toBe(2);

    const got: unknown[] = [];
    await broker.events.subscribe(
      type,
      { group: "billing", from: "beginning", concurrency: 1 },
      (data) => void got.push(data),
    );
    await until(() => got.length === 2);
    expect(got).toEqual([{ total: 1 }, { total: 2 }]);
  });

  test("[E6][E22] the envelope arrives whole: id, type, source, UTC time, version, correlation, causation, trace, key, headers", async () => {
    const broker = await lane.open({ source: "shop" });
    const type = lane.unique("order.paid");
    const options = {
      source: "till-7",
      key: "customer-1",
      correlationId: "c-1",
      causationId: "b-1",
      traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
      schemaVersion: 3,
      headers: { tenant: "Zürich\n2" },
    };
    const before = Date.now();
    const { id, position } = await broker.events.publish(type, { total: 1 }, options);
    await broker.events.publish(type, { total: 2 });

    const contexts: Context[] = [];
    await broker.events.subscribe(
      type,
      { group: "g", from: "beginning", concurrency: 1 },
      (_, context) => void contexts.push(context),
    );
    await until(() => contexts.length === 2);
    const [full, plain] = contexts.map(({ message }) => message);
    expect(full).toMatchObject({
      id,
      position,
      type,
      channel: type,
      ...options,
      contentType: "json",
      data: { total: 1 },
    });
    expect(full?.time).toBeGreaterThanOrEqual(before - 1);
    expect(full?.time).toBeLessThanOrEqual(Date.now() + 1);
    expect(plain).toMatchObject({ type, source: "shop", data: { total: 2 } });
    expect(contexts[0]?.attempt).toBe(1);
  });

  test("[E7] what is published is logged with its stream, its count and the first id", async () => {
    const { logger, entries } = recordingLogger();
    const broker = await lane.open({ logger });
    const type = lane.unique("seen");
    const { id } = await broker.events.publish(type, {});
    expect(entries).toContainEqual({
      level: "debug",
      fields: { event: "message_published", channel: type, count: 1, id },
    });
  });

  test("[E10] ten deliveries at a time are the default, and no handler waits for another", async () => {
    const broker = await lane.open();
    const type = lane.unique("t");
    await broker.events.publishMany(
      type,
      Array.from({ length: 25 }, (_, number) => ({ number })),
    );
    let running = 0;
    let most = 0;
    const release: (() => void)[] = [];
    const sub = await broker.events.subscribe(type, { group: "g", from: "beginning" }, async () => {
      running += 1;
      most = Math.max(most, running);
      await new Promise<void>((resolve) => release.push(resolve));
      running -= 1;
    });
    await until(() => running === 10);
    for (let done = 0; done < 25; done += 1) {
      const next = await until(() => release.shift());
      next();
    }
    await until(() => sub.stats()[0]?.settled === 25);
    expect(most).toBe(10);
  });

  test("[E11] what a consumer left unsettled is seen again by the next one", async () => {
    const type = lane.unique("t");
    const crashed = await lane.open();
    await crashed.events.publish(type, "first");
    const iterator = crashed.events.deliveries(type, { group: "g", from: "beginning", leaseMs: 300 });
    const { value: held } = await iterator.next();
    expect(held?.attempt).toBe(1);
    // Leaving gives it back at once; a crash would leave it to the lease (test/faults).
    await iterator.return();

    const attempts: number[] = [];
    const other = await lane.open();
    await other.events.subscribe(type, { group: "g", from: "new" }, (_, { attempt }) => void attempts.push(attempt));
    await until(() => attempts.length === 1);
    expect(attempts).toEqual([1]);
  });

  test("[E12] the handler is awaited, and only then the event is acknowledged", async () => {
    const broker = await lane.open();
    const type = lane.unique("t");
    await broker.events.publish(type, {});
    let finish: (() => void) | undefined;
    await broker.events.subscribe(type, { group: "g", from: "beginning" }, async () => {
      await new Promise<void>((resolve) => {
        finish = resolve;
      });
    });
    const end = await until(() => finish);
    const group = async () => (await broker.events.stats(type)).groups[0];
    expect(await group()).toMatchObject({ pending: 1, lag: 0 });
    end();
    await until(async () => (await group())?.pending === 0);
  });

  test("[X4] a failing handler gets three attempts with backoff, then its event is a dead letter with the reason", async () => {
    const broker = await lane.open();
    const type = lane.unique("t");
    const { id, position } = await broker.events.publish(type, { bad: true });
    const times: number[] = [];
    await broker.events.subscribe(type, { group: "g", from: "beginning" }, () => {
      times.push(performance.now());
      throw new RangeError("too many eggs");
    });
    await until(async () => (await broker.events.stats(type)).groups[0]?.dead === 1);
    expect(times).toHaveLength(3);
    // 100 ms doubling, each 20 % more or less.
    expect((times[1] ?? 0) - (times[0] ?? 0)).toBeGreaterThanOrEqual(79);
    expect((times[2] ?? 0) - (times[1] ?? 0)).toBeGreaterThanOrEqual(159);

    const letters = await collect(broker.events.group(type, "g").deadLetters());
    expect(letters).toHaveLength(1);
    expect(letters[0]).toMatchObject({
      attempts: 3,
      reason: { kind: "failed", message: "RangeError: too many eggs" },
      message: { id, position, data: { bad: true } },
    });
    expect(letters[0]?.reason.stack).toContain("events.test.ts");
  });

  test("every outcome does what it says: retry, defer, deadLetter, skip, nothing", async () => {
    const broker = await lane.open();
    const type = lane.unique("t");
    const events = ["retry", "defer", "deadLetter", "skip", "ack"];
    await broker.events.publishMany(type, events);
    const seen: string[] = [];
    await broker.events.subscribe(type, { group: "g", from: "beginning", retry: FAST }, (data, { attempt }) => {
      const times = seen.filter((name) => name.startsWith(String(data))).length;
      seen.push(`${String(data)}@${attempt}`);
      if (times > 0) return undefined;
      if (data === "retry") return retry({ delayMs: 5 });
      if (data === "defer") return defer({ delayMs: 5 });
      if (data === "deadLetter") return deadLetter("not mine");
      return data === "skip" ? skip() : "any other value is ignored";
    });
    await until(() => seen.length === 7);
    await until(async () => (await broker.events.stats(type)).groups[0]?.pending === 0);
    expect(seen.toSorted()).toEqual(["ack@1", "deadLetter@1", "defer@1", "defer@1", "retry@1", "retry@2", "skip@1"]);
    const letters = await collect(broker.events.group(type, "g").deadLetters());
    expect(letters.map(({ reason }) => reason)).toEqual([{ kind: "rejected", message: "not mine" }]);
  });

  test("[E19][E20] consumers of one group share its events, every group gets all, and one broker serves many", async () => {
    const type = lane.unique("t");
    const [one, two] = [await lane.open(), await lane.open()];
    const shared: number[] = [];
    const all: number[] = [];
    const options = { group: "workers", from: "beginning", concurrency: 3 } as const;
    for (const broker of [one, two, two]) {
      await broker.events.subscribe(type, options, (data) => void shared.push(Number(data)));
    }
    await one.events.subscribe(type, { group: "audit", from: "beginning" }, (data) => void all.push(Number(data)));
    const numbers = Array.from({ length: 300 }, (_, number) => number);
    await one.events.publishMany(type, numbers);
    await until(() => shared.length >= 300 && all.length >= 300);
    expect(shared.toSorted((a, b) => a - b)).toEqual(numbers);
    expect(all.toSorted((a, b) => a - b)).toEqual(numbers);
    expect((await one.events.stats(type)).groups.map(({ group }) => group).toSorted()).toEqual(["audit", "workers"]);
  });

  test("[E21] closing the broker ends what it started: handlers finish, later calls are refused", async () => {
    const broker = await lane.open();
    const type = lane.unique("t");
    let started = 0;
    let finished = 0;
    await broker.events.subscribe(type, { group: "g", from: "beginning" }, async (_, { signal }) => {
      started += 1;
      await pause(50);
      if (!signal.aborted) finished += 1;
    });
    await broker.events.publishMany(type, [1, 2, 3]);
    await until(() => started === 3);
    // A shared memory store lives as long as somebody has it open.
    const after = await lane.open();
    await Promise.all([broker.close(), broker.close()]);
    expect(finished).toBe(3);
    await expect(broker.events.publish(type, 4)).rejects.toMatchObject({ code: "CLOSED" });
    expect((await after.events.stats(type)).groups[0]).toMatchObject({ pending: 0, lag: 0, retrying: 0 });
  });

  test("a handler outlives its lease as long as its consumer lives, because the lease is renewed", async () => {
    const broker = await lane.open();
    const type = lane.unique("t");
    await broker.events.publish(type, {});
    const attempts: number[] = [];
    const options = { group: "g", from: "beginning", leaseMs: 800 } as const;
    let done = false;
    for (let consumer = 0; consumer < 2; consumer += 1) {
      await broker.events.subscribe(type, options, async (_, { attempt }) => {
        attempts.push(attempt);
        await pause(2_500);
        done = true;
      });
    }
    await until(() => done);
    await until(async () => (await broker.events.stats(type)).groups[0]?.pending === 0);
    expect(attempts).toEqual([1]);
  });

  test("the iterable form settles each delivery as its caller says, and tells a second settlement that it came too late", async () => {
    const broker = await lane.open();
    const type = lane.unique("t");
    await broker.events.publishMany(type, ["ack", "retry", "dead", "leave"]);
    const seen: string[] = [];
    for await (const delivery of broker.events.deliveries(type, { group: "g", from: "beginning", retry: FAST })) {
      seen.push(`${String(delivery.data)}@${delivery.attempt}`);
      if (delivery.data === "leave") break;
      if (delivery.data === "dead") await delivery.deadLetter("no");
      else if (delivery.data === "retry" && delivery.attempt === 1) await delivery.retry({ delayMs: 60_000 });
      else {
        await delivery.extend();
        await delivery.ack();
        await expect(delivery.extend()).rejects.toThrow(LeaseLostError);
      }
    }
    expect(seen).toEqual(["ack@1", "retry@1", "dead@1", "leave@1"]);
    const { groups } = await broker.events.stats(type);
    expect(groups[0]).toMatchObject({ pending: 0, dead: 1 });
    // What was left goes back at once.
    expect(groups[0]?.retrying).toBe(2);
  });

  test("a group starts where it is told to: at the beginning, with what is new, behind a position, at a date", async () => {
    const broker = await lane.open();
    const type = lane.unique("t");
    const receipts = await broker.events.publishMany(type, [1, 2, 3]);
    // Redis and this process share the machine's clock: all three are older than the next millisecond.
    const stored = Date.now();
    await until(() => Date.now() > stored);
    const now = new Date();
    await until(() => Date.now() > now.getTime());
    await broker.events.publish(type, 4);
    const starts = {
      beginning: "beginning",
      new: "new",
      after: { after: String(receipts[1]?.position) },
      date: now,
    } as const;
    const got: Record<string, unknown[]> = {};
    for (const [group, from] of Object.entries(starts)) {
      got[group] = [];
      await broker.events.subscribe(type, { group, from, concurrency: 1 }, (data) => void got[group]?.push(data));
    }
    await broker.events.publish(type, 5);
    await until(() => Object.values(got).every((data) => data.includes(5)));
    expect(got).toEqual({ beginning: [1, 2, 3, 4, 5], new: [5], after: [3, 4, 5], date: [4, 5] });
  });

  test("a consumer that disagrees with what its group was made with is refused, naming each difference", async () => {
    const broker = await lane.open();
    const type = lane.unique("t");
    const handler = (): void => undefined;
    await broker.events.subscribe(type, { group: "g", from: "new", leaseMs: 5_000 }, handler);
    const refused = broker.events.subscribe(
      type,
      { group: "g", from: "new", leaseMs: 6_000, retry: { maxAttempts: 9 } },
      handler,
    );
    await expect(refused).rejects.toMatchObject({
      code: "CONFIG",
      problems: [expect.stringContaining("leaseMs 5000"), expect.stringContaining("maxAttempts 3")],
    });
    // What it does not say it takes as it is.
    await broker.events.subscribe(type, { group: "g", from: "beginning" }, handler);
  });

  test("bytes travel as they are, and what JSON would change is refused before anything is written", async () => {
    const broker = await lane.open({ maxPayloadBytes: 1_000 });
    const type = lane.unique("t");
    await broker.events.publish(type, Uint8Array.from([0, 10, 13, 255]));
    const cyclic: Record<string, unknown> = {};
    cyclic["self"] = cyclic;
    for (const [payload, code] of [
      [undefined, "CODEC"],
      [() => 1, "CODEC"],
      [{ a: [1n] }, "CODEC"],
      [{ a: Number.NaN }, "CODEC"],
      [new Map([[1, 2]]), "CODEC"],
      [cyclic, "CODEC"],
      ["x".repeat(1_001), "LIMIT"],
      [new Uint8Array(1_001), "LIMIT"],
    ] as const) {
      await expect(broker.events.publish(type, payload)).rejects.toMatchObject({ code });
    }
    expect((await broker.events.stats(type)).length).toBe(1);
    const got: unknown[] = [];
    await broker.events.subscribe(type, { group: "g", from: "beginning" }, (data) => void got.push(data));
    await until(() => got.length === 1);
    expect(Array.from(got[0] as Uint8Array)).toEqual([0, 10, 13, 255]);
  });
});
