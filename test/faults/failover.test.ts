/** Sentinel and Cluster: the primary dies under load; its replica takes over, and the work goes on without a new publish. */

import { expect, test } from "vitest";
import { logKeys, queueKeys } from "../../src/backends/redis/keys.js";
import { startCluster, startSentinelSet } from "../support/redis-servers.js";
import { until } from "../support/wait.js";
import { type Facade, startLoad, timeToProgress } from "./support/load.js";

/** From the moment that a primary accepts writes again. */
const RECOVERY_MS = 5_000;
/** Slow enough that publishing, which waits for replicas, is ahead of the handlers when the primary dies. */
const SLOW_MS = 25;
const FACADES: readonly Facade[] = ["events", "queue"];

for (const facade of FACADES) {
  test(`${facade}: a Sentinel failover loses nothing that a replica had, and work goes on by itself`, async () => {
    const set = await startSentinelSet();
    const load = await startLoad(set.url, facade, { durability: "replicated" }, SLOW_MS);
    try {
      await until(() => load.acked.size >= load.handled.size + 500, { deadlineMs: 15_000, what: "a backlog" });
      const stopped = load.stopPublishing();
      await set.failover();
      expect(await timeToProgress(load, RECOVERY_MS)).toBeLessThan(RECOVERY_MS);
      await stopped;
      await load.assertNothingLost(30_000);
    } finally {
      await load.close();
      await set.stop();
    }
  }, 90_000);

  test(`${facade}: a Cluster's master killed: nothing that its replica had is lost, and work goes on by itself`, async () => {
    const cluster = await startCluster();
    const load = await startLoad(cluster.url, facade, { durability: "replicated" }, SLOW_MS);
    try {
      await until(() => load.acked.size >= load.handled.size + 500, { deadlineMs: 15_000, what: "a backlog" });
      const stopped = load.stopPublishing();
      const key =
        facade === "events" ? logKeys("default", "load-events").stream : queueKeys("default", "load-queue").records;
      await cluster.failover(key);
      expect(await timeToProgress(load, RECOVERY_MS)).toBeLessThan(RECOVERY_MS);
      await stopped;
      await load.assertNothingLost(30_000);
    } finally {
      await load.close();
      await cluster.stop();
    }
  }, 90_000);
}
