/** Group commit: what rides together, what fails alone, and what happens when the file is locked or full. */

import { expect, test } from "vitest";
import type { Backend, Delivery, Outcome } from "../../../src/core/backend.js";
import {
  ConnectionError,
  LimitError,
  OutOfMemoryError,
  PublishIndeterminateError,
  TimeoutError,
} from "../../../src/core/errors.js";
import { createFakeClock } from "../../../src/testing/fake-clock.js";
import { until } from "../../support/wait.js";
import { connect, driverThat, GROUP, newPath, open, ROOMY } from "./opening.js";

const FULL_OF_ONE = { maxEntries: 1, overflow: "reject" } as const;

function append(backend: Backend, stream: string, ...texts: string[]): Promise<unknown> {
  const entries = texts.map((data) => ({ header: "h", data }));
  return backend.log.append(stream, entries, ROOMY);
}

function ack({ receipt }: Delivery): Outcome {
  return { receipt, as: "ack" };
}

/** A driver that counts commits, and can be told to fail the next. */
async function watched(): Promise<{
  driver: Awaited<ReturnType<typeof driverThat>>;
  commits: number;
  failNext: Error | undefined;
}> {
  const watch = {
    commits: 0,
    failNext: undefined as Error | undefined,
    driver: await driverThat((database) => ({
      ...database,
      prepare<Row>(sql: string) {
        const statement = database.prepare<Row>(sql);
        if (sql !== "COMMIT") return statement;
        return {
          ...statement,
          run(...values) {
            watch.commits += 1;
            const { failNext } = watch;
            watch.failNext = undefined;
            if (failNext !== undefined) throw failNext;
            return statement.run(...values);
          },
        };
      },
    })),
  };
  return watch;
}

test("everything that is written in one turn of the event loop rides in one commit", async () => {
  const watch = await watched();
  const { backend } = await open({ path: newPath() }, { driver: watch.driver });
  await backend.log.createGroup("s", "g", GROUP);
  const feed = await backend.log.open("s", "g", "c");
  const taken = feed.take({ max: 100, waitMs: 10_000 }, []);
  await until(() => watch.commits > 1);
  const before = watch.commits;
  await Promise.all([append(backend, "s", "1", "2"), append(backend, "s", "3"), append(backend, "t", "4")]);
  // The take that waited for them rides along as well.
  expect((await taken).deliveries).toHaveLength(3);
  expect(watch.commits - before).toBe(1);
});

test("one transaction takes about a thousand messages, and the rest waits for the next turn", async () => {
  const watch = await watched();
  const { backend } = await open({ path: newPath() }, { driver: watch.driver });
  const before = watch.commits;
  await Promise.all(Array.from({ length: 2_500 }, (_, index) => append(backend, "s", String(index))));
  expect(watch.commits - before).toBe(3);
  expect((await backend.log.read("s", { max: 3_000 })).map(({ position }) => Number(position))).toEqual(
    Array.from({ length: 2_500 }, (_, index) => index + 1),
  );
});

test("an operation that is refused does not fail those that ride with it", async () => {
  const { backend } = await open({ path: newPath() });
  await backend.log.createGroup("full", "g", GROUP);
  const full = (): Promise<unknown> => backend.log.append("full", [{ header: "h", data: "d" }], FULL_OF_ONE);
  await full();
  const results = await Promise.allSettled([append(backend, "s", "1"), full(), append(backend, "s", "2")]);
  expect(results.map(({ status }) => status)).toEqual(["fulfilled", "rejected", "fulfilled"]);
  expect(results[1]).toMatchObject({ reason: expect.any(LimitError) });
  expect(await backend.log.read("s", { max: 10 })).toHaveLength(2);
});

test("a commit whose outcome is unknown says so to those who store, and stores nothing by itself again", async () => {
  const watch = await watched();
  const { backend } = await open({ path: newPath() }, { driver: watch.driver });
  await backend.log.createGroup("s", "g", GROUP);
  const feed = await backend.log.open("s", "g", "c");
  watch.failNext = Object.assign(new Error("disk I/O error"), { errcode: 10 });
  const [stored, taken] = await Promise.allSettled([append(backend, "s", "1"), feed.take({ max: 1, waitMs: 0 }, [])]);
  expect(stored).toMatchObject({ reason: expect.any(PublishIndeterminateError) });
  expect(taken).toMatchObject({ reason: expect.any(ConnectionError) });
  await append(backend, "s", "2");
  expect(await backend.log.read("s", { max: 10 })).toHaveLength(1);
});

test("a file that another program keeps locked makes writes wait for five seconds, and then reject as retryable", async () => {
  const path = newPath();
  const [one, another] = [(await open({ path })).backend, (await open({ path })).backend];
  await append(one, "s", "1");
  const other = await connect(path);
  other.exec("BEGIN IMMEDIATE");
  let turns = 0;
  // A process that is busy besides, with two backends that wait.
  const turn = setInterval(() => {
    turns += 1;
    const until = performance.now() + 5;
    while (performance.now() < until);
  }, 0);
  const startedAt = performance.now();
  const waits = [append(one, "s", "2"), append(another, "s", "2")].map(async (waiting) => {
    const error = await waiting.catch((error: unknown) => error);
    expect(error).toBeInstanceOf(TimeoutError);
    expect(error).toMatchObject({ retryable: true });
    return performance.now() - startedAt;
  });
  for (const ms of await Promise.all(waits)) {
    expect(ms).toBeGreaterThanOrEqual(5_000);
    expect(ms).toBeLessThan(7_000);
  }
  clearInterval(turn);
  // The event loop had its turns meanwhile.
  expect(turns).toBeGreaterThan(100);
  // Reading goes on, and writing too once the lock is gone.
  expect(await one.log.read("s", { max: 10 })).toHaveLength(1);
  const waiting = append(one, "s", "3");
  await new Promise((resolve) => setImmediate(resolve));
  other.exec("ROLLBACK");
  await waiting;
  expect(await one.log.read("s", { max: 10 })).toHaveLength(2);
});

test("a full store refuses what would make it grow, and consuming goes on and makes room", async () => {
  const driver = await driverThat((database) => {
    database.exec("PRAGMA max_page_count = 120");
    return database;
  });
  const { backend, reports } = await open({ path: newPath() }, { driver });
  await backend.log.createGroup("s", "g", GROUP);
  let stored = 0;
  let refused = 0;
  while (refused === 0) {
    const results = await Promise.allSettled(Array.from({ length: 30 }, () => append(backend, "s", "x".repeat(500))));
    for (const result of results) {
      if (result.status === "fulfilled") stored += 1;
      else expect(result.reason).toBeInstanceOf(OutOfMemoryError);
    }
    refused = results.filter(({ status }) => status === "rejected").length;
  }
  expect((await backend.log.stats("s")).length).toBe(stored);
  const feed = await backend.log.open("s", "g", "c");
  let outcomes: Outcome[] = [];
  for (let taken = 0; taken < stored; ) {
    const { deliveries, lost } = await feed.take({ max: 1_000, waitMs: 0 }, outcomes);
    expect(lost).toEqual([]);
    outcomes = deliveries.map(ack);
    taken += deliveries.length;
    expect(deliveries.length).toBeGreaterThan(0);
  }
  await feed.take({ max: 0, waitMs: 0 }, outcomes);
  await backend.log.append("s", [{ header: "h", data: "x".repeat(500) }], { maxEntries: 50, overflow: "reject" });
  expect(reports).toEqual([]);
});

test("consumers that wait for nothing write nothing", async () => {
  const clock = createFakeClock();
  const path = newPath();
  const { backend } = await open({ path }, { clock });
  await backend.log.createGroup("s", "g", GROUP);
  const feeds = [
    await backend.log.open("s", "g", "c"),
    await backend.queue.open("q", "", { consumer: "c", leaseMs: 1_000, maxAttempts: 3, maxDeadLetters: 3 }),
  ];
  const other = await connect(path);
  const version = (): unknown => other.prepare("PRAGMA data_version").get();
  await clock.advance(1_000);
  const before = version();
  const taken = feeds.map((feed) => feed.take({ max: 10, waitMs: 20_000 }, []));
  await clock.advance(21_000);
  expect((await Promise.all(taken)).flatMap(({ deliveries }) => deliveries)).toEqual([]);
  expect(version()).toEqual(before);
});

test("closing waits for what is being written", async () => {
  const path = newPath();
  const { backend } = await open({ path });
  const appends = Promise.all(Array.from({ length: 3_000 }, (_, index) => append(backend, "s", String(index))));
  await Promise.all([backend.close(), backend.close()]);
  await appends;
  const again = await open({ path });
  expect((await again.backend.log.stats("s")).length).toBe(3_000);
});
