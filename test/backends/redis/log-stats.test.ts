/** Counting what others have meddled with, counting much, and counting where not everything may be asked. */

import { afterAll, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import type { Arg } from "../../../src/backends/redis/connection.js";
import type { GroupSettings, GroupStats, StreamStats } from "../../../src/core/backend.js";
import { type RedisServer, startRedis } from "../../support/redis-servers.js";
import { until } from "../../support/wait.js";
import { acks, collect, entry, GROUP, openPorts, type Ports, ROOMY } from "./log-queue-support.js";

let server: RedisServer;
beforeAll(async () => {
  server = await startRedis();
});
afterAll(() => server.stop());

let streams = 0;

/** A stream of `count` entries with a group that has read nothing. */
async function start({ log }: Ports, count: number, settings: Partial<GroupSettings> = {}) {
  const stream = `counted-${(streams += 1)}`;
  await log.createGroup(stream, "group", { ...GROUP, ...settings });
  const texts = Array.from({ length: count }, (_, index) => `m${index + 1}`);
  const appended = await log.append(stream, texts.map(entry), ROOMY);
  const statsOf = async (name: string): Promise<GroupStats | undefined> =>
    (await log.stats(stream)).groups.find(({ group }) => group === name);
  return {
    stream,
    key: `sb1:{test:log:${stream}:0}:s`,
    positions: appended.map(({ position }) => position),
    lag: async (group = "group") => (await statsOf(group))?.lag,
    statsOf,
    open: () => log.open(stream, "group", "consumer"),
  };
}

describe("a lag is exact", () => {
  test("when somebody else has trimmed beneath the group, also after it has read on", async () => {
    const ports = await openPorts(server);
    const { key, lag, open } = await start(ports, 10);
    const feed = await open();
    await feed.take({ max: 0, waitMs: 0 }, acks(await collect(feed, 2)));
    await server.cli("XTRIM", key, "MAXLEN", "=", 5);
    expect(await lag()).toBe(5);
    await collect(feed, 1);
    expect(await lag()).toBe(4);
    await ports.log.append(`counted-${streams}`, [entry("more")], ROOMY);
    expect(await lag()).toBe(5);
    await collect(feed, 5);
    expect(await lag()).toBe(0);
    await ports.log.append(`counted-${streams}`, [entry("more")], ROOMY);
    expect(await lag()).toBe(1);
  });

  test("when nobody asked between the trim and the reading", async () => {
    const ports = await openPorts(server);
    const { stream, key, lag, positions } = await start(ports, 100);
    await server.cli("XTRIM", key, "MAXLEN", "=", 80);
    // What Redis counts: it delivers, but does not know what it skipped.
    await server.cli("XREADGROUP", "GROUP", "group", "other", "COUNT", 10, "STREAMS", key, ">");
    expect(await lag()).toBe(70);
    await server.cli("XREADGROUP", "GROUP", "group", "other", "COUNT", 10, "STREAMS", key, ">");
    await ports.log.append(stream, [entry("more")], ROOMY);
    expect(await lag()).toBe(61);
    // Having counted once, it trusts the count again: nothing is counted for a group that stands where it stood.
    expect(await countings(ports, () => lag())).toBe(0);
    expect(positions).toHaveLength(100);
  });

  test("when entries were deleted, behind the cursor or before it", async () => {
    const ports = await openPorts(server);
    const { key, lag, open, positions } = await start(ports, 20);
    const feed = await open();
    await collect(feed, 5);
    await server.cli("XDEL", key, positions[1]!, positions[9]!, positions[14]!);
    expect(await lag()).toBe(13);
    await collect(feed, 3);
    expect(await lag()).toBe(10);
    await server.cli("XDEL", key, positions[19]!);
    expect(await lag()).toBe(9);
    await collect(feed, 9);
    expect(await lag()).toBe(0);
    await server.cli("DEL", key);
    expect((await ports.log.stats(`counted-${streams}`)).groups).toEqual([]);
  });

  test("when the entry behind the cursor, the last or every one was deleted", async () => {
    const ports = await openPorts(server);
    const { stream, key, lag, open, positions } = await start(ports, 6);
    const feed = await open();
    await collect(feed, 3);
    await server.cli("XDEL", key, positions[2]!, positions[3]!);
    expect(await lag()).toBe(2);
    await server.cli("XDEL", key, positions[5]!);
    expect(await lag()).toBe(1);
    await server.cli("XDEL", key, positions[0]!, positions[1]!, positions[4]!);
    expect(await ports.log.stats(stream)).toMatchObject({ length: 0, oldest: undefined, newest: undefined });
    expect(await lag()).toBe(0);
    await ports.log.append(stream, [entry("more")], ROOMY);
    expect(await lag()).toBe(1);
  });

  test("of groups that stand in different places, with one look through the stream, of short calls", async () => {
    const ports = await openPorts(server);
    const { stream, key, positions } = await start(ports, 6_000);
    for (const [index, at] of [0, 1, 2_000, 2_000, 4_500, 5_999].entries()) {
      const from = { after: positions[at]! };
      await ports.log.createGroup(stream, `group${index}`, { ...GROUP, from });
    }
    await server.cli("XDEL", key, positions[3]!, positions[5_000]!);
    let found: readonly number[] = [];
    const calls = await countings(ports, async () => {
      const { groups } = await ports.log.stats(stream);
      found = groups.toSorted((one, other) => (one.group < other.group ? -1 : 1)).map(({ lag }) => lag);
    });
    expect(found).toEqual([5_998, 5_997, 5_996, 3_998, 3_998, 1_498, 0]);
    // 800 entries each, or fewer where they are large.
    expect([calls >= 8, calls <= 9]).toEqual([true, true]);
  });

  test("without counting, when only signalbox itself has trimmed", async () => {
    const ports = await openPorts(server);
    const { stream, lag, open } = await start(ports, 5);
    const feed = await open();
    const five = { maxEntries: 5, overflow: "reject" } as const;
    for (let round = 0; round < 4; round += 1) {
      await feed.take({ max: 0, waitMs: 0 }, acks(await collect(feed, 3)));
      await ports.log.append(stream, ["a", "b", "c"].map(entry), five);
    }
    await ports.log.append(stream, ["d", "e"].map(entry), { ...five, overflow: "drop-oldest" });
    await ports.log.configure(stream, { ...five, maxAgeMs: 1 });
    await feed.take({ max: 0, waitMs: 0 }, acks(await collect(feed, 2)));
    await until(async () => (await ports.log.trim(stream)) > 0);
    await collect(feed, 1);
    let found: number | undefined;
    expect(await countings(ports, async () => (found = await lag()))).toBe(0);
    expect(found).toBe(2);
  });

  test("and whatever was taken from beneath a group unseen is reported to it, once", async () => {
    const ports = await openPorts(server);
    const { stream, key, lag, open } = await start(ports, 100);
    await server.cli("XTRIM", key, "MAXLEN", "=", 80);
    await server.cli("XREADGROUP", "GROUP", "group", "other", "COUNT", 10, "STREAMS", key, ">");
    expect(await lag()).toBe(70);
    expect(await lag()).toBe(70);
    const feed = await open();
    expect((await collect(feed, 20)).gone).toBe(20);
    expect(await lag()).toBe(50);
    expect((await collect(feed, 20)).gone).toBe(0);
    expect((await ports.log.stats(stream)).length).toBe(80);
  });

  /** How often entries are counted one by one while something runs. */
  async function countings(ports: Ports, run: () => Promise<unknown>): Promise<number> {
    let calls = 0;
    // The script that counts has the stream as its only key.
    ports.judge((args: readonly Arg[]) => {
      calls += args[0] === "EVALSHA" && args[2] === "1" && String(args[3]).endsWith(":s") ? 1 : 0;
      return "well";
    });
    await run();
    ports.judge(() => "well");
    return calls;
  }
});

test("a hundred groups are counted in two round trips", async () => {
  const ports = await openPorts(server);
  const { stream } = await start(ports, 3);
  for (let index = 1; index < 100; index += 1) await ports.log.createGroup(stream, `group${index}`, GROUP);
  await ports.log.stats(stream);
  const turns: string[][] = [];
  let turn: string[] | undefined;
  ports.judge((args) => {
    if (turn === undefined) {
      turn = [];
      turns.push(turn);
      // Whatever is sent before the first reply can arrive is one round trip.
      queueMicrotask(() => queueMicrotask(() => (turn = undefined)));
    }
    turn.push(String(args[0]));
    return "well";
  });
  const { groups } = await ports.log.stats(stream);
  expect(groups.map(({ lag }) => lag)).toEqual(Array.from({ length: 100 }, () => 3));
  expect(turns).toEqual([["XINFO", "MEMORY"], Array.from({ length: 4 }, () => "EVALSHA")]);
});

test("the oldest of a group's retries is found behind thousands of another's", async () => {
  const ports = await openPorts(server);
  const { stream, key, statsOf } = await start(ports, 3);
  const feed = await ports.log.open(stream, "group", "consumer");
  const { deliveries } = await collect(feed, 3);
  const [first, , last] = deliveries;
  const outcomes = deliveries.map(({ receipt }) => ({ receipt, as: "retry", delayMs: 60_000, counted: true }) as const);
  await feed.take({ max: 0, waitMs: 0 }, outcomes.slice(1));
  const parked = key.replace(/s$/, "parked");
  const others = Array.from({ length: 2_500 }, (_, index) => [index + 1, `${index + 1}-0 group of another`]).flat();
  await server.cli("ZADD", parked, ...others);
  expect(await statsOf("group")).toMatchObject({ retrying: 2, oldestUnhandledAt: timeOf(first?.position) });
  await feed.take({ max: 0, waitMs: 0 }, [{ receipt: first!.receipt, as: "ack" }]);
  expect(await statsOf("group")).toMatchObject({ pending: 0, oldestUnhandledAt: timeOf(last?.position) });
});

test("a group of an earlier build, and one of somebody else's, are counted with what is known of them", async () => {
  const ports = await openPorts(server);
  const { stream, key, positions, statsOf } = await start(ports, 3);
  const prefix = key.slice(0, -1);
  const old = { from: "beginning", leaseMs: 1_000, maxAttempts: 2, maxDeadLetters: 3 };
  await server.cli("HSET", `${prefix}groups`, "old", JSON.stringify(old));
  await server.cli("XGROUP", "CREATE", key, "old", positions[1]!);
  await server.cli("XGROUP", "CREATE", key, "somebody's", "0");
  expect(await statsOf("old")).toMatchObject({
    settings: { ...old, order: "none", maxHeld: 1_000 },
    lag: 1,
    lastProgressAt: timeOf(positions[1]),
  });
  expect(await statsOf("somebody's")).toMatchObject({ settings: { leaseMs: 0, maxAttempts: 0 }, lag: 3, dead: 0 });
  const full = ports.log.append(stream, [entry("more")], { maxEntries: 3, overflow: "reject" });
  await expect(full).rejects.toMatchObject({ code: "LIMIT" });
});

test("bytes are told where they may be asked for, and left out where not", async () => {
  const guarded = await startRedis({ users: { app: "on >secret ~* &* +@all -memory" } });
  onTestFinished(() => guarded.stop());
  const stats: StreamStats[] = [];
  for (const login of [{}, { username: "app", password: "secret" }]) {
    const { log } = await openPorts(guarded, {}, login);
    await log.append("weighed", [entry("x".repeat(10_000))], ROOMY);
    stats.push(await log.stats("weighed"));
  }
  expect(stats[0]?.bytes).toBeGreaterThan(10_000);
  expect(stats[1]).toMatchObject({ bytes: undefined, length: 2 });
});

function timeOf(position: string | undefined): number {
  return Number(String(position).split("-")[0]);
}
