/** A Redis server of a test's own. */

import { join } from "node:path";
import { ensureRedisServer } from "./install.js";
import { freePort, tempDir } from "./process.js";
import { launchRedis, type RedisServer } from "./redis-process.js";

export interface RedisOptions {
  /** Path of the server; default Redis as the global setup found it. */
  readonly binary?: string;
  /** Default `"no"`: nothing is written to disk. */
  readonly appendonly?: "no" | "everysec" | "always";
  /** Such as `"2mb"`. */
  readonly maxmemory?: string;
  readonly maxmemoryPolicy?: string;
  /** Of the default user. */
  readonly password?: string;
  /** ACL rules by user name: `{ app: "on >secret ~bus:* +@all" }`. */
  readonly users?: Readonly<Record<string, string>>;
  /** Default one that is free, together with its cluster bus port. */
  readonly port?: number;
  /** An existing directory, which `stop` leaves in place; default a temporary one. */
  readonly dir?: string;
  /** Further directives; they win over the harness's own. */
  readonly config?: Readonly<Record<string, string>>;
  /** Listen on a Unix socket too. */
  readonly unixSocket?: boolean;
  /** Added to the process's environment, for preloaded libraries. */
  readonly env?: Readonly<Record<string, string>>;
}

/** Starts a server that persists nothing unless asked, and resolves when it answers. Takes about 60 ms. */
export async function startRedis(options: RedisOptions = {}): Promise<RedisServer> {
  const binary = options.binary ?? (await ensureRedisServer());
  for (let attempt = 1; ; attempt += 1) {
    const port = options.port ?? (await freePort());
    const dir = options.dir ?? (await tempDir());
    try {
      return await launchRedis({
        binary,
        mode: "server",
        port,
        dir,
        dirIsOurs: options.dir === undefined,
        lines: directives(options),
        password: options.password,
        guarded: options.password !== undefined || options.users !== undefined,
        socketPath: options.unixSocket === true ? join(dir, "redis.sock") : undefined,
        env: options.env,
      });
    } catch (error) {
      // A program outside this harness may take a port between our look at it and the server's.
      const taken = error instanceof Error && error.message.includes("Address already in use");
      if (!taken || options.port !== undefined || attempt === 3) throw error;
    }
  }
}

function directives(options: RedisOptions): string[] {
  const { appendonly = "no", maxmemory, maxmemoryPolicy, users = {}, config = {} } = options;
  const lines = [`appendonly ${appendonly === "no" ? "no" : "yes"}`];
  if (appendonly !== "no") lines.push(`appendfsync ${appendonly}`);
  if (maxmemory !== undefined) lines.push(`maxmemory ${maxmemory}`);
  if (maxmemoryPolicy !== undefined) lines.push(`maxmemory-policy ${maxmemoryPolicy}`);
  for (const [name, rules] of Object.entries(users)) lines.push(`user ${name} ${rules}`);
  for (const [name, value] of Object.entries(config)) lines.push(`${name} ${value}`);
  return lines;
}
