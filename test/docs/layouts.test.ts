/** What the documentation says of the stores is what is in them: keys, tables, and the rights that a user of Redis needs. */

import { readdirSync, readFileSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Broker, connect, retry } from "signalbox";
import { until } from "signalbox/testing";
import { expect, test } from "vitest";
import { loadDriver } from "../../src/backends/sqlite/driver.js";
import { startRedis } from "../support/redis-servers.js";
import { pause } from "../support/wait.js";
import { codeRowsOf, readPage, root } from "./support/pages.js";

/** Limits that are stored, so that they are asked for and looked at. */
const STREAMS = { order: { maxEntries: 1_000, maxAgeMs: 3_600_000 } };
const QUIET = { debug() {}, info() {}, warn() {}, error() {} };

/** Does a little of everything, so that every key and command is needed once. Nothing is left under way. */
async function exercise(broker: Broker): Promise<void> {
  const { events } = broker;
  await events.publishMany("order", ["good", "flaky", "bad"]);
  await events.publishMany("order", ["keyed", "keyed again"], { key: "customer" });
  for (let times = 0; times < 2; times += 1) await events.publish("order", "once", { id: "its id" });
  const options = { group: "bank", from: "beginning", leaseMs: 300, retry: { maxAttempts: 2, initialMs: 1 } } as const;
  const subscription = await events.subscribe("order", options, async (order, { attempt }) => {
    // Longer than a third of the lease, so that it is renewed.
    if (order === "good") await pause(150);
    if (order === "bad" || (order === "flaky" && attempt === 1)) throw new Error("no");
  });
  await events.subscribe("order", { group: "later", from: new Date(0) }, () => undefined);
  for (const order of ["key", "strict"] as const) {
    await events.subscribe("order", { group: `in order of ${order}`, from: "beginning", order }, () => undefined);
  }
  const isDone = async (): Promise<boolean> =>
    (await events.stats("order")).groups.every((one) => one.lag + one.pending + one.retrying === 0);
  await until(isDone);
  const bank = events.group("order", "bank");
  for await (const { reason } of bank.deadLetters()) expect(reason.kind).toBe("failed");
  await bank.pause();
  expect(await bank.redrive()).toBe(1);
  await bank.resume();
  await until(async () => (await bank.stats()).dead === 1 && (await isDone()));
  expect(await bank.purge()).toBe(1);
  await bank.configure({ maxAttempts: 3 });
  await bank.seek("new");
  await subscription.close();
  expect(await bank.delete()).toBe(true);

  const tasks = broker.queue("tasks");
  await tasks.publish("sweep", { priority: 3, delayMs: 5, ttlMs: 60_000 });
  await tasks.publish("expire", { ttlMs: 1, delayMs: 50 });
  await tasks.publish("sign", { target: "ada" });
  for (const as of [undefined, "ada"]) {
    const consumer = as === undefined ? {} : { as };
    await tasks.subscribe({ ...consumer, leaseMs: 300, retry: { maxAttempts: 2 } }, async (task, { attempt }) => {
      if (task === "sign") throw new Error("no");
      await pause(150);
      return attempt === 1 ? retry({ delayMs: 1 }) : undefined;
    });
  }
  await until(async () => {
    const { waiting, leased, delayed } = await tasks.stats();
    return waiting + leased + delayed === 0 && (await tasks.stats("ada")).dead === 1;
  });
  for await (const { reason } of tasks.deadLetters("ada")) expect(reason.kind).toBe("failed");
  await exerciseRecords(broker);
  await exercisePresence(broker);
  expect(await broker.health()).toMatchObject({ status: "up" });
  await broker.ping();
}

/** The part about what a queue keeps, and about recipients. */
async function exerciseRecords(broker: Broker): Promise<void> {
  const desk = broker.queue("desk", { keepAckedMs: 60_000, maxRecords: 100, index: ["source", "target"] });
  for (let index = 0; index < 260; index += 1) await desk.register(`r${index}`);
  const all = { audience: "registered", source: "desk" } as const;
  const { id } = await desk.publish("for all", { ...all, ttlMs: 60_000 });
  await desk.publish("later", { target: "r1", delayMs: 60_000, id: "given" });
  await desk.publish("bad", { target: "r1", priority: 3 });
  const subscription = await desk.subscribe({ as: "r1", retry: { maxAttempts: 1 } }, (text) => {
    if (text === "bad") throw new Error("no");
  });
  await until(async () => (await desk.stats("r1")).dead === 1 && (await desk.stats("r1")).waiting === 0);
  await subscription.close();
  expect(await desk.redrive({ recipient: "r1" })).toBe(1);
  await desk.publish("expired", { target: "r1", ttlMs: 1 });
  const first = await desk.pending("r1", { limit: 1 });
  expect(first.items).toHaveLength(1);
  await desk.pending("r1", { limit: 1, ...(first.cursor !== undefined && { cursor: first.cursor }) });
  expect(await desk.acknowledge(id, { recipient: "r2" })).toBe(true);
  await desk.explain(id);
  expect(await desk.count({ source: "desk", state: "open" })).toBe(1);
  expect((await desk.list({ filter: { source: "desk" } })).items).toHaveLength(1);
  await desk.pause("r3");
  await desk.resume("r3");
  expect(await desk.unregister("r3")).toBe(true);
  expect(await desk.delete(id)).toBe(true);
  expect(await desk.clear({ confirm: "desk" })).toBeGreaterThan(0);
}

async function exercisePresence(broker: Broker): Promise<void> {
  const lobby = broker.presence("lobby");
  const seen: string[] = [];
  const watching = (async () => {
    for await (const change of lobby.watch()) {
      if (change.kind !== "snapshot") seen.push(`${change.kind} ${change.member.id}`);
      if (seen.at(-1) === "left ada") break;
    }
  })();
  await until(() => lobby.stats().watchers === 1);
  const ada = await lobby.enter("ada", "online");
  await ada.update("away");
  await lobby.enter("stays");
  await ada.leave();
  await watching;
  // Long enough for a look at those that have died, and for a comparison.
  await pause(1_600);
  expect([await lobby.count(), await lobby.isPresent("ada")]).toEqual([1, false]);
}

/** The rule that the guide shows: `user app on >secret …`. */
function documentedRule(): string {
  const rule = readPage("docs/guides/redis.md").lines.find((line) => line.startsWith("user app "));
  return (rule ?? "").replace("user app ", "");
}

test("[X10] the ACL of docs/guides/redis.md is all that events, queues and presence need, and opens no other namespace", async () => {
  await using server = await startRedis({ users: { app: documentedRule() } });
  const url = server.url.replace("redis://", "redis://app:secret@");
  {
    await using broker = await connect(url, { namespace: "shop", logger: QUIET, streams: STREAMS });
    await exercise(broker);
    // Names the commands and keys that were refused.
    expect(await server.cli("ACL", "LOG")).toEqual([]);
  }
  // Nor is anything refused to a broker that closes.
  expect(await server.cli("ACL", "LOG")).toEqual([]);
  await using stranger = await connect(url, { namespace: "bank", logger: QUIET });
  await expect(stranger.events.publish("order", 1)).rejects.toMatchObject({ code: "AUTH" });
});

/** What the guide adds for this. */
function addedRule(about: string): string {
  const row = readPage("docs/guides/redis.md").lines.find((line) => line.startsWith("| `") && line.includes(about));
  return /`([^`]*)`/.exec(row ?? "")?.[1] ?? "";
}

test("the ACL of docs/guides/redis.md is all that pub/sub needs: for names, and with what it adds for templates and sharded channels", async () => {
  const rules = [documentedRule(), addedRule("pub/sub by pattern"), addedRule("sharded channels")];
  await using server = await startRedis({ users: { app: rules.join(" ") } });
  const url = server.url.replace("redis://", "redis://app:secret@");
  {
    await using here = await connect(url, { namespace: "shop", logger: QUIET });
    await using there = await connect(url, { namespace: "shop", logger: QUIET });
    const heard: unknown[] = [];
    const note = (data: unknown): void => void heard.push(data);
    const subscriptions = [
      await here.pubsub.subscribe(["news", "chat.{room}"], note),
      await here.pubsub.subscribe("news", { sharded: true }, note),
    ];
    await there.pubsub.publish("news", "by name");
    await there.pubsub.publish("chat.lobby", "by template");
    await there.pubsub.publish("news", "sharded", { sharded: true });
    await until(() => heard.length === 3);
    await expect(here.pubsub.subscribe("other.{x}", note)).rejects.toMatchObject({ code: "AUTH" });
    await server.cli("ACL", "LOG", "RESET");
    for (const subscription of subscriptions) await subscription.close();
    expect((await here.health()).status).toBe("up");
  }
  expect(await server.cli("ACL", "LOG")).toEqual([]);
});

test("[X10] the ACL of docs/guides/redis.md names no command that nothing sends", async () => {
  await using server = await startRedis();
  const broker = await connect(server.url, { namespace: "shop", logger: QUIET, streams: STREAMS });
  await exercise(broker);
  await broker.close();
  const info = String(await server.cli("INFO", "commandstats"));
  const sent = new Set([...info.matchAll(/^cmdstat_([^:]+):/gm)].map(([, name]) => name));
  const allowed = [...documentedRule().matchAll(/ \+(\S+)/g)].map(([, name]) => name!);
  // Only with a password, a database, a lost reply, a stream that overflows, more ids than it keeps, or once a minute.
  const rare = ["auth", "select", "get", "xtrim", "unlink", "xinfo|consumers"];
  expect(allowed.filter((name) => !sent.has(name) && !rare.includes(name))).toEqual([]);
});

test("[X10] the ACL of docs/guides/redis.md covers every command in the scripts, and its additions are rules", async () => {
  const folder = join(root, "src/backends/redis/lua");
  const scripts = readdirSync(folder, { recursive: true, encoding: "utf8" }).filter((name) => name.endsWith(".lua"));
  const called = scripts.flatMap((name) => [
    ...readFileSync(join(folder, name), "utf8").matchAll(/redis\.p?call\('(\w+)'/g),
  ]);
  const allowed = new Set(documentedRule().match(/(?<= \+)\w+/g));
  expect(called.map(([, name]) => name!.toLowerCase()).filter((name) => !allowed.has(name))).toEqual([]);

  await using server = await startRedis();
  const additions = codeRowsOf(readPage("docs/guides/redis.md"))
    .map(([cell]) => cell!)
    .filter((cell) => cell.startsWith("`+"));
  for (const addition of additions) {
    const rules = addition.replaceAll(/[`\\]/g, "").split(" ");
    expect(await server.cli("ACL", "SETUSER", "someone", ...rules)).toBe("OK");
  }
  expect(additions.length).toBeGreaterThan(2);
});

test("[X10] docs/reference/redis-layout.md names every key that events, queues and presence make", async () => {
  await using server = await startRedis();
  const documented = new Set(
    codeRowsOf(readPage("docs/reference/redis-layout.md")).map(([cell]) => cell!.replaceAll("`", "")),
  );
  const seen = new Set<string>();
  const look = async (): Promise<void> => {
    for (const key of (await server.cli("KEYS", "*")) as string[]) seen.add(shapeOf(key));
  };
  await using broker = await connect(server.url, { namespace: "shop", logger: QUIET, streams: STREAMS });
  const exercised = exercise(broker);
  const over = exercised.then(
    () => true,
    () => true,
  );
  const notYet = (): Promise<false> => new Promise((resolve) => setTimeout(resolve, 2, false));
  do await look();
  while (!(await Promise.race([over, notYet()])));
  await exercised;
  await look();
  expect([...seen].filter((shape) => !documented.has(shape))).toEqual([]);
  expect(seen.size).toBeGreaterThan(15);
});

/** `sb1:{shop:log:order:0}:g:bank:due` → `…g:<group>:due`. */
function shapeOf(key: string): string {
  const [, own = key] = /^sb1:\{shop:(?:log|queue|group|holders?):[^}]*:0\}:(.*)$/.exec(key) ?? [];
  return `…${own
    .replace(/^pub:.*$/, "pub:<id>")
    .replace(/^g:[^:]*:/, "g:<group>:")
    .replace(/^h:.*$/, "h:<holder>")
    .replace(/^r:[^:]*:/, "r:<recipient>:")
    .replace(/:taken:[^:]*:[01]$/, ":taken:<consumer>:<copy>")
    .replace(/^index:(?:acked|dead|expired)$/, "index:<outcome>")
    .replace(/^index:[^:]*:.*$/, "index:<field>:<value>")}`;
}

test("[X10] docs/reference/sqlite-schema.md names exactly the tables of the file", async () => {
  const dir = await mkdtemp(join(tmpdir(), "signalbox-docs-"));
  try {
    const path = join(dir, "messages.db");
    await (await connect(`sqlite:${path}`)).close();
    const db = (await loadDriver()).open(path, 1_000);
    const sql = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'";
    const tables = db
      .prepare<{ name: string }>(sql)
      .all()
      .map(({ name }) => name);
    db.close();
    const documented = codeRowsOf(readPage("docs/reference/sqlite-schema.md")).map(([cell]) =>
      cell!.replaceAll("`", ""),
    );
    expect(documented.toSorted()).toEqual(tables.toSorted());
  } finally {
    await rm(dir, { recursive: true, force: true });
  }
});
