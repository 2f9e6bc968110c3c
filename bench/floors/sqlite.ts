/** The floor on SQLite: the bare driver with signalbox's batches, one synced commit for each. */

import type { Contender, Environment } from "../harness.js";
import {
  assertEqual,
  CONCURRENT_HANDLERS,
  payloadOf,
  type Payload,
  priorityOf,
  priorityOrder,
  streamOrder,
  Tally,
} from "../workload.js";
import { type Database, openDatabase } from "./sqlite-driver.js";

const COMMON = { name: "floor sqlite", backend: "sqlite", role: "floor", warmUp: 5_000 } as const;
/** What signalbox puts into one commit. */
const BATCH = 256;

const EVENTS_SCHEMA = `
  CREATE TABLE entries (position INTEGER PRIMARY KEY, data TEXT NOT NULL);
  CREATE TABLE cursors (name TEXT PRIMARY KEY, position INTEGER NOT NULL) WITHOUT ROWID;
  INSERT INTO cursors VALUES ('group', 0);
`;
const QUEUE_SCHEMA = `
  CREATE TABLE items (seq INTEGER PRIMARY KEY, priority INTEGER NOT NULL, lease INTEGER, data TEXT NOT NULL);
  CREATE INDEX waiting ON items (priority DESC, seq) WHERE lease IS NULL;
`;

interface StoredRow {
  readonly seq: number;
  readonly data: string;
}

function insertEvents({ db, transaction }: Database, count: number): void {
  const insert = db.prepare("INSERT INTO entries (data) VALUES (?)");
  inBatches(count, transaction, (n) => insert.run(JSON.stringify(payloadOf(n))));
}

function insertItems({ db, transaction }: Database, count: number): void {
  const insert = db.prepare("INSERT INTO items (priority, data) VALUES (?, ?)");
  inBatches(count, transaction, (n) => insert.run(priorityOf(n), JSON.stringify(payloadOf(n))));
}

function inBatches(count: number, transaction: Database["transaction"], insert: (n: number) => unknown): void {
  for (let start = 0; start < count; start += BATCH) {
    transaction(() => {
      for (let n = start; n < Math.min(count, start + BATCH); n += 1) insert(n);
    });
  }
}

function publishing(table: "entries" | "items"): Contender {
  const [schema, insert] = table === "entries" ? [EVENTS_SCHEMA, insertEvents] : [QUEUE_SCHEMA, insertItems];
  return {
    ...COMMON,
    is: `bare driver, ${BATCH} inserts for each synced commit`,
    async prepare(environment, count) {
      const database = await openDatabase(environment, schema);
      return {
        run: async () => insert(database, count),
        async verify() {
          const row = database.db.prepare(`SELECT count(*) AS count FROM ${table}`).get() as { count: number };
          assertEqual("rows stored", row.count, count);
        },
        close: async () => database.close(),
      };
    },
  };
}

export const sqliteEventsPublish: Contender = publishing("entries");
export const sqliteQueuePublish: Contender = publishing("items");

/** Reads the next batch, runs the handlers, moves the cursor in a synced commit. */
export const sqliteEventsDrain: Contender = {
  ...COMMON,
  is: "bare driver, one synced commit for each 200 handled",
  async prepare(environment, count) {
    const database = await filled(environment, EVENTS_SCHEMA, insertEvents, count);
    const { db, transaction } = database;
    const next = db.prepare("SELECT position AS seq, data FROM entries WHERE position > ? ORDER BY position LIMIT ?");
    const move = db.prepare("UPDATE cursors SET position = ? WHERE name = 'group'");
    const tally = new Tally(count, streamOrder);
    return {
      async run() {
        for (let cursor = 0; !tally.isComplete; ) {
          // The statement names these columns.
          const rows = next.all(cursor, CONCURRENT_HANDLERS) as unknown as StoredRow[];
          await handleAll(rows, tally);
          cursor = rows.at(-1)?.seq ?? cursor;
          const handled = cursor;
          transaction(() => move.run(handled));
        }
      },
      verify: async () => tally.verify(),
      close: async () => database.close(),
    };
  },
};

/** Deletes what was handled and leases the next batch in one synced commit. */
export const sqliteQueueDrain: Contender = {
  ...COMMON,
  is: "bare driver, settles and takes 200 in one synced commit",
  async prepare(environment, count) {
    const database = await filled(environment, QUEUE_SCHEMA, insertItems, count);
    const { db, transaction } = database;
    const next = db.prepare("SELECT seq, data FROM items WHERE lease IS NULL ORDER BY priority DESC, seq LIMIT ?");
    const lease = db.prepare("UPDATE items SET lease = ? WHERE seq = ?");
    const remove = db.prepare("DELETE FROM items WHERE seq = ?");
    const tally = new Tally(count, priorityOrder(count));
    const settleAndTake = (handled: readonly StoredRow[]): StoredRow[] =>
      transaction(() => {
        for (const { seq } of handled) remove.run(seq);
        const rows = next.all(CONCURRENT_HANDLERS) as unknown as StoredRow[];
        const until = Date.now() + 30_000;
        for (const { seq } of rows) lease.run(until, seq);
        return rows;
      });
    return {
      async run() {
        let rows: StoredRow[] = [];
        while (!tally.isComplete) {
          rows = settleAndTake(rows);
          await handleAll(rows, tally);
        }
        settleAndTake(rows);
      },
      verify: async () => tally.verify(),
      close: async () => database.close(),
    };
  },
};

async function filled(
  environment: Environment,
  schema: string,
  insert: (database: Database, count: number) => void,
  count: number,
): Promise<Database> {
  const database = await openDatabase(environment, schema);
  insert(database, count);
  return database;
}

async function handleAll(rows: readonly StoredRow[], tally: Tally): Promise<void> {
  const handle = async ({ n }: Payload): Promise<void> => tally.see(n);
  // insertEvents and insertItems wrote the text.
  await Promise.all(rows.map(({ data }) => handle(JSON.parse(data) as Payload)));
}
