/** Presence through failovers: what the new primary did not have yet is entered again. */

import { describe, expect, test } from "vitest";
import { memberKeys } from "../../src/backends/redis/keys.js";
import { pause, until } from "../support/wait.js";
import { Crowd, GONE_MS, HEAL_MS, LEASE_MS } from "./support/crowd.js";
import { START_MS, startProgram } from "./support/programs.js";
import { startMasters, startSentinels, type System } from "./support/systems.js";

const LOBBY = memberKeys("default", "presence:lobby").state;

/** People come and go while the primary dies, then all is as it should be, also when a process dies later. */
async function surviveFailover({ url }: System, failover: () => Promise<unknown>): Promise<void> {
  await using crowd = await Crowd.gather(url);
  const lobby = crowd.brokers[0]!.presence("lobby");
  const over = new AbortController();
  const entered: string[] = [];
  const coming = (async () => {
    for (let index = 0; !over.signal.aborted; index += 1) {
      const id = `came-${index}`;
      // Who is refused while nobody answers is not there afterwards.
      const connection = await lobby.enter(id).catch(() => undefined);
      if (connection !== undefined && index % 2 === 0) await connection.leave();
      else if (connection !== undefined) entered.push(id);
      await pause(20);
    }
  })();
  await pause(200);
  await failover();
  over.abort();
  await coming;
  await crowd.untilWhole(2 * HEAL_MS, entered);
  // Nothing that was lost shows later.
  await pause(LEASE_MS);
  await crowd.untilWhole(HEAL_MS, entered);
  const child = startProgram("present", [url, LEASE_MS, "late-", 3]);
  await child.next((message) => "ready" in message, START_MS);
  await crowd.untilWhole(HEAL_MS, [...entered, "late-0", "late-1", "late-2"]);
  child.kill("SIGKILL");
  await crowd.untilWhole(GONE_MS + 1_000, entered);
  for (const watcher of crowd.watchers) expect(watcher.lefts("late-0")).toBe(1);
}

// Mostly it is the servers who take their time.
describe.concurrent("presence", { timeout: 90_000 }, () => {
  test("fault 11: goes on after a failover by Sentinels", async () => {
    const system = await startSentinels();
    try {
      await surviveFailover(system, () => system.set.failover());
    } finally {
      await system.stop();
    }
  });

  test("fault 15: goes on after the master of its group was killed in a Cluster", async () => {
    const system = await startMasters();
    try {
      await surviveFailover(system, () => system.cluster.failover(LOBBY));
    } finally {
      await system.stop();
    }
  });

  test("fault 21: a Cluster's node that loses everything, whichever it is, leaves no ghosts and loses nobody", async () => {
    const { url, nodes, stop } = await startMasters({ replicas: 0 });
    try {
      await using crowd = await Crowd.gather(url, {}, 6);
      for (const node of nodes) {
        await node.cli("FLUSHALL");
        await pause(LEASE_MS);
        await crowd.untilWhole(HEAL_MS);
      }
      // No member is held by a holder that is no more.
      const areAlone = async (): Promise<boolean> =>
        (await crowd.listed()).every(({ connections }) => connections === 1);
      await until(areAlone, { deadlineMs: GONE_MS + HEAL_MS, what: "what the former holders held to be taken away" });
    } finally {
      await stop();
    }
  });
});
