/** Promises about a broker that runs on a real server: it never holds the event loop up, and what it stored is there after a restart. */

import { monitorEventLoopDelay } from "node:perf_hooks";
import { expect, test } from "vitest";
import { type Broker, connect, deadLetter } from "../../src/index.js";
import { silentLogger } from "../facades/support/lanes.js";
import { type RedisServer, startRedis } from "../support/redis-servers.js";
import { pause, until } from "../support/wait.js";

async function withServer(
  options: Parameters<typeof startRedis>[0],
  use: (server: RedisServer, open: () => Promise<Broker>) => Promise<void>,
): Promise<void> {
  const server = await startRedis(options);
  const brokers: Broker[] = [];
  const open = async (): Promise<Broker> => {
    const broker = await connect(server.url, { logger: silentLogger, onError: () => undefined });
    brokers.push(broker);
    return broker;
  };
  try {
    await use(server, open);
  } finally {
    await Promise.all(brokers.map((broker) => broker.close({ drainMs: 0 })));
    await server.stop();
  }
}

test("[E4] forty consumers that wait in blocking reads hold up neither the event loop nor a publish", async () => {
  await withServer({}, async (_server, open) => {
    const broker = await open();
    const handled: unknown[] = [];
    for (let stream = 0; stream < 40; stream += 1) {
      const options = { group: "g", from: "beginning" } as const;
      await broker.events.subscribe(`idle-${stream}`, options, (data) => void handled.push(data));
    }
    // Until all of them block.
    await until(async () => (await broker.health()).details.consumers.every(({ ok }) => ok));
    const loop = monitorEventLoopDelay({ resolution: 1 });
    loop.enable();
    const publishMs: number[] = [];
    for (let times = 0; times < 40; times += 1) {
      const startedAt = performance.now();
      await broker.events.publish(`idle-${times}`, times);
      publishMs.push(performance.now() - startedAt);
      await pause(25);
    }
    loop.disable();
    await until(() => handled.length === 40);
    // A read that blocked the loop, or the connection that commands go over, would hold it up for a second.
    expect(loop.percentile(99) / 1e6).toBeLessThan(200);
    expect(publishMs.toSorted((a, b) => a - b)[36]).toBeLessThan(200);
  });
});

test("[E26] events survive a restart of the server, with their groups and what was in hand", async () => {
  await withServer({ appendonly: "always" }, async (server, open) => {
    const [publisher, consumer] = [await open(), await open()];
    await publisher.events.publishMany("order", [1, 2, 3, 4]);
    const options = { group: "billing", from: "beginning", concurrency: 1, leaseMs: 1_000 } as const;
    const before: unknown[] = [];
    const deliveries = consumer.events.deliveries("order", options);
    for await (const delivery of deliveries) {
      before.push(delivery.data);
      if (before.length === 3) break; // The third is in hand, and goes back or comes back.
      await delivery.ack();
    }
    await server.kill();
    await server.restart();
    const after: unknown[] = [];
    const next = await open();
    await next.events.subscribe("order", options, (data) => void after.push(data));
    await until(() => after.length === 2);
    expect({ before, after: after.toSorted((a, b) => Number(a) - Number(b)) }).toEqual({
      before: [1, 2, 3],
      after: [3, 4],
    });
    expect((await next.events.stats("order")).length).toBe(4);
  });
});

test("[E31] ten consumers of a group in five brokers share the work, and nothing comes twice", async () => {
  await withServer({}, async (_server, open) => {
    const COUNT = 5_000;
    const handled = new Map<unknown, number>();
    const byConsumer = new Map<number, number>();
    for (let consumer = 0; consumer < 10; consumer += 1) {
      const broker = await open();
      await broker.events.subscribe("order", { group: "billing", from: "beginning" }, async (data) => {
        handled.set(data, (handled.get(data) ?? 0) + 1);
        byConsumer.set(consumer, (byConsumer.get(consumer) ?? 0) + 1);
        await pause(1);
      });
    }
    const publisher = await open();
    await publisher.events.publishMany(
      "order",
      Array.from({ length: COUNT }, (_, n) => n),
    );
    await until(() => handled.size === COUNT, { deadlineMs: 20_000 });
    await until(async () => {
      const [group] = (await publisher.events.stats("order")).groups;
      return group !== undefined && group.lag + group.pending + group.retrying === 0;
    });
    expect([...handled.values()].every((times) => times === 1)).toBe(true);
    expect(byConsumer.size).toBe(10);
  });
});

test("[E15] parking is one step: a server killed in between leaves each event either parked or to be handled, never both or neither", async () => {
  await withServer({ appendonly: "always" }, async (server, open) => {
    const COUNT = 3_000;
    const broker = await open();
    await broker.events.publishMany(
      "order",
      Array.from({ length: COUNT }, (_, n) => n),
    );
    const group = broker.events.group("order", "strict");
    const options = { group: "strict", from: "beginning", concurrency: 50, leaseMs: 1_000 } as const;
    const subscription = await broker.events.subscribe("order", options, () => deadLetter("none of ours"));
    for (let kills = 1; kills <= 3; kills += 1) {
      await until(async () => (await group.stats()).dead >= (kills * COUNT) / 4, { deadlineMs: 20_000, everyMs: 1 });
      await server.kill();
      await server.restart();
      // What is counted at one moment adds up: nothing is in two places, and nothing in none.
      await until(async () => {
        const { lag, pending, retrying, dead } = await group.stats();
        return lag + pending + retrying + dead === COUNT;
      });
    }
    await until(async () => (await group.stats()).dead === COUNT, { deadlineMs: 20_000 });
    await subscription.close();
    const parked: number[] = [];
    for await (const { message } of group.deadLetters()) parked.push(Number(message?.data));
    expect(parked.toSorted((a, b) => a - b)).toEqual(Array.from({ length: COUNT }, (_, n) => n));
  });
}, 60_000);
