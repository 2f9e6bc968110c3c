/** Entries of a stream: what the scripts that append them are told, and reading them without any group. */

import type { Entry, NewEntry, Range, Retention } from "../../core/backend.js";
import type { LimitError } from "../../core/errors.js";
import { DEDUPE_MAX_IDS, DEDUPE_WINDOW_MS, streamFull } from "../../core/limits.js";
import { blobOf, fromBlob, listOf, redrivenFor, textOf, toBlob } from "./blob.js";
import type { Arg, Connection, Reply } from "./connection.js";
import { checkedPosition, isBefore, timeOf } from "./positions.js";

/** As many as fit into one reply that comes quickly. */
const MAX_READ = 1_000;
/** What a further page asks for at least, so that a long row of redriven messages is passed over quickly. */
const MIN_FURTHER = 100;

/** @param hasIds whether some entry has a `dedupeId` */
export function appendArgs(entries: readonly NewEntry[], retention: Retention, hasIds: boolean): Arg[] {
  const { maxEntries, overflow, maxAgeMs } = retention;
  const keyed = entries.some(({ key }) => key !== undefined);
  const args: Arg[] = [String(maxEntries), overflow, maxAgeMs === undefined ? "" : String(maxAgeMs)];
  args.push(String((keyed ? 1 : 0) + (hasIds ? 2 : 0)));
  if (hasIds) args.push(String(DEDUPE_MAX_IDS), String(DEDUPE_WINDOW_MS));
  for (const { header, data, key, dedupeId } of entries) {
    args.push(toBlob(header, data));
    if (keyed) args.push(key === undefined ? "" : `+${key}`);
    if (hasIds) args.push(dedupeId === undefined ? "" : `+${dedupeId}`);
  }
  return args;
}

/** What the script's `LIMIT` means. */
export function limitFrom(reply: string, stream: string): LimitError {
  const [, maxEntries, maxAgeMs = "-", ...name] = reply.split(" ");
  const limits = { maxEntries: Number(maxEntries), overflow: "reject" } as const;
  const group = name.join(" ");
  return streamFull(
    stream,
    maxAgeMs === "-" ? limits : { ...limits, maxAgeMs: Number(maxAgeMs) },
    group === "" ? undefined : group,
  );
}

/** What was redriven for one group is passed over, and does not make a page shorter. */
export async function readEntries(connection: Connection, key: string, range: Range): Promise<Entry[]> {
  const end = range.until === undefined ? "+" : checkedPosition(range.until);
  const max = Math.min(range.max, MAX_READ);
  const entries: Entry[] = [];
  let start = startOfRange(range);
  for (let count = max; entries.length < max; count = Math.max(MIN_FURTHER, max - entries.length)) {
    const page = listOf(await connection.command(["XRANGE", key, start, end, "COUNT", String(count)]));
    let last = "";
    for (const reply of page) {
      const [id, list] = listOf(reply);
      const fields = listOf(list);
      last = textOf(id);
      if (entries.length < max && redrivenFor(fields) === undefined) entries.push(toEntry(last, fields));
    }
    if (page.length < count) break;
    start = `(${last}`;
  }
  return entries;
}

function startOfRange({ from, after, since }: Range): string {
  const starts: string[] = [];
  if (from !== undefined) starts.push(checkedPosition(from));
  if (since !== undefined && since > 0) starts.push(`${Math.ceil(since)}-0`);
  const start = starts.reduce((latest, one) => (isBefore(latest, one) ? one : latest), "0-0");
  return after === undefined || isBefore(checkedPosition(after), start) ? start : `(${after}`;
}

function toEntry(position: string, fields: readonly Reply[]): Entry {
  return { position, at: timeOf(position), ...fromBlob(blobOf(fields)) };
}
