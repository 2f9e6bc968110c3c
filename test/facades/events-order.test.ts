/** Order by key and strict order as their users see them, the same on every backend. */

import { expect, test } from "vitest";
import { pause, until } from "../support/wait.js";
import { onEveryBackend } from "./support/lanes.js";

const FAST = { initialMs: 20, maxMs: 20, jitter: 0 };

onEveryBackend("the order of events", (lane) => {
  test("[E17] by key: one after the other within a key, in whatever process, also when one fails; keys side by side", async () => {
    const [one, two] = [await lane.open(), await lane.open()];
    const type = lane.unique("t");
    const events = Array.from({ length: 120 }, (_, number) => ({ key: `k${number % 6}`, number }));
    await one.events.publishMany(type, events, { key: (data) => (data as { key: string }).key });
    const running = new Map<string, number>();
    const seen = new Map<string, number[]>();
    let most = 0;
    let overlaps = 0;
    let done = 0;
    const options = { group: "g", from: "beginning", order: "key", concurrency: 8, retry: FAST } as const;
    for (const broker of [one, two]) {
      await broker.events.subscribe(type, options, async (data, { attempt }) => {
        const { key, number } = data as { key: string; number: number };
        overlaps += running.get(key) ?? 0;
        running.set(key, (running.get(key) ?? 0) + 1);
        most = Math.max(most, running.size);
        await pause(1);
        running.delete(key);
        if (number % 10 === 3 && attempt === 1) throw new Error("not yet");
        seen.set(key, [...(seen.get(key) ?? []), number]);
        done += 1;
      });
    }
    await until(() => done === events.length, { deadlineMs: 20_000 });
    expect(overlaps).toBe(0);
    expect(most).toBeGreaterThan(1);
    for (const numbers of seen.values()) expect(numbers).toEqual(numbers.toSorted((a, b) => a - b));
    expect([...seen.values()].map(({ length }) => length)).toEqual([20, 20, 20, 20, 20, 20]);
  });

  test("[E17] strict: one at a time and in order, in whatever process", async () => {
    const [one, two] = [await lane.open(), await lane.open()];
    const type = lane.unique("t");
    await one.events.publishMany(
      type,
      Array.from({ length: 20 }, (_, number) => number),
    );
    const seen: unknown[] = [];
    let running = 0;
    for (const broker of [one, two]) {
      const options = { group: "g", from: "beginning", order: "strict", retry: FAST } as const;
      await broker.events.subscribe(type, options, async (data, { attempt }) => {
        running += 1;
        expect(running).toBe(1);
        await pause(1);
        running -= 1;
        if (data === 5 && attempt === 1) throw new Error("not yet");
        seen.push(data);
      });
    }
    await until(() => seen.length === 20, { deadlineMs: 20_000 });
    expect(seen).toEqual(Array.from({ length: 20 }, (_, number) => number));
  });

  test("[E17] what waits for others of its key shows in stats, and maxHeld bounds it", async () => {
    const broker = await lane.open();
    const type = lane.unique("t");
    await broker.events.publishMany(
      type,
      Array.from({ length: 10 }, (_, number) => number),
      { key: "k" },
    );
    let release: (() => void) | undefined;
    const options = { group: "g", from: "beginning", order: "key", maxHeld: 4 } as const;
    const sub = await broker.events.subscribe(type, options, () => new Promise<void>((resolve) => (release = resolve)));
    const group = broker.events.group(type, "g");
    await until(async () => (await group.stats()).held === 4);
    expect(await group.stats()).toMatchObject({ pending: 1, lag: 9, settings: { order: "key", maxHeld: 4 } });
    for (let done = 1; done <= 10; done += 1) {
      const next = await until(() => release);
      release = undefined;
      next();
      await until(() => sub.stats()[0]?.settled === done);
    }
    expect(await group.stats()).toMatchObject({ pending: 0, lag: 0, held: 0 });
  });

  test("holds within one stream: several in one call are refused, and so is what the group was not made with", async () => {
    const broker = await lane.open();
    const [first, second] = [lane.unique("a"), lane.unique("b")];
    const handler = (): void => undefined;
    for (const order of ["key", "strict"] as const) {
      await expect(
        broker.events.subscribe([first, second], { group: "g", from: "new", order }, handler),
      ).rejects.toMatchObject({ code: "CONFIG", message: expect.stringContaining("share one") });
    }
    expect(await broker.events.groups(first)).toEqual([]);
    await broker.events.subscribe([first, second], { group: "g", from: "new", order: "none" }, handler);
    await expect(
      broker.events.subscribe(first, { group: "g", from: "new", order: "key", maxHeld: 5, leaseMs: 5_000 }, handler),
    ).rejects.toMatchObject({
      code: "CONFIG",
      problems: [
        expect.stringContaining("leaseMs 30000"),
        expect.stringContaining('order "none"'),
        expect.stringContaining("maxHeld 1000"),
      ],
    });
    // Every stream's disagreements are told.
    await expect(
      broker.events.subscribe([first, second], { group: "g", from: "new", maxHeld: 5 }, handler),
    ).rejects.toMatchObject({ problems: [expect.stringContaining(first), expect.stringContaining(second)] });
  });
});
