/** Seeking, pausing and deleting groups while others read directly, block, or lose replies; what others removed. */

import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Arg } from "../../../src/backends/redis/connection.js";
import type { Feed, GroupSettings, Outcome, Taken } from "../../../src/core/backend.js";
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

async function start({ log }: Ports, texts: readonly string[], settings: Partial<GroupSettings> = {}) {
  const stream = `steered-${(streams += 1)}`;
  await log.createGroup(stream, "group", { ...GROUP, ...settings });
  const append = (...more: readonly string[]) => log.append(stream, more.map(entry), ROOMY);
  if (texts.length > 0) await append(...texts);
  return {
    stream,
    append,
    key: `sb1:{test:log:${stream}:0}:s`,
    open: (consumer: string, from: Pick<Ports, "log"> = { log }) => from.log.open(stream, "group", consumer),
    counts: async () => (await log.stats(stream)).groups[0],
  };
}

function numbered(prefix: string, count: number): string[] {
  return Array.from({ length: count }, (_, index) => `${prefix}${index + 1}`);
}

const isTake = isScriptWith("taker");
const isRead = (args: readonly Arg[]): boolean => args[0] === "XREADGROUP";
const now = (feed: Feed, outcomes: readonly Outcome[] = []): Promise<Taken> =>
  feed.take({ max: 5, waitMs: 0 }, outcomes);

describe("seeking", () => {
  test("what is read directly behind a seek that the consumer has not heard of comes once, with a receipt that counts", async () => {
    const ports = await openPorts(server);
    const { stream, open } = await start(ports, numbered("e", 9));
    const feed = await open("taker");
    const first = await now(feed);
    let reads = 0;
    ports.judge((args) => {
      reads += isRead(args) ? 1 : 0;
      return "well";
    });
    await (await openPorts(server)).log.seek(stream, "group", "beginning");
    // Settles and reads beside it, believing that nothing but new entries is there.
    const second = await now(feed, acks(first));
    expect(reads).toBe(1);
    expect([second.lost, second.deliveries]).toEqual([acks(first).map(({ receipt }) => receipt), []]);
    const seen: string[] = [];
    for (let outcomes: Outcome[] = []; seen.length < 9; ) {
      const taken = await now(feed, outcomes);
      expect(taken.lost).toEqual([]);
      seen.push(...textsOf(taken));
      outcomes = acks(taken);
    }
    expect(seen).toEqual(numbered("e", 9));
  });

  test("a seek in the very moment between settling and reading: what was read comes twice, and nothing is lost", async () => {
    const ports = await openPorts(server);
    const { stream, open, counts } = await start(ports, numbered("e", 9));
    const feed = await open("taker");
    const first = await now(feed);
    let goOn = (): void => {};
    const sent = new Promise<void>((resolve) => (goOn = resolve));
    ports.judge((args) => (isRead(args) ? { sent } : "well"));
    const taking = now(feed, acks(first));
    await until(async () => (await counts())?.pending === 0, { what: "the settlement" });
    await (await openPorts(server)).log.seek(stream, "group", "beginning");
    goOn();
    const taken = await taking;
    expect(textsOf(taken)).toEqual(numbered("e", 5));
    const seen: string[] = [];
    for (let outcomes = acks(taken), turns = 0; seen.length < 9 && turns < 10; turns += 1) {
      const next = await now(feed, outcomes);
      seen.push(...textsOf(next));
      outcomes = acks(next);
      if (seen.length === 9) expect((await feed.take({ max: 0, waitMs: 0 }, outcomes)).lost).toEqual([]);
    }
    expect(seen.toSorted()).toEqual(numbered("e", 9));
    expect(await counts()).toMatchObject({ lag: 0, pending: 0 });
  });

  test("a consumer that blocks during a seek is woken by it, and its receipts count", async () => {
    const ports = await openPorts(server);
    const { stream, open, counts } = await start(ports, ["a", "b"], { leaseMs: 1_000 });
    const feed = await open("taker");
    await feed.take({ max: 0, waitMs: 0 }, acks(await collect(feed, 2)));
    const waiting = feed.take({ max: 5, waitMs: 20_000 }, []);
    await untilBlocked(server, "xreadgroup");
    const soughtAt = performance.now();
    await (await openPorts(server)).log.seek(stream, "group", "beginning");
    const taken = await waiting;
    expect(performance.now() - soughtAt).toBeLessThan(700);
    expect(textsOf(taken)).toEqual(["a", "b"]);
    expect((await feed.take({ max: 0, waitMs: 0 }, acks(taken))).lost).toEqual([]);
    await pause(1_200);
    expect(textsOf(await now(await open("other")))).toEqual([]);
    expect(await counts()).toMatchObject({ lag: 0, pending: 0, retrying: 0 });
  });

  test("what a lost reply had brought before a seek is not handed out after it", async () => {
    const ports = await openPorts(server);
    const { stream, open } = await start(ports, numbered("e", 6));
    const feed = await open("taker");
    ports.judge(losing(isTake, "unanswered"));
    await expect(now(feed)).rejects.toMatchObject({ code: "CONNECTION" });
    // Five are found again, of which four wait to be asked for.
    expect(textsOf(await feed.take({ max: 1, waitMs: 0 }, []))).toEqual(["e1"]);
    await (await openPorts(server)).log.seek(stream, "group", "new");
    expect(textsOf(await now(feed))).toEqual([]);
    await ports.log.append(stream, [entry("late")], ROOMY);
    expect(textsOf(await collect(feed, 1))).toEqual(["late"]);
  });

  test("seeking under load leaves no delivery without its consumer, and everything comes after the last seek", async () => {
    const ports = [await openPorts(server), await openPorts(server)] as const;
    const texts = numbered("e", 400);
    const { stream, open, counts } = await start(ports[0], texts);
    const over = new AbortController();
    let seen = new Set<string>();
    const consume = async (feed: Feed): Promise<void> => {
      for (let outcomes: Outcome[] = []; !over.signal.aborted; ) {
        const taken = await feed.take({ max: 7, waitMs: 50, signal: over.signal }, outcomes);
        for (const text of textsOf(taken)) seen.add(text);
        outcomes = acks(taken);
      }
    };
    const feeds = await Promise.all([open("one"), open("two"), open("three", ports[1]), open("four", ports[1])]);
    const consuming = Promise.all(feeds.map(consume));
    for (let seeks = 0; seeks < 40; seeks += 1) {
      await pause(Math.random() * 10);
      seen = new Set();
      await ports[seeks % 2 === 0 ? 0 : 1].log.seek(stream, "group", "beginning");
    }
    // Whatever nobody knew to be his own would stay pending for a minute, and come as a second attempt then.
    await until(
      async () => {
        const { lag, pending } = (await counts()) ?? {};
        return lag === 0 && pending === 0;
      },
      { what: "everything to be handled" },
    );
    over.abort();
    await consuming;
    expect(seen).toEqual(new Set(texts));
  }, 30_000);
});

describe("pausing", () => {
  test("a consumer that blocks is given nothing while its group is paused, nor is anybody else who reads it", async () => {
    const ports = await openPorts(server);
    const { stream, key, append, open } = await start(ports, []);
    const feed = await open("taker");
    const waiting = feed.take({ max: 5, waitMs: 20_000 }, []);
    await untilBlocked(server, "xreadgroup");
    await (await openPorts(server)).log.pause(stream, "group");
    await append("a", "b");
    expect(await server.cli("XREADGROUP", "GROUP", "group", "stranger", "STREAMS", key, ">")).toBeNull();
    await pause(1_300);
    expect(((await server.cli("XPENDING", key, "group")) as unknown[])[0]).toBe(0);
    await untilBlocked(server, "xreadgroup");
    const resumedAt = performance.now();
    await (await openPorts(server)).log.resume(stream, "group");
    expect(textsOf(await waiting)).toEqual(["a", "b"]);
    // It was woken.
    expect(performance.now() - resumedAt).toBeLessThan(700);
  });

  test("what a lost reply had brought is not handed out while the group is paused", async () => {
    const ports = await openPorts(server);
    const { stream, open } = await start(ports, numbered("e", 6));
    const feed = await open("taker");
    ports.judge(losing(isTake, "unanswered"));
    await expect(now(feed)).rejects.toMatchObject({ code: "CONNECTION" });
    const first = await feed.take({ max: 1, waitMs: 0 }, []);
    await (await openPorts(server)).log.pause(stream, "group");
    expect(textsOf(await now(feed))).toEqual([]);
    expect(textsOf(await now(feed, acks(first)))).toEqual([]);
    await (await openPorts(server)).log.resume(stream, "group");
    expect(textsOf(await collect(feed, 5)).toSorted()).toEqual(["e2", "e3", "e4", "e5", "e6"]);
  });

  test("a paused group that is lost stays paused, and starts at the beginning when it is resumed", async () => {
    const ports = await openPorts(server);
    const { stream, key, open, counts } = await start(ports, ["a", "b"]);
    const feed = await open("taker");
    await feed.take({ max: 0, waitMs: 0 }, acks(await collect(feed, 2)));
    await ports.log.pause(stream, "group");
    await server.cli("XGROUP", "DESTROY", key, "group");
    expect(textsOf(await now(feed))).toEqual([]);
    expect(ports.reports).toHaveLength(1);
    expect(await counts()).toMatchObject({ paused: true, lag: 2 });
    await ports.log.resume(stream, "group");
    expect(textsOf(await collect(feed, 2))).toEqual(["a", "b"]);
  });

  test("a FLUSHALL ends a pause as well", async () => {
    const ports = await openPorts(server);
    const { stream, append, open } = await start(ports, ["a"]);
    const feed = await open("taker");
    await ports.log.pause(stream, "group");
    await server.cli("FLUSHALL");
    await append("b");
    expect(textsOf(await collect(feed, 1))).toEqual(["b"]);
  });
});

describe("deleting", () => {
  test("a consumer that blocks when its group is deleted rejects at once", async () => {
    const ports = await openPorts(server);
    const { stream, open } = await start(ports, []);
    const waiting = (await open("taker")).take({ max: 5, waitMs: 20_000 }, []);
    const ended = waiting.catch((error: unknown) => error);
    await untilBlocked(server, "xreadgroup");
    const deletedAt = performance.now();
    await (await openPorts(server)).log.deleteGroup(stream, "group");
    expect(await ended).toMatchObject({ code: "NOT_FOUND" });
    expect(performance.now() - deletedAt).toBeLessThan(700);
  });

  test("so many deletions are remembered and no more, and a group leaves no key behind", async () => {
    const ports = await openPorts(server);
    const stream = "deleted-often";
    const prefix = `sb1:{test:log:${stream}:0}:`;
    await ports.log.append(stream, [entry("a")], ROOMY);
    for (let from = 0; from < 1_100; from += 100) {
      const names = Array.from({ length: 100 }, (_, index) => `g${from + index}`);
      await Promise.all(names.map((name) => ports.log.createGroup(stream, name, GROUP)));
      expect(await Promise.all(names.map((name) => ports.log.deleteGroup(stream, name)))).not.toContain(false);
    }
    expect(await server.cli("HLEN", `${prefix}deleted`)).toBe(1_000);
    expect(((await server.cli("KEYS", `${prefix}*`)) as string[]).filter((key) => key.includes(":g:"))).toEqual([]);
    expect(await server.cli("HLEN", `${prefix}groups`)).toBe(0);
  });
});

describe("takes that overlap", () => {
  test("what one consumer's take has brought is not found again by another of its takes, however late its reply", async () => {
    const ports = await openPorts(server);
    const { append, open } = await start(ports, []);
    const feed = await open("taker");
    // So that it has a connection of its own to block on.
    await feed.take({ max: 1, waitMs: 50 }, []);
    ports.judge(losing(isTake, "unanswered"));
    await expect(feed.take({ max: 1, waitMs: 0 }, [])).rejects.toMatchObject({ code: "CONNECTION" });
    let recover = (): void => {};
    const recovered = new Promise<void>((resolve) => (recover = resolve));
    let answer = (): void => {};
    const answered = new Promise<void>((resolve) => (answer = resolve));
    let takes = 0;
    ports.judge((args) => {
      if (isRead(args) && args.includes("BLOCK")) return { answered };
      if (!isTake(args)) return "well";
      takes += 1;
      // The first script is the one that looks for what a lost reply may have brought.
      return takes === 1 ? { sent: recovered } : "well";
    });
    const one = feed.take({ max: 5, waitMs: 3_000 }, []);
    const two = feed.take({ max: 5, waitMs: 3_000 }, []);
    await pause(30);
    await append("a");
    await pause(30);
    recover();
    await pause(100);
    answer();
    expect([...textsOf(await one), ...textsOf(await two)]).toEqual(["a"]);
  });
});

describe("what others removed", () => {
  /** Takes for two and a half seconds, and adds up what is gone. */
  async function goneIn(feed: Feed, ms = 2_500): Promise<number> {
    let gone = 0;
    for (const end = performance.now() + ms; performance.now() < end; ) {
      gone += (await feed.take({ max: 100, waitMs: 100 }, [])).gone;
    }
    return gone;
  }

  test("entries trimmed in front of a group are gone, each counted once", async () => {
    const ports = await openPorts(server);
    const { key, append, open, counts } = await start(ports, numbered("e", 10));
    const feed = await open("taker");
    await feed.take({ max: 0, waitMs: 0 }, acks(await collect(feed, 3)));
    await server.cli("XTRIM", key, "MAXLEN", "=", 2);
    expect(await goneIn(feed)).toBe(5);
    expect(await counts()).toMatchObject({ lag: 0 });
    // Nobody reads when the stream is emptied, with two that were given back and two that are new.
    await feed.close();
    await append("more", "and more");
    await server.cli("XTRIM", key, "MAXLEN", "=", 0);
    await pause(1_000);
    expect(await goneIn(await open("other"))).toBe(4);
  }, 15_000);

  test("single entries deleted in front of a group that nobody reads are gone", async () => {
    const ports = await openPorts(server);
    const { stream, key, open } = await start(ports, numbered("e", 10));
    const before = await open("before");
    await before.take({ max: 0, waitMs: 0 }, acks(await collect(before, 3)));
    await before.close();
    const positions = (await ports.log.read(stream, { max: 10 })).map(({ position }) => position);
    await server.cli("XDEL", key, positions[1]!, positions[5]!, positions[7]!);
    await pause(1_000);
    const feed = await open("taker");
    const { deliveries, gone } = await feed.take({ max: 1, waitMs: 0 }, []);
    expect([textsOf({ deliveries }), gone]).toEqual([["e4"], 2]);
    expect(await goneIn(feed)).toBe(0);
  });

  test("what is trimmed behind a group, or was finished, is not gone", async () => {
    const ports = await openPorts(server);
    const { key, open, append } = await start(ports, numbered("e", 10));
    const feed = await open("taker");
    await feed.take({ max: 0, waitMs: 0 }, acks(await collect(feed, 6)));
    await server.cli("XTRIM", key, "MAXLEN", "=", 5);
    await append("more");
    expect(await goneIn(feed)).toBe(0);
  });

  test("a server that started anew does not know how much was read: nothing is taken for gone that was not", async () => {
    await using restarting = await startRedis({ appendonly: "always" });
    const ports = await openPorts(restarting);
    const stream = "restarted";
    await ports.log.createGroup(stream, "group", GROUP);
    const feed = await ports.log.open(stream, "group", "taker");
    const dropping = { maxEntries: 10, overflow: "drop-oldest" } as const;
    await ports.log.append(stream, numbered("e", 10).map(entry), dropping);
    await feed.take({ max: 0, waitMs: 0 }, acks(await collect(feed, 10)));
    await restarting.kill();
    await restarting.restart();
    await until(async () => (await ports.log.read(stream, { max: 1 })).length === 1, { deadlineMs: 10_000 });
    // Finished entries make room.
    await ports.log.append(stream, numbered("f", 5).map(entry), dropping);
    expect((await ports.log.stats(stream)).groups).toMatchObject([{ lag: 5 }]);
    const taken = await collect(feed, 5);
    expect([textsOf(taken), taken.gone]).toEqual([numbered("f", 5), 0]);
    // Unfinished ones as well: these are gone indeed.
    await feed.take({ max: 0, waitMs: 0 }, acks(taken));
    await ports.log.append(stream, numbered("g", 9).map(entry), dropping);
    await ports.log.append(stream, numbered("h", 3).map(entry), dropping);
    expect(await goneIn(feed)).toBe(2);
  }, 30_000);
});
