/** The same facade tests on every backend: a lane opens brokers on one store of its own. */

import { rm } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, describe } from "vitest";
import { type Broker, connect, type ConnectOptions, type Logger } from "../../../src/index.js";
import type { NoContract } from "../../../src/core/contract.js";
import { tempDir } from "../../support/process.js";
import { type RedisServer, startRedis } from "../../support/redis-servers.js";

export interface Lane {
  readonly name: string;
  /** Opens another broker on the lane's store, as another process would. Closed after the test. */
  open<C extends object = NoContract>(options?: ConnectOptions<C>): Promise<Broker<C>>;
  /** A name that no other test uses. */
  unique(kind: string): string;
  url(): string;
}

/** Runs `tests` for memory, SQLite and a Redis of their own. */
export function onEveryBackend(title: string, tests: (lane: Lane) => void): void {
  describe(`${title} on memory`, () => {
    tests(createLane("memory", () => "memory:facades"));
  });

  describe(`${title} on sqlite`, () => {
    let dir = "";
    beforeAll(async () => {
      dir = await tempDir();
    });
    tests(createLane("sqlite", () => `sqlite:${join(dir, "messages.db")}`));
    afterAll(() => rm(dir, { recursive: true, force: true }));
  });

  describe(`${title} on redis`, () => {
    onRedis(tests);
  });
}

/** Runs `tests` for a Redis of their own. */
export function onRedis(tests: (lane: Lane, server: () => RedisServer) => void): void {
  let server: RedisServer | undefined;
  beforeAll(async () => {
    server = await startRedis();
  });
  const running = (): RedisServer => {
    if (server === undefined) throw new Error("the server has not been started");
    return server;
  };
  tests(
    createLane("redis", () => running().url),
    running,
  );
  afterAll(() => server?.stop());
}

let names = 0;

function createLane(name: string, url: () => string): Lane {
  const open: Pick<Broker, "close">[] = [];
  afterEach(async () => {
    await Promise.all(open.splice(0).map((broker) => broker.close({ drainMs: 0 })));
  });
  return {
    name,
    url,
    unique(kind) {
      names += 1;
      return `${kind}-${names}`;
    },
    async open(options) {
      const broker = await connect(url(), { logger: silentLogger, ...options });
      open.push(broker);
      return broker;
    },
  };
}

const nothing = (): void => undefined;
export const silentLogger: Logger = { debug: nothing, info: nothing, warn: nothing, error: nothing };

/** A logger that keeps what it is given. */
export function recordingLogger(): {
  readonly logger: Logger;
  readonly entries: { level: string; fields: Record<string, unknown> }[];
} {
  const entries: { level: string; fields: Record<string, unknown> }[] = [];
  const record =
    (level: string) =>
    (fields: object): void => {
      entries.push({ level, fields: { ...fields } });
    };
  return {
    entries,
    logger: { debug: record("debug"), info: record("info"), warn: record("warn"), error: record("error") },
  };
}

/** Everything that an iterable gives. */
export async function collect<T>(iterable: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = [];
  for await (const each of iterable) all.push(each);
  return all;
}

/** Sorts whatever it is by how it reads. */
export function byText(a: unknown, b: unknown): number {
  return String(a).localeCompare(String(b), "en");
}
