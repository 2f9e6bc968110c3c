/** The server dies: what each level of durability keeps, and what it does not. */

import { readdir, stat, truncate } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import { connect } from "../../src/index.js";
import { silentLogger } from "../facades/support/lanes.js";
import { until } from "../support/wait.js";
import { connectionsSoFar } from "./support/clients.js";
import type { Load } from "./support/load.js";
import { startStandalone } from "./support/systems.js";
import { moreAcked, survive } from "./support/survive.js";
import { createUnreliable } from "./support/unreliable.js";

const config = { "auto-aof-rewrite-percentage": "0" };
const ALWAYS = { appendonly: "always", config } as const;
const EVERYSEC = { appendonly: "everysec", config } as const;
const FSYNC = { connect: { durability: "fsync" }, publishingUntil: "healed" } as const;

function lost(loads: readonly Load[]): number {
  return loads.reduce((sum, load) => sum + load.missing().length, 0);
}

test("[E26] fault 1: a Redis with appendfsync always that is killed under load loses nothing", async () => {
  const system = await startStandalone(ALWAYS);
  try {
    const inject = async (loads: readonly Load[]): Promise<void> => {
      for (let times = 0; times < 3; times += 1) {
        await moreAcked(loads, 200);
        await system.server.kill();
        await system.server.restart();
      }
    };
    for (const { levels } of await survive(system.url, inject, FSYNC)) expect([...levels]).toEqual(["fsync"]);
  } finally {
    await system.stop();
  }
});

test("fault 1: what a kill leaves half written in the append-only file never comes back beside what was published again", async () => {
  const { server, url, stop } = await startStandalone(ALWAYS);
  try {
    const broker = await connect(url, { logger: silentLogger, durability: "fsync" });
    const written = async (): Promise<number> => (await stat(await newestFile(server.dir))).size;
    await broker.events.publish("orders", 0);
    const before = await written();
    const lost = await broker.events.publishMany("orders", [1, 2, 3]);
    const after = await written();
    await server.kill();
    // As if the kill had come in the middle of the write.
    await truncate(await newestFile(server.dir), before + Math.ceil((after - before) / 2));
    await server.restart();
    expect((await broker.events.stats("orders")).length).toBe(1);
    await broker.events.publishMany("orders", [1, 2, 3]);
    await server.kill();
    await server.restart();
    expect((await broker.events.stats("orders")).length).toBe(1 + lost.length);
    await broker.close();
  } finally {
    await stop();
  }
});

async function newestFile(dir: string): Promise<string> {
  const files = await readdir(join(dir, "appendonlydir"));
  const file = files
    .filter((name) => name.endsWith(".incr.aof"))
    .sort()
    .at(-1);
  return join(dir, "appendonlydir", file ?? "none");
}

test("fault 2: with appendfsync everysec a kill may take what receipts called memory, and nothing may be called more", async () => {
  const disk = await createUnreliable();
  const system = await startStandalone({ ...EVERYSEC, dir: disk.dir, env: disk.env });
  try {
    await expect(connect(system.url, { durability: "fsync", logger: silentLogger })).rejects.toMatchObject({
      code: "CONFIG",
      message: expect.stringContaining("appendfsync"),
    });
    // While a sync is under way, Redis keeps what it has acknowledged to itself, for up to two seconds.
    disk.set({ syncDelayMs: 1_500 });
    const inject = async (loads: readonly Load[]): Promise<void> => {
      for (let times = 0; times < 3; times += 1) {
        await moreAcked(loads, 300);
        await system.server.kill();
        await system.server.restart();
      }
      disk.set({});
    };
    const loads = await survive(system.url, inject, { publishingUntil: "healed", mayLose: true });
    expect(lost(loads), "a rig that cannot lose anything proves nothing").toBeGreaterThan(0);
    for (const { levels } of loads) expect([...levels]).toEqual(["memory"]);
  } finally {
    await system.stop();
    await disk.close();
  }
});

for (const [appendfsync, server] of [
  ["always", ALWAYS],
  ["everysec", EVERYSEC],
] as const) {
  const title = {
    always: "a power cut takes what was not synced, and durability fsync had acknowledged none of it",
    everysec: "a power cut with appendfsync everysec takes what receipts called memory",
  }[appendfsync];
  test(`fault 3: ${title}`, async () => {
    const disk = await createUnreliable();
    const system = await startStandalone({ ...server, dir: disk.dir, env: disk.env });
    try {
      const inject = async (loads: readonly Load[]): Promise<void> => {
        for (let times = 0; times < 2; times += 1) {
          await moreAcked(loads, 300);
          await system.server.kill();
          await disk.cutPower();
          await system.server.restart();
        }
      };
      const isLossy = appendfsync === "everysec";
      const loads = await survive(system.url, inject, {
        publishingUntil: "healed",
        mayLose: isLossy,
        connect: { durability: isLossy ? "memory" : "fsync" },
      });
      // The loss with everysec shows that the rig does cut the power.
      if (isLossy) expect(lost(loads)).toBeGreaterThan(0);
      for (const { levels } of loads) expect([...levels]).toEqual([isLossy ? "memory" : "fsync"]);
    } finally {
      await system.stop();
      await disk.close();
    }
  });
}

test("fault 26: a Redis with appendfsync always that ends itself because its disk is full loses nothing", async () => {
  const disk = await createUnreliable();
  const system = await startStandalone({ ...ALWAYS, dir: disk.dir, env: disk.env });
  try {
    const inject = async (loads: readonly Load[]): Promise<void> => {
      await moreAcked(loads, 200);
      disk.set({ diskFull: true });
      await until(() => system.server.state === "down", { deadlineMs: 10_000, what: "Redis to give up" });
      disk.set({});
      await system.server.restart();
    };
    await survive(system.url, inject, FSYNC);
    expect(system.server.log()).toContain("No space left on device");
  } finally {
    await system.stop();
    await disk.close();
  }
});

test("fault 27: while Redis loads its data after a restart everybody waits, without a storm of errors or connections", async () => {
  const system = await startStandalone({
    ...ALWAYS,
    // A pause before each command of the file, and a look at the clients now and then.
    config: { ...config, "key-load-delay": "1000", "loading-process-events-interval-bytes": "1024" },
  });
  try {
    const inject = async (loads: readonly Load[]): Promise<void> => {
      await moreAcked(loads, 500);
      const failed = loads.map((load) => load.failures.length);
      await system.server.kill();
      await system.server.restart({ awaiting: "nothing" });
      const isLoading = async (): Promise<boolean> =>
        await system.server.cli("PING").then(
          () => false,
          (error: unknown) => String(error).includes("LOADING"),
        );
      await until(isLoading, { what: "Redis to load" });
      const startedAt = performance.now();
      await until(async () => (await system.server.cli("PING")) === "PONG", {
        deadlineMs: 15_000,
        what: "Redis to have loaded",
      });
      expect(performance.now() - startedAt, "a moment of loading proves nothing").toBeGreaterThan(500);
      expect(await connectionsSoFar(system.server)).toBeLessThan(40);
      // What was published meanwhile has waited, it was not refused.
      expect(loads.map((load) => load.failures.length)).toEqual(failed);
    };
    const loads = await survive(system.url, inject, FSYNC);
    for (const { reports } of loads) expect(reports.length, reports.map(String).join("; ")).toBeLessThan(12);
  } finally {
    await system.stop();
  }
});
