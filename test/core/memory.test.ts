/** What the memory backend does beyond the contract that all backends share. */

import { expect, test } from "vitest";
import type { BackendContext, Broadcast } from "../../src/core/backend.js";
import { createBroadcast } from "../../src/backends/memory/broadcast.js";
import { openMemory } from "../../src/backends/memory/index.js";
import { createQueue, type MemoryQueue } from "../../src/backends/memory/queue.js";
import type { Session } from "../../src/backends/memory/session.js";
import { createFakeClock } from "../../src/testing/index.js";

const clock = createFakeClock();
const context: BackendContext = { namespace: "n", clock, report: () => undefined };
const session: Session = {
  assertOpen: () => undefined,
  onClose: () => () => undefined,
  track: (create) => create(() => undefined),
};
const rules = { leaseMs: 1_000, maxAttempts: 1, maxDeadLetters: 1 };
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

test("a listener that changes what it gets changes nothing for the others", async () => {
  const broadcast: Broadcast = createBroadcast(session, new Map(), context);
  const heard: string[] = [];
  for (let index = 0; index < 2; index += 1) {
    await broadcast.subscribe(index === 0 ? { channel: "c" } : { pattern: "*" }, {
      message(_, data) {
        heard.push(Buffer.from(data).toString());
        data.fill(0);
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
  expect(await queue.stats("q", "r")).toEqual({ waiting: 0, leased: 0, delayed: 0, dead: 0, expired: 0 });
  expect(await queue.deadLetters("q", "r").list({ max: 1 })).toEqual({ letters: [] });
  expect(queues.size).toBe(0);
});
