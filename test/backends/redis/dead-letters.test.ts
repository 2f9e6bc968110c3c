/** Dead letters when something goes wrong: replies are lost, memory is full, letters are large, old or many. */

import { afterAll, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import type { DeadLetter, DeadLetters, Feed, Outcome } from "../../../src/core/backend.js";
import { type RedisServer, startRedis } from "../../support/redis-servers.js";
import { pause } from "../../support/wait.js";
import {
  collect,
  CONSUMER,
  entry,
  GROUP,
  isScriptWith,
  item,
  LIMITS,
  losing,
  openPorts,
  type Ports,
  ROOMY,
  textsOf,
} from "./log-queue-support.js";

let server: RedisServer;
beforeAll(async () => {
  server = await startRedis();
});
afterAll(() => server.stop());

/** A group or a recipient that has parked some messages, in their order. */
interface Parked {
  readonly feed: Feed;
  readonly letters: DeadLetters;
  readonly ids: readonly string[];
}

let names = 0;

async function park(feed: Feed, count: number): Promise<void> {
  for (let left = count; left > 0; ) {
    const { deliveries } = await collect(feed, Math.min(left, 500));
    const reason = { kind: "failed", message: "no" } as const;
    const outcomes = deliveries.map(({ receipt }): Outcome => ({ receipt, as: "deadLetter", reason }));
    await feed.take({ max: 0, waitMs: 0 }, outcomes);
    left -= deliveries.length;
  }
}

async function all(letters: DeadLetters): Promise<DeadLetter[]> {
  const found: DeadLetter[] = [];
  for (let cursor: string | undefined; ; ) {
    const page = await letters.list(cursor === undefined ? { max: 1_000 } : { max: 1_000, cursor });
    found.push(...page.letters);
    cursor = page.cursor;
    if (cursor === undefined) return found;
  }
}

async function parkInLog({ log }: Ports, texts: readonly string[]): Promise<Parked> {
  const stream = `parked-${(names += 1)}`;
  await log.createGroup(stream, "group", { ...GROUP, maxDeadLetters: 100_000 });
  await log.append(stream, texts.map(entry), ROOMY);
  const feed = await log.open(stream, "group", "consumer");
  await park(feed, texts.length);
  const letters = log.deadLetters(stream, "group");
  return { feed, letters, ids: (await all(letters)).map(({ id }) => id) };
}

async function parkInQueue({ queue }: Ports, texts: readonly string[]): Promise<Parked> {
  const name = `parked-${(names += 1)}`;
  await queue.push(
    name,
    texts.map((text) => item(text)),
    LIMITS,
  );
  const feed = await queue.open(name, "", { ...CONSUMER, maxDeadLetters: 100_000 });
  await park(feed, texts.length);
  const letters = queue.deadLetters(name, "");
  return { feed, letters, ids: (await all(letters)).map(({ id }) => id) };
}

const kinds = [
  ["log", parkInLog],
  ["queue", parkInQueue],
] as const;

describe.each(kinds)("of the %s", (_kind, start) => {
  test.each(["unsent", "unanswered"] as const)(
    "a redrive whose first try is %s moves each letter once",
    async (fate) => {
      const ports = await openPorts(server);
      const { feed, letters, ids } = await start(ports, ["a", "b", "c"]);
      ports.judge(losing(isScriptWith(ids[0]!), fate));
      // What the first try moved counts, though the second finds it gone.
      expect(await letters.redrive(ids.slice(0, 2))).toBe(2);
      expect((await all(letters)).map(({ id }) => id)).toEqual(ids.slice(2));
      expect(textsOf(await collect(feed, 2))).toEqual(["a", "b"]);
      expect((await feed.take({ max: 10, waitMs: 0 }, [])).deliveries).toEqual([]);
    },
  );

  test("a full Redis refuses to redrive and keeps the letters, but lets them be looked at, removed and purged", async () => {
    const full = await startRedis();
    onTestFinished(() => full.stop());
    const { feed, letters, ids } = await start(await openPorts(full), ["a", "b", "c"]);
    await full.cli("CONFIG", "SET", "maxmemory", "1");
    await expect(letters.redrive(ids)).rejects.toMatchObject({ code: "OUT_OF_MEMORY", retryable: true });
    expect(await all(letters)).toHaveLength(3);
    expect(Buffer.from((await letters.get(ids[1]!))!.data).toString()).toBe("b");
    expect(await letters.remove([ids[1]!])).toBe(1);
    await full.cli("CONFIG", "SET", "maxmemory", "0");
    expect(await letters.redrive(ids.slice(0, 2))).toBe(1);
    expect(textsOf(await collect(feed, 1))).toEqual(["a"]);
    await full.cli("CONFIG", "SET", "maxmemory", "1");
    expect(await letters.purge(0)).toBe(1);
  });

  test("large letters are redriven in several calls, each of which is short", async () => {
    const ports = await openPorts(server);
    // Header and data hold the text, so that two letters are more than a million bytes.
    const large = Array.from({ length: 5 }, (_, index) => `${index}${"x".repeat(300_000)}`);
    const { feed, letters, ids } = await start(ports, large);
    let calls = 0;
    ports.judge((args) => {
      calls += args[0] === "EVALSHA" && args.includes(ids[4]!) ? 1 : 0;
      return "well";
    });
    expect(await letters.redrive([ids[0]!, "1-1", ...ids])).toBe(5);
    expect(calls).toBe(3);
    expect(textsOf(await collect(feed, 5))).toEqual(large);
  });

  test("thousands of letters are purged, removed and redriven", async () => {
    const ports = await openPorts(server);
    const texts = Array.from({ length: 12_000 }, (_, index) => `m${index}`);
    const { letters, ids } = await start(ports, texts);
    expect(await letters.remove([...ids.slice(0, 2_500), ...ids.slice(0, 10)])).toBe(2_500);
    expect(await letters.redrive(ids.slice(0, 5_000))).toBe(2_500);
    expect(await letters.purge(60_000)).toBe(0);
    expect(await letters.purge(0)).toBe(7_000);
    expect(await all(letters)).toEqual([]);
  }, 60_000);

  test("ids that no letter can have are those of no letter", async () => {
    const ports = await openPorts(server);
    const { letters } = await start(ports, ["a"]);
    for (const id of [
      "",
      "-",
      "+",
      "nonsense",
      "1",
      "(1-1",
      "1-1 2-2",
      "99999999999999999999-0",
      "1-99999999999999999999",
    ]) {
      expect(await letters.get(id)).toBeUndefined();
      expect(await letters.remove([id])).toBe(0);
      expect(await letters.redrive([id])).toBe(0);
    }
    // An age that no clock can have had is that of no letter either.
    expect(await letters.purge(Number.MAX_SAFE_INTEGER)).toBe(0);
    expect(await all(letters)).toHaveLength(1);
  });
});

describe("of the queue alone", () => {
  test("an item that has expired unnoticed does not keep a letter of its id back", async () => {
    const ports = await openPorts(server);
    const { queue } = ports;
    await queue.push("expired", [item("a")], LIMITS);
    const feed = await queue.open("expired", "", CONSUMER);
    await park(feed, 1);
    const letters = queue.deadLetters("expired", "");
    const ids = (await all(letters)).map(({ id }) => id);
    await queue.push("expired", [item("a", { ttlMs: 1, recipient: "nobody" })], LIMITS);
    await pause(10);
    expect(await letters.redrive(ids)).toBe(1);
    expect(textsOf(await collect(feed, 1))).toEqual(["a"]);
  });
});
