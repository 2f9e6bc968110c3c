/** How long a stream may grow: what is stored of that, and dropping what is too old. */

import type { Retention, RetentionChanges } from "../../core/backend.js";
import { changedRetention } from "../../core/limits.js";
import { listOf, numberOf, textOf } from "./blob.js";
import type { Connection } from "./connection.js";
import type { LogKeys } from "./keys.js";
import { loadScript } from "./scripts.js";

const change = loadScript("log-limits");
const trim = loadScript("log-trim");

/** Entries that one call of the script drops. */
const AT_ONCE = "10000";

/** Stores limits where there are none, and returns those that are stored then. */
export async function configureLimits(
  { limits }: LogKeys,
  connection: Connection,
  retention: Retention,
): Promise<Retention> {
  for (;;) {
    // Asked for first, so that a full Redis goes on telling what is stored.
    const stored = await connection.command(["HGET", limits, "retention"]);
    if (stored !== null) return JSON.parse(textOf(stored)) as Retention; // As the next line wrote it.
    const words = ["HSETNX", limits, "retention", JSON.stringify(retention)];
    if (numberOf(await connection.command(words)) === 1) return retention;
  }
}

/** Changes the limits that are stored, or else `unless`, and returns those that are stored then. */
export async function changeLimits(
  { limits }: LogKeys,
  connection: Connection,
  changes: RetentionChanges,
  unless: Retention,
): Promise<Retention> {
  for (;;) {
    const stored = await connection.command(["HGET", limits, "retention"]);
    const before = stored === null ? "" : textOf(stored);
    const after = changedRetention(before === "" ? unless : (JSON.parse(before) as Retention), changes);
    if (numberOf(await change.run(connection, [limits], [before, JSON.stringify(after)])) === 1) return after;
  }
}

/** Drops what is older than the stored limits say, in short calls, and returns how many entries that were. */
export async function trimAged(keys: LogKeys, connection: Connection): Promise<number> {
  const { stream, parked, dropped, limits, paused } = keys;
  for (let trimmed = 0; ; ) {
    const reply = await trim.run(connection, [stream, parked, dropped, limits, paused], [AT_ONCE]);
    const [freed = 0, more] = listOf(reply).map(numberOf);
    trimmed += freed;
    if (more !== 1) return trimmed;
  }
}
