/** Consuming the log when something goes wrong: replies are lost, groups vanish, memory is full, others meddle. */

import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Arg } from "../../../src/backends/redis/connection.js";
import type { GroupSettings } from "../../../src/core/backend.js";
import { type RedisServer, startRedis } from "../../support/redis-servers.js";
import { pause, until } from "../../support/wait.js";
import {
  acks,
  collect,
  entry,
  GROUP,
  isScriptWith,
  losing,
  openPorts,
  type Ports,
  ROOMY,
  textsOf,
  untilBlocked,
} from "./log-queue-support.js";

let server: RedisServer;
beforeAll(async () => {
  server = await startRedis();
});
afterAll(() => server.stop());

let streams = 0;

async function start(ports: Ports, texts: readonly string[], settings: Partial<GroupSettings> = {}) {
  const stream = `stream-${(streams += 1)}`;
  await ports.log.createGroup(stream, "group", { ...GROUP, ...settings });
  if (texts.length > 0) await ports.log.append(stream, texts.map(entry), ROOMY);
  const key = `sb1:{test:log:${stream}:0}:s`;
  return { stream, key, open: (consumer: string) => ports.log.open(stream, "group", consumer) };
}

const isTake = isScriptWith("taker");
const isRead = (args: readonly Arg[]): boolean => args[0] === "XREADGROUP";

describe("lost replies", () => {
  test.each(["unsent", "unanswered"] as const)("a take that is %s takes nothing from anybody", async (fate) => {
    const ports = await openPorts(server);
    const { open } = await start(ports, ["a", "b", "c"]);
    const feed = await open("taker");
    ports.judge(losing(isTake, fate));
    await expect(feed.take({ max: 2, waitMs: 0 }, [])).rejects.toMatchObject({ code: "CONNECTION" });
    const taken = await collect(feed, 3);
    // Not a second attempt: nobody has seen a first one.
    expect(textsOf(taken).toSorted()).toEqual(["a", "b", "c"]);
    expect((await feed.take({ max: 0, waitMs: 0 }, acks(taken))).lost).toEqual([]);
  });

  test("what one of two takes has lost is found while takes go on overlapping", async () => {
    const ports = await openPorts(server);
    const texts = Array.from({ length: 400 }, (_, index) => `${index}`);
    const { open } = await start(ports, texts);
    const feed = await open("taker");
    await feed.take({ max: 0, waitMs: 0 }, acks(await collect(feed, 5)));
    let takes = 0;
    let answer = (): void => {};
    // Each call is answered once the next is on its way, or should it wait for this one: takes overlap all the time.
    ports.judge((args) => {
      if (!isTake(args)) return "well";
      takes += 1;
      if (takes === 5) return "unanswered";
      answer();
      const followed = new Promise<void>((resolve) => (answer = resolve));
      return { answered: Promise.race([followed, pause(20)]) };
    });
    const seen: string[] = [];
    const takeAll = async (): Promise<void> => {
      for (let call = 0; call < 500 && seen.length < 395; call += 1) {
        const taken = await feed.take({ max: 5, waitMs: 0 }, []).catch(() => undefined);
        if (taken === undefined) continue;
        seen.push(...textsOf(taken));
      }
    };
    await Promise.all([takeAll(), takeAll()]);
    expect(new Set(seen)).toEqual(new Set(texts.slice(5)));
    // Behind what was under way with it, and little else.
    const latest = Math.max(...seen.map((text, index) => index - Number(text)));
    expect(latest).toBeLessThan(50);
  });

  test("what a blocking read brought is not lost with its reply", async () => {
    const ports = await openPorts(server);
    const { stream, open } = await start(ports, []);
    const feed = await open("taker");
    ports.judge(losing(isRead, "unanswered"));
    const taking = feed.take({ max: 5, waitMs: 5_000 }, []);
    await untilBlocked(server, "xreadgroup");
    await ports.log.append(stream, [entry("a")], ROOMY);
    expect(textsOf(await taking)).toEqual(["a"]);
  });

  test("what was read beside a settlement is not lost with its reply, nor with the settlement's", async () => {
    const ports = await openPorts(server);
    const { open, stream } = await start(ports, ["a", "b", "c", "d"]);
    const feed = await open("taker");
    const first = await feed.take({ max: 1, waitMs: 0 }, []);
    ports.judge(losing(isRead, "unanswered"));
    const second = await feed.take({ max: 1, waitMs: 0 }, acks(first));
    expect(second).toMatchObject({ deliveries: [], lost: [] });
    const third = await collect(feed, 1);
    expect(textsOf(third)).toEqual(["b"]);
    // Let the round that looks at everything pass, so that the next call reads beside its settlement again.
    const fourth = await feed.take({ max: 1, waitMs: 0 }, []);
    ports.judge(losing(isTake, "unanswered"));
    await expect(feed.take({ max: 1, waitMs: 0 }, acks(third))).rejects.toMatchObject({ code: "CONNECTION" });
    const again = await feed.take({ max: 1, waitMs: 0 }, acks(third));
    expect(again.lost).toEqual(third.deliveries.map(({ receipt }) => receipt));
    const rest = again.deliveries.length > 0 ? again : await collect(feed, 1);
    expect([...textsOf(fourth), ...textsOf(rest)]).toEqual(["c", "d"]);
    expect((await ports.log.stats(stream)).groups).toMatchObject([{ pending: 2, retrying: 0 }]);
  });

  test("a settlement whose reply was lost is settled, and says so when it is given again", async () => {
    const ports = await openPorts(server);
    const { open, stream } = await start(ports, ["a", "b", "c"]);
    const feed = await open("taker");
    const taken = await collect(feed, 3);
    const [a, b, c] = taken.deliveries.map(({ receipt }) => receipt);
    if (a === undefined || b === undefined || c === undefined) throw new Error("there are three");
    const outcomes = [
      { receipt: a, as: "ack" },
      { receipt: b, as: "retry", delayMs: 60_000, counted: true },
      { receipt: c, as: "deadLetter", reason: { kind: "rejected", message: "no" } },
    ] as const;
    ports.judge(losing(isTake, "unanswered"));
    await expect(feed.take({ max: 0, waitMs: 0 }, outcomes)).rejects.toMatchObject({ code: "CONNECTION" });
    expect((await feed.take({ max: 0, waitMs: 0 }, outcomes)).lost.toSorted()).toEqual([a, b, c].toSorted());
    expect((await ports.log.stats(stream)).groups).toMatchObject([{ pending: 0, retrying: 1, dead: 1 }]);
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
    const texts = Array.from({ length: count }, (_, index) => `${index}`);
    const { open } = await start(ports, texts);
    const over = new AbortController();
    const killing = (async () => {
      while (!over.signal.aborted) {
        await pause(20 + Math.random() * 30);
        await server.cli("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes");
      }
    })();
    const delivered = new Set<string>();
    const acknowledged = new Set<string>();
    const consume = async (consumer: string): Promise<void> => {
      const feed = await open(consumer);
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
  }, 60_000);
});

describe("groups that vanish", () => {
  test.each([
    ["the group is deleted", (key: string) => server.cli("XGROUP", "DESTROY", key, "group")],
    ["the stream is deleted", (key: string) => server.cli("DEL", key)],
    ["everything is deleted", () => server.cli("FLUSHALL")],
  ])("%s: consuming goes on from the beginning, and it is reported", async (_what, destroy) => {
    const ports = await openPorts(server);
    const { stream, key, open } = await start(ports, ["before"]);
    const feed = await open("taker");
    const before = await collect(feed, 1);
    const taking = feed.take({ max: 5, waitMs: 10_000 }, []);
    await untilBlocked(server, "xreadgroup");
    await destroy(key);
    const left = Number(await server.cli("XLEN", key));
    await ports.log.append(stream, [entry("after")], ROOMY);
    let texts = textsOf(await taking);
    if (texts.length < left + 1) texts = [...texts, ...textsOf(await collect(feed, left + 1 - texts.length))];
    expect(texts).toEqual(left === 1 ? ["before", "after"] : ["after"]);
    expect(ports.reports).toEqual([expect.stringContaining('group "group"')]);
    // Its settings are there again as well.
    expect(await ports.log.createGroup(stream, "group", { ...GROUP, leaseMs: 1 })).toEqual(GROUP);
    if (left === 0) expect((await feed.take({ max: 0, waitMs: 0 }, acks(before))).lost).toHaveLength(1);
  });

  test("a group whose stream vanished while nobody consumed starts at the beginning, whatever was asked for", async () => {
    const ports = await openPorts(server);
    const stream = "vanished-meanwhile";
    const settings = { ...GROUP, from: "new" } as const;
    await ports.log.createGroup(stream, "group", settings);
    await server.cli("DEL", `sb1:{test:log:${stream}:0}:s`);
    await ports.log.append(stream, [entry("a")], ROOMY);
    expect(await ports.log.createGroup(stream, "group", settings)).toEqual(settings);
    expect(ports.reports).toHaveLength(1);
    expect(textsOf(await collect(await ports.log.open(stream, "group", "c"), 1))).toEqual(["a"]);
  });

  test("a group that was never made cannot be opened", async () => {
    const { log } = await openPorts(server);
    await expect(log.open("nothing", "group", "c")).rejects.toMatchObject({ code: "NOT_FOUND" });
  });
});

describe("full memory", () => {
  test("appending is refused whole, while taking, retrying, dead-lettering and acknowledging go on", async () => {
    await using full = await startRedis();
    const ports = await openPorts(full);
    const texts = Array.from({ length: 40 }, (_, index) => `m${index}`);
    const { stream, open } = await start(ports, texts);
    await full.cli("CONFIG", "SET", "maxmemory", "1");
    await expect(ports.log.append(stream, [entry("no")], ROOMY)).rejects.toMatchObject({ code: "OUT_OF_MEMORY" });
    await ports.log.createGroup(stream, "group", GROUP);
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
    expect((await ports.log.stats(stream)).groups).toMatchObject([{ lag: 0, pending: 0, retrying: 0, dead: 13 }]);
    await feed.close();
  });
});

describe("many and large", () => {
  test("thousands of abandoned deliveries are found without a pause, by a consumer with little room as well", async () => {
    const ports = await openPorts(server);
    const texts = Array.from({ length: 2_500 }, (_, index) => `${index}`);
    const { open } = await start(ports, texts, { leaseMs: 500 });
    const crashed = await open("crashed");
    let taken = 0;
    while (taken < texts.length) taken += (await crashed.take({ max: 1_000, waitMs: 0 }, [])).deliveries.length;
    await pause(600);
    const feed = await open("taker");
    const startedAt = performance.now();
    const found = new Set<string>();
    while (found.size < texts.length) {
      const part = await feed.take({ max: 50, waitMs: 1_000 }, []);
      for (const text of textsOf(part)) found.add(text);
      await feed.take({ max: 0, waitMs: 0 }, acks(part));
    }
    expect(found).toEqual(new Set(texts.map((text) => `${text}#2`)));
    expect(performance.now() - startedAt).toBeLessThan(5_000);
  });

  test("a group that starts in the middle of a long stream knows its lag", async () => {
    const { log } = await openPorts(server);
    const positions: string[] = [];
    for (let batch = 0; batch < 7; batch += 1) {
      const entries = Array.from({ length: 500 }, (_, index) => entry(`${batch}-${index}`));
      positions.push(...(await log.append("long", entries, ROOMY)).map(({ position }) => position));
    }
    await log.append("long", [entry("last")], { maxEntries: 3_101, overflow: "reject" });
    for (const [group, after, lag] of [
      ["early", 450, 3_050],
      ["middle", 1_999, 1_501],
      ["late", 3_499, 1],
      ["before", 10, 3_101],
    ] as const) {
      await log.createGroup("long", group, { ...GROUP, from: { after: positions[after] ?? "" } });
      const { groups, length } = await log.stats("long");
      expect(length).toBe(3_101);
      expect(groups.find((one) => one.group === group)).toMatchObject({ lag: Math.min(lag, length) });
    }
  });

  test("a long stream that is full makes room in slices, never of what is unfinished, never more than it may hold", async () => {
    const { log } = await openPorts(server);
    const retention = { maxEntries: 20_000, overflow: "reject" } as const;
    await log.createGroup("slices", "group", { ...GROUP, from: "beginning" });
    const feed = await log.open("slices", "group", "c");
    const batch = Array.from({ length: 500 }, (_, index) => entry(`${index}`));
    for (let count = 0; count < 20_000; count += 500) await log.append("slices", batch, retention);
    await expect(log.append("slices", batch, retention)).rejects.toMatchObject({ code: "LIMIT" });
    const taken = await feed.take({ max: 1_000, waitMs: 0 }, []);
    await feed.take({ max: 0, waitMs: 0 }, acks(taken).slice(0, 700));
    await log.append("slices", batch, retention);
    const { length, groups } = await log.stats("slices");
    expect(length).toBeLessThanOrEqual(20_000);
    expect(length).toBeGreaterThanOrEqual(20_000 - 200);
    expect(groups).toMatchObject([{ lag: 19_500, pending: 300 }]);
    const [oldest] = await log.read("slices", { max: 1 });
    const positions = taken.deliveries.map(({ position }) => position);
    expect(positions.indexOf(oldest?.position ?? "")).toBeLessThanOrEqual(700);
  });

  test("consumers that look at nothing cost next to nothing", async () => {
    await using quiet = await startRedis();
    const ports = await openPorts(quiet);
    const { open } = await start(ports, []);
    const stop = new AbortController();
    const feeds = await Promise.all(["a", "b", "c", "d"].map(open));
    const waiting = feeds.map((feed) => feed.take({ max: 5, waitMs: 60_000, signal: stop.signal }, []));
    await pause(500);
    const commands = async (): Promise<number> =>
      Number(/total_commands_processed:(\d+)/.exec(String(await quiet.cli("INFO", "stats")))?.[1]);
    const before = await commands();
    await pause(2_000);
    // A script and a blocking read a second each; Redis counts what scripts call as well.
    expect((await commands()) - before).toBeLessThan(4 * 3 * 12);
    stop.abort();
    await Promise.all(waiting);
    await ports.log.close();
  });

  test("without a connection of its own a consumer still finds what comes, within a second or so", async () => {
    const ports = await openPorts(server, { maxBlockingConnections: 1 });
    const { stream, open } = await start(ports, []);
    const [one, two] = [await open("one"), await open("two")];
    const stop = new AbortController();
    const first = one.take({ max: 1, waitMs: 20_000, signal: stop.signal }, []);
    const second = two.take({ max: 1, waitMs: 20_000, signal: stop.signal }, []);
    await untilBlocked(server, "xreadgroup");
    await ports.log.append(stream, ["a", "b"].map(entry), ROOMY);
    expect((await Promise.all([first, second])).flatMap(textsOf).toSorted()).toEqual(["a", "b"]);
  });
});

describe("others who meddle", () => {
  test("an entry that somebody else wrote is delivered with its fields as data", async () => {
    const ports = await openPorts(server);
    const { stream, key, open } = await start(ports, []);
    const feed = await open("taker");
    await server.cli("XADD", key, "*", "type", "order", "source", "elsewhere");
    const [delivery] = (await collect(feed, 1)).deliveries;
    const waiting = feed.take({ max: 1, waitMs: 5_000 }, []);
    await untilBlocked(server, "xreadgroup");
    await server.cli("XADD", key, "*", "type", "order", "source", "elsewhere");
    const [read] = await ports.log.read(stream, { max: 1 });
    for (const one of [delivery, (await waiting).deliveries[0], read]) {
      expect(one?.header).toBe("");
      expect(JSON.parse(Buffer.from(one?.data ?? []).toString())).toEqual(["type", "order", "source", "elsewhere"]);
    }
  });

  test("deliveries whose entries somebody else trimmed are counted as gone once their lease is over", async () => {
    const ports = await openPorts(server);
    const { key, open } = await start(ports, ["a", "b", "c"], { leaseMs: 500 });
    await collect(await open("crashed"), 3);
    await server.cli("XTRIM", key, "MAXLEN", 1);
    await pause(600);
    const found = await collect(await open("taker"), 1);
    expect([textsOf(found), found.gone]).toEqual([["c#2"], 2]);
  });

  test("a running delivery whose entry was dropped can be extended and acknowledged", async () => {
    const ports = await openPorts(server);
    const { stream, open } = await start(ports, ["a", "b"]);
    const feed = await open("taker");
    const taken = await collect(feed, 2);
    await ports.log.append(stream, ["c", "d"].map(entry), { maxEntries: 2, overflow: "drop-oldest" });
    expect(await feed.extend(taken.deliveries.map(({ receipt }) => receipt))).toEqual([]);
    expect((await feed.take({ max: 0, waitMs: 0 }, acks(taken))).lost).toEqual([]);
  });

  test("thousands of retries parked in one millisecond: the oldest of them is kept, however they sort", async () => {
    const ports = await openPorts(server);
    const texts = Array.from({ length: 3_000 }, (_, index) => `e${index}`);
    const { stream, open } = await start(ports, texts);
    const feed = await open("taker");
    const taken: string[] = [];
    while (taken.length < texts.length) {
      const { deliveries } = await feed.take({ max: 1_000, waitMs: 1_000 }, []);
      taken.push(...deliveries.map(({ receipt }) => receipt));
    }
    const outcomes = taken.map((receipt, index) =>
      index < 2
        ? ({ receipt, as: "ack" } as const)
        : ({ receipt, as: "retry", delayMs: 60_000, counted: true } as const),
    );
    await feed.take({ max: 0, waitMs: 0 }, outcomes);
    const full = { maxEntries: texts.length, overflow: "reject" } as const;
    const five = ["a", "b", "c", "d", "e"].map(entry);
    await expect(ports.log.append(stream, five, full)).rejects.toMatchObject({ code: "LIMIT" });
    expect((await ports.log.stats(stream)).groups[0]).toMatchObject({ retrying: texts.length - 2 });
  });

  test("a group that was lost and made anew keeps nothing back that it has finished", async () => {
    const ports = await openPorts(server);
    const { stream, key, open } = await start(ports, ["a", "b"]);
    const feed = await open("taker");
    const { deliveries } = await collect(feed, 2);
    const retries = deliveries.map(
      ({ receipt }) => ({ receipt, as: "retry", delayMs: 60_000, counted: true }) as const,
    );
    await feed.take({ max: 0, waitMs: 0 }, retries);
    await server.cli("XGROUP", "DESTROY", key, "group");
    const again = await collect(feed, 2);
    await feed.take({ max: 0, waitMs: 0 }, acks(again));
    const two = { maxEntries: 2, overflow: "reject" } as const;
    await ports.log.append(stream, [entry("c")], two);
  });

  test("parked retries of a deleted group keep nothing from being trimmed", async () => {
    const ports = await openPorts(server);
    const { stream, key, open } = await start(ports, ["a", "b"]);
    const feed = await open("taker");
    const { deliveries } = await collect(feed, 2);
    await feed.take(
      { max: 0, waitMs: 0 },
      deliveries.map(({ receipt }) => ({ receipt, as: "retry", delayMs: 60_000, counted: true })),
    );
    await feed.close();
    await ports.log.createGroup(stream, "other", { ...GROUP, from: "new" });
    const two = { maxEntries: 2, overflow: "reject" } as const;
    await expect(ports.log.append(stream, [entry("c")], two)).rejects.toMatchObject({ code: "LIMIT" });
    await server.cli("XGROUP", "DESTROY", key, "group");
    await ports.log.append(stream, [entry("c")], two);
  });
});

describe("consumers", () => {
  test("a closed consumer leaves nothing behind", async () => {
    const ports = await openPorts(server);
    const { key, open } = await start(ports, ["a"]);
    const feed = await open("taker");
    await collect(feed, 1);
    const names = async (): Promise<string[]> =>
      ((await server.cli("XINFO", "CONSUMERS", key, "group")) as string[][]).map((fields) => String(fields[1]));
    expect(await names()).toEqual(["taker"]);
    await feed.close();
    expect(await names()).toEqual([]);
  });

  test("closing while a take waits ends the wait and lets go of the connection", async () => {
    const ports = await openPorts(server);
    const { open } = await start(ports, []);
    const blocked = async (): Promise<number> =>
      String(await server.cli("CLIENT", "LIST"))
        .split("\n")
        .filter((line) => line.includes("cmd=xreadgroup")).length;
    const before = await blocked();
    const feed = await open("taker");
    const waiting = feed.take({ max: 1, waitMs: 60_000 }, []);
    await until(async () => (await blocked()) > before, { what: "the consumer to block" });
    await feed.close();
    expect(textsOf(await waiting)).toEqual([]);
    await until(async () => (await blocked()) === before, { what: "the connection to be closed" });
  });
});
