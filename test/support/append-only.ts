/** Mending the append-only file of a Redis that died, as docs/guides/redis.md tells its operators. */

import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { join } from "node:path";

/**
 * Cuts off what was left half written. Redis itself would cut within a transaction, and at its next start complete it with
 * the one behind it.
 *
 * @param binary the server's, which is the tool as well when it is called by its name
 * @param dir the server's
 * @throws {Error} with what the tool said, when it could not
 */
export async function mendAppendOnlyFile(binary: string, dir: string): Promise<void> {
  const manifest = join(dir, "appendonlydir", "appendonly.aof.manifest");
  if (!existsSync(manifest)) return;
  const tool = spawn(binary, ["--fix", manifest], { argv0: "redis-check-aof", stdio: ["pipe", "pipe", "pipe"] });
  let said = "";
  for (const output of [tool.stdout, tool.stderr]) output.setEncoding("utf8").on("data", (text) => (said += text));
  // It may be through before it has asked.
  tool.stdin.on("error", () => undefined).end("y\n");
  const [code] = await once(tool, "close");
  if (code !== 0) throw new Error(`redis-check-aof ended with ${code}, saying: ${said.slice(-2_000)}`);
}
