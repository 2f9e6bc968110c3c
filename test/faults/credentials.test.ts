/** Logins, rights and certificates that are wrong, or go wrong meanwhile: typed, at once, without a storm, and nothing instead. */

import { readdir, readFile } from "node:fs/promises";
import { type AddressInfo, createServer } from "node:net";
import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from "vitest";
import { connect, type ConnectOptions, SignalboxError } from "../../src/index.js";
import { logKeys } from "../../src/backends/redis/keys.js";
import { silentLogger } from "../facades/support/lanes.js";
import { freePorts } from "../support/process.js";
import { type RedisServer, startCluster, startRedis, startSentinelSet } from "../support/redis-servers.js";
import { pause, until } from "../support/wait.js";
import { type Authority, type Certificate, createAuthority } from "./support/certificates.js";
import type { Facade, Load } from "./support/load.js";
import { survive } from "./support/survive.js";

const PASSWORD = "canary-7c31";
const quiet: ConnectOptions = { logger: silentLogger, onError: () => undefined };

/** What `connect` rejects with; a broker that opens is closed, and is no failure. */
async function refusal(url: string | undefined, options: ConnectOptions = {}): Promise<SignalboxError> {
  const startedAt = performance.now();
  const broker = await connect(url, { ...quiet, connectTimeoutMs: 1_000, ...options }).catch((error: unknown) => error);
  if (broker instanceof SignalboxError) {
    expect(performance.now() - startedAt).toBeLessThan(5_000);
    expect(`${broker.message} ${broker.stack} ${JSON.stringify(broker)}`).not.toContain(PASSWORD);
    return broker;
  }
  if (broker instanceof Error) throw broker;
  await (broker as { close(): Promise<void> }).close();
  return expect.fail(`connected to ${url}`);
}

/** Refused logins since the server runs. */
async function refusedLogins(server: RedisServer): Promise<number> {
  const entries = (await server.cli("ACL", "LOG")) as unknown[][];
  return entries.reduce(
    (sum, entry) => sum + (entry.includes("auth") ? Number(entry[entry.indexOf("count") + 1]) : 0),
    0,
  );
}

describe.concurrent("credentials", { timeout: 60_000 }, () => {
  test.each([
    ["a single Redis", async () => await startRedis({ password: `${PASSWORD}!` })],
    ["Sentinel", async () => await startSentinelSet({ password: `${PASSWORD}!`, replicas: 1 })],
    ["a Cluster", async () => await startCluster({ password: `${PASSWORD}!`, replicas: 0 })],
  ])("fault 28: a wrong password for %s fails at once, and without a second try", async (_, start) => {
    const server = await start();
    try {
      const url = server.url.replace(encodeURIComponent(`${PASSWORD}!`), PASSWORD);
      expect(await refusal(url)).toMatchObject({ code: "AUTH", retryable: false });
      if ("cli" in server) expect(await refusedLogins(server)).toBe(1);
    } finally {
      await server.stop();
    }
  });

  test("fault 28: a password that is rotated meanwhile fails calls at once, is not tried in a storm, and is recovered from", async () => {
    const server = await startRedis({ users: { app: `on >${PASSWORD} ~* &* +@all` } });
    try {
      const inject = async ([load = expect.fail()]: readonly Load[]): Promise<void> => {
        await server.cli("ACL", "SETUSER", "app", "resetpass", ">another");
        await server.cli("CLIENT", "KILL", "USER", "app");
        const publish = (): Promise<unknown> => load.broker.events.publish("other", 1);
        await until(() => load.broker.ping().then(() => false, isAuth), { what: "the login to be refused" });
        const startedAt = performance.now();
        await expect(publish()).rejects.toMatchObject({ code: "AUTH", retryable: false });
        expect(performance.now() - startedAt).toBeLessThan(500);
        const { status, details } = await load.broker.health();
        expect(status).not.toBe("up");
        expect(JSON.stringify(details)).toContain("WRONGPASS");
        await pause(3_000);
        // Each broker has three or four connections, and each tries every two seconds or so.
        expect(await refusedLogins(server)).toBeLessThan(30);
        await server.cli("ACL", "SETUSER", "app", `>${PASSWORD}`);
      };
      const url = `redis://app:${PASSWORD}@127.0.0.1:${server.port}`;
      const loads = await survive(url, inject);
      for (const { reports } of loads) {
        expect(reports).toContainEqual(expect.objectContaining({ code: "AUTH" }));
        expect(reports.map(String).join(" ")).not.toContain(PASSWORD);
      }
    } finally {
      await server.stop();
    }
  });

  describe("an ACL that forbids something", () => {
    const stream = /sb1:\{default:log:orders:0\}:s/;
    const queue = /sb1:\{default:queue:orders:0\}:records/;
    const cases: readonly { title: string; rules: string; facade: Facade; says: RegExp }[] = [
      { title: "a command", rules: "~* &* +@all -evalsha -eval", facade: "events", says: /evalsha/i },
      { title: "a key", rules: "~sb1:{another:* &* +@all", facade: "events", says: stream },
      { title: "a command inside a script", rules: "~* &* +@all -xadd", facade: "events", says: stream },
      { title: "a command", rules: "~* &* +@all -evalsha -eval", facade: "queue", says: /evalsha/i },
      { title: "a key", rules: "~sb1:{another:* &* +@all", facade: "queue", says: queue },
      { title: "a command inside a script", rules: "~* &* +@all -zadd", facade: "queue", says: queue },
    ];
    for (const { title, rules, facade, says } of cases) {
      test(`fault 29: ${facade}: ${title} is an AuthError that names it`, async () => {
        const server = await startRedis({ users: { app: `on >${PASSWORD} ${rules}` } });
        try {
          await using broker = await connect(`redis://app:${PASSWORD}@127.0.0.1:${server.port}`, quiet);
          const publish = (): Promise<unknown> =>
            facade === "events" ? broker.events.publish("orders", 1) : broker.queue("orders").publish(1);
          const refused = await publish().catch((error: unknown) => error);
          expect(refused).toMatchObject({ code: "AUTH", retryable: false, message: expect.stringMatching(says) });
        } finally {
          await server.stop();
        }
      });
    }
  });
});

describe("TLS", () => {
  let authority: Authority;
  let server: RedisServer;
  let url: string;

  beforeAll(async () => {
    authority = await createAuthority();
    const [port] = await freePorts(1);
    const { cert, key } = await authority.sign("localhost");
    const config = { "tls-port": String(port), "tls-cert-file": cert, "tls-key-file": key, "tls-auth-clients": "no" };
    server = await startRedis({ config });
    url = `rediss://localhost:${port}`;
  });

  afterAll(() => server.stop());

  const present = async ({ cert, key }: Certificate): Promise<void> => {
    await server.cli("CONFIG", "SET", "tls-cert-file", cert, "tls-key-file", key);
  };
  const trusted = async (): Promise<ConnectOptions> => ({ tls: { ca: await readFile(authority.cert) } });

  test("fault 30: the right certificate opens, and what it is published over is encrypted", async () => {
    await present(await authority.sign("localhost"));
    await using broker = await connect(url, { ...quiet, ...(await trusted()) });
    expect(await broker.events.publish("orders", 1)).toMatchObject({ position: expect.any(String) });
  });

  test("fault 30: a certificate that expired, names another host or is signed by nobody known is refused, typed", async () => {
    await present(await authority.sign("localhost", -1));
    expect(await refusal(url, await trusted())).toMatchObject({ code: "CONNECTION", message: /expired/ });
    await present(await authority.sign("elsewhere.test"));
    expect(await refusal(url, await trusted())).toMatchObject({ code: "CONNECTION", message: /elsewhere\.test/ });
    await present(await authority.sign("localhost"));
    expect(await refusal(url)).toMatchObject({ code: "CONNECTION", message: /certificate/ });
    expect(await refusal(url, { tls: { rejectUnauthorized: false } })).toMatchObject({ code: "CONFIG" });
  });

  test("fault 30: a port without TLS is never spoken to in the clear, nor one with TLS", async () => {
    const heard: Buffer[] = [];
    const plain = createServer((socket) => {
      socket.on("error", () => {}); // the client hangs up
      socket.on("data", (bytes) => {
        heard.push(bytes);
        socket.write("-ERR what?\r\n");
      });
    });
    await new Promise<void>((resolve) => plain.listen(0, "127.0.0.1", resolve));
    try {
      const { port } = plain.address() as AddressInfo; // of a TCP server that listens
      const secret = `rediss://app:${PASSWORD}@127.0.0.1:${port}`;
      expect(await refusal(secret, await trusted())).toMatchObject({ code: "CONNECTION" });
      expect(heard.length).toBeGreaterThan(0);
      for (const bytes of heard) expect(bytes.toString("latin1")).not.toContain(PASSWORD);
      // A handshake record, each of them.
      expect(heard.filter((bytes) => bytes[0] !== 0x16)).toEqual([]);
    } finally {
      await new Promise((resolve) => plain.close(resolve));
    }
    expect(await refusal(url.replace("rediss:", "redis:"))).toMatchObject({ code: "CONNECTION" });
  });
});

describe("no silent fallback", () => {
  afterEach(() => {
    vi.unstubAllEnvs();
  });

  const environments: readonly { title: string; env: Record<string, string | undefined>; code: string }[] = [
    { title: "neither SIGNALBOX_URL nor REDIS_URL", env: {}, code: "CONFIG" },
    { title: "an empty REDIS_URL", env: { REDIS_URL: "" }, code: "CONFIG" },
    { title: "a REDIS_URL that nobody expanded", env: { REDIS_URL: "$REDIS_URL" }, code: "CONFIG" },
    {
      title: "an empty SIGNALBOX_URL in front of a good one",
      env: { SIGNALBOX_URL: "", REDIS_URL: "redis://127.0.0.1:1" },
      code: "CONFIG",
    },
    { title: "a server that is not there", env: { REDIS_URL: "redis://127.0.0.1:1" }, code: "CONNECTION" },
  ];
  for (const { title, env, code } of environments) {
    test(`fault 54: ${title} is an error, and no store that nobody asked for is made`, async () => {
      const before = await readdir(process.cwd());
      for (const name of ["SIGNALBOX_URL", "REDIS_URL"]) vi.stubEnv(name, env[name]);
      expect(await refusal(undefined)).toMatchObject({ code });
      expect(await readdir(process.cwd())).toEqual(before);
    });
  }

  test("fault 54: wrong credentials are an error, and while the server is away nothing is acknowledged", async () => {
    const server = await startRedis({ password: `${PASSWORD}!` });
    try {
      vi.stubEnv("SIGNALBOX_URL", undefined);
      vi.stubEnv("REDIS_URL", `redis://:${PASSWORD}@127.0.0.1:${server.port}`);
      expect(await refusal(undefined)).toMatchObject({ code: "AUTH" });
      await using broker = await connect(server.url, { ...quiet, commandTimeoutMs: 500 });
      await server.kill();
      let acked = false;
      const publishing = broker.events.publish("orders", 1).then(() => (acked = true));
      await pause(1_500);
      expect(acked).toBe(false);
      expect((await broker.health()).status).toBe("down");
      await server.restart();
      await publishing;
      expect(await server.cli("XLEN", logKeys("default", "orders").stream)).toBe(1);
    } finally {
      await server.stop();
    }
  });
});

function isAuth(error: unknown): boolean {
  return error instanceof SignalboxError && error.code === "AUTH";
}
