/** Scripts: the server forgets ours, or is held up by somebody else's. */

import { describe, expect, test } from "vitest";
import { connect } from "../../src/index.js";
import { silentLogger } from "../facades/support/lanes.js";
import { redisCli } from "../support/redis-cli.js";
import type { RedisServer } from "../support/redis-servers.js";
import { pause, until } from "../support/wait.js";
import type { Load } from "./support/load.js";
import { startMasters, startStandalone, type System } from "./support/systems.js";
import { moreAcked, survive } from "./support/survive.js";

/** Calls of a command. */
async function callsOf(server: RedisServer, command: string): Promise<number> {
  const stats = String(await server.cli("INFO", "commandstats"));
  return Number(new RegExp(`cmdstat_${command}:calls=(\\d+)`).exec(stats)?.[1] ?? 0);
}

/** The share of a command's calls that took up to about 4 ms. */
async function shareOfQuick(server: RedisServer, command: string): Promise<number> {
  const [, details] = (await server.cli("LATENCY", "HISTOGRAM", command)) as [string, unknown[]];
  const calls = Number(details[1]);
  const buckets = details[3] as number[];
  // Pairs of an upper bound in microseconds and how many were below it; the bounds double.
  const below = buckets.flatMap((value, index) => (index % 2 === 0 && value < 5_000 ? [buckets[index + 1] ?? 0] : []));
  return Math.max(0, ...below) / calls;
}

/** What the thread that runs scripts has used so far. */
async function processorMs(server: RedisServer): Promise<number> {
  const info = String(await server.cli("INFO", "cpu"));
  const seconds = (name: string): number =>
    Number(new RegExp(`used_cpu_${name}_main_thread:([\\d.]+)`).exec(info)?.[1]);
  return (seconds("user") + seconds("sys")) * 1_000;
}

const SYSTEMS: Readonly<Record<string, () => Promise<System>>> = {
  "a single Redis": () => startStandalone(),
  "a Cluster": () => startMasters({ replicas: 0 }),
};

describe.concurrent("scripts", { timeout: 60_000 }, () => {
  for (const [title, start] of Object.entries(SYSTEMS)) {
    test(`fault 23: SCRIPT FLUSH on ${title} costs one EVAL for each call under way, and nothing else`, async () => {
      const { url, nodes, stop } = await start();
      const FLUSHES = 5;
      const all = async (command: string): Promise<number> => {
        const counts = await Promise.all(nodes.map((node) => callsOf(node, command)));
        return counts.reduce((sum, count) => sum + count, 0);
      };
      try {
        const inject = async (loads: readonly Load[]): Promise<void> => {
          await Promise.all(nodes.map((node) => node.cli("CONFIG", "RESETSTAT")));
          for (let times = 0; times < FLUSHES; times += 1) {
            await Promise.all(nodes.map((node) => node.cli("SCRIPT", "FLUSH", "SYNC")));
            await moreAcked(loads, 100);
          }
        };
        const loads = await survive(url, inject, { publishingUntil: "healed" });
        for (const { failures, reports } of loads) expect([...failures, ...reports]).toEqual([]);
        // Two facades with a handful of scripts, each with up to four batches under way.
        expect(await all("eval")).toBeLessThanOrEqual(FLUSHES * 24);
        expect(await all("evalsha")).toBeGreaterThan(await all("eval"));
      } finally {
        await stop();
      }
    });
  }

  test("fault 24: somebody's endless script makes calls end as BUSY, and all goes on once it is killed", async () => {
    const { server, url, stop } = await startStandalone({ config: { "busy-reply-threshold": "100" } });
    const beside = redisCli(server.port, { asHarness: false });
    await beside.send("PING"); // whoever connects later is told that the server is busy
    try {
      await survive(url, async (loads) => {
        const looping = server.cli("EVAL", "while true do end", 0).catch((error: unknown) => String(error));
        await pause(300);
        const [load = expect.fail()] = loads;
        await expect(load.broker.ping()).rejects.toMatchObject({
          code: "CONNECTION",
          retryable: true,
          message: expect.stringContaining("BUSY"),
        });
        expect((await load.broker.health()).status).not.toBe("up");
        await beside.send("SCRIPT", "KILL");
        expect(await looping).toContain("killed");
      });
    } finally {
      beside.drop();
      await stop();
    }
  });

  test("fault 24: a script that has written cannot be killed, and with the server goes nothing that was synced", async () => {
    const { server, url, stop } = await startStandalone({
      appendonly: "always",
      config: { "busy-reply-threshold": "100" },
    });
    const beside = redisCli(server.port, { asHarness: false });
    await beside.send("PING"); // whoever connects later is told that the server is busy
    try {
      await survive(
        url,
        async () => {
          const script = "redis.call('SET', KEYS[1], '1') while true do end";
          const looping = server.cli("EVAL", script, 1, "written").catch(() => undefined);
          await until(() => beside.send("SCRIPT", "KILL").then(() => false, isUnkillable), { what: "UNKILLABLE" });
          await server.kill();
          await looping;
          await server.restart();
        },
        { connect: { durability: "fsync" } },
      );
    } finally {
      beside.drop();
      await stop();
    }
  });

  test("fault 24: scripts of the library hold the server for less than 5 ms, also with full batches and many consumers", async () => {
    const { server, url, stop } = await startStandalone();
    const broker = await connect(url, { logger: silentLogger });
    const numbers = Array.from({ length: 10_000 }, (_, number) => ({ number, text: "x".repeat(100) }));
    let handled = 0;
    const handler = (): void => void (handled += 1);
    try {
      await broker.events.publishMany("many", numbers);
      await broker.queue("many").publishMany(numbers);
      await broker.events.subscribe("many", { group: "g", from: "beginning", concurrency: 2_000 }, handler);
      await broker.queue("many").subscribe({ concurrency: 2_000 }, handler);
      await until(() => handled === 2 * numbers.length, { deadlineMs: 15_000, what: "all to be handled" });
      const calls = await callsOf(server, "evalsha");
      expect(calls).toBeGreaterThan(50);
      // Redis times a script by the clock, with whatever else the machine was busy with: most are quick all the same, and
      // the processor's time for all that it did is less than that for each.
      expect(await shareOfQuick(server, "evalsha")).toBeGreaterThan(0.5);
      expect((await processorMs(server)) / calls).toBeLessThan(5);
    } finally {
      await broker.close({ drainMs: 0 });
      await stop();
    }
  });
});

function isUnkillable(error: unknown): boolean {
  return String(error).includes("UNKILLABLE");
}
