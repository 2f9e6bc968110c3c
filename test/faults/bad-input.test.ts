/** Bad inputs, one test for each row of the list of faults (of queues in `bad-queue-input.test.ts`; those that are no reason to refuse in `odd-input.test.ts`): refused with a typed error that says what and how, and nothing written. */

import { mkdir, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { type Broker, connect } from "../../src/index.js";
import { silentLogger } from "../facades/support/lanes.js";
import { tempDir } from "../support/process.js";
import { type RedisServer, startRedis } from "../support/redis-servers.js";
import { BAD_CONCURRENCIES, BAD_NAMES, BAD_PAYLOADS, TOO_MANY_HEADERS } from "./support/bad-values.js";

interface Bad {
  readonly row: number;
  readonly input: string;
  readonly code: string;
  /** What the message has to name. */
  readonly says: RegExp;
  act(): Promise<unknown>;
}

const CANARY = "hunter2";
const open: Broker[] = [];
let dir = "";
let server: RedisServer;
let broker: Broker;

beforeAll(async () => {
  dir = await tempDir();
  server = await startRedis();
  broker = await connect("memory:", { logger: silentLogger });
});
afterEach(async () => {
  await Promise.all(open.splice(0).map((each) => each.close({ drainMs: 0 })));
});
afterAll(async () => {
  await broker.close();
  await server.stop();
  await rm(dir, { recursive: true, force: true });
});

async function openWith(url: unknown, options: object = {}): Promise<Broker> {
  const opened = await connect(url as string, { logger: silentLogger, connectTimeoutMs: 1_000, ...options });
  open.push(opened);
  return opened;
}

const TYPE = "reading";
const consume = (options: object, handler: unknown = () => undefined): Promise<unknown> =>
  broker.events.subscribe(TYPE, { group: "g", from: "beginning", ...options }, handler as never);
const publish = (data: unknown, options?: object): Promise<unknown> => broker.events.publish(TYPE, data, options);
const publishTo = (name: unknown): Promise<unknown> => broker.events.publish(name as string, 1);
const push = (how: object): Promise<unknown> => broker.queue("tasks").publish(1, how);

const urls: readonly Bad[] = [
  { row: 1, input: "an empty URL", code: "CONFIG", says: /no scheme/, act: () => openWith("") },
  {
    row: 2,
    input: "a URL without a scheme",
    code: "CONFIG",
    says: /redis:\/\//,
    act: () => openWith("localhost:6379"),
  },
  { row: 3, input: "http://", code: "CONFIG", says: /http:.*none of ours/, act: () => openWith("http://localhost") },
  { row: 4, input: "port 99999", code: "CONFIG", says: /port.*1 to 65535/, act: () => openWith("redis://h:99999") },
  { row: 5, input: "port abc", code: "CONFIG", says: /port/, act: () => openWith("redis://h:abc") },
  { row: 6, input: "database x", code: "CONFIG", says: /database/, act: () => openWith("redis://h/x") },
  {
    row: 7,
    input: "database 1 of a Cluster",
    code: "CONFIG",
    says: /only database 0/,
    act: () => openWith("redis-cluster://h/1"),
  },
  {
    row: 8,
    input: "a raw @ or # in a password",
    code: "CONFIG",
    says: /%40/,
    act: () => openWith(`redis://u:${CANARY}@x@h`),
  },
  {
    row: 9,
    input: "rediss: with tls: false",
    code: "CONFIG",
    says: /tls/,
    act: () => openWith("rediss://h", { tls: false }),
  },
  {
    row: 10,
    input: "rejectUnauthorized: false by itself",
    code: "CONFIG",
    says: /allowInsecureTls/,
    act: () => openWith("rediss://h", { tls: { rejectUnauthorized: false } }),
  },
];

const options: readonly Bad[] = [
  ...BAD_CONCURRENCIES.map((concurrency, index) => ({
    row: 11 + index,
    input: `concurrency ${String(concurrency)}`,
    code: "CONFIG",
    says: /concurrency must be a whole number/,
    act: () => consume({ concurrency }),
  })),
  {
    row: 17,
    input: "no attempts",
    code: "CONFIG",
    says: /maxAttempts/,
    act: () => consume({ retry: { maxAttempts: 0 } }),
  },
  { row: 18, input: "ttlMs -1", code: "INVALID_ARGUMENT", says: /ttlMs/, act: () => push({ ttlMs: -1 }) },
  { row: 19, input: "ttlMs 2^53", code: "INVALID_ARGUMENT", says: /ttlMs/, act: () => push({ ttlMs: 2 ** 53 }) },
  { row: 20, input: 'ttlMs "10s"', code: "INVALID_ARGUMENT", says: /ttlMs/, act: () => push({ ttlMs: "10s" }) },
  {
    row: 21,
    input: "priority NaN",
    code: "INVALID_ARGUMENT",
    says: /priority/,
    act: () => push({ priority: Number.NaN }),
  },
  {
    row: 22,
    input: "priority out of range",
    code: "INVALID_ARGUMENT",
    says: /priority/,
    act: () => push({ priority: 2 ** 60 }),
  },
  {
    row: 23,
    input: "waiting without an end",
    code: "CONFIG",
    says: /blockMs/,
    act: () => openWith("memory:", { streams: { s: { overflow: "block", blockMs: Number.POSITIVE_INFINITY } } }),
  },
  {
    row: 24,
    input: "a lease too short to be renewed",
    code: "CONFIG",
    says: /leaseMs/,
    act: () => consume({ leaseMs: 10 }),
  },
  {
    row: 25,
    input: "a backoff that is none",
    code: "CONFIG",
    says: /factor/,
    act: () => consume({ retry: { factor: Number.NaN } }),
  },
  {
    row: 26,
    input: "a stream that may hold nothing",
    code: "CONFIG",
    says: /maxEntries/,
    act: () => openWith("memory:", { streams: { s: { maxEntries: 0 } } }),
  },
  {
    row: 27,
    input: "a typing error",
    code: "CONFIG",
    says: /did you mean "concurrency"/,
    act: () => consume({ concurrancy: 5 }),
  },
  { row: 28, input: "an empty group", code: "INVALID_ARGUMENT", says: /group/, act: () => consume({ group: "" }) },
  {
    row: 29,
    input: "a handler that is none",
    code: "INVALID_ARGUMENT",
    says: /handler/,
    act: () => consume({}, "later"),
  },
  {
    row: 30,
    input: "a schema that is none",
    code: "CONFIG",
    says: /reading/,
    act: () => openWith("memory:", { contract: { events: { reading: { parse: () => 1 } } } }),
  },
  {
    row: 31,
    input: "a SQLite path that is a directory",
    code: "CONFIG",
    says: /directory/,
    act: () => openWith(`sqlite:${dir}`),
  },
  {
    row: 31,
    input: "a SQLite path in no directory",
    code: "CONFIG",
    says: /does not exist/,
    act: () => openWith(`sqlite:${join(dir, "nowhere", "m.db")}`),
  },
  {
    row: 32,
    input: "fsync of a server that does not sync",
    code: "CONFIG",
    says: /append/,
    act: () => openWith(server.url, { durability: "fsync" }),
  },
  {
    row: 33,
    input: "more replicas than there are",
    code: "CONFIG",
    says: /replicas 3/,
    act: () => openWith(server.url, { durability: "replicated", replicas: 3 }),
  },
  {
    row: 34,
    input: "options that carry __proto__",
    code: "CONFIG",
    says: /__proto__/,
    act: () => consume(JSON.parse('{ "__proto__": { "concurrency": 1 }, "concurrency": 5 }') as object),
  },
  {
    row: 36,
    input: "a signal that has aborted",
    code: "the reason itself",
    says: /enough/,
    act: () =>
      publish(1, { signal: AbortSignal.abort(Object.assign(new Error("enough"), { code: "the reason itself" })) }),
  },
];

const names: readonly Bad[] = BAD_NAMES.map(([row, input, name, says]) => {
  return { row, input, code: "INVALID_ARGUMENT", says, act: () => publishTo(name) };
});

const payloads: readonly Bad[] = BAD_PAYLOADS.map(([row, input, data, code, says]) => {
  return { row, input, code, says, act: () => publish(data) };
});

const headers: Bad = {
  row: 77,
  input: "10,000 headers",
  code: "LIMIT",
  says: /10000 headers/,
  act: () => publish(1, { headers: TOO_MANY_HEADERS }),
};

const fromText: Bad = {
  row: 80,
  input: "a number that came as text from the environment",
  code: "CONFIG",
  says: /concurrency must be a whole number.*"ten"/,
  act: () => consume({ concurrency: "ten" }),
};

describe("refused", () => {
  test.each([...urls, ...options, ...names, ...payloads, headers, fromText])(
    "bad input $row: $input",
    async ({ act, code, says }) => {
      const failure: unknown = await act().then(
        () => expect.fail("it should be refused"),
        (error: unknown) => error,
      );
      expect(failure).toMatchObject({ code, message: expect.stringMatching(says) });
      expect(String((failure as Error).stack)).not.toContain(CANARY);
      expect(await broker.events.stats(TYPE)).toMatchObject({ length: 0, groups: [] });
      expect(await broker.queue("tasks").stats()).toMatchObject({ waiting: 0 });
    },
  );

  test("bad input 31: a SQLite file that may only be read", async () => {
    const folder = join(dir, "read-only");
    await mkdir(folder);
    const path = join(folder, "no-database.db");
    await writeFile(path, "this is a letter to my aunt, and no database".repeat(100));
    await expect(openWith(`sqlite:${path}`)).rejects.toMatchObject({
      code: "CONFIG",
      message: expect.stringContaining(path),
    });
  });
});
