/** Trimming in the background: a failure is told once, and does not end it. */

import { expect, test, vi } from "vitest";
import { createBroker } from "../../src/broker.js";
import { jsonCodec } from "../../src/core/codec.js";
import { Codecs } from "../../src/core/codecs.js";
import { Owner } from "../../src/core/lifecycle.js";
import type { Runtime } from "../../src/core/runtime.js";
import { declareStreams } from "../../src/core/streams.js";
import { createTelemetry } from "../../src/core/telemetry.js";
import { openMemory } from "../../src/backends/memory/index.js";
import { createFakeClock } from "../../src/testing/index.js";
import { silentLogger } from "../facades/support/lanes.js";

async function openBroker(trim: () => Promise<number>, told: string[] = []) {
  const clock = createFakeClock();
  const memory = await openMemory({}, { namespace: "n", clock, report: () => undefined });
  const backend = { ...memory, log: { ...memory.log, trim } };
  const runtime: Runtime = {
    backend,
    clock,
    telemetry: createTelemetry(silentLogger),
    contract: undefined,
    codec: jsonCodec,
    codecs: new Codecs({ namespace: "default", codec: jsonCodec, transforms: [] }),
    middleware: [],
    source: "s",
    maxPayloadBytes: 1_000,
    streams: await declareStreams(backend.log, { orders: { maxAgeMs: 50_000 } }),
    owner: new Owner(clock),
    createId: () => "id",
    report: (error, where) => void told.push(`${where}: ${String(error)}`),
  };
  return { clock, broker: createBroker(runtime, backend, { groupIdleMs: 1_000 }) };
}

test("a broker does not wait for a trim that hangs any longer than its time to drain", async () => {
  const trim = vi.fn(() => new Promise<number>(() => undefined));
  const { clock, broker } = await openBroker(trim);
  await clock.advance(5_000);
  expect(trim).toHaveBeenCalledTimes(1);
  let closed = false;
  const closing = broker.close({ drainMs: 300 }).then(() => {
    closed = true;
  });
  await clock.advance(299);
  expect(closed).toBe(false);
  await clock.advance(1);
  await closing;
});

test("a stream that cannot be trimmed is told once for each time that it begins to fail, and tried again", async () => {
  const trim = vi.fn(async (): Promise<number> => {
    throw new Error("no");
  });
  const told: string[] = [];
  const { clock, broker } = await openBroker(trim, told);
  await clock.advance(20_000);
  expect(trim).toHaveBeenCalledTimes(4);
  expect(trim).toHaveBeenCalledWith("orders");
  expect(told).toEqual(["dropping what is too old from orders: Error: no"]);
  trim.mockResolvedValueOnce(3);
  await clock.advance(10_000);
  expect(told).toHaveLength(2);
  await broker.close();
  await clock.advance(60_000);
  expect(trim).toHaveBeenCalledTimes(6);
});
