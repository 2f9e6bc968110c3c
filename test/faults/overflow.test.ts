/** Publishers that are faster than their consumers: the stream stays within its limits, in the way that it was asked to. */

import { expect, test } from "vitest";
import type { Broker, Metric } from "../../src/index.js";
import { type Lane, onEveryBackend } from "../facades/support/lanes.js";
import { pause, until } from "../support/wait.js";

const MAX_ENTRIES = 200;
/** What a store may keep beyond its limit: memory and SQLite count exactly, Redis trims whole nodes. */
const ROOM = 200;

interface Run {
  readonly broker: Broker;
  readonly type: string;
  readonly handled: Set<number>;
  /** Lets the handlers go on. */
  open(): void;
}

function counted(broker: Broker, name: string): number {
  const isIt = (metric: Metric): boolean => metric.name === name;
  return broker
    .metrics()
    .filter(isIt)
    .reduce((sum, metric) => sum + (metric.kind === "counter" ? metric.value : 0), 0);
}

async function isDone({ broker, type }: Run): Promise<boolean> {
  const [group] = (await broker.events.stats(type)).groups;
  return group?.lag === 0 && group.pending === 0 && group.retrying === 0;
}

onEveryBackend("overflow", (lane: Lane) => {
  /** A slow group on a bounded stream, whose handlers all wait until they are let go on. */
  async function start(overflow: "reject" | "block" | "drop-oldest"): Promise<Run> {
    const type = lane.unique("bounded");
    const broker = await lane.open({ streams: { [type]: { maxEntries: MAX_ENTRIES, overflow } } });
    const handled = new Set<number>();
    let open = (): void => undefined;
    const gate = new Promise<void>((resolve) => (open = resolve));
    const options = { group: "slow", from: "beginning", concurrency: 10 } as const;
    await broker.events.subscribe(type, options, async (data) => {
      await gate;
      handled.add(Number(data));
    });
    return { broker, type, handled, open };
  }

  test("fault 41: reject refuses what the slowest group has no room for, by name, and takes more once it has", async () => {
    const run = await start("reject");
    const { broker, type, handled } = run;
    const acked: number[] = [];
    const fill = async (): Promise<unknown> => {
      for (let number = 0; number < 10 * MAX_ENTRIES; number += 1) {
        try {
          await broker.events.publish(type, number);
          acked.push(number);
        } catch (error) {
          return error;
        }
      }
      return undefined;
    };
    const refusal = await fill();
    expect(refusal).toMatchObject({ code: "LIMIT", retryable: true, message: expect.stringContaining('"slow"') });
    expect(acked.length).toBeGreaterThanOrEqual(MAX_ENTRIES);
    expect((await broker.events.stats(type)).length).toBeLessThanOrEqual(MAX_ENTRIES + ROOM);
    run.open();
    await until(() => isDone(run), { what: "the group to catch up" });
    await until(() => broker.events.publish(type, -1), { what: "publishing to be taken again" });
    await until(() => handled.has(-1), { what: "the last" });
    expect([...handled].toSorted((a, b) => a - b)).toEqual([-1, ...acked]);
  });

  test("fault 41: block lets publishing wait for the slowest group, and stores all of it in the end", async () => {
    const run = await start("block");
    const { broker, type, handled } = run;
    const numbers = Array.from({ length: 5 * MAX_ENTRIES }, (_, number) => number);
    let acked = 0;
    const publishing = Promise.all(
      numbers.map((number) => broker.events.publish(type, number).then(() => (acked += 1))),
    );
    await until(() => acked > 0, { what: "the first to be stored" });
    await pause(300);
    expect(acked).toBeLessThanOrEqual(MAX_ENTRIES + ROOM);
    expect((await broker.events.stats(type)).length).toBeLessThanOrEqual(MAX_ENTRIES + ROOM);
    run.open();
    await publishing;
    await until(() => isDone(run), { deadlineMs: 15_000, what: "all to be handled" });
    expect([...handled].toSorted((a, b) => a - b)).toEqual(numbers);
    expect((await broker.events.stats(type)).length).toBeLessThanOrEqual(MAX_ENTRIES + ROOM);
  });

  test("fault 41: drop-oldest takes everything, and what the group never got is counted and no more than that is missing", async () => {
    const run = await start("drop-oldest");
    const { broker, type, handled } = run;
    const numbers = Array.from({ length: 5 * MAX_ENTRIES }, (_, number) => number);
    await until(async () => (await broker.events.stats(type)).groups.length === 1);
    for (const number of numbers) await broker.events.publish(type, number);
    expect((await broker.events.stats(type)).length).toBeLessThanOrEqual(MAX_ENTRIES + ROOM);
    run.open();
    await until(() => isDone(run), { deadlineMs: 15_000, what: "the group to catch up" });
    const gone = (): number => counted(broker, "signalbox.gone.messages");
    await until(() => gone() > 0 && gone() + handled.size >= numbers.length, {
      what: "the rest to be counted as gone",
    });
    // What was in a handler's hands while it was dropped is both: handled, and told to be gone.
    expect(gone() + handled.size).toBeLessThanOrEqual(numbers.length + 20);
    expect(handled.has(numbers.length - 1)).toBe(true);
  });
});
