/** What a queue does by the clock, when that is moved by an hour: the store's moves everything, a client's moves nothing. */

import { describe, expect, test } from "vitest";
import { type Broker, connect, type QueueOptions, type Queue } from "../../src/index.js";
import { silentLogger } from "../facades/support/lanes.js";
import { startRedis } from "../support/redis-servers.js";
import { pause, until } from "../support/wait.js";
import { CLOCKED_STORES, type ClockedStore, HOUR_S } from "./support/clocks.js";
import { START_MS, startProgram } from "./support/programs.js";
import { RECOVERY_MS } from "./support/survive.js";
import { createUnreliable } from "./support/unreliable.js";

const HALF_AN_HOUR_MS = (HOUR_S / 2) * 1_000;

interface Opened {
  readonly broker: Broker;
  readonly queue: Queue<unknown>;
  readonly reports: Error[];
}

async function open({ url, connect: options }: ClockedStore, settings?: QueueOptions): Promise<Opened> {
  const reports: Error[] = [];
  const broker = await connect(url, {
    ...options,
    logger: silentLogger,
    onError: (error) => void reports.push(error),
  });
  return { broker, queue: broker.queue("times", settings ?? {}), reports };
}

const soon = { deadlineMs: RECOVERY_MS };

describe.concurrent("queues and clocks", { timeout: 60_000 }, () => {
  for (const [name, start] of Object.entries(CLOCKED_STORES)) {
    test(`fault 31: the store's clock jumps an hour ahead beneath a lease, on ${name}`, async () => {
      await using store = await start();
      const { broker, queue } = await open(store);
      await using _ = broker;
      const began: number[] = [];
      let release: (() => void) | undefined;
      const gate = new Promise<void>((resolve) => (release = resolve));
      let acked = 0;
      await queue.subscribe({ concurrency: 3, leaseMs: 2_000 }, async (data, { attempt }) => {
        if (data !== "held") return;
        began.push(attempt);
        await gate;
        acked += 1;
      });
      await queue.publish("held");
      await until(() => began.length === 1, { what: "it to be held" });
      store.setClock(HOUR_S);
      // Whether it comes again or was renewed in time, it ends once, and nothing else is held up.
      await queue.publish("next");
      await pause(1_200);
      release?.();
      await until(async () => (await queue.stats()).leased === 0, { ...soon, what: "all to be finished" });
      expect(await queue.stats()).toMatchObject({ waiting: 0, delayed: 0, dead: 0 });
      expect(began.every((attempt, index) => attempt === index + 1)).toBe(true);
      expect(acked).toBe(began.length);
    });

    test(`fault 31: an hour ahead by the store's clock delays are over and what has a time to live is counted, on ${name}`, async () => {
      await using store = await start();
      const { broker, queue } = await open(store);
      await using _ = broker;
      await queue.publish("delayed", { delayMs: HALF_AN_HOUR_MS });
      await queue.publish("for longer", { delayMs: 3 * HALF_AN_HOUR_MS });
      await queue.publish("mortal", { ttlMs: HALF_AN_HOUR_MS });
      await queue.publish("not so mortal", { ttlMs: 3 * HALF_AN_HOUR_MS });
      store.setClock(HOUR_S);
      const handled: unknown[] = [];
      await queue.subscribe({}, (data) => void handled.push(data));
      await until(async () => (await queue.stats()).expired === 1 && handled.length === 2, { ...soon, what: "both" });
      expect(new Set(handled)).toEqual(new Set(["delayed", "not so mortal"]));
      store.setClock(2 * HOUR_S);
      await until(() => handled.includes("for longer"), { ...soon, what: "the last" });
      expect(await queue.stats()).toMatchObject({ waiting: 0, delayed: 0, expired: 1, dead: 0 });
    });

    test(`fault 31: an hour back by the store's clock everything takes longer and nothing is lost, on ${name}`, async () => {
      await using store = await start();
      const { broker, queue } = await open(store);
      await using _ = broker;
      await queue.publish("delayed", { delayMs: 300 });
      await queue.publish("mortal", { ttlMs: 60_000, delayMs: 300 });
      store.setClock(-HOUR_S);
      const handled: unknown[] = [];
      const attempts: number[] = [];
      await queue.subscribe({ leaseMs: 1_000 }, async (data, { attempt }) => {
        handled.push(data);
        attempts.push(attempt);
        // Longer than its lease, by whichever clock.
        if (data === "held") await pause(2_500);
      });
      await queue.publish("held");
      await queue.publish("now");
      await queue.publish("soon", { delayMs: 100 });
      await until(() => handled.length === 3, { ...soon, what: "what was published by the new time" });
      await until(async () => (await queue.stats()).leased === 0, { ...soon, what: "what was held" });
      expect(await queue.stats()).toMatchObject({ delayed: 2, expired: 0, dead: 0 });
      store.setClock(0);
      await until(() => handled.length === 5, { ...soon, what: "what was published by the old time" });
      expect(new Set(handled)).toEqual(new Set(["held", "now", "soon", "delayed", "mortal"]));
      expect(attempts).toEqual([1, 1, 1, 1, 1]);
    });

    test(`fault 31: ids are remembered by the store's clock, on ${name}`, async () => {
      await using store = await start();
      const { broker, queue } = await open(store);
      await using _ = broker;
      let handled = 0;
      await queue.subscribe({}, () => void (handled += 1));
      const publish = async (): Promise<boolean> => (await queue.publish("x", { id: "one" })).duplicate;
      expect(await publish()).toBe(false);
      await until(async () => handled === 1 && (await queue.stats()).leased === 0);
      expect(await publish()).toBe(true);
      store.setClock(-HOUR_S);
      expect(await publish()).toBe(true);
      store.setClock(HOUR_S);
      // Two generations of ten minutes each have passed with the next ids that come.
      await queue.publishMany(["y", "z"], { id: (data) => String(data) });
      expect(await publish()).toBe(false);
      await until(() => handled === 4, { ...soon, what: "the second of that id" });
    });

    test(`fault 31: recipients lapse by the store's clock, and what they had is told, on ${name}`, async () => {
      await using store = await start();
      const { broker, queue, reports } = await open(store);
      await using _ = broker;
      const handled: unknown[] = [];
      await queue.subscribe({ as: "present" }, (data) => void handled.push(data));
      await queue.register("patient");
      await queue.register("absent", { ttlMs: HALF_AN_HOUR_MS });
      expect(await queue.publish("to all", { audience: "registered" })).toMatchObject({ recipients: 3 });
      await queue.publish("to nobody known", { target: "nobody" });
      store.setClock(HOUR_S);
      expect(await queue.publish("to the others", { audience: "registered" })).toMatchObject({ recipients: 2 });
      await until(() => handled.length === 2, { ...soon, what: "the one who is there" });
      await until(() => reports.length > 0, { ...soon, what: "the loss to be reported" });
      expect(reports).toMatchObject([{ code: "DATA_LOSS", channel: "times", reader: "absent", count: 1 }]);
      expect((await queue.stats("patient")).waiting).toBe(2);
      expect((await queue.stats("nobody")).waiting).toBe(1);
      expect((await queue.stats("absent")).waiting).toBe(0);
    });

    test(`fault 31: somebody who is there lapses as well when his whole time passes at once, and is there again, on ${name}`, async () => {
      await using store = await start();
      const { broker, queue, reports } = await open(store, { recipientTtlMs: HALF_AN_HOUR_MS });
      await using _ = broker;
      const handled: unknown[] = [];
      let release: (() => void) | undefined;
      const gate = new Promise<void>((resolve) => (release = resolve));
      await queue.subscribe({ as: "busy", concurrency: 1 }, async (data) => {
        handled.push(data);
        if (data === "first") await gate;
      });
      await queue.publish("first", { audience: "registered" });
      await queue.publish("second", { audience: "registered" });
      await until(() => handled.length === 1, { what: "the first" });
      store.setClock(HOUR_S);
      const publish = async (): Promise<boolean> =>
        (await queue.publish("from now on", { audience: "registered" })).recipients === 1;
      await publish();
      release?.();
      await until(publish, { ...soon, what: "it to be registered again" });
      await until(() => handled.includes("from now on"), { ...soon, what: "what is published from then on" });
      // Either it was read in time, or it is told what was lost.
      if (!handled.includes("second"))
        expect(reports).toMatchObject([{ code: "DATA_LOSS", channel: "times", reader: "busy" }]);
    });
  }

  for (const seconds of [-HOUR_S, HOUR_S]) {
    const title = seconds < 0 ? "an hour behind" : "an hour ahead";
    test(`fault 31: a process whose clock is ${title} gets its leases, delays, times to live, ids and recipients right`, async () => {
      const server = await startRedis();
      const unreliable = await createUnreliable();
      unreliable.set({ clockOffsetSeconds: seconds });
      await using child = startProgram("queue-times", [server.url], unreliable.env);
      await using broker = await connect(server.url, { logger: silentLogger });
      try {
        const said = await child.next((message) => "delayedMs" in message, START_MS);
        expect(Math.abs(Number(said["now"]) - Date.now())).toBeGreaterThan(HOUR_S * 900);
        expect(said["delayedMs"]).toBeGreaterThanOrEqual(400);
        expect(said["delayedMs"]).toBeLessThan(3_000);
        expect(said).toMatchObject({
          attempts: { held: 1, mortal: 1, delayed: 1, "delayed and mortal": 1, named: 1 },
          duplicate: true,
          recipients: 1,
          pending: "for all",
          record: "acked",
          expired: 1,
          leased: 0,
          losses: [],
        });
        expect(Object.keys(said["attempts"] as object)).toHaveLength(5);
        // Whoever has the right time agrees.
        expect(await broker.queue("times").publish("named once more", { id: "one" })).toMatchObject({
          duplicate: true,
        });
        expect((await broker.queue("times").stats("ada")).waiting).toBe(1);
      } finally {
        await child.stop();
        await server.stop();
        await unreliable.close();
      }
    });
  }
});
