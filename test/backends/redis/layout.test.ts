/** The layout on the server is a promise: what an earlier build has written, later builds read and go on with. */

import { readFileSync } from "node:fs";
import { afterAll, beforeAll, expect, onTestFinished, test } from "vitest";
import type { Arg } from "../../../src/backends/redis/connection.js";
import { createLog } from "../../../src/backends/redis/log.js";
import { createMembership } from "../../../src/backends/redis/membership.js";
import { createQueue } from "../../../src/backends/redis/queue.js";
import { systemClock } from "../../../src/core/clock.js";
import { type RedisServer, startRedis } from "../../support/redis-servers.js";
import { open, standalone } from "./connection-support.js";
import { acks, collect, ROOMY, textsOf } from "./log-queue-support.js";
import { faultsIn } from "./queue-audit.js";

let server: RedisServer;
beforeAll(async () => {
  server = await startRedis();
});
afterAll(() => server.stop());

/** Restores what a script in `test/fixtures/layout` made, into an empty server. */
async function restore(name = "redis-sb1") {
  await server.cli("FLUSHALL");
  const { connections } = await open(standalone(server));
  const file = new URL(`../../fixtures/layout/${name}.json`, import.meta.url);
  const dump = JSON.parse(readFileSync(file, "utf8")) as Record<string, string>;
  for (const [key, payload] of Object.entries(dump)) {
    const words: Arg[] = ["RESTORE", key, "0", Buffer.from(payload, "base64")];
    await connections.shared(key).command(words);
  }
  const reports: unknown[] = [];
  const context = { namespace: "shop & co", clock: systemClock, report: (error: unknown) => reports.push(error) };
  const dependencies = { connections, context, durability: "memory", replicas: 1 } as const;
  const [log, queue] = [createLog(dependencies), createQueue(dependencies)];
  onTestFinished(async () => {
    await Promise.all([log.close(), queue.close()]);
    expect(reports).toEqual([]);
  });
  return { log, queue, membership: createMembership(dependencies, () => undefined), connections };
}

test("a stream of layout sb1 is read, with its groups, their deliveries, retries and dead letters", async () => {
  const { log } = await restore();
  const read = await log.read("orders", { max: 100 });
  expect(read.slice(0, -1).map(({ header }) => header)).toEqual(
    ["acked", "pending", "due", "parked", "dead", "pending again", "unread"].map((text) => `header of ${text}`),
  );
  expect([...(read.at(-1)?.data ?? [])]).toEqual([0, 10, 255, 254]);
  const stats = await log.stats("orders");
  // What earlier builds did not know is what they did: no order, nothing held back, no limits of the stream's own.
  const settings = {
    leaseMs: 60_000,
    maxAttempts: 3,
    maxDeadLetters: 10,
    from: "beginning",
    order: "none",
    maxHeld: 1_000,
  } as const;
  const oldest = { oldestUnhandledAt: read[1]?.at, lastProgressAt: read[5]?.at };
  expect(stats).toMatchObject({ length: 8, oldest: { position: read[0]?.position }, retention: undefined });
  expect(stats.groups.toSorted((one, other) => one.group.localeCompare(other.group))).toMatchObject([
    { group: "audit", paused: false, lag: 3, pending: 0, retrying: 0, held: 0, dead: 0 },
    { group: "billing", paused: false, lag: 2, pending: 2, retrying: 2, held: 0, dead: 1, settings, ...oldest },
  ]);
  expect(await log.createGroup("orders", "billing", { ...settings, from: "new", leaseMs: 1 })).toEqual(settings);

  const feed = await log.open("orders", "billing", "new consumer");
  const taken = await collect(feed, 5);
  expect(textsOf(taken).slice(0, 3).toSorted()).toEqual(["due#2", "pending again#3", "pending#2"]);
  expect(textsOf(taken)[3]).toBe("unread");
  expect((await feed.take({ max: 0, waitMs: 0 }, acks(taken))).lost).toEqual([]);
  const letters = log.deadLetters("orders", "billing");
  const [letter] = (await letters.list({ max: 10 })).letters;
  expect(letter).toEqual(await letters.get(letter?.id ?? ""));
  expect(letter).toMatchObject({
    position: read[4]?.position,
    header: "header of dead",
    attempts: 1,
    consumer: "crashed consumer",
    reason: { kind: "failed", message: "no\nway", stack: "Error: no way" },
    firstFailedAt: letter?.at,
  });
  // What is parked for a century keeps its entry, and those behind it.
  const appending = log.append("orders", [{ header: "h", data: "more" }], { maxEntries: 5, overflow: "reject" });
  await expect(appending).rejects.toMatchObject({ code: "LIMIT" });
  await log.append("orders", [{ header: "h", data: "more" }], ROOMY);
  expect(textsOf(await collect(feed, 1))).toEqual(["more"]);
  expect(await letters.redrive([letter?.id ?? ""])).toBe(1);
  expect(textsOf(await collect(feed, 1))).toEqual(["dead"]);
});

test("a queue of layout sb1 is read, with its priorities, delays, leases and dead letters", async () => {
  const { queue } = await restore();
  const anna = "anna: the 1st";
  // Nothing tells when any of it was pushed.
  const unknown = { dropped: 0, paused: false, oldestWaitingAt: undefined };
  const annas = { waiting: 5, leased: 1, delayed: 1, dead: 1, expired: 1 };
  expect(await queue.stats("tasks", anna)).toEqual({ ...annas, ...unknown });
  const shared = { waiting: 1, leased: 0, delayed: 0, dead: 0, expired: 0 };
  expect(await queue.stats("tasks", "")).toEqual({ ...shared, ...unknown });
  const held = ["leased", "retried", "low", "high", "100%\nsure", "due", "delayed", "shared"];
  const again = held.map((id) => ({ id, recipient: "", header: "", data: "", priority: 0, delayMs: 0 }));
  expect(await queue.push("tasks", again, { maxItems: 8 })).toEqual(
    held.map((id) => ({ id, duplicate: true, recipients: 0 })),
  );
  const { items } = await queue.browse("tasks", anna, { max: 10 });
  expect(items.map(({ id, at, recipients: [one] }) => [id, at, one?.state])).toEqual([
    ["retried", 0, "waiting"],
    ["high", 0, "waiting"],
    ["100%\nsure", 0, "waiting"],
    ["due", 0, "waiting"],
    ["low", 0, "waiting"],
    ["delayed", 0, "delayed"],
    ["leased", 0, "leased"],
  ]);
  expect(await queue.get("tasks", "low")).toBeUndefined();
  expect(await queue.count("tasks", {})).toBe(8);

  const consumer = { consumer: "new consumer", leaseMs: 60_000, maxAttempts: 3, maxDeadLetters: 10 };
  const feed = await queue.open("tasks", anna, consumer);
  const taken = await collect(feed, 6);
  expect(textsOf(taken)).toEqual(["leased#2", "retried#2", "high", "100%\nsure", "due", "low"]);
  expect(taken.expired).toBe(1);
  expect((await feed.take({ max: 0, waitMs: 0 }, acks(taken))).lost).toEqual([]);
  expect(textsOf(await collect(await queue.open("tasks", "", consumer), 1))).toEqual(["shared"]);
  const letters = queue.deadLetters("tasks", anna);
  const [letter] = (await letters.list({ max: 10 })).letters;
  expect(letter).toMatchObject({
    position: "dead",
    header: "header of dead",
    attempts: 1,
    consumer: "crashed consumer",
    firstFailedAt: letter?.at,
  });
  // Its priority was not noted, and it has come back with none.
  expect(await letters.redrive([letter?.id ?? ""])).toBe(1);
  expect(textsOf(await collect(feed, 1))).toEqual(["dead"]);
  // New pushes stand behind the old ones.
  await queue.push("tasks", [{ ...again[0]!, id: "new", recipient: anna }], { maxItems: 8 });
  expect((await collect(feed, 1)).deliveries[0]?.position).toBe("new");
});

test("recipients, audiences and records of layout sb1 are read and gone on with", async () => {
  const { queue, connections } = await restore("redis-sb1-1");
  const anna = "anna: the 1st";
  // One push is still to be handed out.
  for (const fault of await faultsIn(connections.shared("any"))) expect(fault).toContain("queue:crowd:");
  const { recipients } = await queue.recipients("desk", { max: 10 });
  expect(recipients.map(({ recipient, isAudience, isOnline }) => [recipient, isAudience, isOnline])).toEqual([
    [anna, true, false],
    ["ben", true, false],
    ["cleo", true, false],
    ["answers", false, false],
  ]);
  const settings = { keepAckedMs: 3_155_760_000_000, maxRecords: 1_000, index: ["source"] };
  expect(await queue.configure("desk", { keepAckedMs: 0, maxRecords: 0, index: undefined })).toEqual(settings);
  const statesOf = async (fields: Readonly<Record<string, string>>): Promise<unknown> => {
    const { items } = await queue.list("desk", { fields }, { max: 10 });
    return items.map(({ id, state }) => [id, state]);
  };
  expect(await statesOf({ source: "planner" })).toEqual([
    ["acked", "acked"],
    ["told to all", "open"],
  ]);
  expect(await statesOf({ source: "a:b c" })).toEqual([["parked", "dead"]]);
  expect(await queue.count("desk", { state: "expired" })).toBe(1);
  const told = await queue.get("desk", "told to all");
  expect(told?.recipients.map(({ recipient, state, attempts }) => [recipient, state, attempts])).toEqual([
    ["ben", "leased", 1],
    ["cleo", "waiting", 0],
    [anna, "acked", 1],
  ]);
  expect(told?.updatedAt).toBe(told?.recipients[2]?.until);
  expect(await queue.get("desk", "the answer")).toMatchObject({ header: "h", priority: 3, state: "open" });
  expect(await queue.get("desk", "retried")).toMatchObject({ recipients: [{ state: "delayed", attempts: 1 }] });
  expect(await queue.stats("desk", anna)).toMatchObject({ waiting: 1, delayed: 1, dead: 1, expired: 1, paused: true });

  const consumer = { consumer: "new consumer", leaseMs: 60_000, maxAttempts: 3, maxDeadLetters: 10 };
  const feed = await queue.open("desk", "ben", consumer);
  const taken = await collect(feed, 1);
  expect(textsOf(taken)).toEqual(["told to all#2"]);
  await feed.take({ max: 0, waitMs: 0 }, acks(taken));
  expect(await queue.acknowledge("desk", "cleo", ["told to all"])).toEqual([true]);
  expect(await queue.get("desk", "told to all")).toMatchObject({ state: "acked" });
  const letters = queue.deadLetters("desk", anna);
  expect(await letters.redrive([(await letters.list({ max: 1 })).letters[0]?.id ?? ""])).toBe(1);
  expect(await queue.get("desk", "parked")).toMatchObject({ state: "open", recipients: [{ state: "waiting" }] });

  // What a dead publisher has left is handed out to all.
  const late = await queue.open("crowd", "r299", consumer);
  expect(textsOf(await collect(late, 1))).toEqual(["for 300"]);
  await late.close();
  await feed.close();
  expect(await faultsIn(connections.shared("any"))).toEqual([]);
});

test("groups of layout sb1 are read, with their members, and with holders whose lease has run out", async () => {
  const { membership } = await restore("redis-sb1-members");
  const { version, count, members } = await membership.list("lobby 1", { max: 10 });
  expect([
    count,
    members.map(({ id, meta, connections }) => [id, Buffer.from(meta).toString("latin1"), connections]),
  ]).toEqual([
    2,
    [
      ["ada: the 1st", "here", 3],
      ["bob", "\u0000\n\u00ff", 1],
    ],
  ]);
  const [lobby, den] = await membership.versions(["lobby 1", "den"], "second one");
  expect(lobby).toEqual({ version, held: version });
  expect([den?.held, (await membership.list("den", { max: 10 })).count]).toEqual([den?.version, 1]);
  expect((await membership.lapsing()).toSorted()).toEqual(["first", "second one"]);
  expect(await membership.renew("second one", 60_000)).toBe("held");
  const told: string[] = [];
  for (let isDone = false; !isDone; ) {
    const reaped = await membership.reap("first");
    isDone = reaped.isDone;
    for (const { group, change } of reaped.lapsed) {
      told.push(...change.changes.map(({ kind, member }) => `${group}: ${kind} ${member.id} ${member.lastSeen}`));
    }
  }
  const first = ["den: left ada: the 1st 1000", "lobby 1: left bob 1000", "lobby 1: updated ada: the 1st 1000"];
  expect(told.toSorted()).toEqual(first);
  expect(await membership.find("lobby 1", ["ada: the 1st"])).toMatchObject([{ connections: 1 }]);
});
