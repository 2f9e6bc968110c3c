/** What this build adds to a file of layout sb1: without harm to what is in it, nor to older builds that have it open. */

import { afterEach, expect, test } from "vitest";
import { createFakeClock } from "../../../src/testing/fake-clock.js";
import { type Child, runChild } from "../../support/children.js";
import { GROUP as FIXTURE_GROUP, NAMESPACE, WRITTEN_AT } from "./layout-fixture.js";
import { connect, copyFixture, GROUP, newPath, open, ROOMY } from "./opening.js";
import { CONSUMER, item } from "./queueing.js";

type Connection = Awaited<ReturnType<typeof connect>>;

const running: Child[] = [];
afterEach(() => Promise.all(running.splice(0).map((child) => child.stop())));

function schemaOf(connection: Connection): unknown[] {
  return connection.prepare("SELECT name, sql FROM sqlite_schema ORDER BY name").all();
}

test("a file of layout sb1 that is opened has the tables of a new file, and opening it again changes nothing", async () => {
  const paths = [
    newPath(),
    copyFixture(),
    copyFixture("sqlite-sb1-1"),
    copyFixture("sqlite-sb1-2"),
    copyFixture("sqlite-sb1-3"),
  ];
  for (const path of paths) await (await open({ path })).backend.close();
  const [fresh, older, ...others] = await Promise.all(paths.map((path) => connect(path)));
  expect(schemaOf(older!)).toEqual(schemaOf(fresh!));
  for (const other of others) expect(schemaOf(other)).toEqual(schemaOf(fresh!));
  const version = "SELECT version FROM sb1_versions WHERE name = 'additions'";
  expect(older!.prepare(version).get()).toEqual({ version: 3 });
  const before = older!.prepare("PRAGMA schema_version").get();
  await open({ path: paths[1]! });
  expect(older!.prepare("PRAGMA schema_version").get()).toEqual(before);
});

test("processes that open an older file at the same moment all can use it", async () => {
  const path = copyFixture();
  const names = ["one", "two", "three", "four"];
  const script = new URL("./opening-child.ts", import.meta.url);
  const children = names.map((name) => runChild(script, { args: [path, name] }));
  running.push(...children);
  for (const child of children) await child.next((message) => "ready" in message);
  for (const child of children) child.send({ start: true });
  for (const child of children) await child.next((message) => "appended" in message);
  expect(children.flatMap(({ messages }) => messages.filter((message) => "failed" in message))).toEqual([]);
  const { log } = (await open({ path }, { namespace: NAMESPACE })).backend;
  const headers = (await log.read("orders", { max: 100 })).map(({ header }) => header);
  expect(headers.slice(-4).toSorted()).toEqual(names.toSorted());
  expect(headers).toHaveLength(10);
});

test("an addition that fails leaves the older file as it was", async () => {
  const path = copyFixture();
  const other = await connect(path);
  // Somebody's own table has the name.
  other.exec("CREATE TABLE sb1_ids (mine TEXT)");
  const before = schemaOf(other);
  await expect(open({ path })).rejects.toThrow("sb1_ids");
  expect(schemaOf(other)).toEqual(before);
  other.exec("DROP TABLE sb1_ids");
  await open({ path });
  expect(schemaOf(other).length).toBeGreaterThan(before.length);
});

test("a file to which a later build has added more is used all the same", async () => {
  const path = newPath();
  await (await open({ path })).backend.close();
  const later = await connect(path);
  later.exec(
    "ALTER TABLE sb1_entries ADD COLUMN colour TEXT; UPDATE sb1_versions SET version = 7 WHERE name = 'additions'",
  );
  const { log } = (await open({ path })).backend;
  await log.append("s", [{ header: "h", data: "d", key: "k", dedupeId: "i" }], ROOMY);
  expect(await log.read("s", { max: 10 })).toHaveLength(1);
  expect(later.prepare("SELECT version FROM sb1_versions WHERE name = 'additions'").get()).toEqual({ version: 7 });
});

/** What the build that wrote the fixture says to the file, prepared while it has the only connection. */
function olderBuild(connection: Connection) {
  const range = "reader = ? AND seq BETWEEN ? AND ? AND fence = ?";
  return {
    append: connection.prepare(
      "INSERT INTO sb1_entries (id, at, header, data) VALUES ((? << 40) | ?, ?, ?, CAST(? AS BLOB))",
    ),
    saveStream: connection.prepare("UPDATE sb1_streams SET first = ?, last = ? WHERE id = ?"),
    due: connection.prepare<{ seq: number; attempt: number }>(
      "SELECT seq, attempt FROM sb1_parked WHERE reader = ? AND due <= ? ORDER BY due, seq LIMIT ?",
    ),
    unpark: connection.prepare("DELETE FROM sb1_parked WHERE reader = ? AND seq = ?"),
    lease: connection.prepare(
      "INSERT INTO sb1_leased (reader, seq, fence, attempt, until, consumer) VALUES (?, ?, ?, ?, ?, ?)",
    ),
    acknowledge: connection.prepare(`DELETE FROM sb1_leased WHERE ${range}`),
    bury: connection.prepare(
      `INSERT INTO sb1_dead (reader, attempts, consumer, kind, message, stack, at, position, header, data)
       SELECT ?, ?, ?, ?, ?, ?, ?, position, header, data
       FROM (SELECT id & 1099511627775 AS position, header, data FROM sb1_entries WHERE id = (? << 40) | ?)`,
    ),
    saveReader: connection.prepare(
      `UPDATE sb1_readers SET cursor = ?, not_before = ?, fence = ?, next_end = ?, items = ?, dead = ?, expired = ?,
       unreported = ? WHERE id = ?`,
    ),
    letters: connection.prepare("SELECT * FROM sb1_dead WHERE reader = ? AND id > ? ORDER BY id LIMIT ?"),
    readers: connection.prepare<{ id: number; name: string }>(
      "SELECT id, name FROM sb1_readers WHERE kind = ? AND parent = ? ORDER BY id",
    ),
  };
}

test("an older build that has the file open goes on, and what it stores is read", async () => {
  const path = copyFixture();
  const clock = createFakeClock(WRITTEN_AT + 60_000);
  const older = olderBuild(await connect(path));
  const [billing] = older.readers.all("group", 1);
  expect(billing?.name).toBe("billing");
  const { log } = (await open({ path }, { clock, namespace: NAMESPACE })).backend;
  await log.pause("orders", "audit");
  // It appends, takes what is due, and parks one for good.
  older.append.run(1, 8, WRITTEN_AT + 60_000, "h", "of an older build");
  older.saveStream.run(2, 8, 1);
  expect(older.due.all(1, WRITTEN_AT + 60_000, 10)).toEqual([{ seq: 3, attempt: 2 }]);
  older.unpark.run(1, 3);
  older.lease.run(1, 3, 50, 2, WRITTEN_AT + 90_000, "older");
  older.bury.run(1, 1, "older", "failed", "no", null, WRITTEN_AT + 60_000, 1, 6);
  older.saveReader.run(8, 0, 50, WRITTEN_AT, 0, 2, 0, 0, 1);

  expect((await log.read("orders", { max: 10 })).at(-1)).toMatchObject({ position: "8", header: "h" });
  const { groups } = await log.stats("orders");
  expect(groups[0]).toMatchObject({ lag: 0, pending: 2, retrying: 0, dead: 2, settings: FIXTURE_GROUP });
  expect(groups[1]).toMatchObject({ paused: true });
  const { letters } = await log.deadLetters("orders", "billing").list({ max: 10 });
  expect(letters.map(({ position, firstFailedAt, at }) => [position, firstFailedAt - at])).toEqual([
    ["4", 0],
    ["6", 0],
  ]);
  // And it reads what this build stores.
  const [appended] = await log.append("orders", [{ header: "h", data: "new", key: "k" }], ROOMY);
  expect(appended?.position).toBe("9");
  expect(older.acknowledge.run(1, 3, 3, 50)).toBe(1);
  expect(older.letters.all(1, 0, 10)).toHaveLength(2);
});

/** What the builds before the last additions say of queues. */
function olderQueue(connection: Connection) {
  return {
    add: connection.prepare(
      `INSERT OR IGNORE INTO sb1_items (queue, reader, id, urgency, expires_at, header, data)
       VALUES (?, ?, ?, ?, ?, ?, CAST(? AS BLOB))`,
    ),
    wait: connection.prepare(
      `INSERT INTO sb1_waiting (reader, urgency, seq, attempt)
       SELECT reader, urgency, seq, 1 FROM sb1_items WHERE seq BETWEEN ? AND ?`,
    ),
    lease: connection.prepare(
      `INSERT INTO sb1_leased (reader, seq, fence, attempt, until, consumer, failed_at)
       SELECT reader, seq, ?, attempt, ?, ?, failed_at FROM sb1_waiting WHERE reader = ? AND (urgency, seq) <= (?, ?)`,
    ),
    leave: connection.prepare("DELETE FROM sb1_waiting WHERE reader = ? AND (urgency, seq) <= (?, ?)"),
    drop: connection.prepare("DELETE FROM sb1_leased WHERE reader = ? AND seq = ?"),
    park: connection.prepare("INSERT INTO sb1_parked (reader, seq, attempt, due, failed_at) VALUES (?, ?, ?, ?, ?)"),
    saveQueue: connection.prepare("UPDATE sb1_queues SET items = ? WHERE id = ?"),
    saveReader: connection.prepare(
      `UPDATE sb1_readers SET cursor = ?, not_before = ?, fence = ?, next_end = ?, items = ?, dead = ?, expired = ?,
         unreported = ?, paused = ?, held = ?, progress_at = ? WHERE id = ?`,
    ),
  };
}

test("an older build that has the file open goes on with a queue beside this one", async () => {
  const path = newPath();
  const clock = createFakeClock();
  const { queue } = (await open({ path }, { clock })).backend;
  await queue.push("q", [item("new", { priority: 1 })], { maxItems: 10 });
  const feed = await queue.open("q", "", CONSUMER);
  const older = olderQueue(await connect(path));
  // It pushes two, takes one of them and the new one, gives the new one back for a retry, and keeps the other.
  const upgraded = clock.now();
  await clock.advance(1_000);
  for (const id of ["first", "second"]) older.add.run(1, 1, id, -5, null, "h", id);
  older.wait.run(2, 3);
  older.saveQueue.run(3, 1);
  older.lease.run(1, clock.now() + 30_000, "older", 1, -5, 2);
  older.leave.run(1, -5, 2);
  older.lease.run(1, clock.now() + 30_000, "older", 1, -1, 1);
  older.leave.run(1, -1, 1);
  older.drop.run(1, 1);
  older.drop.run(1, 3);
  older.park.run(1, 1, 2, clock.now(), clock.now());
  older.park.run(1, 3, 2, clock.now() + 500, clock.now());
  older.saveReader.run(0, 0, 1, clock.now() + 30_000, 3, 0, 0, 0, 0, 0, clock.now(), 1);

  expect(await queue.stats("q", "")).toMatchObject({ waiting: 1, leased: 1, delayed: 1, oldestWaitingAt: upgraded });
  expect(await queue.get("q", "first")).toMatchObject({ at: upgraded, priority: 5, state: "open" });
  expect((await queue.browse("q", "", { max: 10 })).items.map(({ id }) => id)).toEqual(["new", "second", "first"]);
  await clock.advance(500);
  const { deliveries } = await feed.take({ max: 10, waitMs: 0 }, []);
  expect(deliveries.map(({ position, attempt }) => [position, attempt])).toEqual([
    ["second", 2],
    ["new", 2],
  ]);
  await feed.take(
    { max: 0, waitMs: 0 },
    deliveries.map(({ receipt }) => ({ receipt, as: "ack" })),
  );
  await clock.advance(30_000);
  expect((await feed.take({ max: 10, waitMs: 0 }, [])).deliveries).toMatchObject([{ position: "first", attempt: 2 }]);
  expect(await queue.count("q", {})).toBe(1);
});

test("a key whose delivery was finished by an older build is free again within a second", async () => {
  const path = newPath();
  const clock = createFakeClock();
  const { log } = (await open({ path }, { clock })).backend;
  await log.createGroup("s", "g", { ...GROUP, order: "key" });
  const entries = ["1", "2", "3"].map((data) => ({ header: "h", data, key: "k" }));
  await log.append("s", entries, ROOMY);
  const feed = await log.open("s", "g", "c");
  const { deliveries } = await feed.take({ max: 10, waitMs: 0 }, []);
  expect(deliveries.map(({ position }) => position)).toEqual(["1"]);
  const older = olderBuild(await connect(path));
  expect(older.acknowledge.run(1, 1, 1, 1)).toBe(1);
  const waiting = feed.take({ max: 10, waitMs: 10_000 }, []);
  await clock.advance(1_000);
  expect((await waiting).deliveries.map(({ position }) => position)).toEqual(["2"]);
  expect((await log.stats("s")).groups[0]).toMatchObject({ lag: 1, pending: 1, held: 1 });
});
