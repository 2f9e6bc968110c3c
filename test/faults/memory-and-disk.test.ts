/** Memory and disk run out: publishing is refused in time and by name, draining goes on, and nothing is evicted unseen. */

import { describe, expect, test } from "vitest";
import { type Broker, connect, type ConnectOptions, deadLetter } from "../../src/index.js";
import { silentLogger } from "../facades/support/lanes.js";
import { startCluster, startRedis, startSentinelSet } from "../support/redis-servers.js";
import { pause, until } from "../support/wait.js";
import { FACADES, type Facade, type Load } from "./support/load.js";
import { startStandalone } from "./support/systems.js";
import { survive } from "./support/survive.js";
import { createUnreliable } from "./support/unreliable.js";

const quiet: ConnectOptions = { logger: silentLogger, onError: () => undefined };

function publish(broker: Broker, facade: Facade, data: unknown): Promise<unknown> {
  return facade === "events" ? broker.events.publish("big", data) : broker.queue("big").publish(data);
}

describe.concurrent("memory and disk", { timeout: 60_000 }, () => {
  for (const facade of FACADES) {
    test(`fault 19: when memory is full ${facade} are refused as OutOfMemoryError, and draining goes on`, async () => {
      const server = await startRedis({ maxmemory: "6mb", maxmemoryPolicy: "noeviction" });
      const broker = await connect(server.url, quiet);
      try {
        const text = "x".repeat(10_000);
        const stored = new Set<number>();
        const fill = async (): Promise<unknown> => {
          for (let number = 0; number < 2_000; number += 1) {
            try {
              await publish(broker, facade, { number, text });
              stored.add(number);
            } catch (error) {
              return error;
            }
          }
          return undefined;
        };
        expect(await fill()).toMatchObject({ code: "OUT_OF_MEMORY", retryable: true });

        const handled = new Map<number, number>();
        // Each way to settle has to work: acknowledging, parking for a retry, and the dead letters.
        const handler = (data: unknown, { attempt }: { attempt: number }): unknown => {
          const { number } = data as { number: number };
          if (number % 10 === 1 && attempt === 1) throw new Error("once");
          handled.set(number, attempt);
          return number % 10 === 2 ? deadLetter("for the test") : undefined;
        };
        const options = { retry: { initialMs: 10 } };
        const queue = broker.queue("big");
        if (facade === "queue") await queue.subscribe(options, handler);
        else await broker.events.subscribe("big", { ...options, group: "g", from: "beginning" }, handler);
        await until(() => handled.size === stored.size, {
          deadlineMs: 15_000,
          what: "everything stored to be handled",
        });
        expect([...handled.keys()].every((number) => stored.has(number))).toBe(true);
        const dead = [...stored].filter((number) => number % 10 === 2).length;
        await until(async () => {
          const stats = facade === "queue" ? await queue.stats() : (await broker.events.stats("big")).groups[0];
          return stats?.dead === dead;
        });
        // A queue keeps nothing that is done; a stream keeps it for replays, as long as its limits say.
        if (facade === "queue") await publish(broker, facade, "small");
      } finally {
        await broker.close({ drainMs: 0 });
        await server.stop();
      }
    });
  }

  const evicting = { maxmemory: "50mb", "maxmemory-policy": "allkeys-lru" };
  test.each([
    ["a single Redis", async () => await startRedis({ config: evicting })],
    ["Sentinel", async () => await startSentinelSet({ config: evicting, replicas: 1 })],
    ["a Cluster", async () => await startCluster({ config: evicting, replicas: 0 })],
  ])("fault 20: %s that may evict messages is refused", async (_, start) => {
    const server = await start();
    try {
      await expect(connect(server.url, quiet)).rejects.toMatchObject({
        code: "CONFIG",
        message: expect.stringMatching(/allkeys-lru.*allowEviction/),
      });
    } finally {
      await server.stop();
    }
  });

  test("fault 20: a policy that is changed beneath a running broker is reported", async () => {
    const server = await startRedis();
    const reports: Error[] = [];
    const broker = await connect(server.url, { ...quiet, onError: (error) => void reports.push(error) });
    try {
      await server.cli("CONFIG", "SET", ...Object.entries(evicting).flat());
      await server.cli("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes");
      const isIt = ({ message }: Error): boolean => message.includes("allkeys-lru");
      await until(() => reports.some(isIt), { what: "the policy to be reported" });
      expect(reports.find(isIt)).toMatchObject({ code: "CONFIG" });
    } finally {
      await broker.close({ drainMs: 0 });
      await server.stop();
    }
  });

  test("fault 25: a full disk, for longer than a lease, stalls and loses nothing", async () => {
    const disk = await createUnreliable();
    const leaseMs = 2_000;
    const system = await startStandalone({ appendonly: "everysec", dir: disk.dir, env: disk.env });
    try {
      const inject = async (loads: readonly Load[]): Promise<void> => {
        disk.set({ diskFull: true });
        const refused = async (): Promise<boolean> =>
          await system.server.cli("SET", "probe", "1").then(
            () => false,
            (error: unknown) => String(error).includes("MISCONF"),
          );
        await until(refused, { what: "Redis to refuse writes" });
        await pause(leaseMs + 1_000);
        for (const { broker, reports } of loads) {
          expect(reports).toContainEqual(
            expect.objectContaining({ code: "CONNECTION", message: expect.stringContaining("MISCONF") }),
          );
          expect((await broker.health()).status).not.toBe("up");
        }
        disk.set({});
        await until(async () => !(await refused()), { what: "Redis to take writes" });
      };
      await survive(system.url, inject, { leaseMs, publishingUntil: "healed" });
    } finally {
      await system.stop();
      await disk.close();
    }
  });

  for (const facade of FACADES) {
    test(`fault 37: ${facade} with more than 1 MiB are refused here, and never sent`, async () => {
      const server = await startRedis();
      const broker = await connect(server.url, quiet);
      try {
        const most = 1_048_576;
        // The quotes count: what is measured is what would travel.
        await expect(publish(broker, facade, "x".repeat(most - 1))).rejects.toMatchObject({
          code: "LIMIT",
          retryable: false,
          message: expect.stringContaining("maxPayloadBytes"),
        });
        await expect(publish(broker, facade, new Uint8Array(most + 1))).rejects.toMatchObject({ code: "LIMIT" });
        expect(await server.cli("DBSIZE")).toBe(0);
        await publish(broker, facade, "x".repeat(most - 2));
        await publish(broker, facade, new Uint8Array(most));
        expect(await server.cli("INFO", "stats")).toContain("total_error_replies:");
        await expect(connect(server.url, { ...quiet, maxPayloadBytes: 512 * most + 1 })).rejects.toMatchObject({
          code: "CONFIG",
          message: expect.stringContaining("maxPayloadBytes"),
        });
      } finally {
        await broker.close({ drainMs: 0 });
        await server.stop();
      }
    });
  }
});
