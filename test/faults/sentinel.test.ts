/** Sentinel: primaries die, come back unaware, and die again; what a replica confirmed is never lost. */

import { describe, expect, test } from "vitest";
import { until } from "../support/wait.js";
import { clientsOf } from "./support/clients.js";
import { startSentinels } from "./support/systems.js";
import { moreAcked, survive } from "./support/survive.js";

/** From the primary's death to a new one that takes writes. */
const FAILOVER_MS = 10_000;
/** From then on no client may follow the old one any longer than this. */
const RESOLVE_MS = 2_000;
const REPLICATED = { connect: { durability: "replicated" }, publishingUntil: "healed" } as const;

// Mostly it is the Sentinels who take their time.
describe.concurrent("Sentinel", { timeout: 60_000 }, () => {
  test("fault 11: a failover loses nothing that a replica confirmed", async () => {
    const { url, set, stop } = await startSentinels();
    try {
      const inject = async (): Promise<void> => {
        const { tookMs } = await set.failover();
        expect(tookMs).toBeLessThan(FAILOVER_MS);
      };
      for (const { levels } of await survive(url, inject, REPLICATED)) expect([...levels]).toEqual(["replicated"]);
    } finally {
      await stop();
    }
  });

  test("fault 12: a deposed primary that comes back alive gets no more writes, and keeps no connection", async () => {
    const { url, set, stop } = await startSentinels();
    try {
      await survive(
        url,
        async (loads) => {
          const { former } = await set.failover({ by: "pause" });
          const startedAt = performance.now();
          await moreAcked(loads, 1);
          expect(performance.now() - startedAt).toBeLessThan(RESOLVE_MS);
          former.resume();
          await until(async () => (await clientsOf(former)).length === 0, {
            deadlineMs: RESOLVE_MS,
            what: "the old sockets to be dropped",
          });
          await moreAcked(loads, 200);
        },
        REPLICATED,
      );
    } finally {
      await stop();
    }
  });

  test("fault 13: double failover on Sentinel loses nothing that was acknowledged as replicated", async () => {
    const { url, set, stop } = await startSentinels();
    try {
      await survive(
        url,
        async (loads) => {
          const { former } = await set.failover();
          await moreAcked(loads, 50);
          await set.failover();
          // One server is left, and nothing can be confirmed until it has a replica.
          await former.restart();
          await moreAcked(loads, 1, 20_000);
        },
        REPLICATED,
      );
    } finally {
      await stop();
    }
  });

  test("fault 13: failovers that nobody needed, from primaries that are well, lose nothing that a replica confirmed", async () => {
    const { url, set, stop } = await startSentinels();
    try {
      await survive(
        url,
        async (loads) => {
          for (let times = 0; times < 4; times += 1) {
            // Healthy Sentinels may refuse: the last failover is too short ago.
            await until(() => set.failover({ by: "command" }), { deadlineMs: 15_000, what: "a failover" });
            await moreAcked(loads, 200);
            await set.awaitHealthy();
          }
        },
        REPLICATED,
      );
    } finally {
      await stop();
    }
  });

  test("fault 14: while all Sentinels are down the known primary is kept, also by connections that are made anew", async () => {
    const { url, set, sentinels, stop } = await startSentinels();
    try {
      await survive(
        url,
        async (loads) => {
          const master = await set.currentMaster();
          await Promise.all(sentinels.map((sentinel) => sentinel.kill()));
          await moreAcked(loads, 200);
          const before = await clientsOf(master);
          await master.cli("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes");
          await until(async () => (await clientsOf(master)).length >= before.length, { what: "all to be back" });
          await moreAcked(loads, 200);
        },
        REPLICATED,
      );
    } finally {
      await stop();
    }
  });
});
