/** What every backend says when something is full: one wording, whoever stores it. */

import { LimitError } from "./errors.js";

/** For `Log.append`: the stream is full of entries that some group still has to read. */
export function streamFull(stream: string, maxEntries: number): LimitError {
  return new LimitError(
    `the stream "${stream}" holds its ${maxEntries} entries, and a group still has to read the oldest: let its consumers catch up`,
    { retryable: true },
  );
}

/** For `Queue.push`: the queue is full of unfinished items. */
export function queueFull(queue: string, maxItems: number): LimitError {
  return new LimitError(
    `the queue "${queue}" holds its maxItems of ${maxItems}: let its consumers catch up, or raise it`,
    {
      retryable: true,
    },
  );
}
