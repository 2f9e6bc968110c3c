/** Which SQLite driver is taken, and what is said when none can be. */

import { expect, test } from "vitest";
import {
  betterSqlite,
  type DatabaseClass,
  DRIVER_SOURCES,
  type DriverSource,
  databaseSync,
  loadDriver,
  refuseBetterSqlite,
} from "../../../src/backends/sqlite/driver.js";
import { ConfigError } from "../../../src/core/errors.js";
import { newPath } from "./opening.js";

/** A database class that answers every statement with one row. */
function fakeClass(row: Record<string, unknown>, opened: unknown[] = []): DatabaseClass {
  return class {
    constructor(...args: unknown[]) {
      opened.push(args);
    }
    exec(): void {}
    close(): void {}
    prepare(): ReturnType<InstanceType<DatabaseClass>["prepare"]> {
      return { run: () => ({ changes: 1n, lastInsertRowid: 7n }), get: () => row, all: () => [row] };
    }
  };
}

function source(name: string, load: DriverSource["load"]): DriverSource {
  return { name, load };
}

const absent = source("absent", async () => undefined);
const present = source("present", async () => databaseSync("present", fakeClass({})));

test("a driver is found, and node:sqlite comes before all others where Node has it", async () => {
  const hasBuiltin = process.getBuiltinModule("node:sqlite") !== undefined;
  expect((await loadDriver()).name).toBe(hasBuiltin ? "node:sqlite" : "@photostructure/sqlite");
  expect(DRIVER_SOURCES.map(({ name }) => name.split(" ")[0])).toEqual([
    "node:sqlite",
    "@photostructure/sqlite",
    "better-sqlite3",
  ]);
});

test("what is absent, or there and broken, is passed over for the next", async () => {
  const broken = source("broken", () => Promise.reject(new Error("wrong architecture")));
  expect((await loadDriver([absent, broken, present])).name).toBe("present");
});

test("without any driver the error names what to install, and why what was found cannot be used", async () => {
  const broken = source("broken", () => Promise.reject(new Error("wrong architecture")));
  const error = await loadDriver([absent, broken]).catch((error: unknown) => error);
  expect(error).toBeInstanceOf(ConfigError);
  expect(String(error)).toContain("npm install @photostructure/sqlite");
  expect(String(error)).toContain("broken: wrong architecture");
});

test("better-sqlite3 13 is refused where Node lacks Node-API 10, before it is loaded and ends the process", () => {
  expect(() => refuseBetterSqlite("13.2.0", "9")).toThrow(/better-sqlite3 13\.2\.0 crashes on Node/);
  expect(() => refuseBetterSqlite("13.2.0", undefined)).toThrow(ConfigError);
  expect(() => refuseBetterSqlite("13.2.0", "10")).not.toThrow();
  expect(() => refuseBetterSqlite("12.11.1", "9")).not.toThrow();
});

test("better-sqlite3's Buffers become plain bytes, and its options are its own", () => {
  const opened: unknown[] = [];
  const row = { id: 1, data: Buffer.from("abc"), none: null };
  const database = betterSqlite(fakeClass(row, opened)).open("file.db", 123);
  expect(opened).toEqual([["file.db", { timeout: 123 }]]);
  const read = database.prepare<{ data: Uint8Array }>("SELECT").get();
  expect(read?.data.constructor).toBe(Uint8Array);
  expect(read).toEqual({ id: 1, data: new Uint8Array([97, 98, 99]), none: null });
  expect(database.prepare("INSERT").run()).toBe(1);
  expect(database.prepare("INSERT").insert()).toBe(7);
});

test("the driver keeps what is put in: bytes, large integers, text of any script", async () => {
  const database = (await loadDriver()).open(newPath(), 1_000);
  database.exec("CREATE TABLE t (id INTEGER PRIMARY KEY, i INTEGER, t TEXT, b BLOB)");
  const insert = database.prepare("INSERT OR IGNORE INTO t VALUES (?, ?, ?, CAST(? AS BLOB))");
  expect(insert.insert(1, Number.MAX_SAFE_INTEGER, "ü😀", "ü")).toBe(1);
  expect(insert.insert(1, 0, "", "")).toBeUndefined();
  expect(database.prepare<{ i: number; t: string; b: Uint8Array }>("SELECT i, t, b FROM t").all()).toEqual([
    { i: Number.MAX_SAFE_INTEGER, t: "ü😀", b: new Uint8Array([0xc3, 0xbc]) },
  ]);
  database.close();
});
