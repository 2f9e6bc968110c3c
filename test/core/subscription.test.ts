/** What a subscription tells of its failures: the first of a row, and each new kind, once. */

import { expect, test } from "vitest";
import { openMemory } from "../../src/backends/memory/index.js";
import { createBroker } from "../../src/broker.js";
import { AuthError, ConnectionError, OutOfMemoryError } from "../../src/core/errors.js";
import type { Runtime } from "../../src/core/runtime.js";
import { createTelemetry } from "../../src/core/telemetry.js";
import { createFakeClock } from "../../src/testing/index.js";
import { recordingLogger } from "../facades/support/lanes.js";
import { until } from "../support/wait.js";
import { runtimeOver } from "./runtime-support.js";

/** A broker whose consumers' fetches fail as the test says: undefined lets them through. */
async function openFailing() {
  const clock = createFakeClock();
  const told: unknown[] = [];
  let failure: Error | undefined;
  let attempts = 0;
  const memory = await openMemory({}, { namespace: "n", clock, report: () => undefined });
  const backend: Runtime["backend"] = {
    ...memory,
    log: {
      ...memory.log,
      async open(...where) {
        const feed = await memory.log.open(...where);
        return {
          extend: feed.extend.bind(feed),
          close: feed.close.bind(feed),
          async take(want, outcomes) {
            attempts += 1;
            if (failure !== undefined) throw failure;
            return await feed.take(want, outcomes);
          },
        };
      },
    },
  };
  const { logger, entries } = recordingLogger();
  const runtime = await runtimeOver(backend, clock, {
    telemetry: createTelemetry(logger),
    report: (error) => void told.push(error),
  });
  /** Lets fetches fail, three times at least. */
  const fail = async (next: Error | undefined): Promise<void> => {
    failure = next;
    const before = attempts;
    await until(async () => {
      await clock.advance(2_000);
      return attempts >= before + 3;
    });
  };
  return { broker: createBroker(runtime, backend, { groupIdleMs: 1_000 }), told, entries, fail };
}

test("a failure of another kind is told amid a row of failures, and each kind once", async () => {
  const { broker, told, fail } = await openFailing();
  await broker.events.subscribe("order", { group: "g", from: "beginning" }, () => undefined);
  const [lost, refused, full] = [new ConnectionError("lost"), new AuthError("refused"), new OutOfMemoryError("full")];
  for (const error of [lost, refused, lost, full, refused]) await fail(error);
  expect(told).toEqual([lost, refused, full]);
  // After a recovery all is news again.
  await fail(undefined);
  await fail(refused);
  await fail(lost);
  expect(told).toEqual([lost, refused, full, refused, lost]);
  await fail(undefined);
  await broker.close({ drainMs: 0 });
});

test("what is no error is logged as one", async () => {
  const { broker, entries, fail } = await openFailing();
  await broker.events.subscribe("order", { group: "g", from: "beginning" }, () => undefined);
  await fail("a text" as never);
  const failing = entries.find(({ fields }) => fields["event"] === "consumer_failing");
  expect(failing?.fields["err"]).toEqual(new Error("a text"));
  await fail(undefined);
  await broker.close({ drainMs: 0 });
});
