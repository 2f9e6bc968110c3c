/** What the connection makes of error replies and of servers that misbehave; most of it against one that answers as told. */

import type { Socket } from "node:net";
import { expect, test } from "vitest";
import { isReply, RedisReplyError } from "../../../src/backends/redis/errors.js";
import { AuthError, ConnectionError, OutOfMemoryError } from "../../../src/core/errors.js";
import { until } from "../../support/wait.js";
import { bulk, failureOf, fakeRedis, open, standalone } from "./connection-support.js";

/** A server that refuses every `SET`, from the first one for so long, then takes them. */
async function refusing(reply: string, forMs: number): Promise<{ readonly port: number; readonly taken: string[] }> {
  const taken: string[] = [];
  let state: "unasked" | "refusing" | "willing" = "unasked";
  const fake = await fakeRedis(([name, key = ""]) => {
    if (name !== "SET") return undefined;
    if (state === "unasked") {
      state = "refusing";
      // A timer, so that it changes its mind between two batches only.
      if (Number.isFinite(forMs)) setTimeout(() => (state = "willing"), forMs);
    }
    if (state === "refusing") return `-${reply}\r\n`;
    taken.push(key);
    return "+OK\r\n";
  });
  return { port: fake.port, taken };
}

test.each([
  "LOADING Redis is loading the dataset in memory",
  "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.",
  "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
  "READONLY You can't write against a read only replica.",
])("%j is waited out, and the order stays", async (reply) => {
  const { port, taken } = await refusing(reply, 100);
  const connection = (await open(standalone({ port }))).connections.shared("k");
  const keys = Array.from({ length: 20 }, (_, index) => String(index));
  const first = keys.slice(0, 10).map((key) => connection.command(["SET", key, "v"]));
  const rest = keys.slice(10).map((key) => connection.command(["SET", key, "v"]));
  await Promise.all([...first, ...rest]);
  expect(taken).toEqual(keys);
});

test.each(["TRYAGAIN Multiple keys request during rehashing of slot", "CLUSTERDOWN The cluster is down"])(
  "%j is waited out",
  async (reply) => {
    const { port, taken } = await refusing(reply, 100);
    const connection = (await open(standalone({ port }))).connections.shared("k");
    await connection.command(["SET", "a", "v"]);
    expect(taken).toEqual(["a"]);
  },
);

test("what a server keeps refusing rejects at the deadline with what it said", async () => {
  const { port } = await refusing("LOADING Redis is loading the dataset in memory", Number.POSITIVE_INFINITY);
  const connection = (await open(standalone({ port }))).connections.shared("k");
  const error = await failureOf(connection.command(["SET", "a", "v"], { deadlineMs: 200 }));
  expect(error).toBeInstanceOf(ConnectionError);
  expect(error).toMatchObject({ interrupted: false, retryable: true });
  expect(error.message).toContain("LOADING Redis is loading");
});

test("UNBLOCKED means that nothing came", async () => {
  const { port } = await refusing("UNBLOCKED the stream key no longer exists", 0);
  const { connections } = await open(standalone({ port }));
  expect(await connections.blocking("k")?.command(["SET", "a", "v"])).toBeNull();
});

test.each<[string, new (...args: never[]) => Error, object]>([
  ["OOM command not allowed when used memory > 'maxmemory'.", OutOfMemoryError, { retryable: true }],
  ["MISCONF Errors writing to the AOF file: No space left on device", ConnectionError, { interrupted: false }],
  ["NOREPLICAS Not enough good replicas to write.", ConnectionError, { interrupted: false }],
  ["NOAUTH Authentication required.", AuthError, { retryable: false }],
  ["NOPERM this user has no permissions to run the 'set' command", AuthError, { retryable: false }],
  ["NOSCRIPT No matching script. Please use EVAL.", RedisReplyError, { prefix: "NOSCRIPT" }],
  ["NOGROUP No such key 's' or consumer group 'g'", RedisReplyError, { prefix: "NOGROUP" }],
  ["WRONGTYPE Operation against a key holding the wrong kind of value", RedisReplyError, { prefix: "WRONGTYPE" }],
  ["BUSYGROUP Consumer Group name already exists", RedisReplyError, { prefix: "BUSYGROUP" }],
])("%j becomes %o", async (reply, type, fields) => {
  const { port } = await refusing(reply, 0);
  const { connections } = await open(standalone({ port }));
  const error = await failureOf(connections.shared("k").command(["SET", "a", "a payload"]));
  expect(error).toBeInstanceOf(type);
  expect(error).toMatchObject(fields);
  // It names the command and says what the server said, but never what was sent.
  expect(error.message).toContain("SET");
  expect(error.message).toContain(reply);
  expect(error.message).not.toContain("a payload");
  expect(isReply(error, reply.split(" ")[0] ?? "")).toBe(type === RedisReplyError);
});

test("the arguments that Redis repeats of an unknown command are left out", async () => {
  const { port } = await refusing("ERR unknown command 'SET', with args beginning with: 'a' 'secret'", 0);
  const { connections } = await open(standalone({ port }));
  const error = await failureOf(connections.shared("k").command(["SET", "a", "secret"]));
  expect(error.message).toBe("Redis refused SET: ERR unknown command 'SET'");
});

const KEY = "sb1:{default:log:orders:0}:s";
const MANY = Array.from({ length: 5 }, (_, index) => `sb1:{default:log:orders:0}:${index}`);
test.each<[string, readonly string[], string]>([
  // Redis 7.0, and later ones with Valkey.
  ["NOPERM this user has no permissions to access one of the keys used as arguments", ["SET", KEY, "sb1:data"], KEY],
  ["NOPERM No permissions to access a key", ["SET", KEY, "sb1:data"], KEY],
  ["NOPERM No permissions to access a channel", ["PUBLISH", "sb1:default:b:c", "sb1:data"], "sb1:default:b:c"],
  ["ERR The user executing the script can't run this command or subcommand script: 1a", script([KEY]), KEY],
  ["ERR ACL failure in script: User app has no permissions to run the 'xadd' command", script([KEY]), KEY],
  ["NOPERM No permissions to access a key", script(MANY), `${MANY.slice(0, 3).join(", ")} and 2 more`],
])("%j is an AuthError that names what was to be used, and not what was sent", async (reply, command, named) => {
  const fake = await fakeRedis(([name]) => (name === command[0] ? `-${reply}\r\n` : undefined));
  const { connections } = await open(standalone(fake));
  const error = await failureOf(connections.shared("k").command(command));
  expect(error).toBeInstanceOf(AuthError);
  expect(error.message).toContain(`Redis refused ${command[0]} on ${named}: ${reply}`);
  expect(error.message).not.toContain("data");
});

function script(keys: readonly string[]): readonly string[] {
  return ["EVALSHA", "5ha", String(keys.length), ...keys, "sb1:data"];
}

test("a pair that is refused is sent again as a pair", async () => {
  let refused = false;
  const fake = await fakeRedis(([name]) => {
    if (name === "WAIT") return ":1\r\n";
    if (name !== "SET" || refused) return undefined;
    refused = true;
    return "-LOADING Redis is loading the dataset in memory\r\n";
  });
  const { connections } = await open(standalone(fake));
  expect(await connections.publishing("k").pair(["SET", "a", "v"], ["WAIT", "1", "9"])).toEqual(["OK", 1]);
  const sent = fake.commands.map(([name]) => name).filter((name) => name === "SET" || name === "WAIT");
  expect(sent).toEqual(["SET", "WAIT", "SET", "WAIT"]);
});

test("a reply that is none ends the socket, and the next one serves", async () => {
  let garbled = false;
  const fake = await fakeRedis(([name]) => {
    if (name !== "GET") return undefined;
    if (garbled) return bulk("v");
    garbled = true;
    return "?what\r\n";
  });
  const connection = (await open(standalone(fake))).connections.shared("k");
  expect(await failureOf(connection.command(["GET", "a"]))).toMatchObject({ interrupted: true });
  expect(await connection.command(["GET", "a"])).toEqual(Buffer.from("v"));
});

test("a server that takes connections and drops them is not stormed", async () => {
  let attempts = 0;
  const fake = await fakeRedis((_, socket) => {
    attempts += 1;
    socket.destroy();
    return null;
  });
  const error = await failureOf(open(standalone(fake), { connectTimeoutMs: 1_000 }));
  expect(error).toBeInstanceOf(ConnectionError);
  // 50 ms, doubling: some five attempts in a second.
  expect(attempts).toBeLessThan(15);
});

test("a server without an answer is given up in time, and nothing stays open", async () => {
  const fake = await fakeRedis(() => null);
  const startedAt = performance.now();
  const error = await failureOf(open(standalone(fake), { connectTimeoutMs: 300 }));
  expect(error).toBeInstanceOf(ConnectionError);
  expect(error.message).toContain(`redis://127.0.0.1:${fake.port}/0`);
  expect(performance.now() - startedAt).toBeLessThan(2_000);
  await until(() => fake.connections() === 0, { what: "the connections to be closed" });
});

test("an attempt to connect again that is swallowed without a trace is soon followed by another", async () => {
  const swallowed = new Set<Socket>();
  let isHole = false;
  const fake = await fakeRedis(([name], socket) => {
    if (isHole) swallowed.add(socket);
    if (swallowed.has(socket)) return null;
    return name === "GET" ? bulk("v") : undefined;
  });
  const { connections } = await open(standalone(fake));
  const connection = connections.shared("k");
  await connection.command(["GET", "a"]);
  isHole = true;
  fake.drop();
  await until(() => swallowed.size > 0, { what: "an attempt to fall into the hole" });
  isHole = false;
  const startedAt = performance.now();
  expect(await connection.command(["GET", "a"])).toEqual(Buffer.from("v"));
  expect(performance.now() - startedAt).toBeLessThan(3_500);
});

test("where the first connection took long, the next ones may, too", async () => {
  const fake = await fakeRedis(([name, section], socket) => {
    if (name !== "INFO" || section !== "replication") return undefined;
    setTimeout(() => socket.write(bulk("role:master\r\n")), 2_200);
    return null;
  });
  const { connections } = await open(standalone(fake), { connectTimeoutMs: 10_000 });
  const connectedBefore = fake.accepted();
  fake.drop();
  await until(() => fake.accepted() > connectedBefore, { what: "the next attempt" });
  expect(await connections.shared("k").command(["SET", "a", "v"])).toBe("OK");
  expect(fake.accepted() - connectedBefore).toBe(1);
});

test("an answer that waits unread while this process is busy is still taken", async () => {
  const fake = await fakeRedis(() => undefined);
  const { connections } = await open(standalone(fake), { commandTimeoutMs: 200 });
  const connection = connections.shared("k");
  const answers = Array.from({ length: 100 }, () => connection.command(["SET", "a", "v"]));
  // The commands leave at the end of this turn of the loop; then nobody reads for longer than the deadline.
  await new Promise((resolve) => setImmediate(resolve));
  const busyUntil = performance.now() + 500;
  while (performance.now() < busyUntil);
  expect(new Set(await Promise.all(answers))).toEqual(new Set(["OK"]));
});

test("more commands than may wait are refused at once", async () => {
  const fake = await fakeRedis(([name]) => (name === "GET" ? null : undefined));
  const { connections } = await open(standalone(fake), { commandTimeoutMs: 300 });
  const connection = connections.shared("k");
  // The first one is never answered, so that the socket is dropped and the next ones have none.
  await failureOf(connection.command(["GET", "a"]));
  const all = await Promise.allSettled(Array.from({ length: 10_001 }, () => connection.command(["GET", "a"])));
  const codes = all.map((one) => (one.status === "rejected" ? (one.reason as { code: string }).code : "ok"));
  expect(codes.filter((code) => code === "LIMIT")).toHaveLength(1);
});
