/** Reading the past again, the same on every backend. */

import { expect, test } from "vitest";
import { z } from "zod";
import { connect, deadLetter, defineContract, ReplayError, retry, skip } from "../../src/index.js";
import { createFakeClock } from "../../src/testing/index.js";
import { pause as moment, until } from "../support/wait.js";
import { onEveryBackend, silentLogger } from "./support/lanes.js";

const numbersTo = (count: number): number[] => Array.from({ length: count }, (_, number) => number);

onEveryBackend("a replay", (lane) => {
  test("[E28] hands over a stretch of the past once, in order and one at a time, and leaves every group untouched", async () => {
    const broker = await lane.open();
    const type = lane.unique("t");
    const receipts = await broker.events.publishMany(type, numbersTo(350), { key: (data) => `k${String(data)}` });
    const iterator = broker.events.deliveries(type, { group: "g", from: "beginning", concurrency: 2 });
    await iterator.next();
    const before = (await broker.events.stats(type)).groups;
    const seen: unknown[] = [];
    let running = 0;
    const result = await broker.events.replay(type, { from: "beginning" }, async (data, context) => {
      running += 1;
      expect(running).toBe(1);
      await Promise.resolve();
      seen.push(data);
      expect(context).toMatchObject({ attempt: 1, channel: type, params: {} });
      expect(context.message).toMatchObject({
        data,
        type,
        key: `k${String(data)}`,
        position: receipts[Number(data)]?.position,
      });
      running -= 1;
    });
    expect(seen).toEqual(numbersTo(350));
    expect(result).toEqual({ handled: 350, passedOver: 0, unreadable: 0, position: receipts[349]?.position });
    const after = (await broker.events.stats(type)).groups;
    expect(after).toMatchObject(before.map(({ lag, pending, retrying, dead }) => ({ lag, pending, retrying, dead })));
    await iterator.return();
  });

  test("[E28] begins and ends where it is told to, by place and by time", async () => {
    const broker = await lane.open();
    const type = lane.unique("t");
    const early = await broker.events.publishMany(type, [0, 1, 2, 3]);
    await moment(2);
    const noon = new Date();
    await moment(2);
    const late = await broker.events.publishMany(type, [4, 5, 6]);
    const at = (index: number): string => String([...early, ...late][index]?.position);
    const cases: readonly [Parameters<typeof broker.events.replay>[1], number[]][] = [
      [{ from: "beginning" }, [0, 1, 2, 3, 4, 5, 6]],
      [{ from: at(2) }, [2, 3, 4, 5, 6]],
      [{ from: { at: at(2) } }, [2, 3, 4, 5, 6]],
      [{ from: { after: at(2) } }, [3, 4, 5, 6]],
      [{ from: noon }, [4, 5, 6]],
      [{ from: new Date(0) }, [0, 1, 2, 3, 4, 5, 6]],
      [{ from: new Date(Date.now() + 3_600_000) }, []],
      [{ from: "new" }, []],
      [{ from: at(1), to: at(4) }, [1, 2, 3, 4]],
      [{ from: at(1), to: noon }, [1, 2, 3]],
      [{ from: "beginning", to: new Date(0) }, []],
      [{ from: at(4), to: at(1) }, []],
      [{ from: { after: at(1) }, to: new Date(Date.now() + 3_600_000) }, [2, 3, 4, 5, 6]],
    ];
    for (const [options, expected] of cases) {
      const seen: unknown[] = [];
      const result = await broker.events.replay(type, options, (data) => void seen.push(data));
      expect(seen, JSON.stringify(options)).toEqual(expected);
      expect(result.handled).toBe(expected.length);
      expect(result.position).toBe(expected.length === 0 ? undefined : at(expected.at(-1) ?? 0));
    }
    // What comes while it runs is not its business.
    const seen: unknown[] = [];
    await broker.events.replay(type, { from: at(5) }, async (data) => {
      seen.push(data);
      await broker.events.publish(type, 99);
    });
    expect(seen).toEqual([5, 6]);
    expect(await broker.events.replay(lane.unique("none"), { from: "beginning" }, () => undefined)).toEqual({
      handled: 0,
      passedOver: 0,
      unreadable: 0,
      position: undefined,
    });
  });

  test("[E28] passes over what its filter leaves out, and tells what it could not read", async () => {
    const contract = defineContract({ events: { n: z.number(), other: z.unknown() } });
    const namespace = lane.unique("replay");
    const untyped = await lane.open({ namespace });
    const errors: [string, string][] = [];
    const broker = await lane.open({
      contract,
      namespace,
      onError: (error, where) => void errors.push([error.name, where]),
    });
    const { position } = await untyped.events.publish("n", "no number");
    await untyped.events.publishMany("n", numbersTo(10), { headers: { even: "?" } });
    const seen: number[] = [];
    const result = await broker.events.replay(
      "n",
      {
        from: "beginning",
        where: async (data, { headers }) => headers?.["even"] === "?" && data % 2 === 0,
      },
      (data) => void seen.push(data),
    );
    expect(seen).toEqual([0, 2, 4, 6, 8]);
    expect(result).toMatchObject({ handled: 5, passedOver: 5, unreadable: 1 });
    expect(errors).toEqual([["SchemaError", `replay of n at ${position}`]]);
  });

  test("[E28] stops where its handler fails, and says from where to go on", async () => {
    const broker = await lane.open();
    const type = lane.unique("t");
    const receipts = await broker.events.publishMany(type, numbersTo(5));
    const seen: unknown[] = [];
    const cause = new RangeError("too many eggs");
    const failed = broker.events.replay(type, { from: "beginning" }, (data) => {
      if (data === 3) throw cause;
      seen.push(data);
    });
    const error = await failed.catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(ReplayError);
    expect(error).toMatchObject({ code: "REPLAY", position: receipts[3]?.position, handled: 3, cause });
    expect(String(error)).toContain(`position "${String(receipts[3]?.position)}"`);
    expect(String(error)).toContain("too many eggs");
    await broker.events.replay(type, { from: (error as ReplayError).position }, (data) => void seen.push(data));
    expect(seen).toEqual(numbersTo(5));
    for (const outcome of [retry(), deadLetter("bad")]) {
      await expect(broker.events.replay(type, { from: "beginning" }, () => outcome)).rejects.toThrow(ReplayError);
    }
    expect(await broker.events.replay(type, { from: "beginning" }, () => skip())).toMatchObject({ handled: 5 });
  });

  test("[E28] is given up by its signal, and by the broker's close once its handler has finished", async () => {
    const broker = await lane.open();
    const witness = await lane.open();
    const type = lane.unique("t");
    await broker.events.publishMany(type, numbersTo(5));
    const stop = new AbortController();
    let inner: AbortSignal | undefined;
    const given = broker.events.replay(type, { from: "beginning", signal: stop.signal }, (_, { signal }) => {
      inner = signal;
      return new Promise(() => undefined);
    });
    await until(() => inner);
    stop.abort("enough");
    await expect(given).rejects.toBe("enough");
    expect(inner?.reason).toBe("enough");

    let finished = 0;
    let started = false;
    const closed = broker.events.replay(type, { from: "beginning" }, async () => {
      started = true;
      await moment(50);
      finished += 1;
    });
    closed.catch(() => undefined);
    await until(() => started);
    await broker.close();
    await expect(closed).rejects.toMatchObject({ code: "CLOSED" });
    expect(finished).toBe(1);
    await expect(broker.events.replay(type, { from: "beginning" }, () => undefined)).rejects.toMatchObject({
      code: "CLOSED",
    });
    expect((await witness.events.stats(type)).length).toBe(5);
  });

  test("what is dropped beneath it is told, and what is dropped behind it is not", async () => {
    const type = lane.unique("t");
    const losses: Error[] = [];
    const broker = await lane.open({
      streams: { [type]: { maxEntries: 250 } },
      onError: (error) => void losses.push(error),
    });
    const receipts = await broker.events.publishMany(type, numbersTo(250));
    const seen: unknown[] = [];
    const behind = await broker.events.replay(type, { from: "beginning" }, async (data) => {
      seen.push(data);
      if (data === 150) await broker.events.publishMany(type, numbersTo(20));
    });
    expect([behind.handled, behind.position, losses]).toEqual([250, receipts[249]?.position, []]);
    seen.length = 0;
    const from = { at: String(receipts[100]?.position) };
    const options = { from, to: String(receipts[249]?.position) };
    await broker.events.replay(type, options, async (data) => {
      seen.push(data);
      // More than the rest of the page.
      if (data === 101) await broker.events.publishMany(type, numbersTo(190));
    });
    expect(seen.slice(0, 100)).toEqual(numbersTo(200).slice(100));
    expect(seen.at(-1)).toBe(249);
    expect(seen.length).toBeLessThan(150);
    expect(losses).toMatchObject([{ code: "DATA_LOSS", channel: type, reader: "replay" }]);
    expect(losses[0]?.message).toContain(receipts[199]?.position);
    // Where it was to begin is no more.
    await broker.events.replay(type, options, () => undefined);
    expect(losses).toHaveLength(2);
    const backwards = { from: { at: options.to }, to: from.at };
    expect(await broker.events.replay(type, backwards, () => undefined)).toMatchObject({ handled: 0 });
    expect(losses).toHaveLength(2);
  });

  test("what cannot be meant is refused", async () => {
    const broker = await lane.open();
    const type = lane.unique("t");
    await broker.events.publish(type, 1);
    for (const options of [
      undefined,
      {},
      { from: "" },
      { from: "no position" },
      { from: "beginning", to: "no position" },
      { from: "beginning", to: "" },
      { from: "beginning", to: 7 },
      { from: "beginning", ratePerSecond: 0 },
      { from: "beginning", ratePerSecond: Number.NaN },
      { from: "beginning", where: "x" },
      { from: "beginning", until: "x" },
    ]) {
      await expect(
        broker.events.replay(type, options as never, () => undefined),
        JSON.stringify(options),
      ).rejects.toMatchObject({ code: expect.stringMatching(/CONFIG|NOT_FOUND/) });
    }
    await expect(broker.events.replay(type, { from: "beginning" }, undefined as never)).rejects.toMatchObject({
      code: "INVALID_ARGUMENT",
    });
  });
});

test.each([
  [0.5, 4, 6_000],
  [3, 7, 2_000],
  [1_000, 101, 100],
  [10_000, 1_001, 100],
])("[E28] at %d a second, %d events take %d ms, to the millisecond", async (ratePerSecond, count, takesMs) => {
  const clock = createFakeClock();
  await using broker = await connect("memory:", { clock, logger: silentLogger });
  await broker.events.publishMany("t", numbersTo(count));
  const start = clock.now();
  const times: number[] = [];
  const replaying = broker.events.replay(
    "t",
    { from: "beginning", ratePerSecond },
    () => void times.push(clock.now() - start),
  );
  await clock.advance(takesMs - 1);
  expect(times.length).toBeLessThan(count);
  await clock.advance(2);
  expect(await replaying).toMatchObject({ handled: count });
  for (const [index, time] of times.entries()) {
    const due = (index * 1_000) / ratePerSecond;
    expect(time).toBeGreaterThanOrEqual(Math.floor(due));
    expect(time).toBeLessThanOrEqual(Math.ceil(due) + 1);
  }
});

test("[E28] a slow handler is not made to catch up with the rate in a rush", async () => {
  const clock = createFakeClock();
  await using broker = await connect("memory:", { clock, logger: silentLogger });
  await broker.events.publishMany("t", numbersTo(30));
  const times: number[] = [];
  const start = clock.now();
  const replaying = broker.events.replay("t", { from: "beginning", ratePerSecond: 10 }, async (data) => {
    times.push(clock.now() - start);
    if (data === 0) await new Promise<void>((resolve) => void clock.setTimer(resolve, 10_000));
  });
  await clock.advance(20_000);
  expect(await replaying).toMatchObject({ handled: 30 });
  const gaps = times.slice(2).map((time, index) => time - (times[index + 1] ?? 0));
  // One interval at most is made up for.
  expect(gaps.filter((gap) => gap < 100)).toHaveLength(1);
});

test("a replay that waits for its rate ends at once when the broker closes", async () => {
  const clock = createFakeClock();
  const broker = await connect("memory:", { clock, logger: silentLogger });
  await broker.events.publishMany("t", [1, 2]);
  const replaying = broker.events.replay("t", { from: "beginning", ratePerSecond: 0.001 }, () => undefined);
  replaying.catch(() => undefined);
  await clock.advance(10);
  await broker.close();
  await expect(replaying).rejects.toMatchObject({ code: "CLOSED" });
});
