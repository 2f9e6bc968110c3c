/** The tables, their layout version, and how a connection is set up. */

import { statSync } from "node:fs";
import { dirname } from "node:path";
import { ConfigError } from "../../core/errors.js";
import type { Database } from "./driver.js";

/** Which tables a file has. A change that an older build would misread takes a new name. */
export const LAYOUT = "sb1";

/**
 * An entry's row id is `stream << 40 | number`: entries of a stream lie together in the order they were appended, without
 * an index beside the table. Numbers begin at 1 and have no gaps, so that counting is subtracting.
 */
export const NUMBER_BITS = 40;
export const MAX_NUMBER: number = 2 ** NUMBER_BITS - 1;

/** Later than any lease or due time. */
export const NEVER: number = Number.MAX_SAFE_INTEGER;

/**
 * A reader is whoever deliveries belong to: a group of a stream, or a recipient of a queue. One that has been handed out
 * is a row of `leased` until it is settled; what waits for its time is a row of `parked`; `attempt` is the number of the
 * running delivery in the one, of the next in the other. Payloads lie in `entries` and `items` and are never rewritten.
 */
const TABLES = `
CREATE TABLE sb1_streams (
  id INTEGER PRIMARY KEY, namespace TEXT NOT NULL, name TEXT NOT NULL,
  first INTEGER NOT NULL, last INTEGER NOT NULL,
  UNIQUE (namespace, name)
);
CREATE TABLE sb1_entries (
  id INTEGER PRIMARY KEY, at INTEGER NOT NULL, header TEXT NOT NULL, data BLOB NOT NULL
);
CREATE TABLE sb1_queues (
  id INTEGER PRIMARY KEY, namespace TEXT NOT NULL, name TEXT NOT NULL,
  items INTEGER NOT NULL,
  UNIQUE (namespace, name)
);
CREATE TABLE sb1_items (
  seq INTEGER PRIMARY KEY, queue INTEGER NOT NULL, reader INTEGER NOT NULL, id TEXT NOT NULL,
  urgency INTEGER NOT NULL, expires_at INTEGER, header TEXT NOT NULL, data BLOB NOT NULL
);
CREATE UNIQUE INDEX sb1_items_id ON sb1_items (queue, id);
CREATE INDEX sb1_items_expiry ON sb1_items (reader, expires_at) WHERE expires_at IS NOT NULL;
CREATE INDEX sb1_items_queue_expiry ON sb1_items (queue, expires_at) WHERE expires_at IS NOT NULL;
CREATE TABLE sb1_waiting (
  reader INTEGER NOT NULL, urgency INTEGER NOT NULL, seq INTEGER NOT NULL, attempt INTEGER NOT NULL,
  PRIMARY KEY (reader, urgency, seq)
) WITHOUT ROWID;
CREATE TABLE sb1_readers (
  id INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT NOT NULL, parent INTEGER NOT NULL, name TEXT NOT NULL,
  settings TEXT, cursor INTEGER NOT NULL DEFAULT 0, not_before INTEGER NOT NULL DEFAULT 0,
  fence INTEGER NOT NULL DEFAULT 0, next_end INTEGER NOT NULL DEFAULT ${NEVER},
  items INTEGER NOT NULL DEFAULT 0, dead INTEGER NOT NULL DEFAULT 0,
  expired INTEGER NOT NULL DEFAULT 0, unreported INTEGER NOT NULL DEFAULT 0,
  UNIQUE (kind, parent, name)
);
CREATE TABLE sb1_leased (
  reader INTEGER NOT NULL, seq INTEGER NOT NULL, fence INTEGER NOT NULL, attempt INTEGER NOT NULL,
  until INTEGER NOT NULL, consumer TEXT NOT NULL,
  PRIMARY KEY (reader, seq)
) WITHOUT ROWID;
CREATE TABLE sb1_parked (
  reader INTEGER NOT NULL, seq INTEGER NOT NULL, attempt INTEGER NOT NULL, due INTEGER NOT NULL,
  PRIMARY KEY (reader, seq)
) WITHOUT ROWID;
CREATE INDEX sb1_parked_due ON sb1_parked (reader, due);
CREATE TABLE sb1_dead (
  id INTEGER PRIMARY KEY AUTOINCREMENT, reader INTEGER NOT NULL, position TEXT NOT NULL,
  header TEXT NOT NULL, data BLOB NOT NULL, attempts INTEGER NOT NULL, consumer TEXT NOT NULL,
  kind TEXT NOT NULL, message TEXT NOT NULL, stack TEXT, at INTEGER NOT NULL
);
CREATE INDEX sb1_dead_reader ON sb1_dead (reader);
CREATE TABLE sb1_broadcasts (
  id INTEGER PRIMARY KEY AUTOINCREMENT, namespace TEXT NOT NULL, origin TEXT NOT NULL, channel TEXT NOT NULL,
  data BLOB NOT NULL, at INTEGER NOT NULL, bytes_before INTEGER NOT NULL
);
CREATE TABLE sb1_listeners (
  namespace TEXT NOT NULL, backend TEXT NOT NULL, pattern INTEGER NOT NULL, target TEXT NOT NULL,
  PRIMARY KEY (namespace, backend, pattern, target)
) WITHOUT ROWID;
CREATE TABLE sb1_backends (
  backend TEXT PRIMARY KEY, seen_at INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE sb1_versions (
  name TEXT PRIMARY KEY, version INTEGER NOT NULL
) WITHOUT ROWID;
INSERT INTO sb1_versions VALUES ('listeners', 0);
`;

/**
 * What later builds have added to layout `sb1`, in this order; how many of them a file has is the version named
 * `additions`. An addition is a table, a column with a default, or an index on something new: a build that does not know it,
 * and may have the file open at the same time, goes on reading and writing what it knows. It is made at once, however
 * large the file is. What is published is never changed: it is followed by another.
 *
 * - An entry may have a `key`. The `sb1_turns` of a group with order by key are the entries with a key that it has read and
 *   not finished. The first of a key is on its way (`out`, leased or parked) or next (`ready`); the others are `held`.
 * - An entry in `sb1_redriven` is for that reader alone.
 * - `failed_at` is when a delivery first failed or was abandoned; a dead letter's is `first_failed_at`.
 * - `sb1_ids` are the ids that callers gave, with the number of the entry that had each first; `sb1_item_ids` the same of
 *   queues.
 * - A registered recipient is a reader with `registered`, its place in the order of registration. One that was forgotten is
 *   of the kind `gone` until all that it had is removed.
 * - An item for one recipient, of a queue that keeps nothing besides, names its reader. Any other names reader 0: it has a
 *   row in `sb1_records`, and one in `sb1_shares` for each recipient that has it to finish. Its deliveries are like any
 *   others. What came of it is in `sb1_ends`, where finished items are kept.
 * - An audience that is not given its shares at once is in `sb1_spreads` until it has them.
 * - Of presence: a holder is a process of the application, whose lease ends `until`; 0 once it is over. A member's `place` is
 *   the version with which it joined. Each holder has a seat of its own there; the one `given` last says what is shown. All
 *   versions come from one counter, so that none comes again. `sb1_held` has the version after each holder's last call.
 */
const ADDITIONS: readonly string[] = [
  `
ALTER TABLE sb1_streams ADD COLUMN retention TEXT;
ALTER TABLE sb1_streams ADD COLUMN aged_at INTEGER NOT NULL DEFAULT 0;
ALTER TABLE sb1_streams ADD COLUMN ids INTEGER NOT NULL DEFAULT 0;
ALTER TABLE sb1_entries ADD COLUMN key TEXT;
ALTER TABLE sb1_readers ADD COLUMN paused INTEGER NOT NULL DEFAULT 0;
ALTER TABLE sb1_readers ADD COLUMN held INTEGER NOT NULL DEFAULT 0;
ALTER TABLE sb1_readers ADD COLUMN progress_at INTEGER NOT NULL DEFAULT 0;
ALTER TABLE sb1_leased ADD COLUMN failed_at INTEGER;
ALTER TABLE sb1_parked ADD COLUMN failed_at INTEGER;
ALTER TABLE sb1_waiting ADD COLUMN failed_at INTEGER;
ALTER TABLE sb1_dead ADD COLUMN first_failed_at INTEGER;
ALTER TABLE sb1_dead ADD COLUMN key TEXT;
ALTER TABLE sb1_dead ADD COLUMN urgency INTEGER;
CREATE TABLE sb1_redriven (
  entry INTEGER PRIMARY KEY, reader INTEGER NOT NULL
);
CREATE TABLE sb1_turns (
  reader INTEGER NOT NULL, seq INTEGER NOT NULL, key TEXT NOT NULL, state TEXT NOT NULL,
  PRIMARY KEY (reader, seq)
) WITHOUT ROWID;
CREATE INDEX sb1_turns_key ON sb1_turns (reader, key);
CREATE INDEX sb1_turns_ready ON sb1_turns (reader) WHERE state = 'ready';
CREATE TABLE sb1_ids (
  stream INTEGER NOT NULL, id TEXT NOT NULL, number INTEGER NOT NULL, at INTEGER NOT NULL,
  PRIMARY KEY (stream, id)
) WITHOUT ROWID;
CREATE INDEX sb1_ids_number ON sb1_ids (stream, number);
`,
  `
ALTER TABLE sb1_queues ADD COLUMN settings TEXT;
ALTER TABLE sb1_queues ADD COLUMN records INTEGER NOT NULL DEFAULT 0;
ALTER TABLE sb1_queues ADD COLUMN recipients INTEGER NOT NULL DEFAULT 0;
ALTER TABLE sb1_queues ADD COLUMN registrations INTEGER NOT NULL DEFAULT 0;
ALTER TABLE sb1_queues ADD COLUMN spreads INTEGER NOT NULL DEFAULT 0;
ALTER TABLE sb1_queues ADD COLUMN ids INTEGER NOT NULL DEFAULT 0;
ALTER TABLE sb1_queues ADD COLUMN finished INTEGER NOT NULL DEFAULT 0;
ALTER TABLE sb1_items ADD COLUMN at INTEGER;
ALTER TABLE sb1_readers ADD COLUMN registered INTEGER;
ALTER TABLE sb1_readers ADD COLUMN audience INTEGER NOT NULL DEFAULT 0;
ALTER TABLE sb1_readers ADD COLUMN ttl_ms INTEGER NOT NULL DEFAULT 0;
ALTER TABLE sb1_readers ADD COLUMN lapses_at INTEGER;
ALTER TABLE sb1_readers ADD COLUMN dropped INTEGER NOT NULL DEFAULT 0;
ALTER TABLE sb1_readers ADD COLUMN gone INTEGER NOT NULL DEFAULT 0;
ALTER TABLE sb1_readers ADD COLUMN rounds INTEGER NOT NULL DEFAULT 0;
ALTER TABLE sb1_readers ADD COLUMN rounded INTEGER;
ALTER TABLE sb1_leased ADD COLUMN put_back_at INTEGER;
ALTER TABLE sb1_leased ADD COLUMN feed INTEGER;
ALTER TABLE sb1_parked ADD COLUMN put_back_at INTEGER;
ALTER TABLE sb1_parked ADD COLUMN urgency INTEGER;
ALTER TABLE sb1_waiting ADD COLUMN put_back_at INTEGER;
ALTER TABLE sb1_dead ADD COLUMN record INTEGER;
ALTER TABLE sb1_dead ADD COLUMN fields TEXT;
ALTER TABLE sb1_dead ADD COLUMN pushed_at INTEGER;
CREATE INDEX sb1_readers_registered ON sb1_readers (parent, registered) WHERE registered IS NOT NULL;
CREATE INDEX sb1_readers_audience ON sb1_readers (parent, registered, lapses_at) WHERE audience = 1;
CREATE INDEX sb1_readers_lapse ON sb1_readers (parent, lapses_at) WHERE lapses_at IS NOT NULL;
CREATE INDEX sb1_parked_urgency ON sb1_parked (reader, urgency, seq) WHERE urgency IS NOT NULL;
CREATE TABLE sb1_online (
  queue INTEGER NOT NULL, reader INTEGER NOT NULL, feed TEXT NOT NULL, until INTEGER NOT NULL,
  PRIMARY KEY (queue, reader, feed)
) WITHOUT ROWID;
CREATE INDEX sb1_online_until ON sb1_online (until);
CREATE TABLE sb1_shares (
  reader INTEGER NOT NULL, seq INTEGER NOT NULL, expires_at INTEGER,
  PRIMARY KEY (reader, seq)
) WITHOUT ROWID;
CREATE INDEX sb1_shares_item ON sb1_shares (seq);
CREATE INDEX sb1_shares_expiry ON sb1_shares (reader, expires_at) WHERE expires_at IS NOT NULL;
CREATE TABLE sb1_spreads (
  record INTEGER PRIMARY KEY, queue INTEGER NOT NULL, audience TEXT NOT NULL, given INTEGER NOT NULL,
  last INTEGER NOT NULL, due INTEGER
);
CREATE INDEX sb1_spreads_queue ON sb1_spreads (queue);
CREATE TABLE sb1_records (
  id INTEGER PRIMARY KEY AUTOINCREMENT, queue INTEGER NOT NULL, seq INTEGER NOT NULL, state TEXT NOT NULL,
  expires_at INTEGER, updated_at INTEGER NOT NULL, outcome TEXT, ends INTEGER NOT NULL DEFAULT 0,
  finished INTEGER, finished_at INTEGER
);
CREATE UNIQUE INDEX sb1_records_item ON sb1_records (seq);
CREATE INDEX sb1_records_queue ON sb1_records (queue, seq);
CREATE INDEX sb1_records_state ON sb1_records (queue, state, seq);
CREATE INDEX sb1_records_expiry ON sb1_records (queue, expires_at) WHERE state = 'open' AND expires_at IS NOT NULL;
CREATE INDEX sb1_records_finished ON sb1_records (queue, finished) WHERE finished IS NOT NULL;
CREATE TABLE sb1_ends (
  record INTEGER NOT NULL, recipient TEXT NOT NULL, state TEXT NOT NULL, attempts INTEGER NOT NULL, at INTEGER NOT NULL,
  PRIMARY KEY (record, recipient)
) WITHOUT ROWID;
CREATE TABLE sb1_fields (
  queue INTEGER NOT NULL, name TEXT NOT NULL, value TEXT NOT NULL, seq INTEGER NOT NULL,
  PRIMARY KEY (queue, name, value, seq)
) WITHOUT ROWID;
CREATE INDEX sb1_fields_item ON sb1_fields (seq);
CREATE TABLE sb1_item_ids (
  queue INTEGER NOT NULL, id TEXT NOT NULL, number INTEGER NOT NULL, at INTEGER NOT NULL,
  PRIMARY KEY (queue, id)
) WITHOUT ROWID;
CREATE INDEX sb1_item_ids_number ON sb1_item_ids (queue, number);
`,
  `
CREATE TABLE sb1_holders (
  id INTEGER PRIMARY KEY AUTOINCREMENT, namespace TEXT NOT NULL, name TEXT NOT NULL,
  until INTEGER NOT NULL, renewed_at INTEGER NOT NULL,
  UNIQUE (namespace, name)
);
CREATE INDEX sb1_holders_until ON sb1_holders (namespace, until);
CREATE TABLE sb1_member_groups (
  id INTEGER PRIMARY KEY AUTOINCREMENT, namespace TEXT NOT NULL, name TEXT NOT NULL,
  version INTEGER NOT NULL, members INTEGER NOT NULL,
  UNIQUE (namespace, name)
);
CREATE TABLE sb1_members (
  grp INTEGER NOT NULL, id TEXT NOT NULL, place INTEGER NOT NULL, joined_at INTEGER NOT NULL, last_seen INTEGER NOT NULL,
  PRIMARY KEY (grp, id)
) WITHOUT ROWID;
CREATE INDEX sb1_members_place ON sb1_members (grp, place);
CREATE TABLE sb1_seats (
  grp INTEGER NOT NULL, member TEXT NOT NULL, holder INTEGER NOT NULL,
  connections INTEGER NOT NULL, given INTEGER NOT NULL, meta BLOB NOT NULL,
  PRIMARY KEY (grp, member, holder)
) WITHOUT ROWID;
CREATE INDEX sb1_seats_holder ON sb1_seats (holder, grp, member);
CREATE TABLE sb1_held (
  grp INTEGER NOT NULL, holder INTEGER NOT NULL, version INTEGER NOT NULL,
  PRIMARY KEY (grp, holder)
) WITHOUT ROWID;
CREATE INDEX sb1_held_holder ON sb1_held (holder, grp);
INSERT INTO sb1_versions VALUES ('members', 0);
`,
];

/** Writes without changing anything, to see whether that works. */
export const WRITE_PROBE = "UPDATE signalbox_layout SET layout = layout";

/** @throws {ConfigError} when the path cannot be a database file, each with what to do about it */
export function checkPath(path: string): void {
  if (path === "") throw new ConfigError(['the path of the SQLite file is empty: write "sqlite:./messages.db"']);
  const parent = dirname(path);
  if (statSync(parent, { throwIfNoEntry: false })?.isDirectory() !== true) {
    throw new ConfigError([`the directory ${parent} of the SQLite file ${path} does not exist: create it first`]);
  }
  const found = statSync(path, { throwIfNoEntry: false });
  if (found?.isDirectory() === true) {
    throw new ConfigError([
      `the path of the SQLite file is a directory: ${path}; name a file in it, such as messages.db`,
    ]);
  }
}

/**
 * Sets up the connection, and makes the tables where the file has none. Tables of others in the same file are left alone.
 *
 * @param now for what an older file does not know the time of
 * @throws {ConfigError} when the file was written by a newer layout, or lies where SQLite cannot use a write-ahead log
 */
export function prepareSchema(db: Database, path: string, synchronous: "full" | "normal", now: number): void {
  const mode = db.prepare<{ journal_mode: string }>("PRAGMA journal_mode = WAL").get()?.journal_mode;
  if (mode !== "wal") {
    throw new ConfigError([
      `SQLite cannot keep a write-ahead log for ${path} (journal_mode stays "${mode}"): use a file on a local disk`,
    ]);
  }
  db.exec(`PRAGMA synchronous = ${synchronous}; PRAGMA cache_size = -16384; PRAGMA temp_store = MEMORY`);
  if (layoutOf(db) === undefined) createTables(db);
  const layout = layoutOf(db);
  if (layout !== LAYOUT) {
    throw new ConfigError([
      `${path} has the layout "${layout}" of a newer signalbox; this version reads "${LAYOUT}": upgrade signalbox, or use another file`,
    ]);
  }
  // SQLite opens, and even locks, what may only be read without a word.
  db.exec(`BEGIN IMMEDIATE; ${WRITE_PROBE}; ROLLBACK`);
  if (additionsOf(db) < ADDITIONS.length) addWhatIsMissing(db, now);
}

function layoutOf(db: Database): string | undefined {
  const table = db.prepare("SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'signalbox_layout'").get();
  if (table === undefined) return undefined;
  return db.prepare<{ layout: string }>("SELECT layout FROM signalbox_layout").get()?.layout;
}

function createTables(db: Database): void {
  alone(db, () => {
    // Another process may have made them while this one waited for the lock.
    if (layoutOf(db) !== undefined) return;
    db.exec(TABLES);
    db.exec(`CREATE TABLE signalbox_layout (layout TEXT NOT NULL); INSERT INTO signalbox_layout VALUES ('${LAYOUT}')`);
  });
}

/** 0 in a file of the first build; more than this build knows in that of a later one, which does no harm. */
function additionsOf(db: Database): number {
  return (
    db.prepare<{ version: number }>("SELECT version FROM sb1_versions WHERE name = 'additions'").get()?.version ?? 0
  );
}

function addWhatIsMissing(db: Database, now: number): void {
  alone(db, () => {
    // As above.
    const missing = ADDITIONS.slice(additionsOf(db));
    if (missing.length === 0) return;
    for (const addition of missing) db.exec(addition);
    db.prepare("UPDATE sb1_readers SET progress_at = ? WHERE progress_at = 0").run(now);
    db.prepare("INSERT OR IGNORE INTO sb1_versions VALUES ('upgraded_at', ?)").run(now);
    db.prepare("INSERT OR REPLACE INTO sb1_versions VALUES ('additions', ?)").run(ADDITIONS.length);
  });
}

/** Runs `change` in a transaction of its own, while no other process writes. */
function alone(db: Database, change: () => void): void {
  db.exec("BEGIN IMMEDIATE");
  try {
    change();
    db.exec("COMMIT");
  } catch (error) {
    try {
      db.exec("ROLLBACK");
    } catch {
      // SQLite has rolled back by itself where the disk failed or is full, and why is what counts.
    }
    throw error;
  }
}
