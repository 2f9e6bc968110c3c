/** Forwarding from broker to broker: from a file to a server, with the forwarder and the server killed in the middle. */

import { join } from "node:path";
import { afterEach, describe, expect, test } from "vitest";
import { type Broker, connect, type ConnectOptions } from "../../src/index.js";
import { type Child, runChild } from "../support/children.js";
import { removeDir, tempDir } from "../support/process.js";
import { type RedisServer, startRedis } from "../support/redis-servers.js";
import { until } from "../support/wait.js";
import { recordingLogger, silentLogger } from "./support/lanes.js";
import { expectWhole, ORDERS, ordersIn, publishOrders } from "./support/orders.js";

const TYPE = ORDERS;
/** A process that died keeps its turn for so long, and the next needs a moment. */
const TAKEOVER_MS = 20_000;

const undo: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const step of undo.splice(0).reverse()) await step();
});

async function open(url: string, options: ConnectOptions = {}): Promise<Broker> {
  const broker = await connect(url, { logger: silentLogger, onError: () => undefined, ...options });
  undo.push(() => broker.close({ drainMs: 0 }));
  return broker;
}

async function newFile(): Promise<string> {
  const dir = await tempDir();
  undo.push(() => removeDir(dir));
  return `sqlite:${join(dir, "events.db")}`;
}

async function newServer(options: Parameters<typeof startRedis>[0] = {}): Promise<RedisServer> {
  const server = await startRedis(options);
  undo.push(() => server.stop());
  return server;
}

function startForwarder(from: string, to: string): Child {
  const child = runChild(new URL("support/forwarding-child.ts", import.meta.url), { args: [from, to, TYPE] });
  undo.push(() => child.stop());
  return child;
}

/** As far as it has said. */
function forwards({ messages }: Child): boolean {
  return messages.findLast(({ role }) => role !== undefined)?.["role"] === "forwarding";
}

describe("[E37] forwarding between brokers", () => {
  test("[E37] 20,000 events from a file to a server, the forwarder killed in the middle: all there, in order, none twice", async () => {
    const [file, server] = [await newFile(), await newServer()];
    const [source, target] = [await open(file), await open(server.url)];
    const ids = await publishOrders(source, 0, 20_000);
    const children = [startForwarder(file, server.url), startForwarder(file, server.url)];
    const arrived = async (): Promise<number> => (await target.events.stats(TYPE)).length;
    await until(() => children.some(forwards), { deadlineMs: TAKEOVER_MS, what: "one of them to forward" });
    await until(async () => (await arrived()) >= 3_000, { deadlineMs: TAKEOVER_MS, everyMs: 1 });
    expect(children.filter(forwards)).toHaveLength(1);
    const forwarder = children.find(forwards);
    forwarder?.kill("SIGKILL");
    await forwarder?.exited;
    expect(await arrived()).toBeLessThan(20_000);
    ids.push(...(await publishOrders(source, 5_000, 1_000)));
    // Stands by, and knows from the group when the other has done it.
    const third = await source.events.forward(TYPE, target);
    await third.caughtUp({ signal: AbortSignal.timeout(60_000) });
    expectWhole(await ordersIn(target), ids);
    const here = third.stats().filter(({ role }) => role === "forwarding");
    expect([...children.filter((child) => child !== forwarder && forwards(child)), ...here]).toHaveLength(1);
  }, 180_000);

  test("[E37] a forwarder that is frozen for longer than its turn lasts puts nothing in front of what its successor sends", async () => {
    const [file, server] = [await newFile(), await newServer()];
    const [source, target] = [await open(file), await open(server.url)];
    const children = [startForwarder(file, server.url), startForwarder(file, server.url)];
    await until(() => children.some(forwards), { deadlineMs: TAKEOVER_MS, what: "one of them to forward" });
    const frozen = children.find(forwards);
    const successor = children.find((child) => child !== frozen);
    const publishing = publishOrders(source, 0, 20_000);
    await until(async () => (await target.events.stats(TYPE)).length >= 1_000, { deadlineMs: TAKEOVER_MS, everyMs: 1 });
    frozen?.send({ freezeMs: 13_000 });
    await successor?.next(({ role }) => role === "forwarding", TAKEOVER_MS);
    const ids = [...(await publishing), ...(await publishOrders(source, 5_000, 20_000))];
    await frozen?.next(({ thawed }) => thawed !== undefined, TAKEOVER_MS);
    await frozen?.next(({ role }) => role === "standby", TAKEOVER_MS);
    await successor?.stop();
    const watching = await source.events.forward(TYPE, target);
    await watching.caughtUp({ signal: AbortSignal.timeout(60_000) });
    expectWhole(await ordersIn(target), ids);
  }, 120_000);

  test("[E37] the server killed and restarted in the middle: the forwarder waits for it, says so, and goes on", async () => {
    const [file, server] = [await newFile(), await newServer({ appendonly: "always" })];
    const [source, target] = [
      await open(file),
      await open(server.url, { commandTimeoutMs: 1_500, publishTimeoutMs: 3_000 }),
    ];
    const ids = await publishOrders(source, 0, 20_000);
    const forwarding = await source.events.forward(TYPE, target);
    const settled = (): number => forwarding.stats()[0]?.settled ?? 0;
    await until(() => settled() >= 3_000, { everyMs: 1, deadlineMs: 20_000 });
    await server.kill();
    await server.restart();
    const before = settled();
    await until(() => settled() >= before + 3_000, { everyMs: 1, deadlineMs: 20_000 });
    await server.kill();
    await until(() => forwarding.stats()[0]?.state === "failing", { deadlineMs: 20_000, what: "the loss to show" });
    expect((await source.health()).status).toBe("degraded");
    await server.restart();
    await forwarding.caughtUp({ signal: AbortSignal.timeout(60_000) });
    expectWhole(await ordersIn(target), ids);
    expect((await source.health()).status).toBe("up");
  }, 120_000);

  test("[E37] a server that is out of memory is waited for: nothing is lost, and it is told once", async () => {
    const file = await newFile();
    const server = await newServer({ maxmemory: "5mb", maxmemoryPolicy: "noeviction" });
    const reports: string[] = [];
    const source = await open(file, { onError: (error) => void reports.push(error.name) });
    const target = await open(server.url);
    const payload = "x".repeat(10_000);
    for (let n = 0; n < 1_000; n += 100)
      await source.events.publishMany(
        TYPE,
        Array.from({ length: 100 }, (_, index) => ({ n: n + index, payload })),
      );
    const forwarding = await source.events.forward(TYPE, target);
    await until(() => forwarding.stats()[0]?.state === "failing", { deadlineMs: 20_000 });
    await server.cli("CONFIG", "SET", "maxmemory", "0");
    await forwarding.caughtUp({ signal: AbortSignal.timeout(30_000) });
    expect((await target.events.stats(TYPE)).length).toBe(1_000);
    expect(reports).toEqual(["OutOfMemoryError"]);
  }, 60_000);

  test("[E37] what comes later is forwarded as it comes, until the broker closes; the next goes on behind it", async () => {
    const [file, server] = [await newFile(), await newServer()];
    const [source, target] = [await open(file), await open(server.url)];
    const forwarding = await source.events.forward([TYPE, "order.paid"], target);
    const got: unknown[] = [];
    await target.events.subscribe(
      [TYPE, "order.paid"],
      { group: "g", from: "beginning" },
      (data) => void got.push(data),
    );
    await source.events.publish(TYPE, 1);
    await source.events.publish("order.paid", 2);
    // The target's consumer may be quicker than the word that it is stored.
    await until(() => got.length === 2 && forwarding.stats().every(({ forwarded }) => forwarded === 1));
    expect(forwarding.stats().map(({ channel, reader }) => [channel, reader])).toEqual([
      [TYPE, "forward"],
      ["order.paid", "forward"],
    ]);
    await source.close();
    const again = await open(file);
    await again.events.publish(TYPE, 3);
    await (await again.events.forward(TYPE, target)).caughtUp();
    await until(() => got.length === 3);
    // There is no order between streams.
    expect(got.slice(0, 2).toSorted((a, b) => Number(a) - Number(b))).toEqual([1, 2]);
    expect(got[2]).toBe(3);
  });

  test("[E37] types that share a stream are forwarded with it, with the order between them", async () => {
    const [file, server] = [await newFile(), await newServer()];
    const streams = { orders: { types: ["order.created", "order.paid"] } };
    const [source, target] = [await open(file, { streams }), await open(server.url, { streams })];
    for (let n = 1; n <= 20; n += 1) await source.events.publish(n % 2 === 0 ? "order.paid" : "order.created", n);
    const forwarding = await source.events.forward(["order.created", "order.paid"], target);
    await forwarding.caughtUp();
    expect(forwarding.stats()).toHaveLength(1);
    const got: unknown[] = [];
    await target.events.subscribe(
      ["order.created", "order.paid"],
      { group: "g", from: "beginning", order: "strict" },
      (data) => void got.push(data),
    );
    await until(() => got.length === 20);
    expect(got).toEqual(Array.from({ length: 20 }, (_, index) => index + 1));
  });

  test("[E37] what cannot be forwarded to is refused, and a signal ends it", async () => {
    const { logger, entries } = recordingLogger();
    const [source, target] = [await open("memory:", { logger }), await open("memory:")];
    await expect(source.events.forward(TYPE, source)).rejects.toMatchObject({ code: "INVALID_ARGUMENT" });
    await expect(source.events.forward(TYPE, { events: {} })).rejects.toMatchObject({ code: "INVALID_ARGUMENT" });
    await expect(source.events.forward([], target)).rejects.toMatchObject({ code: "INVALID_ARGUMENT" });
    const misspelt: object = { groop: "g" };
    await expect(source.events.forward(TYPE, target, misspelt)).rejects.toMatchObject({ code: "CONFIG" });
    await source.events.subscribe(TYPE, { group: "billing", from: "beginning" }, () => undefined);
    await expect(source.events.forward(TYPE, target, { group: "billing" })).rejects.toMatchObject({ code: "CONFIG" });
    await expect(source.events.forward(TYPE, target, { signal: AbortSignal.abort() })).rejects.toThrow();
    const ending = new AbortController();
    const forwarding = await source.events.forward(TYPE, target, { signal: ending.signal });
    ending.abort();
    await until(() => forwarding.stats()[0]?.state === "closed");
    expect((await source.health()).details.consumers.map(({ reader }) => reader)).toEqual(["billing"]);
    const deleted = await source.events.forward(TYPE, target);
    const joining = source.events.subscribe(TYPE, { group: "forward", from: "beginning" }, () => undefined);
    await expect(joining).rejects.toMatchObject({ code: "CONFIG" });
    await until(() => deleted.stats()[0]?.role === "forwarding");
    await source.events.group(TYPE, "forward").delete();
    await until(() => deleted.stats()[0]?.state === "ended");
    expect(entries.some(({ fields }) => fields["event"] === "consumer_ended")).toBe(true);
    const closed = await open("memory:");
    await closed.close();
    await expect(source.events.forward(TYPE, closed)).rejects.toMatchObject({ code: "CLOSED" });
  });
});
