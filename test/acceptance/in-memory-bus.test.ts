/** What the source's own bus in memory cannot do: each of its failings is shown on one, and absent here. */

import { EventEmitter } from "node:events";
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type Broker, connect } from "../../src/index.js";
import { silentLogger } from "../facades/support/lanes.js";
import { tempDir } from "../support/process.js";
import { until } from "../support/wait.js";

const TYPE = "reading.taken";

/** The least that both have: a bus that can be restarted, published to and listened to. */
interface Bus {
  publish(data: number): Promise<void>;
  /** Handles what the bus has for a listener of that name. The handler may throw. */
  listen(name: string, handler: (data: number) => void): Promise<void>;
  /** What the process's end and its next start leave of it. */
  restart(): Promise<void>;
  close(): Promise<void>;
}

/** The bus that the source replaces: listeners in a map, a failing one is logged. */
function inMemoryBus(): Bus {
  let emitter = new EventEmitter();
  return {
    async publish(data) {
      emitter.emit(TYPE, data);
    },
    async listen(_name, handler) {
      emitter.on(TYPE, (data: number) => {
        try {
          handler(data);
        } catch {
          // "Limited error handling": the event is over.
        }
      });
    },
    async restart() {
      emitter = new EventEmitter();
    },
    async close() {},
  };
}

async function signalboxBus(url: string): Promise<Bus> {
  const open = (): Promise<Broker> => connect(url, { logger: silentLogger });
  let broker = await open();
  return {
    publish: async (data) => void (await broker.events.publish(TYPE, data)),
    async listen(name, handler) {
      const options = { group: name, from: "beginning", retry: { initialMs: 1 } } as const;
      await broker.events.subscribe(TYPE, options, (data) => handler(Number(data)));
    },
    async restart() {
      await broker.close({ drainMs: 0 });
      broker = await open();
    },
    close: () => broker.close({ drainMs: 0 }),
  };
}

interface Failing {
  readonly title: string;
  /** Resolves with what was handled in the end; three readings are what it should be. */
  run(bus: Bus): Promise<readonly number[]>;
}

const READINGS = [1, 2, 3];

const failings: readonly Failing[] = [
  {
    title: "persistence: what was published before a restart is handled after it",
    async run(bus) {
      const handled: number[] = [];
      for (const reading of READINGS) await bus.publish(reading);
      await bus.restart();
      await bus.listen("late", (data) => void handled.push(data));
      return handled;
    },
  },
  {
    title: "delivery: what a handler failed on comes again",
    async run(bus) {
      const handled: number[] = [];
      const failed = new Set<number>();
      await bus.listen("clumsy", (data) => {
        if (!failed.has(data)) {
          failed.add(data);
          throw new Error("the first time it always fails");
        }
        handled.push(data);
      });
      for (const reading of READINGS) await bus.publish(reading);
      return handled;
    },
  },
  {
    title: "replay: whoever comes later reads it all again",
    async run(bus) {
      const again: number[] = [];
      let first = 0;
      await bus.listen("first", () => void (first += 1));
      for (const reading of READINGS) await bus.publish(reading);
      await until(() => first === READINGS.length);
      await bus.listen("second", (data) => void again.push(data));
      return again;
    },
  },
];

let dir = "";
beforeAll(async () => {
  dir = await tempDir();
});
afterAll(() => rm(dir, { recursive: true, force: true }));

describe.each(failings)("$title", ({ title, run }) => {
  test("[E1] a bus in memory fails", async () => {
    const bus = inMemoryBus();
    expect(await run(bus)).toEqual([]);
  });

  test("[E1] a broker does not", async () => {
    const bus = await signalboxBus(`sqlite:${join(dir, `${title.slice(0, 6)}.db`)}`);
    try {
      const handled = await run(bus);
      await until(() => handled.length === READINGS.length);
      expect(handled.toSorted((a, b) => a - b)).toEqual(READINGS);
    } finally {
      await bus.close();
    }
  });
});
