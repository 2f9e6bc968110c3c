/** The contract on a Redis that Sentinels watch, each write waiting for one of two replicas. */

import { afterAll, beforeAll } from "vitest";
import { type SentinelSet, startSentinelSet } from "../support/redis-servers.js";
import { defineParallelLane } from "./support/lane.js";
import { openRedisStore, watched } from "./support/redis-store.js";

let servers: SentinelSet | undefined;
beforeAll(async () => {
  servers = await startSentinelSet();
});
afterAll(() => servers?.stop());

defineParallelLane("[C1] [X8] redis sentinel", () => openRedisStore(watched(servers)));
