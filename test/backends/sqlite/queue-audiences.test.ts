/** Items for audiences in the file: stored once, spread a little at a time, by whoever is there. */

import { expect, test } from "vitest";
import type { Queue } from "../../../src/core/backend.js";
import { createFakeClock } from "../../../src/testing/fake-clock.js";
import { runChild } from "../../support/children.js";
import { connect, newPath, open } from "./opening.js";
import { faultsOf } from "./queue-audit.js";
import {
  AUDIENCE,
  CONSUMER,
  countingDriver,
  finish,
  FOR_ALL,
  item,
  items,
  registerMany,
  ROOMY,
  takeAll,
} from "./queueing.js";

const MANY = 2_500;

async function waitingOf(queue: Queue, recipient: string): Promise<number> {
  return (await queue.stats("q", recipient)).waiting;
}

test("what is for many is stored once, and each has a row of its own until it has finished", async () => {
  const path = newPath();
  const { queue } = (await open({ path })).backend;
  await registerMany(queue, 50);
  const data = "x".repeat(10_000);
  const pushed = await queue.push("q", items("all", 20, { recipient: FOR_ALL, data }), ROOMY);
  expect(pushed.map(({ recipients }) => recipients)).toEqual(Array(20).fill(50));
  const file = await connect(path);
  const rows = (table: string): unknown => file.prepare(`SELECT count(*) AS rows FROM ${table}`).get();
  expect(rows("sb1_items")).toEqual({ rows: 20 });
  expect(rows("sb1_shares")).toEqual({ rows: 1_000 });
  for (let number = 0; number < 50; number += 1) {
    expect(await finish(await queue.open("q", `r${number}`, CONSUMER), 100)).toBe(20);
    expect(rows("sb1_items")).toEqual({ rows: number === 49 ? 0 : 20 });
  }
  expect(rows("sb1_shares")).toEqual({ rows: 0 });
  expect(faultsOf(file)).toEqual([]);
});

test("no transaction gives more than a thousand shares, however many there are, and the push waits for all", async () => {
  const path = newPath();
  const given: number[] = [];
  const driver = await countingDriver(/INTO sb1_shares/, (count) => given.push(count));
  const { queue } = (await open({ path }, { driver })).backend;
  await registerMany(queue, MANY);
  given.length = 0;
  expect(await queue.push("q", items("all", 3, { recipient: FOR_ALL }), ROOMY)).toHaveLength(3);
  expect(Math.max(...given)).toBeLessThanOrEqual(1_000);
  expect(given.reduce((sum, count) => sum + count, 0)).toBe(3 * MANY);
  for (const number of [0, 999, 1_000, MANY - 1]) expect(await waitingOf(queue, `r${number}`)).toBe(3);
  expect(faultsOf(await connect(path))).toEqual([]);
});

/** A file in which a thousand of an audience have an item, and the others have yet to get it. */
async function fileOfDeadPublisher(): Promise<string> {
  const path = newPath();
  await using child = runChild(new URL("./dying-child.ts", import.meta.url), {
    args: [path, "audience", String(MANY)],
  });
  expect((await child.exited).signal).toBe("SIGKILL");
  expect(child.messages).toEqual([]);
  const file = await connect(path);
  expect(file.prepare("SELECT count(*) AS shares FROM sb1_shares").get()).toEqual({ shares: 1_000 });
  return path;
}

test("when a publisher is killed in between, whoever takes gives the others what is for all", async () => {
  const path = await fileOfDeadPublisher();
  const { queue } = (await open({ path })).backend;
  expect(await waitingOf(queue, `r${MANY - 1}`)).toBe(0);
  // It knows of nothing, and finds it within its wait.
  const feed = await queue.open("q", `r${MANY - 1}`, CONSUMER);
  const { deliveries } = await feed.take({ max: 10, waitMs: 5_000 }, []);
  expect(deliveries.map(({ position }) => position)).toEqual(["for all"]);
  expect(await queue.push("q", [item("for all")], ROOMY)).toMatchObject([{ duplicate: true }]);
  const file = await connect(path);
  expect(file.prepare("SELECT count(*) AS shares FROM sb1_shares").get()).toEqual({ shares: MANY });
  expect(faultsOf(file)).toEqual([]);
});

test("what is removed or cleared before all have their shares reaches nobody else", async () => {
  for (const end of ["remove", "clear"] as const) {
    const path = await fileOfDeadPublisher();
    const { queue } = (await open({ path })).backend;
    const count = end === "remove" ? await queue.remove("q", ["for all"]) : await queue.clear("q");
    expect(count).toBe(1);
    const feed = await queue.open("q", `r${MANY - 1}`, CONSUMER);
    expect(await takeAll(feed)).toEqual([]);
    const file = await connect(path);
    const left = "SELECT (SELECT count(*) FROM sb1_shares) + (SELECT count(*) FROM sb1_spreads) AS rows";
    expect(file.prepare(left).get()).toEqual({ rows: 0 });
    expect(faultsOf(file)).toEqual([]);
  }
});

test("those who finish while others have yet to get their shares do not end what is for all", async () => {
  const path = newPath();
  const { queue } = (await open({ path }, { clock: createFakeClock() })).backend;
  await registerMany(queue, MANY);
  const feed = await queue.open("q", "r0", CONSUMER);
  const taking = feed.take({ max: 10, waitMs: 1_000 }, []);
  const pushing = queue.push("q", [item("for all", { recipient: FOR_ALL })], ROOMY);
  const { deliveries } = await taking;
  await feed.take(
    { max: 0, waitMs: 0 },
    deliveries.map(({ receipt }) => ({ receipt, as: "ack" })),
  );
  await pushing;
  expect((await queue.get("q", "for all"))?.recipients).toHaveLength(1_000);
  expect(await waitingOf(queue, `r${MANY - 1}`)).toBe(1);
  expect(await queue.remove("q", ["for all"])).toBe(1);
  expect(await queue.count("q", {})).toBe(0);
  expect(faultsOf(await connect(path))).toEqual([]);
});

test("an item that is for many and expired frees its id, and its recipients are told", async () => {
  const path = newPath();
  const clock = createFakeClock();
  const { queue } = (await open({ path }, { clock })).backend;
  await registerMany(queue, 1_500);
  await queue.push("q", [item("brief", { recipient: FOR_ALL, ttlMs: 1_000 })], ROOMY);
  await clock.advance(1_000);
  expect(await queue.push("q", [item("brief", { recipient: "r7" })], ROOMY)).toEqual([
    { id: "brief", duplicate: false, recipients: 1 },
  ]);
  const feed = await queue.open("q", "r7", CONSUMER);
  expect(await feed.take({ max: 5, waitMs: 0 }, [])).toMatchObject({ expired: 1, deliveries: [{ position: "brief" }] });
  expect(faultsOf(await connect(path))).toEqual([]);
});

test("who registers while an audience gets its shares is not of it", async () => {
  const path = newPath();
  const { queue } = (await open({ path })).backend;
  await registerMany(queue, MANY);
  const pushing = queue.push("q", [item("for all", { recipient: FOR_ALL })], ROOMY);
  const registering = queue.register("q", "late", AUDIENCE);
  await Promise.all([pushing, registering]);
  expect(await takeAll(await queue.open("q", "late", CONSUMER))).toEqual([]);
  expect(await waitingOf(queue, "r2400")).toBe(1);
});

test("what is for many and expired ends in transactions of a thousand, whoever asks for it first", async () => {
  const path = newPath();
  const clock = createFakeClock();
  const ended: number[] = [];
  const driver = await countingDriver(/DELETE FROM sb1_shares/, (count) => ended.push(count));
  const { queue } = (await open({ path }, { driver, clock })).backend;
  await registerMany(queue, 2_500);
  const uses = [
    async () => expect(await queue.get("q", "a")).toBeUndefined(),
    async () => expect(await queue.remove("q", ["a"])).toBe(0),
    async () => expect(await queue.push("q", [item("a")], ROOMY)).toMatchObject([{ duplicate: false }]),
    async () => {
      expect(await queue.acknowledge("q", "r7", ["a"])).toEqual([false]);
      expect(await queue.count("q", {})).toBe(0);
    },
  ];
  for (const use of uses) {
    await queue.push("q", [item("a", { recipient: FOR_ALL, ttlMs: 1_000 })], ROOMY);
    await clock.advance(1_000);
    ended.length = 0;
    await use();
    expect(Math.max(...ended), use.toString()).toBeLessThanOrEqual(1_000);
    expect(
      ended.reduce((sum, count) => sum + count, 0),
      use.toString(),
    ).toBe(2_500);
    expect((await queue.stats("q", "r7")).expired).toBeGreaterThan(0);
    await queue.remove("q", ["a"]);
  }
  expect(faultsOf(await connect(path))).toEqual([]);
});
