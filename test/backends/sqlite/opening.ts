/** Files, clocks and backends for the tests of the SQLite backend. */

import { copyFileSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterEach } from "vitest";
import { type Driver, loadDriver } from "../../../src/backends/sqlite/driver.js";
import { openSqlite, openWith, type SqliteOptions } from "../../../src/backends/sqlite/index.js";
import type { Backend, GroupSettings, Retention } from "../../../src/core/backend.js";
import { type Clock, systemClock } from "../../../src/core/clock.js";

export const GROUP: GroupSettings = {
  from: "beginning",
  leaseMs: 30_000,
  maxAttempts: 3,
  maxDeadLetters: 10,
  order: "none",
  maxHeld: 1_000,
};
export const ROOMY: Retention = { maxEntries: 1_000_000, overflow: "reject" };

const undo: (() => unknown)[] = [];
afterEach(async () => {
  for (const step of undo.splice(0).reverse()) await step();
});

/** The path of a database file in a directory of its own, which goes with the test. */
export function newPath(): string {
  const dir = mkdtempSync(join(tmpdir(), "signalbox-sqlite-"));
  undo.push(() => rmSync(dir, { recursive: true, force: true }));
  return join(dir, "messages.db");
}

/** The path of a copy of a file that an earlier build wrote: by default the first of layout `sb1`. */
export function copyFixture(name: `sqlite-sb1${"" | "-1" | "-2" | "-3"}` = "sqlite-sb1"): string {
  const path = newPath();
  copyFileSync(fileURLToPath(new URL(`../../fixtures/layout/${name}.db`, import.meta.url)), path);
  return path;
}

export interface Opened {
  readonly backend: Backend;
  /** What was reported as no caller was waiting for it. */
  readonly reports: readonly string[];
}

/** Opens a backend that is closed with the test. */
export async function open(
  options: SqliteOptions,
  more: { readonly clock?: Clock; readonly namespace?: string; readonly driver?: Driver } = {},
): Promise<Opened> {
  const reports: string[] = [];
  const report = (error: unknown, where: string): void => void reports.push(`${where}: ${String(error)}`);
  const context = { namespace: more.namespace ?? "test", clock: more.clock ?? systemClock, report };
  const backend =
    more.driver === undefined ? await openSqlite(options, context) : openWith(more.driver, options, context);
  undo.push(() => backend.close());
  return { backend, reports };
}

/** The driver that the backend would load, with something done to each connection that it opens. */
export async function driverThat(
  change: (database: ReturnType<Driver["open"]>) => ReturnType<Driver["open"]>,
): Promise<Driver> {
  const driver = await loadDriver();
  return { name: driver.name, open: (path, timeout) => change(driver.open(path, timeout)) };
}

/** A connection beside the backend's, as a tool or another program has it. */
export async function connect(path: string): Promise<ReturnType<Driver["open"]>> {
  const database = (await loadDriver()).open(path, 0);
  undo.push(() => database.close());
  return database;
}
