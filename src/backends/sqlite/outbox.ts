/** The bounded table of recent broadcasts, as it is written for other processes. */

import type { Destination } from "../../core/hub.js";
import type { Database } from "./driver.js";
import { text } from "./values.js";
import type { Tx } from "./writer.js";

/** What is kept for those who are slow to read it, in messages, bytes and time; beyond it they are told of a gap. */
const MAX_KEPT = 10_000;
const MAX_KEPT_BYTES = 64 * 1_024 * 1_024;
const KEPT_MS = 60_000;
/** Old messages that each call removes at least, where there are any. */
const TRIM_SLICE = 100;

/** Changes when there is something to hear from another process. */
export const BROADCASTS = "broadcasts";

export interface OwnMessage extends Destination {
  readonly data: Uint8Array;
}

/** Sharded channels are kept apart as if they were another namespace's, which no user's can be for its brace. */
export function shardedNamespace(namespace: string): string {
  return `{sharded}${namespace}`;
}

export type Outbox = (tx: Tx, messages: readonly OwnMessage[]) => void;

export function createOutbox(db: Database, namespace: string, backend: string): Outbox {
  const end = db.prepare<{ bytes: number }>(
    "SELECT bytes_before + length(data) AS bytes FROM sb1_broadcasts ORDER BY id DESC LIMIT 1",
  );
  const insert = db.prepare(
    "INSERT INTO sb1_broadcasts (namespace, origin, channel, data, at, bytes_before) VALUES (?, ?, ?, CAST(? AS BLOB), ?, ?)",
  );
  const trim = db.prepare(
    `DELETE FROM sb1_broadcasts WHERE id IN (SELECT id FROM sb1_broadcasts ORDER BY id LIMIT ?)
     AND (id <= ? OR at < ? OR bytes_before < ?)`,
  );
  return (tx, messages) => {
    let bytes = end.get()?.bytes ?? 0;
    let last = 0;
    for (const { channel, sharded, data } of messages) {
      const stored = sharded ? shardedNamespace(namespace) : namespace;
      last = insert.insert(text(stored), backend, text(channel), data.length === 0 ? "" : data, tx.now, bytes) ?? last;
      bytes += data.length;
    }
    // What was just written stays whatever its size, so that readers can tell by the numbers what they missed.
    trim.run(TRIM_SLICE + 2 * messages.length, last - MAX_KEPT, tx.now - KEPT_MS, bytes - MAX_KEPT_BYTES);
    tx.changedForOthers(BROADCASTS);
  };
}
