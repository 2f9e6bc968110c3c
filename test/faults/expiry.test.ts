/** A hundred thousand messages that expire at the same moment: no call takes long, what still counts is handled, and the count is exact. */

import { expect, test } from "vitest";
import { type Broker, connect } from "../../src/index.js";
import { silentLogger } from "../facades/support/lanes.js";
import { pause, until } from "../support/wait.js";
import { CLOCKED_STORES, HOUR_S } from "./support/clocks.js";

const MESSAGES = 100_000;
const EACH = 5_000;
const FRESH = 50;
/** Of a call beside all that, on a machine that has other things to do. */
const MAX_CALL_MS = 1_000;

function expiredOf(broker: Broker): number {
  const counts = broker.metrics().filter(({ name }) => name === "signalbox.expired.messages");
  return counts.reduce((sum, metric) => sum + (metric.kind === "counter" ? metric.value : 0), 0);
}

for (const [name, start] of Object.entries(CLOCKED_STORES)) {
  test(`100,000 messages that expire at once, on ${name}`, async () => {
    await using store = await start();
    await using broker = await connect(store.url, { logger: silentLogger, ...store.connect });
    const told = { count: 0, ids: 0 };
    const queue = broker.queue("mortal", {
      onExpired({ count, ids }) {
        told.count += count;
        told.ids += ids.length;
      },
    });
    const batch = Array.from({ length: EACH }, (_, number) => `${number}`);
    for (let sent = 0; sent < MESSAGES; sent += EACH) await queue.publishMany(batch, { ttlMs: (HOUR_S / 2) * 1_000 });
    expect(await queue.stats()).toMatchObject({ waiting: MESSAGES, expired: 0 });

    store.setClock(HOUR_S);
    // They stand behind all that has expired.
    const fresh = Array.from({ length: FRESH }, (_, number) => `fresh ${number}`);
    await queue.publishMany(fresh.slice(1));
    const handled: unknown[] = [];
    const startedAt = performance.now();
    await queue.subscribe({ concurrency: 10 }, (data) => void handled.push(data));
    let longest = 0;
    const isDone = async (): Promise<boolean> => {
      const calledAt = performance.now();
      const { waiting } = await queue.stats();
      longest = Math.max(longest, performance.now() - calledAt);
      return waiting === 0 && handled.length === FRESH;
    };
    // More urgent than what has expired, it waits for nothing.
    await queue.publish(fresh[0], { priority: 1 });
    await until(() => handled.includes(fresh[0]), { what: "what is more urgent" });
    const soonMs = performance.now() - startedAt;
    await until(isDone, { deadlineMs: 25_000, everyMs: 20, what: "the rest" });
    expect(soonMs).toBeLessThan(2_000);
    expect(longest).toBeLessThan(MAX_CALL_MS);
    expect(new Set(handled)).toEqual(new Set(fresh));
    expect(handled.length).toBe(FRESH);
    const none = { waiting: 0, leased: 0, delayed: 0, dead: 0, dropped: 0 };
    await until(async () => (await queue.stats()).leased === 0);
    expect(await queue.stats()).toMatchObject({ ...none, expired: MESSAGES });
    expect(expiredOf(broker)).toBe(MESSAGES);
    expect(told.count).toBe(MESSAGES);
    // By their ids those that the consumer found itself, and nobody who asked for counts.
    expect(told.ids).toBeGreaterThan(0);
    expect(told.ids).toBeLessThanOrEqual(MESSAGES);
    expect(await queue.count()).toBe(0);
  }, 60_000);

  test(`100,000 messages that expire at once and nobody consumes make room for new ones, on ${name}`, async () => {
    await using store = await start();
    await using broker = await connect(store.url, { logger: silentLogger, ...store.connect });
    const queue = broker.queue("full", { maxItems: MESSAGES });
    const batch = Array.from({ length: EACH }, (_, number) => `${number}`);
    for (let sent = 0; sent < MESSAGES; sent += EACH) await queue.publishMany(batch, { ttlMs: (HOUR_S / 2) * 1_000 });
    await expect(queue.publish("no room")).rejects.toMatchObject({ code: "LIMIT" });
    store.setClock(HOUR_S);
    const startedAt = performance.now();
    await queue.publish("room");
    expect(performance.now() - startedAt).toBeLessThan(10_000);
    // Everything was found, or will be: none is counted twice.
    const handled: unknown[] = [];
    await queue.subscribe({}, (data) => void handled.push(data));
    await until(async () => (await queue.stats()).expired === MESSAGES, { deadlineMs: 25_000, everyMs: 20 });
    await until(() => handled.length > 0);
    await pause(50);
    expect(handled).toEqual(["room"]);
    expect(expiredOf(broker)).toBe(MESSAGES);
  }, 60_000);
}
