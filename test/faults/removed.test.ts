/** Somebody removes data beneath a running group: work goes on from what is left, and what was lost is told, not papered over. */

import { describe, expect, test } from "vitest";
import { connect, SignalboxError } from "../../src/index.js";
import { logKeys } from "../../src/backends/redis/keys.js";
import { recordingLogger, silentLogger } from "../facades/support/lanes.js";
import { type RedisServer, startRedis } from "../support/redis-servers.js";
import { until } from "../support/wait.js";
import { type Load, LOAD_GROUP } from "./support/load.js";
import { START_MS, startProgram } from "./support/programs.js";
import { loadKey, loadNames, startMasters, startStandalone, type System } from "./support/systems.js";
import { moreAcked, RECOVERY_MS, survive } from "./support/survive.js";

/** Reports of a loss; a hot loop would make thousands. */
const MAX_LOSSES = 5;

interface Removal {
  readonly title: string;
  readonly takes: "messages" | "group";
  run(server: RedisServer): Promise<unknown>;
}

const removals: readonly Removal[] = [
  { title: "FLUSHALL", takes: "messages", run: (server) => server.cli("FLUSHALL") },
  { title: "DEL of the stream", takes: "messages", run: (server) => server.cli("DEL", loadKey) },
  { title: "XGROUP DESTROY", takes: "group", run: (server) => server.cli("XGROUP", "DESTROY", loadKey, LOAD_GROUP) },
];

const SYSTEMS: Readonly<Record<string, () => Promise<System>>> = {
  "a single Redis": () => startStandalone(),
  "a Cluster": () => startMasters({ replicas: 0 }),
};

describe.concurrent("data removed beneath a group", { timeout: 60_000 }, () => {
  for (const [where, start] of Object.entries(SYSTEMS)) {
    for (const { title, takes, run } of removals) {
      test(`fault 21: ${title} on ${where} is reported, and what is published from then on is handled`, async () => {
        const system = await start();
        let firstAfter = 0;
        try {
          const inject = async (loads: readonly Load[]): Promise<void> => {
            await run(await system.primary());
            firstAfter = Math.max(...loads.flatMap(({ tried }) => [...tried])) + 1;
            await moreAcked(loads, 500);
          };
          const [load = expect.fail()] = await survive(system.url, inject, {
            facades: ["events"],
            publishingUntil: "healed",
            mayLose: takes === "messages",
          });
          // The group starts at the beginning of what is left, never behind what it has not seen.
          expect(load.missing().filter((number) => number >= firstAfter)).toEqual([]);
          const losses = load.reports.filter(isLoss);
          expect(losses).toContainEqual(expect.objectContaining({ channel: loadNames.events, reader: LOAD_GROUP }));
          expect(losses.length).toBeLessThanOrEqual(MAX_LOSSES);
        } finally {
          await system.stop();
        }
      });
    }
  }

  for (const { title, run } of removals) {
    test(`fault 21: a consumer that waits through ${title} hears the next message`, async () => {
      const server = await startRedis();
      const reports: Error[] = [];
      const broker = await connect(server.url, { logger: silentLogger, onError: (error) => void reports.push(error) });
      const handled: unknown[] = [];
      try {
        const options = { group: LOAD_GROUP, from: "new" } as const;
        await broker.events.subscribe(loadNames.events, options, (data) => void handled.push(data));
        await broker.events.publish(loadNames.events, "before");
        await until(() => handled.length === 1, { what: "the first message" });
        await until(async () => String(await server.cli("CLIENT", "LIST")).includes("cmd=xreadgroup"));
        await run(server);
        await broker.events.publish(loadNames.events, "after");
        await until(() => handled.includes("after"), { deadlineMs: RECOVERY_MS, what: "the next message" });
        await until(() => reports.some(isLoss), {
          what: "the loss to be reported",
        });
        expect(reports.length).toBeLessThanOrEqual(MAX_LOSSES);
      } finally {
        await broker.close({ drainMs: 0 });
        await server.stop();
      }
    });
  }

  test("fault 22: XTRIM over what is pending and what is still to come counts both as gone, and neither as handled", async () => {
    const server = await startRedis();
    const { logger, entries } = recordingLogger();
    const broker = await connect(server.url, { logger });
    const leaseMs = 500;
    const child = startProgram("hanging", [server.url, "events", leaseMs]);
    try {
      // The child holds ten of them.
      await broker.events.publishMany(
        "work",
        Array.from({ length: 25 }, (_, number) => number),
      );
      for (let held = 0; held < 10; held += 1) await child.next((message) => "holds" in message, START_MS);
      child.kill("SIGKILL");
      await child.exited;
      expect(await server.cli("XTRIM", logKeys("default", "work").stream, "MAXLEN", 0)).toBe(25);
      const handled: unknown[] = [];
      const options = { group: "g", from: "beginning", leaseMs } as const;
      await broker.events.subscribe("work", options, (data) => void handled.push(data));
      await broker.events.publish("work", "next");
      await until(() => handled.length > 0, { deadlineMs: RECOVERY_MS, what: "the next message" });
      const gone = (): number =>
        broker
          .metrics()
          .filter(({ name }) => name === "signalbox.gone.messages")
          .reduce((sum, metric) => sum + (metric.kind === "counter" ? metric.value : 0), 0);
      await until(() => gone() === 25, { what: "all 25 to be counted" });
      expect(entries.filter(({ fields }) => fields["event"] === "message_gone").length).toBeGreaterThan(0);
      expect(handled).toEqual(["next"]);
      await until(async () => (await broker.events.stats("work")).groups[0]?.pending === 0, {
        what: "nothing pending",
      });
      expect((await broker.events.stats("work")).groups).toMatchObject([{ lag: 0, retrying: 0, dead: 0 }]);
    } finally {
      await child.stop();
      await broker.close({ drainMs: 0 });
      await server.stop();
    }
  });
});

function isLoss(error: unknown): boolean {
  return error instanceof SignalboxError && error.code === "DATA_LOSS";
}
