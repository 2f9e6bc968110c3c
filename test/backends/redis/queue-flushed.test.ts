/** A server that has forgotten everything: publishers and consumers of a queue go on as if it were new. */

import { afterAll, beforeAll, expect, test } from "vitest";
import type { QueueLimits, RecordSettings } from "../../../src/core/backend.js";
import { type RedisServer, startRedis } from "../../support/redis-servers.js";
import { acks, collect, CONSUMER, item, LIMITS, openPorts, type Ports } from "./log-queue-support.js";
import { faultsIn } from "./queue-audit.js";

let server: RedisServer;
beforeAll(async () => {
  server = await startRedis();
});
afterAll(() => server.stop());

const RECORDS: RecordSettings = { keepAckedMs: 60_000, maxRecords: 10, index: ["source"] };
const KEPT: QueueLimits = { ...LIMITS, records: RECORDS };
const HERE = { fields: { source: "here" } };

const idsOf = async ({ queue }: Ports, name: string): Promise<readonly string[]> =>
  (await queue.list(name, HERE, { max: 10 })).items.map(({ id }) => id);

test("a flushed server keeps again what publishers want kept, from the next push on", async () => {
  const ports = await openPorts(server);
  const other = await openPorts(server);
  for (const one of [ports, other]) await one.queue.push("flushed", [item(one === ports ? "a" : "b", HERE)], KEPT);
  expect(await idsOf(ports, "flushed")).toEqual(["b", "a"]);
  await server.cli("FLUSHALL");
  // One has heard that nothing is stored, and the other believes what was.
  await expect(ports.queue.list("flushed", HERE, { max: 10 })).rejects.toMatchObject({ code: "UNSUPPORTED" });
  await ports.queue.push("flushed", [item("c", HERE)], KEPT);
  await other.queue.push("flushed", [item("d", HERE)], KEPT);
  expect(await idsOf(other, "flushed")).toEqual(["d", "c"]);
  await server.cli("FLUSHALL");
  await other.queue.push("flushed", [item("e", HERE)], KEPT);
  await ports.queue.push("flushed", [item("f", HERE)], KEPT);
  const feed = await ports.queue.open("flushed", "", CONSUMER);
  await feed.take({ max: 0, waitMs: 0 }, acks(await collect(feed, 2)));
  expect(await ports.queue.count("flushed", { ...HERE, state: "acked" })).toBe(2);
  expect(await faultsIn(ports.redis.connections.shared("any"))).toEqual([]);
});

test("where others pushed first to a flushed server, and want nothing kept, the queue takes what comes", async () => {
  const ports = await openPorts(server);
  await ports.queue.push("first", [item("a", HERE)], KEPT);
  await server.cli("FLUSHALL");
  await (await openPorts(server)).queue.push("first", [item("b")], LIMITS);
  expect(await ports.queue.push("first", [item("c", HERE)], KEPT)).toMatchObject([{ duplicate: false }]);
  await ports.queue.remove("first", ["b", "c"]);
  await ports.queue.push("first", [item("d", HERE)], KEPT);
  expect(await idsOf(ports, "first")).toEqual(["d"]);
});
