/** What groups have in the file, each by itself; what becomes of them when others delete rows; who is woken, and who is not. */

import { expect, test } from "vitest";
import type { Backend, Delivery, Feed, GroupSettings, Log, NewEntry, Outcome } from "../../../src/core/backend.js";
import { createFakeClock } from "../../../src/testing/fake-clock.js";
import { until } from "../../support/wait.js";
import { connect, driverThat, GROUP, newPath, open, ROOMY } from "./opening.js";

const REASON = { kind: "failed", message: "no" } as const;

function entries(...texts: readonly string[]): NewEntry[] {
  return texts.map((data) => ({ header: "h", data, ...(data.includes(":") && { key: data.split(":")[0] ?? "" }) }));
}

function textsOf(deliveries: readonly Delivery[]): string[] {
  return deliveries.map(({ data, attempt }) => Buffer.from(data).toString() + (attempt === 1 ? "" : `#${attempt}`));
}

async function taken(feed: Feed, ...outcomes: readonly Outcome[]): Promise<readonly Delivery[]> {
  return (await feed.take({ max: 100, waitMs: 0 }, outcomes)).deliveries;
}

async function openGroup(log: Log, settings: Partial<GroupSettings> = {}): Promise<Feed> {
  await log.createGroup("s", "g", { ...GROUP, ...settings });
  return log.open("s", "g", "c");
}

test("[E35] each group has a cursor, leases and attempts of its own in the file, and what one settles is no other's", async () => {
  const path = newPath();
  const clock = createFakeClock();
  const { log } = (await open({ path }, { clock })).backend;
  await log.append("s", entries("1", "2", "3"), ROOMY);
  const feeds: Feed[] = [];
  for (const group of ["fast", "slow", "failing"]) {
    await log.createGroup("s", group, GROUP);
    feeds.push(await log.open("s", group, `of ${group}`));
  }
  const [fast, slow, failing] = feeds;
  const all = await taken(fast!);
  await taken(fast!, ...all.map(({ receipt }): Outcome => ({ receipt, as: "ack" })));
  await slow!.take({ max: 1, waitMs: 0 }, []);
  for (let attempt = 1; attempt <= 2; attempt += 1) {
    const [one] = (await failing!.take({ max: 1, waitMs: 0 }, [])).deliveries;
    const retry: Outcome = { receipt: one!.receipt, as: "retry", delayMs: 0, counted: true };
    await failing!.take({ max: 0, waitMs: 0 }, [retry]);
  }
  const file = await connect(path);
  const readers = file
    .prepare<{ id: number; name: string }>("SELECT id, name, cursor FROM sb1_readers ORDER BY id")
    .all();
  expect(readers.map(({ name, ...row }) => ({ name, ...row }))).toEqual([
    { id: 1, name: "fast", cursor: 3 },
    { id: 2, name: "slow", cursor: 1 },
    { id: 3, name: "failing", cursor: 1 },
  ]);
  expect(file.prepare("SELECT reader, seq, attempt, consumer FROM sb1_leased").all()).toEqual([
    { reader: 2, seq: 1, attempt: 1, consumer: "of slow" },
  ]);
  expect(file.prepare("SELECT reader, seq, attempt FROM sb1_parked").all()).toEqual([
    { reader: 3, seq: 1, attempt: 3 },
  ]);
  // The entries themselves were written once, and say nothing of who has handled them.
  expect(file.prepare("SELECT count(*) AS count, min(at) = max(at) AS same FROM sb1_entries").get()).toEqual({
    count: 3,
    same: 1,
  });
  expect(file.prepare("PRAGMA journal_mode").get()).toEqual({ journal_mode: "wal" });
});

test("a group is told how many entries somebody else has deleted, wherever they stood, and goes on with the rest", async () => {
  for (const order of ["none", "key", "strict"] as const) {
    const path = newPath();
    const { log } = (await open({ path }, { clock: createFakeClock() })).backend;
    const feed = await openGroup(log, { order });
    await log.append("s", entries(...Array.from({ length: 3_000 }, (_, index) => `${index}`)), ROOMY);
    const other = await connect(path);
    other.exec("DELETE FROM sb1_entries WHERE id & 1099511627775 BETWEEN 11 AND 2990");
    let gone = 0;
    const seen: string[] = [];
    for (let takes = 0; seen.length < 20 && takes < 60; takes += 1) {
      const found = await feed.take({ max: 15, waitMs: 0 }, []);
      gone += found.gone;
      seen.push(...textsOf(found.deliveries));
      const outcomes = found.deliveries.map(({ receipt }): Outcome => ({ receipt, as: "ack" }));
      gone += (await feed.take({ max: 0, waitMs: 0 }, outcomes)).gone;
    }
    expect([gone, seen.length, seen[9], seen[10], seen[19]], order).toEqual([2_980, 20, "9", "2990", "2999"]);
    expect((await log.stats("s")).groups[0], order).toMatchObject({ lag: 0, pending: 0, held: 0 });
  }
});

test("what waits for its retry, is abandoned or is held while somebody deletes its entry is gone, and frees its key", async () => {
  const path = newPath();
  const clock = createFakeClock();
  const { log } = (await open({ path }, { clock })).backend;
  const feed = await openGroup(log, { order: "key", maxAttempts: 1 });
  await log.append("s", entries("a:1", "b:1", "a:2", "b:2", "c:1", "a:3", "c:2"), ROOMY);
  const [a1] = await taken(feed);
  await feed.take({ max: 0, waitMs: 0 }, [{ receipt: a1!.receipt, as: "retry", delayMs: 1_000, counted: true }]);
  const other = await connect(path);
  // Of each key one: a retry, a held entry, and one whose consumer dies without an attempt left.
  other.exec("DELETE FROM sb1_entries WHERE id & 1099511627775 IN (1, 4, 5)");
  await clock.advance(GROUP.leaseMs + 1_000);
  const found = { gone: 0, poisoned: 0, texts: [] as string[] };
  for (let takes = 0; takes < 5; takes += 1) {
    const { gone, poisoned, deliveries } = await feed.take({ max: 10, waitMs: 0 }, []);
    found.gone += gone;
    found.poisoned += poisoned;
    found.texts.push(...textsOf(deliveries));
  }
  // `b:1` is a dead letter, and then it is the turn of `b:2`, which is gone.
  expect(found).toEqual({ gone: 3, poisoned: 1, texts: expect.arrayContaining(["a:2", "c:2"]) });
  expect(found.texts).toHaveLength(2);
  expect((await log.stats("s")).groups[0]).toMatchObject({ lag: 1, pending: 2, held: 1, retrying: 0, dead: 1 });
});

test("what is redriven to a group that starts at a time to come is given to it, and nothing that stands around it", async () => {
  const clock = createFakeClock();
  const { log } = (await open({ path: newPath() }, { clock })).backend;
  const feed = await openGroup(log, { order: "key" });
  await log.append("s", entries("k:1"), ROOMY);
  const [delivery] = await taken(feed);
  await taken(feed, { receipt: delivery!.receipt, as: "deadLetter", reason: REASON });
  await log.seek("s", "g", { time: clock.now() + 10_000 });
  await log.append("s", entries("early"), ROOMY);
  expect(await log.deadLetters("s", "g").redrive(["1"])).toBe(1);
  await log.append("s", entries("early as well"), ROOMY);
  expect(textsOf(await taken(feed))).toEqual(["k:1"]);
  expect(await taken(feed)).toEqual([]);
  await clock.advance(10_000);
  await log.append("s", entries("late"), ROOMY);
  expect(textsOf(await taken(feed))).toEqual(["late"]);
});

/** Two backends on one file, as two processes have it, and a clock that stands still. */
async function openBoth(): Promise<{ here: Backend; there: Backend }> {
  const path = newPath();
  const clock = createFakeClock();
  return { here: (await open({ path }, { clock })).backend, there: (await open({ path }, { clock })).backend };
}

test("whatever makes something available wakes a take that waits in another process, without the clock moving", async () => {
  const { here, there } = await openBoth();
  const { log } = here;
  const feed = await openGroup(log, { order: "key" });
  const waiter = await there.log.open("s", "g", "waiter");
  const steps: [string, () => Promise<unknown>][] = [
    ["resume", () => log.resume("s", "g")],
    ["seek", () => log.seek("s", "g", "beginning")],
    ["redrive", () => log.deadLetters("s", "g").redrive(["1"])],
  ];
  await log.append("s", entries("k:1"), ROOMY);
  const [one] = await taken(feed);
  await taken(feed, { receipt: one!.receipt, as: "deadLetter", reason: REASON });
  for (const [name, step] of steps) {
    if (name === "resume") {
      await log.pause("s", "g");
      await log.append("s", entries("k:2"), ROOMY);
    }
    const waiting = waiter.take({ max: 10, waitMs: 60_000 }, []);
    let woken = 0;
    void waiting.then(({ deliveries }) => {
      woken = deliveries.length;
    });
    await step();
    await until(() => woken > 0, { what: name });
    const outcomes = (await waiting).deliveries.map(({ receipt }): Outcome => ({ receipt, as: "ack" }));
    for (let more = outcomes; more.length > 0; ) {
      const { deliveries } = await waiter.take({ max: 10, waitMs: 0 }, more);
      more = deliveries.map(({ receipt }): Outcome => ({ receipt, as: "ack" }));
    }
  }
  const rejected = waiter.take({ max: 10, waitMs: 60_000 }, []).catch((error: unknown) => error);
  await log.deleteGroup("s", "g");
  expect(await rejected).toMatchObject({ code: "NOT_FOUND" });
});

test("a group's retries and keys wake its own consumers, and not those of the stream's other groups", async () => {
  const path = newPath();
  const clock = createFakeClock();
  const { log } = (await open({ path }, { clock })).backend;
  let transactions = 0;
  const driver = await driverThat((database) => ({
    ...database,
    prepare<Row>(sql: string) {
      const statement = database.prepare<Row>(sql);
      const run: typeof statement.run = (...values) => {
        transactions += 1;
        return statement.run(...values);
      };
      return sql === "BEGIN IMMEDIATE" ? { ...statement, run } : statement;
    },
  }));
  const there = (await open({ path }, { clock, driver })).backend;
  const feed = await openGroup(log, { order: "key" });
  await log.createGroup("s", "idle", { ...GROUP, from: "new" });
  const idle = await there.log.open("s", "idle", "c");
  const waiting = idle.take({ max: 1, waitMs: 60_000 }, []);
  await log.append("s", entries("k:1", "k:2", "k:3"), ROOMY);
  await waiting;
  const again = idle.take({ max: 10, waitMs: 60_000 }, []).then(() => idle.take({ max: 10, waitMs: 60_000 }, []));
  await until(async () => (await log.stats("s")).groups[1]?.lag === 0);
  const before = transactions;
  for (const as of ["retry", "ack", "deadLetter"] as const) {
    const [delivery] = await taken(feed);
    const outcomes = { retry: { delayMs: 0, counted: false }, ack: {}, deadLetter: { reason: REASON } } as const;
    await feed.take({ max: 0, waitMs: 0 }, [{ receipt: delivery!.receipt, as, ...outcomes[as] } as Outcome]);
  }
  await log.pause("s", "g");
  await log.resume("s", "g");
  // It hears the bell, in its own time.
  await log.append("s", entries("for all"), ROOMY);
  expect((await again).deliveries).toHaveLength(1);
  expect(transactions - before).toBeLessThanOrEqual(2);
});

test("consumers of a group that is paused, full or in order wait without writing, and without looking all the time", async () => {
  const path = newPath();
  const clock = createFakeClock();
  const { log } = (await open({ path }, { clock })).backend;
  const feeds: Feed[] = [];
  const held: Delivery[] = [];
  for (const [name, more] of [
    ["paused", {}],
    ["full", { order: "key", maxHeld: 1 }],
    ["strict", { order: "strict" }],
  ] as const) {
    await log.createGroup(name, "g", { ...GROUP, leaseMs: 300_000, ...more });
    await log.append(name, entries("k:1", "k:2", "k:3"), ROOMY);
    const feed = await log.open(name, "g", "c");
    held.push(...(await feed.take({ max: 1, waitMs: 0 }, [])).deliveries);
    // Reads on, as far as it may.
    if (name === "full") await feed.take({ max: 1, waitMs: 0 }, []);
    feeds.push(feed);
  }
  // A retry that is due, and a lease that ends, while nothing may be handed out.
  await feeds[0]!.take({ max: 0, waitMs: 0 }, [{ receipt: held[0]!.receipt, as: "retry", delayMs: 1, counted: true }]);
  await feeds[0]!.take({ max: 1, waitMs: 0 }, []);
  await log.pause("paused", "g");
  const other = await connect(path);
  const version = (): unknown => other.prepare("PRAGMA data_version").get();
  await clock.advance(1_000);
  const before = version();
  const waits = feeds.map((feed) => feed.take({ max: 10, waitMs: 20_000 }, []));
  await clock.advance(21_000);
  expect((await Promise.all(waits)).flatMap(({ deliveries }) => deliveries)).toEqual([]);
  expect(version()).toEqual(before);
});
