/** Where the desk keeps its ledger, and how both it and the store are removed. */

import { existsSync, readdirSync, rmSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { Failure } from "./failure.js";

/** One ledger for each store: beside an SQLite file, else in the current directory. None for memory, which keeps nothing. */
export function ledgerFileOf(url: string): string | undefined {
  if (url.startsWith("memory:")) return undefined;
  if (url.startsWith("sqlite:")) return `${sqliteFileOf(url)}.ledger`;
  // Without the credentials, which change and do not belong into a file's name.
  return `quake-desk.${url.replace(/\/\/.*@/, "//").replace(/[^a-z0-9]+/gi, "-")}.ledger`;
}

/** Removes the SQLite store and its ledger. @throws {Failure} for a file that no desk has made */
export function removeStore(url: string): void {
  const file = sqliteFileOf(url);
  if (!existsSync(file)) return;
  if (!existsSync(`${file}.ledger`)) {
    throw new Failure(`${file} has no ledger beside it, so it may not be the desk's: remove it yourself`);
  }
  // SQLite keeps further files beside the first: -wal, -shm.
  for (const name of readdirSync(dirname(file))) {
    const rest = name.startsWith(basename(file)) ? name.slice(basename(file).length) : undefined;
    if (rest === "" || rest === ".ledger" || rest?.startsWith("-")) rmSync(join(dirname(file), name));
  }
}

function sqliteFileOf(url: string): string {
  return url.slice("sqlite:".length).replace(/^\/\//, "") || "./events.db";
}
