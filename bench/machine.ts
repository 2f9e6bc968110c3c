/** What the figures were measured on, and how much of it others were using meanwhile. */

import { cpus } from "node:os";
import type { RedisProbe } from "./redis-probe.js";

export interface Machine {
  readonly node: string;
  readonly redis: string | null;
  readonly cpu: string;
  readonly cores: number;
  readonly platform: string;
}

export function describeMachine(redis: RedisProbe | undefined): Machine {
  const all = cpus();
  return {
    node: process.version,
    redis: redis?.version ?? null,
    cpu: all[0]?.model.trim() ?? "unknown",
    cores: all.length,
    platform: `${process.platform}-${process.arch}`,
  };
}

/**
 * Starts watching; the result says how many cores' worth of CPU time all processes but this one and Redis have used
 * since. Beyond a tenth of a core only the ratios count.
 */
export async function watchOthers(redis: RedisProbe | undefined): Promise<() => Promise<number>> {
  const before = { at: performance.now(), busy: busyMs(), ours: await ourMs(redis) };
  return async () => {
    const others = busyMs() - before.busy - ((await ourMs(redis)) - before.ours);
    return Number(Math.max(0, others / (performance.now() - before.at)).toFixed(2));
  };
}

function busyMs(): number {
  return cpus().reduce((sum, { times }) => sum + times.user + times.nice + times.sys + times.irq, 0);
}

async function ourMs(redis: RedisProbe | undefined): Promise<number> {
  const { user, system } = process.cpuUsage();
  return (user + system + ((await redis?.cpuMicros()) ?? 0)) / 1_000;
}
