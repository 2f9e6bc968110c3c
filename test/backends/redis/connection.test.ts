/** The connection layer against one real Redis: deadlines, losses, waits, limits and the end. */

import { afterAll, beforeAll, expect, test } from "vitest";
import { ClosedError, ConnectionError } from "../../../src/core/errors.js";
import { type RedisServer, startRedis } from "../../support/redis-servers.js";
import { until } from "../../support/wait.js";
import { clientsOf, failureOf, open, standalone } from "./connection-support.js";

let server: RedisServer;

beforeAll(async () => {
  server = await startRedis({ unixSocket: true });
});

afterAll(() => server.stop());

test("commands of one tick are answered in the order in which they were given", async () => {
  const { connections } = await open(standalone(server));
  const connection = connections.shared("order");
  const replies = await Promise.all(Array.from({ length: 300 }, () => connection.command(["INCR", "order"])));
  expect(replies).toEqual(replies.map((_, index) => index + 1));
});

test("replies come as Buffers, numbers, null and arrays of these", async () => {
  const { connections } = await open(standalone(server));
  const command = (args: readonly (string | Buffer)[]): Promise<unknown> => connections.shared("types").command(args);
  expect(await command(["SET", "types", Buffer.from([0, 255])])).toBe("OK");
  expect(await command(["GET", "types"])).toEqual(Buffer.from([0, 255]));
  expect(await command(["MGET", "types", "none"])).toEqual([Buffer.from([0, 255]), null]);
  expect(await command(["STRLEN", "types"])).toBe(2);
});

test("a Unix socket and a database are reached", async () => {
  const path = server.socketPath ?? "";
  const { connections } = await open({ kind: "socket", path, tls: false, database: 3 });
  await connections.shared("where").command(["SET", "where", "in three"]);
  await server.cli("SELECT", 3);
  expect(String(await server.cli("GET", "where"))).toBe("in three");
  await server.cli("SELECT", 0);
});

test("a server that falls silent ends its commands at their deadline, and serves again once it is back", async () => {
  const { connections } = await open(standalone(server), { commandTimeoutMs: 300 });
  const connection = connections.shared("silent");
  await connection.command(["SET", "silent", "0"]);
  server.pause();
  try {
    const error = await failureOf(connection.command(["INCR", "silent"]));
    expect(error).toBeInstanceOf(ConnectionError);
    expect(error).toMatchObject({ interrupted: true });
    // There is no connection now, so that nothing can be interrupted.
    expect(await failureOf(connection.command(["INCR", "silent"]))).toMatchObject({ interrupted: false });
  } finally {
    server.resume();
  }
  await until(() => connection.command(["INCR", "silent"]), { what: "the server to serve again" });
  // What was interrupted once was never sent twice.
  expect(Number(await connection.command(["GET", "silent"]))).toBeLessThanOrEqual(2);
});

test("a silent server is noticed without any command", async () => {
  const { check, reports } = await open(standalone(server), { commandTimeoutMs: 300 });
  server.pause();
  try {
    await until(() => reports.length > 0, { what: "the loss to be reported" });
    expect(await check()).toEqual([{ name: "command", ok: false, error: expect.any(String) }]);
  } finally {
    server.resume();
  }
  await until(async () => (await check()).every(({ ok }) => ok), { what: "all to be well again" });
});

test("after all its clients were killed everything works again, and nothing was run twice", async () => {
  const { connections } = await open(standalone(server));
  const connection = connections.shared("killed");
  let confirmed = 0;
  let unknown = 0;
  const stop = new AbortController();
  const publisher = async (): Promise<void> => {
    while (!stop.signal.aborted) {
      await connection.command(["INCR", "killed"]).then(
        () => (confirmed += 1),
        (error: unknown) => {
          expect(error).toMatchObject({ code: "CONNECTION", interrupted: true });
          unknown += 1;
        },
      );
    }
  };
  const publishing = [publisher(), publisher()];
  for (let round = 0; round < 5; round += 1) {
    const before = confirmed;
    await server.cli("CLIENT", "KILL", "TYPE", "normal");
    await until(() => confirmed > before, { what: "commands to go on" });
  }
  stop.abort();
  await Promise.all(publishing);
  const count = Number(await connection.command(["GET", "killed"]));
  expect(count).toBeGreaterThanOrEqual(confirmed);
  expect(count).toBeLessThanOrEqual(confirmed + unknown);
});

test("commands that are given while the server restarts wait for it, in order", async () => {
  const own = await startRedis();
  try {
    const { connections } = await open(standalone(own));
    const connection = connections.shared("restart");
    await own.kill();
    await until(async () => (await failureOf(connection.command(["PING"], { deadlineMs: 50 }))) !== undefined);
    const replies = Promise.all(Array.from({ length: 50 }, () => connection.command(["INCR", "restart"])));
    await own.restart();
    expect(await replies).toEqual(Array.from({ length: 50 }, (_, index) => index + 1));
  } finally {
    await own.stop();
  }
});

test("a command that finds no server says so at its deadline", async () => {
  const own = await startRedis();
  const { connections } = await open(standalone(own));
  await own.stop();
  const startedAt = performance.now();
  const error = await failureOf(connections.shared("gone").command(["GET", "gone"], { deadlineMs: 200 }));
  expect(error).toBeInstanceOf(ConnectionError);
  expect(error).toMatchObject({ interrupted: false });
  expect(error.message).toContain(`127.0.0.1:${own.port}`);
  expect(performance.now() - startedAt).toBeLessThan(2_000);
});

test("a pair is answered together", async () => {
  const { connections } = await open(standalone(server));
  expect(await connections.publishing("pair").pair(["SET", "pair", "1"], ["WAIT", "0", "100"])).toEqual(["OK", 0]);
});

test("a pair whose second half is refused counts as interrupted", async () => {
  const { connections } = await open(standalone(server));
  const error = await failureOf(connections.publishing("pair").pair(["SET", "pair", "2"], ["WAIT", "x", "y"]));
  expect(error).toMatchObject({ code: "CONNECTION", interrupted: true });
});

test("no more blocking connections exist than are allowed, and closing one makes room", async () => {
  const { connections } = await open(standalone(server), { maxBlockingConnections: 2 });
  const first = connections.blocking("a");
  expect(connections.blocking("b")).toBeDefined();
  expect(connections.blocking("c")).toBeUndefined();
  first?.close();
  first?.close();
  expect(connections.blocking("c")).toBeDefined();
  expect(connections.blocking("d")).toBeUndefined();
});

test("a blocked command is ended with null, however early", async () => {
  const { connections } = await open(standalone(server));
  const own = connections.blocking("list");
  for (const blocks of [false, false, true, true]) {
    const popped = own?.command(["BLPOP", "list", "20"], { deadlineMs: 22_000 });
    if (blocks) await until(async () => (await clientsOf(server)).some((line) => line.includes("flags=b")));
    own?.unblock();
    expect(await popped).toBeNull();
  }
  // All by the server's leave: the socket was never dropped.
  expect(own?.generation).toBe(1);
});

test("a blocked command is ended even where the ACL forbids CLIENT UNBLOCK", async () => {
  await server.cli("ACL", "SETUSER", "reader", "on", ">secret", "~*", "&*", "+@all", "-client|unblock");
  const { connections } = await open(standalone(server, { username: "reader", password: "secret" }));
  const own = connections.blocking("list");
  const popped = own?.command(["BLPOP", "list", "20"], { deadlineMs: 22_000 });
  await until(async () => (await clientsOf(server)).some((line) => line.includes("flags=b")));
  own?.unblock();
  expect(await popped).toBeNull();
  // The next one works, on a new socket.
  await server.cli("RPUSH", "list", "x");
  expect(await own?.command(["BLPOP", "list", "1"])).toEqual([Buffer.from("list"), Buffer.from("x")]);
  expect(own?.generation).toBe(2);
});

test("a blocked command is ended while the server is silent", async () => {
  const { connections } = await open(standalone(server));
  const own = connections.blocking("list");
  const popped = own?.command(["BLPOP", "list", "20"], { deadlineMs: 22_000 });
  await until(async () => (await clientsOf(server)).some((line) => line.includes("flags=b")));
  server.pause();
  try {
    own?.unblock();
    expect(await popped).toBeNull();
  } finally {
    server.resume();
  }
});

test("a new socket of a blocking connection can be told by its generation", async () => {
  const { connections } = await open(standalone(server));
  const own = connections.blocking("list");
  expect(own?.generation).toBe(0);
  await own?.command(["PING"]);
  expect(own?.generation).toBe(1);
  const popped = failureOf(Promise.resolve(own?.command(["BLPOP", "list", "20"], { deadlineMs: 22_000 })));
  await until(async () => (await clientsOf(server)).some((line) => line.includes("flags=b")));
  await server.cli("CLIENT", "KILL", "TYPE", "normal");
  expect(await popped).toMatchObject({ interrupted: true });
  await own?.command(["PING"]);
  expect(own?.generation).toBe(2);
});

test("the health check asks every kind of connection, and names what is lost", async () => {
  const own = await startRedis();
  try {
    const { connections, broadcast, check, ping } = await open(standalone(own), { commandTimeoutMs: 500 });
    await connections.publishing("k").command(["PING"]);
    await connections.blocking("k")?.command(["PING"]);
    await broadcast.subscribe({ pattern: "*" }, { message: () => expect.unreachable(), gap: () => {} });
    const well = { ok: true, latencyMs: expect.any(Number) };
    expect(await check()).toEqual([
      { name: "command", ...well },
      { name: "publishing", ...well },
      { name: "blocking", ok: true },
      { name: "subscriber", ...well },
    ]);
    expect(await ping()).toBeGreaterThan(0);
    await own.kill();
    await until(async () => (await check()).every(({ ok }) => !ok), { what: "all to be lost" });
    await own.restart();
    await until(async () => (await check()).every(({ ok }) => ok), { what: "all to be well again" });
  } finally {
    await own.stop();
  }
});

test("closing leaves neither sockets nor timers, and later commands are refused", async () => {
  const own = await startRedis();
  try {
    const { connections, broadcast, check, close, ping, timers } = await open(standalone(own));
    const blocking = connections.blocking("k");
    const popped = failureOf(Promise.resolve(blocking?.command(["BLPOP", "k", "20"], { deadlineMs: 22_000 })));
    await connections.publishing("k").command(["PING"]);
    await broadcast.subscribe({ channel: "c" }, { message: () => {}, gap: () => {} });
    await check();
    await until(async () => (await clientsOf(own)).length === 4, { what: "four sockets" });
    close();
    close();
    expect(await popped).toBeInstanceOf(ClosedError);
    await until(async () => (await clientsOf(own)).length === 0, { what: "no socket" });
    await until(() => timers() === 0, { what: "no timer" });
    for (const late of [
      connections.shared("k").command(["PING"]),
      connections.publishing("other").command(["PING"]),
      connections.blocking("k")?.command(["PING"]) ?? Promise.resolve(),
      blocking?.command(["PING"]) ?? Promise.resolve(),
      broadcast.publish([{ channel: "c", data: "x" }]),
      broadcast.subscribe({ channel: "c" }, { message: () => {}, gap: () => {} }),
      ping(),
    ])
      expect(await failureOf(late)).toBeInstanceOf(ClosedError);
  } finally {
    await own.stop();
  }
});

test("closing ends what waits for a server that is not there", async () => {
  const own = await startRedis();
  const { connections, close, timers } = await open(standalone(own));
  await own.stop();
  await until(
    async () => (await failureOf(connections.shared("k").command(["PING"], { deadlineMs: 20 }))) !== undefined,
  );
  const waiting = failureOf(connections.shared("k").command(["PING"]));
  close();
  expect(await waiting).toBeInstanceOf(ClosedError);
  await until(() => timers() === 0, { what: "no timer" });
});
