/** Order by key where things go wrong: connections die, keys vanish, others meddle; and what it costs Redis. */

import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Feed, GroupSettings, NewEntry, Outcome, Taken } from "../../../src/core/backend.js";
import { type RedisServer, startRedis } from "../../support/redis-servers.js";
import { pause, until } from "../../support/wait.js";
import {
  acks,
  blockedIn,
  collect,
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

/** `a:1` has the key `a`. */
function keyed(text: string): NewEntry {
  const key = text.split(":")[0] ?? "";
  return { header: "", data: text, key };
}

async function start({ log }: Ports, texts: readonly string[], settings: Partial<GroupSettings> = {}) {
  const stream = `ordered-${(streams += 1)}`;
  await log.createGroup(stream, "group", { ...GROUP, order: "key", ...settings });
  if (texts.length > 0) await log.append(stream, texts.map(keyed), ROOMY);
  const prefix = `sb1:{test:log:${stream}:0}:`;
  return {
    stream,
    prefix,
    key: `${prefix}s`,
    append: (...more: readonly string[]) => log.append(stream, more.map(keyed), ROOMY),
    open: (consumer: string, from: Ports = { log } as Ports) => from.log.open(stream, "group", consumer),
    counts: async () => (await log.stats(stream)).groups[0],
  };
}

async function settle(feed: Feed, ...outcomes: readonly Outcome[]): Promise<void> {
  expect((await feed.take({ max: 0, waitMs: 0 }, outcomes)).lost).toEqual([]);
}

const isTake = isScriptWith("taker");

describe("connections that die", () => {
  test("two processes' consumers: of each key one is out at a time, all come in order, and none comes twice", async () => {
    const ports = [await openPorts(server), await openPorts(server)] as const;
    const numbers = new Map<string, number>();
    // A few hot keys, many cold ones.
    const texts = Array.from({ length: 1_000 }, (_, index) => {
      const key = index % 3 === 0 ? `hot${index % 5}` : `cold${(index * 7) % 400}`;
      numbers.set(key, (numbers.get(key) ?? 0) + 1);
      return `${key}:${numbers.get(key)}`;
    });
    const { open } = await start(ports[0], texts, { maxHeld: 50 });
    const over = new AbortController();
    const killing = (async () => {
      while (!over.signal.aborted) {
        await pause(20 + Math.random() * 30);
        await server.cli("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes");
      }
    })();
    const next = new Map<string, number>();
    const out = new Set<string>();
    let ended = 0;
    const consume = async (consumer: string, from: Ports): Promise<void> => {
      const feed = await open(consumer, from);
      let held: readonly { readonly receipt: string; readonly key: string }[] = [];
      while (ended < texts.length) {
        try {
          const outcomes = held.map(({ receipt }): Outcome => ({ receipt, as: "ack" }));
          // What is about to be acknowledged may make way for the next of its key at any moment from now on.
          for (const { key } of held) out.delete(key);
          const { deliveries } = await feed.take({ max: 10, waitMs: 100 }, outcomes);
          ended += held.length;
          for (const { data, attempt } of deliveries) {
            const [key = "", number] = Buffer.from(data).toString().split(":");
            expect([key, attempt, Number(number)]).toEqual([key, 1, (next.get(key) ?? 0) + 1]);
            expect(out).not.toContain(key);
            next.set(key, Number(number));
            out.add(key);
          }
          held = deliveries.map(({ receipt, data }) => ({
            receipt,
            key: String(Buffer.from(data)).split(":")[0] ?? "",
          }));
        } catch (error) {
          // The outcomes are given again.
          expect(error).toMatchObject({ code: "CONNECTION" });
        }
        await pause(1);
      }
    };
    await Promise.all([
      consume("one", ports[0]),
      consume("two", ports[0]),
      consume("three", ports[1]),
      consume("four", ports[1]),
    ]);
    over.abort();
    await killing;
    expect(next).toEqual(numbers);
  }, 60_000);

  test("a take whose reply was lost keeps its keys, and what it brought comes to the consumer again", async () => {
    const ports = await openPorts(server);
    const { open } = await start(ports, ["a:1", "a:2", "b:1", "b:2"]);
    const feed = await open("taker");
    ports.judge(losing(isTake, "unanswered"));
    await expect(feed.take({ max: 5, waitMs: 0 }, [])).rejects.toMatchObject({ code: "CONNECTION" });
    expect(textsOf(await (await open("other")).take({ max: 5, waitMs: 0 }, []))).toEqual([]);
    const taken = await collect(feed, 2);
    expect(textsOf(taken)).toEqual(["a:1", "b:1"]);
    ports.judge(losing(isTake, "unanswered"));
    await expect(feed.take({ max: 0, waitMs: 0 }, acks(taken))).rejects.toMatchObject({ code: "CONNECTION" });
    expect((await feed.take({ max: 0, waitMs: 0 }, acks(taken))).lost).toHaveLength(2);
    expect(textsOf(await collect(feed, 2)).toSorted()).toEqual(["a:2", "b:2"]);
  });

  test("a FLUSHALL frees all keys: consuming goes on with what is appended afterwards", async () => {
    const ports = await openPorts(server);
    const { append, open, counts } = await start(ports, ["a:1", "a:2", "a:3"]);
    const feed = await open("taker");
    const before = await collect(feed, 1);
    expect(textsOf(await feed.take({ max: 5, waitMs: 0 }, []))).toEqual([]);
    const waiting = feed.take({ max: 5, waitMs: 10_000 }, []);
    await untilBlocked(server, "xread");
    await server.cli("FLUSHALL");
    await append("a:4", "a:5", "b:1");
    const taken = await waiting;
    expect(textsOf(taken)).toEqual(["a:4", "b:1"]);
    expect(ports.reports).toEqual([expect.stringContaining('group "group"')]);
    expect((await feed.take({ max: 0, waitMs: 0 }, acks(before))).lost).toHaveLength(1);
    await settle(feed, ...acks(taken));
    const last = await collect(feed, 1);
    expect(textsOf(last)).toEqual(["a:5"]);
    await settle(feed, ...acks(last));
    // It has been restored with its order.
    expect(await counts()).toMatchObject({ settings: { order: "key" }, lag: 0, held: 0, pending: 0 });
  });
});

describe("waiting", () => {
  test("a group with order is waited for, but read by the script alone", async () => {
    const ports = await openPorts(server);
    const { append, open, key } = await start(ports, []);
    const feed = await open("taker");
    const waiting = feed.take({ max: 10, waitMs: 20_000 }, []);
    await untilBlocked(server, "xread");
    expect(await blockedIn(server)).not.toContain("xreadgroup");
    const appendedAt = performance.now();
    await append("a:1", "a:2");
    expect(textsOf(await waiting)).toEqual(["a:1"]);
    // It was woken, and did not come across it at its next look.
    expect(performance.now() - appendedAt).toBeLessThan(700);
    expect(((await server.cli("XPENDING", key, "group")) as unknown[])[0]).toBe(1);
  });

  test("a consumer that may read no more waits without being woken by each entry", async () => {
    const ports = await openPorts(server);
    const { append, open } = await start(ports, ["a:1", "a:2", "a:3"], { maxHeld: 2 });
    const feed = await open("taker");
    const taken = await collect(feed, 1);
    const waiting = feed.take({ max: 10, waitMs: 20_000 }, []);
    await untilBlocked(server, "xread");
    const calls = async (): Promise<number> =>
      Number(/cmdstat_evalsha:calls=(\d+)/.exec(String(await server.cli("INFO", "commandstats")))?.[1]);
    const before = await calls();
    for (let number = 1; number <= 200; number += 1) await append(`b:${number}`);
    // Each append is a call; a look a second is a few.
    expect((await calls()) - before).toBeLessThan(220);
    await settle(feed, ...acks(taken));
    expect(textsOf(await waiting)[0]).toBe("a:2");
  });

  test("a consumer that blocks when its group gets an order hands out nothing against it", async () => {
    const ports = [await openPorts(server), await openPorts(server)] as const;
    const { append, open, stream, counts } = await start(ports[0], [], { order: "none" });
    const feeds = [await open("one"), await open("two", ports[1])];
    const waiting = feeds.map((feed) => feed.take({ max: 10, waitMs: 20_000 }, []));
    await untilBlocked(server, "xreadgroup", 2);
    await ports[0].log.configureGroup(stream, "group", { order: "key" });
    await append("a:1", "a:2", "a:3", "b:1");
    const [taken, feed] = await Promise.race(waiting.map(async (one, index) => [await one, feeds[index]] as const));
    const first = textsOf(taken);
    expect(first.filter((text) => text.startsWith("a"))).toEqual(["a:1"]);
    // Settled one after the other, the rest comes in order.
    const seen = [...first];
    let outcomes = acks(taken);
    while (seen.length < 4) {
      const next = await feed!.take({ max: 10, waitMs: 200 }, outcomes);
      seen.push(...textsOf(next));
      outcomes = acks(next);
    }
    expect(seen.filter((text) => text.startsWith("a"))).toEqual(["a:1", "a:2", "a:3"]);
    await settle(feed!, ...outcomes);
    expect(await counts()).toMatchObject({ lag: 0, pending: 0, held: 0 });
    await Promise.all(feeds.map((one) => one.close()));
    await Promise.all(waiting);
  });
});

describe("an order that is new", () => {
  test.each(["key", "strict"] as const)(
    "holds for what consumers are given that have not heard of it, with order %s",
    async (order) => {
      const ports = [await openPorts(server), await openPorts(server)] as const;
      const { append, open, stream } = await start(ports[0], [], { order: "none" });
      const feeds = [await open("one"), await open("two", ports[1])];
      const waiting = feeds.map((feed) => feed.take({ max: 2, waitMs: 2_000 }, []));
      await untilBlocked(server, "xreadgroup", 2);
      const { log } = ports[0];
      await log.pause(stream, "group");
      const texts = ["a:1", "a:2", "a:3", "a:4", "a:5", "a:6"];
      await append(...texts);
      await log.configureGroup(stream, "group", { order });
      // Redis gives two entries to each of those that block.
      await log.resume(stream, "group");
      const seen: string[] = [];
      const consume = async (feed: Feed, taken: Promise<Taken>): Promise<void> => {
        let outcomes = acks(await note(taken));
        while (seen.length < texts.length) outcomes = acks(await note(feed.take({ max: 2, waitMs: 100 }, outcomes)));
        await settle(feed, ...outcomes);
      };
      const note = async (taking: Promise<Taken>): Promise<Taken> => {
        const taken = await taking;
        seen.push(...textsOf(taken));
        return taken;
      };
      await Promise.all(feeds.map((feed, index) => consume(feed, waiting[index]!)));
      expect(seen).toEqual(texts);
    },
  );
});

describe("settling beside a take that waits", () => {
  test.each(["key", "strict"] as const)("lets it go on at once, with order %s", async (order) => {
    const ports = await openPorts(server);
    const texts = ["a:1", "a:2", "a:3", "a:4", "a:5", "a:6"];
    const { open } = await start(ports, texts, { order });
    const feed = await open("taker");
    const seen: string[] = [];
    const began = performance.now();
    for (let taken = await feed.take({ max: 1, waitMs: 0 }, []); ; ) {
      seen.push(...textsOf(taken));
      if (seen.length === texts.length) break;
      const waiting = feed.take({ max: 5, waitMs: 10_000 }, []);
      await until(async () => (await blockedIn(server)).length > 0, { what: "the take waits" });
      await settle(feed, ...acks(taken));
      taken = await waiting;
    }
    expect(seen).toEqual(texts);
    // Each time it would look again by itself after a second.
    expect(performance.now() - began).toBeLessThan(2_500);
  });
});

describe("others who meddle", () => {
  test.each([
    ["acknowledges a delivery", (key: string, id: string) => server.cli("XACK", key, "group", id)],
    ["removes a consumer", (key: string) => server.cli("XGROUP", "DELCONSUMER", key, "group", "gone")],
  ])("when somebody %s beneath the group, its key is free again within seconds", async (_what, meddle) => {
    for (const order of ["key", "strict"] as const) {
      const ports = await openPorts(server);
      const { key, open, prefix } = await start(ports, ["a:1", "a:2", "a:3"], { order });
      const gone = await open("gone");
      const [delivery] = (await collect(gone, 1)).deliveries;
      await meddle(key, delivery?.position ?? "");
      const feed = await open("taker");
      const taken = await collect(feed, 1);
      expect(textsOf(taken)).toEqual(["a:2"]);
      await settle(feed, ...acks(taken));
      await settle(feed, ...acks(await collect(feed, 1)));
      expect(await server.cli("HKEYS", `${prefix}g:group:busy`)).toEqual(["#"]);
    }
  });

  test.each([
    ["the group", (key: string) => server.cli("XGROUP", "DESTROY", key, "group")],
    ["the stream", (key: string) => server.cli("DEL", key)],
  ])("when somebody removes %s while keys are busy, consuming goes on, without an error", async (_what, meddle) => {
    for (const order of ["key", "strict"] as const) {
      const ports = await openPorts(server);
      const { append, key, open } = await start(ports, ["a:1", "a:2"], { order, maxHeld: 1 });
      const feed = await open("taker");
      await collect(feed, 1);
      expect(textsOf(await feed.take({ max: 5, waitMs: 0 }, []))).toEqual([]);
      await meddle(key);
      await append("a:3");
      const seen: string[] = [];
      for (let outcomes: Outcome[] = []; seen.at(-1) !== "a:3"; ) {
        const taken = await feed.take({ max: 5, waitMs: 2_000 }, outcomes);
        outcomes = acks(taken);
        seen.push(...textsOf(taken));
      }
      expect(ports.reports).toEqual([expect.stringContaining("was deleted beneath its consumers")]);
    }
  });

  test("an entry that was deleted while it was held is gone, and the next of its key takes its turn", async () => {
    const ports = await openPorts(server);
    const { key, open, counts } = await start(ports, ["a:1", "a:2", "a:3"]);
    const feed = await open("taker");
    const taken = await collect(feed, 1);
    expect(textsOf(await feed.take({ max: 5, waitMs: 0 }, []))).toEqual([]);
    const [, held] = await ports.log.read(`ordered-${streams}`, { max: 2 });
    await server.cli("XDEL", key, held?.position ?? "");
    const next = await feed.take({ max: 5, waitMs: 0 }, acks(taken));
    expect([textsOf(next), next.gone]).toEqual([["a:3"], 1]);
    expect(await counts()).toMatchObject({ lag: 0, held: 0, pending: 1 });
  });
});

describe("cost", () => {
  /** Commands that Redis runs for `rounds` takes of `size`, each settling the one before. */
  async function commandsFor(size: number, keys: number): Promise<number> {
    await using quiet = await startRedis();
    const ports = await openPorts(quiet);
    const texts = Array.from({ length: size * 3 }, (_, index) => `k${index % keys}:${index}`);
    const { open } = await start(ports, texts);
    const feed = await open("taker");
    const first = await feed.take({ max: size, waitMs: 0 }, []);
    expect(first.deliveries).toHaveLength(size);
    const calls = async (): Promise<number> =>
      Number(/total_commands_processed:(\d+)/.exec(String(await quiet.cli("INFO", "stats")))?.[1]);
    const before = await calls();
    const second = await feed.take({ max: size, waitMs: 0 }, acks(first));
    const commands = (await calls()) - before;
    expect(second.deliveries).toHaveLength(size);
    await ports.log.close();
    return commands;
  }

  test("deliveries of distinct keys cost no command each", async () => {
    const few = await commandsFor(10, 1_000);
    const many = await commandsFor(300, 1_000);
    // Now and then one notes when that was.
    expect(Math.abs(many - few)).toBeLessThan(3);
    expect(many).toBeLessThan(25);
  });

  test("nothing is left behind of keys that are not busy, and what is busy is found at once", async () => {
    const ports = await openPorts(server);
    const texts = Array.from({ length: 300 }, (_, index) => `k${index % 120}:${index}`);
    const { open, prefix } = await start(ports, texts);
    const feed = await open("taker");
    let outcomes: Outcome[] = [];
    for (let ended = 0; ended < texts.length; ended += outcomes.length) {
      const taken = await feed.take({ max: 70, waitMs: 0 }, outcomes);
      outcomes = acks(taken);
      expect(String(await server.cli("OBJECT", "ENCODING", `${prefix}g:group:busy`))).toBe("hashtable");
    }
    await settle(feed, ...outcomes);
    expect(await server.cli("HKEYS", `${prefix}g:group:busy`)).toEqual(["#"]);
    expect(await server.cli("EXISTS", `${prefix}g:group:held`, `${prefix}parked`, `${prefix}g:group:due`)).toBe(0);
  });
});
