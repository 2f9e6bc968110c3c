/** What is too much for one call is done in several, each of them short, and gone on with by others. */

import { afterAll, beforeAll, expect, test } from "vitest";
import type { NewItem } from "../../../src/core/backend.js";
import { MAX_RECIPIENTS } from "../../../src/core/queue-port.js";
import { type RedisServer, startRedis } from "../../support/redis-servers.js";
import { pause, until } from "../../support/wait.js";
import { CONSUMER, collect, item, LIMITS, openPorts, type Ports } from "./log-queue-support.js";
import { faultsIn } from "./queue-audit.js";

let server: RedisServer;
beforeAll(async () => {
  server = await startRedis();
});
afterAll(() => server.stop());

let queues = 0;
const newName = (): string => `slices-${(queues += 1)}`;
const many = (count: number, more: Partial<NewItem> = {}): NewItem[] =>
  Array.from({ length: count }, (_, index) => item(`${more.priority ?? 0}-${index}`, more));
const faults = async ({ redis }: Ports): Promise<readonly string[]> => faultsIn(redis.connections.shared("any"));

test("a recipient that has lapsed with thousands of items is forgotten by whoever comes by, and reported once", async () => {
  const dying = await openPorts(server);
  const ports = await openPorts(server);
  const name = newName();
  await dying.queue.register(name, "anna", { ttlMs: 200, isAudience: true });
  await dying.queue.push(name, many(1_700, { recipient: "anna" }), LIMITS);
  await dying.queue.push(name, [item("for all", { recipient: { audience: "registered" } })], LIMITS);
  await pause(250);
  // The server knows the script from here on.
  await dying.queue.unregister(newName(), "nobody");
  // Somebody begins with it, and dies after the first slice.
  let slices = 0;
  dying.judge((args) => {
    if (!args.includes("lapse")) return "well";
    slices += 1;
    return slices > 1 ? "unsent" : "well";
  });
  await expect(dying.queue.register(name, "anna", { ttlMs: 60_000, isAudience: true })).rejects.toMatchObject({
    code: "CONNECTION",
  });
  const left = Number(await server.cli("ZCARD", `sb1:{test:queue:${name}:0}:r:anna:waiting`));
  expect(left).toBeGreaterThan(0);
  expect(left).toBeLessThan(1_701);
  await ports.queue.register(name, "ben", { ttlMs: 60_000, isAudience: true });
  expect(ports.reports).toEqual([expect.stringMatching(/^forgetting .*"anna".*1701 unfinished/)]);
  expect(dying.reports).toEqual([]);
  expect(await ports.queue.count(name, {})).toBe(0);
  expect((await ports.queue.recipients(name, { max: 10 })).recipients).toMatchObject([{ recipient: "ben" }]);
  expect(await faults(ports)).toEqual([]);
}, 30_000);

test("thousands of items go with whom they were for, and with a queue that is cleared", async () => {
  const ports = await openPorts(server);
  const { queue } = ports;
  const name = newName();
  await queue.configure(name, { keepAckedMs: 60_000, maxRecords: 5_000, index: ["kind"] });
  const fields = { kind: "k" };
  await queue.push(name, many(1_200, { recipient: "anna", priority: 1, fields }), LIMITS);
  await queue.push(name, many(1_200, { priority: 2, fields, ttlMs: 60_000 }), LIMITS);
  await queue.push(
    name,
    Array.from({ length: 250 }, (_, index) => item(`to ${index}`, { recipient: `r${index}`, priority: 3 })),
    LIMITS,
  );
  expect(await queue.unregister(name, "anna")).toBe(false);
  expect(await queue.count(name, { fields })).toBe(1_200);
  const finished = Array.from({ length: 700 }, (_, index) => `2-${index}`);
  expect(await queue.acknowledge(name, "", finished)).toEqual(finished.map(() => true));
  expect(await queue.count(name, { state: "acked" })).toBe(700);
  expect(await queue.clear(name)).toBe(1_450);
  expect(await queue.count(name, {})).toBe(0);
  expect(await queue.count(name, { fields })).toBe(0);
  const left = (await server.cli("KEYS", `sb1:{test:queue:${name}:0}:*`)) as string[];
  expect(left.filter((key) => !/:(?:state|pub:.*|counters|bell)$/.test(key))).toEqual([]);
  expect(await faults(ports)).toEqual([]);
}, 30_000);

test("counting and listing by several conditions goes through thousands, some at a time", async () => {
  const { queue } = await openPorts(server);
  const name = newName();
  await queue.configure(name, { keepAckedMs: 60_000, maxRecords: 10_000, index: ["two", "three"] });
  const count = 12_000;
  const items = Array.from({ length: count }, (_, index) =>
    item(`${index}`, { fields: { two: `${index % 2}`, three: index < 3 ? "rare" : `${index % 3}` } }),
  );
  for (let from = 0; from < count; from += 1_000) await queue.push(name, items.slice(from, from + 1_000), LIMITS);
  const matching = items.filter(({ fields }) => fields?.["two"] === "1" && fields["three"] === "2").map(({ id }) => id);
  const filter = { fields: { two: "1", three: "2" } };
  expect(await queue.count(name, filter)).toBe(matching.length);
  expect(await queue.acknowledge(name, "", matching.slice(0, 300))).toHaveLength(300);
  expect(await queue.count(name, { ...filter, state: "open" })).toBe(matching.length - 300);
  expect(await queue.count(name, { ...filter, state: "acked" })).toBe(300);
  const listed: string[] = [];
  for (let cursor: string | undefined; ; ) {
    const page = await queue.list(name, filter, { max: 300, ...(cursor !== undefined && { cursor }) });
    listed.push(...page.items.map(({ id }) => id));
    if (page.cursor === undefined) break;
    cursor = page.cursor;
  }
  expect(listed).toEqual(matching.toReversed());
  // Of much that has one value, little has the other.
  const rare = await queue.list(name, { fields: { two: "0", three: "rare" } }, { max: 10 });
  expect(rare.items.map(({ id }) => id)).toEqual(["2", "0"]);
  await queue.clear(name);
}, 60_000);

test("records that are too old are forgotten by whoever pushes or takes, some at a time", async () => {
  const ports = await openPorts(server);
  const { queue } = ports;
  const name = newName();
  await queue.configure(name, { keepAckedMs: 300, maxRecords: 10_000, index: [] });
  await queue.push(name, many(900), LIMITS);
  await queue.acknowledge(
    name,
    "",
    many(900).map(({ id }) => id),
  );
  await pause(350);
  const kept = async (): Promise<number> => Number(await server.cli("ZCARD", `sb1:{test:queue:${name}:0}:kept`));
  expect(await kept()).toBe(900);
  await queue.push(name, [item("one")], LIMITS);
  expect(await kept()).toBe(650);
  const feed = await queue.open(name, "", CONSUMER);
  await collect(feed, 1);
  expect(await kept()).toBe(400);
  expect(await queue.count(name, {})).toBe(1);
  expect(await kept()).toBe(0);
  expect(await faults(ports)).toEqual([]);
});

test("a page of an inbox goes on where the one before it ended, whatever has gone meanwhile", async () => {
  const { queue } = await openPorts(server);
  const name = newName();
  await queue.push(name, [...many(5, { priority: 2 }), ...many(5, { priority: 1 })], LIMITS);
  const first = await queue.browse(name, "", { max: 3 });
  expect(first.items.map(({ id }) => id)).toEqual(["2-0", "2-1", "2-2"]);
  // The one that the cursor names, one before it and one behind it.
  await queue.remove(name, ["2-2", "2-0", "2-3"]);
  await queue.push(name, [item("urgent", { priority: 9 }), item("late", { priority: 2 })], LIMITS);
  const second = await queue.browse(name, "", { max: 3, cursor: first.cursor ?? "" });
  expect(second.items.map(({ id }) => id)).toEqual(["2-4", "late", "1-0"]);
  await expect(queue.browse(name, "", { max: 3, cursor: "nonsense" })).rejects.toMatchObject({ code: "NOT_FOUND" });
  await expect(queue.list(name, {}, { max: 3, cursor: "nonsense" })).rejects.toMatchObject({ code: "NOT_FOUND" });
  await expect(queue.recipients(name, { max: 3, cursor: "nonsense" })).rejects.toMatchObject({ code: "NOT_FOUND" });
});

test("a page of large items is short, and the next one goes on", async () => {
  const { queue } = await openPorts(server);
  const name = newName();
  await queue.configure(name, { keepAckedMs: 0, maxRecords: 0, index: [] });
  await queue.push(name, many(6, { data: "x".repeat(400_000) }), LIMITS);
  for (const read of [
    (page: { max: number; cursor?: string }) => queue.browse(name, "", page),
    (page: { max: number; cursor?: string }) => queue.list(name, {}, page),
  ]) {
    const ids: string[] = [];
    let pages = 0;
    for (let cursor: string | undefined; ; ) {
      const page = await read({ max: 100, ...(cursor !== undefined && { cursor }) });
      ids.push(...page.items.map(({ id }) => id));
      pages += 1;
      if (page.cursor === undefined) break;
      cursor = page.cursor;
    }
    expect([ids.toSorted(), pages]).toEqual([many(6).map(({ id }) => id), 2]);
  }
});

test("a queue has at most 100,000 recipients, of which those that have lapsed do not count", async () => {
  const ports = await openPorts(server);
  const name = newName();
  const key = (part: string): string => `sb1:{test:queue:${name}:0}:${part}`;
  const fill = `for i = 1, ${MAX_RECIPIENTS} do
    redis.call('ZADD', KEYS[1], i, 'r' .. i)
    redis.call('ZADD', KEYS[2], 9e15, 'r' .. i)
  end`;
  await server.cli("EVAL", fill, 2, key("recipients"), key("lapses"));
  const register = (recipient: string): Promise<void> =>
    ports.queue.register(name, recipient, { ttlMs: 60_000, isAudience: true });
  await expect(register("one more")).rejects.toMatchObject({ code: "LIMIT" });
  await register("r7");
  await server.cli("ZADD", key("lapses"), 1, "r9");
  await register("one more");
  await expect(register("two more")).rejects.toMatchObject({ code: "LIMIT" });
  await server.cli("UNLINK", ...["recipients", "lapses", "registrations", "audience", "inboxes", "state"].map(key));
}, 30_000);

test("tens of thousands of items that expire together are ended in short calls", async () => {
  const ports = await openPorts(server);
  const { queue } = ports;
  const name = newName();
  const count = 30_000;
  for (let from = 0; from < count; from += 1_000) {
    const items = Array.from({ length: 1_000 }, (_, index) => item(`${from + index}`, { ttlMs: 1 }));
    await queue.push(name, items, LIMITS);
  }
  await pause(20);
  const feed = await queue.open(name, "", CONSUMER);
  await queue.push(name, [item("alive")], LIMITS);
  let expired = 0;
  await until(
    async () => {
      const taken = await feed.take({ max: 10, waitMs: 0 }, []);
      expired += taken.expired;
      expect(taken.expiredIds?.length ?? 0).toBeLessThanOrEqual(1_000);
      // A slice of those that are found, and what was in the way of ten deliveries.
      expect(taken.expired).toBeLessThanOrEqual(300);
      return expired === count;
    },
    { deadlineMs: 20_000 },
  );
  expect(await queue.stats(name, "")).toMatchObject({ expired: count, leased: 1, waiting: 0 });
  expect(await faults(ports)).toEqual([]);
}, 60_000);

test("whatever is settled together, each call settles what it can in a few milliseconds", async () => {
  const ports = await openPorts(server);
  const { queue } = ports;
  let calls = 0;
  ports.judge((args) => {
    if (args.includes("settler")) calls += 1;
    return "well";
  });
  const settle = async (name: string, as: "ack" | "retry"): Promise<number> => {
    await queue.push(name, many(1_100), LIMITS);
    const feed = await queue.open(name, "", { ...CONSUMER, consumer: "settler" });
    const taken = await collect(feed, 1_100);
    calls = 0;
    const outcomes = taken.deliveries.map(({ receipt }) =>
      as === "ack" ? ({ receipt, as } as const) : ({ receipt, as, delayMs: 60_000, counted: true } as const),
    );
    expect((await feed.take({ max: 0, waitMs: 0 }, outcomes)).lost).toEqual([]);
    const settled = calls;
    // Given once more, all of them are lost, in whatever call.
    expect((await feed.take({ max: 1, waitMs: 0 }, outcomes)).lost.toSorted()).toEqual(
      taken.deliveries.map(({ receipt }) => receipt).toSorted(),
    );
    return settled;
  };
  expect(await settle(newName(), "ack")).toBe(2);
  const retried = newName();
  expect(await settle(retried, "retry")).toBe(5);
  expect(await queue.stats(retried, "")).toMatchObject({ delayed: 1_100, leased: 0 });
  const recorded = newName();
  await queue.configure(recorded, { keepAckedMs: 60_000, maxRecords: 5_000, index: [] });
  expect(await settle(recorded, "ack")).toBe(5);
  expect(await queue.count(recorded, { state: "acked" })).toBe(1_100);
  expect(await faults(ports)).toEqual([]);
}, 30_000);

test("choosing what to drop for many with much that is delayed blocks the server for moments", async () => {
  const ports = await openPorts(server);
  const { queue } = ports;
  const name = newName();
  const recipients = Array.from({ length: 100 }, (_, index) => `r${index}`);
  for (const recipient of recipients) {
    await queue.register(name, recipient, { ttlMs: 3_600_000, isAudience: true });
    const items = many(500, { recipient, delayMs: 3_600_000 }).map((one) => ({ ...one, id: `${recipient} ${one.id}` }));
    await queue.push(name, items, LIMITS);
  }
  const busyMs = async (): Promise<number> => {
    const info = String(await ports.redis.connections.shared("any").command(["INFO", "cpu"]));
    return 1_000 * Number(/used_cpu_user_main_thread:([\d.]+)/.exec(info)?.[1]);
  };
  const before = await busyMs();
  const full = { maxItems: 50_000, overflow: "drop-oldest" } as const;
  const [pushed] = await queue.push(name, [item("news", { recipient: { audience: "registered" } })], full);
  const spentMs = (await busyMs()) - before;
  expect(pushed?.recipients).toBe(100);
  expect(await queue.count(name, {})).toBe(50_000);
  // The processor's time: other processes do not count. It is some 5 ms; looking at all of them took a second.
  expect(spentMs).toBeLessThan(100);
  expect(spentMs).toBeGreaterThan(0);
}, 60_000);

test("an inbox that an earlier build has pushed to is cleared, once somebody has opened it", async () => {
  const ports = await openPorts(server);
  const name = newName();
  await ports.queue.push(name, [item("of an earlier build", { recipient: "anna" })], LIMITS);
  await server.cli("DEL", `sb1:{test:queue:${name}:0}:inboxes`);
  const feed = await ports.queue.open(name, "anna", CONSUMER);
  expect(await ports.queue.clear(name)).toBe(1);
  expect(await ports.queue.stats(name, "anna")).toMatchObject({ waiting: 0 });
  expect(await feed.take({ max: 1, waitMs: 0 }, [])).toMatchObject({ deliveries: [], gone: 0 });
});
