/** A payload that the client lets through and the server does not: it takes the connection along, and nothing else. */

import { expect, test } from "vitest";
import { SignalboxError } from "../../src/index.js";
import type { Load } from "./support/load.js";
import { startStandalone } from "./support/systems.js";
import { survive } from "./support/survive.js";

test("fault 37: a payload that the server refuses with its connection harms nobody else's messages", async () => {
  // Redis's own limit lies at 512 MB; here it is lower than the payload cap.
  const system = await startStandalone({ config: { "proto-max-bulk-len": "1mb" } });
  try {
    const inject = (loads: readonly Load[]): Promise<unknown> =>
      Promise.all(
        loads.map(async ({ broker, facade }) => {
          const data = "x".repeat(2_000_000);
          const publishing =
            facade === "events" ? broker.events.publish("big", data) : broker.queue("big").publish(data);
          await expect(publishing).rejects.toBeInstanceOf(SignalboxError);
        }),
      );
    await survive(system.url, inject, { connect: { maxPayloadBytes: 4_000_000 }, publishingUntil: "healed" });
  } finally {
    await system.stop();
  }
}, 60_000);
