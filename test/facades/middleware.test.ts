/** Middleware and payload encryption as users have them, the same for every facade and on every backend. */

import { randomBytes } from "node:crypto";
import { AsyncLocalStorage } from "node:async_hooks";
import { expect, test } from "vitest";
import {
  type Broker,
  CodecError,
  type DeadLetter,
  deadLetter,
  encryption,
  type Middleware,
  skip,
  when,
} from "../../src/index.js";
import { until } from "../support/wait.js";
import { collect, onEveryBackend } from "./support/lanes.js";

const ONCE = { maxAttempts: 1 };

/** Facades by what they have in common. */
const FACADES = ["events", "queue"] as const;
type Facade = (typeof FACADES)[number];

async function publish(broker: Broker, facade: Facade, name: string, data: unknown, options?: object): Promise<string> {
  const call =
    facade === "events" ? broker.events.publish(name, data, options) : broker.queue(name).publish(data, options);
  return (await call).id;
}

async function consume(broker: Broker, facade: Facade, name: string, handler: (data: unknown) => unknown) {
  const options = { group: "g", from: "beginning", retry: ONCE } as const;
  return facade === "events"
    ? await broker.events.subscribe(name, options, handler)
    : await broker.queue(name).subscribe({ retry: ONCE }, handler);
}

async function letters(broker: Broker, facade: Facade, name: string): Promise<DeadLetter[]> {
  const kept: AsyncIterable<DeadLetter> =
    facade === "events" ? broker.events.group(name, "g").deadLetters() : broker.queue(name).deadLetters();
  return await collect(kept);
}

onEveryBackend("middleware", (lane) => {
  test.each(FACADES)(
    "[D16] a logger in the middleware sees what is published and what is received through %s",
    async (facade) => {
      const log: unknown[] = [];
      const logger: Middleware = {
        name: "logger",
        async publish(messages, next) {
          const receipts = await next();
          for (const { id } of receipts) log.push({ sent: messages[0]?.name, id });
        },
        async handle({ facade, deliveries }, next) {
          await next();
          for (const { message, attempt } of deliveries)
            log.push({ received: message.type, id: message.id, attempt, facade });
        },
      };
      const broker = await lane.open({ middleware: [logger] });
      const name = lane.unique("orders");
      const id = await publish(broker, facade, name, { total: 1 });
      await using _sub = await consume(broker, facade, name, () => undefined);
      await until(() => log.length === 2);
      expect(log).toEqual([
        { sent: name, id },
        { received: name, id, attempt: 1, facade },
      ]);
    },
  );

  test("[D16] and through pubsub, where it may decide for the subscriber as well", async () => {
    const log: unknown[] = [];
    const logger: Middleware = {
      name: "logger",
      async publish(messages, next) {
        await next(messages.map((each) => ({ ...each, options: { ...each.options, headers: { tenant: "z" } } })));
        log.push(`published ${messages.length}`);
      },
      async handle({ facade, channel, deliveries: [first] }, next) {
        if (first?.message.data === "quiet") return skip();
        log.push([facade, channel, first?.message.headers]);
        return await next();
      },
    };
    const broker = await lane.open({ middleware: [logger] });
    const name = lane.unique("orders");
    const heard: unknown[] = [];
    await broker.pubsub.subscribe(name, (data) => void heard.push(data));
    await broker.pubsub.publishMany(name, ["quiet", "loud"]);
    await until(() => log.length === 2);
    expect(heard).toEqual(["loud"]);
    expect(log).toEqual(expect.arrayContaining(["published 2", ["pubsub", name, { tenant: "z" }]]));
  });

  test("several published at once are seen at once, changed before they are checked, and stay in their order", async () => {
    const seen: number[] = [];
    const stamp: Middleware = {
      name: "stamp",
      publish(messages, next) {
        seen.push(messages.length);
        return next(messages.map((each) => ({ ...each, options: { ...each.options, headers: { tenant: "z" } } })));
      },
    };
    const broker = await lane.open({ middleware: [stamp] });
    const name = lane.unique("orders");
    await broker.events.publishMany(name, [1, 2, 3], { key: (data) => `k${String(data)}` });
    await publish(broker, "queue", name, 4, { priority: 2 });
    expect(seen).toEqual([3, 1]);
    const heard: unknown[] = [];
    await broker.events.subscribe(name, { group: "g", from: "beginning", concurrency: 1 }, (data, { message }) => {
      heard.push([data, message.key, message.headers]);
    });
    await until(() => heard.length === 3);
    expect(heard).toEqual([1, 2, 3].map((data) => [data, `k${data}`, { tenant: "z" }]));
    for await (const { data, message } of broker.queue(name).deliveries()) {
      expect({ data, headers: message.headers, priority: message.priority }).toEqual({
        data: 4,
        headers: { tenant: "z" },
        priority: 2,
      });
      break;
    }
  });

  test("a publish that its middleware holds up ends with its signal, and one that it refuses is not sent", async () => {
    const hanging: Middleware = {
      name: "hanging",
      async publish([message], next) {
        if (message?.data === "refused") throw new Error("not on a Sunday");
        if (message?.data === "held") await new Promise(() => undefined);
        return await next();
      },
    };
    const broker = await lane.open({ middleware: [hanging] });
    const name = lane.unique("orders");
    const controller = new AbortController();
    const held = broker.events.publish(name, "held", { signal: controller.signal });
    controller.abort();
    await expect(held).rejects.toBe(controller.signal.reason);
    await expect(broker.events.publish(name, "refused")).rejects.toThrow("not on a Sunday");
    await broker.events.publish(name, "sent");
    expect((await broker.events.stats(name)).length).toBe(1);
  });

  test("what stands around a handler reaches into it and may decide for it, with batches and replays as well", async () => {
    const tenant = new AsyncLocalStorage<string>();
    const context: Middleware = {
      name: "tenant",
      handle: ({ deliveries: [first] }, next) => (first?.message.data === "skip" ? skip() : tenant.run("z", next)),
    };
    const broker = await lane.open({ middleware: [context] });
    const name = lane.unique("orders");
    await broker.events.publishMany(name, ["skip", "a", "b"]);
    const heard: unknown[] = [];
    const note = (data: unknown): void => void heard.push([data, tenant.getStore()]);
    await broker.events.subscribe(name, { group: "one", from: "beginning" }, note);
    await until(() => heard.length === 2);
    expect(heard.splice(0)).toEqual(["a", "b"].map((data) => [data, "z"]));
    await broker.events.replay(name, { from: "beginning" }, note);
    expect(heard.splice(0)).toEqual(["a", "b"].map((data) => [data, "z"]));
    const batches = { group: "batches", from: "beginning", max: 3, waitMs: 5_000 } as const;
    // The first one of the batch decides for all three here: the middleware is asked once.
    await broker.events.subscribeBatch(name, batches, (deliveries) => note(deliveries.length));
    await until(async () => (await broker.events.group(name, "batches").stats()).lag === 0);
    expect(heard).toEqual([]);
  });
});

onEveryBackend("payload encryption", (lane) => {
  const [old, newer] = [randomBytes(32), randomBytes(32)];
  const rotated = [encryption({ keys: { old, newer }, current: "newer" })];

  test.each(FACADES)("what is published through %s is stored encrypted, and arrives as it was", async (facade) => {
    const writer = await lane.open({ middleware: [encryption({ keys: { old }, current: "old" })] });
    const reader = await lane.open({ middleware: rotated });
    const name = lane.unique("secret");
    await publish(writer, facade, name, { iban: "DE02 1203" });
    await publish(reader, facade, name, { iban: "DE02 1203" });
    const heard: unknown[] = [];
    await using _sub = await consume(reader, facade, name, (data) => {
      heard.push(data);
      throw new Error("park it");
    });
    await until(async () => (await letters(reader, facade, name)).length === 2);
    expect(heard).toEqual([{ iban: "DE02 1203" }, { iban: "DE02 1203" }]);
    for (const { raw, message } of await letters(reader, facade, name)) {
      expect(Buffer.from(raw).includes("DE02")).toBe(false);
      expect(message).toMatchObject({ data: { iban: "DE02 1203" }, contentType: "encrypted+json" });
    }
  });

  test.each(FACADES)(
    "bad inputs 74 and 75 through %s: a bad tag and an unknown key are dead letters, still encrypted, and come back with the key",
    async (facade) => {
      const writer = await lane.open({ middleware: rotated });
      const name = lane.unique("secret");
      await publish(writer, facade, name, 1);
      const lacking = await lane.open({ middleware: [encryption({ keys: { old }, current: "old" })] });
      const sub = await consume(lacking, facade, name, () => undefined);
      await until(async () => (await letters(lacking, facade, name)).length === 1);
      await sub.close();
      const impostor = await lane.open({ middleware: [encryption({ keys: { newer: old }, current: "newer" })] });
      await redrive(writer, facade, name);
      const other = await consume(impostor, facade, name, () => undefined);
      await until(async () => (await letters(impostor, facade, name)).length === 1);
      await other.close();
      const [letter] = await letters(impostor, facade, name);
      expect(letter).toMatchObject({ message: undefined, reason: { kind: "undecodable" } });
      expect(letter?.reason.message).toContain("does not decrypt");
      expect(Buffer.from(letter?.raw ?? []).toString("latin1")).toContain("\u0001\u0005newer");
      await redrive(writer, facade, name);
      const heard: unknown[] = [];
      await using _sub = await consume(writer, facade, name, (data) => void heard.push(data));
      await until(() => heard.length === 1);
      expect(heard).toEqual([1]);
    },
  );

  test("pub/sub is encrypted on its way, and what cannot be decrypted is kept as it came", async () => {
    const writer = await lane.open({ middleware: rotated });
    const lacking = await lane.open({ middleware: [encryption({ keys: { old }, current: "old" })] });
    const plain = await lane.open();
    const name = lane.unique("secret");
    for (const broker of [lacking, plain])
      broker.pubsub.onError(when(CodecError), ({ message }) => deadLetter(message));
    const heard: unknown[] = [];
    for (const broker of [writer, lacking, plain]) await broker.pubsub.subscribe(name, (data) => void heard.push(data));
    await writer.pubsub.publish(name, { iban: "DE02 1203" });
    await until(async () => (await collect(writer.pubsub.deadLetters(name))).length === 2);
    await until(() => heard.length === 1);
    expect(heard).toEqual([{ iban: "DE02 1203" }]);
    const kept = await collect(writer.pubsub.deadLetters(name));
    for (const { raw, message } of kept) {
      expect(Buffer.from(raw).includes("DE02")).toBe(false);
      expect(message?.data).toEqual({ iban: "DE02 1203" });
    }
    expect(kept.map(({ reason }) => reason.message).toSorted()).toEqual([
      expect.stringContaining('no codec for "encrypted+json"'),
      expect.stringContaining('no key "newer"'),
    ]);
  });

  test("a message that is not encrypted never reaches a handler that asks for encryption", async () => {
    const plain = await lane.open();
    const name = lane.unique("secret");
    await publish(plain, "events", name, { forged: true });
    const reader = await lane.open({ middleware: rotated });
    await using _sub = await consume(reader, "events", name, () => {
      throw new Error("must not be handled");
    });
    await until(async () => (await letters(reader, "events", name)).length === 1);
    expect((await letters(reader, "events", name))[0]?.reason).toMatchObject({
      kind: "undecodable",
      message: expect.stringContaining('without "encrypted+"'),
    });
  });
});

async function redrive(broker: Broker, facade: Facade, name: string): Promise<void> {
  const redriven = facade === "events" ? broker.events.group(name, "g").redrive() : broker.queue(name).redrive();
  expect(await redriven).toBe(1);
}
