/** Names of database files, and their removal with everything that a driver puts beside them. */

import { readdirSync, rmSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import type { Environment } from "./harness.js";

export function databaseFile(environment: Environment, prefix: string): string {
  return join(environment.dir, `${environment.unique(prefix)}.db`);
}

export function removeDatabase(file: string): void {
  for (const name of readdirSync(dirname(file))) {
    if (name.startsWith(basename(file))) rmSync(join(dirname(file), name), { force: true });
  }
}
