/** A minute without an answer: longer than anything waits by itself. */

import { expect, test } from "vitest";
import { STALLS } from "./support/stalls.js";
import { startStandalone } from "./support/systems.js";
import { survive } from "./support/survive.js";

test("fault 4: a minute of SIGSTOP ends what is published meanwhile, typed, and then all goes on", async () => {
  const system = await startStandalone();
  try {
    const loads = await survive(system.url, () => STALLS[0]!.run(system.server, 60_000, async () => undefined), {
      publishingUntil: "healed",
    });
    for (const { failures } of loads) {
      // Twenty publishers, each of which was told at least once.
      expect(failures.length).toBeGreaterThanOrEqual(20);
      for (const failure of failures)
        expect(failure).toMatchObject({
          code: expect.stringMatching(/^(PUBLISH_INDETERMINATE|CONNECTION)$/),
          retryable: true,
        });
    }
  } finally {
    await system.stop();
  }
}, 180_000);
