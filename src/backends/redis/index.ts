/** The Redis backend: standalone, Sentinel or Cluster behind the same ports. */

import type { Backend, BackendContext } from "../../core/backend.js";
import { ClosedError } from "../../core/errors.js";
import type { PortDependencies } from "./connection.js";
import { createLog } from "./log.js";
import { createMembership } from "./membership.js";
import { openConnections } from "./open.js";
import { createQueue } from "./queue.js";
import type { RedisOptions, RedisTarget } from "./target.js";

export type { RedisOptions, RedisTarget } from "./target.js";

/**
 * Connects to a Redis of version 7.0 or later.
 *
 * @throws {ConfigError | AuthError | ConnectionError} {@link openConnections}; nothing stays open then
 */
export async function openRedis(target: RedisTarget, options: RedisOptions, context: BackendContext): Promise<Backend> {
  const redis = await openConnections(target, options, context);
  const dependencies: PortDependencies = {
    connections: redis.connections,
    context,
    durability: options.durability,
    replicas: options.replicas,
    publishTimeoutMs: options.publishTimeoutMs,
  };
  const log = createLog(dependencies);
  const queue = createQueue(dependencies);
  let closing: Promise<void> | undefined;
  const membership = createMembership(dependencies, () => {
    if (closing !== undefined) throw new ClosedError("the Redis backend is closed");
  });
  return {
    name: "redis",
    durability: options.durability,
    broadcast: redis.broadcast,
    log,
    queue,
    membership,
    ping: redis.ping,
    check: redis.check,
    close() {
      closing ??= Promise.allSettled([log.close(), queue.close()]).then((results) => {
        redis.close();
        for (const result of results)
          if (result.status === "rejected") context.report(result.reason, "closing the redis backend");
      });
      return closing;
    },
  };
}
