/** Vitest's global setup: makes the servers and runtimes of the tests available before the first test file. */

import { binaryVariables, ensureNode24, ensureRedisServer, ensureValkey } from "./install.js";

/** Installs what is missing, all at once, and tells the test processes through their environment. */
export async function setup(): Promise<void> {
  const [redis, valkey, node24] = await Promise.all([ensureRedisServer(), ensureValkey(), ensureNode24()]);
  process.env[binaryVariables.redis] = redis;
  process.env[binaryVariables.valkey] = valkey ?? "off";
  process.env[binaryVariables.node24] = node24 ?? "off";
}
