/** Every call of a queue when scripts are forgotten, memory is full or all that is known of the server is gone: it works, or says why. */

import { describe, expect, test } from "vitest";
import { type Broker, connect, deadLetter, type Queue, type QueueDelivery, SignalboxError } from "../../src/index.js";
import { openRedis } from "../../src/backends/redis/index.js";
import { parseAddress } from "../../src/core/address.js";
import { systemClock } from "../../src/core/clock.js";
import { collect, silentLogger } from "../facades/support/lanes.js";
import { type RedisServer, startRedis } from "../support/redis-servers.js";
import { until } from "../support/wait.js";
import { startMasters, startStandalone, type System } from "./support/systems.js";

const SETTINGS = { keepAckedMs: 60_000, index: ["source", "target"] } as const;

interface Opened {
  readonly broker: Broker;
  readonly queue: Queue<unknown>;
  /** To be settled. */
  readonly deliveries: QueueDelivery[];
  readonly reports: Error[];
}

/** A queue with an audience, and with messages in all states; "one" is held for ada, and "two" for bob. */
async function open(url: string): Promise<Opened> {
  const reports: Error[] = [];
  const broker = await connect(url, { logger: silentLogger, onError: (error) => void reports.push(error) });
  const queue: Queue<unknown> = broker.queue("calls", SETTINGS);
  const deliveries: QueueDelivery[] = [];
  await queue.subscribe({ as: "parker" }, () => deadLetter("for the test"));
  await queue.publishMany(["x", "y", "z"], { target: "parker", id: (data) => String(data) });
  for (const name of ["ada", "bob"]) await queue.register(name);
  await queue.publish("one", { id: "one", target: "ada" });
  await queue.publish("two", { id: "two", target: "bob" });
  for (const as of ["ada", "bob"]) {
    const stream = queue.deliveries({ as });
    const next = await stream.next();
    if (next.done === true) expect.fail("there is something to take");
    deliveries.push(next.value);
  }
  await queue.publishMany(["a", "b", "c", "d"], { source: "s", target: "cyd", id: (data) => String(data) });
  await until(async () => (await queue.stats("parker")).dead === 3, { what: "dead letters" });
  // What is redriven stays where it is.
  await queue.pause("parker");
  return { broker, queue, deliveries, reports };
}

/** What each call comes to. They are made in this order. */
const CALLS: Readonly<Record<string, (opened: Opened) => Promise<unknown>>> = {
  publish: ({ queue }) =>
    queue.publish(1, { priority: 3, ttlMs: 60_000, target: "dan" }).then(({ recipients }) => recipients),
  "publish once more": ({ queue }) => queue.publish("a", { id: "a" }).then(({ duplicate }) => duplicate),
  "publish for all": ({ queue }) => queue.publish(2, { audience: "registered" }).then(({ recipients }) => recipients),
  get: async ({ queue }) => (await queue.get("a"))?.data,
  pending: async ({ queue }) => (await queue.pending("cyd")).items.map(({ data }) => data),
  list: async ({ queue }) => (await queue.list({ filter: { source: "s" } })).items.length,
  count: ({ queue }) => queue.count({ target: "cyd" }),
  stats: async ({ queue }) => (await queue.stats("cyd")).waiting,
  explain: async ({ queue }) => (await queue.explain("b", { recipient: "ada" })).matchesRecipient,
  recipients: async ({ queue }) => (await collect(queue.recipients())).map(({ recipient }) => recipient),
  register: ({ queue }) => queue.register("eve"),
  unregister: ({ queue }) => queue.unregister("eve"),
  pause: ({ queue }) => queue.pause("cyd"),
  resume: ({ queue }) => queue.resume("cyd"),
  acknowledge: ({ queue }) => queue.acknowledge("a", { recipient: "cyd" }),
  "acknowledge several": ({ queue }) => queue.acknowledgeMany(["b", "none"], { recipient: "cyd" }),
  extend: ({ deliveries: [one] }) => Promise.resolve(one?.extend()),
  ack: ({ deliveries: [one] }) => Promise.resolve(one?.ack()),
  retry: ({ deliveries: [, two] }) => Promise.resolve(two?.retry({ delayMs: 60_000 })),
  delete: ({ queue }) => queue.delete("c"),
  letters: async ({ queue }) => (await collect(queue.deadLetters("parker"))).map(({ message }) => message?.data),
  redrive: ({ queue }) => queue.redrive({ recipient: "parker", max: 1 }),
  purge: ({ queue }) => queue.purge({ recipient: "parker" }),
  clear: async ({ queue }) => (await queue.clear({ confirm: "calls" })) > 5,
};

const OUTCOMES: Readonly<Record<keyof typeof CALLS, unknown>> = {
  publish: 1,
  "publish once more": true,
  "publish for all": 3,
  get: "a",
  pending: ["a", "b", "c", "d"],
  list: 4,
  count: 4,
  stats: 4,
  explain: false,
  recipients: ["parker", "ada", "bob"],
  register: undefined,
  unregister: true,
  pause: undefined,
  resume: undefined,
  acknowledge: true,
  "acknowledge several": [true, false],
  extend: undefined,
  ack: undefined,
  retry: undefined,
  delete: true,
  letters: ["x", "y", "z"],
  redrive: 1,
  purge: 2,
  clear: true,
};

/** Those that store something new, or put something back that takes room. */
const GROWING: readonly string[] = ["publish", "publish for all", "register", "redrive"];

const SYSTEMS: Readonly<Record<string, () => Promise<System>>> = {
  "a single Redis": () => startStandalone(),
  "a Cluster": () => startMasters({ replicas: 0 }),
};

describe.concurrent("calls of a queue", { timeout: 60_000 }, () => {
  for (const [where, start] of Object.entries(SYSTEMS)) {
    test(`fault 23: on ${where} each goes through when the scripts were forgotten just before`, async () => {
      const { url, nodes, stop } = await start();
      const opened = await open(url);
      try {
        const outcomes: Record<string, unknown> = {};
        for (const [name, call] of Object.entries(CALLS)) {
          await Promise.all(nodes.map((node) => node.cli("SCRIPT", "FLUSH", "SYNC")));
          outcomes[name] = await call(opened);
        }
        expect(outcomes).toEqual(OUTCOMES);
        expect(opened.reports).toEqual([]);
      } finally {
        await opened.broker.close({ drainMs: 0 });
        await stop();
      }
    });
  }

  test("fault 19: when memory is full what would grow is refused by name, and everything else goes through", async () => {
    const server = await startRedis();
    const opened = await open(server.url);
    try {
      await server.cli("CONFIG", "SET", "maxmemory", "1mb");
      const outcomes: Record<string, unknown> = {};
      for (const [name, call] of Object.entries(CALLS)) {
        outcomes[name] = await call(opened).catch((error: unknown) =>
          error instanceof SignalboxError ? error.code : error,
        );
      }
      const refused = Object.keys(outcomes).filter((name) => outcomes[name] === "OUT_OF_MEMORY");
      expect(refused.filter((name) => !GROWING.includes(name))).toEqual(["publish once more"]);
      expect(refused).toEqual(expect.arrayContaining(["publish", "publish for all"]));
      for (const name of Object.keys(CALLS)) {
        // What was refused before has consequences for these.
        if (refused.includes(name) || ["unregister", "purge"].includes(name)) continue;
        expect([name, outcomes[name]]).toEqual([name, OUTCOMES[name]]);
      }
      await server.cli("CONFIG", "SET", "maxmemory", "0");
      expect(await opened.queue.publish("again")).toMatchObject({ recipients: 1 });
    } finally {
      await opened.broker.close({ drainMs: 0 });
      await server.stop();
    }
  });

  test("fault 19: a request that is under way when memory runs out is answered, and its dead letter told", async () => {
    const server = await startRedis();
    const broker = await connect(server.url, { logger: silentLogger });
    const asking = await connect(server.url, { logger: silentLogger });
    try {
      let release: (() => void) | undefined;
      const gate = new Promise<void>((resolve) => (release = resolve));
      let began = 0;
      await broker.queue("asked").subscribe({ concurrency: 3 }, async (data, ctx) => {
        began += 1;
        await gate;
        if (data === "wrong") return deadLetter("it makes no sense");
        return ctx.reply(`${String(data)}: done`);
      });
      const answer = asking.queue("asked").request("review");
      const refusal = asking
        .queue("asked")
        .request("wrong")
        .catch((error: unknown) => error);
      await until(() => began === 2, { what: "both to be under way" });
      await server.cli("CONFIG", "SET", "maxmemory", "1mb");
      release?.();
      expect(await answer).toBe("review: done");
      expect(await refusal).toMatchObject({ message: expect.stringContaining("it makes no sense") });
      await until(async () => (await broker.queue("asked").stats()).leased === 0);
      expect(await broker.queue("asked").stats()).toMatchObject({ waiting: 0, dead: 1 });
    } finally {
      await Promise.all([broker.close({ drainMs: 0 }), asking.close({ drainMs: 0 })]);
      await server.stop();
    }
  });

  test("bad input 35: two consumers with one name take nothing from each other, also when replies are lost", async () => {
    const server = await startRedis();
    const [one, other] = await Promise.all([openQueue(server), openQueue(server)]);
    try {
      const consumer = { consumer: "same", leaseMs: 5_000, maxAttempts: 3, maxDeadLetters: 10 };
      const numbers = Array.from({ length: 100 }, (_, number) => `${number}`);
      const item = { recipient: "", header: "h", data: "d", priority: 0, delayMs: 0 };
      await one.queue.push(
        "named",
        numbers.map((id) => ({ ...item, id })),
        { maxItems: 1_000 },
      );
      const feeds = await Promise.all([one, other].map(({ queue }) => queue.open("named", "", consumer)));
      const taken: string[] = [];
      while (taken.length < numbers.length) {
        for (const feed of feeds) {
          // In the midst of it the connections go: what was taken comes with the next call, to whoever took it.
          if (taken.length % 20 === 0) await server.cli("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes");
          const { deliveries } = await feed.take({ max: 5, waitMs: 0 }, []).catch(() => ({ deliveries: [] }));
          taken.push(...deliveries.map(({ position }) => position));
          const outcomes = deliveries.map(({ receipt }) => ({ receipt, as: "ack" }) as const);
          await until(() => feed.take({ max: 0, waitMs: 0 }, outcomes), { what: "it to be settled" });
        }
      }
      expect(taken.toSorted()).toEqual(numbers.toSorted());
      expect(await one.queue.stats("named", "")).toMatchObject({ waiting: 0, leased: 0, delayed: 0, dead: 0 });
      await Promise.all(feeds.map((feed) => feed.close()));
    } finally {
      await Promise.all([one.close(), other.close()]);
      await server.stop();
    }
  });
});

function openQueue({ url }: RedisServer) {
  const address = parseAddress(url);
  if (address.kind === "memory" || address.kind === "sqlite") throw new Error("this is for Redis alone");
  const context = { namespace: "default", clock: systemClock, report: () => undefined };
  return openRedis(address, { durability: "memory", replicas: 1 }, context);
}
