/** One Redis, one fault each: nothing acknowledged is lost, nothing appears from nowhere, work goes on by itself. */

import { expect, test } from "vitest";
import { connect } from "../../src/index.js";
import { silentLogger } from "../facades/support/lanes.js";
import { runChild } from "../support/children.js";
import { type RedisOptions, type RedisServer, startRedis } from "../support/redis-servers.js";
import { until } from "../support/wait.js";
import { type Facade, type Load, startLoad, timeToProgress } from "./support/load.js";

/** From the moment that the server accepts writes again. */
const RECOVERY_MS = 5_000;
const FACADES: readonly Facade[] = ["events", "queue"];

interface Fault {
  readonly title: string;
  readonly server?: RedisOptions;
  /** Injects the fault and heals it: resolves once the server accepts writes again. */
  inject(server: RedisServer, load: Load): Promise<void>;
}

const faults: readonly Fault[] = [
  {
    title: "SIGKILL under load with appendfsync always, then a restart",
    server: { appendonly: "always" },
    async inject(server) {
      await server.kill();
      await server.restart();
    },
  },
  {
    title: "five seconds of SIGSTOP",
    async inject(server) {
      server.pause();
      await new Promise((resolve) => setTimeout(resolve, 5_000));
      server.resume();
      await until(async () => (await server.cli("PING")) === "PONG");
    },
  },
  {
    title: "CLIENT KILL of every connection, three times",
    async inject(server, load) {
      for (let times = 0; times < 3; times += 1) {
        await server.cli("CLIENT", "KILL", "SKIPME", "yes");
        await until(() => load.acked.size > 0);
      }
    },
  },
  {
    title: "SCRIPT FLUSH",
    async inject(server) {
      await server.cli("SCRIPT", "FLUSH", "SYNC");
    },
  },
];

for (const facade of FACADES) {
  for (const fault of faults) {
    test(`${facade} survive ${fault.title}`, async () => {
      const server = await startRedis(fault.server);
      const load = await startLoad(server.url, facade);
      try {
        await until(() => load.handled.size >= 200, { deadlineMs: 10_000 });
        await until(() => load.acked.size >= load.handled.size + 500, { deadlineMs: 10_000, what: "a backlog" });
        // Nothing is published after the fault: what is left has to move by itself.
        const stopped = load.stopPublishing();
        await fault.inject(server, load);
        expect(await timeToProgress(load, RECOVERY_MS)).toBeLessThan(RECOVERY_MS);
        await stopped;
        await load.assertNothingLost(30_000);
      } finally {
        await load.close();
        await server.stop();
      }
    }, 60_000);
  }

  test(`${facade}: when memory is full publishing is refused as OutOfMemoryError, and draining goes on`, async () => {
    const server = await startRedis({ maxmemory: "6mb", maxmemoryPolicy: "noeviction" });
    const broker = await connect(server.url, { logger: silentLogger });
    try {
      const payload = "x".repeat(10_000);
      const stored = new Set<number>();
      const publish = (number: number): Promise<unknown> =>
        facade === "events"
          ? broker.events.publish("big", { number, payload })
          : broker.queue("big").publish({ number, payload });
      const fill = async (): Promise<unknown> => {
        for (let number = 0; number < 2_000; number += 1) {
          try {
            await publish(number);
            stored.add(number);
          } catch (error) {
            return error;
          }
        }
        return undefined;
      };
      expect(await fill()).toMatchObject({ code: "OUT_OF_MEMORY", retryable: true });

      const handled = new Set<number>();
      let failedOnce = false;
      const handler = (data: unknown): void => {
        const { number } = data as { number: number };
        // A retry and its parking have to work as well.
        if (!failedOnce) {
          failedOnce = true;
          throw new Error("once");
        }
        handled.add(number);
      };
      const options = { retry: { initialMs: 10 } };
      if (facade === "events")
        await broker.events.subscribe("big", { ...options, group: "g", from: "beginning" }, handler);
      else await broker.queue("big").subscribe(options, handler);
      await until(() => handled.size === stored.size, { deadlineMs: 15_000, what: "everything stored to be handled" });
      expect([...handled].every((number) => stored.has(number))).toBe(true);
    } finally {
      await broker.close({ drainMs: 0 });
      await server.stop();
    }
  });

  test(`${facade}: what a consumer process held when it was killed is handled within lease + 5 s`, async () => {
    const server = await startRedis();
    const leaseMs = 1_000;
    const child = runChild(new URL("support/hanging-consumer.ts", import.meta.url), {
      args: [server.url, facade, String(leaseMs)],
    });
    const broker = await connect(server.url, { logger: silentLogger });
    try {
      const numbers = [1, 2, 3, 4, 5];
      if (facade === "events") await broker.events.publishMany("work", numbers);
      else await broker.queue("work").publishMany(numbers);
      for (const _ of numbers) await child.next((message) => "holds" in message);
      child.kill("SIGKILL");
      await child.exited;
      const killedAt = performance.now();

      const got: [unknown, number][] = [];
      const handler = (data: unknown, { attempt }: { attempt: number }): void => void got.push([data, attempt]);
      if (facade === "events")
        await broker.events.subscribe("work", { group: "g", from: "beginning", leaseMs }, handler);
      else await broker.queue("work").subscribe({ leaseMs }, handler);
      await until(() => got.length === numbers.length, { deadlineMs: leaseMs + RECOVERY_MS });
      expect(performance.now() - killedAt).toBeLessThan(leaseMs + RECOVERY_MS);
      // The attempt that died counts.
      expect(got.toSorted(([a], [b]) => Number(a) - Number(b))).toEqual(numbers.map((number) => [number, 2]));
    } finally {
      await broker.close({ drainMs: 0 });
      await child.stop();
      await server.stop();
    }
  });
}

test("a wrong password fails at once, typed, and without showing it", async () => {
  const server = await startRedis({ password: "right-horse" });
  try {
    const url = `redis://:wrong-horse@127.0.0.1:${server.port}`;
    const start = performance.now();
    const failure: unknown = await connect(url, { logger: silentLogger }).catch((error: unknown) => error);
    expect(failure).toMatchObject({ code: "AUTH", retryable: false });
    expect(String((failure as Error).stack)).not.toContain("wrong-horse");
    expect(performance.now() - start).toBeLessThan(2_000);
  } finally {
    await server.stop();
  }
});

test("no server: connect fails within its deadline, typed, and leaves nothing behind", async () => {
  const server = await startRedis();
  await server.kill();
  const start = performance.now();
  const failure = connect(server.url, { logger: silentLogger, connectTimeoutMs: 1_000 });
  await expect(failure).rejects.toMatchObject({ code: "CONNECTION", retryable: true });
  expect(performance.now() - start).toBeLessThan(4_000);
  await server.stop();
});
