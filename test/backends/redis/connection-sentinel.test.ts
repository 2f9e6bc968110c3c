/** The connection layer against real Sentinels: failovers, deposed primaries, and Sentinels that are no help. */

import { afterAll, beforeAll, beforeEach, expect, onTestFinished, test } from "vitest";
import { ConfigError, ConnectionError } from "../../../src/core/errors.js";
import { sentinelMasterName, type SentinelSet, startSentinelSet } from "../../support/redis-servers.js";
import { until } from "../../support/wait.js";
import { clientsOf, failureOf, open, sentinelsOf } from "./connection-support.js";

let set: SentinelSet;

beforeAll(async () => {
  set = await startSentinelSet();
});

afterAll(() => set.stop());

beforeEach(async () => {
  for (const server of [...set.nodes, ...set.sentinels]) if (server.state !== "running") await server.restart();
  await set.awaitHealthy();
});

test.each(["kill", "command"] as const)("after a failover by %s the new primary is written to", async (by) => {
  const { connections } = await open(sentinelsOf(set));
  const connection = connections.shared("key");
  await connection.command(["SET", "key", "v"]);
  await set.failover({ by });
  const startedAt = performance.now();
  await until(() => connection.command(["SET", "key", by]), { what: "a write" });
  expect(performance.now() - startedAt).toBeLessThan(5_000);
  await until(async () => String(await (await set.currentMaster()).cli("GET", "key")) === by);
});

test("a primary that was paused and deposed is not written to again once it is back", async () => {
  const { connections } = await open(sentinelsOf(set));
  const connection = connections.shared("count");
  await connection.command(["SET", "count", "0"]);
  const stop = new AbortController();
  const confirmed = new Set<string>();
  const writing = (async () => {
    for (let round = 0; !stop.signal.aborted; round += 1) {
      await connection.command(["SADD", "confirmed", String(round)]).then(
        () => confirmed.add(String(round)),
        (error: unknown) => expect(error).toMatchObject({ code: "CONNECTION" }),
      );
    }
  })();
  const { former } = await set.failover({ by: "pause" });
  const before = confirmed.size;
  await until(() => confirmed.size > before + 100, { what: "writes at the new primary" });
  former.resume();
  await set.awaitHealthy();
  stop.abort();
  await writing;
  const stored = new Set(((await (await set.currentMaster()).cli("SMEMBERS", "confirmed")) as unknown[]).map(String));
  expect([...confirmed].filter((member) => !stored.has(member))).toEqual([]);
});

test("a blocked reader, a publisher and a listener follow to the new primary", async () => {
  const { connections, broadcast, check } = await open(sentinelsOf(set));
  const own = connections.blocking("list");
  const gaps: string[] = [];
  const heard: string[] = [];
  await broadcast.subscribe(
    { channel: "news" },
    { message: (_, data) => heard.push(Buffer.from(data).toString()), gap: (reason) => gaps.push(reason) },
  );
  await connections.publishing("list").pair(["SET", "k", "v"], ["WAIT", "1", "1000"]);
  const popped = failureOf(Promise.resolve(own?.command(["BLPOP", "list", "20"], { deadlineMs: 22_000 })));
  const primary = await set.currentMaster();
  await until(async () => (await clientsOf(primary)).some((line) => line.includes("flags=b")));
  await set.failover({ by: "kill" });
  expect(await popped).toMatchObject({ interrupted: true });
  await until(() => gaps.length > 0, { what: "the gap" });
  expect(await connections.publishing("list").command(["RPUSH", "list", "x"])).toBe(1);
  expect(await own?.command(["BLPOP", "list", "1"])).toEqual([Buffer.from("list"), Buffer.from("x")]);
  await broadcast.publish([{ channel: "news", data: "hello" }]);
  await until(() => heard.length === 1, { what: "the message" });
  await until(async () => (await check()).every(({ ok }) => ok), { what: "all to be well" });
});

test("while all Sentinels are down the primary is kept, and found again after a loss", async () => {
  const { connections } = await open(sentinelsOf(set));
  const connection = connections.shared("key");
  await Promise.all(set.sentinels.map((sentinel) => sentinel.kill()));
  expect(await connection.command(["SET", "key", "alone"])).toBe("OK");
  await Promise.all(set.nodes.map((node) => node.cli("CLIENT", "KILL", "TYPE", "normal")));
  await until(() => connection.command(["SET", "key", "still"]), { what: "a write" });
});

test("a name that no Sentinel knows is refused", async () => {
  const error = await failureOf(open(sentinelsOf(set, "nobody")));
  expect(error).toBeInstanceOf(ConfigError);
  expect(error.message).toContain('"nobody"');
});

test("Sentinels that do not answer are named", async () => {
  const target = {
    ...sentinelsOf(set),
    kind: "sentinel",
    primary: "x",
    sentinels: [{ host: "127.0.0.1", port: 1 }],
  } as const;
  const error = await failureOf(open(target, { connectTimeoutMs: 300 }));
  expect(error).toBeInstanceOf(ConnectionError);
  expect(error.message).toContain("127.0.0.1:1");
});

test("one Sentinel that hangs does not keep a broker from opening", async () => {
  const [first] = set.sentinels;
  first?.pause();
  onTestFinished(() => first?.resume());
  const startedAt = performance.now();
  await open(sentinelsOf(set));
  expect(performance.now() - startedAt).toBeLessThan(2_000);
});

test("closing leaves no connection at the Sentinels either", async () => {
  const { close, timers } = await open(sentinelsOf(set));
  const left = async (): Promise<number> =>
    (await Promise.all([...set.sentinels].map(clientsOf))).flat().filter((line) => line.includes("name= ")).length;
  const others = await left();
  close();
  await until(async () => (await left()) < others, { what: "connections to be closed" });
  await until(() => timers() === 0, { what: "no timer" });
});

// The last: Sentinels take their time until they are content again.
test("a failover that comes to nothing leaves the primary in use", async () => {
  const { connections } = await open(sentinelsOf(set));
  const connection = connections.shared("key");
  const primary = await set.currentMaster();
  const replicas = set.nodes.filter((node) => node !== primary);
  onTestFinished(() => replicas.forEach((replica) => replica.resume()));
  for (const replica of replicas) replica.pause();
  const failed = until(() => connection.command(["SET", "key", "v"], { deadlineMs: 50 }).then(() => false, String));
  // One of those that sleep is chosen.
  await set.sentinels[0]!.cli("SENTINEL", "FAILOVER", sentinelMasterName);
  expect(await failed).toContain(`putting another Redis in the place of 127.0.0.1:${primary.port}`);
  await until(() => connection.command(["SET", "key", "v"]), { deadlineMs: 10_000, what: "a write" });
  expect(await set.currentMaster()).toBe(primary);
});
