/** The benchmarks: their statistics, and one short run as a user starts it. */

import { execFile } from "node:child_process";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { describe, expect, test } from "vitest";
import { parseOptions, UsageError } from "../../bench/options.js";
import { judge, type RatioSpec, rate } from "../../bench/report.js";
import { median, percentile } from "../../bench/statistics.js";
import { KEYS, keyOrder, type Order, priorityOrder, streamOrder, Tally } from "../../bench/workload.js";

const root = fileURLToPath(new URL("../..", import.meta.url));

interface Result {
  readonly path: string;
  readonly rows: readonly Readonly<Record<string, unknown>>[];
  readonly ratios: Readonly<Record<string, number | null>>;
}

test("npm run bench prints its figures as JSON, and null where nothing was measured", async () => {
  const args = ["run", "--silent", "bench", "--", "events", "--quick", "--json", "--backend", "memory"];
  const { stdout } = await promisify(execFile)("npm", args, { cwd: root, timeout: 60_000 });
  const result = JSON.parse(stdout) as Result;

  expect(Object.keys(result)).toEqual(["path", "rows", "ratios"]);
  expect(result.path).toBe("events");
  expect(result.rows.map(({ name }) => name)).toEqual([
    "publish signalbox memory",
    "publish floor memory",
    "endToEnd signalbox memory",
    "endToEnd signalbox memory keyed",
    "endToEnd floor memory",
    "live signalbox memory",
    "latency signalbox memory",
  ]);
  for (const row of result.rows) {
    expect(Object.keys(row)).toEqual(["name", "perSecond", "cpuMicros", "redisCpuMicros", "p50Ms", "p99Ms"]);
    expect(row).toMatchObject({ cpuMicros: expect.any(Number), redisCpuMicros: null });
  }
  expect(result.rows[0]).toMatchObject({ perSecond: expect.any(Number), p50Ms: null, p99Ms: null });
  expect(result.rows.at(-1)).toMatchObject({ perSecond: null, p50Ms: expect.any(Number), p99Ms: expect.any(Number) });
  const asked = ["publish/floor", "publish/bullmq", "endToEnd/floor", "endToEnd/bullmq", "sqlite/floor"];
  for (const name of asked) expect(result.ratios).toHaveProperty([name], null);
  expect(result.ratios["memory/target"]).toBeGreaterThan(0);
}, 70_000);

describe("statistics", () => {
  test("the median is the middle value, or the mean of the two middle ones", () => {
    expect(median([3])).toBe(3);
    expect(median([9, 1, 5])).toBe(5);
    expect(median([10, 9, 1, 2])).toBe(5.5);
    expect(median([])).toBeNaN();
  });

  test("a percentile is the smallest value that so many percent do not exceed", () => {
    const hundred = Array.from({ length: 100 }, (_, index) => 100 - index);
    expect(percentile(hundred, 50)).toBe(50);
    expect(percentile(hundred, 99)).toBe(99);
    expect(percentile(hundred, 100)).toBe(100);
    expect(percentile(hundred, 0)).toBe(1);
    expect(percentile([7], 99)).toBe(7);
    expect(percentile([], 50)).toBeNaN();
  });
});

describe("a tally", () => {
  const arrivals = (numbers: readonly number[], order?: Order): Tally => {
    const tally = new Tally(3, order);
    for (const n of numbers) tally.see(n);
    return tally;
  };

  test("accepts each message once, in order where order is promised", () => {
    expect(() => arrivals([2, 0, 1]).verify()).not.toThrow();
    expect(() => arrivals([0, 1, 2], streamOrder).verify()).not.toThrow();
    // Of priorities 0, 7 and 4.
    expect(() => arrivals([1, 2, 0], priorityOrder(3)).verify()).not.toThrow();
  });

  test("knows order by key", () => {
    const two = (numbers: readonly number[]): Tally => {
      const tally = new Tally(2 * KEYS, keyOrder);
      for (const n of numbers) tally.see(n);
      return tally;
    };
    const all = Array.from({ length: 2 * KEYS }, (_, n) => n);
    // Each key's second before its first; then the second of another key first, which is in order.
    expect(() => two(all.toReversed()).verify()).toThrow(`messages out of order: ${KEYS}`);
    const half = all.slice(1, KEYS);
    expect(() => two([0, KEYS, ...half, ...half.map((n) => n + KEYS)]).verify()).not.toThrow();
  });

  test.each([
    ["a lost message", [0, 2], "messages that never arrived: 1"],
    ["a repeated one", [0, 1, 1, 2], "messages that arrived twice: 1"],
    ["one out of order", [1, 0, 2], "messages out of order: 1"],
  ])("refuses %s", (_, numbers, message) => {
    expect(() => arrivals(numbers, streamOrder).verify()).toThrow(message);
  });
});

describe("ratios", () => {
  const row = (name: string, perSecond: number) => {
    return { name, perSecond, cpuMicros: 1, redisCpuMicros: null, p50Ms: null, p99Ms: null };
  };
  const rows = [row("ours", 60), row("floor", 100), row("peer", 20)];
  const verdicts = (specs: readonly RatioSpec[]): unknown[] =>
    judge(specs, rows, new Map()).map(({ reached, verdict }) => [reached, verdict]);

  test("pass from what is asked, and fall short below it", () => {
    const specs: RatioSpec[] = [
      { name: "a", of: rate("ours"), over: rate("floor"), atLeast: 0.6 },
      { name: "b", of: rate("ours"), over: rate("floor"), atLeast: 0.61 },
      { name: "c", of: rate("ours"), over: rate("floor"), atMost: 0.5 },
      { name: "d", of: rate("ours"), over: 120, atLeast: 0.5 },
      { name: "e", of: rate("ours"), over: rate("nobody"), atLeast: 0.5 },
    ];
    expect(verdicts(specs)).toEqual([
      [0.6, "pass"],
      [0.6, "short"],
      [0.6, "short"],
      [0.5, "pass"],
      [null, ""],
    ]);
  });

  test("name the floor where a multiple of the peer is more than the floor itself does", () => {
    const specs: RatioSpec[] = [
      { name: "a", of: rate("ours"), over: rate("peer"), atLeast: 6, unlessBeyond: rate("floor") },
      { name: "b", of: rate("ours"), over: rate("peer"), atLeast: 4, unlessBeyond: rate("floor") },
    ];
    expect(verdicts(specs)).toEqual([
      [3, "beyond the floor"],
      [3, "short"],
    ]);
  });
});

describe("options", () => {
  test("default to everything", () => {
    expect(parseOptions([])).toMatchObject({
      paths: ["events", "queue", "pubsub", "presence"],
      backends: ["memory", "sqlite", "redis"],
    });
  });

  test.each([["rooms"], ["--backend", "mysql"], ["--fast"]])("refuse %s", (...args) => {
    expect(() => parseOptions(args)).toThrow(UsageError);
  });
});
