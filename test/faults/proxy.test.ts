/** The misbehaving proxy itself: a fault that does nothing would prove nothing. */

import { createHash } from "node:crypto";
import { connect, createServer, type AddressInfo, type Socket } from "node:net";
import { afterEach, expect, test } from "vitest";
import { connect as connectBroker } from "../../src/index.js";
import { silentLogger } from "../facades/support/lanes.js";
import { startRedis } from "../support/redis-servers.js";
import { pause, until } from "../support/wait.js";
import { follow, type Proxy, startProxy } from "./support/proxy.js";
import { FLAW_KINDS, randomFlaw } from "./support/proxy-flaws.js";
import { createRandom } from "./support/random.js";

const closing: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
});

/** One end of a connection, with what has happened to it. */
interface End {
  readonly socket: Socket;
  text(): string;
  /** How many pieces it came in. */
  pieces(): number;
  ended(): boolean;
  /** The code of its error, once it is closed: `""` for none. */
  closed(): string | undefined;
}

function watch(socket: Socket): End {
  const pieces: Buffer[] = [];
  let ended = false;
  let closed: string | undefined;
  let error = "";
  socket.on("data", (bytes: Buffer) => pieces.push(bytes));
  socket.on("end", () => (ended = true));
  socket.on("error", (failure: NodeJS.ErrnoException) => (error = failure.code ?? "unknown"));
  socket.on("close", () => (closed = error));
  return {
    socket,
    text: () => Buffer.concat(pieces).toString("latin1"),
    pieces: () => pieces.length,
    ended: () => ended,
    closed: () => closed,
  };
}

/** A proxy in front of a server of the test's own; `open` gives both ends of a connection through it. */
async function setUp(): Promise<{ proxy: Proxy; open: () => Promise<{ client: End; server: End }> }> {
  const incoming: End[] = [];
  const server = createServer({ allowHalfOpen: true }, (socket) => incoming.push(watch(socket)));
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const proxy = await startProxy({ target: (server.address() as AddressInfo).port, seed: 7 });
  closing.push(
    () => {
      for (const { socket } of incoming) socket.destroy();
      return new Promise((resolve) => server.close(resolve));
    },
    () => proxy.close(),
  );
  return {
    proxy,
    async open() {
      const before = incoming.length;
      const client = watch(connect({ port: proxy.port, host: "127.0.0.1", allowHalfOpen: true, noDelay: true }));
      closing.push(async () => client.socket.destroy());
      const server = await until(() => incoming[before], { what: "the connection to arrive" });
      return { client, server };
    },
  };
}

test("without a flaw everything passes, in both directions, and ends in good order", async () => {
  const { proxy, open } = await setUp();
  const { client, server } = await open();
  const large = "0123456789".repeat(300_000);
  client.socket.write(large);
  server.socket.write("down");
  await until(() => server.text().length === large.length && client.text() === "down");
  expect(createHash("md5").update(server.text()).digest("hex")).toBe(createHash("md5").update(large).digest("hex"));
  client.socket.end("last");
  await until(() => server.ended());
  expect(server.text().endsWith("last")).toBe(true);
  server.socket.end("bye");
  await until(() => client.ended() && client.closed() === "" && server.closed() === "");
  expect(client.text()).toBe("downbye");
  await until(() => proxy.connections === 0);
});

test("a cut resets what is open, and what is opened afterwards is sound", async () => {
  const { proxy, open } = await setUp();
  const first = await open();
  proxy.impose({ kind: "cut" });
  await until(() => first.client.closed() !== undefined && first.server.closed() !== undefined);
  expect([first.client.closed(), first.server.closed()]).toEqual(["ECONNRESET", "ECONNRESET"]);
  const second = await open();
  second.client.socket.write("up");
  await until(() => second.server.text() === "up");
});

test("half-close ends one direction, and the other goes on", async () => {
  const { proxy, open } = await setUp();
  const { client, server } = await open();
  client.socket.write("before");
  await until(() => server.text() === "before");
  proxy.impose({ kind: "half-close", direction: "up" });
  await until(() => server.ended());
  server.socket.write("still");
  await until(() => client.text() === "still");
  client.socket.write("after");
  server.socket.write(" there");
  await until(() => client.text() === "still there");
  expect(server.text()).toBe("before");
});

test("a delay is kept by each byte, and the order with it", async () => {
  const { proxy, open } = await setUp();
  const { client, server } = await open();
  proxy.impose({ kind: "delay", ms: 150 });
  const startedAt = performance.now();
  client.socket.write("a");
  await pause(50);
  client.socket.write("b");
  await until(() => server.text() === "a");
  expect(performance.now() - startedAt).toBeGreaterThanOrEqual(149);
  await until(() => server.text() === "ab");
  expect(performance.now() - startedAt).toBeGreaterThanOrEqual(199);
  // Later, not slower: both waited at the same time.
  expect(performance.now() - startedAt).toBeLessThan(299);
});

test("truncation lets exactly so many bytes pass, then resets", async () => {
  const { proxy, open } = await setUp();
  const { client, server } = await open();
  proxy.impose({ kind: "truncate", direction: "down", afterBytes: 10 });
  client.socket.write("upwards is not counted");
  await until(() => server.text() === "upwards is not counted");
  server.socket.write("12345");
  await until(() => client.text() === "12345");
  server.socket.write("6789012345");
  await until(() => client.closed() !== undefined);
  expect([client.text(), client.closed()]).toEqual(["1234567890", "ECONNRESET"]);
});

test("a trickle passes one byte a second", async () => {
  const { proxy, open } = await setUp();
  const { client, server } = await open();
  proxy.impose({ kind: "trickle" });
  client.socket.write("abcdef");
  await until(() => server.text() === "a");
  const startedAt = performance.now();
  await until(() => server.text() === "ab");
  expect(performance.now() - startedAt).toBeGreaterThan(900);
  proxy.heal();
  await until(() => server.text() === "abcdef");
});

test("writes are split, and merged", async () => {
  const { proxy, open } = await setUp();
  const { client, server } = await open();
  const text = "abcdefghij".repeat(100);
  proxy.impose({ kind: "split" });
  client.socket.write(text);
  await until(() => server.text() === text);
  expect(server.pieces()).toBeGreaterThan(10);
  proxy.impose({ kind: "merge", ms: 100 });
  for (const piece of ["one", "two", "three"]) {
    server.socket.write(piece);
    await pause(10);
  }
  await until(() => client.text() === "onetwothree");
  expect(client.pieces()).toBe(1);
});

test("a black hole keeps what it swallows in one direction, and lets it flow when it is over", async () => {
  const { proxy, open } = await setUp();
  const { client, server } = await open();
  proxy.impose({ kind: "hole", direction: "up", afterwards: "flow" });
  client.socket.write("lost?");
  server.socket.write("heard");
  await until(() => client.text() === "heard");
  client.socket.end();
  await pause(100);
  expect([server.text(), server.ended()]).toEqual(["", false]);
  proxy.heal();
  await until(() => server.text() === "lost?" && server.ended());
});

test("a black hole that ends in silence stays silent for what it caught, in both directions", async () => {
  const { proxy, open } = await setUp();
  const caught = await open();
  proxy.impose({ kind: "hole", direction: "both", afterwards: "silence" });
  caught.client.socket.write("up");
  caught.server.socket.write("down");
  proxy.heal();
  const fresh = await open();
  fresh.client.socket.write("hello");
  await until(() => fresh.server.text() === "hello");
  await pause(100);
  expect([caught.server.text(), caught.client.text(), caught.client.closed()]).toEqual(["", "", undefined]);
});

test("closing ends every connection and gives the port back", async () => {
  const { proxy, open } = await setUp();
  const { client, server } = await open();
  await Promise.all([proxy.close(), proxy.close()]);
  await until(() => client.closed() === "ECONNRESET" && server.closed() === "ECONNRESET");
  expect(proxy.connections).toBe(0);
  const late = watch(connect(proxy.port, "127.0.0.1"));
  await until(() => late.closed() === "ECONNREFUSED");
});

test("whatever becomes of the ends while much is under way, closing leaves no handle behind", async () => {
  const sockets = (): number => process.getActiveResourcesInfo().filter((name) => name === "TCPSocketWrap").length;
  const before = sockets();
  const ends = new Set<Socket>();
  const keep = (socket: Socket): Socket => {
    ends.add(socket);
    return socket.on("error", () => undefined).on("close", () => ends.delete(socket));
  };
  const server = createServer((socket) => keep(socket).on("data", (bytes: Buffer) => socket.write(bytes)));
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const proxy = await startProxy({ target: (server.address() as AddressInfo).port });
  closing.push(() => new Promise((resolve) => server.close(resolve)));
  const random = createRandom(3);
  for (let round = 0; round < 40; round += 1) {
    for (let times = 0; times < 4; times += 1)
      keep(connect(proxy.port, "127.0.0.1"))
        .on("data", () => undefined)
        .write("x".repeat(random.int(1, 300_000)));
    await pause(20);
    proxy.impose(randomFlaw(random, ["trickle", "delay"]));
    await pause(random.int(5, 40));
    for (const socket of ends) {
      const fate = random.pick(["closed", "reset", "kept", "kept"] as const);
      if (fate === "closed") socket.destroy();
      if (fate === "reset") socket.resetAndDestroy();
    }
    await pause(random.int(5, 20));
    proxy.heal();
  }
  await proxy.close();
  for (const socket of ends) socket.destroy();
  await until(() => proxy.connections === 0 && sockets() <= before, { what: "all sockets to be gone" });
}, 30_000);

test("a server that is not there is a reset", async () => {
  const { proxy } = await setUp();
  await closing.shift()?.();
  const client = watch(connect(proxy.port, "127.0.0.1"));
  await until(() => client.closed() === "ECONNRESET");
});

test("a seed draws the same flaws again, and all kinds of them", () => {
  const draw = (seed: number): unknown[] => {
    const random = createRandom(seed);
    return Array.from({ length: 200 }, () => randomFlaw(random));
  };
  expect(draw(3)).toEqual(draw(3));
  expect(draw(3)).not.toEqual(draw(4));
  expect(new Set(draw(3).map((flaw) => (flaw as { kind: string }).kind))).toEqual(new Set(FLAW_KINDS));
});

test("a broker lives through a schedule of flaws, and what it was told is stored is there once", async () => {
  const server = await startRedis();
  const proxy = await startProxy({ target: server.port, seed: 5 });
  const broker = await connectBroker(`redis://127.0.0.1:${proxy.port}`, {
    logger: silentLogger,
    onError: () => undefined,
    commandTimeoutMs: 500,
    connectTimeoutMs: 500,
  });
  closing.push(
    () => server.stop(),
    () => proxy.close(),
    () => broker.close({ drainMs: 0 }),
  );
  const stopping = new AbortController();
  const kinds = FLAW_KINDS.filter((kind) => kind !== "trickle"); // would take the schedule's whole time
  const schedule = follow(proxy, { seed: 5, kinds, signal: stopping.signal });
  const stored: number[] = [];
  const doubtful: number[] = [];
  const until3s = performance.now() + 3_000;
  for (let number = 0; performance.now() < until3s; number += 1) {
    await broker.events.publish("numbers", number).then(
      () => stored.push(number),
      () => doubtful.push(number),
    );
  }
  stopping.abort();
  expect((await schedule).length).toBeGreaterThan(5);
  expect(stored.length).toBeGreaterThan(10);
  const seen: number[] = [];
  await broker.events.subscribe("numbers", { group: "all", from: "beginning", concurrency: 1 }, (data) => {
    seen.push(Number(data));
  });
  await until(() => stored.every((number) => seen.includes(number)), { deadlineMs: 15_000 });
  expect(seen.filter((number) => !doubtful.includes(number))).toEqual(stored);
}, 60_000);
