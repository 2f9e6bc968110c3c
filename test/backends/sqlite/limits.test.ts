/** What a stream forgets, and when: ids, entries that are too old, and how much it says to hold. */

import { expect, test } from "vitest";
import type { Log, NewEntry } from "../../../src/core/backend.js";
import { DEDUPE_MAX_IDS, DEDUPE_WINDOW_MS } from "../../../src/core/limits.js";
import { createFakeClock } from "../../../src/testing/fake-clock.js";
import { connect, GROUP, newPath, open, ROOMY } from "./opening.js";

/** Every trim leaves this many. */
const FEW = { maxEntries: 10_000, overflow: "drop-oldest" } as const;

function withIds(from: number, to: number): NewEntry[] {
  return Array.from({ length: to - from }, (_, index) => ({ header: "h", data: "d", dedupeId: `id-${from + index}` }));
}

async function appendAll(log: Log, from: number, to: number): Promise<void> {
  for (let start = from; start < to; start += 5_000)
    await log.append("s", withIds(start, Math.min(to, start + 5_000)), FEW);
}

async function isKnown(log: Log, id: number): Promise<boolean | undefined> {
  return (await log.append("s", withIds(id, id + 1), FEW))[0]?.duplicate;
}

test("of many ids the last hundred thousand are remembered, and never twice as many", async () => {
  const path = newPath();
  const { log } = (await open({ path }, { clock: createFakeClock() })).backend;
  const other = await connect(path);
  const kept = (): number =>
    other.prepare<{ count: number }>("SELECT count(*) AS count FROM sb1_ids").get()?.count ?? 0;
  await appendAll(log, 0, DEDUPE_MAX_IDS);
  expect(kept()).toBe(DEDUPE_MAX_IDS);
  expect(await isKnown(log, 0)).toBe(true);
  await appendAll(log, DEDUPE_MAX_IDS, DEDUPE_MAX_IDS + 20_000);
  expect(kept()).toBeLessThan(2 * DEDUPE_MAX_IDS);
  expect(kept()).toBeGreaterThanOrEqual(DEDUPE_MAX_IDS);
  expect(await isKnown(log, 20_000)).toBe(true);
  expect(await isKnown(log, DEDUPE_MAX_IDS + 19_999)).toBe(true);
  expect(await isKnown(log, 0)).toBe(false);
  // What is remembered is not what is stored.
  expect((await log.stats("s")).length).toBeLessThanOrEqual(FEW.maxEntries);
}, 60_000);

test("an id is remembered for ten minutes, then given anew, and the table grows empty a little at each append", async () => {
  const path = newPath();
  const clock = createFakeClock();
  const { log } = (await open({ path }, { clock })).backend;
  const other = await connect(path);
  const kept = (): unknown =>
    other.prepare("SELECT count(*) AS rows, (SELECT ids FROM sb1_streams) AS counted FROM sb1_ids").get();
  await appendAll(log, 0, 1_000);
  await clock.advance(DEDUPE_WINDOW_MS - 1);
  expect(await isKnown(log, 0)).toBe(true);
  await clock.advance(1);
  const [again] = await log.append("s", withIds(500, 501), FEW);
  expect(again).toEqual({ position: "1001", duplicate: false });
  expect(await log.append("s", withIds(500, 501), FEW)).toEqual([{ position: "1001", duplicate: true }]);
  // One append, and what it added: 102 of the old ones went.
  expect(kept()).toEqual({ rows: 898, counted: 898 });
  for (let id = 2_000; id < 2_020; id += 1) await appendAll(log, id, id + 1);
  expect(kept()).toEqual({ rows: 21, counted: 21 });
  // Appends without ids have nothing to do with it.
  await clock.advance(DEDUPE_WINDOW_MS);
  await log.append("s", [{ header: "h", data: "d" }], FEW);
  expect(kept()).toEqual({ rows: 21, counted: 21 });
});

test("age is looked at now and then: after a second or a tenth of it, by one process for all", async () => {
  const path = newPath();
  const clock = createFakeClock();
  const logs = [(await open({ path }, { clock })).backend.log, (await open({ path }, { clock })).backend.log] as const;
  const aging = { maxEntries: 100, maxAgeMs: 10_000, overflow: "reject" } as const;
  const append = async (text: string, log: Log = logs[0]): Promise<string> => {
    await log.append("s", [{ header: text, data: text }], aging);
    return (await log.read("s", { max: 100 })).map(({ header }) => header).join("");
  };
  await append("a");
  await clock.advance(500);
  await append("b");
  await clock.advance(9_501);
  expect(await append("c")).toBe("bc");
  await clock.advance(500);
  // Too old by now, but looked at half a second ago.
  expect(await append("d", logs[1])).toBe("bcd");
  await clock.advance(500);
  expect(await append("e", logs[1])).toBe("cde");
});

test("very many entries that are too old go in slices, at appends as in one trim", async () => {
  const clock = createFakeClock();
  const { log } = (await open({ path: newPath() }, { clock })).backend;
  const aging = { maxEntries: 100_000, maxAgeMs: 1_000, overflow: "reject" } as const;
  const fill = async (stream: string): Promise<void> => {
    await log.configure(stream, aging);
    for (let from = 0; from < 5_000; from += 1_000) await log.append(stream, withIds(from, from + 1_000), ROOMY);
  };
  await fill("s");
  await fill("trimmed");
  await clock.advance(1_001);
  for (let left = 4_001; left > 1; left -= 999) {
    await log.append("s", [{ header: "new", data: "d" }], ROOMY);
    expect((await log.stats("s")).length).toBe(left);
  }
  expect(await log.trim("trimmed")).toBe(5_000);
  expect((await log.stats("trimmed")).length).toBe(0);
});

test("the bytes of a long stream are reckoned from some of its entries", async () => {
  const { log } = (await open({ path: newPath() })).backend;
  let exact = 0;
  for (let batch = 0; batch < 20; batch += 1) {
    const entries = Array.from({ length: 500 }, (_, index) => ({ header: "é".repeat(10), data: "x".repeat(index) }));
    exact += entries.reduce((sum, { data }) => sum + 20 + data.length, 0);
    await log.append("s", entries, ROOMY);
  }
  const { bytes = 0, length } = await log.stats("s");
  expect(length).toBe(10_000);
  expect(Math.abs(bytes - exact) / exact).toBeLessThan(0.1);
});

test("what was redriven takes no room, and goes with what stands before it", async () => {
  const path = newPath();
  const { log } = (await open({ path }, { clock: createFakeClock() })).backend;
  const five = { maxEntries: 5, overflow: "reject" } as const;
  const append = (...texts: string[]): Promise<unknown> =>
    log.append(
      "s",
      texts.map((data) => ({ header: "h", data })),
      five,
    );
  await log.createGroup("s", "g", GROUP);
  const feed = await log.open("s", "g", "c");
  await append("1", "2", "3", "4", "5");
  const { deliveries } = await feed.take({ max: 10, waitMs: 0 }, []);
  const reason = { kind: "failed", message: "no" } as const;
  await feed.take(
    { max: 0, waitMs: 0 },
    deliveries.map(({ receipt }) => ({ receipt, as: "deadLetter", reason })),
  );
  expect(await log.deadLetters("s", "g").redrive(["1", "2", "3"])).toBe(3);
  await log.createGroup("s", "other", { ...GROUP, from: "new" });
  await append("6", "7", "8", "9");
  expect(await log.stats("s")).toMatchObject({ length: 5, oldest: { position: "5" }, newest: { position: "12" } });
  await expect(append("10", "11")).rejects.toMatchObject({ code: "LIMIT", message: expect.stringContaining('"g"') });
  const again = await feed.take({ max: 10, waitMs: 0 }, []);
  expect(again.deliveries.map(({ position }) => position)).toEqual(["6", "7", "8", "9", "10", "11", "12"]);
  await feed.take(
    { max: 0, waitMs: 0 },
    again.deliveries.map(({ receipt }) => ({ receipt, as: "ack" })),
  );
  // Makes room for two of those that count, and with them go the three that do not.
  await expect(append("10", "11")).rejects.toMatchObject({
    code: "LIMIT",
    message: expect.stringContaining('"other"'),
  });
  expect(await log.deleteGroup("s", "other")).toBe(true);
  await append("10", "11");
  expect(await log.stats("s")).toMatchObject({ length: 5, oldest: { position: "10" }, newest: { position: "14" } });
  const other = await connect(path);
  expect(other.prepare("SELECT count(*) AS count FROM sb1_redriven").get()).toEqual({ count: 0 });
});
