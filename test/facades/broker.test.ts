/** Connecting, options, contracts, health and closing. */

import { existsSync } from "node:fs";
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { type as arktype } from "arktype";
import * as v from "valibot";
import { describe, expect, test } from "vitest";
import { z } from "zod";
import { type Broker, connect, defineContract, SignalboxError } from "../../src/index.js";
import { tempDir } from "../support/process.js";
import { startRedis } from "../support/redis-servers.js";
import { until } from "../support/wait.js";
import { onEveryBackend, onRedis, recordingLogger, silentLogger } from "./support/lanes.js";

describe("connect", () => {
  test("lists every problem at once, suggests the option that was meant, and shows no password", async () => {
    const wrong = { namespce: "x", maxPayloadBytes: "5", durability: "fsnyc" };
    const failure: unknown = await connect("redis://user:s3cret@host:99999/x", wrong as object).catch(
      (error: unknown) => error,
    );
    expect(failure).toMatchObject({ code: "CONFIG", retryable: false });
    const { message } = failure as Error;
    expect(message).toContain('unknown option "namespce", did you mean "namespace"?');
    expect(message).toContain("maxPayloadBytes must be a whole number");
    expect(message).toContain('durability must be "memory" or "fsync" or "replicated", not "fsnyc"');
    expect(message).toContain("redis://user:***@host");
    expect(message).not.toContain("s3cret");
  });

  test("takes its URL from SIGNALBOX_URL, else REDIS_URL, and never falls back to anything else", async () => {
    const before = { ...process.env };
    try {
      delete process.env["SIGNALBOX_URL"];
      delete process.env["REDIS_URL"];
      await expect(connect()).rejects.toMatchObject({
        code: "CONFIG",
        message: expect.stringContaining("SIGNALBOX_URL"),
      });
      process.env["REDIS_URL"] = "";
      await expect(connect()).rejects.toMatchObject({ code: "CONFIG" });
      process.env["REDIS_URL"] = "$REDIS_URL";
      await expect(connect()).rejects.toThrow(/variable's name/);
      process.env["SIGNALBOX_URL"] = "memory:\n";
      const broker = await connect();
      expect(broker.backend).toBe("memory");
      await broker.close();
    } finally {
      process.env = before;
    }
  });

  test("refuses a durability that the backend cannot attain", async () => {
    await expect(connect("memory:", { durability: "fsync" })).rejects.toMatchObject({ code: "CONFIG" });
    await expect(connect("sqlite::memory:", { durability: "replicated" })).rejects.toMatchObject({ code: "CONFIG" });
  });

  test("[E34] sqlite: alone is events.db in the working directory", async () => {
    const dir = await tempDir();
    const cwd = process.cwd();
    process.chdir(dir);
    try {
      const broker = await connect("sqlite:", { logger: silentLogger });
      const { durability } = await broker.events.publish("health.check", { ok: true });
      await broker.close();
      expect(existsSync(join(dir, "events.db"))).toBe(true);
      expect(durability).toBe("fsync");
      const again = await connect("sqlite:events.db", { logger: silentLogger });
      expect((await again.events.stats("health.check")).length).toBe(1);
      await again.close();
    } finally {
      process.chdir(cwd);
      await rm(dir, { recursive: true });
    }
  });
});

onEveryBackend("a broker", (lane) => {
  test("[E8] with a contract, names and payloads are checked at both ends, by any Standard Schema", async () => {
    const [ordered, paid, checked] = [lane.unique("ordered"), lane.unique("paid"), lane.unique("checked")];
    const contract = defineContract({
      events: {
        [ordered]: z.object({ total: z.number(), at: z.string().transform((text) => new Date(text)) }),
        [paid]: v.objectAsync({
          total: v.pipeAsync(
            v.number(),
            v.checkAsync(async (total) => total > 0, "not positive"),
          ),
        }),
        [checked]: arktype({ total: "number" }),
      },
    });
    // Its names are not literals, so that TypeScript has nothing to say here.
    const broker = (await lane.open({ contract })) as unknown as Broker;
    await expect(broker.events.publish("orderd", {})).rejects.toMatchObject({ code: "INVALID_ARGUMENT" });
    for (const type of [ordered, paid, checked]) {
      const refused = broker.events.publish(type, { total: "1" });
      await expect(refused).rejects.toMatchObject({
        code: "SCHEMA",
        issues: expect.arrayContaining([expect.objectContaining({ path: "total" })]),
      });
    }
    await expect(broker.events.publish(paid, { total: -1 })).rejects.toThrow(/not positive/);
    await broker.events.publish(ordered, { total: 1, at: "2026-01-01T00:00:00Z" });
    // Somebody without the contract publishes what it does not allow.
    const untyped = await lane.open();
    await untyped.events.publish(ordered, { total: "?" });
    const got: unknown[] = [];
    await broker.events.subscribe(ordered, { group: "g", from: "beginning" }, (data) => void got.push(data));
    await until(async () => (await broker.events.stats(ordered)).groups[0]?.dead === 1);
    expect(got).toEqual([{ total: 1, at: new Date("2026-01-01T00:00:00Z") }]);
    for await (const letter of broker.events.group(ordered, "g").deadLetters()) {
      expect(letter.reason).toMatchObject({ kind: "undecodable", message: expect.stringContaining("total") });
      expect(Buffer.from(letter.raw).toString()).toBe('{"total":"?"}');
      expect(letter.attempts).toBe(1);
    }
  });

  test("names that cannot be meant are refused, and unusual ones are kept apart", async () => {
    const broker = await lane.open();
    for (const name of [
      "",
      " ",
      "a\n",
      "a\0b",
      "*",
      "a[b",
      "x\\",
      "{x}",
      "}{",
      "x".repeat(257),
      "\ud800",
      7,
      undefined,
      null,
    ]) {
      const refused = broker.events.publish(name as string, {});
      await expect(refused, JSON.stringify(name)).rejects.toMatchObject({ code: "INVALID_ARGUMENT" });
    }
    for (const name of ["__proto__", "constructor", "../up", "a:b", "a%3Ab", "🚂", "caf\u00e9"]) {
      await broker.events.publish(name, name);
      expect((await broker.events.stats(name)).length, name).toBe(1);
    }
    // The same name in another normal form is the same name.
    await broker.events.publish("cafe\u0301", {});
    expect((await broker.events.stats("caf\u00e9")).length).toBe(2);
  });

  test("namespaces never see each other", async () => {
    const type = lane.unique("t");
    const [one, other] = [await lane.open({ namespace: "one" }), await lane.open({ namespace: "other" })];
    await one.events.publish(type, {});
    expect((await other.events.stats(type)).length).toBe(0);
    await one.queue(type).publish({});
    expect((await other.queue(type).stats()).waiting).toBe(0);
  });

  test("an aborted call rejects with the signal's own reason", async () => {
    const broker = await lane.open();
    const type = lane.unique("t");
    const reason = new Error("changed my mind");
    const signal = AbortSignal.abort(reason);
    await expect(broker.events.publish(type, {}, { signal })).rejects.toBe(reason);
    await expect(broker.queue(type).publish({}, { signal })).rejects.toBe(reason);
    await expect(broker.events.subscribe(type, { group: "g", from: "new", signal }, () => undefined)).rejects.toBe(
      reason,
    );
    expect((await broker.events.stats(type)).length).toBe(0);
  });

  test("health names every consumer and every connection, and says down once closed", async () => {
    const broker = await lane.open();
    const type = lane.unique("t");
    await broker.events.subscribe(type, { group: "g", from: "new" }, () => undefined);
    expect(await broker.ping()).toBeGreaterThanOrEqual(0);
    const health = await broker.health();
    expect(health.status).toBe("up");
    expect(health.details.consumers).toMatchObject([{ channel: type, reader: "g", ok: true, state: "running" }]);
    expect(health.details.checks.every(({ ok }) => ok)).toBe(true);
    await broker.close();
    expect((await broker.health()).status).toBe("down");
    await expect(broker.ping()).rejects.toMatchObject({ code: "CLOSED" });
  });
});

describe("a broker on a Redis that goes away", () => {
  onRedis((lane, server) => {
    test("[E16] its consumers back off and health is degraded; both recover by themselves", async () => {
      const { logger, entries } = recordingLogger();
      const failures: Error[] = [];
      const broker = await lane.open({
        logger,
        commandTimeoutMs: 1_000,
        onError: (error) => void failures.push(error),
      });
      const type = lane.unique("t");
      const got: unknown[] = [];
      const sub = await broker.events.subscribe(type, { group: "g", from: "beginning" }, (data) => void got.push(data));
      await broker.events.publish(type, 1);
      await until(() => got.length === 1);

      await server().kill();
      await until(() => sub.stats()[0]?.state === "failing", { deadlineMs: 10_000 });
      expect((await broker.health()).status).not.toBe("up");
      // A row of failures is reported once, not once for each attempt.
      expect(failures.length).toBeGreaterThan(0);
      expect(failures.every((error) => error instanceof SignalboxError)).toBe(true);

      await server().restart();
      await until(() => sub.stats()[0]?.state === "running", { deadlineMs: 10_000 });
      await until(async () => (await broker.health()).status === "up", { deadlineMs: 10_000 });
      await broker.events.publish(type, 2);
      await until(() => got.includes(2));
      const ids = entries.map(({ fields }) => fields["event"]);
      expect(ids).toContain("consumer_failing");
      expect(ids).toContain("consumer_recovered");
    });

    test("a publish is tried again for as long as publishTimeoutMs says", async () => {
      const broker = await lane.open({ publishTimeoutMs: 600 });
      const type = lane.unique("t");
      await broker.events.publish(type, 1);
      await server().kill();
      const startedAt = performance.now();
      await expect(broker.events.publish(type, 2)).rejects.toMatchObject({
        code: expect.stringMatching(/CONNECTION|PUBLISH_INDETERMINATE/),
      });
      const tookMs = performance.now() - startedAt;
      expect(tookMs).toBeGreaterThan(500);
      expect(tookMs).toBeLessThan(4_000);
      await server().restart();
      await until(async () => await broker.events.publish(type, 3), { deadlineMs: 10_000 });
    });
  });

  test("[X9] and its log never holds the password", async () => {
    const server = await startRedis({ password: "canary-7781" });
    try {
      const { logger, entries } = recordingLogger();
      const url = server.url.includes("canary") ? server.url : server.url.replace("redis://", "redis://:canary-7781@");
      const broker = await connect(url, { logger });
      await broker.events.publish("t", {});
      await broker.close();
      await expect(connect(url.replace("canary-7781", "canary-wrong"), { logger })).rejects.toMatchObject({
        code: "AUTH",
      });
      expect(JSON.stringify(entries)).not.toContain("canary");
      expect(entries.map(({ fields }) => fields["event"])).toContain("backend_opened");
    } finally {
      await server.stop();
    }
  });
});
