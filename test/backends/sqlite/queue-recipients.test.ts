/** Recipients in the file: who is online in which process, who has lapsed, and what becomes of what they had. */

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
  ROOMY,
  takeAll,
  WEEK_MS,
} from "./queueing.js";

const LISTENING = { ...CONSUMER, registration: AUDIENCE };

async function onlineOf(queue: Queue): Promise<readonly string[]> {
  const { recipients } = await queue.recipients("q", { max: 100 });
  return recipients.filter(({ isOnline }) => isOnline).map(({ recipient }) => recipient);
}

test("a feed counts as online for as long as its process lives, however long it takes nothing", async () => {
  const clock = createFakeClock();
  const path = newPath();
  const [one, other] = [
    (await open({ path }, { clock })).backend.queue,
    (await open({ path }, { clock })).backend.queue,
  ];
  const feed = await one.open("q", "ada", LISTENING);
  for (let minutes = 0; minutes < 5; minutes += 1) {
    await clock.advance(60_000);
    expect(await onlineOf(other)).toEqual(["ada"]);
  }
  await feed.close();
  expect(await onlineOf(other)).toEqual([]);
});

test("a feed whose process was killed counts for thirty seconds at most, and is forgotten by the others", async () => {
  const path = newPath();
  await using child = runChild(new URL("./listening-child.ts", import.meta.url), { args: [path, "ada"] });
  await child.next((message) => "open" in message);
  const clock = createFakeClock(Date.now());
  const { queue } = (await open({ path }, { clock })).backend;
  await queue.open("q", "bob", LISTENING);
  child.kill();
  await child.exited;
  expect(await onlineOf(queue)).toEqual(["ada", "bob"]);
  await clock.advance(30_000);
  expect(await onlineOf(queue)).toEqual(["bob"]);
  expect(await queue.push("q", [item("x", { recipient: { audience: "online" } })], ROOMY)).toMatchObject([
    { recipients: 1 },
  ]);
  await clock.advance(10_000);
  const file = await connect(path);
  expect(file.prepare("SELECT count(*) AS feeds FROM sb1_online").get()).toEqual({ feeds: 1 });
});

test("that a recipient is read is written down now and then, and exactly when its feed closes", async () => {
  const clock = createFakeClock();
  let writes = 0;
  const driver = await countingDriver(/UPDATE sb1_readers SET registered/, (count) => {
    writes += count;
  });
  const { queue } = (await open({ path: newPath() }, { clock, driver })).backend;
  const feed = await queue.open("q", "ada", LISTENING);
  writes = 0;
  for (let take = 0; take < 1_000; take += 1) {
    await clock.advance(10);
    await takeAll(feed);
  }
  expect(writes).toBeLessThanOrEqual(2);
  await feed.close();
  expect((await queue.recipients("q", { max: 1 })).recipients).toMatchObject([{ lapsesAt: clock.now() + WEEK_MS }]);
});

test("a recipient that is read lapses no sooner than it should, but for a hundredth of its time", async () => {
  const clock = createFakeClock();
  const { queue } = (await open({ path: newPath() }, { clock })).backend;
  const feed = await queue.open("q", "ada", { ...CONSUMER, registration: { ttlMs: 10_000, isAudience: true } });
  for (const passed of [99, 1, 5_000, 101]) {
    await clock.advance(passed);
    await takeAll(feed);
    const [ada] = (await queue.recipients("q", { max: 1 })).recipients;
    expect(ada?.lapsesAt).toBeGreaterThanOrEqual(clock.now() + 10_000 - 100);
  }
});

test("what a forgotten recipient had goes in slices, and nothing of it is left", async () => {
  const path = newPath();
  const removed: number[] = [];
  const driver = await countingDriver(/DELETE FROM sb1_(items|dead)/, (count) => removed.push(count));
  const { queue } = (await open({ path }, { driver, clock: createFakeClock() })).backend;
  const feed = await queue.open("q", "ada", LISTENING);
  await queue.push("q", items("dead", 600, { recipient: "ada" }), ROOMY);
  const reason = { kind: "failed", message: "no" } as const;
  const { deliveries } = await feed.take({ max: 600, waitMs: 0 }, []);
  await feed.take(
    { max: 0, waitMs: 0 },
    deliveries.map(({ receipt }) => ({ receipt, as: "deadLetter", reason })),
  );
  await queue.push("q", items("waiting", 1_200, { recipient: "ada" }), ROOMY);
  await queue.push("q", items("delayed", 300, { recipient: "ada", delayMs: 1_000 }), ROOMY);
  await queue.push("q", [item("for all", { recipient: FOR_ALL })], ROOMY);
  await feed.take({ max: 200, waitMs: 0 }, []);
  removed.length = 0;
  expect(await queue.unregister("q", "ada")).toBe(true);
  expect(Math.max(...removed)).toBeLessThanOrEqual(501);
  expect(await queue.count("q", {})).toBe(0);
  const file = await connect(path);
  for (const table of ["items", "waiting", "parked", "leased", "dead", "shares", "records", "readers"])
    expect(file.prepare(`SELECT count(*) AS rows FROM sb1_${table}`).get(), table).toEqual({ rows: 0 });
  // The feed goes on as that of a new recipient.
  expect(await takeAll(feed)).toEqual([]);
  await queue.push("q", [item("new", { recipient: "ada" })], ROOMY);
  expect(await takeAll(feed)).toEqual(["new"]);
});

test("when a process is killed while it forgets a recipient, that is forgotten, and others remove what it had", async () => {
  const path = newPath();
  await using child = runChild(new URL("./dying-child.ts", import.meta.url), { args: [path, "unregister", "1200"] });
  expect((await child.exited).signal).toBe("SIGKILL");
  const file = await connect(path);
  expect(file.prepare("SELECT count(*) AS items FROM sb1_items").get()).not.toEqual({ items: 0 });
  const { queue } = (await open({ path })).backend;
  expect(await queue.stats("q", "r")).toMatchObject({ waiting: 0 });
  // What it had holds no id, and is found by nobody.
  expect(await queue.get("q", "i1100")).toBeUndefined();
  expect(await queue.push("q", [item("i1101", { recipient: "r" })], ROOMY)).toMatchObject([{ duplicate: false }]);
  expect(await finish(await queue.open("q", "r", CONSUMER), 10)).toBe(1);
  expect(await queue.count("q", {})).toBe(0);
  expect(file.prepare("SELECT count(*) AS items FROM sb1_items").get()).toEqual({ items: 0 });
  expect(faultsOf(file)).toEqual([]);
});

test("a queue has a hundred thousand recipients, and who is one of them may register again", async () => {
  const path = newPath();
  const { queue } = (await open({ path })).backend;
  await queue.register("q", "ada", AUDIENCE);
  const file = await connect(path);
  file.exec("UPDATE sb1_queues SET recipients = 100000");
  await expect(queue.register("q", "bob", AUDIENCE)).rejects.toMatchObject({ code: "LIMIT" });
  await expect(queue.open("q", "bob", LISTENING)).rejects.toMatchObject({ code: "LIMIT" });
  await queue.register("q", "ada", { ttlMs: 5_000, isAudience: false });
  await queue.register("other", "bob", AUDIENCE);
  await queue.unregister("q", "ada");
  await queue.register("q", "bob", AUDIENCE);
  expect((await queue.recipients("q", { max: 10 })).recipients.map(({ recipient }) => recipient)).toEqual(["bob"]);
});

test("what is no cursor is refused", async () => {
  const { queue } = (await open({ path: newPath() })).backend;
  await queue.configure("q", { keepAckedMs: 0, maxRecords: 0, index: [] });
  const page = { max: 10, cursor: "no cursor" };
  for (const call of [
    () => queue.recipients("q", page),
    () => queue.browse("q", "", page),
    () => queue.list("q", {}, page),
    () => queue.deadLetters("q", "").list(page),
  ])
    await expect(call()).rejects.toMatchObject({ code: "NOT_FOUND", message: expect.stringContaining('"no cursor"') });
});
