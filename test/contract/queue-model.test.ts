/**
 * Queues under all that can come to them, as fast-check thinks of it, on memory, SQLite and Redis alike. A course that
 * fails is cut down to the few steps that matter, and named by its seed.
 */

import * as fc from "fast-check";
import { afterAll, beforeAll, describe, test } from "vitest";
import type { Chance, QueuePlay } from "../../src/testing/queue-play.js";
import { startQueuePlay } from "../../src/testing/queue-play.js";
import { type RedisServer, startRedis } from "../support/redis-servers.js";
import type { OpenStore } from "./support/lane-store.js";
import { openMemoryStore } from "./support/memory-store.js";
import { openRedisStore, standalone } from "./support/redis-store.js";
import { openSqliteStore } from "./support/sqlite-store.js";

let server: RedisServer | undefined;
beforeAll(async () => {
  server = await startRedis();
});
afterAll(() => server?.stop());

/** The play has a model of its own, that each of its steps is held against. */
type Step = fc.AsyncCommand<object, QueuePlay>;

const chance: fc.Arbitrary<Chance> = fc.nat();

/** A kind of step, with the chances that it takes. */
function kind(
  name: string,
  chances: number,
  run: (play: QueuePlay, ...chances: readonly Chance[]) => Promise<void>,
): fc.Arbitrary<Step> {
  return fc.array(chance, { minLength: chances, maxLength: chances }).map((given) => ({
    check: () => true,
    run: (_model, play) => run(play, ...given),
    toString: () => `${name}(${given.join(", ")})`,
  }));
}

const push = kind("push", 3, (play, who = 0, priority = 0, how = 0) => play.push(who, priority, how));
const take = kind("take", 3, (play, who = 0, max = 0, ends = 0) => play.take(who, max, ends));
const KINDS: readonly fc.Arbitrary<Step>[] = [
  push,
  push,
  push,
  take,
  take,
  take,
  kind("extend", 1, (play, who = 0) => play.extend(who)),
  kind("reopen", 1, (play, who = 0) => play.reopen(who)),
  kind("acknowledge", 2, (play, who = 0, which = 0) => play.acknowledge(who, which)),
  kind("remove", 1, (play, which = 0) => play.remove(which)),
  kind("pauseOrResume", 1, (play, who = 0) => play.pauseOrResume(who)),
  kind("redrive", 2, (play, who = 0, which = 0) => play.redrive(who, which)),
  kind("elapse", 1, (play, ms = 0) => play.elapse(ms)),
  kind("check", 0, (play) => play.check()),
];

interface Effort {
  readonly runs: number;
  readonly steps: number;
}

async function follow(openStore: OpenStore, { runs, steps }: Effort): Promise<void> {
  const course = fc.commands([...KINDS], { maxCommands: steps, size: "max" });
  const property = fc.asyncProperty(course, fc.constantFrom(undefined, "with records"), async (commands, records) => {
    const store = await openStore();
    try {
      const play = await startQueuePlay(store, records);
      await fc.asyncModelRun(() => ({ model: {}, real: play }), commands);
      await play.end();
    } finally {
      await store.close();
    }
  });
  await fc.assert(property, { numRuns: runs });
}

describe("whatever comes to a queue, nothing is lost, held twice, out of order, late or counted wrongly", () => {
  test("[C33] in memory", () => follow(openMemoryStore, { runs: 150, steps: 120 }), 60_000);

  test("[C33] in SQLite", () => follow(openSqliteStore, { runs: 25, steps: 80 }), 120_000);

  test("[C33] in Redis", () => follow(() => openRedisStore(standalone(server)), { runs: 12, steps: 60 }), 240_000);
});
