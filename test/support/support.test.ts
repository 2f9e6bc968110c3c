/** Proof that the harness starts, kills, restarts and fails over real servers, and leaves nothing behind. */

import { existsSync } from "node:fs";
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { createClient } from "@redis/client";
import { describe, expect, test } from "vitest";
import { debianMirrors } from "./apt.js";
import { type Child, runChild } from "./children.js";
import { isAlive } from "./claim.js";
import { testBinaries } from "./install.js";
import { freePorts, releasePort, startProcess, tempDir } from "./process.js";
import { harnessClientName, startCluster, startRedis, startSentinelSet } from "./redis-servers.js";
import { until, withDeadline } from "./wait.js";

const { redis, valkey, node24 } = testBinaries();

describe.concurrent.each(
  [
    { name: "Redis", binary: redis, version: /redis_version:7\./ },
    { name: "Valkey", binary: valkey, version: /valkey_version:8\.0\.1/ },
  ].filter(({ binary }) => binary !== undefined),
)("$name", ({ binary, version }) => {
  const own = binary === undefined ? {} : { binary };

  test("a server answers, keeps what it acknowledged through SIGKILL, and can be paused", async () => {
    await using server = await startRedis({ ...own, appendonly: "always" });
    expect(await server.cli("INFO", "server")).toMatch(version);
    expect(await server.cli("SET", "key", "value")).toBe("OK");
    const firstPid = server.pid;
    await server.kill();
    expect(server.state).toBe("down");
    await expect(server.cli("PING")).rejects.toThrow();
    await server.restart();
    expect(server.pid).not.toBe(firstPid);
    expect(await server.cli("GET", "key")).toBe("value");
    server.pause();
    const late = server.cli("PING");
    await expect(withDeadline(() => late, 100)).rejects.toThrow(/still running/);
    server.resume();
    expect(await late).toBe("PONG");
  });

  test("a cluster fails over when a master is killed, and is whole again once that is back", async () => {
    await using cluster = await startCluster(own);
    const { former, promoted } = await cluster.failover("some key");
    expect(await cluster.masterOf("some key")).toBe(promoted);
    expect(await promoted.cli("SET", "some key", "1")).toBe("OK");
    await former.restart();
    await cluster.awaitHealthy();
    expect(await cluster.replicasOf(promoted)).toEqual([former]);
  });

  test("Sentinels replace a master that was killed, and take it back as a replica", async () => {
    await using set = await startSentinelSet(own);
    const { former, promoted } = await set.failover();
    expect(await set.currentMaster()).toBe(promoted);
    expect(await promoted.cli("SET", "key", "1")).toBe("OK");
    await former.restart();
    await set.awaitHealthy();
    expect(await former.cli("GET", "key")).toBe("1");
  });
});

test("a server takes a password, users, limits, directives and a Unix socket", async () => {
  await using server = await startRedis({
    password: 'p"w @#',
    users: { app: "on >secret ~bus:* +get +ping" },
    maxmemory: "2mb",
    maxmemoryPolicy: "allkeys-lru",
    config: { hz: "50" },
    unixSocket: true,
  });
  const client = createClient({ url: server.url });
  client.on("error", () => {}); // the calls below reject by themselves
  await client.connect();
  const clients = String(await server.cli("CLIENT", "LIST"))
    .trim()
    .split("\n");
  expect(clients.filter((line) => !line.includes(` name=${harnessClientName} `))).toHaveLength(1);
  await client.sendCommand(["AUTH", "app", "secret"]);
  await expect(client.sendCommand(["GET", "other"])).rejects.toThrow(/NOPERM/);
  client.destroy();
  expect(await server.cli("CONFIG", "GET", "maxmemory*")).toContain("allkeys-lru");
  expect(await server.cli("CONFIG", "GET", "hz")).toEqual(["hz", "50"]);
  expect(existsSync(server.socketPath ?? "")).toBe(true);
});

test("cluster and Sentinels take a password", async () => {
  const password = "p w";
  await using cluster = await startCluster({ password, replicas: 0 });
  await using set = await startSentinelSet({ password, replicas: 1 });
  expect(cluster.url).toMatch(/^redis-cluster:\/\/:p%20w@127\.0\.0\.1:\d+,/);
  expect(set.url).toMatch(/^redis-sentinel:\/\/:p%20w@127\.0\.0\.1:\d+,.*\/mymaster$/);
});

test("a directory that the test brought outlives its server, a temporary one does not", async () => {
  const dir = await tempDir();
  const kept = await startRedis({ dir });
  const temporary = await startRedis();
  await Promise.all([kept.stop(), temporary.stop()]);
  expect(existsSync(join(dir, "redis.conf"))).toBe(true);
  expect(existsSync(temporary.dir)).toBe(false);
});

test("a server that cannot start says why", async () => {
  await expect(startRedis({ config: { "no-such-directive": "1" } })).rejects.toThrow(/no-such-directive/);
});

const echo = new URL("fixtures/echo-child.ts", import.meta.url);

function started(child: Child): Promise<unknown> {
  return child.next((message) => "hello" in message);
}

test("a child process runs TypeScript and talks in lines of JSON", async () => {
  await using child = runChild(echo, { args: ["you"], env: { GREETING: "good day" } });
  expect(await started(child)).toMatchObject({ hello: "you", greeting: "good day", node: process.version });
  child.send({ n: 1 });
  child.send({ n: 2 });
  const nth = (n: number) => child.next((message) => JSON.stringify(message) === `{"echo":{"n":${n}}}`);
  expect([await nth(2), await nth(1)]).toHaveLength(2);
  child.kill();
  expect(await child.exited).toEqual({ code: null, signal: "SIGKILL" });
  await expect(nth(3)).rejects.toThrow(/it has ended/);
});

test.skipIf(node24 === undefined)("a child process runs on Node 24", async () => {
  await using child = runChild(echo, { node: node24 ?? "" });
  expect(await started(child)).toMatchObject({ node: expect.stringMatching(/^v24\./) });
});

test.runIf(process.platform === "linux")("what a killed process had started dies with it", async () => {
  await using child = runChild(echo);
  await started(child);
  child.send({ start: "redis" });
  const { redis: pid } = await child.next((message) => "redis" in message);
  child.kill();
  await until(async () => !(await isAlive(Number(pid))), { what: "its Redis to die" });
});

test("a process that ignores SIGTERM is killed at the deadline", async () => {
  const script = "process.on('SIGTERM', () => {}); console.log('ready'); setInterval(() => {}, 1000)";
  const stubborn = startProcess(process.execPath, ["-e", script]);
  await until(() => stubborn.output("stdout").includes("ready"));
  expect(await stubborn.stop(50)).toEqual({ code: null, signal: "SIGKILL" });
  expect(stubborn.kill()).toBe(false);
});

test("a program that does not exist is a failed start", async () => {
  const missing = startProcess("/no/such/program", []);
  expect((await missing.exited).code).toBe(127);
  expect(missing.output()).toContain("/no/such/program");
});

test("ports are handed out once", async () => {
  const ports = await freePorts(50);
  expect(new Set(ports).size).toBe(50);
  await Promise.all(ports.map(releasePort));
});

test("waiting in vain names what was awaited and what was seen", async () => {
  await expect(until(() => 0, { deadlineMs: 20, what: "a miracle" })).rejects.toThrow(/a miracle; last look: 0/);
  await expect(until(() => new Promise(() => {}), { deadlineMs: 20 })).rejects.toThrow(/still running/);
});

test("Debian's archives are found in both forms of apt's configuration", async () => {
  const dir = await tempDir();
  await mkdir(join(dir, "sources.list.d"));
  await writeFile(
    join(dir, "sources.list"),
    "# deb http://a.test/debian bookworm main\ndeb [arch=amd64 signed-by=/k.gpg] http://b.test/debian bookworm main # x\n",
  );
  await writeFile(
    join(dir, "sources.list.d/c.sources"),
    "Types: deb\n# note\nURIs: http://c.test/debian\n  http://d.test/debian\nSuites: bookworm bookworm-updates\nComponents: main\n\nEnabled: no\nTypes: deb\nURIs: http://e.test/\nSuites: bookworm\nComponents: main\n",
  );
  expect(await debianMirrors("bookworm", dir)).toEqual([
    { uri: "http://b.test/debian", signedBy: "/k.gpg" },
    { uri: "http://c.test/debian", signedBy: undefined },
    { uri: "http://d.test/debian", signedBy: undefined },
    { uri: "http://deb.debian.org/debian", signedBy: "/usr/share/keyrings/debian-archive-keyring.gpg" },
  ]);
});
