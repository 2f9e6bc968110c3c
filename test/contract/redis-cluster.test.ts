/** The contract on a Redis Cluster of three masters, each with a replica. */

import { afterAll, beforeAll } from "vitest";
import { type RedisCluster, startCluster } from "../support/redis-servers.js";
import { defineParallelLane } from "./support/lane.js";
import { cluster, openRedisStore } from "./support/redis-store.js";

let servers: RedisCluster | undefined;
beforeAll(async () => {
  servers = await startCluster();
});
afterAll(() => servers?.stop());

defineParallelLane("[C1] [X8] redis cluster", () => openRedisStore(cluster(servers)));
