/** Cluster: masters die or come back unaware, slots move, the majority is lost. */

import { describe, expect, test } from "vitest";
import { queueKeys } from "../../src/backends/redis/keys.js";
import { until } from "../support/wait.js";
import { clientsOf } from "./support/clients.js";
import { moveSlot } from "./support/slots.js";
import { loadKey, loadNames, startMasters } from "./support/systems.js";
import { moreAcked, survive } from "./support/survive.js";

const FAILOVER_MS = 10_000;
const RESOLVE_MS = 2_000;
const REPLICATED = { connect: { durability: "replicated" } } as const;

// Mostly it is the nodes who take their time.
describe.concurrent("Cluster", { timeout: 60_000 }, () => {
  test("fault 15: a master that is killed loses nothing that its replica confirmed", async () => {
    const { url, cluster, stop } = await startMasters();
    try {
      const inject = async (): Promise<void> => {
        const { tookMs } = await cluster.failover(loadKey);
        expect(tookMs).toBeLessThan(FAILOVER_MS);
      };
      for (const { levels } of await survive(url, inject, REPLICATED)) expect([...levels]).toEqual(["replicated"]);
    } finally {
      await stop();
    }
  });

  test("fault 12: a deposed master that comes back alive gets no more writes", async () => {
    // With one replica there is none left that could confirm anything.
    const { url, cluster, stop } = await startMasters({ replicas: 2 });
    try {
      await survive(
        url,
        async (loads) => {
          const { former, promoted } = await cluster.failover(loadKey, { by: "pause" });
          const startedAt = performance.now();
          await moreAcked(loads, 1);
          expect(performance.now() - startedAt).toBeLessThan(RESOLVE_MS);
          former.resume();
          await until(async () => (await clientsOf(former)).length === 0, { what: "the old sockets to be dropped" });
          await moreAcked(loads, 200);
          expect(await cluster.masterOf(loadKey)).toBe(promoted);
        },
        { ...REPLICATED, publishingUntil: "healed" },
      );
    } finally {
      await stop();
    }
  });

  test("fault 15: failovers that nobody needed, from masters that are well, lose nothing that all replicas confirmed", async () => {
    const { url, cluster, stop } = await startMasters({ replicas: 2 });
    try {
      await survive(
        url,
        async (loads) => {
          for (let times = 0; times < 4; times += 1) {
            const former = await cluster.masterOf(loadKey);
            const [replica] = await cluster.replicasOf(former);
            const isOver = async (): Promise<boolean> => {
              if ((await cluster.masterOf(loadKey)) !== former) return true;
              // As replicas do that have lost sight of their master. Soon after the last time, the others do not vote.
              await replica!.cli("CLUSTER", "FAILOVER", "FORCE");
              return false;
            };
            await until(isOver, { deadlineMs: 15_000, everyMs: 500, what: "a failover" });
            await moreAcked(loads, 200);
            await cluster.awaitHealthy();
          }
        },
        { connect: { durability: "replicated", replicas: 2 }, publishingUntil: "healed" },
      );
    } finally {
      await stop();
    }
  });

  test("fault 16: slots that move to another master under load take everything along, and blocked readers follow", async () => {
    const { url, cluster, stop } = await startMasters({ replicas: 0 });
    try {
      await survive(
        url,
        async (loads) => {
          for (let times = 0; times < 2; times += 1) {
            await moreAcked(loads, 200);
            await moveSlot(cluster, loadKey);
            await moveSlot(cluster, queueKeys("default", loadNames.queue).records);
          }
        },
        { publishingUntil: "healed" },
      );
    } finally {
      await stop();
    }
  });

  test("fault 17: with the majority of the masters lost calls end as CLUSTERDOWN, and what waits is bounded", async () => {
    const { url, cluster, nodes, stop } = await startMasters({ replicas: 0, nodeTimeoutMs: 1_000 });
    try {
      const master = await cluster.masterOf(loadKey);
      const others = nodes.filter((node) => node !== master);
      const isWell = async (): Promise<boolean> =>
        String(await master.cli("CLUSTER", "INFO")).includes("cluster_state:ok");
      await survive(url, async (loads) => {
        await Promise.all(others.map((node) => node.kill()));
        await until(async () => !(await isWell()), { deadlineMs: 10_000, what: "the majority to be missed" });
        const [{ broker } = { broker: expect.fail() }] = loads;
        await expect(broker.events.stats(loadNames.events)).rejects.toMatchObject({
          code: "CONNECTION",
          retryable: true,
          message: expect.stringContaining("CLUSTERDOWN"),
        });
        const published = Array.from({ length: 105_000 }, (_, number) => broker.events.publish("flood", number));
        const refused = Promise.allSettled(published).then((all) => all.filter(({ status }) => status === "rejected"));
        await expect(published.at(-1)).rejects.toMatchObject({ code: "LIMIT", retryable: true });
        await Promise.all(others.map((node) => node.restart()));
        await until(isWell, { deadlineMs: 20_000, what: "the cluster to be well" });
        for (const { status, ...rest } of await refused)
          expect({ status, rest }).toMatchObject({ rest: { reason: { code: "LIMIT" } } });
        expect((await refused).length).toBeGreaterThan(1_000);
      });
    } finally {
      await stop();
    }
  });
});
