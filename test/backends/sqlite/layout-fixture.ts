/**
 * Writes a file that later versions must still read: `tsx` this with its path. The files in `test/fixtures/layout` are kept
 * as they were written once: `sqlite-sb1.db` by a build that made no additions, which left out `writeOrdered` and
 * `writeRedriven`; `sqlite-sb1-1.db` by the first that made some, `sqlite-sb1-2.db` by the next, which came to know
 * `writeRecords`, and `sqlite-sb1-3.db` by the one after it, which came to know `writeMembers`.
 */

import { rmSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { openSqlite } from "../../../src/backends/sqlite/index.js";
import type { Delivery, GroupSettings, Log, Membership, NewItem, Queue } from "../../../src/core/backend.js";
import { createFakeClock } from "../../../src/testing/fake-clock.js";

/** When the file was written, by its clock. */
export const WRITTEN_AT: number = Date.UTC(2026, 10, 21);
export const NAMESPACE = "shop";
export const GROUP: GroupSettings = {
  from: "beginning",
  leaseMs: 30_000,
  maxAttempts: 3,
  maxDeadLetters: 10,
  order: "none",
  maxHeld: 1_000,
};
export const CONSUMER = { consumer: "fixture", leaseMs: 30_000, maxAttempts: 3, maxDeadLetters: 10 };

function item(id: string, more: Partial<NewItem> = {}): NewItem {
  return { id, recipient: "coder", header: `header of ${id}`, data: `data of ${id}`, priority: 0, delayMs: 0, ...more };
}

function held(deliveries: readonly Delivery[], position: string): string {
  return deliveries.find((delivery) => delivery.position === position)?.receipt ?? "";
}

export async function writeFixture(path: string): Promise<void> {
  const clock = createFakeClock(WRITTEN_AT);
  const report = (error: unknown): void => {
    throw error;
  };
  // Dies without a word, so that what it holds stays leased.
  const backend = await openSqlite({ path }, { namespace: NAMESPACE, clock, report });
  const { log, queue, membership } = backend;
  await writeBasics(log, queue);
  await writeOrdered(log);
  await writeRedriven(log, queue);
  await writeRecords(queue);
  await writeMembers(membership);
}

const REASON = { kind: "failed", message: "no way", stack: "somewhere" } as const;

async function writeBasics(log: Log, queue: Queue): Promise<void> {
  const retention = { maxEntries: 6, overflow: "drop-oldest" } as const;
  for (const text of ["dropped", "acked", "retried", "dead", "held", "new"]) {
    await log.append("orders", [{ header: `header of ${text}`, data: text }], retention);
  }
  await log.createGroup("orders", "billing", GROUP);
  const feed = await log.open("orders", "billing", "fixture");
  const { deliveries } = await feed.take({ max: 5, waitMs: 0 }, []);
  const reason = REASON;
  await feed.take({ max: 0, waitMs: 0 }, [
    { receipt: held(deliveries, "1"), as: "ack" },
    { receipt: held(deliveries, "2"), as: "ack" },
    { receipt: held(deliveries, "3"), as: "retry", delayMs: 5_000, counted: true },
    { receipt: held(deliveries, "4"), as: "deadLetter", reason },
  ]);
  await log.append("orders", [{ header: "header of bytes", data: new Uint8Array([0, 255, 10]) }], retention);
  await log.createGroup("orders", "audit", { ...GROUP, from: { time: WRITTEN_AT + 60_000 } });

  const items = [
    item("low"),
    item("high", { priority: 9 }),
    item("later", { delayMs: 60_000 }),
    item("brief", { ttlMs: 10_000 }),
    item("held", { priority: 99 }),
    item("dead", { priority: 98 }),
  ];
  await queue.push("tasks", items, { maxItems: 100 });
  const inbox = await queue.open("tasks", "coder", CONSUMER);
  const taken = await inbox.take({ max: 2, waitMs: 0 }, []);
  await inbox.take({ max: 0, waitMs: 0 }, [{ receipt: held(taken.deliveries, "dead"), as: "deadLetter", reason }]);
}

/** A stream with stored limits and ids, and a paused group with order by key: one of each key out, parked, ready or held. */
async function writeOrdered(log: Log): Promise<void> {
  await log.configure("ordered", { maxEntries: 100, maxAgeMs: 3_600_000, overflow: "block" });
  const entries = ["a:1", "a:2", "b:1", "b:2", "c:1", "c:2", "c:3"].map((text) => {
    return { header: `header of ${text}`, data: text, key: text.slice(0, 1), dedupeId: `id of ${text}` };
  });
  await log.append("ordered", entries, { maxEntries: 1, overflow: "reject" });
  await log.createGroup("ordered", "keys", { ...GROUP, order: "key", maxHeld: 50, types: ["one", "two"] });
  const feed = await log.open("ordered", "keys", "fixture");
  const { deliveries } = await feed.take({ max: 10, waitMs: 0 }, []);
  await feed.take({ max: 0, waitMs: 0 }, [
    { receipt: held(deliveries, "3"), as: "retry", delayMs: 5_000, counted: true },
    { receipt: held(deliveries, "5"), as: "ack" },
  ]);
  await log.pause("ordered", "keys");
}

/** A letter that failed twice, one that was put back into a stream, and one that was urgent. */
async function writeRedriven(log: Log, queue: Queue): Promise<void> {
  await log.append("redriven", [item("twice"), item("back")], { maxEntries: 10, overflow: "reject" });
  await log.createGroup("redriven", "group", GROUP);
  await log.createGroup("redriven", "other", GROUP);
  const feed = await log.open("redriven", "group", "fixture");
  for (const as of ["retry", "deadLetter"] as const) {
    const { deliveries } = await feed.take({ max: 2, waitMs: 0 }, []);
    await feed.take(
      { max: 0, waitMs: 0 },
      deliveries.map(({ receipt }) =>
        as === "retry" ? { receipt, as, delayMs: 0, counted: true } : { receipt, as, reason: REASON },
      ),
    );
  }
  const letters = log.deadLetters("redriven", "group");
  const ids = (await letters.list({ max: 10 })).letters.map(({ id }) => id);
  await letters.redrive(ids.slice(1));

  await queue.push("redriven", [item("urgent", { priority: 7 })], { maxItems: 10 });
  const inbox = await queue.open("redriven", "coder", CONSUMER);
  const { deliveries } = await inbox.take({ max: 1, waitMs: 0 }, []);
  await inbox.take({ max: 0, waitMs: 0 }, [{ receipt: held(deliveries, "urgent"), as: "deadLetter", reason: REASON }]);
}

/** Recipients, an item for all that one has finished, records by which things are found, an id that is remembered, a pause. */
async function writeRecords(queue: Queue): Promise<void> {
  const limits = { maxItems: 100 };
  const registration = { ttlMs: 3_600_000, isAudience: true };
  await queue.configure("records", { keepAckedMs: 600_000, maxRecords: 10, index: ["source"] });
  for (const recipient of ["anna", "ben"]) await queue.register("records", recipient, registration);
  await queue.register("records", "carl", { ttlMs: 60_000, isAudience: false });
  const fields = { source: "planner" };
  const pushed = [
    item("for all", { recipient: { audience: "registered" }, fields }),
    item("dead", { recipient: "anna", priority: 3, fields }),
    item("retried", { recipient: "anna", ttlMs: 300_000 }),
    item("given", { recipient: "anna", dedupe: true, fields }),
    item("later", { recipient: "ben", delayMs: 60_000, fields: { source: "other" } }),
  ];
  await queue.push("records", pushed, limits);
  const anna = await queue.open("records", "anna", { ...CONSUMER, registration });
  const { deliveries } = await anna.take({ max: 10, waitMs: 0 }, []);
  await anna.take({ max: 0, waitMs: 0 }, [
    { receipt: held(deliveries, "dead"), as: "deadLetter", reason: REASON },
    { receipt: held(deliveries, "for all"), as: "ack" },
    { receipt: held(deliveries, "given"), as: "ack" },
    { receipt: held(deliveries, "retried"), as: "retry", delayMs: 0, counted: true },
  ]);
  await queue.pause("records", "ben");
  for (const id of ["old", "new", "newer"])
    await queue.push("small", [item(id, { recipient: "dora" })], { maxItems: 2, overflow: "drop-oldest" });
}

/** Two processes that hold members in a lobby, one of them both; the first also somebody in a den. */
async function writeMembers(membership: Membership): Promise<void> {
  const limits = { maxMembers: 10 };
  for (const holder of ["first", "second"]) await membership.begin(holder, 30_000);
  const ada = { id: "ada", meta: "away", connections: 2 };
  await membership.join("lobby", "first", [ada, { id: "bob", meta: new Uint8Array([0, 255]), connections: 1 }], limits);
  await membership.join("lobby", "second", [{ id: "ada", meta: "here", connections: 1 }], limits);
  await membership.join("den", "first", [ada], limits);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const [, , path = ""] = process.argv;
  rmSync(path, { force: true });
  await writeFixture(path);
  const { loadDriver } = await import("../../../src/backends/sqlite/driver.js");
  const database = (await loadDriver()).open(path, 1_000);
  database.exec("VACUUM");
  database.prepare("PRAGMA wal_checkpoint(TRUNCATE)").get();
  // The file is whole without them.
  for (const beside of ["-wal", "-shm", "-bell"]) rmSync(`${path}${beside}`, { force: true });
  process.exit(0);
}
