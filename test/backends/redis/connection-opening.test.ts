/** What is refused at opening, and how soon: logins, versions, evictions, durability, encryption. */

import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, expect, onTestFinished, test } from "vitest";
import type { RedisOptions } from "../../../src/backends/redis/target.js";
import { AuthError, ConfigError, ConnectionError } from "../../../src/core/errors.js";
import { tempDir } from "../../support/process.js";
import { type RedisServer, startRedis } from "../../support/redis-servers.js";
import { run } from "../../support/run.js";
import { until } from "../../support/wait.js";
import { bulk, clientsOf, failureOf, fakeRedis, open, standalone } from "./connection-support.js";

const PASSWORD = "canary-3f9a";

let guarded: RedisServer;

beforeAll(async () => {
  guarded = await startRedis({
    password: PASSWORD,
    users: { app: `on >${PASSWORD} ~* &* +@all -config`, poor: `on >${PASSWORD} ~* &* +@all -info` },
  });
});

afterAll(() => guarded.stop());

test.each<[string, object]>([
  ["a wrong password", { password: `wrong-${PASSWORD}` }],
  ["a wrong user", { username: "nobody", password: PASSWORD }],
  ["no password", {}],
])("%s fails at once, without a second try and without showing a password", async (_, login) => {
  const startedAt = performance.now();
  const error = await failureOf(open(standalone(guarded, login)));
  expect(error).toBeInstanceOf(AuthError);
  expect(performance.now() - startedAt).toBeLessThan(2_000);
  expect(`${error.message} ${error.stack ?? ""} ${JSON.stringify(error)}`).not.toContain(PASSWORD);
  await until(async () => (await clientsOf(guarded)).length === 0, { what: "no connection to be left" });
});

test("a password for a server that has none fails at once", async () => {
  const server = await startRedis();
  onTestFinished(() => server.stop());
  const error = await failureOf(open(standalone(server, { password: PASSWORD })));
  expect(error).toBeInstanceOf(AuthError);
  expect(error.message).not.toContain(PASSWORD);
});

test("the right password opens", async () => {
  const { ping } = await open(standalone(guarded, { password: PASSWORD }));
  expect(await ping()).toBeGreaterThan(0);
});

test("a password that is changed meanwhile fails commands at once, and is recovered from once it is right again", async () => {
  const server = await startRedis({ users: { app: `on >${PASSWORD} ~* &* +@all` } });
  onTestFinished(() => server.stop());
  const { connections } = await open(standalone(server, { username: "app", password: PASSWORD }));
  const get = (): Promise<unknown> => connections.shared("k").command(["GET", "k"]);
  await server.cli("ACL", "SETUSER", "app", "resetpass", ">another");
  await server.cli("CLIENT", "KILL", "USER", "app");
  await until(async () => (await failureOf(get())) instanceof AuthError, { what: "the login to be refused" });
  const startedAt = performance.now();
  expect(await failureOf(get())).toBeInstanceOf(AuthError);
  expect(performance.now() - startedAt).toBeLessThan(1_000);
  await server.cli("ACL", "SETUSER", "app", `>${PASSWORD}`);
  await until(async () => (await get()) === null, { what: "the login to be accepted" });
});

test("a command that the ACL forbids is named", async () => {
  const { connections } = await open(standalone(guarded, { username: "app", password: PASSWORD }));
  const error = await failureOf(connections.shared("k").command(["CONFIG", "GET", "maxmemory"]));
  expect(error).toBeInstanceOf(AuthError);
  expect(error.message).toContain("CONFIG");
});

test("a server without room for another client says so", async () => {
  const server = await startRedis({ config: { maxclients: "1" } });
  onTestFinished(() => server.stop());
  await server.cli("PING");
  const error = await failureOf(open(standalone(server), { connectTimeoutMs: 300 }));
  expect(error).toBeInstanceOf(ConnectionError);
  expect(error.message).toContain("max number of clients");
});

test("a user who may not use INFO is told so", async () => {
  const error = await failureOf(open(standalone(guarded, { username: "poor", password: PASSWORD })));
  expect(error).toBeInstanceOf(AuthError);
  expect(error.message).toContain("INFO");
});

test("a Redis older than 7.0 is refused", async () => {
  const fake = await fakeRedis(([name]) =>
    name === "INFO" ? bulk("redis_version:6.2.14\r\nrole:master\r\nmaxmemory:0\r\n") : undefined,
  );
  const error = await failureOf(open(standalone(fake)));
  expect(error).toBeInstanceOf(ConfigError);
  expect(error.message).toContain("6.2.14");
});

test("a replica is refused, as nothing can be written there", async () => {
  const fake = await fakeRedis(([name]) =>
    name === "INFO" ? bulk("redis_version:7.0.15\r\nrole:slave\r\n") : undefined,
  );
  const error = await failureOf(open(standalone(fake), { connectTimeoutMs: 300 }));
  expect(error).toBeInstanceOf(ConnectionError);
  expect(error.message).toContain("is a replica");
});

test("a server that may delete messages is refused unless that is accepted", async () => {
  const server = await startRedis({ maxmemory: "50mb", maxmemoryPolicy: "allkeys-lru" });
  onTestFinished(() => server.stop());
  const error = await failureOf(open(standalone(server)));
  expect(error).toBeInstanceOf(ConfigError);
  expect(error.message).toMatch(/allkeys-lru.*allowEviction/);
  const { reports } = await open(standalone(server), { allowEviction: "yes, lose messages" });
  expect(reports).toEqual([]);
  await server.cli("CONFIG", "SET", "maxmemory", "0");
  // It deletes nothing yet.
  const warned = await open(standalone(server));
  expect(warned.reports).toEqual([expect.stringContaining("allkeys-lru")]);
  await server.cli("CONFIG", "SET", "maxmemory", "50mb", "maxmemory-policy", "volatile-lru");
  expect((await open(standalone(server))).reports).toEqual([]);
});

const fsync: Partial<RedisOptions> = { durability: "fsync" };

test.each(["no", "everysec"] as const)('durability "fsync" is refused with appendonly %s', async (appendonly) => {
  const server = await startRedis({ appendonly });
  onTestFinished(() => server.stop());
  const error = await failureOf(open(standalone(server), { ...fsync, assertAppendFsync: "always" }));
  expect(error).toBeInstanceOf(ConfigError);
});

test('durability "fsync" is given with appendfsync always, read or asserted', async () => {
  const server = await startRedis({ appendonly: "always", users: { app: `on >${PASSWORD} ~* &* +@all -config` } });
  onTestFinished(() => server.stop());
  await open(standalone(server), fsync);
  const asApp = standalone(server, { username: "app", password: PASSWORD });
  const error = await failureOf(open(asApp, fsync));
  expect(error).toBeInstanceOf(ConfigError);
  expect(error.message).toContain("assertAppendFsync");
  await open(asApp, { ...fsync, assertAppendFsync: "always" });
});

test('durability "replicated" is refused with too few replicas', async () => {
  const error = await failureOf(
    open(standalone(guarded, { password: PASSWORD }), { durability: "replicated", replicas: 1 }),
  );
  expect(error).toBeInstanceOf(ConfigError);
  expect(error.message).toContain("0 connected replicas");
});

test("TLS is verified, and never done without", async () => {
  const { server, ca, plain } = await startTls();
  onTestFinished(() => server.stop());
  const target = { ...standalone(server), port: server.port + 1, host: "localhost", tls: true } as const;
  const { ping } = await open(target, { tls: { ca } });
  expect(await ping()).toBeGreaterThan(0);
  const untrusted = await failureOf(open(target, { connectTimeoutMs: 500 }));
  expect(untrusted).toBeInstanceOf(ConnectionError);
  expect(untrusted.message).toMatch(/certificate/i);
  // A server that speaks no TLS, and one that speaks nothing else.
  expect(await failureOf(open({ ...plain, tls: true }, { tls: { ca }, connectTimeoutMs: 500 }))).toBeInstanceOf(
    ConnectionError,
  );
  expect(await failureOf(open({ ...target, tls: false }, { connectTimeoutMs: 500 }))).toBeInstanceOf(ConnectionError);
});

/** A server with TLS on the port behind its own, and the authority that vouches for it. */
async function startTls(): Promise<{ server: RedisServer; ca: Buffer; plain: ReturnType<typeof standalone> }> {
  const dir = await tempDir();
  const certificate = join(dir, "cert.pem");
  const key = join(dir, "key.pem");
  const subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"];
  const newKey = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"];
  await run("openssl", ["req", "-x509", ...newKey, ...subject, "-keyout", key, "-out", certificate]);
  for (let attempt = 1; ; attempt += 1) {
    const first = await startRedis();
    const { port } = first;
    await first.stop();
    const config = {
      "tls-port": String(port + 1),
      "tls-cert-file": certificate,
      "tls-key-file": key,
      "tls-auth-clients": "no",
    };
    try {
      const server = await startRedis({ port, config });
      return { server, ca: await readFile(certificate), plain: standalone(server) };
    } catch (error) {
      // The port behind may be taken.
      if (attempt === 5) throw error;
    }
  }
}
