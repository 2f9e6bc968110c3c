/** What is dropped from a stream: what counts as a loss, and for whom; and what holds a stream back no longer. */

import { afterAll, beforeAll, expect, test } from "vitest";
import type { Feed, GroupSettings, Log, Retention } from "../../../src/core/backend.js";
import { type RedisServer, startRedis } from "../../support/redis-servers.js";
import { until } from "../../support/wait.js";
import { acks, collect, entry, GROUP, openPorts, type Ports, ROOMY, textsOf } from "./log-queue-support.js";

let server: RedisServer;
beforeAll(async () => {
  server = await startRedis();
});
afterAll(() => server.stop());

let streams = 0;

async function start({ log }: Ports, texts: readonly string[], settings: Partial<GroupSettings> = {}) {
  const stream = `dropped-${(streams += 1)}`;
  await log.createGroup(stream, "group", { ...GROUP, ...settings });
  const append = (retention: Retention, ...more: readonly string[]) => log.append(stream, more.map(entry), retention);
  for (let from = 0; from < texts.length; from += 1_000) await append(ROOMY, ...texts.slice(from, from + 1_000));
  const prefix = `sb1:{test:log:${stream}:0}:`;
  return { stream, key: `${prefix}s`, parked: `${prefix}parked`, append, open: () => log.open(stream, "group", "c") };
}

function numbered(prefix: string, count: number): string[] {
  return Array.from({ length: count }, (_, index) => `${prefix}${index + 1}`);
}

/** Parks everything that the feed finds until `delayMs` have passed. */
async function retryAll(feed: Feed, count: number, delayMs: number): Promise<void> {
  for (let seen = 0; seen < count; ) {
    const { deliveries } = await feed.take({ max: Math.min(1_000, count - seen), waitMs: 0 }, []);
    seen += deliveries.length;
    const outcomes = deliveries.map(({ receipt }) => ({ receipt, as: "retry", delayMs, counted: true }) as const);
    await feed.take({ max: 0, waitMs: 0 }, outcomes);
  }
}

/** Makes dead letters of `count` deliveries, redrives them, and acknowledges them when they come again. */
async function redriveSome(log: Log, stream: string, feed: Feed, count: number): Promise<void> {
  const { deliveries } = await collect(feed, count);
  const reason = { kind: "rejected", message: "no" } as const;
  const outcomes = deliveries.map(({ receipt }) => ({ receipt, as: "deadLetter", reason }) as const);
  await feed.take({ max: 0, waitMs: 0 }, outcomes);
  const letters = log.deadLetters(stream, "group");
  const page = await letters.list({ max: count });
  expect(await letters.redrive(page.letters.map(({ id }) => id))).toBe(count);
  await feed.take({ max: 0, waitMs: 0 }, acks(await collect(feed, count)));
}

test("what was redriven for one group is no loss to another when it is dropped, for its number or its age", async () => {
  const ports = await openPorts(server);
  const { log } = ports;
  for (const maxAgeMs of [undefined, 50]) {
    const { stream, append, open } = await start(ports, numbered("m", 4));
    await log.createGroup(stream, "idle", { ...GROUP, from: "new" });
    await log.createGroup(stream, "uncounted", { ...GROUP, from: { time: Date.now() + 1_000_000 } });
    await append(ROOMY, "own");
    await redriveSome(log, stream, await open(), 4);
    await append(ROOMY, "a", "b");
    if (maxAgeMs === undefined) {
      // Nine are there: "own", the redriven and "a" have to go.
      await append({ maxEntries: 3, overflow: "drop-oldest" }, "c", "d");
    } else {
      await log.configure(stream, { maxEntries: 100, maxAgeMs, overflow: "drop-oldest" });
      await until(async () => (await log.trim(stream)) > 0);
      await until(async () => (await log.trim(stream)) === 0 && (await log.stats(stream)).length === 0);
      await append(ROOMY, "b", "c", "d");
    }
    const idle = await log.open(stream, "idle", "c");
    const found = await collect(idle, 3);
    expect([found.gone, textsOf(found)], String(maxAgeMs)).toEqual([maxAgeMs === undefined ? 2 : 3, ["b", "c", "d"]]);
    expect((await (await log.open(stream, "uncounted", "c")).take({ max: 5, waitMs: 0 }, [])).gone).toBe(0);
  }
});

test("a retry whose entry somebody else has removed is gone, and holds a stream that is full back no longer", async () => {
  const ports = await openPorts(server);
  const { stream, key, append, open } = await start(ports, numbered("m", 5));
  const five = { maxEntries: 5, overflow: "reject" } as const;
  const feed = await open();
  await retryAll(feed, 2, 3_600_000);
  await feed.take({ max: 0, waitMs: 0 }, acks(await feed.take({ max: 3, waitMs: 0 }, [])));
  await server.cli("XTRIM", key, "MAXLEN", "=", 3);
  await append(five, "x", "y");
  await feed.take({ max: 0, waitMs: 0 }, acks(await collect(feed, 2)));
  await append(five, "z");
  const found = await feed.take({ max: 5, waitMs: 0 }, []);
  expect([found.gone, textsOf(found)]).toEqual([2, ["z"]]);
  expect((await ports.log.stats(stream)).groups).toMatchObject([{ pending: 1, retrying: 0, lag: 0 }]);
});

test("thousands of retries that are dropped at once are counted, and nothing is left of them", async () => {
  const ports = await openPorts(server);
  const { parked, append, open } = await start(ports, numbered("m", 3_500));
  const feed = await open();
  await retryAll(feed, 3_500, 3_600_000);
  await append({ maxEntries: 10, overflow: "drop-oldest" }, ...numbered("n", 10));
  expect(await server.cli("ZCARD", parked)).toBe(0);
  expect((await collect(feed, 10)).gone).toBe(3_500);
});

test("thousands of held entries that are dropped are counted once, forgotten bit by bit, and what is left takes its turn", async () => {
  const ports = await openPorts(server);
  const { log } = ports;
  const { stream, parked, open } = await start(ports, [], { order: "key", maxHeld: 20_000 });
  const keyed = (text: string) => ({ ...entry(text), key: "a" });
  const texts = numbered("a", 12_000);
  for (let from = 0; from < texts.length; from += 1_000) {
    await log.append(stream, texts.slice(from, from + 1_000).map(keyed), ROOMY);
  }
  const feed = await open();
  const first = await feed.take({ max: 1, waitMs: 0 }, []);
  const held = async () => (await log.stats(stream)).groups[0]?.held;
  await until(async () => (await feed.take({ max: 1_000, waitMs: 0 }, [])) && (await held()) === 11_999);
  let gone = 0;
  // Dropped at once, and once more while what is held is still looked through.
  for (const maxEntries of [3_000, 10]) {
    await log.append(stream, [keyed(`n${maxEntries}`)], { maxEntries, overflow: "drop-oldest" });
    gone += (await feed.take({ max: 1, waitMs: 0 }, [])).gone;
  }
  await until(async () => {
    gone += (await feed.take({ max: 1, waitMs: 0 }, [])).gone;
    return Number(await server.cli("ZCARD", parked)) === (await held());
  });
  // The first is still in hands, ten are left, of which one was appended last.
  expect([gone, await held()]).toEqual([11_991, 10]);
  const seen: string[] = [];
  for (let outcomes = acks(first); seen.length < 10; ) {
    const taken = await feed.take({ max: 5, waitMs: 100 }, outcomes);
    expect(taken.lost).toEqual([]);
    seen.push(...textsOf(taken));
    outcomes = acks(taken);
  }
  expect(seen).toEqual([...texts.slice(-8), "n3000", "n10"]);
});
