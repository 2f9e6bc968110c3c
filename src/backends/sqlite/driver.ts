/** Finds a SQLite driver and narrows it to the little of `DatabaseSync` that this backend uses. */

import { createRequire } from "node:module";
import { ConfigError, toError } from "../../core/errors.js";

/** What can be bound. Text holds no NUL: see `text` in `values.ts`. */
export type Value = null | number | string | Uint8Array;

/** A prepared statement whose parameters are plain `?`: `better-sqlite3` takes numbered ones for names. */
export interface Statement<Row> {
  all(...values: readonly Value[]): Row[];
  get(...values: readonly Value[]): Row | undefined;
  /** @returns how many rows it changed */
  run(...values: readonly Value[]): number;
  /** For an INSERT of one row. @returns its row id; undefined when it was ignored */
  insert(...values: readonly Value[]): number | undefined;
}

export interface Database {
  exec(sql: string): void;
  /** `Row` is what the statement's columns are, as `schema.ts` declares them; a BLOB is a `Uint8Array`. */
  prepare<Row>(sql: string): Statement<Row>;
  close(): void;
}

export interface Driver {
  readonly name: string;
  /** Opens the file, waiting up to `busyTimeoutMs` inside each statement while another process holds the lock. */
  open(path: string, busyTimeoutMs: number): Database;
}

/** One place where a driver may be found. */
export interface DriverSource {
  /** What to install, for the error that says that nothing was found. */
  readonly name: string;
  /** Resolves with nothing where the module is absent; rejects when it is there and cannot be used. */
  load(): Promise<Driver | undefined>;
}

interface RawStatement {
  run(...values: readonly Value[]): { readonly changes: number | bigint; readonly lastInsertRowid: number | bigint };
  get(...values: readonly Value[]): unknown;
  all(...values: readonly Value[]): unknown[];
}

interface RawDatabase {
  exec(sql: string): void;
  prepare(sql: string): RawStatement;
  close(): void;
}

/** `DatabaseSync` of `node:sqlite` and `@photostructure/sqlite`, or the class that `better-sqlite3` exports. */
export type DatabaseClass = new (path: string, options: Readonly<Record<string, unknown>>) => RawDatabase;

/** In the order of preference: what Node brings needs no install. */
export const DRIVER_SOURCES: readonly DriverSource[] = [
  {
    name: "node:sqlite (Node 22.13 or later)",
    async load() {
      // Not an import: bundlers and vitest strip the prefix of a builtin that they do not know.
      const builtin: { readonly DatabaseSync?: DatabaseClass } | undefined = process.getBuiltinModule("node:sqlite");
      return builtin?.DatabaseSync && databaseSync("node:sqlite", builtin.DatabaseSync);
    },
  },
  {
    name: "@photostructure/sqlite",
    async load() {
      const loaded = await importOptional("@photostructure/sqlite");
      if (loaded === undefined) return undefined;
      return databaseSync("@photostructure/sqlite", (loaded as { DatabaseSync: DatabaseClass }).DatabaseSync);
    },
  },
  {
    name: "better-sqlite3",
    async load() {
      const version = versionOf("better-sqlite3");
      if (version === undefined) return undefined;
      refuseBetterSqlite(version, process.versions["napi"]);
      const loaded = await importOptional("better-sqlite3");
      return loaded === undefined ? undefined : betterSqlite((loaded as { default: DatabaseClass }).default);
    },
  },
];

/**
 * Loads the first driver there is.
 *
 * @throws {ConfigError} naming what to install, and why what was found could not be used
 */
export async function loadDriver(sources: readonly DriverSource[] = DRIVER_SOURCES): Promise<Driver> {
  const failures: string[] = [];
  for (const source of sources) {
    try {
      const driver = await source.load();
      if (driver !== undefined) return driver;
    } catch (error) {
      failures.push(`${source.name}: ${toError(error).message}`);
    }
  }
  const unusable = failures.length === 0 ? "" : `; found, but unusable: ${failures.join("; ")}`;
  throw new ConfigError([
    `no SQLite driver for Node ${process.versions.node}: run "npm install @photostructure/sqlite@1.2.1", or use Node 22.13 or later, ` +
      `which brings its own. Looked for ${sources.map(({ name }) => name).join(", ")}${unusable}`,
  ]);
}

/** @throws {ConfigError} for builds of 13 and later on a Node without Node-API 10, where loading them ends the process */
export function refuseBetterSqlite(version: string, napi: string | undefined): void {
  if (Number(version.split(".")[0]) < 13 || Number(napi) >= 10) return;
  throw new ConfigError([
    `better-sqlite3 ${version} crashes on Node ${process.versions.node}, which has no Node-API 10: ` +
      'install "better-sqlite3@^12.11" or "@photostructure/sqlite@1.2.1", or use Node 22.14 or later',
  ]);
}

/** A driver with the interface of `node:sqlite`. */
export function databaseSync(name: string, DatabaseSync: DatabaseClass): Driver {
  return {
    name,
    open(path, busyTimeoutMs) {
      return narrow(
        new DatabaseSync(path, { timeout: busyTimeoutMs, enableForeignKeyConstraints: false }),
        (row) => row,
      );
    },
  };
}

/** `better-sqlite3` hands out BLOBs as Buffers. */
export function betterSqlite(Database: DatabaseClass): Driver {
  return {
    name: "better-sqlite3",
    open: (path, busyTimeoutMs) => narrow(new Database(path, { timeout: busyTimeoutMs }), withoutBuffers),
  };
}

function narrow(raw: RawDatabase, toRow: (row: unknown) => unknown): Database {
  return {
    exec: (sql) => raw.exec(sql),
    close: () => raw.close(),
    prepare<Row>(sql: string): Statement<Row> {
      const statement = raw.prepare(sql);
      // The casts state what the SQL beside each `prepare` selects; nothing else could know.
      return {
        all: (...values) => statement.all(...values).map(toRow) as Row[],
        get: (...values) => toRow(statement.get(...values)) as Row | undefined,
        run: (...values) => Number(statement.run(...values).changes),
        insert(...values) {
          const { changes, lastInsertRowid } = statement.run(...values);
          return Number(changes) === 0 ? undefined : Number(lastInsertRowid);
        },
      };
    },
  };
}

function withoutBuffers(row: unknown): unknown {
  if (typeof row !== "object" || row === null) return row;
  const plain = (value: unknown): unknown =>
    Buffer.isBuffer(value) ? new Uint8Array(value.buffer, value.byteOffset, value.byteLength) : value;
  return Object.fromEntries(Object.entries(row).map(([column, value]) => [column, plain(value)]));
}

/** Imports an optional peer; undefined where it is not installed. */
async function importOptional(name: string): Promise<unknown> {
  try {
    return await import(name);
  } catch (error) {
    if (isAbsent(error, name)) return undefined;
    throw error;
  }
}

function versionOf(name: string): string | undefined {
  try {
    const manifest: unknown = createRequire(import.meta.url)(`${name}/package.json`);
    return (manifest as { version: string }).version;
  } catch (error) {
    if (isAbsent(error, name)) return undefined;
    throw error;
  }
}

/** Whether the module itself is missing, and not something that it needs. */
function isAbsent(error: unknown, name: string): boolean {
  const { code, message } = toError(error) as NodeJS.ErrnoException;
  return (code === "ERR_MODULE_NOT_FOUND" || code === "MODULE_NOT_FOUND") && message.includes(name);
}
