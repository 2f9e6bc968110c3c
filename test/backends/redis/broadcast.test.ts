/** Broadcast over real Redis: one subscription a target, gaps after losses, and the listener's own faults. */

import type { Socket as TcpSocket } from "node:net";
import { afterAll, beforeAll, expect, onTestFinished, test } from "vitest";
import type { BroadcastTarget, Bytes } from "../../../src/core/backend.js";
import { compileGlob } from "../../../src/core/glob.js";
import { AuthError, ConnectionError } from "../../../src/core/errors.js";
import { type RedisServer, startCluster, startRedis } from "../../support/redis-servers.js";
import { until } from "../../support/wait.js";
import {
  bulk,
  clientsOf,
  clusterOf,
  fakeRedis,
  failureOf,
  type Opened,
  open,
  standalone,
} from "./connection-support.js";

let server: RedisServer;

beforeAll(async () => {
  server = await startRedis({ users: { app: "on >secret ~* resetchannels &sb1:test:b:mine* +@all" } });
});

afterAll(() => server.stop());

interface Ear {
  readonly heard: readonly string[];
  readonly gaps: readonly string[];
  readonly leave: () => Promise<void>;
}

async function listen(redis: Opened, target: BroadcastTarget): Promise<Ear> {
  const heard: string[] = [];
  const gaps: string[] = [];
  const leave = await redis.broadcast.subscribe(target, {
    message: (channel, data) => heard.push(`${channel}: ${Buffer.from(data).toString()}`),
    gap: (reason) => gaps.push(reason),
  });
  return { heard, gaps, leave };
}

const say = (redis: Opened, channel: string, ...texts: readonly string[]): Promise<readonly number[]> =>
  redis.broadcast.publish(texts.map((data) => ({ channel, data })));

test("what is published after subscribing is heard, in order, by channel and by pattern", async () => {
  const redis = await open(standalone(server));
  const exact = await listen(redis, { channel: "news.a" });
  const glob = await listen(redis, { pattern: "news.*" });
  expect(await say(redis, "news.a", "1", "2", "3")).toEqual([2, 2, 2]);
  expect(await say(redis, "news.b", "4")).toEqual([1]);
  expect(await say(redis, "other", "5")).toEqual([0]);
  await until(() => glob.heard.length === 4, { what: "four messages" });
  expect(glob.heard).toEqual(["news.a: 1", "news.a: 2", "news.a: 3", "news.b: 4"]);
  expect(exact.heard).toEqual(["news.a: 1", "news.a: 2", "news.a: 3"]);
});

test("bytes arrive as they were sent, whatever view they were sent from", async () => {
  const redis = await open(standalone(server));
  const heard: Bytes[] = [];
  await redis.broadcast.subscribe({ channel: "raw" }, { message: (_, data) => heard.push(data), gap: () => {} });
  await redis.broadcast.publish([{ channel: "raw", data: Uint8Array.of(9, 0, 255, 13, 10, 9).subarray(1, 5) }]);
  await until(() => heard.length === 1, { what: "the bytes" });
  expect([...Buffer.from((heard[0] ?? "") as string)]).toEqual([0, 255, 13, 10]);
});

test("however many listen to a target, Redis is asked once, and told when the last one leaves", async () => {
  const redis = await open(standalone(server));
  const subscribers = async (): Promise<unknown> =>
    ((await server.cli("PUBSUB", "NUMSUB", "sb1:test:b:shared")) as unknown[])[1];
  const ears = await Promise.all(Array.from({ length: 5 }, () => listen(redis, { channel: "shared" })));
  expect(await say(redis, "shared", "x")).toEqual([1]);
  await until(() => ears.every(({ heard }) => heard.length === 1), { what: "all to hear" });
  await Promise.all(ears.slice(1).map(({ leave }) => leave()));
  expect(await say(redis, "shared", "y")).toEqual([1]);
  await until(() => ears[0]?.heard.length === 2, { what: "the last one to hear" });
  await ears[0]?.leave();
  await ears[0]?.leave();
  // For a second somebody may come back for nothing.
  expect(await subscribers()).toBe(1);
  await until(async () => (await subscribers()) === 0, { what: "Redis to be told" });
  expect(ears.slice(1).every(({ heard }) => heard.length === 1)).toBe(true);
});

test("leaving and coming back at the same moment ends in a subscription", async () => {
  const redis = await open(standalone(server));
  for (let round = 0; round < 20; round += 1) {
    const before = await listen(redis, { pattern: "rapid.*" });
    const [after] = await Promise.all([listen(redis, { pattern: "rapid.*" }), before.leave()]);
    await say(redis, "rapid.x", "hello");
    await until(() => after.heard.length === 1, { what: "the message" });
    expect(before.heard).toEqual([]);
    // Leaves and returns without a pause between.
    const left = after.leave();
    const again = await listen(redis, { pattern: "rapid.*" });
    await left;
    await say(redis, "rapid.y", "hello");
    await until(() => again.heard.length === 1, { what: "the message after coming back" });
    await again.leave();
  }
});

test("after the connection was killed every listener is told of a gap, and hears again", async () => {
  const redis = await open(standalone(server));
  const ears = [
    await listen(redis, { channel: "gap" }),
    await listen(redis, { channel: "gap" }),
    await listen(redis, { pattern: "ga?" }),
  ];
  await server.cli("CLIENT", "KILL", "TYPE", "pubsub");
  await until(() => ears.every(({ gaps }) => gaps.length === 1), { what: "the gaps" });
  // The subscription is in force by then.
  await say(redis, "gap", "after");
  await until(() => ears.every(({ heard }) => heard.length === 1), { what: "all to hear" });
  expect(redis.reports).toHaveLength(1);
});

test("a subscription survives a restart of the server", async () => {
  const own = await startRedis();
  onTestFinished(() => own.stop());
  const redis = await open(standalone(own));
  const ear = await listen(redis, { channel: "again" });
  await own.kill();
  await own.restart();
  await until(() => ear.gaps.length === 1, { what: "the gap" });
  await say(redis, "again", "back");
  await until(() => ear.heard.length === 1, { what: "the message" });
});

test("a server that falls silent is noticed by the listening socket alone", async () => {
  const own = await startRedis();
  onTestFinished(() => own.stop());
  const redis = await open(standalone(own), { commandTimeoutMs: 300 });
  const ear = await listen(redis, { channel: "silent" });
  own.pause();
  await until(async () => !(await redis.check()).find(({ name }) => name === "subscriber")?.ok, { what: "the loss" });
  own.resume();
  await until(() => ear.gaps.length > 0, { what: "the gap" });
  await say(redis, "silent", "back");
  await until(() => ear.heard.length === 1, { what: "the message" });
});

test("a flood of messages that keeps an answer waiting is no silence", async () => {
  const channel = "sb1:test:b:flood";
  let flooding: TcpSocket | undefined;
  const fake = await fakeRedis(([name], socket) => {
    if (name === "subscribe") {
      flooding = socket;
      return `*3\r\n${bulk("subscribe")}${bulk(channel)}:1\r\n`;
    }
    // It never gets round to answering.
    return socket === flooding ? null : undefined;
  });
  const redis = await open(standalone(fake), { commandTimeoutMs: 300 });
  const ear = await listen(redis, { channel: "flood" });
  const flood = setInterval(() => flooding?.write(`*3\r\n${bulk("message")}${bulk(channel)}${bulk("x")}`), 20);
  onTestFinished(() => clearInterval(flood));
  await until(() => fake.commands.some(([name]) => name === "PING"), { what: "a sign of life to be asked for" });
  const before = ear.heard.length;
  await until(() => ear.heard.length > before + 50, { what: "more than a second of messages" });
  expect(ear.gaps).toEqual([]);
  clearInterval(flood);
  await until(() => ear.gaps.length > 0, { deadlineMs: 10_000, what: "the silence to be noticed" });
});

test("a new subscription waits for the server, and gives up at its deadline", async () => {
  const own = await startRedis();
  onTestFinished(() => own.stop());
  const redis = await open(standalone(own), { commandTimeoutMs: 2_000 });
  await own.kill();
  const subscribing = listen(redis, { channel: "patient" });
  await own.restart();
  const ear = await subscribing;
  await say(redis, "patient", "x");
  await until(() => ear.heard.length === 1, { what: "the message" });
  await own.kill();
  const error = await failureOf(listen(redis, { channel: "in vain" }));
  expect(error).toBeInstanceOf(ConnectionError);
  expect(error).toMatchObject({ retryable: true });
});

test("a listener that throws is reported, and disturbs nobody", async () => {
  const redis = await open(standalone(server));
  const other = await open(standalone(server));
  await redis.broadcast.subscribe(
    { channel: "faulty" },
    {
      message: () => {
        throw new Error("my fault");
      },
      gap: () => {},
    },
  );
  const ear = await listen(redis, { channel: "faulty" });
  await say(redis, "faulty", "1");
  await say(other, "faulty", "2");
  await until(() => ear.heard.length === 2, { what: "both messages" });
  expect(redis.reports).toEqual(["broadcast listener: my fault", "redis subscriber: my fault"]);
});

test("a channel that the ACL forbids is refused, and leaves others alone", async () => {
  const redis = await open(standalone(server, { username: "app", password: "secret" }));
  const ear = await listen(redis, { channel: "mine" });
  expect(await failureOf(listen(redis, { channel: "yours" }))).toBeInstanceOf(AuthError);
  expect(await failureOf(say(redis, "yours", "x"))).toBeInstanceOf(AuthError);
  await say(redis, "mine", "x");
  await until(() => ear.heard.length === 1, { what: "the message" });
  expect(ear.gaps).toEqual([]);
});

test("patterns match characters as everywhere else, though Redis matches bytes", async () => {
  const redis = await open(standalone(server));
  const names = ["ab", "aä", "a😀", "aéb", "abb", "a-b", "a]b", "a", "A", "äb", "a b", "a^"];
  const patterns = [
    "a?",
    "?b",
    "a?b",
    "a[bä]",
    "a[^b]",
    "a[^b]b",
    "[a-z]b",
    "[ä-ö]b",
    "a[]-]b",
    "a\\?",
    "a*",
    "?",
    "a[a-]b]",
  ];
  patterns.push("a[\\a-\\]é]b", "a[ä-]b]", "a[b", "a[^ä", "[^-]b", "a[\\]x]b", "??", "*?");
  const ears = await Promise.all(patterns.map((pattern) => listen(redis, { pattern })));
  const published = [...names, "a-end"];
  await redis.broadcast.publish(published.map((channel) => ({ channel, data: "x" })));
  const expected = patterns.map((pattern) => published.filter(compileGlob(pattern)).map((name) => `${name}: x`));
  const last = await listen(redis, { channel: "last" });
  await say(redis, "last", "x");
  await until(() => last.heard.length > 0, { what: "the last message" });
  expect(ears.map(({ heard }, index) => [patterns[index], ...heard.filter((text) => text !== "last: x")])).toEqual(
    expected.map((heard, index) => [patterns[index], ...heard]),
  );
});

test("two namespaces hear nothing of each other, and health checks are heard by nobody", async () => {
  const redis = await open(standalone(server));
  const ear = await listen(redis, { pattern: "*" });
  await server.cli("PUBLISH", "sb1:other:b:x", "not for us");
  expect((await redis.check()).every(({ ok }) => ok)).toBe(true);
  expect((await redis.check()).every(({ ok }) => ok)).toBe(true);
  await say(redis, "x", "for us");
  await until(() => ear.heard.length > 0, { what: "the message" });
  expect(ear.heard).toEqual(["x: for us"]);
});

test("ten thousand channels are subscribed and, after a loss, subscribed again", async () => {
  const redis = await open(standalone(server));
  let gaps = 0;
  let heard = 0;
  const listener = { message: () => (heard += 1), gap: () => (gaps += 1) };
  await Promise.all(
    Array.from({ length: 10_000 }, (_, index) => redis.broadcast.subscribe({ channel: `many.${index}` }, listener)),
  );
  await server.cli("CLIENT", "KILL", "TYPE", "pubsub");
  await until(() => gaps === 10_000, { what: "all the gaps" });
  await redis.broadcast.publish(
    Array.from({ length: 10_000 }, (_, index) => ({ channel: `many.${index}`, data: "x" })),
  );
  await until(() => heard === 10_000, { what: "all the messages" });
});

test("in a Cluster a message reaches listeners at every node, and a node's death is a gap", async () => {
  const cluster = await startCluster({ nodeTimeoutMs: 1_000 });
  onTestFinished(() => cluster.stop());
  const brokers = await Promise.all(Array.from({ length: 4 }, () => open(clusterOf(cluster))));
  const ears = await Promise.all(brokers.map((broker) => listen(broker, { channel: "everywhere" })));
  for (const broker of brokers) await say(broker, "everywhere", "hello");
  await until(() => ears.every(({ heard }) => heard.length === 4), { what: "everyone to hear everything" });
  const listeners = await Promise.all(
    cluster.nodes.map(async (node) => (await clientsOf(node)).filter((line) => line.includes(" sub=1")).length),
  );
  const busiest = cluster.nodes[listeners.indexOf(Math.max(...listeners))];
  await busiest?.kill();
  await until(() => ears.reduce((sum, { gaps }) => sum + gaps.length, 0) >= Math.max(...listeners), {
    what: "the gaps",
  });
  const [first] = brokers;
  if (first !== undefined)
    await until(() => say(first, "everywhere", "bye"), { deadlineMs: 15_000, what: "a publish" });
  await until(() => ears.every(({ heard }) => heard.at(-1) === "everywhere: bye"), { what: "everyone to hear" });
});
