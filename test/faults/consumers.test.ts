/** Consumers that die, hang or fall asleep with messages in their hands: others get them, and late results change nothing. */

import { describe, expect, test } from "vitest";
import { type Broker, connect, type Context, retry } from "../../src/index.js";
import { silentLogger } from "../facades/support/lanes.js";
import { until } from "../support/wait.js";
import type { Facade } from "./support/load.js";
import { said, START_MS, startProgram } from "./support/programs.js";
import { EVERYWHERE } from "./support/stores.js";
import { RECOVERY_MS } from "./support/survive.js";

const NAME = "work";

async function publishMany(broker: Broker, facade: Facade, data: readonly unknown[]): Promise<void> {
  await (facade === "events" ? broker.events.publishMany(NAME, data) : broker.queue(NAME).publishMany(data));
}

async function subscribe(
  broker: Broker,
  facade: Facade,
  leaseMs: number,
  handler: (data: unknown, ctx: Context) => unknown,
): Promise<void> {
  if (facade === "events") await broker.events.subscribe(NAME, { group: "g", from: "beginning", leaseMs }, handler);
  else await broker.queue(NAME).subscribe({ leaseMs }, handler);
}

function deadLetters(broker: Broker, facade: Facade) {
  return facade === "events" ? broker.events.group(NAME, "g").deadLetters() : broker.queue(NAME).deadLetters();
}

describe.concurrent("consumers", { timeout: 60_000 }, () => {
  for (const { facade, where, start: open } of EVERYWHERE) {
    test(`[E27] fault 32: ${where}: what a consumer held when it was killed is handled within lease + 5 s`, async () => {
      await using store = await open();
      const leaseMs = 1_000;
      await using broker = await connect(store.url, { logger: silentLogger });
      const numbers = [1, 2, 3, 4, 5];
      await publishMany(broker, facade, numbers);
      await using child = startProgram("hanging", [store.url, facade, leaseMs]);
      for (const _ of numbers) await child.next((message) => "holds" in message, START_MS);
      child.kill("SIGKILL");
      await child.exited;
      const killedAt = performance.now();
      const got: [unknown, number][] = [];
      await subscribe(broker, facade, leaseMs, (data, { attempt }) => void got.push([data, attempt]));
      await until(() => got.length === numbers.length, { deadlineMs: leaseMs + RECOVERY_MS });
      expect(performance.now() - killedAt).toBeLessThan(leaseMs + RECOVERY_MS);
      // The attempt that died counts.
      expect(got.toSorted(([a], [b]) => Number(a) - Number(b))).toEqual(numbers.map((number) => [number, 2]));
    });

    test(`[D8] ${where}: three attempts with delays that double, whose process dies while it waits for the next`, async () => {
      await using store = await open();
      const initialMs = 1_500;
      await using broker = await connect(store.url, { logger: silentLogger });
      await publishMany(broker, facade, ["stubborn"]);
      const attempts: { attempt: number; at: number }[] = [];
      const isSettled = async (): Promise<boolean> => {
        if (attempts.length === 3) return (await deadLetters(broker, facade).next()).value?.attempts === 3;
        if (facade === "events") return (await broker.events.stats(NAME)).groups[0]?.retrying === 1;
        return (await broker.queue(NAME).stats()).delayed === 1;
      };
      while (attempts.length < 3) {
        await using child = startProgram("failing", [store.url, facade, initialMs]);
        const failed = await child.next((message) => "failed" in message, START_MS);
        attempts.push({ attempt: Number(failed["attempt"]), at: Number(failed["at"]) });
        await until(isSettled);
        child.kill("SIGKILL");
        await child.exited;
      }
      expect(attempts.map(({ attempt }) => attempt)).toEqual([1, 2, 3]);
      const delays = attempts.slice(1).map(({ at }, index) => at - (attempts[index]?.at ?? 0));
      expect(delays[0]).toBeGreaterThanOrEqual(initialMs);
      expect(delays[1]).toBeGreaterThanOrEqual(2 * initialMs);
    });

    test(`fault 36: ${where}: a message that kills its process is a dead letter after as many deliveries as it has attempts`, async () => {
      await using store = await open();
      const leaseMs = 500;
      await using broker = await connect(store.url, { logger: silentLogger });
      await publishMany(broker, facade, ["poison", "good"]);
      const began: unknown[] = [];
      const isParked = async (): Promise<boolean> => {
        const stats =
          facade === "events" ? (await broker.events.stats(NAME)).groups[0] : await broker.queue(NAME).stats();
        return stats?.dead === 1;
      };
      const handled = new Set<unknown>();
      const isDone = async (): Promise<boolean> => handled.has("good") && (await isParked());
      for (let starts = 1; !(await isDone()); starts += 1) {
        expect(starts, "processes that died").toBeLessThanOrEqual(4);
        await using child = startProgram("poisoned", [store.url, facade, leaseMs]);
        const what = "the child to die, or to survive";
        let exit: unknown;
        void child.exited.then((how) => (exit = how));
        const isOver = async (): Promise<boolean> => {
          for (const one of said(child, "handled")) handled.add(one);
          return exit !== undefined || (await isDone());
        };
        await until(isOver, { deadlineMs: START_MS, everyMs: 20, what });
        if (exit !== undefined) expect(exit).toMatchObject({ signal: "SIGABRT" });
        const poisoned = child.messages.filter((message) => message["began"] === "poison");
        began.push(...poisoned.map(({ attempt }) => attempt));
      }
      expect(began).toEqual([1, 2, 3]);
      const letters = [];
      for await (const letter of deadLetters(broker, facade)) letters.push(letter);
      expect(letters).toMatchObject([{ message: { data: "poison" }, attempts: 3, reason: { kind: "abandoned" } }]);
    });

    test(`fault 45: ${where}: a consumer whose event loop was blocked for longer than its lease changes nothing any more`, async () => {
      await using store = await open();
      const leaseMs = 600;
      await using broker = await connect(store.url, { logger: silentLogger });
      await publishMany(broker, facade, ["once"]);
      await using child = startProgram("blocking", [store.url, facade, leaseMs, 5 * leaseMs]);
      await child.next(({ holds }) => holds === "once", START_MS);
      const attempts: number[] = [];
      let result: unknown;
      const handler = async (_: unknown, { attempt }: Context): Promise<unknown> => {
        attempts.push(attempt);
        if (attempts.length > 1) return;
        // It comes too late while this attempt is still under way.
        result = await child.next((message) => "lost" in message, START_MS);
        return retry({ delayMs: 0 });
      };
      await subscribe(broker, facade, leaseMs, handler);
      await until(() => attempts.length === 2, { deadlineMs: 20_000, what: "the attempt after the late result" });
      expect(result).toEqual({ lost: 1, settled: 0 });
      // Had the late acknowledgement counted, there would be nothing to retry.
      expect(attempts).toEqual([2, 3]);
    });
  }
});
