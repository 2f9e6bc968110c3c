/** Records in the file: what is kept costs only where it is asked for, goes in slices, and also what was there before. */

import { expect, test } from "vitest";
import type { Queue, RecordSettings } from "../../../src/core/backend.js";
import { createFakeClock } from "../../../src/testing/fake-clock.js";
import { connect, newPath, open } from "./opening.js";
import { faultsOf } from "./queue-audit.js";
import { AUDIENCE, CONSUMER, countingDriver, finish, FOR_ALL, item, items, ROOMY, takeAll } from "./queueing.js";

const KEPT: RecordSettings = { keepAckedMs: 60_000, maxRecords: 100_000, index: ["source"] };

async function finishMany(queue: Queue, prefix: string, count: number): Promise<void> {
  await queue.push("q", items(prefix, count, { fields: { source: prefix } }), ROOMY);
  const feed = await queue.open("q", "", CONSUMER);
  for (let left = count; left > 0; ) left -= await finish(feed, 1_000);
  await feed.close();
}

test("an item for one recipient has no row more than it needs, unless its queue keeps or indexes some", async () => {
  const path = newPath();
  const { queue } = (await open({ path })).backend;
  const file = await connect(path);
  const extra = (): unknown =>
    file
      .prepare(
        `SELECT (SELECT count(*) FROM sb1_records) AS records, (SELECT count(*) FROM sb1_shares) AS shares,
           (SELECT count(*) FROM sb1_fields) AS fields, (SELECT count(*) FROM sb1_item_ids) AS ids`,
      )
      .get();
  const pushed = items("i", 10, { recipient: "ada", ttlMs: 60_000, fields: { source: "s", target: "t" } });
  await queue.push("plain", pushed, ROOMY);
  await queue.configure("none", { keepAckedMs: 0, maxRecords: 10, index: undefined });
  await queue.push("none", pushed, ROOMY);
  expect(extra()).toEqual({ records: 0, shares: 0, fields: 0, ids: 0 });
  await queue.configure("q", KEPT);
  await queue.push("q", [...pushed, item("given", { dedupe: true })], ROOMY);
  expect(extra()).toEqual({ records: 11, shares: 11, fields: 10, ids: 1 });
});

test("records that are too old go some at each take and push, and are seen by nobody meanwhile", async () => {
  const path = newPath();
  const clock = createFakeClock();
  const { queue } = (await open({ path }, { clock })).backend;
  await queue.configure("q", KEPT);
  await finishMany(queue, "old", 1_000);
  await clock.advance(KEPT.keepAckedMs);
  const file = await connect(path);
  const kept = (): unknown => file.prepare("SELECT count(*) AS items FROM sb1_items").get();
  expect(kept()).toEqual({ items: 1_000 });
  expect(await queue.get("q", "old900")).toBeUndefined();
  await queue.push("q", [item("old901")], ROOMY);
  await takeAll(await queue.open("q", "", CONSUMER));
  // Two hundred at the push and at the take; and the two that were asked for, of which one is new.
  expect(kept()).toEqual({ items: 599 });
  expect(await queue.list("q", { state: "acked" }, { max: 10 })).toEqual({ items: [] });
  expect(await queue.count("q", {})).toBe(1);
  expect(kept()).toEqual({ items: 1 });
  expect(faultsOf(file)).toEqual([]);
});

test("beyond maxRecords as many go as come, in the order in which they were finished", async () => {
  const path = newPath();
  const dropped: number[] = [];
  const driver = await countingDriver(/DELETE FROM sb1_records/, (count) => dropped.push(count));
  const { queue } = (await open({ path }, { driver, clock: createFakeClock() })).backend;
  await queue.configure("q", { ...KEPT, maxRecords: 300 });
  await finishMany(queue, "a", 300);
  dropped.length = 0;
  await finishMany(queue, "b", 200);
  expect(dropped.reduce((sum, count) => sum + count, 0)).toBe(200);
  expect(await queue.count("q", {})).toBe(300);
  expect(await queue.count("q", { fields: { source: "b" } })).toBe(200);
  expect(await queue.get("q", "a199")).toBeUndefined();
  expect(await queue.get("q", "a200")).toMatchObject({ state: "acked" });
  expect(faultsOf(await connect(path))).toEqual([]);
});

test("a page ends early where very little of what it looks through is asked for, and its cursor goes on", async () => {
  const { queue } = (await open({ path: newPath() })).backend;
  await queue.configure("q", { keepAckedMs: 0, maxRecords: 0, index: ["source", "target"] });
  await queue.push("q", items("rare", 2, { fields: { source: "s", target: "rare" } }), ROOMY);
  for (let batch = 0; batch < 12; batch += 1)
    await queue.push("q", items(`${batch}-`, 1_000, { fields: { source: "s", target: "often" } }), ROOMY);
  const filter = { fields: { source: "s", target: "rare" } };
  const found: string[] = [];
  let cursor: string | undefined;
  let pages = 0;
  do {
    const page = await queue.list("q", filter, { max: 100, ...(cursor !== undefined && { cursor }) });
    found.push(...page.items.map(({ id }) => id));
    cursor = page.cursor;
    pages += 1;
  } while (cursor !== undefined);
  expect(found).toEqual(["rare1", "rare0"]);
  expect(pages).toBe(3);
  expect(await queue.count("q", filter)).toBe(2);
  expect(await queue.count("q", { ...filter, state: "acked" })).toBe(0);
});

test("of an audience a thousand ends are kept, and whoever parked it decides what it came to", async () => {
  const path = newPath();
  const { queue } = (await open({ path }, { clock: createFakeClock() })).backend;
  await queue.configure("q", KEPT);
  const names = Array.from({ length: 1_100 }, (_, index) => `r${index}`);
  await Promise.all(names.map((name) => queue.register("q", name, AUDIENCE)));
  await queue.push("q", [item("for all", { recipient: FOR_ALL })], ROOMY);
  for (const name of names.slice(1)) await queue.acknowledge("q", name, ["for all"]);
  expect((await queue.get("q", "for all"))?.recipients[0]).toMatchObject({ recipient: "r0", state: "waiting" });
  const feed = await queue.open("q", "r0", CONSUMER);
  const { deliveries } = await feed.take({ max: 1, waitMs: 0 }, []);
  const reason = { kind: "failed", message: "no" } as const;
  await feed.take({ max: 0, waitMs: 0 }, [{ receipt: deliveries[0]!.receipt, as: "deadLetter", reason }]);
  const record = await queue.get("q", "for all");
  expect(record?.state).toBe("dead");
  expect(record?.recipients).toHaveLength(1_000);
  const file = await connect(path);
  expect(file.prepare("SELECT count(*) AS ends FROM sb1_ends").get()).toEqual({ ends: 1_000 });
  const letters = queue.deadLetters("q", "r0");
  expect(await letters.redrive(["1"])).toBe(1);
  expect(await finish(feed, 10)).toBe(1);
  expect((await queue.get("q", "for all"))?.state).toBe("acked");
  expect(await queue.remove("q", ["for all"])).toBe(1);
  expect(file.prepare("SELECT count(*) AS ends FROM sb1_ends").get()).toEqual({ ends: 0 });
  expect(faultsOf(file)).toEqual([]);
});
