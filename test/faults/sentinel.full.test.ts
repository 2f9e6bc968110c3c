/** Sentinel again: failovers in a row, and one that nobody needed, which leaves two living primaries. */

import { expect, test } from "vitest";
import { sentinelMasterName } from "../support/redis-servers.js";
import { startSentinels } from "./support/systems.js";
import { moreAcked, survive } from "./support/survive.js";

const REPLICATED = { connect: { durability: "replicated" }, publishingUntil: "healed" } as const;

test("fault 13: five double failovers in a row lose nothing that was acknowledged as replicated", async () => {
  const { url, set, stop } = await startSentinels();
  try {
    await survive(
      url,
      async (loads) => {
        for (let times = 0; times < 5; times += 1) {
          const first = await set.failover();
          await moreAcked(loads, 50);
          const second = await set.failover();
          await first.former.restart();
          await moreAcked(loads, 50, 30_000);
          await second.former.restart();
          await set.awaitHealthy();
        }
      },
      REPLICATED,
    );
  } finally {
    await stop();
  }
}, 300_000);

test("fault 13: a second failover while the first primary sleeps loses nothing either, when that wakes up", async () => {
  const { url, set, sentinels, stop } = await startSentinels();
  try {
    await survive(
      url,
      async (loads) => {
        const { former, promoted } = await set.failover({ by: "pause" });
        await moreAcked(loads, 50);
        // As Sentinels do by mistake: the primary is well.
        const ordered = (): Promise<unknown> => sentinels[0]!.cli("SENTINEL", "FAILOVER", sentinelMasterName);
        await expect
          .poll(
            () =>
              ordered().then(
                () => true,
                () => false,
              ),
            { timeout: 15_000 },
          )
          .toBe(true);
        former.resume();
        await set.awaitFailover(promoted);
        await moreAcked(loads, 200, 20_000);
      },
      REPLICATED,
    );
  } finally {
    await stop();
  }
}, 120_000);
