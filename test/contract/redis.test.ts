/** The contract on a single Redis 7.0. */

import { afterAll, beforeAll } from "vitest";
import { type RedisServer, startRedis } from "../support/redis-servers.js";
import { defineParallelLane } from "./support/lane.js";
import { openRedisStore, standalone } from "./support/redis-store.js";

let server: RedisServer | undefined;
beforeAll(async () => {
  server = await startRedis();
});
afterAll(() => server?.stop());

defineParallelLane("[C1] [X8] redis", () => openRedisStore(standalone(server)));
