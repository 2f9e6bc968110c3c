/** The same deaths, many times over: how rare a loss would have to be to go unseen. */

import { expect, test } from "vitest";
import type { Load } from "./support/load.js";
import { startStandalone } from "./support/systems.js";
import { moreAcked, survive } from "./support/survive.js";
import { createUnreliable } from "./support/unreliable.js";

const TIMES = 25;
const SERVER = { appendonly: "always", config: { "auto-aof-rewrite-percentage": "0" } } as const;

for (const { row, title, cut } of [
  { row: 1, title: "kills", cut: false },
  { row: 3, title: "power cuts", cut: true },
]) {
  test(`fault ${row}: ${TIMES} ${title} with appendfsync always lose nothing`, async () => {
    const disk = await createUnreliable();
    const system = await startStandalone({ ...SERVER, dir: disk.dir, env: disk.env });
    try {
      const inject = async (loads: readonly Load[]): Promise<void> => {
        for (let times = 0; times < TIMES; times += 1) {
          await moreAcked(loads, 300);
          await system.server.kill();
          if (cut) await disk.cutPower();
          await system.server.restart();
        }
      };
      const loads = await survive(system.url, inject, {
        connect: { durability: "fsync" },
        publishingUntil: "healed",
      });
      for (const { levels } of loads) expect([...levels]).toEqual(["fsync"]);
    } finally {
      await system.stop();
      await disk.close();
    }
  }, 300_000);
}
