/** The contract on Valkey, where it can be had. */

import { afterAll, beforeAll, expect, test } from "vitest";
import { testBinaries } from "../support/install.js";
import { type RedisServer, startRedis } from "../support/redis-servers.js";
import { defineParallelLane } from "./support/lane.js";
import { openRedisStore, standalone } from "./support/redis-store.js";

const { valkey: binary } = testBinaries();
let server: RedisServer | undefined;

beforeAll(async () => {
  if (binary === undefined) console.warn("!! The contract does NOT run on Valkey: see the start of this run for why.");
  else server = await startRedis({ binary });
});
afterAll(() => server?.stop());

test.skipIf(binary === undefined)("there is a Valkey 8 to run the contract on", async () => {
  expect(String(await server?.cli("INFO", "server"))).toContain("valkey_version:8.");
});

if (binary !== undefined) defineParallelLane("[C1] [X8] valkey", () => openRedisStore(standalone(server)));
