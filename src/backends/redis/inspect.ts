/** Looks at a server's settings before anything is entrusted to it. */

import { AuthError } from "../../core/errors.js";
import type { Arg, Reply } from "./connection.js";
import { RedisReplyError } from "./errors.js";
import { parseInfo } from "./info.js";
import type { RedisOptions } from "./target.js";

/** Streams with XAUTOCLAIM's list of deleted entries, script flags and more: 7.0. */
const LOWEST_MAJOR = 7;

export interface Findings {
  /** Why the server cannot be used with these options. */
  readonly problems: readonly string[];
  /** What the operator should know. */
  readonly warnings: readonly string[];
}

export type Ask = (args: readonly Arg[]) => Promise<Reply>;

/** @throws {AuthError} when the user may not use INFO, without which nothing can be checked */
export async function inspect(ask: Ask, name: string, options: RedisOptions): Promise<Findings> {
  const info = parseInfo(await ask(["INFO"]));
  const version = info.get("redis_version") ?? "unknown";
  const problems: string[] = [];
  const warnings: string[] = [];
  if (!(Number.parseInt(version, 10) >= LOWEST_MAJOR))
    problems.push(`Redis at ${name} is version ${version}: signalbox needs Redis 7.0 or later, or Valkey`);
  inspectEviction(info, name, options, problems, warnings);
  if (options.durability === "fsync") await inspectFsync(ask, info, name, options, problems);
  if (options.durability === "replicated") {
    const connected = Number(info.get("connected_slaves") ?? 0);
    if (connected < options.replicas)
      problems.push(
        `Redis at ${name} has ${connected} connected replicas: durability "replicated" with replicas ${options.replicas} needs at least as many`,
      );
  }
  return { problems, warnings };
}

function inspectEviction(
  info: ReadonlyMap<string, string>,
  name: string,
  options: RedisOptions,
  problems: string[],
  warnings: string[],
): void {
  const policy = info.get("maxmemory_policy") ?? "noeviction";
  // volatile-* policies take keys with an expiry only, which no message has.
  if (!policy.startsWith("allkeys-") || options.allowEviction !== undefined) return;
  const advice = `set it to noeviction, or accept the loss with allowEviction: "yes, lose messages"`;
  if (Number(info.get("maxmemory") ?? 0) > 0)
    problems.push(
      `Redis at ${name} has maxmemory-policy ${policy}, which deletes messages under memory pressure: ${advice}`,
    );
  else
    warnings.push(
      `Redis at ${name} has maxmemory-policy ${policy}, which will delete messages once maxmemory is set: ${advice}`,
    );
}

async function inspectFsync(
  ask: Ask,
  info: ReadonlyMap<string, string>,
  name: string,
  options: RedisOptions,
  problems: string[],
): Promise<void> {
  const wanted = `durability "fsync" needs appendonly yes and appendfsync always`;
  if (info.get("aof_enabled") === "0") {
    problems.push(`Redis at ${name} has appendonly no: ${wanted}`);
    return;
  }
  let reply: Reply;
  try {
    reply = await ask(["CONFIG", "GET", "appendfsync"]);
  } catch (error) {
    // The ACL forbids it, or a managed service has taken it away.
    if (!(error instanceof AuthError || error instanceof RedisReplyError)) throw error;
    if (options.assertAppendFsync !== "always")
      problems.push(
        `Redis at ${name} does not let this user read appendfsync: ${wanted}; if it is so, say assertAppendFsync: "always"`,
      );
    return;
  }
  const value = Array.isArray(reply) ? String(reply[1]) : "unknown";
  if (value !== "always") problems.push(`Redis at ${name} has appendfsync ${value}: ${wanted}`);
}
