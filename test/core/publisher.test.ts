/** Publishing to many channels at once, and in which order. */

import { expect, test } from "vitest";
import type { z } from "zod";
import { Batcher } from "../../src/core/batcher.js";
import { type Broker, connect, defineContract } from "../../src/index.js";
import { silentLogger } from "../facades/support/lanes.js";
import { until } from "../support/wait.js";

/** Counts how often anybody asks whether a lane is idle. */
function countLooks(): { looks: number } & Disposable {
  const original = Object.getOwnPropertyDescriptor(Batcher.prototype, "isIdle");
  if (original === undefined) throw new Error("there is no isIdle");
  const counted = {
    looks: 0,
    [Symbol.dispose]: () => void Object.defineProperty(Batcher.prototype, "isIdle", original),
  };
  Object.defineProperty(Batcher.prototype, "isIdle", {
    ...original,
    get(this: object) {
      counted.looks += 1;
      return original.get?.call(this) as unknown;
    },
  });
  return counted;
}

test("publishing to many channels in one tick looks at each a few times at most, not at all of them for each", async () => {
  await using broker = await connect("memory:", { logger: silentLogger });
  using counted = countLooks();
  const channels = Array.from({ length: 4_000 }, (_, index) => `user.${index}`);
  await Promise.all(channels.map((name) => broker.pubsub.publish(name, 1)));
  expect(counted.looks).toBeLessThan(4 * channels.length);
});

/** A broker whose schemas answer for a text once a test says so; for numbers at once. */
async function openSlow(options: { publishBuffer?: number } = {}): Promise<{
  broker: Broker;
  answer: (text: string, isValid?: boolean) => void;
}> {
  const waiting = new Map<string, (isValid: boolean) => void>();
  const done = new Set<string>();
  const validate = (value: unknown) => {
    const answered = (isValid: boolean) => (isValid ? { value } : { issues: [{ message: "refused" }] });
    if (typeof value !== "string" || done.has(value)) return answered(true);
    return new Promise((resolve) => waiting.set(value, (isValid) => resolve(answered(isValid))));
  };
  const schema = { "~standard": { version: 1, vendor: "test", validate } } as unknown as z.ZodType;
  const contract = defineContract({ channels: { news: schema, other: schema }, events: { "order.created": schema } });
  const broker = await connect("memory:", { contract, logger: silentLogger, ...options });
  return {
    broker: broker as unknown as Broker,
    answer(text, isValid = true) {
      done.add(text);
      waiting.get(text)?.(isValid);
    },
  };
}

test("what is published behind a slower validation waits for it, alone or several at once", async () => {
  const { broker, answer } = await openSlow();
  const heard: unknown[] = [];
  await broker.pubsub.subscribe("news", { concurrency: 1 }, (data) => void heard.push(data));
  const published = [
    broker.pubsub.publish("news", "a"),
    broker.pubsub.publish("news", "b"),
    broker.pubsub.publish("news", 1),
    broker.pubsub.publishMany("news", ["c", 2]),
    broker.pubsub.publishMany("news", [3, 4]),
    broker.pubsub.publish("news", 5, { correlationId: "x" }),
  ];
  answer("c");
  answer("b");
  // Another channel does not wait.
  await broker.pubsub.publish("other", 1);
  expect(heard).toEqual([]);
  answer("a");
  await Promise.all(published);
  await until(() => heard.length === 8);
  expect(heard).toEqual(["a", "b", 1, "c", 2, 3, 4, 5]);
  await broker.close();
});

test("events of one key are stored in the order in which they were published, however long their schema takes", async () => {
  const { broker, answer } = await openSlow();
  const published = ["a", "b"].map((text) => broker.events.publish("order.created", text, { key: "k" }));
  answer("b");
  await Promise.resolve();
  answer("a");
  await Promise.all(published);
  const handled: unknown[] = [];
  const options = { group: "g", from: "beginning", order: "strict" } as const;
  await broker.events.subscribe("order.created", options, (data) => void handled.push(data));
  await until(() => handled.length === 2);
  expect(handled).toEqual(["a", "b"]);
  await broker.close();
});

test("what is refused, or given up by its signal, holds up nobody behind it", async () => {
  const { broker, answer } = await openSlow();
  const heard: unknown[] = [];
  await broker.pubsub.subscribe("news", { concurrency: 1 }, (data) => void heard.push(data));
  const giveUp = new AbortController();
  const [refused, aborted, behind] = [
    broker.pubsub.publish("news", "refused"),
    broker.pubsub.publish("news", "aborted", { signal: giveUp.signal }),
    broker.pubsub.publish("news", 1),
  ];
  giveUp.abort(new Error("no longer"));
  await expect(aborted).rejects.toThrow("no longer");
  answer("refused", false);
  await expect(refused).rejects.toMatchObject({ code: "SCHEMA" });
  await behind;
  await until(() => heard.length === 1);
  expect(heard).toEqual([1]);
  await broker.close();
});

test("no more wait for a validation than may wait to be sent", async () => {
  const { broker, answer } = await openSlow({ publishBuffer: 2 });
  const published = ["a", "b"].map((text) => broker.pubsub.publish("news", text));
  await expect(broker.pubsub.publish("news", 3)).rejects.toMatchObject({ code: "LIMIT", retryable: true });
  answer("a");
  answer("b");
  await Promise.all(published);
  await broker.pubsub.publish("news", 4);
  await broker.close();
});
