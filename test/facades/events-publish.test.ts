/** Ids and keys of events, the same on every backend: what is stored once, and what is refused before it is stored. */

import { expect, test } from "vitest";
import type { PublishEventOptions } from "../../src/index.js";
import { until } from "../support/wait.js";
import { onEveryBackend } from "./support/lanes.js";

interface Order {
  readonly order: number;
  readonly customer: string;
}

onEveryBackend("publishing events", (lane) => {
  test("[E6] the same id is not stored again: the receipt says so, and names the place of the first", async () => {
    const broker = await lane.open();
    const type = lane.unique("order.created");
    const first = await broker.events.publish(type, { total: 1 }, { id: "order-7" });
    expect(first).toEqual({
      id: "order-7",
      position: first.position,
      duplicate: false,
      durability: lane.name === "sqlite" ? "fsync" : "memory",
    });
    const again = await broker.events.publish(type, { total: 2 }, { id: "order-7", key: "c" });
    expect(again).toEqual({ ...first, duplicate: true });
    const other = await lane.open();
    expect(await other.events.publish(type, { total: 3 }, { id: "order-7" })).toMatchObject({ duplicate: true });
    // Another stream is another matter, and without an id nothing is remembered.
    expect(await broker.events.publish(lane.unique("t"), {}, { id: "order-7" })).toMatchObject({ duplicate: false });
    for (let round = 0; round < 2; round += 1) {
      expect(await broker.events.publish(type, { total: 1 })).toMatchObject({ duplicate: false });
    }
    const seen: [string, unknown, number][] = [];
    const before = Date.now() - 60_000;
    await broker.events.subscribe(type, { group: "g", from: "beginning", concurrency: 1 }, (data, { message }) => {
      seen.push([message.id, data, message.time]);
    });
    await until(() => seen.length === 3);
    expect(seen[0]?.slice(0, 2)).toEqual(["order-7", { total: 1 }]);
    // An id of the caller's tells no time: the event carries it.
    expect(seen[0]?.[2]).toBeGreaterThan(before);
  });

  test("several events get their keys and ids from functions; what is given twice in one call is stored once", async () => {
    const broker = await lane.open();
    const type = lane.unique("t");
    const orders: Order[] = [1, 2, 1, 3].map((order) => ({ order, customer: `c${order % 2}` }));
    const receipts = await broker.events.publishMany(type, orders, {
      key: (data) => (data as Order).customer,
      id: (data, index) => `order-${(data as Order).order}-${index < 3 ? "a" : "b"}`,
    });
    expect(receipts.map(({ id, duplicate }) => [id, duplicate])).toEqual([
      ["order-1-a", false],
      ["order-2-a", false],
      ["order-1-a", true],
      ["order-3-b", false],
    ]);
    expect(receipts[2]?.position).toBe(receipts[0]?.position);
    await broker.events.publishMany(type, orders.slice(0, 1), { key: "one for all" });
    await broker.events.publishMany(type, orders.slice(0, 1), { key: () => undefined });
    const keys: (string | undefined)[] = [];
    await broker.events.subscribe(type, { group: "g", from: "beginning", concurrency: 1 }, (_, { message }) => {
      keys.push(message.key);
    });
    await until(() => keys.length === 5);
    expect(keys).toEqual(["c1", "c0", "c1", "one for all", undefined]);
  });

  test("an id or a key that is none is refused before anything is stored", async () => {
    const broker = await lane.open();
    const type = lane.unique("t");
    for (const options of [
      { id: "" },
      { id: "a\nb" },
      { id: "\u0000" },
      { id: "half \ud83d" },
      { id: "x".repeat(201) },
      { id: 7 },
      { id: () => "a" },
      { key: "" },
      { key: "a\u001fb" },
      { key: () => "a" },
      { ids: "a" },
    ] as PublishEventOptions[]) {
      await expect(broker.events.publish(type, 1, options), JSON.stringify(options)).rejects.toMatchObject({
        code: "INVALID_ARGUMENT",
      });
    }
    for (const options of [
      { id: "the same for all" },
      { id: () => undefined },
      { id: (_: unknown, index: number) => (index < 2 ? `id-${index}` : "") },
      { key: (_: unknown, index: number) => (index < 2 ? "k" : "\n") },
      { id: () => "a\tb" },
    ]) {
      await expect(broker.events.publishMany(type, [1, 2, 3], options as never)).rejects.toMatchObject({
        code: "INVALID_ARGUMENT",
      });
    }
    expect((await broker.events.stats(type)).length).toBe(0);
    // What is long in bytes may still be 200 characters.
    const id = "\u{20ac}".repeat(200);
    expect(await broker.events.publish(type, 1, { id })).toMatchObject({ id, duplicate: false });
    expect(await broker.events.publish(type, 1, { id })).toMatchObject({ id, duplicate: true });
  });
});
