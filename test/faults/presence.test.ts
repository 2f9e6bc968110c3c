/** Presence when processes, servers and clocks fail: who dies leaves once and in time, who lives stays or comes back. */

import { rm } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { connect } from "../../src/index.js";
import { silentLogger } from "../facades/support/lanes.js";
import { tempDir } from "../support/process.js";
import { pause, until } from "../support/wait.js";
import { Crowd, GONE_MS, HEAL_MS, LEASE_MS } from "./support/crowd.js";
import { START_MS, startProgram } from "./support/programs.js";
import { startStandalone } from "./support/systems.js";
import { createUnreliable } from "./support/unreliable.js";

const HOUR_S = 3_600;

function idsOf(prefix: string, count: number): string[] {
  return Array.from({ length: count }, (_, index) => `${prefix}${index}`);
}

/** A process that has entered so many members. */
async function startPresent(url: string, prefix: string, count: number, env: Readonly<Record<string, string>> = {}) {
  const child = startProgram("present", [url, LEASE_MS, prefix, count], env);
  const { now } = await child.next((message) => "ready" in message, START_MS);
  return { child, now: Number(now) };
}

const STORES: Readonly<Record<string, () => Promise<{ url: string; stop(): Promise<unknown> }>>> = {
  SQLite: async () => {
    const dir = await tempDir();
    return {
      url: `sqlite:${join(dir, "messages.db")}`,
      stop: () => rm(dir, { recursive: true, force: true }),
    };
  },
  Redis: () => startStandalone(),
};

// Mostly they wait for leases; those that start processes lie apart from each other.
describe.concurrent("presence", { timeout: 60_000 }, () => {
  for (const [name, start] of Object.entries(STORES)) {
    test(`[D19] a process that is killed leaves once, in everybody's view, within its lease and two seconds, on ${name}`, async () => {
      const { url, stop } = await start();
      try {
        await using crowd = await Crowd.gather(url);
        const processes = await Promise.all(["a", "b"].map((prefix) => startPresent(url, `${prefix}-`, 30)));
        const ids = ["a", "b"].flatMap((prefix) => idsOf(`${prefix}-`, 30));
        await crowd.untilWhole(HEAL_MS, ids);
        for (const { child } of processes) child.kill("SIGKILL");
        const killedAt = performance.now();
        await crowd.untilLeft(ids, GONE_MS + 1_000);
        // A busy machine takes its time to see.
        expect(performance.now() - killedAt).toBeLessThan(GONE_MS + 500);
        await pause(1_000);
        await crowd.untilLeft(ids, 1);
        expect(crowd.leavers()).toEqual([]);
      } finally {
        await stop();
      }
    });
  }

  test("fault 4: a Redis that stands still for longer than the lease makes nobody leave", async () => {
    const { url, server, stop } = await startStandalone();
    try {
      await using crowd = await Crowd.gather(url, { commandTimeoutMs: 1_000 });
      server.pause();
      await pause(LEASE_MS * 2);
      server.resume();
      await crowd.untilWhole();
      await pause(3_000);
      await crowd.untilWhole();
      expect(crowd.leavers()).toEqual([]);
      // And who dies afterwards leaves as ever.
      const { child } = await startPresent(url, "a-", 3);
      await crowd.untilWhole(HEAL_MS, idsOf("a-", 3));
      child.kill("SIGKILL");
      await crowd.untilLeft(idsOf("a-", 3), GONE_MS + 1_000);
    } finally {
      await stop();
    }
  });

  test("a connection that drops makes nobody leave, and what was missed meanwhile is told", async () => {
    const { url, server, stop } = await startStandalone();
    try {
      await using crowd = await Crowd.gather(url);
      for (let times = 0; times < 5; times += 1) {
        const entering = crowd.brokers[0]!.presence("lobby").enter(`extra-${times}`);
        for (const type of ["normal", "pubsub"]) await server.cli("CLIENT", "KILL", "TYPE", type);
        await entering;
        await pause(200);
      }
      await crowd.untilWhole(HEAL_MS, idsOf("extra-", 5));
      expect(crowd.leavers()).toEqual([]);
      for (const { seen } of crowd.watchers) expect(seen.filter((text) => text.startsWith("joined "))).toHaveLength(5);
    } finally {
      await stop();
    }
  });

  test("fault 21: after FLUSHALL everybody is entered again within five seconds, and it is reported", async () => {
    const { url, server, stop } = await startStandalone();
    try {
      await using crowd = await Crowd.gather(url);
      await server.cli("FLUSHALL");
      const lost = await connect(url, { logger: silentLogger });
      expect(await lost.presence("lobby").count()).toBeLessThan(15);
      await lost.close();
      await until(() => crowd.reports.length >= 3, { deadlineMs: HEAL_MS, what: "each broker to have noticed" });
      await crowd.untilWhole();
      expect(crowd.reports.map((error) => (error as { code?: unknown }).code)).toEqual(Array(3).fill("LEASE_LOST"));
      const { child } = await startPresent(url, "a-", 3);
      await crowd.untilWhole(HEAL_MS, idsOf("a-", 3));
      child.kill("SIGKILL");
      await crowd.untilLeft(idsOf("a-", 3), GONE_MS + 1_000);
    } finally {
      await stop();
    }
  });

  test("fault 1: a Redis that keeps nothing on disk and is killed has everybody entered again once it is back", async () => {
    const { url, server, stop } = await startStandalone();
    try {
      await using crowd = await Crowd.gather(url);
      await server.kill();
      await pause(1_000);
      await server.restart();
      await crowd.untilWhole();
    } finally {
      await stop();
    }
  });

  for (const [name, start] of Object.entries(STORES)) {
    test(`a process that is stopped for longer than its lease leaves once, and comes back when it goes on, on ${name}`, async () => {
      const { url, stop } = await start();
      try {
        await using crowd = await Crowd.gather(url);
        const { child } = await startPresent(url, "a-", 3);
        await crowd.untilWhole(HEAL_MS, idsOf("a-", 3));
        child.kill("SIGSTOP");
        await crowd.untilLeft(idsOf("a-", 3), GONE_MS + 1_000);
        child.kill("SIGCONT");
        await crowd.untilWhole(HEAL_MS, idsOf("a-", 3));
        child.send({ close: true });
        await child.exited;
        await crowd.untilWhole(HEAL_MS);
        expect(crowd.leavers()).toEqual([]);
      } finally {
        await stop();
      }
    });
  }

  test("what a reaper took away before it died, and told nobody, is found, told once, and the rest is reaped by others", async () => {
    const { url, server, stop } = await startStandalone();
    try {
      await using crowd = await Crowd.gather(url);
      const ids = idsOf("a-", 5_000);
      const { child } = await startPresent(url, "a-", ids.length);
      await crowd.untilWhole(HEAL_MS, ids);
      const reaper = startProgram("half-reaper", [server.port]);
      await reaper.next((message) => "ready" in message, START_MS);
      child.kill("SIGKILL");
      const { reaped, isDone } = await reaper.next((message) => "reaped" in message, GONE_MS);
      expect([Number(reaped) > 0 && Number(reaped) <= 1_000, isDone]).toEqual([true, false]);
      await reaper.exited;
      await crowd.untilLeft(ids, HEAL_MS);
      await crowd.untilWhole();
      expect(crowd.leavers()).toEqual([]);
    } finally {
      await stop();
    }
  });

  test("fault 31: Redis's clock jumps by an hour forth and back: nobody leaves who lives, and who dies leaves in time", async () => {
    const unreliable = await createUnreliable();
    const { url, stop } = await startStandalone({ env: unreliable.env });
    try {
      await using crowd = await Crowd.gather(url);
      for (const clockOffsetSeconds of [HOUR_S, 0, -HOUR_S, 0]) {
        const prefix = `at${clockOffsetSeconds}-`;
        const isDying = clockOffsetSeconds !== 0;
        const before = isDying ? await startPresent(url, `before-${prefix}`, 3) : undefined;
        await crowd.untilWhole(HEAL_MS, isDying ? idsOf(`before-${prefix}`, 3) : []);
        before?.child.kill("SIGKILL");
        unreliable.set({ clockOffsetSeconds });
        // Who died right before leaves in time as well.
        await crowd.untilWhole(GONE_MS + 1_000);
        if (!isDying) continue;
        const { child } = await startPresent(url, prefix, 3);
        await crowd.untilWhole(HEAL_MS, idsOf(prefix, 3));
        child.kill("SIGKILL");
        await crowd.untilWhole(GONE_MS + 1_000);
      }
      expect(crowd.leavers()).toEqual([]);
    } finally {
      await stop();
      await unreliable.close();
    }
  });

  for (const seconds of [-HOUR_S, HOUR_S]) {
    const title = seconds < 0 ? "an hour behind" : "an hour ahead";
    test(`[D19] fault 31: a process whose clock is ${title} is present like any other, by the server's clock`, async () => {
      const unreliable = await createUnreliable();
      const { url, stop } = await startStandalone();
      try {
        unreliable.set({ clockOffsetSeconds: seconds });
        await using crowd = await Crowd.gather(url);
        const before = Date.now();
        const { child, now } = await startPresent(url, "a-", 3, unreliable.env);
        expect(Math.abs(now - Date.now())).toBeGreaterThan(HOUR_S * 900);
        await crowd.untilWhole(HEAL_MS, idsOf("a-", 3));
        const ada = crowd.watchers[0]!.present.get("a-0");
        expect(ada?.joinedAt).toBeGreaterThanOrEqual(before - 5);
        expect(ada?.lastSeen).toBeLessThanOrEqual(Date.now());
        // Longer than a lease: neither is taken for dead by the other.
        await pause(LEASE_MS + 1_500);
        await crowd.untilWhole(HEAL_MS, idsOf("a-", 3));
        child.kill("SIGKILL");
        await crowd.untilLeft(idsOf("a-", 3), GONE_MS + 1_000);
        expect(crowd.leavers()).toEqual([]);
      } finally {
        await stop();
        await unreliable.close();
      }
    });
  }
});
