/** What every backend goes by and says when something is full: one wording, whoever stores it. */

import type { Retention, RetentionChanges } from "./backend.js";
import { DataLossDetected, LimitError, UnsupportedError } from "./errors.js";
import { MAX_RECIPIENTS } from "./queue-port.js";

/** How long a stream remembers the ids that callers give, unless too many others come; at most twice as long. */
export const DEDUPE_WINDOW_MS = 600_000;
/** How many of them it remembers, unless they are too old; at most twice as many. */
export const DEDUPE_MAX_IDS = 100_000;

/** A page of items ends once it holds so much payload: what is looked at page by page stays small. */
export const PAGE_BYTES = 1_000_000;

/** For `Log.changeRetention`: what is stored afterwards. */
export function changedRetention(stored: Retention, changes: RetentionChanges): Retention {
  const { maxEntries, maxAgeMs = stored.maxAgeMs, overflow } = changes;
  return {
    maxEntries: maxEntries ?? stored.maxEntries,
    ...(typeof maxAgeMs === "number" && { maxAgeMs }),
    overflow: overflow ?? stored.overflow,
  };
}

/**
 * For `Log.append`: the stream is full of entries that some group still has to read.
 *
 * @param group the one that is furthest behind
 */
export function streamFull(stream: string, { maxEntries, maxAgeMs }: Retention, group?: string): LimitError {
  const limits = maxAgeMs === undefined ? `${maxEntries} entries` : `${maxEntries} entries or ${maxAgeMs} ms`;
  const who = group === undefined ? "a group" : `the group "${group}"`;
  return new LimitError(
    `the stream "${stream}" has reached its limit of ${limits}, and ${who} still has to read the oldest: ` +
      "let its consumers catch up, delete the group if nobody needs it, or raise the limit with events.configure",
    { retryable: true },
  );
}

/** For `Queue.push`: the queue is full of unfinished items. */
export function queueFull(queue: string, maxItems: number): LimitError {
  return new LimitError(
    `the queue "${queue}" holds its maxItems of ${maxItems}: let its consumers catch up, or raise it; ` +
      "recipients() and stats() tell who has how much",
    {
      retryable: true,
    },
  );
}

/** For `Queue.register`. */
export function tooManyRecipients(queue: string): LimitError {
  return new LimitError(
    `the queue "${queue}" has ${MAX_RECIPIENTS} registered recipients already: unregister those that nobody reads, or ` +
      "give them a shorter recipientTtlMs",
  );
}

/**
 * For the report that a recipient of an audience has lapsed.
 *
 * @param lost unfinished items and dead letters that went with it
 */
export function recipientLapsed(queue: string, recipient: string, lost: number): DataLossDetected {
  const message =
    `the recipient "${recipient}" of the queue "${queue}" was not read for as long as its recipientTtlMs: it was ` +
    `forgotten, and ${lost} unfinished messages and dead letters of it`;
  return new DataLossDetected(message, { channel: queue, reader: recipient, count: lost });
}

/**
 * For `Queue.list` and `Queue.count`.
 *
 * @param field the one that is not indexed; absent where there is no index at all
 */
export function notIndexed(queue: string, index: readonly string[] | undefined, field?: string): UnsupportedError {
  const wanted = field === undefined ? "at least []" : JSON.stringify([...(index ?? []), field]);
  const what = field === undefined ? "has no index" : `does not index "${field}"`;
  return new UnsupportedError(
    `the queue "${queue}" ${what}, and nothing is found by looking at everything: give it the option index, ${wanted}`,
  );
}
