/** Streams that types share, and how long streams may grow, the same on every backend. */

import { expect, test } from "vitest";
import { z } from "zod";
import { type DataLossDetected, defineContract } from "../../src/index.js";
import { pause as moment, until } from "../support/wait.js";
import { collect, onEveryBackend } from "./support/lanes.js";

const ONCE = { maxAttempts: 1 };

onEveryBackend("a declared stream", (lane) => {
  const counterOf = (broker: { metrics(): readonly { name: string; labels: object }[] }, name: string): unknown =>
    broker.metrics().find((metric) => metric.name === name && "reader" in metric.labels);

  test("types that share a stream keep their order among each other, and a group gets those that it handles", async () => {
    const orders = lane.unique("orders");
    const streams = { [orders]: { types: ["order.created", "order.paid", "order.sent"] } } as const;
    const contract = defineContract({
      events: {
        "order.created": z.object({ total: z.number() }),
        "order.paid": z.object({ by: z.string() }),
        "order.sent": z.unknown(),
      },
    });
    const broker = await lane.open({ contract, streams, namespace: orders });
    const { events } = broker;
    for (const total of [1, 2]) {
      await events.publish("order.created", { total }, { key: "c" });
      await events.publish("order.paid", { by: `card ${total}` }, { key: "c" });
      await events.publish("order.sent", total);
    }
    const all: unknown[] = [];
    const types = ["order.sent", "order.paid", "order.created"] as const;
    await events.subscribe(
      types,
      { group: "all", from: "beginning", order: "key", concurrency: 1 },
      (data, { message, channel }) => {
        all.push([message.type, data]);
        expect(channel).toBe(orders);
      },
    );
    const paid: unknown[] = [];
    const sub = await events.subscribe(
      "order.paid",
      { group: "paid", from: "beginning" },
      ({ by }) => void paid.push(by),
    );
    await until(() => all.length === 6 && paid.length === 2);
    expect(all).toEqual([
      ["order.created", { total: 1 }],
      ["order.paid", { by: "card 1" }],
      ["order.sent", 1],
      ["order.created", { total: 2 }],
      ["order.paid", { by: "card 2" }],
      ["order.sent", 2],
    ]);
    expect(paid).toEqual(["card 1", "card 2"]);
    // What it does not handle is passed by, and counted.
    await until(() => sub.stats()[0]?.settled === 6);
    expect(counterOf(broker, "signalbox.passed.messages")).toMatchObject({ value: 0 });
    const passed = broker
      .metrics()
      .find(({ name, labels }) => name === "signalbox.passed.messages" && labels["reader"] === "paid");
    expect(passed).toMatchObject({ value: 4 });
    expect(await events.group("order.created", "paid").stats()).toMatchObject({ lag: 0, pending: 0, dead: 0 });

    expect(await events.stats("order.sent")).toMatchObject({ stream: orders, length: 6 });
    expect((await events.groups("order.created")).toSorted()).toEqual(["all", "paid"]);
    const stored = (await events.group("order.paid", "all").stats()).settings.types;
    expect(stored).toEqual(["order.created", "order.paid", "order.sent"]);
    const replayed: unknown[] = [];
    await events.replay("order.created", { from: "beginning" }, ({ total }) => void replayed.push(total));
    expect(replayed).toEqual([1, 2]);
    const batches: unknown[][] = [];
    await events.subscribeBatch(
      ["order.created", "order.paid"],
      { group: "batches", from: "beginning" },
      (deliveries) => {
        batches.push(deliveries.map(({ message }) => message.type));
      },
    );
    await until(() => batches.flat().length === 4);
    expect(batches.flat()).toEqual(["order.created", "order.paid", "order.created", "order.paid"]);
  });

  test("the types that a group handles belong to it: they agree, or are changed with configure", async () => {
    const orders = lane.unique("orders");
    const streams = { [orders]: { types: ["a", "b", "c"] } };
    const broker = await lane.open({ streams, namespace: orders });
    const { events } = broker;
    const handler = (): void => undefined;
    await events.subscribe(["b", "a"], { group: "g", from: "new" }, handler);
    await events.subscribe(["a", "b", "a"], { group: "g", from: "new" }, handler);
    await expect(events.subscribe("a", { group: "g", from: "new" }, handler)).rejects.toMatchObject({
      problems: [expect.stringMatching(/types a, b, and this consumer asks for a:/)],
    });
    await expect(events.group("a", "g").configure({ types: ["a", "d"] })).rejects.toMatchObject({ code: "CONFIG" });
    expect(await events.group("a", "g").configure({ types: ["c", "a"] })).toMatchObject({ types: ["a", "c"] });
    await events.subscribe(["a", "c"], { group: "g", from: "new" }, handler);
    // The stream's own name is no type of it, here or anywhere.
    await expect(events.publish(orders, 1)).rejects.toMatchObject({ code: "INVALID_ARGUMENT" });
    await expect(events.stats(orders)).rejects.toMatchObject({ code: "INVALID_ARGUMENT" });
    // Whoever does not know that the stream is shared is refused, before it misreads what is in it.
    const stranger = await lane.open({ namespace: orders });
    await expect(stranger.events.subscribe(orders, { group: "g", from: "new" }, handler)).rejects.toMatchObject({
      problems: [expect.stringMatching(/types a, c, and this consumer asks for orders/)],
    });
  });

  test("a consumer that runs while its group gets a type more leaves it to those that handle it", async () => {
    const orders = lane.unique("orders");
    const { events } = await lane.open({ streams: { [orders]: { types: ["a", "b", "c"] } }, namespace: orders });
    const options = { group: "g", from: "beginning", leaseMs: 600 } as const;
    const old: unknown[] = [];
    await events.subscribe("a", options, (data) => void old.push(data));
    const group = events.group("a", "g");
    await group.configure({ types: ["a", "b"] });
    // Running consumers ask at least once a second, or every third of their lease.
    await moment(1_500);
    await events.publish("b", "new");
    await events.publish("c", "nobody's");
    await events.publish("a", "old");
    await until(() => old.length === 1);
    await until(async () => (await group.stats()).lag === 0);
    // What is left to others is out for a moment, again and again.
    await until(async () => {
      const { retrying, pending } = await group.stats();
      return retrying === 1 && pending === 0;
    });
    expect((await group.stats()).dead).toBe(0);
    const seen: unknown[] = [];
    await events.subscribe(["a", "b"], options, (data, { attempt }) => void seen.push([data, attempt]));
    await until(() => seen.length === 1, { deadlineMs: 20_000 });
    expect(seen).toEqual([["new", 1]]);
  });

  test("types of several streams in one call are several consumers; the iterable form takes them as well", async () => {
    const orders = lane.unique("orders");
    const broker = await lane.open({ streams: { [orders]: { types: ["a", "b"] } }, namespace: orders });
    await broker.events.publish("a", 1);
    await broker.events.publish("b", 2);
    await broker.events.publish("alone", 3);
    const options = { group: "g", from: "beginning" } as const;
    const seen: unknown[] = [];
    const iterator = broker.events.deliveries(["a", "alone", "b"], options);
    for await (const delivery of iterator) {
      seen.push(delivery.data);
      await delivery.ack();
      await delivery.extend().catch((error: unknown) => expect(error).toMatchObject({ code: "LEASE_LOST" }));
      if (seen.length === 3) break;
    }
    expect(new Set(seen)).toEqual(new Set([1, 2, 3]));
    const sub = await broker.events.subscribe(["a", "alone", "b"], options, () => undefined);
    expect(sub.stats().map(({ channel }) => channel)).toEqual([orders, "alone"]);
    expect((await broker.events.stats("a")).groups[0]).toMatchObject({ lag: 0, pending: 0 });
  });

  test("limits are stored with the stream: whoever declares others is refused, naming both, and opens nothing", async () => {
    const name = lane.unique("t");
    await lane.open({ streams: { [name]: { maxEntries: 10, overflow: "drop-oldest" } } });
    await expect(lane.open({ streams: { [name]: { maxEntries: 20, maxAgeMs: 5_000 } } })).rejects.toMatchObject({
      code: "CONFIG",
      problems: [expect.stringContaining("maxEntries 10"), expect.stringContaining("no maxAgeMs")],
    });
    const agreeing = await lane.open({ streams: { [name]: { maxEntries: 10 } } });
    const silent = await lane.open();
    expect((await silent.events.stats(name)).retention).toEqual({ maxEntries: 10, overflow: "drop-oldest" });
    for (const broker of [agreeing, silent]) {
      for (let number = 0; number < 8; number += 1) await broker.events.publish(name, number);
    }
    expect((await silent.events.stats(name)).length).toBeLessThanOrEqual(10);
    await expect(lane.open({ streams: { a: { types: ["x"] }, b: { types: ["x", "a"] } } })).rejects.toMatchObject({
      problems: { length: 2 },
    });
  });

  test("stored limits can be changed, and hold for every process from the next event", async () => {
    const name = lane.unique("t");
    const limits = { maxEntries: 2, maxAgeMs: 3_600_000 };
    const declaring = await lane.open({ streams: { [name]: limits } });
    const other = await lane.open();
    const sub = await declaring.events.subscribe(name, { group: "slow", from: "beginning" }, () => undefined);
    await sub.close();
    await declaring.events.publishMany(name, [1, 2]);
    await expect(declaring.events.publish(name, 3)).rejects.toMatchObject({
      code: "LIMIT",
      message: expect.stringContaining("events.configure"),
    });
    expect(await other.events.configure(name, { maxEntries: 3, maxAgeMs: null })).toEqual({
      maxEntries: 3,
      overflow: "reject",
    });
    await declaring.events.publish(name, 3);
    await expect(declaring.events.publish(name, 4)).rejects.toMatchObject({ code: "LIMIT" });
    expect((await declaring.events.stats(name)).retention).toEqual({ maxEntries: 3, overflow: "reject" });
    await expect(lane.open({ streams: { [name]: limits } })).rejects.toMatchObject({
      code: "CONFIG",
      message: expect.stringContaining("events.configure"),
    });
    await lane.open({ streams: { [name]: { maxEntries: 3 } } });
    // Of a stream of which nothing is stored, what this process declares is changed: the defaults.
    const plain = lane.unique("t");
    expect(await other.events.configure(plain, { overflow: "drop-oldest" })).toEqual({
      maxEntries: 1_000_000,
      overflow: "drop-oldest",
    });
  });

  test("limits that cannot be meant are not stored", async () => {
    const name = lane.unique("t");
    const broker = await lane.open({ contract: defineContract({ events: { [name]: z.number() } }) });
    for (const changes of [
      undefined,
      null,
      {},
      { maxEntries: undefined },
      { maxEntries: 0 },
      { maxEntries: null },
      { maxAgeMs: 0 },
      { overflow: "drop" },
      { blockMs: 5 },
      { signal: new AbortController().signal },
      JSON.parse('{ "__proto__": { "maxEntries": 1 }, "maxEntries": 5 }'),
    ]) {
      await expect(broker.events.configure(name, changes as never), JSON.stringify(changes)).rejects.toMatchObject({
        code: "CONFIG",
      });
    }
    await expect(broker.events.configure("typo", { maxEntries: 5 })).rejects.toMatchObject({
      code: "INVALID_ARGUMENT",
    });
    const signal = AbortSignal.abort("enough");
    await expect(broker.events.configure(name, { maxEntries: 5, signal })).rejects.toBe("enough");
    expect((await broker.events.stats(name)).retention).toBeUndefined();
  });

  test("[E18] what some group still has to read is not dropped: publishing is refused, naming the slowest group", async () => {
    const name = lane.unique("t");
    const broker = await lane.open({ streams: { [name]: { maxEntries: 5 } } });
    for (const group of ["fast", "slow"]) {
      const sub = await broker.events.subscribe(name, { group, from: "beginning" }, () => undefined);
      await broker.events.publish(name, 0);
      await until(async () => (await broker.events.group(name, group).stats()).lag === 0);
      if (group === "slow") await sub.close();
    }
    for (let number = 2; number < 6; number += 1) await broker.events.publish(name, number);
    await until(async () => {
      const { lag, pending } = await broker.events.group(name, "fast").stats();
      return lag + pending === 0;
    });
    for (let more = 0; more < 2; more += 1) {
      await broker.events.publish(name, 9).catch((error: unknown) => {
        expect(error).toMatchObject({ code: "LIMIT", retryable: true, message: expect.stringContaining('"slow"') });
      });
    }
    await expect(broker.events.publish(name, 10)).rejects.toMatchObject({ code: "LIMIT" });
    await broker.events.group(name, "slow").delete();
    await broker.events.publish(name, 11);
  });

  test("[E18] where the oldest may go, what goes unread is counted; it is reported unless this process wants it so", async () => {
    const name = lane.unique("t");
    const losses: DataLossDetected[] = [];
    const onError = (error: Error): void => void losses.push(error as DataLossDetected);
    const knowing = await lane.open({ streams: { [name]: { maxEntries: 3, overflow: "drop-oldest" } }, onError });
    const unknowing = await lane.open({ onError });
    // Both groups exist from the start.
    for (const group of ["a", "b"]) {
      const sub = await knowing.events.subscribe(name, { group, from: "beginning" }, () => undefined);
      await sub.close();
    }
    for (let number = 0; number < 10; number += 1) await knowing.events.publish(name, number);
    const { length } = await knowing.events.stats(name);
    expect(length).toBeLessThanOrEqual(3);
    const gone = async (broker: typeof knowing, group: string): Promise<number> => {
      const seen: unknown[] = [];
      await broker.events.subscribe(name, { group, from: "beginning" }, (data) => void seen.push(data));
      return await until(() => {
        const metric = broker
          .metrics()
          .find((one) => one.name === "signalbox.gone.messages" && one.labels["reader"] === group);
        const value = metric?.kind === "counter" ? metric.value : 0;
        return seen.length + value === 10 && value;
      });
    };
    expect(await gone(knowing, "a")).toBe(10 - length);
    expect(losses).toEqual([]);
    expect(await gone(unknowing, "b")).toBe(10 - length);
    expect(losses.reduce((sum, { count }) => sum + (count ?? 0), 0)).toBe(10 - length);
    expect(losses[0]).toMatchObject({ code: "DATA_LOSS", channel: name, reader: "b" });
  });

  test("a publish waits for room where it shall, in order, and goes on when there is", async () => {
    const name = lane.unique("t");
    const broker = await lane.open({ streams: { [name]: { maxEntries: 5, overflow: "block", blockMs: 20_000 } } });
    const first = await broker.events.subscribe(name, { group: "g", from: "beginning" }, () => undefined);
    await first.close();
    let stored = 0;
    const numbers = Array.from({ length: 30 }, (_, number) => number);
    const publishing = Promise.all(
      numbers.map(async (number) => {
        await broker.events.publish(name, number);
        stored += 1;
      }),
    );
    await until(() => stored === 5);
    await moment(300);
    expect(stored).toBe(5);
    const seen: unknown[] = [];
    await broker.events.subscribe(
      name,
      { group: "g", from: "beginning", concurrency: 1 },
      (data) => void seen.push(data),
    );
    await publishing;
    await until(() => seen.length === 30);
    expect(seen).toEqual(numbers);
  });

  test("a publish that waits for room ends with its signal, with its time, and with the broker", async () => {
    const name = lane.unique("t");
    const broker = await lane.open({ streams: { [name]: { maxEntries: 2, overflow: "block", blockMs: 400 } } });
    const witness = await lane.open();
    const sub = await broker.events.subscribe(name, { group: "g", from: "beginning" }, () => undefined);
    await sub.close();
    await broker.events.publishMany(name, [1, 2]);
    const giveUp = new AbortController();
    const abandoned = broker.events.publish(name, "given up", { signal: giveUp.signal });
    const startedAt = performance.now();
    const refused = broker.events.publish(name, "too late");
    giveUp.abort("no more");
    await expect(abandoned).rejects.toBe("no more");
    await expect(refused).rejects.toMatchObject({
      code: "LIMIT",
      retryable: true,
      message: expect.stringContaining("blockMs (400)"),
    });
    expect(performance.now() - startedAt).toBeGreaterThan(390);
    const waiting = broker.events.publish(name, "closed");
    const closing = broker.close({ drainMs: 50 });
    await expect(waiting).rejects.toMatchObject({ code: "CLOSED" });
    await closing;
    const { length } = await witness.events.stats(name);
    expect(length).toBe(2);
  });

  test("events that are too old are dropped, also while nobody publishes", async () => {
    const name = lane.unique("t");
    const broker = await lane.open({ streams: { [name]: { maxAgeMs: 300 } } });
    await broker.events.publishMany(name, [1, 2, 3]);
    expect((await broker.events.stats(name)).length).toBe(3);
    await until(async () => (await broker.events.stats(name)).length === 0);
  });

  test("undecodable events of a shared stream are dead letters, whatever their type was", async () => {
    const orders = lane.unique("orders");
    const streams = { [orders]: { types: ["a", "b"] } } as const;
    const broker = await lane.open({ streams, namespace: orders });
    const typed = await lane.open({
      streams,
      namespace: orders,
      contract: defineContract({ events: { a: z.number(), b: z.string() } }),
    });
    await broker.events.publish("a", "no number");
    await broker.events.publish("b", 7);
    await typed.events.publish("a", 7);
    const seen: unknown[] = [];
    await typed.events.subscribe("a", { group: "g", from: "beginning", retry: ONCE }, (data) => void seen.push(data));
    await until(() => seen.length === 1);
    const group = typed.events.group("a", "g");
    await until(async () => (await group.stats()).pending === 0);
    // The other type is not this group's business, readable or not.
    expect(await collect(group.deadLetters())).toMatchObject([
      { message: { type: "a", data: "no number" }, reason: { kind: "undecodable" }, stream: orders, group: "g" },
    ]);
  });
});
