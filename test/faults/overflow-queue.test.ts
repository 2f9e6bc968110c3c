/** A full queue under load: it stays within its limit in the way that it was asked to, and nothing goes that is not counted. */

import { expect, test } from "vitest";
import type { Broker, Queue, QueueOptions } from "../../src/index.js";
import { type Lane, onEveryBackend } from "../facades/support/lanes.js";
import { pause, until } from "../support/wait.js";

const MAX_ITEMS = 200;
/** Less than what consumers do not hold. */
const BURST = 150;
const PUBLISHERS = 20;
const EACH = 50;
const NUMBERS = Array.from({ length: PUBLISHERS * EACH }, (_, number) => number);

interface Run {
  readonly broker: Broker;
  readonly queue: Queue<unknown>;
  /** How often each was handled. */
  readonly handled: Map<number, number>;
  /** The most that the queue ever held when somebody looked. */
  readonly most: () => number;
  /** Nothing is left. */
  isDone(): Promise<boolean>;
}

const byNumber = (a: number, b: number): number => a - b;

onEveryBackend("a full queue", (lane: Lane) => {
  /** Two processes consume, slower than others publish; somebody looks all the time. */
  async function start(options: QueueOptions): Promise<Run> {
    const name = lane.unique("full");
    const settings = { maxItems: MAX_ITEMS, ...options };
    const broker = await lane.open({ onError: () => undefined });
    const queue = broker.queue(name, settings);
    const handled = new Map<number, number>();
    const handler = async (data: unknown): Promise<void> => {
      handled.set(Number(data), (handled.get(Number(data)) ?? 0) + 1);
      await pause(5);
    };
    const consuming = { concurrency: 5, leaseMs: 10_000 };
    for (const own of [queue, (await lane.open()).queue(name, settings)]) await own.subscribe(consuming, handler);
    let most = 0;
    const left = async (): Promise<number> => {
      const { waiting, leased, delayed } = await queue.stats();
      most = Math.max(most, waiting + leased + delayed);
      return waiting + leased + delayed;
    };
    return { broker, queue, handled, most: () => most, isDone: async () => (await left()) === 0 };
  }

  /** Many publish at once, each one message after the other; what is refused is theirs to say. */
  async function publishAll(run: Run, refused: (error: unknown, number: number) => void): Promise<Set<number>> {
    const acked = new Set<number>();
    const publisher = async (_: unknown, first: number): Promise<void> => {
      for (let number = first; number < NUMBERS.length; number += PUBLISHERS) {
        await run.queue.publish(number, { priority: number % 3 }).then(
          () => acked.add(number),
          (error: unknown) => refused(error, number),
        );
        if (number % 10 === 0) await run.isDone();
      }
    };
    await Promise.all(Array.from({ length: PUBLISHERS }, publisher));
    return acked;
  }

  const often = { deadlineMs: 20_000, everyMs: 20 };

  test("fault 41: reject refuses what there is no room for, and what was taken is handled once", async () => {
    const run = await start({ overflow: "reject" });
    // A burst that does not fit, whoever is how quick.
    const burst = await Promise.allSettled(
      Array.from({ length: 2 * MAX_ITEMS }, (_, index) => run.queue.publish(10_000 + index)),
    );
    const reasons = burst.flatMap((one) => (one.status === "rejected" ? [one.reason as unknown] : []));
    expect(reasons.length).toBeGreaterThan(0);
    for (const reason of reasons)
      expect(reason).toMatchObject({ code: "LIMIT", retryable: true, message: expect.stringContaining("maxItems") });
    const refusals: unknown[] = [];
    const acked = await publishAll(run, (error) => void refusals.push(error));
    for (const refusal of refusals) expect(refusal).toMatchObject({ code: "LIMIT" });
    await until(() => run.isDone(), { ...often, what: "all to be handled" });
    expect(run.most()).toBeLessThanOrEqual(MAX_ITEMS);
    const numbers = [...run.handled.keys()].filter((number) => number < 10_000);
    expect(numbers.toSorted(byNumber)).toEqual([...acked].toSorted(byNumber));
    expect([...run.handled.values()].filter((times) => times > 1)).toEqual([]);
    expect(run.handled.size - numbers.length).toBe(burst.length - reasons.length);
  });

  test("fault 41: block lets publishers wait for room, and all of it is handled once", async () => {
    const run = await start({ overflow: "block", blockMs: 20_000 });
    const burst = Array.from({ length: 2 * MAX_ITEMS }, (_, index) => run.queue.publish(10_000 + index));
    const acked = await publishAll(run, (error) => expect.fail(String(error)));
    await Promise.all(burst);
    await until(() => run.isDone(), { ...often, what: "all to be handled" });
    expect(acked.size).toBe(NUMBERS.length);
    expect(run.most()).toBeLessThanOrEqual(MAX_ITEMS);
    expect(run.handled.size).toBe(NUMBERS.length + burst.length);
    expect([...run.handled.values()].filter((times) => times > 1)).toEqual([]);
  });

  test("fault 41: drop-oldest takes everything, and what is missing is counted", async () => {
    const run = await start({ overflow: "drop-oldest" });
    // Batches are stored whole or not at all: one that is larger than what may be dropped would be refused.
    const burst: Promise<unknown>[] = [];
    for (let times = 0; times < 3; times += 1) {
      const some = NUMBERS.slice(0, BURST).map((number) => {
        return run.queue.publish(10_000 + times * BURST + number, { priority: -1 });
      });
      burst.push(...some);
      await Promise.all(some);
    }
    const acked = await publishAll(run, (error) => expect.fail(String(error)));
    await until(() => run.isDone(), { ...often, what: "all to be handled" });
    expect(run.most()).toBeLessThanOrEqual(MAX_ITEMS);
    const { dropped } = await run.queue.stats();
    expect(dropped).toBeGreaterThan(0);
    expect(run.handled.size + dropped).toBe(acked.size + burst.length);
    expect([...run.handled.values()].filter((times) => times > 1)).toEqual([]);
  });

  test("fault 41: drop-oldest drops the least urgent first, and of equals the oldest", async () => {
    const broker = await lane.open();
    const queue = broker.queue(lane.unique("kept"), { maxItems: 10, overflow: "drop-oldest" });
    for (const number of NUMBERS.slice(0, 60)) await queue.publish(number, { priority: number % 3 === 2 ? 5 : 0 });
    for (const number of [60, 61]) await queue.publish(number, { priority: 9, delayMs: 60_000 });
    expect((await queue.pending()).items.map(({ data }) => data)).toEqual([
      ...NUMBERS.filter((number) => number % 3 === 2 && number < 60).slice(-8),
      60,
      61,
    ]);
    expect(await queue.stats()).toMatchObject({ waiting: 8, delayed: 2, dropped: 52 });
  });

  test("fault 41: drop-oldest refuses where nothing waits that could be dropped", async () => {
    const broker = await lane.open();
    const queue = broker.queue(lane.unique("held"), { maxItems: 3, overflow: "drop-oldest" });
    const gates: (() => void)[] = [];
    await queue.subscribe({ concurrency: 3 }, () => new Promise<void>((resolve) => gates.push(resolve)));
    await queue.publishMany([1, 2, 3]);
    await until(() => gates.length === 3, { what: "all to be held" });
    await expect(queue.publish(4)).rejects.toMatchObject({ code: "LIMIT", retryable: true });
    for (const open of gates.splice(0)) open();
    await until(() => queue.publish(5), { what: "room" });
    await until(() => gates.length === 1, { what: "the next" });
    gates[0]?.();
    expect(await queue.stats()).toMatchObject({ dropped: 0 });
  });
});
