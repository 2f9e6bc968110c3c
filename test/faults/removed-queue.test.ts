/** Somebody removes data beneath a queue's consumers: they go on with what comes, and what they know to be lost is told. */

import { describe, expect, test } from "vitest";
import { type Broker, connect, type DataLossDetected, SignalboxError } from "../../src/index.js";
import { queueKeys } from "../../src/backends/redis/keys.js";
import { recordingLogger } from "../facades/support/lanes.js";
import { type RedisServer, startRedis } from "../support/redis-servers.js";
import { until } from "../support/wait.js";
import type { Load } from "./support/load.js";
import { START_MS, startProgram } from "./support/programs.js";
import { loadNames, startMasters, startStandalone, type System } from "./support/systems.js";
import { moreAcked, RECOVERY_MS, survive } from "./support/survive.js";

/** Reports of a loss: each call tells of what it found missing, up to eighty. A hot loop would make thousands. */
const MAX_LOSSES = 30;

interface Removal {
  readonly title: string;
  /** Whether the consumers can know what they miss: the tickets are there, and what they are for is not. */
  readonly isSeen: boolean;
  run(server: RedisServer, queue: string): Promise<unknown>;
}

const removals: readonly Removal[] = [
  { title: "FLUSHALL", isSeen: false, run: (server) => server.cli("FLUSHALL") },
  {
    title: "DEL of the messages",
    isSeen: true,
    run: (server, queue) => server.cli("DEL", queueKeys("default", queue).records),
  },
];

const SYSTEMS: Readonly<Record<string, () => Promise<System>>> = {
  "a single Redis": () => startStandalone(),
  "a Cluster": () => startMasters({ replicas: 0 }),
};

describe.concurrent("data removed beneath a queue", { timeout: 60_000 }, () => {
  for (const [where, start] of Object.entries(SYSTEMS)) {
    for (const { title, isSeen, run } of removals) {
      test(`fault 21: ${title} on ${where}: what is published from then on is handled`, async () => {
        const system = await start();
        let firstAfter = 0;
        try {
          const inject = async (loads: readonly Load[]): Promise<void> => {
            await run(await system.primary(), loadNames.queue);
            firstAfter = Math.max(...loads.flatMap(({ tried }) => [...tried])) + 1;
            await moreAcked(loads, 500);
          };
          const options = { facades: ["queue"], publishingUntil: "healed", mayLose: true } as const;
          const [load = expect.fail()] = await survive(system.url, inject, options);
          expect(load.missing().filter((number) => number >= firstAfter)).toEqual([]);
          const losses = load.reports.filter(isLoss);
          expect(losses.length).toBeLessThanOrEqual(MAX_LOSSES);
          if (!isSeen) return;
          for (const loss of losses) expect(loss).toMatchObject({ channel: loadNames.queue, reader: "" });
          const told = losses.reduce((sum: number, loss) => sum + ((loss as DataLossDetected).count ?? 0), 0);
          expect(told).toBeGreaterThanOrEqual(load.missing().length);
        } finally {
          await system.stop();
        }
      });
    }
  }

  for (const { title, run } of removals) {
    test(`fault 21: a recipient that is consumed through ${title} hears the next message, also of its audience`, async () => {
      const server = await startRedis();
      const broker = await connect(server.url, { logger: recordingLogger().logger });
      const handled: unknown[] = [];
      try {
        const queue = broker.queue("notices", { keepAckedMs: 60_000, index: ["source"] });
        await queue.subscribe({ as: "ada" }, (data) => void handled.push(data));
        await queue.publish("before", { audience: "registered" });
        await until(() => handled.length === 1, { what: "the first message" });
        await run(server, "notices");
        await queue.publish("after", { target: "ada" });
        await until(() => handled.includes("after"), { deadlineMs: RECOVERY_MS, what: "the next message" });
        const isRegistered = async (): Promise<boolean> => {
          for await (const { recipient } of queue.recipients()) if (recipient === "ada") return true;
          return false;
        };
        await until(isRegistered, { deadlineMs: RECOVERY_MS, what: "it to be registered again" });
        expect(await queue.publish("to all", { audience: "registered" })).toMatchObject({ recipients: 1 });
        await until(() => handled.includes("to all"), { deadlineMs: RECOVERY_MS, what: "what is for all" });
        // What it keeps of messages is stored again, too.
        const records = async (): Promise<number> => (await queue.list()).items.length;
        await until(async () => (await records()) > 0, { deadlineMs: RECOVERY_MS, what: "records to be kept again" });
      } finally {
        await broker.close({ drainMs: 0 });
        await server.stop();
      }
    });
  }

  test("fault 22: messages deleted by hand that are held, waiting and delayed count as gone, and none as handled", async () => {
    const server = await startRedis();
    const { logger, entries } = recordingLogger();
    const broker = await connect(server.url, { logger });
    const queue = broker.queue("work");
    const leaseMs = 500;
    const child = startProgram("hanging", [server.url, "queue", leaseMs]);
    try {
      const numbers = Array.from({ length: 20 }, (_, number) => number);
      // The child holds ten of them.
      await queue.publishMany(numbers);
      await queue.publishMany(numbers.slice(0, 5), { delayMs: 300 });
      for (let held = 0; held < 10; held += 1) await child.next((message) => "holds" in message, START_MS);
      child.kill("SIGKILL");
      await child.exited;
      expect(await server.cli("DEL", queueKeys("default", "work").records)).toBe(1);
      const handled: unknown[] = [];
      await queue.subscribe({ leaseMs }, (data) => void handled.push(data));
      await queue.publish("next");
      await until(() => handled.length > 0, { deadlineMs: RECOVERY_MS, what: "the next message" });
      await until(() => goneOf(broker) === 25, { what: "all 25 to be counted" });
      expect(entries.filter(({ fields }) => fields["event"] === "message_gone").length).toBeGreaterThan(0);
      expect(handled).toEqual(["next"]);
      const none = { waiting: 0, leased: 0, delayed: 0, dead: 0, expired: 0, dropped: 0 };
      await until(async () => (await queue.stats()).leased === 0, { what: "nothing to be held" });
      expect(await queue.stats()).toMatchObject(none);
    } finally {
      await child.stop();
      await broker.close({ drainMs: 0 });
      await server.stop();
    }
  });
});

function goneOf(broker: Broker): number {
  const counts = broker.metrics().filter(({ name }) => name === "signalbox.gone.messages");
  return counts.reduce((sum, metric) => sum + (metric.kind === "counter" ? metric.value : 0), 0);
}

function isLoss(error: unknown): boolean {
  return error instanceof SignalboxError && error.code === "DATA_LOSS";
}
