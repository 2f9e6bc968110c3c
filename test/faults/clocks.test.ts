/** Clocks that jump by an hour, back and forth: nothing is lost, and no client's clock decides about a lease. */

import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { connect, type Context } from "../../src/index.js";
import { silentLogger } from "../facades/support/lanes.js";
import { tempDir } from "../support/process.js";
import { startRedis } from "../support/redis-servers.js";
import { pause, until } from "../support/wait.js";
import { createJumpingClock, HOUR_S } from "./support/clocks.js";
import { FACADES, type Load } from "./support/load.js";
import { START_MS, startProgram } from "./support/programs.js";
import { startStandalone } from "./support/systems.js";
import { moreAcked, survive } from "./support/survive.js";
import { createUnreliable } from "./support/unreliable.js";

const JUMPS = [HOUR_S, 0, -HOUR_S, 0];

describe.concurrent("clocks", { timeout: 60_000 }, () => {
  test("fault 31: Redis's clock jumps by an hour forth and back, under load", async () => {
    const unreliable = await createUnreliable();
    const { server, url, stop } = await startStandalone({ env: unreliable.env });
    try {
      const inject = async (loads: readonly Load[]): Promise<void> => {
        const before = Number(((await server.cli("TIME")) as string[])[0]);
        for (const clockOffsetSeconds of JUMPS) {
          unreliable.set({ clockOffsetSeconds });
          await moreAcked(loads, 200);
        }
        unreliable.set({ clockOffsetSeconds: HOUR_S });
        expect(Number(((await server.cli("TIME")) as string[])[0]) - before).toBeGreaterThanOrEqual(HOUR_S);
      };
      await survive(url, inject, { publishingUntil: "healed" });
    } finally {
      await stop();
      await unreliable.close();
    }
  });

  for (const seconds of [-HOUR_S, HOUR_S]) {
    const title = seconds < 0 ? "an hour ago" : "in an hour";
    test(`fault 31: Redis is killed and comes back ${title}`, async () => {
      const unreliable = await createUnreliable();
      const { dir, env } = unreliable;
      const { server, url, stop } = await startStandalone({ appendonly: "always", dir, env });
      try {
        const inject = async (loads: readonly Load[]): Promise<void> => {
          await server.kill();
          unreliable.set({ clockOffsetSeconds: seconds });
          await server.restart();
          await moreAcked(loads, 200);
        };
        // What became of a batch is remembered for ten minutes, and an hour has passed for the server.
        const mayDouble = seconds > 0;
        await survive(url, inject, { connect: { durability: "fsync" }, publishingUntil: "healed", mayDouble });
      } finally {
        await stop();
        await unreliable.close();
      }
    });
  }

  const urls: Readonly<Record<string, () => Promise<{ url: string; stop?: () => Promise<void> }>>> = {
    memory: async () => ({ url: "memory:" }),
    SQLite: async () => ({ url: `sqlite:${join(await tempDir(), "messages.db")}` }),
    Redis: () => startStandalone(),
  };
  for (const [name, start] of Object.entries(urls)) {
    test(`fault 31: the clock of this process jumps by an hour forth and back, on ${name}`, async () => {
      const { url, stop } = await start();
      const clock = createJumpingClock();
      try {
        const inject = async (loads: readonly Load[]): Promise<void> => {
          for (const seconds of JUMPS) {
            clock.offsetSeconds = seconds;
            await moreAcked(loads, 200);
          }
        };
        await survive(url, inject, { connect: { clock }, publishingUntil: "healed" });
      } finally {
        await stop?.();
      }
    });
  }

  for (const facade of FACADES) {
    for (const seconds of [-HOUR_S, HOUR_S]) {
      const title = seconds < 0 ? "an hour behind" : "an hour ahead";
      test(`fault 31: a process whose clock is ${title} takes nothing from others, ${facade}`, async () => {
        const server = await startRedis();
        const unreliable = await createUnreliable();
        unreliable.set({ clockOffsetSeconds: seconds });
        const leaseMs = 1_000;
        const broker = await connect(server.url, { logger: silentLogger });
        const child = startProgram("neighbour", [server.url, facade, leaseMs], unreliable.env);
        try {
          const numbers = Array.from({ length: 20 }, (_, number) => number);
          const handled: [unknown, number][] = [];
          // Slower than a lease, which is renewed meanwhile.
          const handler = async (data: unknown, { attempt }: Context): Promise<void> => {
            await pause(2 * leaseMs);
            handled.push([data, attempt]);
          };
          if (facade === "events") {
            await broker.events.publishMany("work", numbers);
            await broker.events.subscribe("work", { group: "g", from: "beginning", leaseMs }, handler);
          } else {
            await broker.queue("work").publishMany(numbers);
            await broker.queue("work").subscribe({ leaseMs }, handler);
          }
          const { now } = await child.next((message) => "ready" in message, START_MS);
          expect(Math.abs(Number(now) - Date.now())).toBeGreaterThan(HOUR_S * 900);
          const elsewhere = () => child.messages.filter((message) => "handled" in message);
          await until(() => handled.length + elsewhere().length >= numbers.length, { deadlineMs: 15_000 });
          await until(() => handled.length >= 10, { what: "what was held here to be finished here" });
          const all = [...handled, ...elsewhere().map(({ handled, attempt }) => [handled, Number(attempt)] as const)];
          // Each once, in its first attempt.
          expect(all.toSorted(([a], [b]) => Number(a) - Number(b))).toEqual(numbers.map((number) => [number, 1]));
        } finally {
          await child.stop();
          await broker.close({ drainMs: 0 });
          await server.stop();
          await unreliable.close();
        }
      });
    }
  }
});
