/** Looks a file over: whether what its tables say of queues fits together, whatever came to them. */

import type { Database } from "../../../src/backends/sqlite/driver.js";

/** Every delivery of an inbox, wherever it is. */
const DELIVERIES = `(
  SELECT reader, seq FROM sb1_waiting UNION ALL SELECT reader, seq FROM sb1_parked UNION ALL SELECT reader, seq FROM sb1_leased
)`;
const INBOXES = "(SELECT id FROM sb1_readers WHERE kind = 'inbox')";

/** A count that is kept, and the rows that it counts. */
function counted(table: string, count: string, rows: string): string {
  return `SELECT id, ${count} AS kept, (${rows}) AS counted FROM ${table} WHERE kept <> counted`;
}

/** What must not be found. */
const FAULTS: Readonly<Record<string, string>> = {
  "a queue's items": counted(
    "sb1_queues",
    "items",
    `SELECT count(*) FROM sb1_items WHERE queue = sb1_queues.id
     AND NOT EXISTS (SELECT 1 FROM sb1_records WHERE seq = sb1_items.seq AND state <> 'open')`,
  ),
  "a queue's records": counted(
    "sb1_queues",
    "records",
    "SELECT count(*) FROM sb1_records WHERE queue = sb1_queues.id AND state <> 'open'",
  ),
  "a queue's ids": counted("sb1_queues", "ids", "SELECT count(*) FROM sb1_item_ids WHERE queue = sb1_queues.id"),
  "a queue's spreads": counted("sb1_queues", "spreads", "SELECT count(*) FROM sb1_spreads WHERE queue = sb1_queues.id"),
  "a queue's recipients": counted(
    "sb1_queues",
    "recipients",
    "SELECT count(*) FROM sb1_readers WHERE parent = sb1_queues.id AND registered IS NOT NULL",
  ),
  "an inbox's items": counted("sb1_readers", "items", "SELECT count(*) FROM sb1_items WHERE reader = sb1_readers.id"),
  "an inbox's letters": counted("sb1_readers", "dead", "SELECT count(*) FROM sb1_dead WHERE reader = sb1_readers.id"),
  "an item of its recipient alone that has not one delivery": `SELECT seq FROM sb1_items AS items WHERE reader <> 0
    AND (SELECT count(*) FROM ${DELIVERIES} AS d WHERE d.reader = items.reader AND d.seq = items.seq) <> 1`,
  "a share that has not one delivery": `SELECT reader, seq FROM sb1_shares AS shares
    WHERE (SELECT count(*) FROM ${DELIVERIES} AS d WHERE d.reader = shares.reader AND d.seq = shares.seq) <> 1`,
  "a delivery of nothing": `SELECT reader, seq FROM ${DELIVERIES} AS d WHERE reader IN ${INBOXES}
    AND NOT EXISTS (SELECT 1 FROM sb1_items WHERE seq = d.seq AND reader = d.reader)
    AND NOT EXISTS (SELECT 1 FROM sb1_shares WHERE seq = d.seq AND reader = d.reader)`,
  "a share without an open record": `SELECT reader, seq FROM sb1_shares AS shares
    WHERE NOT EXISTS (SELECT 1 FROM sb1_records WHERE seq = shares.seq AND state = 'open')`,
  "a record of no item, or of another queue's": `SELECT id FROM sb1_records AS records
    WHERE NOT EXISTS (SELECT 1 FROM sb1_items WHERE seq = records.seq AND queue = records.queue AND reader = 0)`,
  "an item for several without a record": `SELECT seq FROM sb1_items AS items WHERE reader = 0
    AND NOT EXISTS (SELECT 1 FROM sb1_records WHERE seq = items.seq)`,
  "an open record that nobody has to finish": `SELECT id FROM sb1_records AS records WHERE state = 'open'
    AND NOT EXISTS (SELECT 1 FROM sb1_shares WHERE seq = records.seq)
    AND NOT EXISTS (SELECT 1 FROM sb1_spreads WHERE record = records.id)`,
  "a finished record without its place": `SELECT id FROM sb1_records
    WHERE (state <> 'open') <> (finished IS NOT NULL) OR (finished IS NULL) <> (finished_at IS NULL)`,
  "an end of no record": "SELECT record FROM sb1_ends WHERE record NOT IN (SELECT id FROM sb1_records)",
  "a field of no item": "SELECT seq FROM sb1_fields WHERE seq NOT IN (SELECT seq FROM sb1_records)",
  "an item in the wrong place": `SELECT waiting.seq FROM sb1_waiting AS waiting JOIN sb1_items AS items
    ON items.seq = waiting.seq WHERE waiting.urgency <> items.urgency`,
  "something that is parked and does not say how urgent it is": `SELECT parked.seq FROM sb1_parked AS parked
    JOIN sb1_items AS items ON items.seq = parked.seq
    WHERE parked.reader IN ${INBOXES} AND parked.urgency IS NOT items.urgency`,
  "something of a reader that there is not": `SELECT reader FROM (
      SELECT reader FROM ${DELIVERIES} UNION SELECT reader FROM sb1_dead UNION SELECT reader FROM sb1_online
    ) WHERE reader NOT IN (SELECT id FROM sb1_readers)`,
};

/** What is wrong with the file: nothing, of one that is sound. */
export function faultsOf(file: Database): readonly string[] {
  return Object.entries(FAULTS).flatMap(([fault, sql]) =>
    file
      .prepare<object>(sql)
      .all()
      .map((row) => `${fault}: ${JSON.stringify(row)}`),
  );
}
