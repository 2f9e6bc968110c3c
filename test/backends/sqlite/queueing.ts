/** What the tests of queues in a SQLite file share. */

import { type Driver, loadDriver } from "../../../src/backends/sqlite/driver.js";
import type { Feed, NewItem, Outcome, Queue, QueueConsumer } from "../../../src/core/backend.js";

export const CONSUMER: QueueConsumer = { consumer: "c", leaseMs: 30_000, maxAttempts: 3, maxDeadLetters: 1_000 };
export const WEEK_MS = 604_800_000;
export const AUDIENCE = { ttlMs: WEEK_MS, isAudience: true } as const;
export const ROOMY = { maxItems: 1_000_000 } as const;
export const FOR_ALL = { audience: "registered" } as const;

export function item(id: string, more: Partial<NewItem> = {}): NewItem {
  return { id, recipient: "", header: "h", data: id, priority: 0, delayMs: 0, ...more };
}

export function items(prefix: string, count: number, more: Partial<NewItem> = {}): NewItem[] {
  return Array.from({ length: count }, (_, index) => item(`${prefix}${index}`, more));
}

/** `r0`, `r1` …, all of an audience. */
export async function registerMany(queue: Queue, count: number, name: string = "q"): Promise<void> {
  const names = Array.from({ length: count }, (_, index) => `r${index}`);
  await Promise.all(names.map((recipient) => queue.register(name, recipient, AUDIENCE)));
}

export async function takeAll(feed: Feed, ...outcomes: readonly Outcome[]): Promise<readonly string[]> {
  return (await feed.take({ max: 1_000, waitMs: 0 }, outcomes)).deliveries.map(({ position }) => position);
}

/** Takes up to `max`, and acknowledges them. @returns how many */
export async function finish(feed: Feed, max: number): Promise<number> {
  const { deliveries } = await feed.take({ max, waitMs: 0 }, []);
  await feed.take(
    { max: 0, waitMs: 0 },
    deliveries.map(({ receipt }) => ({ receipt, as: "ack" })),
  );
  return deliveries.length;
}

/** A driver that counts, for each transaction that is committed, how many rows statements have changed that match. */
export async function countingDriver(matches: RegExp, onCommit: (count: number) => void): Promise<Driver> {
  const { name, open } = await loadDriver();
  return {
    name,
    open(path, timeout) {
      const database = open(path, timeout);
      let count = 0;
      return {
        ...database,
        prepare<Row>(sql: string) {
          const statement = database.prepare<Row>(sql);
          const counts = matches.test(sql);
          if (sql !== "COMMIT" && !counts) return statement;
          return {
            ...statement,
            run(...values) {
              const changes = statement.run(...values);
              if (counts) count += changes;
              if (sql === "COMMIT") {
                onCommit(count);
                count = 0;
              }
              return changes;
            },
          };
        },
      };
    },
  };
}
