/** What can be done to a group, the same on every backend: its cursor, its settings, pausing it, removing it. */

import { expect, test } from "vitest";
import type { Broker, StartPlace } from "../../src/index.js";
import { pause as moment, until } from "../support/wait.js";
import { onEveryBackend, recordingLogger } from "./support/lanes.js";

onEveryBackend("a group of events", (lane) => {
  /** Consumes with one handler at a time, and notes what it gets. */
  async function consume(broker: Broker, type: string, group = "g") {
    const seen: unknown[] = [];
    const options = { group, from: "beginning", concurrency: 1 } as const;
    const sub = await broker.events.subscribe(type, options, (data) => void seen.push(data));
    return { seen, sub };
  }

  test("[E28] is moved to the beginning, the end, a position, behind one, and to a date; its consumers go on from there", async () => {
    const broker = await lane.open();
    const type = lane.unique("t");
    const receipts = await broker.events.publishMany(type, [1, 2, 3]);
    const second = String(receipts[1]?.position);
    // By the store's clock, which is the machine's: a millisecond apart is enough.
    await moment(2);
    const now = new Date();
    await moment(2);
    await broker.events.publish(type, 4);
    const { seen } = await consume(broker, type);
    const group = broker.events.group(type, "g");
    const places: readonly [StartPlace, readonly number[]][] = [
      ["beginning", [1, 2, 3, 4]],
      [second, [2, 3, 4]],
      [{ at: second }, [2, 3, 4]],
      [{ after: second }, [3, 4]],
      [now, [4]],
      ["new", []],
    ];
    for (const [place, expected] of places) {
      await until(async () => {
        const { lag, pending } = await group.stats();
        return lag + pending === 0;
      });
      seen.length = 0;
      await group.seek(place);
      await until(() => seen.length === expected.length);
      expect(seen, JSON.stringify(place)).toEqual(expected);
    }
    await broker.events.publish(type, 5);
    await until(() => seen.length === 1);
    expect(seen).toEqual([5]);
  });

  test("[E28] a seek drops what is in hand: what handlers make of it changes nothing, and dead letters stay", async () => {
    const broker = await lane.open();
    const type = lane.unique("t");
    await broker.events.publishMany(type, ["bad", "slow"]);
    const group = broker.events.group(type, "g");
    let finish: (() => void) | undefined;
    const seen: string[] = [];
    const options = { group: "g", from: "beginning", retry: { maxAttempts: 1 } } as const;
    const sub = await broker.events.subscribe(type, options, async (data, { attempt }) => {
      seen.push(`${String(data)}@${attempt}`);
      if (data === "bad") throw new Error("no");
      if (finish === undefined) await new Promise<void>((resolve) => (finish = resolve));
    });
    await until(async () => (await group.stats()).dead === 1);
    const end = await until(() => finish);
    await group.seek("beginning");
    await until(() => seen.length === 4);
    expect(seen.toSorted()).toEqual(["bad@1", "bad@1", "slow@1", "slow@1"]);
    await until(async () => (await group.stats()).dead === 2);
    await until(async () => (await group.stats()).pending === 0);
    end();
    await until(() => sub.stats()[0]?.lost === 1);
    expect(await group.stats()).toMatchObject({ pending: 0, retrying: 0, lag: 0, dead: 2 });
  });

  test("hands nothing out while it is paused, in any process; what is in hand may be finished", async () => {
    const [one, two] = [await lane.open(), await lane.open()];
    const type = lane.unique("t");
    const group = one.events.group(type, "g");
    await one.events.publish(type, "in hand");
    const seen: unknown[] = [];
    let finish: (() => void) | undefined;
    for (const broker of [one, two]) {
      await broker.events.subscribe(type, { group: "g", from: "beginning" }, async (data) => {
        seen.push(data);
        if (data === "in hand") await new Promise<void>((resolve) => (finish = resolve));
      });
    }
    const end = await until(() => finish);
    await group.pause();
    await two.events.group(type, "g").pause();
    await one.events.publishMany(type, [1, 2, 3]);
    end();
    await until(async () => (await group.stats()).pending === 0);
    // Long enough for every consumer to have looked.
    await moment(1_200);
    expect(seen).toEqual(["in hand"]);
    expect(await group.stats()).toMatchObject({ paused: true, lag: 3 });
    await two.events.group(type, "g").resume();
    await group.resume();
    await until(() => seen.length === 4);
    expect(await group.stats()).toMatchObject({ paused: false });
  });

  test("what is stored with it can be changed; consumers that ask for something else are refused from then on", async () => {
    const broker = await lane.open();
    const type = lane.unique("t");
    const { sub } = await consume(broker, type);
    const group = broker.events.group(type, "g");
    const handler = (): void => undefined;
    expect(await group.configure({ leaseMs: 5_000, maxAttempts: 7, maxDeadLetters: 3 })).toMatchObject({
      leaseMs: 5_000,
      maxAttempts: 7,
      maxDeadLetters: 3,
      order: "none",
    });
    await expect(
      broker.events.subscribe(type, { group: "g", from: "new", leaseMs: 30_000 }, handler),
    ).rejects.toMatchObject({ problems: [expect.stringContaining("leaseMs 5000")] });
    await broker.events.subscribe(
      type,
      { group: "g", from: "new", leaseMs: 5_000, retry: { maxAttempts: 7 } },
      handler,
    );
    expect(await group.configure({ order: "key", maxHeld: 9 })).toMatchObject({ order: "key", maxHeld: 9 });
    expect((await group.stats()).settings).toMatchObject({ leaseMs: 5_000, order: "key", maxHeld: 9 });
    for (const changes of [
      {},
      { leaseMs: 1 },
      { maxAttempts: 0 },
      { order: "keys" },
      { types: ["a"] },
      { from: "new" },
      { leaseMs: undefined },
      "x",
      undefined,
      null,
    ]) {
      await expect(group.configure(changes as never), JSON.stringify(changes)).rejects.toMatchObject({
        code: "CONFIG",
      });
    }
    await sub.close();
  });

  test("its order cannot change while something is on its way", async () => {
    const broker = await lane.open();
    const type = lane.unique("t");
    await broker.events.publish(type, 1);
    const iterator = broker.events.deliveries(type, { group: "g", from: "beginning" });
    const { value: held } = await iterator.next();
    const group = broker.events.group(type, "g");
    await expect(group.configure({ order: "strict" })).rejects.toMatchObject({ code: "CONFIG" });
    await held?.ack();
    expect(await group.configure({ order: "strict" })).toMatchObject({ order: "strict" });
    await iterator.return();
  });

  test("a running consumer goes by a lease that was made shorter: nothing is delivered twice", async () => {
    const broker = await lane.open();
    const type = lane.unique("t");
    const group = broker.events.group(type, "g");
    const attempts: number[] = [];
    let finished = 0;
    const options = { group: "g", from: "beginning" } as const;
    for (let consumer = 0; consumer < 2; consumer += 1) {
      await broker.events.subscribe(type, options, async (_, { attempt }) => {
        attempts.push(attempt);
        await moment(1_500);
        finished += 1;
      });
    }
    await group.configure({ leaseMs: 600 });
    await broker.events.publish(type, 1);
    await until(() => finished === 1);
    await until(async () => (await group.stats()).pending === 0);
    expect(attempts).toEqual([1]);
  });

  test("is removed with its dead letters; its consumers end, say so, and do not spin", async () => {
    const { logger, entries } = recordingLogger();
    const errors: string[] = [];
    const broker = await lane.open({ logger, onError: (error) => void errors.push(error.name) });
    const type = lane.unique("t");
    await broker.events.publishMany(type, ["bad", "slow"]);
    let aborted: AbortSignal | undefined;
    const options = { group: "g", from: "beginning", retry: { maxAttempts: 1 } } as const;
    const sub = await broker.events.subscribe(type, options, async (data, { signal }) => {
      if (data === "bad") throw new Error("no");
      aborted = signal;
      await new Promise<void>((resolve) => signal.addEventListener("abort", () => resolve(), { once: true }));
    });
    const iterator = broker.events.deliveries(type, { group: "g", from: "beginning" });
    const next = iterator.next();
    // Looked at below; it rejects before that.
    next.catch(() => undefined);
    const group = broker.events.group(type, "g");
    await until(async () => (await group.stats()).dead === 1);
    await until(() => aborted);
    await broker.events.subscribe(type, { group: "other", from: "new" }, () => undefined);

    expect(await group.delete()).toBe(true);
    await until(() => sub.stats()[0]?.state === "ended");
    await expect(next).rejects.toMatchObject({ code: "NOT_FOUND" });
    expect(await iterator.next()).toEqual({ done: true, value: undefined });
    await until(() => aborted?.aborted);
    expect(errors).toEqual(["NotFoundError", "NotFoundError"]);
    const events = entries.map(({ fields }) => fields["event"]);
    expect(events.filter((event) => event === "consumer_ended")).toHaveLength(2);
    expect(events).not.toContain("consumer_failing");
    const { status, details } = await broker.health();
    expect(status).toBe("degraded");
    expect(details.consumers.find(({ reader }) => reader === "g")).toMatchObject({
      state: "ended",
      ok: false,
      error: expect.stringContaining("deleted"),
    });
    expect(await broker.events.groups(type)).toEqual(["other"]);
    expect(await group.delete()).toBe(false);
    await sub.close();
    expect((await broker.health()).status).toBe("up");

    // A new one of that name is a new one.
    const { seen } = await consume(broker, type);
    await until(() => seen.length === 2);
    expect(await group.stats()).toMatchObject({ dead: 0 });
  });

  test("[E9] a group that does not exist is told, and so are places that are none; nothing is made on the way", async () => {
    const broker = await lane.open();
    const type = lane.unique("t");
    await broker.events.publish(type, 1);
    const none = broker.events.group(type, "none");
    for (const call of [
      () => none.stats(),
      () => none.seek("beginning"),
      () => none.pause(),
      () => none.resume(),
      () => none.configure({ leaseMs: 1_000 }),
    ]) {
      await expect(call(), String(call)).rejects.toMatchObject({ code: "NOT_FOUND" });
    }
    expect(await none.delete()).toBe(false);
    for (const place of [
      "",
      "no position",
      7,
      null,
      { after: "" },
      { at: 1 },
      { after: "1", at: "2" },
      new Date(Number.NaN),
    ]) {
      const refused = { code: expect.stringMatching(/INVALID_ARGUMENT|NOT_FOUND|CONFIG/) };
      await expect(none.seek(place as never), JSON.stringify(place)).rejects.toMatchObject(refused);
      const options = { group: "none", from: place as never };
      await expect(broker.events.subscribe(type, options, () => undefined)).rejects.toMatchObject(refused);
    }
    expect(await broker.events.groups(type)).toEqual([]);
    expect(() => broker.events.group(type, "")).toThrow(expect.objectContaining({ code: "INVALID_ARGUMENT" }));
  });

  test("[E29] stats tell length, places, and what each group has still to do, for how long and since when", async () => {
    const broker = await lane.open();
    const type = lane.unique("t");
    expect(await broker.events.stats(type)).toMatchObject({ stream: type, length: 0, oldest: undefined, groups: [] });
    const before = Date.now() - 1;
    const receipts = await broker.events.publishMany(type, [1, 2, 3, 4]);
    const iterator = broker.events.deliveries(type, { group: "g", from: "beginning", concurrency: 2 });
    const { value: first } = await iterator.next();
    const { value: second } = await iterator.next();
    await first?.ack();
    await second?.retry({ delayMs: 60_000 });
    const { value: third } = await iterator.next();
    expect(third?.data).toBe(3);
    await moment(30);
    const stats = await broker.events.stats(type);
    expect(stats).toMatchObject({
      stream: type,
      length: 4,
      oldest: { position: receipts[0]?.position },
      newest: { position: receipts[3]?.position },
    });
    expect(stats.newest?.at).toBeGreaterThanOrEqual(before);
    if (stats.bytes !== undefined) expect(stats.bytes).toBeGreaterThan(0);
    const [group] = stats.groups;
    expect(group).toMatchObject({ group: "g", paused: false, retrying: 1, held: 0, dead: 0 });
    expect((group?.lag ?? 0) + (group?.pending ?? 0)).toBe(2);
    expect(group?.oldestUnhandledAgeMs).toBeGreaterThanOrEqual(29);
    expect(group?.lastProgressAt).toBeGreaterThanOrEqual(before);
    expect(await broker.events.group(type, "g").stats()).toMatchObject({
      ...group,
      oldestUnhandledAgeMs: expect.any(Number),
    });
    await iterator.return();
  });

  test("every call can be given up, and rejects with the signal's own reason", async () => {
    const broker = await lane.open();
    const type = lane.unique("t");
    await broker.events.publish(type, 1);
    const group = broker.events.group(type, "g");
    const { sub } = await consume(broker, type);
    const signal = AbortSignal.abort("changed my mind");
    for (const call of [
      () => broker.events.publish(type, 2, { signal }),
      () => broker.events.stats(type, { signal }),
      () => broker.events.groups(type, { signal }),
      () => broker.events.replay(type, { from: "beginning", signal }, () => undefined),
      () => broker.events.subscribeBatch(type, { group: "h", from: "new", signal }, () => undefined),
      () => group.stats({ signal }),
      () => group.seek("beginning", { signal }),
      () => group.pause({ signal }),
      () => group.resume({ signal }),
      () => group.configure({ leaseMs: 9_000 }, { signal }),
      () => group.delete({ signal }),
      () => group.deadLetters({ signal }).next(),
      () => group.inspect("1", { signal }),
      () => group.redrive({ signal }),
      () => group.purge({ signal }),
      () => broker.ping({ signal }),
      () => broker.health({ signal }),
    ]) {
      await expect(call(), String(call)).rejects.toBe("changed my mind");
    }
    expect(await group.stats()).toMatchObject({ paused: false, settings: { leaseMs: 30_000 } });
    await expect(broker.events.stats(type, { signal: {} } as never)).rejects.toMatchObject({ code: "CONFIG" });
    expect(await broker.ping({ signal: new AbortController().signal })).toBeGreaterThanOrEqual(0);
    await sub.close();
  });
});
