/** Starting without a server, ending by signal, and errors that nobody listens to. */

import { createServer } from "node:net";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { type Broker, connect, type ConnectOptions, type Context } from "../../src/index.js";
import { silentLogger } from "../facades/support/lanes.js";
import { freePorts, releasePort, tempDir } from "../support/process.js";
import { startCluster, startRedis, startSentinelSet } from "../support/redis-servers.js";
import { pause, until } from "../support/wait.js";
import { FACADES, type Facade, type Load } from "./support/load.js";
import { said, START_MS, startProgram } from "./support/programs.js";
import { EVERYWHERE } from "./support/stores.js";
import { startStandalone } from "./support/systems.js";
import { moreAcked, RECOVERY_MS, survive } from "./support/survive.js";

const quiet: ConnectOptions = { logger: silentLogger, onError: () => undefined };
const LEASE_MS = 2_000;

function publishMany(broker: Broker, facade: Facade, data: readonly unknown[]): Promise<unknown> {
  return facade === "events" ? broker.events.publishMany("work", data) : broker.queue("work").publishMany(data);
}

/** Handles what is left, and says in which attempt each came. */
async function handleRest(broker: Broker, facade: Facade, attempts: Map<unknown, number>): Promise<void> {
  const handler = (data: unknown, { attempt }: Context): void => void attempts.set(data, attempt);
  const options = { leaseMs: LEASE_MS };
  if (facade === "events")
    await broker.events.subscribe("work", { ...options, group: "g", from: "beginning" }, handler);
  else await broker.queue("work").subscribe(options, handler);
}

describe.concurrent("ending by signal", { timeout: 60_000 }, () => {
  const numbers = Array.from({ length: 12 }, (_, number) => number);

  for (const { facade, where, start: open } of EVERYWHERE) {
    test(`fault 49: ${where}: SIGTERM lets handlers finish, takes nothing more, and acknowledges before it ends`, async () => {
      await using store = await open();
      await using broker = await connect(store.url, quiet);
      await publishMany(broker, facade, numbers);
      await using child = startProgram("draining", [store.url, facade, 700, 5_000]);
      await until(() => said(child, "began").length >= 5, { deadlineMs: START_MS, what: "five to be under way" });
      child.kill("SIGTERM");
      expect(await child.exited).toEqual({ code: 0, signal: null });
      expect(said(child, "closed")).toEqual([true]);
      const began = said(child, "began");
      const closing = child.messages.findIndex((message) => "closing" in message);
      expect(child.messages.slice(closing).filter((message) => "began" in message)).toEqual([]);
      expect(new Set(said(child, "finished"))).toEqual(new Set(began));
      const rest = new Map<unknown, number>();
      await handleRest(broker, facade, rest);
      await until(() => rest.size === numbers.length - began.length, { deadlineMs: RECOVERY_MS, what: "the rest" });
      // What it had finished was acknowledged; what it had taken and not begun was given back, uncounted.
      for (const number of numbers) expect(rest.get(number)).toBe(began.includes(number) ? undefined : 1);
    });

    test(`fault 49: ${where}: what outlasts the drain is given back at once, uncounted`, async () => {
      await using store = await open();
      await using broker = await connect(store.url, quiet);
      await publishMany(broker, facade, numbers);
      await using child = startProgram("draining", [store.url, facade, 60_000, 200]);
      await until(() => said(child, "began").length >= 5, { deadlineMs: START_MS, what: "five to be under way" });
      child.kill("SIGTERM");
      await child.next((message) => "closed" in message);
      const rest = new Map<unknown, number>();
      const startedAt = performance.now();
      await handleRest(broker, facade, rest);
      await until(() => rest.size === numbers.length, { deadlineMs: RECOVERY_MS, what: "all of it" });
      expect(performance.now() - startedAt).toBeLessThan(LEASE_MS);
      expect(new Set(rest.values())).toEqual(new Set([1]));
    });

    test(`fault 49: ${where}: a second SIGTERM ends it at once, and what it held is handled within lease + 5 s`, async () => {
      await using store = await open();
      await using broker = await connect(store.url, quiet);
      await publishMany(broker, facade, numbers);
      await using child = startProgram("draining", [store.url, facade, 60_000, 60_000]);
      await until(() => said(child, "began").length >= 5, { deadlineMs: START_MS, what: "five to be under way" });
      child.kill("SIGTERM");
      await child.next((message) => "closing" in message);
      child.kill("SIGTERM");
      expect(await child.exited).toEqual({ code: null, signal: "SIGTERM" });
      const rest = new Map<unknown, number>();
      await handleRest(broker, facade, rest);
      await until(() => rest.size === numbers.length, { deadlineMs: LEASE_MS + RECOVERY_MS, what: "all of it" });
      const began = said(child, "began");
      for (const number of numbers) if (began.includes(number)) expect(rest.get(number)).toBe(2);
    });
  }
});

describe.concurrent("starting without a server", { timeout: 60_000 }, () => {
  const absent: readonly { title: string; open(): Promise<{ url: string; stop?: () => Promise<void> }> }[] = [
    { title: "no Redis", open: async () => ({ url: `redis://127.0.0.1:${(await freePorts(1))[0]}` }) },
    { title: "no Cluster", open: async () => ({ url: `redis-cluster://127.0.0.1:${(await freePorts(1))[0]}` }) },
    {
      title: "no Sentinel",
      open: async () => ({ url: `redis-sentinel://127.0.0.1:${(await freePorts(1))[0]}/mymaster` }),
    },
    { title: "no socket", open: async () => ({ url: `redis+unix://${join(await tempDir(), "redis.sock")}` }) },
    {
      title: "Sentinels without a primary",
      async open() {
        const set = await startSentinelSet({ replicas: 0 });
        await set.nodes[0]?.kill();
        return set;
      },
    },
    {
      title: "a Cluster without one of its masters",
      async open() {
        const cluster = await startCluster({ replicas: 0 });
        await cluster.nodes[0]?.kill();
        return cluster;
      },
    },
    {
      title: "a port that accepts and never answers",
      async open() {
        const server = createServer(() => undefined);
        const [port = 0] = await freePorts(1);
        await new Promise<void>((resolve) => server.listen(port, "127.0.0.1", resolve));
        return { url: `redis://127.0.0.1:${port}`, stop: async () => void server.close() };
      },
    },
  ];
  for (const { title, open } of absent) {
    test(`fault 50: ${title} is a ConnectionError within the time that connecting may take`, async () => {
      const { url, stop } = await open();
      try {
        const startedAt = performance.now();
        await expect(connect(url, { ...quiet, connectTimeoutMs: 1_000 })).rejects.toMatchObject({
          code: "CONNECTION",
          retryable: true,
        });
        expect(performance.now() - startedAt).toBeLessThan(5_000);
      } finally {
        await stop?.();
      }
    });
  }

  test("fault 50: a server that comes within that time is connected to, and an abort does not wait for it", async () => {
    const [port = 0] = await freePorts(1);
    const url = `redis://127.0.0.1:${port}`;
    const abort = new AbortController();
    const aborted = connect(url, { ...quiet, signal: abort.signal });
    const connecting = connect(url, quiet);
    await pause(300);
    abort.abort(new Error("no longer wanted"));
    await expect(aborted).rejects.toThrow("no longer wanted");
    await releasePort(port);
    const server = await startRedis({ port });
    try {
      await using broker = await connecting;
      expect(await broker.ping()).toBeGreaterThan(0);
    } finally {
      await server.stop();
    }
  });
});

describe.concurrent("errors that nobody listens to", { timeout: 60_000 }, () => {
  for (const facade of [...FACADES, "pubsub"]) {
    test(`fault 53: ${facade}: a program without any error listener survives its server's death, and goes on`, async () => {
      const server = await startRedis({ users: { app: "on >secret ~* &* +@all" } });
      const url = `redis://app:secret@127.0.0.1:${server.port}`;
      await using child = startProgram("careless", [url, facade]);
      try {
        await child.next((message) => "ready" in message, START_MS);
        child.send({ publish: "before" });
        await child.next(({ handled }) => handled === "before");
        await server.cli("CLIENT", "KILL", "USER", "app");
        await server.kill();
        child.send({ publish: "meanwhile" });
        await pause(1_000);
        await server.restart();
        await server.cli("ACL", "SETUSER", "app", "resetpass", ">another");
        await server.cli("CLIENT", "KILL", "USER", "app");
        await pause(500);
        await server.cli("ACL", "SETUSER", "app", ">secret");
        await child.next(({ published, refused }) => [published, refused].includes("meanwhile"), 20_000);
        // A refused login is tried again every two seconds; until then publishing is refused at once.
        const isBack = async (): Promise<boolean> => {
          child.send({ publish: "after" });
          await child.next(({ published, refused }) => [published, refused].includes("after"));
          return said(child, "handled").includes("after");
        };
        await until(isBack, { deadlineMs: RECOVERY_MS, everyMs: 200, what: "work to go on" });
        child.send({ close: true });
        await child.next((message) => "closed" in message);
        expect(await child.exited).toEqual({ code: 0, signal: null });
      } finally {
        await server.stop();
      }
    });
  }

  test("fault 53: an onError and a logger that throw take nothing with them", async () => {
    const system = await startStandalone({ appendonly: "always" });
    const boom = (): never => {
      throw new Error("boom");
    };
    const connect: ConnectOptions = {
      onError: boom,
      logger: { debug: () => undefined, info: boom, warn: boom, error: boom },
      durability: "fsync",
    };
    try {
      const inject = async (loads: readonly Load[]): Promise<void> => {
        await system.server.kill();
        await system.server.restart();
        await moreAcked(loads, 100);
      };
      await survive(system.url, inject, { connect, publishingUntil: "healed" });
    } finally {
      await system.stop();
    }
  });
});
