/** Pub/sub on every kind of Redis that can be connected to, and what its health says of the connection that listens. */

import { readFile } from "node:fs/promises";
import { expect, test } from "vitest";
import { type Broker, connect, type ConnectOptions } from "../../src/index.js";
import { createAuthority } from "../faults/support/certificates.js";
import { freePort } from "../support/process.js";
import { startCluster, startRedis, startSentinelSet } from "../support/redis-servers.js";
import { until } from "../support/wait.js";
import { silentLogger } from "./support/lanes.js";

const PASSWORD = "pässword#1";
const LOGIN = `app:${encodeURIComponent(PASSWORD)}@`;

interface Place {
  readonly url: string;
  readonly options?: ConnectOptions;
  stop(): Promise<void>;
}

const PLACES: Readonly<Record<string, () => Promise<Place>>> = {
  async "a host and a port"() {
    const server = await startRedis();
    return { url: `redis://localhost:${server.port}`, stop: () => server.stop() };
  },
  async "a user, a password and a database"() {
    const server = await startRedis({ users: { app: `on >${PASSWORD} ~* &* +@all` } });
    return { url: `redis://${LOGIN}127.0.0.1:${server.port}/3`, stop: () => server.stop() };
  },
  async TLS() {
    const authority = await createAuthority();
    const [port, { cert, key }] = [await freePort(), await authority.sign("localhost")];
    const config = { "tls-port": String(port), "tls-cert-file": cert, "tls-key-file": key, "tls-auth-clients": "no" };
    const server = await startRedis({ config });
    const options = { tls: { ca: await readFile(authority.cert) } };
    return { url: `rediss://localhost:${port}`, options, stop: () => server.stop() };
  },
  async "a Unix socket"() {
    const server = await startRedis({ unixSocket: true });
    return { url: `redis+unix://${server.socketPath}?db=2`, stop: () => server.stop() };
  },
  async Sentinels() {
    const { url, stop } = await startSentinelSet();
    return { url, stop };
  },
  async "a Cluster"() {
    const { url, stop } = await startCluster({ masters: 3, replicas: 0 });
    return { url, stop };
  },
};

const quiet = { logger: silentLogger, onError: () => undefined };

async function subscriberOf(broker: Broker): Promise<object | undefined> {
  return (await broker.health()).details.checks.find(({ name }) => name === "subscriber");
}

for (const [title, start] of Object.entries(PLACES)) {
  test(`[D4] ${title}: names, patterns and sharded channels are heard there`, async () => {
    const { url, options, stop } = await start();
    try {
      await using here = await connect(url, { ...quiet, ...options });
      await using there = await connect(url, { ...quiet, ...options });
      const heard: string[] = [];
      const note = (how: string) => (data: unknown) => void heard.push(`${how} ${String(data)}`);
      await here.pubsub.subscribe("orders.paid", note("name"));
      await here.pubsub.subscribe("orders.*", note("pattern"));
      await here.pubsub.subscribe("orders.paid", { sharded: true }, note("shard"));
      await there.pubsub.publish("orders.paid", 1);
      await there.pubsub.publish("orders.paid", 2, { sharded: true });
      await until(() => heard.length === 3);
      expect(heard.toSorted()).toEqual(["name 1", "pattern 1", "shard 2"]);
      const { status, details } = await here.health();
      expect(status).toBe("up");
      const names = details.checks.map(({ name }) => name);
      expect(names).toContain("subscriber");
      expect(names.some((name) => name.startsWith("sharded subscriber "))).toBe(true);
    } finally {
      await stop();
    }
  });
}

test("health covers the connection that listens, from the first subscription on", async () => {
  const server = await startRedis({ users: { app: "on >secret ~* &* +@all" } });
  try {
    await using broker = await connect(`redis://app:secret@127.0.0.1:${server.port}`, {
      ...quiet,
      commandTimeoutMs: 500,
    });
    expect(await subscriberOf(broker)).toBeUndefined();
    await broker.pubsub.subscribe("news", () => undefined);
    expect(await subscriberOf(broker)).toMatchObject({ ok: true, latencyMs: expect.any(Number) });
    // It may still publish, and is not let in to listen.
    await server.cli("ACL", "SETUSER", "app", "-subscribe");
    await server.cli("CLIENT", "KILL", "TYPE", "pubsub");
    await until(async () => (await broker.health()).status === "degraded", { deadlineMs: 10_000 });
    expect(await subscriberOf(broker)).toMatchObject({ ok: false, error: expect.any(String) });
    expect((await broker.health()).details.consumers).toMatchObject([{ channel: "news" }]);
    await server.cli("ACL", "SETUSER", "app", "+subscribe");
    await until(async () => (await broker.health()).status === "up", { deadlineMs: 10_000 });
    expect(await subscriberOf(broker)).toMatchObject({ ok: true });
  } finally {
    await server.stop();
  }
}, 30_000);
