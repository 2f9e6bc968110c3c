/** Consuming a queue when something goes wrong: replies are lost, memory is full, others meddle. */

import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Feed, QueueConsumer, QueueStats } from "../../../src/core/backend.js";
import { type RedisServer, startRedis } from "../../support/redis-servers.js";
import { pause, until } from "../../support/wait.js";
import {
  acks,
  CONSUMER,
  collect,
  isScriptWith,
  item,
  LIMITS,
  losing,
  openPorts,
  type Ports,
  textsOf,
  untilBlocked,
} from "./log-queue-support.js";

let server: RedisServer;
beforeAll(async () => {
  server = await startRedis();
});
afterAll(() => server.stop());

let queues = 0;

async function start(ports: Ports, ids: readonly string[]) {
  const name = `queue-${(queues += 1)}`;
  if (ids.length > 0)
    await ports.queue.push(
      name,
      ids.map((id) => item(id)),
      LIMITS,
    );
  return {
    name,
    key: (part: string) => `sb1:{test:queue:${name}:0}:${part}`,
    open: (consumer: string, more: Partial<QueueConsumer> = {}) =>
      ports.queue.open(name, "", { ...CONSUMER, ...more, consumer }),
    stats: () => ports.queue.stats(name, ""),
  };
}

const isTake = isScriptWith("taker");

/** A feed whose script the server knows, so that losing a reply is losing its reply; then the items. */
async function startKnown(ports: Ports, ids: readonly string[]) {
  const { name, open, stats } = await start(ports, []);
  const feed = await open("taker");
  await feed.take({ max: 1, waitMs: 0 }, []);
  await ports.queue.push(
    name,
    ids.map((id) => item(id)),
    LIMITS,
  );
  return { feed, open, stats };
}

const NONE: QueueStats = {
  waiting: 0,
  leased: 0,
  delayed: 0,
  dead: 0,
  expired: 0,
  dropped: 0,
  paused: false,
  oldestWaitingAt: undefined,
};

describe("lost replies", () => {
  test.each(["unsent", "unanswered"] as const)("a take that is %s takes nothing from anybody", async (fate) => {
    const ports = await openPorts(server);
    const { open, stats } = await start(ports, ["a", "b", "c"]);
    const feed = await open("taker");
    ports.judge(losing(isTake, fate));
    await expect(feed.take({ max: 2, waitMs: 0 }, [])).rejects.toMatchObject({ code: "CONNECTION" });
    // The next call brings what the lost one had, at once and as a first attempt, and never more than is asked for.
    const one = await feed.take({ max: 1, waitMs: 0 }, []);
    expect(textsOf(one)).toEqual(["a"]);
    const two = await feed.take({ max: 2, waitMs: 0 }, acks(one));
    expect(textsOf(two)).toEqual(["b", "c"]);
    expect((await feed.take({ max: 0, waitMs: 0 }, acks(two))).lost).toEqual([]);
    expect(await stats()).toEqual(NONE);
  });

  test("a take that is lost several times over is made up for in the end", async () => {
    const ports = await openPorts(server);
    const { open } = await start(ports, ["a", "b", "c", "d"]);
    const feed = await open("taker");
    let left = 3;
    ports.judge((args) => {
      if (!isTake(args) || left === 0) return "well";
      left -= 1;
      return left === 1 ? "unsent" : "unanswered";
    });
    for (let round = 0; round < 3; round += 1) {
      await expect(feed.take({ max: 2, waitMs: 0 }, [])).rejects.toMatchObject({ code: "CONNECTION" });
    }
    expect(textsOf(await collect(feed, 4)).toSorted()).toEqual(["a", "b", "c", "d"]);
  });

  test.each([
    ["both", [true, true]],
    ["the first", [true, false]],
    ["the second", [false, true]],
  ] as const)(
    "of two takes under way at once, %s lost: each is made up for, and nothing comes twice",
    async (_, fates) => {
      const ports = await openPorts(server);
      const { feed, stats } = await startKnown(ports, ["a", "b", "c", "d", "e"]);
      let takes = 0;
      ports.judge((args) => {
        if (!isTake(args)) return "well";
        takes += 1;
        return fates[takes - 1] === true ? "unanswered" : "well";
      });
      const both = await Promise.allSettled([1, 2].map(() => feed.take({ max: 2, waitMs: 0 }, [])));
      expect(both.map(({ status }) => status === "rejected")).toEqual(fates);
      const heard = both.flatMap((taking) => (taking.status === "fulfilled" ? textsOf(taking.value) : []));
      // Both again at once, and once more: whichever asks for what was lost, the other brings what is new.
      const again = await Promise.all([1, 2].map(() => feed.take({ max: 2, waitMs: 0 }, [])));
      const last = await feed.take({ max: 2, waitMs: 0 }, []);
      const texts = [...heard, ...[...again, last].flatMap(textsOf)];
      expect(texts.toSorted()).toEqual(["a", "b", "c", "d", "e"]);
      await feed.close();
      expect(await stats()).toMatchObject({ waiting: 5, leased: 0 });
    },
  );

  test("what one of two takes has lost comes with the next that looks, also where nothing else is left", async () => {
    const ports = await openPorts(server);
    const { feed } = await startKnown(ports, ["a"]);
    let takes = 0;
    /** How long it was ready to wait for the bell, in seconds. */
    const waits: number[] = [];
    ports.judge((args) => {
      if (args[0] === "BZPOPMIN") waits.push(Number(args[2]));
      if (!isTake(args)) return "well";
      takes += 1;
      return takes === 1 ? "unsent" : takes === 2 ? "unanswered" : "well";
    });
    const both = await Promise.allSettled([1, 2].map(() => feed.take({ max: 2, waitMs: 0 }, [])));
    expect(both.map(({ status }) => status)).toEqual(["rejected", "rejected"]);
    expect(textsOf(await feed.take({ max: 2, waitMs: 10_000 }, []))).toEqual(["a"]);
    // It looks again long before the second in which it does so in any case.
    expect(Math.max(0, ...waits)).toBeLessThan(0.1);
  });

  test("closing gives back what two takes brought without a reply", async () => {
    const ports = await openPorts(server);
    const { feed, open } = await startKnown(ports, ["a", "b", "c", "d"]);
    ports.judge((args) => (isTake(args) ? "unanswered" : "well"));
    const both = await Promise.allSettled([1, 2].map(() => feed.take({ max: 2, waitMs: 0 }, [])));
    expect(both.map(({ status }) => status)).toEqual(["rejected", "rejected"]);
    ports.judge(() => "well");
    await feed.close();
    expect(textsOf(await collect(await open("other"), 4)).toSorted()).toEqual(["a", "b", "c", "d"]);
  });

  test("what was lost and has passed to somebody else is not taken again", async () => {
    const ports = await openPorts(server);
    const { open } = await start(ports, ["a"]);
    const feed = await open("taker", { leaseMs: 300 });
    ports.judge(losing(isTake, "unanswered"));
    await expect(feed.take({ max: 1, waitMs: 0 }, [])).rejects.toMatchObject({ code: "CONNECTION" });
    await pause(350);
    const taken = await collect(await open("other"), 1);
    expect(textsOf(taken)).toEqual(["a#2"]);
    expect(textsOf(await feed.take({ max: 1, waitMs: 0 }, []))).toEqual([]);
  });

  test("a settlement whose reply was lost is settled, and says so when it is given again", async () => {
    const ports = await openPorts(server);
    const { open, stats } = await start(ports, ["a", "b", "c"]);
    const feed = await open("taker");
    const [a, b, c] = (await collect(feed, 3)).deliveries.map(({ receipt }) => receipt);
    if (a === undefined || b === undefined || c === undefined) throw new Error("there are three");
    const outcomes = [
      { receipt: a, as: "ack" },
      { receipt: b, as: "retry", delayMs: 60_000, counted: true },
      { receipt: c, as: "deadLetter", reason: { kind: "rejected", message: "no" } },
    ] as const;
    ports.judge(losing(isTake, "unanswered"));
    await expect(feed.take({ max: 0, waitMs: 0 }, outcomes)).rejects.toMatchObject({ code: "CONNECTION" });
    expect((await feed.take({ max: 0, waitMs: 0 }, outcomes)).lost.toSorted()).toEqual([a, b, c].toSorted());
    expect(await stats()).toEqual({ ...NONE, delayed: 1, dead: 1 });
  });

  test("an acknowledgement that comes late does not touch a new item of the same id", async () => {
    const ports = await openPorts(server);
    const { name, open } = await start(ports, ["a"]);
    const late = await open("late", { leaseMs: 300 });
    const held = await collect(late, 1);
    await pause(350);
    const feed = await open("taker");
    await feed.take({ max: 0, waitMs: 0 }, acks(await collect(feed, 1)));
    await ports.queue.push(name, [item("a", { data: "anew" })], LIMITS);
    expect((await late.take({ max: 0, waitMs: 0 }, acks(held))).lost).toHaveLength(1);
    expect(textsOf(await collect(feed, 1))).toEqual(["anew"]);
  });

  test("closing gives back also what was taken without a reply", async () => {
    const ports = await openPorts(server);
    const { open } = await start(ports, ["a", "b"]);
    const feed = await open("taker");
    ports.judge(losing(isTake, "unanswered"));
    await expect(feed.take({ max: 5, waitMs: 0 }, [])).rejects.toMatchObject({ code: "CONNECTION" });
    await feed.close();
    expect(textsOf(await collect(await open("other"), 2))).toEqual(["a", "b"]);
  });

  test("connections that are killed under load: everything is delivered, and nothing in hand is delivered again", async () => {
    const ports = await openPorts(server);
    const count = 1_500;
    const { open, stats } = await start(
      ports,
      Array.from({ length: count }, (_, index) => `${index}`),
    );
    const over = new AbortController();
    const killing = (async () => {
      while (!over.signal.aborted) {
        await pause(20 + Math.random() * 30);
        await server.cli("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes");
      }
    })();
    const delivered = new Set<string>();
    const acknowledged = new Set<string>();
    /** Two takes under way at once, as the consumer loop has them. */
    const consume = async (consumer: string): Promise<void> => {
      const feed = await open(consumer);
      await Promise.all([takeFrom(feed), takeFrom(feed)]);
    };
    const takeFrom = async (feed: Feed): Promise<void> => {
      let outcomes: { receipt: string; as: "ack" }[] = [];
      while (acknowledged.size < count) {
        try {
          const { deliveries } = await feed.take({ max: 10, waitMs: 100 }, outcomes);
          for (const { receipt } of outcomes) acknowledged.add(receipt);
          for (const { position, attempt } of deliveries) {
            expect(attempt).toBe(1);
            expect(delivered).not.toContain(position);
            delivered.add(position);
          }
          outcomes = deliveries.map(({ receipt }) => ({ receipt, as: "ack" }));
        } catch (error) {
          // The outcomes are given again.
          expect(error).toMatchObject({ code: "CONNECTION" });
        }
        await pause(1);
      }
    };
    await Promise.all(["one", "two"].map(consume));
    over.abort();
    await killing;
    expect(delivered.size).toBe(count);
    expect(await stats()).toEqual(NONE);
  }, 60_000);
});

describe("full memory", () => {
  test("pushing is refused whole, while taking, retrying, dead-lettering and acknowledging go on", async () => {
    await using full = await startRedis();
    const ports = await openPorts(full);
    const { name, open, stats } = await start(
      ports,
      Array.from({ length: 40 }, (_, index) => `m${index}`),
    );
    await full.cli("CONFIG", "SET", "maxmemory", "1");
    await expect(ports.queue.push(name, [item("no")], LIMITS)).rejects.toMatchObject({ code: "OUT_OF_MEMORY" });
    const feed = await open("taker");
    const taken = await collect(feed, 40);
    expect(await feed.extend(taken.deliveries.map(({ receipt }) => receipt))).toEqual([]);
    const { lost } = await feed.take(
      { max: 0, waitMs: 0 },
      taken.deliveries.map(({ receipt }, index) => {
        if (index % 3 === 0) return { receipt, as: "ack" };
        if (index % 3 === 1) return { receipt, as: "retry", delayMs: 0, counted: true };
        return { receipt, as: "deadLetter", reason: { kind: "failed", message: "no" } };
      }),
    );
    expect(lost).toEqual([]);
    const again = await collect(feed, 13);
    expect(again.deliveries.every(({ attempt }) => attempt === 2)).toBe(true);
    await feed.take({ max: 0, waitMs: 0 }, acks(again));
    expect(await stats()).toEqual({ ...NONE, dead: 13 });
    await feed.close();
  });
});

describe("waiting", () => {
  test("a lone item is handed over as fast as a bell can ring", async () => {
    const ports = await openPorts(server);
    const { name, open } = await start(ports, []);
    const feed = await open("taker");
    const latencies: number[] = [];
    for (let round = 0; round < 30; round += 1) {
      const taking = feed.take({ max: 1, waitMs: 5_000 }, []);
      await untilBlocked(server, "bzpopmin");
      const startedAt = performance.now();
      await ports.queue.push(name, [item(`i${round}`)], LIMITS);
      await taking;
      latencies.push(performance.now() - startedAt);
    }
    const median = latencies.toSorted((a, b) => a - b)[15] ?? Number.NaN;
    expect(median).toBeLessThan(50);
  });

  test("a bell that somebody else hears delays by a second at most", async () => {
    const ports = await openPorts(server);
    const { name, key, open } = await start(ports, []);
    const feed = await open("taker");
    // Whoever waits first is woken first.
    const other = (await openPorts(server)).redis.connections.blocking("other");
    const rival = other?.command(["BZPOPMIN", key("r::bell"), "10"], { deadlineMs: 20_000 });
    await untilBlocked(server, "bzpopmin");
    const taking = feed.take({ max: 1, waitMs: 10_000 }, []);
    await untilBlocked(server, "bzpopmin", 2);
    const startedAt = performance.now();
    await ports.queue.push(name, [item("a")], LIMITS);
    await rival;
    expect(textsOf(await taking)).toEqual(["a"]);
    expect(performance.now() - startedAt).toBeLessThan(2_500);
  });

  test("blocking reads that keep failing do not turn a wait into a busy loop", async () => {
    const ports = await openPorts(server);
    const { name, open } = await start(ports, []);
    const feed = await open("taker");
    let looks = 0;
    ports.judge((args) => {
      if (isTake(args)) looks += 1;
      return args[0] === "BZPOPMIN" ? "unsent" : "well";
    });
    const taking = feed.take({ max: 1, waitMs: 10_000 }, []);
    await pause(1_000);
    expect(looks).toBeLessThan(30);
    await ports.queue.push(name, [item("a")], LIMITS);
    expect(textsOf(await taking)).toEqual(["a"]);
  });
});

describe("others who meddle", () => {
  test("a ticket whose record was deleted is counted as gone, and no wait is cut short by it for ever", async () => {
    const ports = await openPorts(server);
    const { key, open, stats } = await start(ports, ["a", "b"]);
    await server.cli("HDEL", key("records"), "a");
    const feed = await open("taker");
    const found = await collect(feed, 1);
    expect([textsOf(found), found.gone]).toEqual([["b"], 1]);
    await feed.take({ max: 0, waitMs: 0 }, acks(found));
    expect(await stats()).toEqual(NONE);
  });

  test("everything may be deleted beneath a consumer that waits", async () => {
    const ports = await openPorts(server);
    const { name, open } = await start(ports, ["a"]);
    const feed = await open("taker");
    const held = await collect(feed, 1);
    const taking = feed.take({ max: 1, waitMs: 10_000 }, []);
    await untilBlocked(server, "bzpopmin");
    await server.cli("FLUSHALL");
    await server.cli("SCRIPT", "FLUSH");
    await ports.queue.push(name, [item("b")], LIMITS);
    expect(textsOf(await taking)).toEqual(["b"]);
    expect((await feed.take({ max: 0, waitMs: 0 }, acks(held))).lost).toHaveLength(1);
  });
});

describe("many and large", () => {
  test("ids of any text come out as they went in, also from receipts and dead letters", async () => {
    const ports = await openPorts(server);
    const ids = ["with\nline feed", "100%", "%0A", "a|b|c", "+1/2/x", "-5|3", "é😀", " "];
    const { name, open } = await start(ports, ids);
    const feed = await open("taker");
    const first = await collect(feed, ids.length);
    expect(first.deliveries.map(({ position }) => position)).toEqual(ids);
    await feed.take(
      { max: 0, waitMs: 0 },
      first.deliveries.map(({ receipt }) => ({ receipt, as: "retry", delayMs: 0, counted: true })),
    );
    const second = await collect(feed, ids.length);
    expect(second.deliveries.map(({ position, attempt }) => [position, attempt])).toEqual(ids.map((id) => [id, 2]));
    const reason = { kind: "failed", message: "no" } as const;
    await feed.take(
      { max: 0, waitMs: 0 },
      second.deliveries.map(({ receipt }) => ({ receipt, as: "deadLetter", reason })),
    );
    const { letters } = await ports.queue.deadLetters(name, "").list({ max: 100 });
    expect(letters.map(({ position }) => position)).toEqual(ids);
  });

  test("thousands of items in one push keep their order, priorities and expiry", async () => {
    const ports = await openPorts(server);
    const { name, open, stats } = await start(ports, []);
    const items = Array.from({ length: 5_000 }, (_, index) =>
      item(`${index}`, {
        priority: index % 3,
        ...(index % 5 === 0 ? { ttlMs: 1 } : {}),
        delayMs: index % 7 === 0 ? 1 : 0,
      }),
    );
    await ports.queue.push(name, items, LIMITS);
    await pause(20);
    const expected = [2, 1, 0].flatMap((priority) =>
      items.filter((one, index) => one.priority === priority && index % 5 !== 0).map(({ id }) => id),
    );
    const feed = await open("taker");
    const ids: string[] = [];
    let expired = 0;
    await until(async () => {
      const taken = await feed.take({ max: 700, waitMs: 0 }, []);
      ids.push(...taken.deliveries.map(({ position }) => position));
      expired += taken.expired;
      return ids.length >= 4_000 && expired >= 1_000;
    });
    expect(ids.toSorted()).toEqual(expected.toSorted());
    // Those that were delayed become ready in slices, so that only the others are sure to come in order.
    const ready = new Set(items.filter((_, index) => index % 7 !== 0).map(({ id }) => id));
    expect(ids.filter((id) => ready.has(id))).toEqual(expected.filter((id) => ready.has(id)));
    expect(await stats()).toEqual({ ...NONE, leased: 4_000, expired: 1_000 });
  });

  test("the cost of a waiting item in memory is at most twice that of a bare stream entry", async () => {
    await using empty = await startRedis();
    const ports = await openPorts(empty);
    const bytesOf = async (...keys: string[]): Promise<number> => {
      const sizes = await Promise.all(keys.map((key) => empty.cli("MEMORY", "USAGE", key, "SAMPLES", 0)));
      return sizes.reduce<number>((sum, size) => sum + Number(size), 0);
    };
    const data = "x".repeat(200);
    const count = 20_000;
    const uuid = (index: number): string => `0190a000-0000-7000-8000-${String(index).padStart(12, "0")}`;
    const header = (index: number): string => `1|${uuid(index)}|order.created|source|1790000000000`;
    for (let at = 0; at < count; at += 500) {
      const items = Array.from({ length: 500 }, (_, index) =>
        item(uuid(at + index), { header: header(at + index), data, priority: index % 10 }),
      );
      await ports.queue.push("queue", items, LIMITS);
    }
    for (let at = 0; at < count; at += 1_000) {
      const adding = Array.from({ length: 1_000 }, (_, index) => `${header(at + index)}\n${data}`);
      await Promise.all(adding.map((blob) => empty.cli("XADD", "bare", "*", "m", blob)));
    }
    const prefix = "sb1:{test:queue:queue:0}:";
    const queued = await bytesOf(`${prefix}records`, `${prefix}r::waiting`);
    expect(queued / (await bytesOf("bare"))).toBeLessThan(2);
    await ports.queue.close();
  });
});

test("a bell that nobody hears goes by itself", async () => {
  const ports = await openPorts(server);
  await ports.queue.push("unheard", [item("x")], LIMITS);
  const bells = await server.cli("KEYS", "sb1:{test:queue:unheard:0}:*:bell");
  expect(bells).toHaveLength(1);
  const ttlMs = Number(await server.cli("PTTL", String((bells as readonly unknown[])[0])));
  expect(ttlMs).toBeGreaterThan(0);
  expect(ttlMs).toBeLessThanOrEqual(60_000);
});
