/** Promises about queues on a real Redis: its connections, its errors, its settings, and what the log says of it. */

import { readFile } from "node:fs/promises";
import { expect, test } from "vitest";
import { parseAddress } from "../../src/core/address.js";
import { type Broker, connect, type ConnectOptions, deadLetter } from "../../src/index.js";
import { onEveryBackend, recordingLogger, silentLogger } from "../facades/support/lanes.js";
import { freePort } from "../support/process.js";
import { asArray } from "../support/redis-cli.js";
import { type RedisServer, startCluster, startRedis } from "../support/redis-servers.js";
import { pause, until } from "../support/wait.js";

type ServerOptions = Parameters<typeof startRedis>[0];
type Open = (options?: ConnectOptions) => Promise<Broker>;

async function withServer(
  options: ServerOptions,
  use: (server: RedisServer, open: Open) => Promise<void>,
): Promise<void> {
  const server = await startRedis(options);
  const brokers: Broker[] = [];
  const open: Open = async (more) => {
    const broker = await connect(server.url, { logger: silentLogger, onError: () => undefined, ...more });
    brokers.push(broker);
    return broker;
  };
  try {
    await use(server, open);
  } finally {
    await Promise.all(brokers.map((broker) => broker.close({ drainMs: 0 })));
    await server.stop();
  }
}

/** The broker's connections, as the server lists them. */
async function clientsOf(server: RedisServer): Promise<Record<string, string>[]> {
  const lines = String(await server.cli("CLIENT", "LIST"))
    .trim()
    .split("\n");
  const clients = lines.map((line) => Object.fromEntries(line.split(" ").map((field) => field.split("=", 2))));
  return clients.filter(({ name }) => name === "signalbox");
}

/** What the system waits for on each established socket to the server: 02 is keep-alive, where nothing is under way. */
async function timersTo({ port }: RedisServer): Promise<string[]> {
  const lines = (await readFile("/proc/self/net/tcp", "utf8")).split("\n").map((line) => line.trim().split(/\s+/));
  const remotePort = `:${port.toString(16).toUpperCase().padStart(4, "0")}`;
  return lines.flatMap(([, , remote, state, , timer]) =>
    remote?.endsWith(remotePort) && state === "01" ? [timer?.slice(0, 2) ?? ""] : [],
  );
}

async function areAlive(server: RedisServer): Promise<boolean> {
  return (await timersTo(server)).every((timer) => timer === "02");
}

const idsOf = (values: readonly number[]): number[] => values.toSorted((a, b) => a - b);

test("[C3] [C36] eighty waiting consumers share fifty connections, and each hears of its message at once or within a second", async () => {
  await withServer({}, async (server, open) => {
    const broker = await open();
    const got: number[] = [];
    for (let index = 0; index < 80; index += 1)
      await broker.queue(`queue-${index}`).subscribe({ as: "ada" }, () => void got.push(index));
    await until(async () => (await clientsOf(server)).length > 50);
    // Fifty that block, one for commands, one for publishing, and one that would listen.
    expect((await clientsOf(server)).length).toBeLessThanOrEqual(53);
    await pause(100);
    const publishedAt = performance.now();
    for (let index = 0; index < 80; index += 1) await broker.queue(`queue-${index}`).publish("x", { target: "ada" });
    await until(() => got.length === 80);
    expect(performance.now() - publishedAt).toBeLessThan(3_000);
    expect(idsOf(got)).toEqual(Array.from({ length: 80 }, (_, index) => index));
    expect((await clientsOf(server)).length).toBeLessThanOrEqual(53);
  });
});

test("[C36] keep-alive is on, an idle connection is asked for a sign of life long before thirty seconds have passed", async () => {
  await withServer({}, async (server, open) => {
    const broker = await open();
    // Both kinds: what is shared, and what a consumer that has its hands full leaves alone.
    const held: (() => void)[] = [];
    await broker.queue("busy").subscribe({ concurrency: 1 }, () => new Promise<void>((resolve) => held.push(resolve)));
    await broker.queue("busy").publish(1);
    await until(() => held.length === 1);
    await pause(6_000);
    const clients = await clientsOf(server);
    expect(clients.length).toBeGreaterThan(1);
    expect(Math.max(...clients.map(({ idle }) => Number(idle)))).toBeLessThanOrEqual(4);
    if (process.platform === "linux")
      await until(async () => (await timersTo(server)).length >= clients.length && (await areAlive(server)));
    for (const release of held) release();
  });
}, 20_000);

test("[C36] a command that is not answered is given up after five seconds, and says whether it may have been done", async () => {
  await withServer({}, async (server, open) => {
    const broker = await open();
    await broker.queue("tasks").publish(1);
    server.pause();
    const startedAt = performance.now();
    await expect(broker.queue("tasks").stats()).rejects.toMatchObject({ code: "CONNECTION", retryable: true });
    server.resume();
    const tookMs = performance.now() - startedAt;
    expect(tookMs).toBeGreaterThan(3_000);
    expect(tookMs).toBeLessThan(8_000);
  });
}, 20_000);

test("[C4] a single server or a cluster is what the URL's scheme says, whatever the host is called", () => {
  for (const [url, kind] of [
    ["redis://my-cluster.example:6379/0", "standalone"],
    ["rediss://cluster:secret@redis-cluster.example", "standalone"],
    ["redis-cluster://single.example:6379", "cluster"],
    ["redis-sentinel://cluster-1:26379/main", "sentinel"],
  ] as const)
    expect(parseAddress(url)).toMatchObject({ kind });
});

test("[C13] [C16] [C41] a cluster is opened by some of its nodes, says so in the log, and keeps all of a queue in one slot", async () => {
  await using cluster = await startCluster({ replicas: 0 });
  const nodes = cluster.nodes.map(({ port }) => `127.0.0.1:${port}`);
  const { logger, entries } = recordingLogger();
  const broker = await connect(`redis-cluster://${nodes.join(",")}`, { logger, onError: () => undefined });
  try {
    for (const name of ["one", "two", "three"]) {
      const queue = broker.queue(name, { keepAckedMs: 60_000, index: ["source", "target"] });
      await queue.register("bob");
      const { id } = await queue.publish("x", { target: "ada", ttlMs: 60_000, id: `own-${name}` });
      await queue.publish("y", { audience: "registered", delayMs: 60_000 });
      await queue.publish("z", { target: "eve" });
      for await (const delivery of queue.deliveries({ as: "eve" })) {
        await delivery.deadLetter("no");
        break;
      }
      expect((await queue.pending("ada")).items).toMatchObject([{ id }]);
      expect(await queue.acknowledge(id, { recipient: "ada" })).toBe(true);
      expect(await queue.count({ target: "ada", acknowledged: true })).toBe(1);
    }
    const keys: string[] = [];
    for (const node of cluster.nodes) keys.push(...asArray(await node.cli("KEYS", "*")).map(String));
    const tags = keys.map((key) => /\{([^}]*)\}/.exec(key)?.[1] ?? `none in ${key}`);
    // One for each queue: whatever belongs to it lives there.
    expect(new Set(tags).size).toBe(3);
    expect(keys.length).toBeGreaterThan(12);
  } finally {
    await broker.close({ drainMs: 0 });
  }
  const said = entries.map(({ fields }) => [fields["event"], fields["is_cluster"]]);
  for (const event of [
    "initializing_redis_cluster",
    "redis_initialized",
    "closing_redis_connection",
    "redis_connection_closed",
  ])
    expect(said).toContainEqual([event, true]);
}, 60_000);

test("[C41] [C43] a single server's connection is told from its beginning to its end, without the password", async () => {
  await withServer({ password: "canary-7c31" }, async (server, open) => {
    const { logger, entries } = recordingLogger();
    const broker = await open({ logger });
    await broker.close();
    const url = `redis://***@127.0.0.1:${server.port}`;
    const about = entries.filter(({ fields }) => String(fields["event"]).includes("redis"));
    expect(about.map(({ level, fields: { event, is_cluster } }) => [level, event, is_cluster])).toEqual([
      ["info", "initializing_redis_single", false],
      ["info", "redis_initialized", false],
      ["info", "closing_redis_connection", false],
      ["info", "redis_connection_closed", false],
    ]);
    expect(about[0]?.fields["url"]).toContain(`127.0.0.1:${server.port}`);
    expect(JSON.stringify(entries), url).not.toContain("canary");
    const failed = recordingLogger();
    const wrong = server.url.replace("canary-7c31", "canary-wrong");
    await expect(connect(wrong, { logger: failed.logger })).rejects.toMatchObject({ code: "AUTH" });
    const { level, fields } = failed.entries.at(-1)!;
    expect([level, fields["event"]]).toEqual(["info", "redis_initialization_failed"]);
    expect(fields["err"]).toMatchObject({ code: "AUTH" });
    expect(JSON.stringify(failed.entries)).not.toContain("canary");
  });
});

test("[C42] a store that fails is told under the name of what was asked of it", async () => {
  await withServer({}, async (server, open) => {
    const { logger, entries } = recordingLogger();
    const quick = { commandTimeoutMs: 200, publishTimeoutMs: 200, connectTimeoutMs: 500 };
    const broker = await open({ logger, ...quick });
    const tasks = broker.queue("tasks", { index: [] });
    const { id } = await tasks.publish(1);
    await server.kill();
    const told = async (use: () => Promise<unknown>): Promise<unknown> => {
      const before = entries.length;
      await expect(use(), use.toString()).rejects.toMatchObject({ retryable: true });
      const failure = entries
        .slice(before)
        .find(({ fields }) => /^(?!consumer).*_failed$/.test(String(fields["event"])));
      expect(failure?.fields).toMatchObject({ channel: "tasks", err: { retryable: true } });
      return failure?.fields["event"];
    };
    expect(await told(() => tasks.publish(2))).toBe("message_publish_failed");
    expect(await told(() => tasks.acknowledge(id))).toBe("message_acknowledge_failed");
    expect(await told(() => tasks.pending())).toBe("get_pending_failed");
    expect(await told(() => tasks.get(id))).toBe("get_message_failed");
    expect(await told(() => tasks.list())).toBe("list_messages_failed");
    expect(await told(() => tasks.count())).toBe("list_messages_failed");
    expect(await told(() => tasks.delete(id))).toBe("delete_message_failed");
    expect(await told(() => tasks.redrive())).toBe("put_message_failed");
    expect(await told(() => tasks.clear({ confirm: "tasks" }))).toBe("clear_messages_failed");
  });
}, 30_000);

test("[C40] no connection, a wrong password, a full memory and a deadline are different errors, and say whether to try again", async () => {
  const port = await freePort();
  await expect(connect(`redis://127.0.0.1:${port}`, { logger: silentLogger })).rejects.toMatchObject({
    code: "CONNECTION",
    retryable: true,
  });
  await withServer({ password: "right" }, async (server) => {
    const wrong = server.url.replace("right", "wrong");
    await expect(connect(wrong, { logger: silentLogger })).rejects.toMatchObject({ code: "AUTH", retryable: false });
  });
  await withServer({ maxmemory: "3mb", maxmemoryPolicy: "noeviction" }, async (_server, open) => {
    const broker = await open();
    const tasks = broker.queue("tasks");
    const data = "x".repeat(10_000);
    const publishUntilFull = async (): Promise<unknown> => {
      for (let tries = 0; tries < 1_000; tries += 1) {
        try {
          await tasks.publish(data);
        } catch (error) {
          return error;
        }
      }
      return undefined;
    };
    const failure = await publishUntilFull();
    expect(failure).toMatchObject({ code: "OUT_OF_MEMORY", retryable: true });
    // Working it off goes on, and makes room.
    let handled = 0;
    const sub = await tasks.subscribe({}, (task) => {
      handled += 1;
      return task === "" ? deadLetter("empty") : undefined;
    });
    await until(() => handled > 20);
    await until(async () => {
      await tasks.publish("again");
      return true;
    });
    await sub.close();
    await expect(tasks.request("x", { target: "nobody", timeoutMs: 20 })).rejects.toMatchObject({
      code: "TIMEOUT",
      retryable: true,
    });
  });
}, 30_000);

test("[C50] a server that may evict messages is refused at the start, unless that is wanted", async () => {
  for (const maxmemoryPolicy of ["allkeys-lru", "allkeys-random"]) {
    await withServer({ maxmemory: "100mb", maxmemoryPolicy }, async (_server, open) => {
      await expect(open()).rejects.toMatchObject({ code: "CONFIG", message: expect.stringContaining("noeviction") });
      const broker = await open({ allowEviction: "yes, lose messages" });
      expect(await broker.queue("tasks").count()).toBe(0);
    });
  }
});

test("what a queue keeps is restored after its server was emptied, without a new start", async () => {
  await withServer({}, async (server, open) => {
    const broker = await open();
    const tasks = broker.queue("tasks", { keepAckedMs: 3_600_000, index: ["source"] });
    await tasks.publish("lost", { source: "a" });
    await server.cli("FLUSHALL");
    expect((await tasks.list({ filter: { source: "a" } })).items).toEqual([]);
    const { id } = await tasks.publish("kept", { source: "a" });
    expect(await tasks.acknowledge(id)).toBe(true);
    expect(await tasks.count({ source: "a", acknowledged: true })).toBe(1);
    // Also where nobody asks for a list: publishing is enough.
    await server.cli("FLUSHALL");
    const ids: string[] = [];
    await until(
      async () => {
        ids.push((await tasks.publish("again", { source: "a" })).id);
        await tasks.acknowledge(ids.at(-1)!);
        return (await tasks.get(ids.at(-1)!))?.acknowledged;
      },
      { deadlineMs: 10_000, everyMs: 200 },
    );
  });
}, 20_000);

onEveryBackend("a queue's layout", (lane) => {
  test("[C10] [C11] [C12] [C13] holds a queue's messages apart, wakes who waits, keeps an inbox for each recipient and a record for each message", async () => {
    const [one, two] = [await lane.open(), await lane.open()];
    const [tasks, results] = [one.queue(lane.unique("tasks")), one.queue(lane.unique("results"))];
    // By queue.
    await results.publish("another queue's", { target: "ada" });
    // By recipient, the most urgent first.
    await tasks.publish("normal", { target: "ada" });
    await tasks.publish("urgent", { target: "ada", priority: 9 });
    await tasks.publish("Bob's", { target: "bob" });
    expect((await tasks.pending("ada")).items.map(({ data }) => data)).toEqual(["urgent", "normal"]);
    expect((await tasks.pending("bob")).items.map(({ data }) => data)).toEqual(["Bob's"]);
    // By message.
    const { id } = await tasks.publish("one of its own", { source: "s" });
    expect(await tasks.get(id)).toMatchObject({ id, data: "one of its own", message: { source: "s" } });
    expect(await results.get(id)).toBeUndefined();
    // News of it: who waits in another process is woken, well before it would look by itself.
    const arrivals: number[] = [];
    await two.queue(tasks.name).subscribe({ as: "eve", concurrency: 1 }, () => void arrivals.push(performance.now()));
    const latencies: number[] = [];
    for (let times = 1; times <= 9; times += 1) {
      await pause(30);
      const publishedAt = performance.now();
      await tasks.publish("wake up", { target: "eve" });
      await until(() => arrivals.length === times, { everyMs: 1 });
      latencies.push(arrivals.at(-1)! - publishedAt);
    }
    expect(latencies.toSorted((a, b) => a - b)[4]).toBeLessThan(300);
  });
});

onEveryBackend("good practice", (lane) => {
  test("[C51] is the default, or one option away, or refused otherwise: each of the eight", async () => {
    const failures: unknown[] = [];
    const broker = await lane.open({ onError: (error) => void failures.push(error) });
    // 1. Always a time to live: said once for the queue.
    const tasks = broker.queue(lane.unique("tasks"), { ttlMs: 86_400_000 });
    const { id } = await tasks.publish("x");
    const item = (await tasks.get(id))!;
    expect(item.expiresAt! - item.createdAt).toBe(86_400_000);
    // 2. Acknowledge promptly: a handler that returns has acknowledged.
    const sub = await tasks.subscribe({}, () => undefined);
    await until(() => sub.stats()[0]?.settled === 1);
    await sub.close();
    expect(await tasks.count()).toBe(0);
    // 3. Meaningful names: what is none is refused, and a contract knows them all.
    for (const name of ["", " tasks", "tasks*", "ta\nsks"])
      expect(() => broker.queue(name)).toThrow(expect.objectContaining({ code: "INVALID_ARGUMENT" }));
    // 4. Monitor: counts, metrics and health without a further tool.
    expect(await tasks.stats()).toMatchObject({ waiting: 0, leased: 0, dead: 0 });
    expect(broker.metrics().map(({ name }) => name)).toContain("messaging.client.sent.messages");
    expect((await broker.health()).status).toBe("up");
    // 5. A bound: there always is one.
    expect(() => broker.queue("tasks", { maxItems: Number.POSITIVE_INFINITY })).toThrow(/maxItems/);
    // 6. High availability: a scheme of the URL, and nothing else in the program.
    expect(parseAddress("redis-cluster://n1:6379,n2:6379").kind).toBe("cluster");
    expect(parseAddress("redis-sentinel://s1:26379/main").kind).toBe("sentinel");
    // 7. Retry what fails for a while: three attempts with backoff, then a dead letter.
    const attempts: number[] = [];
    await tasks.publish("fails");
    await tasks.subscribe({ retry: { initialMs: 1 } }, (_, { attempt }) => {
      attempts.push(attempt);
      throw new Error("no");
    });
    await until(async () => (await tasks.stats()).dead === 1);
    expect(attempts).toEqual([1, 2, 3]);
    // 8. Clean up after tests: a namespace of one's own, and a clear that wants the queue's name.
    await expect(tasks.clear({} as never)).rejects.toMatchObject({ code: "INVALID_ARGUMENT" });
    await tasks.clear({ confirm: tasks.name });
    expect(await tasks.stats()).toMatchObject({ dead: 0 });
    expect(failures).toEqual([]);
  });
});
