/** The SQLite driver that signalbox picks, bare. */

import type { DatabaseSync } from "@photostructure/sqlite";
import { databaseFile, removeDatabase } from "../database-files.js";
import type { Environment } from "../harness.js";

type DatabaseClass = typeof DatabaseSync;

export interface Database {
  readonly db: InstanceType<DatabaseClass>;
  /** Runs `work` between BEGIN IMMEDIATE and COMMIT. */
  transaction<T>(work: () => T): T;
  close(): void;
}

/** Opens a new file with `schema`, in WAL mode, each commit synced to the disk. */
export async function openDatabase(environment: Environment, schema: string): Promise<Database> {
  const { DatabaseSync } = await loadDriver();
  const file = databaseFile(environment, "floor");
  const db = new DatabaseSync(file);
  db.exec("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;");
  db.exec(schema);
  const begin = db.prepare("BEGIN IMMEDIATE");
  const commit = db.prepare("COMMIT");
  return {
    db,
    transaction(work) {
      begin.run();
      const result = work();
      commit.run();
      return result;
    },
    close() {
      db.close();
      removeDatabase(file);
    },
  };
}

/** Node's own where there is one, as signalbox does; both have the same interface. */
async function loadDriver(): Promise<{ readonly DatabaseSync: DatabaseClass }> {
  const builtin = process.getBuiltinModule("node:sqlite") as { DatabaseSync: DatabaseClass } | undefined;
  return builtin ?? (await import("@photostructure/sqlite"));
}
