/** The SQLite backend: durable messages in one file, for the processes of one machine. */

import { statSync } from "node:fs";
import { resolve } from "node:path";
import type { Backend, BackendContext, Check } from "../../core/backend.js";
import { ClosedError, ConfigError, toError } from "../../core/errors.js";
import { Bell } from "./bell.js";
import { createBroadcast } from "./broadcast.js";
import { Deliveries } from "./deliveries.js";
import { type Database, type Driver, loadDriver } from "./driver.js";
import { translate } from "./errors.js";
import { createLog } from "./log.js";
import { createMembership } from "./membership.js";
import { createQueue } from "./queue.js";
import { Readers } from "./readers.js";
import { checkPath, prepareSchema, WRITE_PROBE } from "./schema.js";
import type { Store } from "./store.js";
import { BUSY_TIMEOUT_MS, Writer } from "./writer.js";

export interface SqliteOptions {
  /** A file on a local disk, made where it does not exist. Beside it lie `-wal`, `-shm` and `-bell`. */
  readonly path: string;
  /** `full`, the default, syncs each commit to the disk; with `normal` a power cut may take the last commits. */
  readonly synchronous?: "full" | "normal";
}

/** How long opening waits for other processes that set up the same file. */
const OPEN_TIMEOUT_MS = 5_000;

/**
 * @throws {ConfigError} when there is no driver, when the file cannot be used, or when a newer signalbox wrote it
 * @throws {TimeoutError} when another process keeps the file locked
 */
export async function openSqlite(options: SqliteOptions, context: BackendContext): Promise<Backend> {
  return openWith(await loadDriver(), options, context);
}

/** Opens the file with this driver, whichever others there are. */
export function openWith(driver: Driver, options: SqliteOptions, context: BackendContext): Backend {
  const synchronous = options.synchronous ?? "full";
  if (options.path === ":memory:") {
    throw new ConfigError(['SQLite\'s ":memory:" is not shared by anybody: use the URL "memory:" instead']);
  }
  const path = options.path === "" ? "" : resolve(options.path);
  checkPath(path);
  const db = openDatabase(driver, path, synchronous, context.clock.now());
  try {
    return createBackend(path, db, synchronous, context);
  } catch (error) {
    db.close();
    throw translate(error, path);
  }
}

function openDatabase(driver: Driver, path: string, synchronous: "full" | "normal", now: number): Database {
  let db: Database | undefined;
  try {
    db = driver.open(path, OPEN_TIMEOUT_MS);
    prepareSchema(db, path, synchronous, now);
    db.exec(`PRAGMA busy_timeout = ${BUSY_TIMEOUT_MS}`);
    return db;
  } catch (error) {
    db?.close();
    throw translate(error, path);
  }
}

function createBackend(path: string, db: Database, synchronous: "full" | "normal", context: BackendContext): Backend {
  const bell = new Bell(path, db, context);
  const writer = new Writer({ db, path, clock: context.clock, bell });
  const { store, close } = createStore(path, db, bell, writer, context);
  const readers = new Readers(db);
  const deliveries = new Deliveries(db);
  const readProbe = db.prepare("SELECT 1");
  const writeProbe = db.prepare(WRITE_PROBE);
  const opened = statSync(path);

  async function ping(): Promise<number> {
    store.assertOpen();
    const start = performance.now();
    store.read(() => readProbe.get());
    return performance.now() - start;
  }

  /** Somebody may have moved the file: what is written now would be found by nobody. */
  function checkFile(): Check {
    const found = statSync(path, { throwIfNoEntry: false });
    if (found?.ino === opened.ino && found.dev === opened.dev) return { name: "sqlite file", ok: true };
    return { name: "sqlite file", ok: false, error: `${path} was removed or replaced while it was open: restart` };
  }

  return {
    name: "sqlite",
    durability: synchronous === "full" ? "fsync" : "memory",
    broadcast: createBroadcast(store),
    log: createLog(store, readers, deliveries),
    queue: createQueue(store, readers, deliveries),
    membership: createMembership(store),
    ping,
    async check() {
      const start = performance.now();
      try {
        store.assertOpen();
        await writer.run(() => writeProbe.run());
        return [{ name: "sqlite", ok: true, latencyMs: performance.now() - start }, checkFile()];
      } catch (error) {
        return [{ name: "sqlite", ok: false, error: toError(error).message }];
      }
    },
    close,
  };
}

/** @returns the store, and what closes it with all that is registered there */
function createStore(
  path: string,
  db: Database,
  bell: Bell,
  writer: Store["writer"],
  context: BackendContext,
): { store: Store; close: () => Promise<void> } {
  const resources = new Set<() => Promise<void>>();
  let closing: Promise<void> | undefined;

  async function close(): Promise<void> {
    await Promise.all([...resources].map((end) => end()));
    await writer.idle();
    bell.close();
    closeDatabase();
  }

  function closeDatabase(): void {
    try {
      // Not all drivers really close while prepared statements exist: so that the file is whole without its log.
      db.prepare("PRAGMA wal_checkpoint(TRUNCATE)").get();
    } catch (error) {
      const where = `moving the write-ahead log into ${path}; what is committed is safe in ${path}-wal`;
      context.report(translate(error, path), where);
    }
    db.close();
  }

  const store: Store = {
    ...context,
    path,
    db,
    bell,
    writer,
    read(work) {
      try {
        db.exec("BEGIN");
        try {
          return work();
        } finally {
          db.exec("COMMIT");
        }
      } catch (error) {
        throw translate(error, path);
      }
    },
    assertOpen() {
      if (closing !== undefined) throw new ClosedError("the SQLite backend is closed");
    },
    onClose(end) {
      resources.add(end);
      return () => resources.delete(end);
    },
    track(create) {
      const feed = create(() => forget());
      const forget = store.onClose(() => feed.close());
      return feed;
    },
  };
  return {
    store,
    close() {
      closing ??= close();
      return closing;
    },
  };
}
