/** The composition root: everything is checked before anything is opened, and nothing stays open after a failure. */

import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { type Codec, connect, type ConnectOptions, defineContract, type Logger, systemClock } from "../../src/index.js";
import type * as memoryModule from "../../src/backends/memory/index.js";
import { until } from "../support/wait.js";

const memory = vi.hoisted(() => ({
  opened: 0,
  closed: 0,
  gate: Promise.resolve(),
  report: (_error: unknown, _where: string): void => undefined,
}));

vi.mock("../../src/backends/memory/index.js", async (importActual) => {
  const { openMemory } = await importActual<typeof memoryModule>();
  return {
    openMemory: async (...args: Parameters<typeof openMemory>) => {
      memory.opened += 1;
      memory.report = args[1].report;
      await memory.gate;
      const backend = await openMemory(...args);
      return {
        ...backend,
        close: async () => {
          memory.closed += 1;
          await backend.close();
        },
      };
    },
  };
});

beforeEach(() => {
  Object.assign(memory, { opened: 0, closed: 0, gate: Promise.resolve() });
});

const onUnhandled = vi.fn();
process.on("unhandledRejection", onUnhandled);
afterEach(() => {
  onUnhandled.mockClear();
});

const codec: Codec = { contentType: "x", encode: () => "", decode: () => undefined };
const quiet: Logger = { debug: () => undefined, info: () => undefined, warn: () => undefined, error: () => undefined };

test.each<[string, object]>([
  ["source", { source: "a\nb" }],
  ["source", { source: "" }],
  ["codec", { codec: {} }],
  ["codec", { codec: { ...codec, contentType: "X/Y" } }],
  ["codec", { codec: { ...codec, contentType: "x".repeat(33) } }],
  ["codec", { codec: { ...codec, contentType: "bytes" } }],
  ["codec", { codec: { ...codec, decode: 1 } }],
  ["clock", { clock: { now: () => 1 } }],
  ["logger", { logger: { ...quiet, debug: undefined } }],
  ["contract", { contract: { events: { a: 1 } } }],
  ["contract", { contract: null }],
  ["signal", { signal: {} }],
  ["options", Object.create({ namespace: "inherited" }) as object],
  ["options", null as never],
])("a bad %s is refused before anything is opened: %j", async (name, options) => {
  await expect(connect("memory:", options)).rejects.toMatchObject({
    code: "CONFIG",
    message: expect.stringContaining(name),
  });
  expect(memory.opened).toBe(0);
});

test("every problem of a contract is told, beside those of the other options", async () => {
  const options = { contract: { events: { a: 1 }, queues: { b: 2 } }, source: "" };
  await expect(connect("memory:", options as object)).rejects.toMatchObject({ problems: { length: 3 } });
});

test("tls that is no object is told like any other problem", async () => {
  await expect(connect("rediss://localhost", { tls: null as never })).rejects.toMatchObject({
    code: "CONFIG",
    message: expect.stringContaining("tls must be an object"),
  });
});

test.each([[5], [null], [{}]])("a URL that is %j is a ConfigError", async (url) => {
  await expect(connect(url as never)).rejects.toMatchObject({
    code: "CONFIG",
    message: expect.stringContaining("the URL must be a string"),
  });
});

test("classes serve as codec, clock and logger, since only their methods are used", async () => {
  class Log {
    debug(): void {}
    info(): void {}
    warn(): void {}
    error(): void {}
  }
  const clock = Object.create(systemClock) as ConnectOptions["clock"] & object;
  const broker = await connect("memory:", { logger: new Log(), clock, codec: Object.create(codec) as Codec });
  await broker.close();
  expect(memory.closed).toBe(1);
});

test("what fails once the backend is open closes it", async () => {
  let reads = 0;
  const options = {
    get maxPayloadBytes(): number {
      reads += 1;
      if (reads > 1) throw new Error("read twice");
      return 1;
    },
  };
  await expect(connect("memory:", options)).rejects.toThrow("read twice");
  expect(memory).toMatchObject({ opened: 1, closed: 1 });
});

test("an abort rejects with the signal's reason and closes what opens meanwhile", async () => {
  let open = (): void => undefined;
  memory.gate = new Promise((resolve) => {
    open = resolve;
  });
  const controller = new AbortController();
  const connecting = connect("memory:", { signal: controller.signal });
  await until(() => memory.opened === 1);
  controller.abort("changed my mind");
  await expect(connecting).rejects.toBe("changed my mind");
  expect(memory.closed).toBe(0);
  open();
  await until(() => memory.closed === 1);
});

test("an abort beforehand opens nothing, and one afterwards changes nothing", async () => {
  const reason = new Error("too late");
  await expect(connect("memory:", { signal: AbortSignal.abort(reason) })).rejects.toBe(reason);
  expect(memory.opened).toBe(0);
  const controller = new AbortController();
  const broker = await connect("memory:", { signal: controller.signal });
  controller.abort();
  await broker.events.publish("order.created", 1);
  await broker.close();
});

test.each([
  [
    "rejects",
    async () => {
      throw new Error("broken");
    },
  ],
  [
    "throws",
    () => {
      throw new Error("broken");
    },
  ],
])("an onError that %s is logged, and is no unhandled rejection", async (_, onError) => {
  const logged: object[] = [];
  const logger = { ...quiet, error: (fields: object) => void logged.push(fields) };
  const broker = await connect("memory:", { logger, onError });
  memory.report(new Error("boo"), "somewhere");
  await until(() => logged.length === 1);
  expect(logged).toMatchObject([{ where: "onError", err: { message: "broken" } }]);
  await broker.close();
  expect(onUnhandled).not.toHaveBeenCalled();
});

test("a contract that nobody checked is checked here, and a checked one passes", async () => {
  const broker = await connect("memory:", { contract: defineContract({}) });
  await broker.close();
});
