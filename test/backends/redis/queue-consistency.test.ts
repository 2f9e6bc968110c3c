/** After each contract case of queues: nothing is left behind, and everything fits together. */

import { afterAll, beforeAll, expect, test } from "vitest";
import { contractCases } from "../../../src/testing/index.js";
import { openRedisStore, standalone } from "../../contract/support/redis-store.js";
import { runCase } from "../../contract/support/run-case.js";
import { type RedisServer, startRedis } from "../../support/redis-servers.js";
import { open, standalone as redisAt } from "./connection-support.js";
import { item, LIMITS, openPorts } from "./log-queue-support.js";
import { faultsIn } from "./queue-audit.js";

let server: RedisServer;
beforeAll(async () => {
  server = await startRedis();
});
afterAll(() => server.stop());

const cases = contractCases.filter(({ title }) => title.startsWith("queue:"));

test("[X8] after each contract case of queues, keys fit together", async () => {
  expect(cases.length).toBeGreaterThan(150);
  const titles: string[] = [];
  const waiting = cases.values();
  const runner = async (): Promise<void> => {
    for (const contractCase of waiting) {
      await runCase(contractCase, () => {
        // Namespaces are numbered in this order.
        titles.push(contractCase.title);
        return openRedisStore(standalone(server));
      });
    }
  };
  await Promise.all(Array.from({ length: 6 }, runner));
  const { connections } = await open(redisAt(server));
  const faults = await faultsIn(connections.shared("any"));
  expect(faults.map((fault) => `${titles[numberOf(fault) - 1]}: ${fault}`)).toEqual([]);
}, 240_000);

test("what does not fit together is found", async () => {
  const ports = await openPorts(server);
  const connection = ports.redis.connections.shared("any");
  const faultsBy = async (...faulty: readonly string[][]): Promise<number> => {
    await server.cli("FLUSHALL");
    await ports.queue.configure("faulty", { keepAckedMs: 60_000, maxRecords: 10, index: ["kind"] });
    await ports.queue.register("faulty", "anna", { ttlMs: 60_000, isAudience: true });
    const items = [item("own", { fields: { kind: "k" } }), item("shared", { recipient: { audience: "registered" } })];
    await ports.queue.push("faulty", [...items, item("acked", { ttlMs: 60_000 })], LIMITS);
    await ports.queue.acknowledge("faulty", "", ["acked"]);
    expect(await faultsIn(connection)).toEqual([]);
    for (const [command = "", key = "", ...rest] of faulty) {
      expect(await server.cli(command, `sb1:{test:queue:faulty:0}:${key}`, ...rest)).not.toBe(0);
    }
    return (await faultsIn(connection)).length;
  };
  expect(await faultsBy()).toBe(0);
  expect(await faultsBy(["HDEL", "records", "own"])).toBeGreaterThan(0);
  expect(await faultsBy(["ZPOPMIN", "r::waiting"])).toBeGreaterThan(0);
  expect(await faultsBy(["HSET", "shares", "000000000000nothing", "1"])).toBeGreaterThan(0);
  expect(await faultsBy(["ZPOPMIN", "index:kind:k"])).toBeGreaterThan(0);
  expect(await faultsBy(["HDEL", "finished", "acked"])).toBeGreaterThan(0);
  expect(await faultsBy(["ZREM", "lapses", "anna"])).toBeGreaterThan(0);
});

/** `sb1:{t<process>-<number>.…` */
function numberOf(fault: string): number {
  return Number(/^sb1:\{t\d+-(\d+)\./.exec(fault)?.[1]);
}
