/** Appending when it matters how it is done: ids over broken connections, how long ids are kept, what a full Redis refuses. */

import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Arg } from "../../../src/backends/redis/connection.js";
import type { Appended, Log, NewEntry } from "../../../src/core/backend.js";
import { DEDUPE_MAX_IDS, DEDUPE_WINDOW_MS } from "../../../src/core/limits.js";
import { type RedisServer, startRedis } from "../../support/redis-servers.js";
import { until } from "../../support/wait.js";
import {
  collect,
  entry,
  type Fate,
  GROUP,
  isScriptWith,
  losing,
  openPorts,
  ROOMY,
  textsOf,
} from "./log-queue-support.js";

let server: RedisServer;
beforeAll(async () => {
  server = await startRedis();
});
afterAll(() => server.stop());

function once(dedupeId: string): NewEntry {
  return { ...entry(dedupeId), dedupeId };
}

async function readAll(log: Log, stream: string): Promise<{ text: string; position: string }[]> {
  const read = await log.read(stream, { max: 1_000 });
  return read.map(({ data, position }) => ({ text: Buffer.from(data).toString(), position }));
}

function keyOf(stream: string, name: string): string {
  return `sb1:{test:log:${stream}:0}:${name}`;
}

/** How often each command has run since the last `CONFIG RESETSTAT`. */
async function callsOf(...names: readonly string[]): Promise<Record<string, number>> {
  const info = String(await server.cli("INFO", "commandstats"));
  return Object.fromEntries(
    names.map((name) => [name, Number(new RegExp(`cmdstat_${name}:calls=(\\d+)`).exec(info)?.[1] ?? 0)]),
  );
}

describe("ids over connections that break", () => {
  test.each(["unsent", "unanswered"] as const)(
    "an append with ids whose first try is %s is stored once",
    async (fate) => {
      const { log, judge } = await openPorts(server);
      const stream = `ids-${fate}`;
      const [a] = await log.append(stream, [once("a")], ROOMY);
      judge(losing(isScriptWith("in the middle"), fate));
      const batch = [once("a"), once("b"), entry("in the middle"), once("b"), once("c")];
      const appended = await log.append(stream, batch, ROOMY);
      // Its own ids, stored by the first try, do not make it a duplicate of itself.
      expect(appended.map(({ duplicate }) => duplicate)).toEqual([true, false, false, true, false]);
      const read = await readAll(log, stream);
      expect(read.map(({ text }) => text)).toEqual(["a", "b", "in the middle", "c"]);
      const [, b, middle, c] = read.map(({ position }) => position);
      expect(appended.map(({ position }) => position)).toEqual([a?.position, b, middle, b, c]);
    },
  );

  test("a batch of nothing but duplicates is answered when its reply was lost", async () => {
    const { log, judge } = await openPorts(server);
    const first = await log.append("ids-again", [once("a"), once("b")], ROOMY);
    judge(losing(isScriptWith("header of b"), "unanswered"));
    const again = await log.append("ids-again", [once("b"), once("a")], ROOMY);
    expect(again).toEqual(first.toReversed().map(({ position }) => ({ position, duplicate: true })));
  });

  test.each([1, 2, 3, 4])(
    "appends under way together store each id once, and all agree where (try %i)",
    async (seed) => {
      const ports = [await openPorts(server), await openPorts(server)];
      let rolls = seed;
      const fates: readonly Fate[] = ["well", "well", "unsent", "well", "unanswered", "well", "well"];
      for (const { judge } of ports) {
        judge(([name]) => (String(name).startsWith("EVAL") ? (fates[(rolls += 1) % fates.length] ?? "well") : "well"));
      }
      const stream = `ids-troubled-${seed}`;
      const ids = Array.from({ length: 60 }, (_, index) => `id-${index}`);
      const stored = new Map<string, string[]>();
      const batches = Array.from({ length: 40 }, (_, batch) =>
        Array.from({ length: 5 }, (_unused, index) => ids[(batch * 7 + index * 3) % ids.length] ?? ""),
      );
      const note = (batch: readonly string[], appended: readonly Appended[]): void =>
        batch.forEach((id, index) => stored.set(id, [...(stored.get(id) ?? []), appended[index]?.position ?? ""]));
      await Promise.all(
        batches.map(async (batch, index) =>
          note(batch, (await ports[index % 2]?.log.append(stream, batch.map(once), ROOMY)) ?? []),
        ),
      );
      for (const { judge } of ports) judge(() => "well");
      const read = await readAll(ports[0]!.log, stream);
      expect(read.map(({ text }) => text).toSorted()).toEqual([...stored.keys()].toSorted());
      for (const { text, position } of read) expect(new Set(stored.get(text))).toEqual(new Set([position]));
    },
  );
});

describe("how long ids are kept", () => {
  test("two generations of ids are kept, each as many and as long as promised, and they expire by themselves", async () => {
    const { log } = await openPorts(server);
    const stream = "generations";
    const small = { maxEntries: 1_000, overflow: "drop-oldest" } as const;
    const appendIds = async (from: number, count: number): Promise<void> => {
      const batches: Promise<unknown>[] = [];
      for (let at = from; at < from + count; at += 2_500) {
        const batch = Array.from({ length: Math.min(2_500, from + count - at) }, (_, index) => once(`${at + index}`));
        batches.push(log.append(stream, batch, small));
      }
      await Promise.all(batches);
    };
    const isKnown = async (id: number): Promise<boolean | undefined> =>
      (await log.append(stream, [once(`${id}`)], small))[0]?.duplicate;
    const sizes = async (): Promise<number[]> =>
      Promise.all([0, 1].map(async (which) => Number(await server.cli("HLEN", keyOf(stream, `ids:${which}`)))));

    await appendIds(0, DEDUPE_MAX_IDS);
    expect(await sizes()).toEqual([DEDUPE_MAX_IDS, 0]);
    await appendIds(DEDUPE_MAX_IDS, 1);
    expect(await sizes()).toEqual([DEDUPE_MAX_IDS, 1]);
    expect(await isKnown(0)).toBe(true);
    await appendIds(DEDUPE_MAX_IDS + 1, DEDUPE_MAX_IDS);
    const [present = 0, before = 0] = await sizes();
    expect(Math.max(present, before)).toBeLessThanOrEqual(DEDUPE_MAX_IDS);
    // The last 100,000 are known, and the very first is not.
    expect(present + before).toBeGreaterThanOrEqual(DEDUPE_MAX_IDS);
    expect([await isKnown(2 * DEDUPE_MAX_IDS), await isKnown(DEDUPE_MAX_IDS + 1), await isKnown(0)]).toEqual([
      true,
      true,
      false,
    ]);
    for (const which of [0, 1]) {
      const leftMs = Number(await server.cli("PTTL", keyOf(stream, `ids:${which}`)));
      expect(leftMs).toBeGreaterThan(2 * DEDUPE_WINDOW_MS - 60_000);
      expect(leftMs).toBeLessThanOrEqual(2 * DEDUPE_WINDOW_MS);
    }
  }, 60_000);

  test("a generation lasts as long as promised, and the one before it as long again", async () => {
    const { log } = await openPorts(server);
    const stream = "by-time";
    const isKnown = async (id: string): Promise<boolean | undefined> =>
      (await log.append(stream, [once(id)], ROOMY))[0]?.duplicate;
    /** As if the present generation had begun that much earlier. */
    const age = async (ms: number): Promise<void> => {
      const [which, began] = String(await server.cli("HGET", keyOf(stream, "limits"), "ids")).split(" ");
      await server.cli("HSET", keyOf(stream, "limits"), "ids", `${which} ${Number(began) - ms}`);
    };
    expect(await isKnown("first")).toBe(false);
    await age(DEDUPE_WINDOW_MS - 10_000);
    expect([await isKnown("second"), await isKnown("first")]).toEqual([false, true]);
    expect(await server.cli("EXISTS", keyOf(stream, "ids:1"))).toBe(0);
    await age(10_000);
    expect([await isKnown("third"), await isKnown("first"), await isKnown("second")]).toEqual([false, true, true]);
    expect(await server.cli("EXISTS", keyOf(stream, "ids:1"))).toBe(1);
    await age(DEDUPE_WINDOW_MS);
    expect([await isKnown("fourth"), await isKnown("third"), await isKnown("second")]).toEqual([false, true, false]);
  });

  test("a generation that somebody evicted is begun anew, and expires as well", async () => {
    const { log } = await openPorts(server);
    await log.append("evicted", [once("a")], ROOMY);
    await server.cli("DEL", keyOf("evicted", "ids:0"));
    expect(await log.append("evicted", [once("a")], ROOMY)).toMatchObject([{ duplicate: false }]);
    expect(Number(await server.cli("PTTL", keyOf("evicted", "ids:0")))).toBeGreaterThan(DEDUPE_WINDOW_MS);
  });

  test("ids cost as many commands for a hundred entries as for one", async () => {
    const { log } = await openPorts(server);
    const names = ["hmget", "hset", "hlen", "pexpire", "time", "unlink", "xlen"] as const;
    const counts: Record<string, number>[] = [];
    await log.append("constant", [once("warm")], ROOMY);
    for (const count of [1, 100, 500]) {
      await server.cli("CONFIG", "RESETSTAT");
      const ids = Array.from({ length: count }, (_, index) => once(`${count}-${index}`));
      await log.append("constant", ids, ROOMY);
      counts.push(await callsOf(...names));
    }
    expect(counts[1]).toEqual(counts[0]);
    expect(counts[2]).toEqual(counts[0]);
  });
});

describe("room", () => {
  test("a group that waits for a time to come keeps nothing, and is told what was dropped beneath it then", async () => {
    const { log } = await openPorts(server);
    const three = { maxEntries: 3, overflow: "reject" } as const;
    await log.append("to-come", ["a", "b", "c"].map(entry), three);
    const time = Date.now() + 300;
    await log.createGroup("to-come", "group", { ...GROUP, from: { time } });
    await log.append("to-come", [entry("d")], three);
    await until(() => Promise.resolve(Date.now() > time + 1));
    await log.append("to-come", ["e", "f", "g"].map(entry), three);
    await expect(log.append("to-come", [entry("h")], three)).rejects.toMatchObject({ code: "LIMIT" });
    await log.append("to-come", ["h", "i"].map(entry), { ...three, overflow: "drop-oldest" });
    const taken = await collect(await log.open("to-come", "group", "consumer"), 3);
    expect(textsOf(taken)).toEqual(["g", "h", "i"]);
    expect(taken.gone).toBe(2);
  });

  test("what is too old is looked at now and then, not at each append", async () => {
    const { log } = await openPorts(server);
    const aged = { ...ROOMY, maxAgeMs: 60_000 };
    await log.append("aged", [entry("a")], aged);
    await server.cli("CONFIG", "RESETSTAT");
    for (let count = 0; count < 20; count += 1) await log.append("aged", [entry("b")], aged);
    expect((await callsOf("xtrim")).xtrim).toBeLessThanOrEqual(1);
    // A look that was a second ago, or that lies in the future, is one too long ago.
    for (const agedAt of [Date.now() - 1_001, Date.now() + 60_000]) {
      await server.cli("HSET", keyOf("aged", "limits"), "agedAt", agedAt);
      await server.cli("CONFIG", "RESETSTAT");
      await log.append("aged", [entry("c")], aged);
      expect((await callsOf("xtrim")).xtrim).toBeGreaterThan(0);
    }
  });

  test("a full Redis refuses an append whole, and remembers none of its ids", async () => {
    const full = await startRedis();
    try {
      const { log } = await openPorts(full);
      await log.append("oom", [once("a")], ROOMY);
      await full.cli("CONFIG", "SET", "maxmemory", "1");
      const refused = log.append("oom", [once("b"), once("a")], ROOMY);
      await expect(refused).rejects.toMatchObject({ code: "OUT_OF_MEMORY" });
      await expect(log.configure("oom", ROOMY)).rejects.toMatchObject({ code: "OUT_OF_MEMORY" });
      expect(await log.trim("oom")).toBe(0);
      await full.cli("CONFIG", "SET", "maxmemory", "0");
      expect(await log.append("oom", [once("b"), once("a")], ROOMY)).toMatchObject([
        { duplicate: false },
        { duplicate: true },
      ]);
      expect(await log.configure("oom", ROOMY)).toEqual(ROOMY);
      await full.cli("CONFIG", "SET", "maxmemory", "1");
      // What is stored is told all the same.
      expect(await log.configure("oom", { ...ROOMY, maxEntries: 1 })).toEqual(ROOMY);
    } finally {
      await full.stop();
    }
  });
});

describe("reading", () => {
  test("thousands of redriven messages in a row do not make a read look like the end, nor cost a call each", async () => {
    const { log, judge } = await openPorts(server);
    const key = keyOf("between", "s");
    await log.append("between", [entry("a")], ROOMY);
    for (let count = 0; count < 1_500; count += 1)
      await server.cli("XADD", key, "*", "m", "h\nx", "k", "key", "g", "group");
    await log.append("between", ["b", "c"].map(entry), ROOMY);
    let reads = 0;
    judge((args: readonly Arg[]) => {
      reads += args[0] === "XRANGE" ? 1 : 0;
      return "well";
    });
    const texts = async (max: number): Promise<string[]> =>
      (await log.read("between", { max })).map(({ data }) => Buffer.from(data).toString());
    expect(await texts(1)).toEqual(["a"]);
    expect(reads).toBe(1);
    expect(await texts(2)).toEqual(["a", "b"]);
    expect(await texts(10)).toEqual(["a", "b", "c"]);
    expect(reads).toBeLessThan(50);
  });
});
