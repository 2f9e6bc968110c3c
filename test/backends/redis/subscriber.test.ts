/** What Redis is asked by those who listen and publish: once for each target, in batches, and never to no purpose. */

import type { Socket as TcpSocket } from "node:net";
import { afterAll, beforeAll, expect, onTestFinished, test } from "vitest";
import type { BroadcastTarget } from "../../../src/core/backend.js";
import { AuthError } from "../../../src/core/errors.js";
import { type RedisServer, startCluster, startRedis } from "../../support/redis-servers.js";
import { pause, until } from "../../support/wait.js";
import { moveSlot } from "../../faults/support/slots.js";
import { bulk, clusterOf, failureOf, fakeRedis, type Opened, open, standalone } from "./connection-support.js";

let server: RedisServer;

beforeAll(async () => {
  server = await startRedis();
});

afterAll(() => server.stop());

interface Ear {
  readonly heard: string[];
  readonly gaps: string[];
  readonly leave: () => Promise<void>;
}

async function listen(redis: Opened, target: BroadcastTarget): Promise<Ear> {
  const heard: string[] = [];
  const gaps: string[] = [];
  const leave = await redis.broadcast.subscribe(target, {
    message: (_, data) => void heard.push(Buffer.from(data).toString()),
    gap: (reason) => void gaps.push(reason),
  });
  return { heard, gaps, leave };
}

const say = (redis: Opened, channel: string, ...texts: readonly string[]): Promise<readonly number[]> =>
  redis.broadcast.publish(texts.map((data) => ({ channel, data })));

/** Counts the calls of a command from now on. */
async function countCalls(command: string, at: RedisServer = server): Promise<() => Promise<number>> {
  const count = async (): Promise<number> => {
    const stats = String(await at.cli("INFO", "commandstats"));
    return Number(new RegExp(`cmdstat_${command}:calls=(\\d+)`).exec(stats)?.[1] ?? 0);
  };
  const before = await count();
  return async () => (await count()) - before;
}

test("one that comes back within a second costs nothing, and then Redis is told", async () => {
  const redis = await open(standalone(server));
  const other = await open(standalone(server));
  const first = await listen(redis, { channel: "linger" });
  const subscribed = await countCalls("subscribe");
  const unsubscribed = await countCalls("unsubscribe");
  for (let times = 0; times < 5; times += 1) {
    await first.leave();
    const again = await listen(redis, { channel: "linger" });
    await say(other, "linger", "x");
    await until(() => again.heard.length === 1, { what: "the message" });
    await again.leave();
  }
  expect(first.heard).toEqual([]);
  expect(await subscribed()).toBe(0);
  await until(async () => (await unsubscribed()) === 1, { what: "Redis to be told" });
  // And anew.
  const late = await listen(redis, { channel: "linger" });
  await say(other, "linger", "y");
  await until(() => late.heard.length === 1, { what: "the message" });
  expect(await subscribed()).toBe(1);
});

test("thousands of targets are asked for 512 at a time, at once and after a loss", async () => {
  const own = await startRedis();
  onTestFinished(() => own.stop());
  const redis = await open(standalone(own));
  const calls = [await countCalls("subscribe", own), await countCalls("psubscribe", own)];
  let gaps = 0;
  const listener = { message: () => undefined, gap: () => (gaps += 1) };
  const targets = Array.from({ length: 2_000 }, (_, index) => [{ channel: `c${index}` }, { pattern: `p${index}.*` }]);
  await Promise.all(targets.flat().map((target) => redis.broadcast.subscribe(target, listener)));
  // The very first may have gone alone.
  for (const count of calls) expect(await count()).toBeLessThanOrEqual(5);
  const again = [await countCalls("subscribe", own), await countCalls("psubscribe", own)];
  await own.cli("CLIENT", "KILL", "TYPE", "pubsub");
  await until(() => gaps === 4_000, { what: "all to be told of the gap" });
  for (const count of again) expect(await count()).toBe(4);
});

test("messages of one moment to one channel are one PUBLISH, up to 256 of them or 64 KiB; a lone one is one", async () => {
  const redis = await open(standalone(server));
  const other = await open(standalone(server));
  const ear = await listen(other, { channel: "packed" });
  const expectPublishes = async (expected: number, publish: () => Promise<unknown>): Promise<void> => {
    const calls = await countCalls("publish");
    await publish();
    expect(await calls()).toBe(expected);
  };
  const texts = Array.from({ length: 300 }, (_, index) => `m${index}`);
  await expectPublishes(1, () => say(redis, "packed", "lone"));
  await expectPublishes(2, () => say(redis, "packed", ...texts));
  await expectPublishes(4, () => say(redis, "packed", ...Array.from({ length: 10 }, () => "x".repeat(20_000))));
  // Different channels have different listeners: neighbours of one travel together.
  const mixed = ["one", "one", "two", "two"].map((channel) => ({ channel, data: "x" }));
  await expectPublishes(2, () => redis.broadcast.publish(mixed));
  await until(() => ear.heard.length === 311, { what: "all of it" });
  expect(ear.heard.slice(0, 301)).toEqual(["lone", ...texts]);
});

test("listeners in the same process hear at once, whatever Redis does", async () => {
  const own = await startRedis();
  onTestFinished(() => own.stop());
  const redis = await open(standalone(own), { commandTimeoutMs: 500 });
  const ears = [await listen(redis, { channel: "local" }), await listen(redis, { pattern: "loc*" })];
  own.pause();
  const publishing = failureOf(say(redis, "local", "while it is paused"));
  expect(ears.map(({ heard }) => heard)).toEqual([["while it is paused"], ["while it is paused"]]);
  expect(await publishing).toMatchObject({ code: "CONNECTION" });
  await own.kill();
  const failing = failureOf(say(redis, "local", "while it is gone"));
  expect(ears.map(({ heard }) => heard.length)).toEqual([2, 2]);
  expect(await failing).toMatchObject({ code: "CONNECTION" });
});

test("what somebody else publishes on the channel comes as it is, though it may look like a frame", async () => {
  const redis = await open(standalone(server));
  const ear = await listen(redis, { channel: "foreign" });
  const texts = ["", "hello", "\u0001short", "\u0002AAAAAAAA5:hello99:too short", "\u0002AAAAAAAAno length"];
  for (const text of texts) await server.cli("PUBLISH", "sb1:test:b:foreign", text);
  await until(() => ear.heard.length === texts.length, { what: "all of it" });
  expect(ear.heard).toEqual(texts);
});

test("a connection that is deaf, though it answers, is replaced, and its listeners are told of a gap", async () => {
  const listening = new Set<TcpSocket>();
  let isDeaf = true;
  const fake = await fakeRedis(([name, channel = "", data = "", ...more], socket) => {
    if (name === "subscribe") {
      listening.add(socket);
      const channels = [channel, data, ...more].filter((each) => each !== "");
      return channels.map((each) => `*3\r\n${bulk("subscribe")}${bulk(each)}:1\r\n`).join("");
    }
    if (name !== "PUBLISH") return undefined;
    for (const each of isDeaf ? [] : listening) each.write(`*3\r\n${bulk("message")}${bulk(channel)}${bulk(data)}`);
    return ":1\r\n";
  });
  const redis = await open(standalone(fake), { listeningTestMs: 200, commandTimeoutMs: 500 });
  const ear = await listen(redis, { channel: "deaf" });
  await until(() => ear.gaps.length === 1, { what: "the gap" });
  expect(redis.reports.join()).toContain("was not heard");
  expect(ear.gaps[0]).toContain("was not heard");
  isDeaf = false;
  const gaps = ear.gaps.length;
  const probes = (): number => fake.commands.filter(([name]) => name === "PUBLISH").length;
  const before = probes();
  await until(() => probes() > before + 3, { what: "it to be tested again" });
  expect(ear.gaps.length - gaps).toBeLessThanOrEqual(1); // One may have been under way.
});

test("a quiet connection is tested, and none that nobody listens on", async () => {
  const redis = await open(standalone(server), { listeningTestMs: 50 });
  const [tested, left] = [await countCalls("publish"), await countCalls("unsubscribe")];
  const ear = await listen(redis, { channel: "lively" });
  await until(async () => (await tested()) > 0, { what: "a quiet one to be tested" });
  await ear.leave();
  await until(async () => (await left()) > 0, { what: "the last to have gone" });
  await pause(100); // What was under way.
  const afterwards = await countCalls("publish");
  await pause(300);
  expect(await afterwards()).toBe(0);
});

test("a channel that is forbidden after a loss is reported and asked for again, and keeps no other waiting", async () => {
  const own = await startRedis({ users: { app: "on >secret ~* &* +@all" } });
  onTestFinished(() => own.stop());
  const redis = await open(standalone(own, { username: "app", password: "secret" }));
  const [mine, yours] = [await listen(redis, { channel: "mine" }), await listen(redis, { channel: "yours" })];
  await own.cli("ACL", "SETUSER", "app", "resetchannels", "&sb1:test:b:mine*", "&sb1:test:b:\u0001*");
  await until(() => mine.gaps.length === 1, { what: "what is allowed to be in force again" });
  await until(() => redis.reports.some((text) => text.includes("NOPERM")), { what: "the refusal to be reported" });
  expect(yours.gaps).toEqual([]);
  expect(await failureOf(listen(redis, { channel: "yours" }))).toBeInstanceOf(AuthError);
  await own.cli("ACL", "SETUSER", "app", "&*");
  await until(() => yours.gaps.length === 1, { what: "the other one to be in force again" });
});

test("sharded channels have one subscription each, at the master of their slot, and follow when it moves", async () => {
  const cluster = await startCluster({ masters: 3, replicas: 0 });
  onTestFinished(() => cluster.stop());
  const [redis, other] = [await open(clusterOf(cluster)), await open(clusterOf(cluster))];
  const channels = Array.from({ length: 12 }, (_, index) => `shard-${index}`);
  const subscribe = (channel: string): Promise<Ear[]> =>
    Promise.all([1, 2].map(() => listen(redis, { channel, sharded: true })));
  const ears = await Promise.all(channels.map(subscribe));
  const keyOf = (channel: string): string => `sb1:test:b:${channel}`;
  for (const channel of channels) {
    const key = keyOf(channel);
    const counts = await Promise.all(cluster.nodes.map((node) => node.cli("PUBSUB", "SHARDNUMSUB", key)));
    const subscriptions = counts.reduce<number>((sum, reply) => sum + Number((reply as unknown[])[1]), 0);
    expect(subscriptions).toBe(1);
  }
  const sayAll = (text: string): Promise<unknown> =>
    Promise.all(channels.map((channel) => other.broadcast.publish([{ channel, sharded: true, data: text }])));
  await sayAll("a");
  await until(() => ears.flat().every(({ heard }) => heard.length === 1), { what: "all to hear" });
  const [moved = ""] = channels;
  await moveSlot(cluster, keyOf(moved));
  const movedEars = ears[0] ?? [];
  await until(() => movedEars.every(({ gaps }) => gaps.length > 0), { what: "the listeners to follow" });
  await sayAll("b");
  await until(() => ears.flat().every(({ heard }) => heard.at(-1) === "b"), { what: "all to hear" });
  for (const { heard } of ears.flat()) expect(heard).toEqual(["a", "b"]);
  expect((await redis.check()).filter(({ ok }) => !ok)).toEqual([]);
  expect((await redis.check()).filter(({ name }) => name.startsWith("sharded subscriber")).length).toBe(3);
});
