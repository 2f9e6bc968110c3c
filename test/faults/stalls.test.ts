/** The server stands still and comes back: calls end at their deadline, typed, and work goes on by itself. */

import { describe, expect, test } from "vitest";
import { pause } from "../support/wait.js";
import type { Load } from "./support/load.js";
import { STALLS, type Stall } from "./support/stalls.js";
import { startStandalone } from "./support/systems.js";
import { survive } from "./support/survive.js";

const COMMAND_TIMEOUT_MS = 800;

/** A call ends soon after its deadline, and `health()` says what is wrong. */
async function expectNoticed(loads: readonly Load[], { stops }: Stall): Promise<void> {
  await Promise.all(
    loads.map(async ({ broker, reports }) => {
      if (stops === "all") {
        const startedAt = performance.now();
        await expect(broker.ping()).rejects.toMatchObject({ code: "CONNECTION", retryable: true });
        expect(performance.now() - startedAt).toBeLessThan(COMMAND_TIMEOUT_MS + 1_500);
        expect((await broker.health()).status).not.toBe("up");
      } else {
        await pause(COMMAND_TIMEOUT_MS + 1_500);
      }
      // Consumers have no caller to tell.
      expect(reports).toContainEqual(expect.objectContaining({ code: "CONNECTION" }));
    }),
  );
}

// Most of the time nothing happens at all, so that they may all do it at once.
describe.concurrent("a server that does not answer", { timeout: 60_000 }, () => {
  for (const stall of STALLS) {
    test(`fault ${stall.row}: ${stall.title} for three seconds ends calls at their deadline, and then all goes on`, async () => {
      const system = await startStandalone();
      try {
        const inject = (loads: readonly Load[]): Promise<unknown> =>
          stall.run(system.server, 3_000, () => expectNoticed(loads, stall));
        await survive(system.url, inject, { connect: { commandTimeoutMs: COMMAND_TIMEOUT_MS } });
      } finally {
        await system.stop();
      }
    });
  }

  test("fault 4: a second of SIGSTOP, shorter than any deadline, is not even reported", async () => {
    const system = await startStandalone();
    try {
      const inject = (): Promise<unknown> => STALLS[0]!.run(system.server, 1_000, async () => undefined);
      const loads = await survive(system.url, inject, { connect: { commandTimeoutMs: 5_000 } });
      for (const { reports, failures } of loads) expect([...reports, ...failures]).toEqual([]);
    } finally {
      await system.stop();
    }
  });
});
