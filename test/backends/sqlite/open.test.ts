/** Which files are opened, and what is said about the others: typed, with what to do, and never rebuilt in silence. */

import { copyFileSync, mkdirSync, readFileSync, renameSync, statSync, truncateSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { expect, test } from "vitest";
import { ConfigError, TimeoutError } from "../../../src/core/errors.js";
import { createFakeClock } from "../../../src/testing/fake-clock.js";
import { runChild } from "../../support/children.js";
import { connect, driverThat, newPath, open, ROOMY } from "./opening.js";

async function refusal(path: string): Promise<unknown> {
  return open({ path }).then(
    () => "opened",
    (error: unknown) => error,
  );
}

test("a path that cannot be a file is refused with what to do", async () => {
  const path = newPath();
  mkdirSync(path);
  for (const [refused, advice] of [
    [path, "name a file in it"],
    [join(path, "missing", "messages.db"), "create it first"],
    ["", "sqlite:./messages.db"],
    [":memory:", 'use the URL "memory:"'],
  ] as const) {
    const error = await refusal(refused);
    expect(error).toBeInstanceOf(ConfigError);
    expect(String(error)).toContain(advice);
  }
});

test("an empty file becomes a database, and the file of another program keeps its tables", async () => {
  const path = newPath();
  writeFileSync(path, "");
  const other = await connect(path);
  other.exec("CREATE TABLE events (id INTEGER); INSERT INTO events VALUES (1); PRAGMA user_version = 99");
  const { backend } = await open({ path });
  await backend.log.append("s", [{ header: "h", data: "d" }], ROOMY);
  expect(other.prepare("SELECT id FROM events").all()).toEqual([{ id: 1 }]);
  expect(other.prepare("PRAGMA user_version").get()).toEqual({ user_version: 99 });
});

test("a file that is no database is refused and left as it was", async () => {
  const path = newPath();
  const text = "no database, but long enough to be taken for one\n".repeat(100);
  writeFileSync(path, text);
  const error = await refusal(path);
  expect(error).toBeInstanceOf(ConfigError);
  expect(String(error)).toContain("damaged or is no database");
  expect(readFileSync(path, "utf8")).toBe(text);
});

test("damage that shows later rejects the call that meets it, and nothing is rebuilt", async () => {
  const path = newPath();
  const { backend } = await open({ path });
  await backend.log.append("s", [{ header: "h", data: "d".repeat(50_000) }], ROOMY);
  await backend.close();
  const bytes = readFileSync(path);
  // The end of the file is where the entry's data goes on from page to page.
  const damage = bytes.length - 4_096 * 8;
  bytes.fill(0x5a, damage);
  writeFileSync(path, bytes);
  const damaged = await open({ path });
  const error = await damaged.backend.log.read("s", { max: 1 }).catch((error: unknown) => error);
  expect(error).toBeInstanceOf(ConfigError);
  expect(String(error)).toContain(".recover");
  await damaged.backend.close();
  expect(readFileSync(path).subarray(damage)).toEqual(bytes.subarray(damage));
});

test("damage that shows after the first row is damage, too, and no reason to try again", async () => {
  const path = newPath();
  const { backend } = await open({ path });
  await backend.log.append(
    "s",
    Array.from({ length: 200 }, () => ({ header: "h", data: "d".repeat(2_000) })),
    ROOMY,
  );
  await backend.close();
  const bytes = readFileSync(path);
  bytes.fill(0x5a, bytes.length - 4_096 * 50);
  writeFileSync(path, bytes);
  const damaged = await open({ path });
  expect(await damaged.backend.log.read("s", { max: 1 })).toHaveLength(1);
  const error = await damaged.backend.log.read("s", { max: 200 }).catch((error: unknown) => error);
  expect(error).toBeInstanceOf(ConfigError);
  expect(String(error)).toContain(".recover");
});

test("a file cut short is refused and not filled up", async () => {
  const path = newPath();
  const { backend } = await open({ path });
  await backend.log.append("s", [{ header: "h", data: "d".repeat(50_000) }], ROOMY);
  await backend.close();
  truncateSync(path, 4_096 * 5);
  expect(await refusal(path)).toBeInstanceOf(ConfigError);
  expect(statSync(path).size).toBe(4_096 * 5);
});

test("a newer layout is refused, and named", async () => {
  const path = newPath();
  await (await open({ path })).backend.close();
  const other = await connect(path);
  other.exec("UPDATE signalbox_layout SET layout = 'sb2'");
  const error = await refusal(path);
  expect(error).toBeInstanceOf(ConfigError);
  expect(String(error)).toContain('layout "sb2"');
  expect(String(error)).toContain("upgrade signalbox");
  expect(other.prepare("SELECT layout FROM signalbox_layout").get()).toEqual({ layout: "sb2" });
});

test("a file, or a directory, that may only be read is refused with what to do", async () => {
  const path = newPath();
  await (await open({ path })).backend.close();
  await using child = runChild(new URL("./read-only-child.ts", import.meta.url), { args: [path] });
  for (const what of ["file", "directory"]) {
    const { error } = await child.next((message) => message["what"] === what);
    expect(error).toMatch(/^ConfigError: the SQLite file cannot be (written|opened).*/);
  }
});

test("opening waits for others who set up the file, and gives up with a retryable error", async () => {
  const path = newPath();
  const other = await connect(path);
  other.exec("CREATE TABLE t (x); BEGIN EXCLUSIVE");
  const impatient = await driverThat((database) => {
    database.exec("PRAGMA busy_timeout = 10");
    return database;
  });
  const error = await open({ path }, { driver: impatient }).catch((error: unknown) => error);
  expect(error).toBeInstanceOf(TimeoutError);
  expect(error).toMatchObject({ retryable: true });
});

test("durability tells what a commit has attained", async () => {
  expect((await open({ path: newPath() })).backend.durability).toBe("fsync");
  expect((await open({ path: newPath(), synchronous: "normal" })).backend.durability).toBe("memory");
});

test("synchronous is set on the connection as asked", async () => {
  for (const [synchronous, level] of [
    ["full", 2],
    ["normal", 1],
  ] as const) {
    let seen: unknown;
    const watching = await driverThat((database) => ({
      ...database,
      close() {
        seen = database.prepare<{ synchronous: number }>("PRAGMA synchronous").get()?.synchronous;
        database.close();
      },
    }));
    await (await open({ path: newPath(), synchronous }, { driver: watching })).backend.close();
    expect(seen).toBe(level);
  }
});

test("health says that the store can be written, and notices a file that was moved away", async () => {
  const path = newPath();
  const { backend } = await open({ path }, { clock: createFakeClock() });
  expect(await backend.check()).toEqual([
    { name: "sqlite", ok: true, latencyMs: expect.any(Number) },
    { name: "sqlite file", ok: true },
  ]);
  expect(await backend.ping()).toBeGreaterThanOrEqual(0);
  renameSync(path, join(dirname(path), "moved.db"));
  copyFileSync(join(dirname(path), "moved.db"), path);
  expect((await backend.check())[1]).toMatchObject({ ok: false, error: expect.stringContaining("restart") });
  await backend.close();
  expect(await backend.check()).toEqual([{ name: "sqlite", ok: false, error: expect.stringContaining("closed") }]);
});
