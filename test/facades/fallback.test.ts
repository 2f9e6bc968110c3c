/** A file that stands in for a server, by choice: killed servers, absent ones, processes that die with a full outbox. */

import { join } from "node:path";
import { afterEach, describe, expect, test } from "vitest";
import { type Broker, connect, type ConnectOptions, type EventReceipt } from "../../src/index.js";
import { runChild } from "../support/children.js";
import { removeDir, tempDir } from "../support/process.js";
import { type RedisServer, startRedis } from "../support/redis-servers.js";
import { pause, until } from "../support/wait.js";
import { recordingLogger } from "./support/lanes.js";

const TYPE = "order.created";
/** Shorter than the defaults, so that an absent server is soon known to be absent. */
const QUICK: ConnectOptions = { connectTimeoutMs: 500, commandTimeoutMs: 1_000 };

const undo: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const step of undo.splice(0).reverse()) await step();
});

async function newFallback(): Promise<string> {
  const dir = await tempDir();
  undo.push(() => removeDir(dir));
  return `sqlite:${join(dir, "outbox.db")}`;
}

async function newServer(options: Parameters<typeof startRedis>[0] = {}): Promise<RedisServer> {
  const server = await startRedis(options);
  undo.push(() => server.stop());
  return server;
}

interface Opened {
  readonly broker: Broker;
  /** Ids of log events that concern the fallback, in order. */
  readonly events: () => string[];
}

async function open(url: string, options: ConnectOptions): Promise<Opened> {
  const { logger, entries } = recordingLogger();
  const broker = await connect(url, { logger, onError: () => undefined, ...QUICK, ...options });
  undo.push(() => broker.close({ drainMs: 0 }));
  const names = (): string[] => entries.map(({ fields }) => String(fields["event"]));
  return { broker, events: () => names().filter((name) => name.startsWith("fallback_")) };
}

/** What the server holds, read by a broker of its own. */
async function stored(server: RedisServer): Promise<{ id: string; data: unknown }[]> {
  const { broker } = await open(server.url, {});
  const messages: { id: string; data: unknown }[] = [];
  await broker.events.replay(TYPE, { from: "beginning" }, (data, { message }) => {
    messages.push({ id: message.id, data });
  });
  await broker.close();
  return messages;
}

function numbers(count: number): number[] {
  return Array.from({ length: count }, (_, index) => index);
}

describe("[E37] the fallback", () => {
  test("[E37] the server killed under load and restarted: publishing goes on, and all arrives in order, once, without a word", async () => {
    const server = await newServer({ appendonly: "always" });
    const { broker, events } = await open(server.url, { fallback: await newFallback() });
    const publishers = 4;
    const stop = new AbortController();
    const receipts: EventReceipt[][] = [];
    const publish = async (publisher: number): Promise<void> => {
      const mine: EventReceipt[] = [];
      receipts.push(mine);
      for (let n = 0; !stop.signal.aborted; n += 1) {
        mine.push(await broker.events.publish(TYPE, { publisher, n }, { key: String(publisher) }));
        // As fast as that, but no faster: what is published has to be looked through afterwards.
        await pause(2);
      }
    };
    const running = Promise.all(numbers(publishers).map(publish));
    const count = (isKept: boolean): number =>
      receipts.flat().filter(({ fallback }) => (fallback === true) === isKept).length;
    for (let outage = 1; outage <= 2; outage += 1) {
      const before = count(false);
      await until(() => count(false) > before + 200, { everyMs: 50, what: "publishing to the server" });
      const kept = count(true);
      await server.kill();
      await until(() => count(true) > kept + 200, { everyMs: 50, deadlineMs: 20_000, what: "publishing to the file" });
      const health = await broker.health();
      expect(health.status).toBe("degraded");
      expect(health.details.checks.find(({ name }) => name === "outbox")).toMatchObject({ ok: false });
      await server.restart();
      const drained = (): number => events().filter((name) => name === "fallback_drained").length;
      await until(() => drained() === outage, { deadlineMs: 30_000, everyMs: 20, what: "the outbox to be empty" });
    }
    const before = count(false);
    await until(() => count(false) > before + 100, { everyMs: 20, what: "the server to be used again" });
    stop.abort();
    await running;
    expect(events()).toEqual(["fallback_engaged", "fallback_drained", "fallback_engaged", "fallback_drained"]);
    expect((await broker.health()).status).toBe("up");

    const arrived = await stored(server);
    const ids = receipts.flat().map(({ id }) => id);
    expect(arrived.map(({ id }) => id).toSorted()).toEqual(ids.toSorted());
    for (const publisher of numbers(publishers)) {
      const mine = arrived.map(({ data }) => data as { publisher: number; n: number });
      const order = mine.filter((data) => data.publisher === publisher).map(({ n }) => n);
      expect(order).toEqual(numbers(order.length));
    }
    const kinds = receipts.flat().map(({ fallback = false, position, durability, duplicate }) => {
      return `kept ${fallback}, placed ${position !== ""}, ${durability}, duplicate ${duplicate}`;
    });
    expect([...new Set(kinds)].toSorted()).toEqual([
      "kept false, placed true, memory, duplicate false",
      "kept true, placed false, fsync, duplicate false",
    ]);
  }, 120_000);

  test("[E37] an absent server at the start: events are kept, all else is a ConnectionError, until it is there", async () => {
    const server = await newServer();
    await server.kill();
    const { broker, events } = await open(server.url, { fallback: await newFallback() });
    expect(broker.backend).toBe("redis");
    const receipts = await broker.events.publishMany(TYPE, numbers(1_000));
    expect(receipts.every(({ fallback }) => fallback === true)).toBe(true);
    const refused = [
      () => broker.queue("q").publish(1),
      () => broker.events.stats(TYPE),
      () => broker.events.subscribe(TYPE, { group: "g", from: "beginning" }, () => undefined),
      () => broker.ping(),
    ];
    for (const call of refused) await expect(call()).rejects.toMatchObject({ code: "CONNECTION", retryable: true });
    expect((await broker.health()).status).toBe("degraded");
    expect(events()).toEqual(["fallback_engaged"]);
    await server.restart();
    await until(() => events().includes("fallback_drained"), { deadlineMs: 20_000 });
    const got: unknown[] = [];
    await broker.events.subscribe(
      TYPE,
      { group: "g", from: "beginning", order: "strict" },
      (data) => void got.push(data),
    );
    const receipt = await broker.events.publish(TYPE, 1_000);
    expect(receipt.fallback).toBeUndefined();
    expect(receipt.position).not.toBe("");
    await until(() => got.length === 1_001, { deadlineMs: 20_000 });
    expect(got).toEqual(numbers(1_001));
    expect((await broker.health()).status).toBe("up");
  }, 60_000);

  test("[E37] a process killed with messages in its outbox: the next that opens it moves them, before its own", async () => {
    const [server, fallback] = [await newServer(), await newFallback()];
    await server.kill();
    const child = runChild(new URL("support/outbox-child.ts", import.meta.url), {
      args: [server.url, fallback, TYPE, "0"],
    });
    undo.push(() => child.stop());
    await until(() => child.messages.length > 50, {
      deadlineMs: 20_000,
      what: `the child to publish: ${child.output()}`,
    });
    child.kill("SIGKILL");
    await child.exited;
    expect(child.messages.every(({ kept }) => kept === true)).toBe(true);
    const told = child.messages.flatMap(({ published }) => published as number[]);

    const first = await open(server.url, { fallback });
    expect(first.events()).toEqual(["fallback_engaged"]);
    const own = await first.broker.events.publish(TYPE, "after");
    expect(own.fallback).toBe(true);
    await first.broker.close();
    await server.restart();
    const second = await open(server.url, { fallback });
    await until(() => second.events().includes("fallback_drained"), { deadlineMs: 20_000 });
    const arrived = (await stored(server)).map(({ data }) => data);
    // One batch may have been stored and not told before the kill.
    const counted = arrived.slice(0, -1);
    expect(counted.slice(0, told.length)).toEqual(told);
    expect(counted.length - told.length).toBeLessThanOrEqual(10);
    expect(arrived.at(-1)).toBe("after");
    await second.broker.close();
    const third = await open(server.url, { fallback });
    expect(third.events()).toEqual([]);
  }, 60_000);

  test("[E37] a file that holds streams of its own stays out of it", async () => {
    const [server, fallback] = [await newServer(), await newFallback()];
    const own = await open(fallback, {});
    await own.broker.events.publish(TYPE, "for the file");
    await server.kill();
    const { broker, events } = await open(server.url, { fallback });
    await broker.events.publish(TYPE, "for the server");
    await server.restart();
    await until(() => events().includes("fallback_drained"), { deadlineMs: 20_000 });
    expect((await stored(server)).map(({ data }) => data)).toEqual(["for the server"]);
    expect((await own.broker.events.stats(TYPE)).length).toBe(1);
  }, 60_000);

  test("[E37] without the option nothing falls back: connecting and publishing are typed errors", async () => {
    const server = await newServer();
    const { broker, events } = await open(server.url, { publishTimeoutMs: 2_000 });
    await broker.events.publish(TYPE, 1);
    await server.kill();
    await expect(connect(server.url, QUICK)).rejects.toMatchObject({ code: "CONNECTION" });
    const withFallback = await open(server.url, { fallback: await newFallback() });
    const failing = [
      () => broker.events.publish(TYPE, 2),
      () => broker.queue("q").publish(2),
      // Only events fall back.
      () => withFallback.broker.queue("q").publish(2),
    ];
    const failures = await Promise.all(failing.map((call) => call().catch((error: unknown) => error)));
    for (const failure of failures) expect(failure).toMatchObject({ code: "CONNECTION" });
    expect(events()).toEqual([]);
  }, 60_000);

  test("[E37] what a fallback cannot be is refused, with everything else that is wrong", async () => {
    const redis = "redis://127.0.0.1:1";
    const refused: [url: string, options: ConnectOptions, expected: RegExp][] = [
      [redis, { fallback: "memory:" }, /must be a file/],
      [redis, { fallback: "redis://:secret@localhost" }, /must be a file/],
      [redis, { fallback: "outbox.db" }, /has no scheme/],
      [redis, { fallback: "" }, /must be a string that is not empty/],
      ["sqlite:./events.db", { fallback: "sqlite:./events.db" }, /needs none/],
      ["memory:", { fallback: "sqlite:./outbox.db" }, /needs none/],
      [redis, { fallback: "sqlite:./outbox.db", durability: "replicated" }, /"fsync" at most/],
      [redis, { fallback: "sqlite::memory:" }, /:memory:/],
      [redis, { waitForServerMs: -1 }, /waitForServerMs must be/],
      [redis, { fallbak: "sqlite:x" } as ConnectOptions, /did you mean "fallback"/],
    ];
    for (const [url, options, expected] of refused) {
      const failure: unknown = await connect(url, options).catch((error: unknown) => error);
      expect(failure).toMatchObject({ code: "CONFIG", message: expect.stringMatching(expected) });
      expect(String(failure)).not.toContain("secret");
    }
    await expect(connect(redis, { fallback: "memory:", maxPayloadBytes: 0 })).rejects.toMatchObject({
      problems: expect.objectContaining({ length: 2 }),
    });
  });
});

describe("[E37] waiting for a server", () => {
  test("[E37] connect waits for an absent server for as long as it is told", async () => {
    const server = await newServer();
    await server.kill();
    const opening = open(server.url, { waitForServerMs: 20_000 });
    const restarted = server.restart();
    const { broker } = await opening;
    await restarted;
    await broker.events.publish(TYPE, 1);
    await server.kill();
    const start = performance.now();
    await expect(connect(server.url, { ...QUICK, waitForServerMs: 1_500 })).rejects.toMatchObject({
      code: "CONNECTION",
    });
    expect(performance.now() - start).toBeGreaterThan(1_400);
  }, 60_000);

  test("[E37] it waits for nothing but absence, and no longer than its caller", async () => {
    const server = await newServer({ password: "right-horse" });
    const wrong = `redis://:wrong-horse@127.0.0.1:${server.port}`;
    const fallback = await newFallback();
    for (const options of [{}, { fallback }]) {
      const start = performance.now();
      await expect(connect(wrong, { ...QUICK, waitForServerMs: 60_000, ...options })).rejects.toMatchObject({
        code: "AUTH",
      });
      expect(performance.now() - start).toBeLessThan(10_000);
    }
    await server.kill();
    const giving = connect(server.url, { ...QUICK, waitForServerMs: 60_000, signal: AbortSignal.timeout(700) });
    await expect(giving).rejects.toMatchObject({ name: "TimeoutError" });
  }, 60_000);
});
