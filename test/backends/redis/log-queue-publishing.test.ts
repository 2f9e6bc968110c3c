/** Publishing over connections that break: nothing is stored twice, nothing acknowledged is lost, the order is kept. */

import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Log } from "../../../src/core/backend.js";
import { type RedisServer, startRedis } from "../../support/redis-servers.js";
import { pause, until } from "../../support/wait.js";
import {
  acks,
  CONSUMER,
  entry,
  type Fate,
  GROUP,
  isScriptWith,
  item,
  LIMITS,
  losing,
  openPorts,
  ROOMY,
} from "./log-queue-support.js";

let server: RedisServer;
beforeAll(async () => {
  server = await startRedis();
});
afterAll(() => server.stop());

async function readAll(log: Log, stream: string): Promise<string[]> {
  const texts: string[] = [];
  for (let after: string | undefined; ; ) {
    const page = await log.read(stream, { max: 1_000, ...(after === undefined ? {} : { after }) });
    texts.push(...page.map(({ data }) => Buffer.from(data).toString()));
    after = page.at(-1)?.position;
    if (after === undefined) return texts;
  }
}

/** A generator of the same numbers between 0 and 1 for the same seed (mulberry32). */
function random(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296;
  };
}

/** One in six of the publishing scripts never arrives, another one is never answered. */
function troubled(seed: number): (args: readonly unknown[]) => Fate {
  const chance = random(seed);
  return ([name]) => {
    const rolled = chance();
    if (!String(name).startsWith("EVAL") || rolled > 0.33) return "well";
    return rolled > 0.17 ? "unsent" : "unanswered";
  };
}

describe("a single loss", () => {
  test.each(["unsent", "unanswered"] as const)("an append whose first try is %s is stored once", async (fate) => {
    const { log, judge } = await openPorts(server);
    const stream = `append-${fate}`;
    const [before] = await log.append(stream, [entry("before")], ROOMY);
    judge(losing(isScriptWith("in the middle"), fate));
    const appended = await log.append(stream, ["a", "b", "in the middle"].map(entry), ROOMY);
    const read = await log.read(stream, { max: 10 });
    expect(read.map(({ position }) => position)).toEqual([before, ...appended].map((one) => one?.position));
    expect(await readAll(log, stream)).toEqual(["before", "a", "b", "in the middle"]);
  });

  test.each(["unsent", "unanswered"] as const)("a push whose first try is %s is stored once", async (fate) => {
    const { queue, judge } = await openPorts(server);
    const name = `push-${fate}`;
    await queue.push(name, [item("held")], LIMITS);
    judge(losing(isScriptWith("the one"), fate));
    // The second try finds the items stored by the first: they are no duplicates of their own.
    expect(await queue.push(name, [item("the one"), item("held"), item("other")], LIMITS)).toEqual([
      { id: "the one", duplicate: false, recipients: 1 },
      { id: "held", duplicate: true, recipients: 0 },
      { id: "other", duplicate: false, recipients: 1 },
    ]);
    expect(await queue.stats(name, "")).toMatchObject({ waiting: 3 });
  });

  test("a refusal that was not heard stays a refusal", async () => {
    const { log, queue, judge } = await openPorts(server);
    await log.append("refused", ["a", "b"].map(entry), ROOMY);
    await log.createGroup("refused", "group", GROUP);
    judge(losing(isScriptWith("too many"), "unanswered"));
    const full = log.append("refused", [entry("too many")], { maxEntries: 2, overflow: "reject" });
    await expect(full).rejects.toMatchObject({ code: "LIMIT" });
    judge(losing(isScriptWith("too many"), "unanswered"));
    await expect(queue.push("refused", [item("too many")], { maxItems: 0 })).rejects.toMatchObject({ code: "LIMIT" });
    expect(await readAll(log, "refused")).toEqual(["a", "b"]);
  });
});

describe("many losses", () => {
  test.each([1, 2, 3, 4, 5, 6])(
    "appends under way together are each stored once and in order (seed %i)",
    async (seed) => {
      const { log, judge } = await openPorts(server);
      const stream = `troubled-${seed}`;
      judge(troubled(seed));
      const batches = Array.from({ length: 60 }, (_, batch) => [`${batch}a`, `${batch}b`]);
      const appended = await Promise.all(batches.map((batch) => log.append(stream, batch.map(entry), ROOMY)));
      judge(() => "well");
      expect(await readAll(log, stream)).toEqual(batches.flat());
      const read = await log.read(stream, { max: 1_000 });
      expect(appended.flat()).toEqual(read.map(({ position }) => ({ position, duplicate: false })));
    },
  );

  test.each([11, 12, 13])("pushes under way together are each stored once and in order (seed %i)", async (seed) => {
    const { queue, judge } = await openPorts(server);
    const name = `troubled-${seed}`;
    judge(troubled(seed));
    const ids = Array.from({ length: 60 }, (_, index) => `id-${index}`);
    const pushed = await Promise.all(ids.map((id) => queue.push(name, [item(id)], LIMITS)));
    judge(() => "well");
    expect(pushed.flat().filter(({ duplicate }) => duplicate)).toEqual([]);
    const feed = await queue.open(name, "", CONSUMER);
    const taken = await feed.take({ max: 1_000, waitMs: 0 }, []);
    expect(taken.deliveries.map(({ position }) => position)).toEqual(ids);
    await feed.take({ max: 0, waitMs: 0 }, acks(taken));
    const nothing = { waiting: 0, leased: 0, delayed: 0, dead: 0, expired: 0 };
    expect(await queue.stats(name, "")).toMatchObject(nothing);
  });

  test("connections that are killed under load lose nothing, repeat nothing and change no order", async () => {
    const { log, queue } = await openPorts(server);
    const over = new AbortController();
    const killing = (async () => {
      let kills = 0;
      while (!over.signal.aborted) {
        await pause(15 + Math.random() * 30);
        kills += Number(await server.cli("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"));
      }
      return kills;
    })();
    const texts: string[] = [];
    const work: Promise<unknown>[] = [];
    const end = Date.now() + 2_500;
    while (Date.now() < end) {
      const batch = Array.from({ length: 20 }, (_, index) => `${texts.length + index}`);
      texts.push(...batch);
      work.push(
        log.append("killed", batch.map(entry), ROOMY),
        queue.push(
          "killed",
          batch.map((id) => item(id)),
          LIMITS,
        ),
      );
      if (work.length % 20 === 0) await Promise.all(work);
    }
    await Promise.all(work);
    over.abort();
    expect(await killing).toBeGreaterThan(10);
    expect(texts.length).toBeGreaterThan(1_000);
    expect(await readAll(log, "killed")).toEqual(texts);
    const feed = await queue.open("killed", "", { ...CONSUMER, leaseMs: 60_000 });
    const ids: string[] = [];
    await until(async () => {
      const { deliveries } = await feed.take({ max: 1_000, waitMs: 0 }, []);
      ids.push(...deliveries.map(({ position }) => position));
      return deliveries.length === 0;
    });
    expect(ids).toEqual(texts);
  }, 60_000);
});

describe("what was attained", () => {
  test("a replicated write is confirmed by a replica, and told apart from one that is not", async () => {
    const replica = await startRedis({ config: { replicaof: `127.0.0.1 ${server.port}` } });
    try {
      await until(async () => String(await server.cli("INFO", "replication")).includes("state=online"), {
        what: "the replica to be in sync",
        deadlineMs: 20_000,
      });
      const { log, queue, judge } = await openPorts(server, { durability: "replicated", replicas: 1 });
      await log.append("replicated", [entry("a")], ROOMY);
      await queue.push("replicated", [item("a")], LIMITS);
      expect(
        await replica.cli("EXISTS", "sb1:{test:log:replicated:0}:s", "sb1:{test:queue:replicated:0}:records"),
      ).toBe(2);
      judge(() => "well");
      replica.pause();
      const unsure = log.append("replicated", [entry("b")], ROOMY);
      await expect(unsure).rejects.toMatchObject({ code: "PUBLISH_INDETERMINATE" });
      await expect(unsure).rejects.toThrow("0 of 1 replicas confirmed");
      replica.resume();
    } finally {
      await replica.stop();
    }
  }, 60_000);
});

describe("the ledger's own memory", () => {
  test("what is remembered of a publisher goes with it", async () => {
    const { log, queue } = await openPorts(server);
    await log.append("remembered", [entry("a")], ROOMY);
    await queue.push("remembered", [item("a")], LIMITS);
    const keys = [...((await server.cli("KEYS", "sb1:{test:*:remembered:0}:pub:*")) as string[])];
    expect(keys).toHaveLength(2);
    for (const key of keys) {
      const ttl = Number(await server.cli("PTTL", key));
      expect(ttl).toBeGreaterThan(500_000);
      expect(Number(await server.cli("MEMORY", "USAGE", key))).toBeLessThan(1_000);
    }
  });
});
