/** Telemetry: each call is counted once, waiting is no work, labels are bounded, and no line is forged. */

import { expect, test, vi } from "vitest";
import type { Backend, Feed, Taken } from "../../src/core/backend.js";
import { ConnectionError } from "../../src/core/errors.js";
import { createTelemetry, type Metric, METRICS, observeBackend, stderrLogger } from "../../src/core/telemetry.js";
import { openMemory } from "../../src/backends/memory/index.js";
import { createFakeClock } from "../../src/testing/index.js";

const clock = createFakeClock();
const NOTHING: Taken = { deliveries: [], lost: [], gone: 0, expired: 0, poisoned: 0 };

function written(write: () => void): string {
  const spy = vi.spyOn(process.stderr, "write").mockReturnValue(true);
  write();
  const text = spy.mock.calls.map(([chunk]) => String(chunk)).join("");
  spy.mockRestore();
  return text;
}

test("a value that holds a line feed or an escape makes no line of its own on stderr", () => {
  for (const value of [
    "x\nsignalbox error: forged",
    new Error("x\r\nsignalbox error: forged"),
    "x\u001b[2Kforged",
    "x\u009b2Kforged",
    "x\u2028forged",
  ]) {
    const line = written(() => stderrLogger.warn({ channel: value }, "refused"));
    expect(line).toMatch(/^signalbox warn: refused channel="x.*forged"\n$/);
    expect(line.slice(0, -1)).not.toMatch(/[\p{Cc}\p{Zl}]/u);
  }
  expect(written(() => stderrLogger.error({ channel: "a b", n: 1 }, "lost"))).toBe(
    "signalbox error: lost channel=a b n=1\n",
  );
});

async function observed(feed: Partial<Feed>): Promise<{ backend: Backend; metrics: () => readonly Operation[] }> {
  const memory = await openMemory({}, { namespace: "n", clock, report: () => undefined });
  const broken: Backend = {
    ...memory,
    queue: {
      ...memory.queue,
      open: async () => ({ take: async () => NOTHING, extend: async () => [], close: async () => undefined, ...feed }),
      push: async () => {
        throw new ConnectionError("gone");
      },
    },
  };
  const telemetry = createTelemetry(stderrLogger);
  const metrics = (): Operation[] =>
    telemetry
      .metrics()
      .filter((metric) => metric.name === METRICS.operation && metric.kind === "histogram" && metric.count > 0)
      .map(({ labels, ...metric }) => ({
        operation: labels["messaging.operation.name"],
        error: labels["error.type"],
        count: countOf(metric),
      }));
  return { backend: observeBackend(broken, telemetry, clock), metrics };
}

interface Operation {
  readonly operation: string | undefined;
  readonly error: string | undefined;
  readonly count: number;
}

function countOf(metric: Omit<Metric, "labels">): number {
  return "count" in metric ? Number(metric.count) : 0;
}

test("a call that fails is recorded once, with its error", async () => {
  const { backend, metrics } = await observed({});
  await expect(backend.queue.push("q", [], { maxItems: 1 })).rejects.toThrow("gone");
  await backend.ping();
  expect(metrics()).toEqual([
    { operation: "ping", error: undefined, count: 1 },
    { operation: "push", error: "CONNECTION", count: 1 },
  ]);
});

test("a take that may have waited is not recorded, unless it fails", async () => {
  let failing = false;
  const take = async (): Promise<Taken> => {
    if (failing) throw new ConnectionError("gone");
    return NOTHING;
  };
  const { backend, metrics } = await observed({ take });
  const feed = await backend.queue.open("q", "", { consumer: "c", leaseMs: 1, maxAttempts: 1, maxDeadLetters: 1 });
  await feed.take({ max: 1, waitMs: 2_000 }, []);
  expect(metrics()).toEqual([]);
  await feed.take({ max: 1, waitMs: 0 }, []);
  await feed.take({ max: 1, waitMs: 2_000 }, [{ receipt: "1", as: "ack" }]);
  expect(metrics()).toEqual([{ operation: "take", error: undefined, count: 2 }]);
  failing = true;
  await expect(feed.take({ max: 1, waitMs: 2_000 }, [])).rejects.toThrow("gone");
  expect(metrics()).toContainEqual({ operation: "take", error: "CONNECTION", count: 1 });
});

test("label sets beyond 10,000 share one overflow series for each name", () => {
  const telemetry = createTelemetry(stderrLogger);
  for (let index = 0; index < 10_500; index += 1) {
    telemetry.counter("sent", { channel: String(index) }).add(1);
    telemetry.counter("consumed", { channel: String(index) }).add(1);
  }
  telemetry.histogram("processing", { channel: "late" }).record(1);
  telemetry.counter("sent", { channel: "0" }).add(1);
  const metrics = telemetry.metrics();
  expect(metrics.length).toBe(10_003);
  expect(metrics.filter(({ labels }) => labels["otel.metric.overflow"] === "true")).toMatchObject([
    { kind: "counter", name: "sent", value: 5_500 },
    { kind: "counter", name: "consumed", value: 5_500 },
    { kind: "histogram", name: "processing", count: 1 },
  ]);
  expect(metrics[0]).toMatchObject({ name: "sent", labels: { channel: "0" }, value: 2 });
});
