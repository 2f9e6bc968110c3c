/** The connection layer against a real Redis Cluster: slots, redirections and the death of masters. */

import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import { slotOfKey } from "../../../src/backends/redis/slots.js";
import { ConfigError } from "../../../src/core/errors.js";
import { type RedisCluster, type RedisServer, startCluster, startRedis } from "../../support/redis-servers.js";
import { until } from "../../support/wait.js";
import { clusterOf, failureOf, open } from "./connection-support.js";

let cluster: RedisCluster;

beforeAll(async () => {
  cluster = await startCluster({ nodeTimeoutMs: 1_000 });
});

afterAll(() => cluster.stop());

beforeEach(async () => {
  for (const node of cluster.nodes) if (node.state !== "running") await node.restart();
  await cluster.awaitHealthy();
});

test("slots are computed as Redis computes them", async () => {
  const keys = ["", "foo", "{user1000}.following", "foo{}{bar}", "foo{{bar}}zap", "foo{bar}{zap}", "ä{ö}", "}{", "{a"];
  for (const key of keys) expect(slotOfKey(key)).toBe(await cluster.nodes[0]?.cli("CLUSTER", "KEYSLOT", key));
});

test("each key is served by the master of its slot", async () => {
  const { connections, check } = await open(clusterOf(cluster));
  await Promise.all(
    Array.from({ length: 200 }, (_, index) =>
      connections.shared(`k${index}`).command(["SET", `k${index}`, String(index)]),
    ),
  );
  for (let index = 0; index < 200; index += 1) {
    expect(String(await (await cluster.masterOf(`k${index}`)).cli("GET", `k${index}`))).toBe(String(index));
  }
  expect(await check()).toHaveLength(3);
});

test("one known node is enough to find all", async () => {
  const { port = 0 } = cluster.nodes.at(-1) ?? {};
  const { connections } = await open({ ...clusterOf(cluster), kind: "cluster", nodes: [{ host: "127.0.0.1", port }] });
  for (const key of ["a", "b", "c", "d", "e"])
    expect(await connections.shared(key).command(["SET", key, "v"])).toBe("OK");
});

test("a server that is no Cluster is refused", async () => {
  const server = await startRedis();
  try {
    const nodes = [{ host: "127.0.0.1", port: server.port }];
    const error = await failureOf(open({ kind: "cluster", nodes, tls: false, database: 0 }));
    expect(error).toBeInstanceOf(ConfigError);
    expect(error.message).toContain("redis://");
  } finally {
    await server.stop();
  }
});

test.each(["kill", "pause", "command"] as const)("after a failover by %s commands succeed again", async (by) => {
  const { connections } = await open(clusterOf(cluster));
  const connection = connections.shared("key");
  await connection.command(["SET", "key", "v"]);
  const { former, promoted } = await cluster.failover("key", { by });
  const startedAt = performance.now();
  await until(() => connection.command(["SET", "key", by]), { what: "a write" });
  expect(performance.now() - startedAt).toBeLessThan(5_000);
  expect(String(await promoted.cli("GET", "key"))).toBe(by);
  if (by === "pause") former.resume();
});

test("a blocked reader goes on at the new master", async () => {
  const { connections } = await open(clusterOf(cluster));
  const own = connections.blocking("list");
  const stop = new AbortController();
  const popped: unknown[] = [];
  const reader = async (): Promise<void> => {
    while (!stop.signal.aborted) {
      const reply = await own?.command(["BLPOP", "list", "1"], { deadlineMs: 3_000 }).catch(() => null);
      if (reply !== null) popped.push(reply);
    }
  };
  const reading = reader();
  const { promoted } = await cluster.failover("list", { by: "kill" });
  await promoted.cli("RPUSH", "list", "hello");
  await until(() => popped.length > 0, { what: "the reader to hear" });
  expect(popped).toEqual([[Buffer.from("list"), Buffer.from("hello")]]);
  stop.abort();
  own?.unblock();
  await reading;
});

test("while a slot moves to another node its commands are answered, before, between and after", async () => {
  const { connections } = await open(clusterOf(cluster));
  const key = "{moving}a";
  const slot = slotOfKey(key);
  const from = await cluster.masterOf(key);
  const to = await otherMaster(key);
  const connection = connections.shared(key);
  await connection.command(["SET", key, "here"]);
  const own = connections.blocking(key);
  const [fromId, toId] = await Promise.all([from.cli("CLUSTER", "MYID"), to.cli("CLUSTER", "MYID")]);
  await to.cli("CLUSTER", "SETSLOT", slot, "IMPORTING", String(fromId));
  await from.cli("CLUSTER", "SETSLOT", slot, "MIGRATING", String(toId));
  // Not there yet: still answered by the old owner; unknown to it: asked of the new one.
  expect(String(await connection.command(["GET", key]))).toBe("here");
  expect(await connection.command(["SET", "{moving}b", "there"])).toBe("OK");
  expect(String(await connection.command(["GET", "{moving}b"]))).toBe("there");
  expect(await connections.publishing(key).pair(["SET", "{moving}c", "there"], ["WAIT", "0", "10"])).toEqual(["OK", 0]);
  await from.cli("MIGRATE", "127.0.0.1", to.port, key, 0, 5_000);
  expect(String(await connection.command(["GET", key]))).toBe("here");
  for (const node of [to, from]) await node.cli("CLUSTER", "SETSLOT", slot, "NODE", String(toId));
  expect(String(await connection.command(["GET", key]))).toBe("here");
  expect(await own?.command(["LLEN", "{moving}list"])).toBe(0);
  await until(() => cluster.masterOf(key).then((owner) => owner === to), {
    what: "the slot to be known at its new owner",
  });
});

test("a reader of a slot that moves away is told that nothing came, and finds the new owner", async () => {
  const { connections } = await open(clusterOf(cluster));
  const key = "{leaving}s";
  const slot = slotOfKey(key);
  const from = await cluster.masterOf(key);
  const to = await otherMaster(key);
  await connections.shared(key).command(["XGROUP", "CREATE", key, "g", "$", "MKSTREAM"]);
  const own = connections.blocking(key);
  const read = ["XREADGROUP", "GROUP", "g", "c", "BLOCK", "20000", "STREAMS", key, ">"];
  const reading = own?.command(read, { deadlineMs: 22_000 });
  await until(async () => String(await from.cli("CLIENT", "LIST")).includes("cmd=xreadgroup"));
  const [fromId, toId] = await Promise.all([from.cli("CLUSTER", "MYID"), to.cli("CLUSTER", "MYID")]);
  await to.cli("CLUSTER", "SETSLOT", slot, "IMPORTING", String(fromId));
  await from.cli("CLUSTER", "SETSLOT", slot, "MIGRATING", String(toId));
  await from.cli("MIGRATE", "127.0.0.1", to.port, key, 0, 5_000);
  for (const node of [to, from]) await node.cli("CLUSTER", "SETSLOT", slot, "NODE", String(toId));
  expect(await reading).toBeNull();
  await to.cli("XADD", key, "*", "m", "x");
  expect(await own?.command(["XREADGROUP", "GROUP", "g", "c", "BLOCK", "2000", "STREAMS", key, ">"])).not.toBeNull();
});

async function otherMaster(key: string): Promise<RedisServer> {
  const owner = await cluster.masterOf(key);
  for (const other of ["a", "b", "c", "d", "e", "f"]) {
    const node = await cluster.masterOf(other);
    if (node !== owner) return node;
  }
  throw new Error("all keys have one owner");
}
