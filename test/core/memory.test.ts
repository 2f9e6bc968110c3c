/** What the memory backend does beyond the contract that all backends share. */

import { expect, test } from "vitest";
import type { BackendContext, Broadcast } from "../../src/core/backend.js";
import { textOf } from "../../src/core/bytes.js";
import { createBroadcast } from "../../src/backends/memory/broadcast.js";
import { openMemory } from "../../src/backends/memory/index.js";
import type { MemoryQueue } from "../../src/backends/memory/memory-queue.js";
import { createQueue } from "../../src/backends/memory/queue.js";
import { DEDUPE_MAX_IDS, DEDUPE_WINDOW_MS } from "../../src/core/limits.js";
import type { Session } from "../../src/backends/memory/session.js";
import { createFakeClock } from "../../src/testing/index.js";

const clock = createFakeClock();
const context: BackendContext = { namespace: "n", clock, report: () => undefined };
const session: Session = {
  assertOpen: () => undefined,
  onClose: () => () => undefined,
  track: (create) => create(() => undefined),
};
const rules = { leaseMs: 1_000, maxAttempts: 1, maxDeadLetters: 1, order: "none", maxHeld: 1 } as const;
const entry = { header: "h", data: "x" };

test("a group that starts in the future keeps nothing that is not for it", async () => {
  const { log } = await openMemory({}, context);
  await log.createGroup("s", "later", { ...rules, from: { time: clock.now() + 60_000 } });
  const retention = { maxEntries: 2, overflow: "reject" } as const;
  for (let index = 0; index < 5; index += 1) await log.append("s", [entry], retention);
  expect((await log.stats("s")).length).toBeLessThanOrEqual(2);
});

test("a group that starts in the future misses nothing when what is not for it is dropped", async () => {
  const { log } = await openMemory({}, context);
  await log.createGroup("s", "later", { ...rules, from: { time: clock.now() + 60_000 } });
  const feed = await log.open("s", "later", "c");
  const retention = { maxEntries: 2, overflow: "drop-oldest" } as const;
  for (let index = 0; index < 5; index += 1) await log.append("s", [entry], retention);
  expect(await feed.take({ max: 10, waitMs: 0 }, [])).toMatchObject({ deliveries: [], gone: 0 });
});

const roomy = { maxEntries: 1_000, overflow: "drop-oldest" } as const;

test("an id is remembered for ten minutes, whatever else comes, and not for ever", async () => {
  const { log } = await openMemory({}, context);
  const once = async (id: string): Promise<boolean | undefined> =>
    (await log.append("s", [{ ...entry, dedupeId: id }], roomy))[0]?.duplicate;
  await once("started");
  await clock.advance(DEDUPE_WINDOW_MS - 1);
  expect(await once("id")).toBe(false);
  await clock.advance(2);
  expect(await once("other")).toBe(false);
  await clock.advance(DEDUPE_WINDOW_MS - 2);
  expect(await once("id")).toBe(true);
  await clock.advance(DEDUPE_WINDOW_MS + 1);
  expect(await once("id")).toBe(false);
  await clock.advance(2 * DEDUPE_WINDOW_MS);
  expect(await once("id")).toBe(false);
});

test("of very many ids in a short time the last hundred thousand are remembered, and at most twice as many", async () => {
  const { log } = await openMemory({}, context);
  const duplicates = async (first: number, count: number): Promise<number> => {
    const entries = Array.from({ length: count }, (_, index) => ({ ...entry, dedupeId: `id-${first + index}` }));
    return (await log.append("s", entries, roomy)).filter(({ duplicate }) => duplicate).length;
  };
  const step = 1_000;
  for (let first = 0; first < 2.5 * DEDUPE_MAX_IDS; first += step) await duplicates(first, step);
  expect(await duplicates(1.5 * DEDUPE_MAX_IDS, step)).toBe(step);
  expect(await duplicates(0, step)).toBe(0);
});

test("ages are looked at once a second, so that not every append drops what has just become too old", async () => {
  const { log } = await openMemory({}, context);
  const aging = { maxEntries: 1_000, maxAgeMs: 60_000, overflow: "drop-oldest" } as const;
  for (let appended = 0; appended < 10; appended += 1) {
    await log.append("s", [entry], aging);
    await clock.advance(100);
  }
  await clock.advance(59_000);
  // The oldest is as old as it may be; half a second later others are too old, and nobody looks.
  for (const [length, ms] of [
    [11, 500],
    [12, 500],
    [3, 0],
  ] as const) {
    await log.append("s", [entry], aging);
    expect((await log.stats("s")).length).toBe(length);
    await clock.advance(ms);
  }
});

test("a message that was redriven for a group that is no more comes to none of the same name", async () => {
  const { log } = await openMemory({}, context);
  const settings = { ...rules, from: "beginning" } as const;
  await log.createGroup("s", "g", settings);
  await log.append("s", [entry], roomy);
  const feed = await log.open("s", "g", "c");
  const { deliveries } = await feed.take({ max: 1, waitMs: 0 }, []);
  const reason = { kind: "failed", message: "" } as const;
  await feed.take(
    { max: 0, waitMs: 0 },
    deliveries.map(({ receipt }) => ({ receipt, as: "deadLetter", reason })),
  );
  expect(await log.deadLetters("s", "g").redrive(["1"])).toBe(1);
  await log.deleteGroup("s", "g");
  await log.createGroup("s", "g", settings);
  const again = await log.open("s", "g", "c");
  expect((await again.take({ max: 5, waitMs: 0 }, [])).deliveries).toHaveLength(1);
});

test("a listener that changes what it gets changes nothing for the others", async () => {
  const broadcast: Broadcast = createBroadcast(session, new Map(), context);
  const heard: string[] = [];
  for (let index = 0; index < 2; index += 1) {
    await broadcast.subscribe(index === 0 ? { channel: "c" } : { pattern: "*" }, {
      message(_, data) {
        heard.push(textOf(data));
        if (typeof data !== "string") data.fill(0);
      },
      gap: () => undefined,
    });
  }
  await broadcast.publish([
    { channel: "c", data: "text" },
    { channel: "c", data: Buffer.from("bytes") },
  ]);
  expect(heard).toEqual(["text", "text", "bytes", "bytes"]);
});

test.each(["", " 1", "0x10", "1e3", "1.0", "-1", "1-0", "99999999999999999999"])(
  "%j is no position of a stream",
  async (position) => {
    const { log } = await openMemory({}, context);
    await log.append("s", [entry], { maxEntries: 10, overflow: "reject" });
    await expect(log.read("s", { after: position, max: 1 })).rejects.toMatchObject({ code: "NOT_FOUND" });
    await expect(log.read("s", { from: position, max: 1 })).rejects.toMatchObject({ code: "NOT_FOUND" });
  },
);

test("asking for a queue does not make it", async () => {
  const queues = new Map<string, MemoryQueue>();
  const queue = createQueue(session, queues, context);
  expect(await queue.stats("q", "r")).toMatchObject({ waiting: 0, leased: 0, delayed: 0, dead: 0, expired: 0 });
  expect(await queue.deadLetters("q", "r").list({ max: 1 })).toEqual({ letters: [] });
  expect(await queue.browse("q", "r", { max: 1 })).toEqual({ items: [] });
  expect(await queue.recipients("q", { max: 1 })).toEqual({ recipients: [] });
  expect(await queue.get("q", "id")).toBeUndefined();
  expect(await queue.acknowledge("q", "r", ["id"])).toEqual([false]);
  expect([await queue.count("q", {}), await queue.remove("q", ["id"]), await queue.clear("q")]).toEqual([0, 0, 0]);
  expect(await queue.unregister("q", "r")).toBe(false);
  await queue.resume("q", "r");
  expect(queues.size).toBe(0);
});
