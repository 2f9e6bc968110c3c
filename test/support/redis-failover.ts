/** Taking a master away, in the three ways that masters go; the same for Cluster and Sentinel. */

import type { RedisServer } from "./redis-process.js";

export interface FailoverOptions {
  /** `"kill"` (default): SIGKILL. `"pause"`: SIGSTOP, so that the former master comes back unaware. `"command"`: orderly. */
  readonly by?: "kill" | "pause" | "command";
  /** For a new master to be agreed on; default 20,000. */
  readonly deadlineMs?: number;
}

export interface Failover {
  /** The former master, left dead or paused: `restart` or `resume` brings it back. */
  readonly former: RedisServer;
  readonly promoted: RedisServer;
  /** From taking the master away until everyone agreed on the new one. */
  readonly tookMs: number;
}

/** Takes `former` away as `options` say and waits for its successor. */
export async function deposed(
  former: RedisServer,
  options: FailoverOptions,
  system: { byCommand(): Promise<void>; successor(): Promise<RedisServer> },
): Promise<Failover> {
  const startedAt = performance.now();
  const { by = "kill" } = options;
  if (by === "kill") await former.kill();
  else if (by === "pause") former.pause();
  else await system.byCommand();
  const promoted = await system.successor();
  return { former, promoted, tookMs: Math.round(performance.now() - startedAt) };
}
