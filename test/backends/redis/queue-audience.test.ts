/** Items for an audience on Redis: handed out in steps, whoever dies on the way, and whatever happens to them meanwhile. */

import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Feed, Queue } from "../../../src/core/backend.js";
import { runChild } from "../../support/children.js";
import { type RedisServer, startCluster, startRedis } from "../../support/redis-servers.js";
import { pause, until } from "../../support/wait.js";
import { clusterOf, open } from "./connection-support.js";
import {
  acks,
  CONSUMER,
  collect,
  isScriptWith,
  item,
  LIMITS,
  openPorts,
  type Ports,
  queueOn,
  textsOf,
} from "./log-queue-support.js";
import { faultsIn } from "./queue-audit.js";

let server: RedisServer;
beforeAll(async () => {
  server = await startRedis();
});
afterAll(() => server.stop());

let queues = 0;
const newName = (): string => `audience-${(queues += 1)}`;

const AUDIENCE = { ttlMs: 3_600_000, isAudience: true } as const;
const ALL = { audience: "registered" } as const;
const ANNOUNCED = item("announced", { recipient: ALL });

async function register(queue: Queue, name: string, count: number): Promise<readonly string[]> {
  const names = Array.from({ length: count }, (_, index) => `r${index}`);
  for (let from = 0; from < count; from += 500) {
    await Promise.all(names.slice(from, from + 500).map((one) => queue.register(name, one, AUDIENCE)));
  }
  return names;
}

/** How many of the recipients have each number of items waiting. */
async function waitingOf(
  queue: Queue,
  name: string,
  recipients: readonly string[],
): Promise<ReadonlyMap<number, number>> {
  const counts = new Map<number, number>();
  for (let from = 0; from < recipients.length; from += 500) {
    const some = recipients.slice(from, from + 500);
    for (const { waiting } of await Promise.all(some.map((one) => queue.stats(name, one)))) {
      counts.set(waiting, (counts.get(waiting) ?? 0) + 1);
    }
  }
  return counts;
}

/** Takes now and then, as any consumer does that has nothing to do. */
async function takeUntil(feed: Feed, condition: () => Promise<boolean>): Promise<void> {
  await until(
    async () => {
      await feed.take({ max: 1, waitMs: 100 }, []);
      return condition();
    },
    { what: "somebody to go on", deadlineMs: 20_000 },
  );
}

/** Pushes that are still to be handed out to some: two fields each. */
const intents = async (name: string): Promise<number> =>
  Number(await server.cli("HLEN", `sb1:{test:queue:${name}:0}:fanouts`)) / 2;

describe("a publisher that dies on the way", () => {
  test("[C20] is gone on for by whoever takes next: each recipient has it once", async () => {
    const ports = await openPorts(server);
    const name = newName();
    const recipients = await register(ports.queue, name, 1_000);
    const publisher = await openPorts(server);
    // Its push comes through, and nothing that it sends after that.
    publisher.judge((args) => (isScriptWith("registered")(args) && args.length < 12 ? "unsent" : "well"));
    await expect(publisher.queue.push(name, [ANNOUNCED], LIMITS)).rejects.toMatchObject({ code: "CONNECTION" });
    expect(await intents(name)).toBe(1);
    expect(await ports.queue.get(name, "announced")).toMatchObject({ state: "open" });
    const feed = await ports.queue.open(name, "somebody else", { ...CONSUMER, registration: AUDIENCE });
    await takeUntil(feed, async () => (await intents(name)) === 0);
    expect(await waitingOf(ports.queue, name, recipients)).toEqual(new Map([[1, 1_000]]));
    // Who came after the push does not have it.
    expect((await ports.queue.stats(name, "somebody else")).waiting).toBe(0);
    expect(await faultsIn(ports.redis.connections.shared("any"))).toEqual([]);
  }, 60_000);

  test("[C20] killed in a push for 5,000: all of them get it, and the last to finish it ends it", async () => {
    const ports = await openPorts(server);
    const name = newName();
    const recipients = await register(ports.queue, name, 5_000);
    await using child = runChild(new URL("fanning-child.ts", import.meta.url), { args: [String(server.port), name] });
    await child.next(({ pushing }) => pushing === true);
    await until(async () => (await intents(name)) > 0, { everyMs: 0, what: "a push to be under way" });
    child.kill();
    await child.exited;
    expect(child.messages.filter(({ pushed }) => pushed !== undefined)).toEqual([]);
    expect(await intents(name)).toBe(1);
    // Somebody who only pushes goes on as well, a call at a time.
    await pause(1_100);
    await ports.queue.push(name, [item("other", { recipient: { audience: "online" } })], LIMITS);
    const feed = await ports.queue.open(name, "somebody", CONSUMER);
    await takeUntil(feed, async () => (await intents(name)) === 0);
    expect(await waitingOf(ports.queue, name, recipients)).toEqual(new Map([[1, 5_000]]));
    for (let from = 0; from < recipients.length; from += 500) {
      const some = recipients.slice(from, from + 500);
      await Promise.all(some.map((one) => ports.queue.acknowledge(name, one, ["announced"])));
    }
    expect(await ports.queue.get(name, "announced")).toBeUndefined();
    expect(await faultsIn(ports.redis.connections.shared("any"))).toEqual([]);
  }, 120_000);
});

describe("meanwhile", () => {
  /** Pushes for so many recipients, and holds the publisher up after the first step. */
  async function start(ports: Ports, name: string, count: number) {
    const recipients = await register(ports.queue, name, count);
    let goOn = (): void => {};
    const gate = new Promise<void>((resolve) => {
      goOn = resolve;
    });
    const publisher = await openPorts(server);
    publisher.judge((args) => (isScriptWith("registered")(args) && args.length < 12 ? { sent: gate } : "well"));
    const pushing = publisher.queue.push(name, [ANNOUNCED, item("second", { recipient: ALL, ttlMs: 60_000 })], LIMITS);
    await until(async () => (await intents(name)) > 0, { what: "the first step" });
    return { recipients, pushing, goOn };
  }

  test("an item that is removed is handed out no further, and others are", async () => {
    const ports = await openPorts(server);
    const name = newName();
    const { recipients, pushing, goOn } = await start(ports, name, 600);
    expect(await ports.queue.remove(name, ["announced"])).toBe(1);
    goOn();
    expect((await pushing).map(({ recipients: count }) => count)).toEqual([600, 600]);
    expect(await waitingOf(ports.queue, name, recipients)).toEqual(new Map([[1, 600]]));
    expect(await faultsIn(ports.redis.connections.shared("any"))).toEqual([]);
  }, 60_000);

  test("a queue that is cleared stays clear", async () => {
    const ports = await openPorts(server);
    const name = newName();
    const { recipients, pushing, goOn } = await start(ports, name, 600);
    expect(await ports.queue.clear(name)).toBe(2);
    goOn();
    await pushing;
    expect(await waitingOf(ports.queue, name, recipients)).toEqual(new Map([[0, 600]]));
    expect(await ports.queue.count(name, {})).toBe(0);
    expect(await faultsIn(ports.redis.connections.shared("any"))).toEqual([]);
  }, 60_000);

  test("the first recipients may finish before the last ones have it, and it is not over before that", async () => {
    const ports = await openPorts(server);
    const name = newName();
    const { recipients, pushing, goOn } = await start(ports, name, 300);
    const early = recipients.slice(0, 128);
    for (const one of early) expect(await ports.queue.acknowledge(name, one, ["announced"])).toEqual([true]);
    expect(await ports.queue.get(name, "announced")).toMatchObject({ state: "open", recipients: [] });
    goOn();
    await pushing;
    const { recipients: left } = (await ports.queue.get(name, "announced")) ?? {};
    expect(left?.map(({ recipient }) => recipient)).toEqual(recipients.slice(128));
    for (const one of recipients.slice(128)) await ports.queue.acknowledge(name, one, ["announced"]);
    expect(await ports.queue.get(name, "announced")).toBeUndefined();
    expect(await faultsIn(ports.redis.connections.shared("any"))).toEqual([]);
  }, 60_000);

  test("a publisher that is slow finds that somebody has finished for it, and still counts", async () => {
    const ports = await openPorts(server);
    const name = newName();
    const { recipients, pushing, goOn } = await start(ports, name, 600);
    const feed = await ports.queue.open(name, "somebody", CONSUMER);
    await takeUntil(feed, async () => (await intents(name)) === 0);
    goOn();
    expect((await pushing).map(({ recipients: count }) => count)).toEqual([600, 600]);
    expect(await waitingOf(ports.queue, name, recipients)).toEqual(new Map([[2, 600]]));
  }, 60_000);
});

test("a push for many is handed out in steps of at most 256 deliveries", async () => {
  const ports = await openPorts(server);
  const name = newName();
  await register(ports.queue, name, 280);
  let [steps, ids] = [0, 0];
  ports.judge((args) => {
    if (isScriptWith(name)(args)) steps += 1;
    return "well";
  });
  const count = async (items: number): Promise<number> => {
    steps = 0;
    const many = Array.from({ length: items }, () => item(`${(ids += 1)}`, { recipient: ALL }));
    const pushed = await ports.queue.push(name, many, LIMITS);
    expect(pushed.map(({ recipients }) => recipients)).toEqual(many.map(() => 280));
    return steps;
  };
  // The script as a whole may have to be sent once more.
  await count(1);
  expect(await count(1)).toBe(2);
  expect(await count(10)).toBe(Math.ceil(280 / 25));
}, 60_000);

test("a slot that a Cluster is moving refuses a push for an audience before its first write", async () => {
  await using cluster = await startCluster({ masters: 2, replicas: 0 });
  const redis = await open(clusterOf(cluster));
  const queue = queueOn(redis.connections);
  const key = "sb1:{test:queue:moving:0}:records";
  const source = await cluster.masterOf(key);
  const other = cluster.nodes.find((node) => node.port !== source.port);
  if (other === undefined) throw new Error("there are two masters");
  const slot = Number(await source.cli("CLUSTER", "KEYSLOT", key));
  const recipients = await register(queue, "moving", 20);
  const [from, to] = [String(await source.cli("CLUSTER", "MYID")), String(await other.cli("CLUSTER", "MYID"))];
  await other.cli("CLUSTER", "SETSLOT", slot, "IMPORTING", from);
  await source.cli("CLUSTER", "SETSLOT", slot, "MIGRATING", to);
  const before = await source.cli("CLUSTER", "COUNTKEYSINSLOT", slot);
  const pushing = queue.push("moving", [ANNOUNCED], LIMITS);
  // It is tried again and again, and nothing of it is there.
  await pause(300);
  expect(await source.cli("CLUSTER", "COUNTKEYSINSLOT", slot)).toBe(before);
  await source.cli("CLUSTER", "SETSLOT", slot, "STABLE");
  await other.cli("CLUSTER", "SETSLOT", slot, "STABLE");
  expect(await pushing).toMatchObject([{ recipients: 20 }]);
  expect(await waitingOf(queue, "moving", recipients)).toEqual(new Map([[1, 20]]));
}, 60_000);

test("an item for an audience is stored once, and costs each recipient no more than a ticket", async () => {
  await using empty = await startRedis();
  const ports = await openPorts(empty);
  const data = "x".repeat(10_000);
  await register(ports.queue, "once", 100);
  const used = async (): Promise<number> => {
    const keys = (await empty.cli("KEYS", "*")) as string[];
    const sizes = await Promise.all(keys.map((key) => empty.cli("MEMORY", "USAGE", key, "SAMPLES", 0)));
    return sizes.reduce<number>((sum, size) => sum + Number(size), 0);
  };
  const before = await used();
  await ports.queue.push("once", [item("big", { recipient: ALL, data })], LIMITS);
  const grown = (await used()) - before;
  expect(grown).toBeGreaterThan(10_000);
  expect(grown).toBeLessThan(2 * 10_000 + 100 * 200);
  const feed = await ports.queue.open("once", "r7", { ...CONSUMER, registration: AUDIENCE });
  const taken = await collect(feed, 1);
  expect(textsOf(taken)).toEqual([data]);
  await feed.take({ max: 0, waitMs: 0 }, acks(taken));
  await feed.close();
  await ports.queue.close();
});
