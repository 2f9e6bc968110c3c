/** Bad inputs that are no reason to refuse: names and payloads that only look dangerous, and what comes from outside. */

import { rm } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { type Broker, connect, defineContract, retry } from "../../src/index.js";
import { queueKeys } from "../../src/backends/redis/keys.js";
import { silentLogger } from "../facades/support/lanes.js";
import { tempDir } from "../support/process.js";
import { asArray } from "../support/redis-cli.js";
import { type RedisServer, startRedis } from "../support/redis-servers.js";
import { until } from "../support/wait.js";

const open: Broker[] = [];
let dir = "";
let server: RedisServer;

beforeAll(async () => {
  dir = await tempDir();
  server = await startRedis();
});
afterEach(async () => {
  await Promise.all(open.splice(0).map((each) => each.close({ drainMs: 0 })));
});
afterAll(async () => {
  await server.stop();
  await rm(dir, { recursive: true, force: true });
});

async function openWith(url: unknown, options: object = {}): Promise<Broker> {
  const opened = await connect(url as string, { logger: silentLogger, ...options });
  open.push(opened);
  return opened;
}

/** A schema of somebody else. */
const numbers = {
  "~standard": {
    version: 1,
    vendor: "test",
    validate: (value: unknown) => (typeof value === "number" ? { value } : { issues: [{ message: "no number" }] }),
  },
} as const;

describe("taken for what it is", () => {
  const awkward = [
    [41, "a colon in a name", "a:b"],
    [49, "a name in two normal forms", "e\u0301"],
    [50, "__proto__ and constructor as names", "__proto__"],
    [51, "../ in a name", "../etc"],
    [54, "an emoji", "🦀"],
    [55, "what looks like one of our own keys", "sb1"],
  ] as const;

  test.each(awkward)("bad input %i: %s stays a name of its own", async (_, __, name) => {
    for (const url of ["memory:", `sqlite:${join(dir, "names.db")}`, server.url]) {
      const other = await openWith(url);
      await other.events.publish(name, url);
      expect((await other.events.stats(name.normalize("NFC"))).length).toBe(1);
      expect((await other.events.stats(`${name}2`)).length).toBe(0);
      const queue = other.queue(name);
      await queue.publish(url, { target: name });
      expect((await other.queue(name.normalize("NFC")).stats(name.normalize("NFC"))).waiting).toBe(1);
      expect((await other.queue(`${name}2`).stats(name)).waiting).toBe(0);
      expect((await queue.stats(`${name}2`)).waiting + (await queue.stats()).waiting).toBe(0);
    }
  });

  test("bad input 35: consumers of one group never share a name, since nobody gives them one", async () => {
    const one = await openWith(server.url);
    // Redis lists a consumer once it has been given something, so each gets one event to hold.
    const options = { group: "g", from: "beginning", concurrency: 1 } as const;
    const held = new AbortController();
    for (let times = 0; times < 3; times += 1) {
      await one.events.subscribe(
        "named",
        options,
        () => new Promise((resolve) => held.signal.addEventListener("abort", resolve)),
      );
    }
    await one.events.publishMany("named", [1, 2, 3]);
    await until(async () => {
      const found = asArray(await server.cli("XINFO", "CONSUMERS", "sb1:{default:log:named:0}:s", "g"));
      const consumers = found.map((consumer) => asArray(consumer)[1]);
      return consumers.length === 3 && new Set(consumers).size === 3;
    });
    held.abort();
  });

  test("bad input 25: a delay of a handler's own that is none is a failed attempt, and not lost", async () => {
    const one = await openWith("memory:");
    let attempts = 0;
    await one.events.subscribe("t", { group: "g", from: "beginning", retry: { maxAttempts: 2, initialMs: 1 } }, () => {
      attempts += 1;
      return retry({ delayMs: Number.NaN });
    });
    await one.events.publish("t", 1);
    await until(async () => (await one.events.stats("t")).groups[0]?.dead === 1);
    expect(attempts).toBe(2);
  });

  test("bad input 25: the same of a queue", async () => {
    const queue = (await openWith("memory:")).queue("t");
    let attempts = 0;
    await queue.subscribe({ retry: { maxAttempts: 2, initialMs: 1 } }, () => {
      attempts += 1;
      return retry({ delayMs: Number.NaN });
    });
    await queue.publish(1);
    await until(async () => (await queue.stats()).dead === 1);
    expect(attempts).toBe(2);
  });

  test.each([
    [62, "an own __proto__", '{ "__proto__": { "admin": true }, "a": 1 }'],
    [63, "constructor.prototype", '{ "constructor": { "prototype": { "admin": true } }, "a": 1 }'],
  ])("bad input %i: %s is inert", async (_, __, json) => {
    const one = await openWith("memory:");
    const got: { a?: number; admin?: boolean }[] = [];
    await one.events.subscribe("t", { group: "g", from: "beginning" }, (data) => void got.push(data as object));
    await one.events.publish("t", JSON.parse(json));
    await until(() => got.length === 1);
    expect(Object.assign({}, got[0]).admin).toBeUndefined();
    expect(({} as { admin?: boolean }).admin).toBeUndefined();
    expect(got[0]?.a).toBe(1);
  });

  test("bad input 76: an entry that somebody else wrote becomes a dead letter, and the next one is handled", async () => {
    const one = await openWith(server.url);
    const got: unknown[] = [];
    await one.events.subscribe("foreign", { group: "g", from: "beginning" }, (data) => void got.push(data));
    await server.cli("XADD", "sb1:{default:log:foreign:0}:s", "*", "type", "HealthCheck", "data", '{"ok":true}');
    await one.events.publish("foreign", "ours");
    await until(() => got.length === 1);
    await until(async () => (await one.events.stats("foreign")).groups[0]?.dead === 1);
    for await (const letter of one.events.group("foreign", "g").deadLetters()) {
      expect(letter.reason.kind).toBe("undecodable");
      expect(Buffer.from(letter.raw).toString()).toContain("HealthCheck");
    }
  });

  test("bad input 76: the same in a queue", async () => {
    const queue = (await openWith(server.url)).queue("foreign");
    const keys = queueKeys("default", "foreign");
    await server.cli("HSET", keys.records, "theirs", '{"type":"HealthCheck"}');
    await server.cli("ZADD", keys.recipient("").waiting, 0, "000000000001|0|theirs");
    const got: unknown[] = [];
    await queue.subscribe({}, (data) => void got.push(data));
    await queue.publish("ours");
    await until(() => got.length === 1);
    await until(async () => (await queue.stats()).dead === 1);
    for await (const letter of queue.deadLetters()) {
      expect(letter.reason.kind).toBe("undecodable");
      expect(Buffer.from(letter.raw).toString()).toContain("HealthCheck");
    }
  });

  test("a contract's own refusal names the field, and what is refused is not stored", async () => {
    const contract = defineContract({ events: { reading: numbers } });
    const one = await openWith("memory:", { contract });
    await expect(one.events.publish("reading", "seven")).rejects.toMatchObject({ code: "SCHEMA" });
    expect((await one.events.stats("reading")).length).toBe(0);
  });
});

describe("the environment", () => {
  const saved = { ...process.env };
  afterEach(() => {
    for (const name of ["SIGNALBOX_URL", "REDIS_URL"] as const) {
      if (saved[name] === undefined) delete process.env[name];
      else process.env[name] = saved[name];
    }
  });

  test.each([
    [78, "an empty REDIS_URL", "", /no scheme/],
    [79, "a literal $REDIS_URL", "$REDIS_URL", /variable's name/],
  ])("bad input %i: %s", async (_, __, value, says) => {
    delete process.env["SIGNALBOX_URL"];
    process.env["REDIS_URL"] = value;
    await expect(openWith(undefined)).rejects.toMatchObject({ code: "CONFIG", message: expect.stringMatching(says) });
  });

  test("bad input 81: white space around a URL, as a secret's file ends with, is taken off", async () => {
    delete process.env["SIGNALBOX_URL"];
    process.env["REDIS_URL"] = `${server.url}\n`;
    expect((await openWith(undefined)).backend).toBe("redis");
  });
});
