/** A feed of the log that begins to wait with what it settles: what the wait brings, and what becomes of it. */

import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Arg } from "../../../src/backends/redis/connection.js";
import { type RedisServer, startRedis } from "../../support/redis-servers.js";
import { pause } from "../../support/wait.js";
import {
  acks,
  collect,
  entry,
  GROUP,
  isScriptWith,
  losing,
  openPorts,
  ROOMY,
  textsOf,
  untilBlocked,
  untilNoneIsBlocked,
} from "./log-queue-support.js";

let server: RedisServer;
beforeAll(async () => {
  server = await startRedis();
});
afterAll(() => server.stop());

let streams = 0;
const isTake = isScriptWith("taker");
const isRead = (args: readonly Arg[]): boolean => args[0] === "XREADGROUP";

describe("the wait that a settlement begins", () => {
  /** A feed with its own connection, which has one delivery in hand, and waits for nothing. */
  async function warm(texts: readonly string[]) {
    const ports = await openPorts(server);
    const stream = `waiting-${(streams += 1)}`;
    await ports.log.createGroup(stream, "group", GROUP);
    const open = (consumer: string) => ports.log.open(stream, "group", consumer);
    const feed = await open("taker");
    expect(textsOf(await feed.take({ max: 5, waitMs: 50 }, []))).toEqual([]);
    await ports.log.append(stream, texts.map(entry), ROOMY);
    const held = await feed.take({ max: 1, waitMs: 0 }, []);
    const append = (text: string) => ports.log.append(stream, [entry(text)], ROOMY);
    return { ports, stream, open, feed, held, append };
  }
  const willing = { max: 5, waitMs: 20_000 } as const;
  const isBlocking = (args: readonly Arg[]): boolean => isRead(args) && args.includes("BLOCK");

  test("brings what there is with the settlement, and what comes later to the next call: no script between them", async () => {
    const { ports, feed, held, append } = await warm(["a", "b"]);
    const sent: string[] = [];
    ports.judge((args) => {
      if (isTake(args) || isRead(args)) sent.push(isTake(args) ? "take" : "read");
      return "well";
    });
    let taken = await feed.take(willing, acks(held));
    if (taken.deliveries.length === 0) taken = await feed.take(willing, []);
    expect(textsOf(taken)).toEqual(["b"]);
    expect(textsOf(await feed.take(willing, acks(taken)))).toEqual([]);
    const next = feed.take(willing, []);
    await append("c");
    expect(textsOf(await next)).toEqual(["c"]);
    expect(sent).toEqual(["take", "read", "take", "read"]);
  });

  test("brings more than the next call asks for: the rest is for the one after it", async () => {
    const { feed, held, append } = await warm(["a"]);
    await feed.take(willing, acks(held));
    await append("b");
    const next = await feed.take({ max: 1, waitMs: 5_000 }, []);
    await append("c");
    await append("d");
    expect([...textsOf(next), ...textsOf(await collect(feed, 2))]).toEqual(["b", "c", "d"]);
  });

  test("what it brought is available again at once when the feed is closed instead", async () => {
    const { feed, held, open, append } = await warm(["a"]);
    await feed.take(willing, acks(held));
    await append("b");
    await feed.close();
    expect(textsOf(await open("other").then((other) => collect(other, 1)))).toEqual(["b"]);
  });

  test("is not left behind when the caller is to stop, or has let its delivery wait for another", async () => {
    const { stream, ports, feed, held, open, append } = await warm(["a"]);
    const stop = new AbortController();
    await feed.take({ ...willing, signal: stop.signal }, acks(held));
    await untilBlocked(server, "xreadgroup");
    stop.abort();
    await untilNoneIsBlocked(server);
    await append("b");
    expect(textsOf(await collect(await open("other"), 1))).toEqual(["b"]);
    expect((await ports.log.stats(stream)).groups).toMatchObject([{ lag: 0, pending: 1 }]);
  });

  test("takes no longer than the next call may wait, and goes on for the one after it", async () => {
    const { feed, held, append } = await warm(["a"]);
    await feed.take(willing, acks(held));
    const startedAt = performance.now();
    expect(textsOf(await feed.take({ max: 5, waitMs: 50 }, []))).toEqual([]);
    expect(performance.now() - startedAt).toBeLessThan(700);
    await append("b");
    expect(textsOf(await feed.take(willing, []))).toEqual(["b"]);
  });

  test("is not handed out unasked once the group was paused, nor lost", async () => {
    const { ports, stream, feed, held, append } = await warm(["a"]);
    await feed.take(willing, acks(held));
    await append("b");
    // So long that what has come is no longer as good as new.
    await pause(50);
    await ports.log.pause(stream, "group");
    expect(textsOf(await feed.take({ max: 5, waitMs: 50 }, []))).toEqual([]);
    await ports.log.resume(stream, "group");
    expect(textsOf(await collect(feed, 1))).toEqual(["b"]);
  });

  test("loses nothing with its reply, nor does the settlement in front of it", async () => {
    const { ports, feed, held, append } = await warm(["a"]);
    ports.judge(losing(isBlocking, "unanswered"));
    await feed.take(willing, acks(held));
    await append("b");
    const second = await collect(feed, 1);
    expect(textsOf(second)).toEqual(["b"]);
    // Let the round that looks at everything pass.
    await feed.take({ max: 5, waitMs: 0 }, []);
    ports.judge(losing(isTake, "unanswered"));
    await expect(feed.take(willing, acks(second))).rejects.toMatchObject({ code: "CONNECTION" });
    await append("c");
    const third = await collect(feed, 1);
    expect(textsOf(third)).toEqual(["c"]);
    expect((await feed.take({ max: 0, waitMs: 0 }, acks(second))).lost).toHaveLength(1);
  });

  test("a server that has forgotten the script does not make the settlement wait", async () => {
    const { feed, held } = await warm(["a"]);
    await server.cli("SCRIPT", "FLUSH");
    const startedAt = performance.now();
    expect((await feed.take(willing, acks(held))).lost).toEqual([]);
    expect(performance.now() - startedAt).toBeLessThan(700);
  });
});
