/**
 * Storing each batch once and in order, however often the connection breaks: batches carry a number, and the stream or
 * queue remembers the last number it has decided on for each publisher.
 */

import { randomBytes } from "node:crypto";
import { type Clock, wait } from "../../core/clock.js";
import { ClosedError, ConnectionError, PublishIndeterminateError } from "../../core/errors.js";
import { isInterrupted } from "./errors.js";
import { uptime } from "./ledger.js";

/** What a script needs to know of a batch. */
export interface Stamp {
  /** Grows from batch to batch, over all streams and queues of a publisher. */
  readonly number: number;
  /** The number of the batch before it while that one is undecided: without it, this one must not be stored. 0: none. */
  readonly behind: number;
  /** Where the result is kept in case the reply is lost. */
  readonly slot: number;
}

/** One try at storing a batch: resolves with what the script said. */
export type Attempt = (stamp: Stamp, deadlineMs: number | undefined) => Promise<string>;

/** What the scripts answer instead of a result. */
export const GAP = "GAP";
export const FORGOTTEN = "FORGOTTEN";

export interface Publisher {
  /** In keys: random, one for each opened backend. */
  readonly id: string;
  /**
   * Stores a batch, behind those that were given before it for the same target.
   *
   * @throws {ConnectionError} when the store could not be reached in time; nothing was stored
   * @throws {PublishIndeterminateError} when it was lost on the way and whether the batch was stored cannot be known
   */
  publish(target: string, attempt: Attempt): Promise<string>;
  /** Tries no further. */
  close(): void;
}

/** Batches of one target under way at once. */
const WINDOW = 4;
/** Results that the scripts remember: nobody runs further than this ahead of a batch that is still asked about. */
const SLOTS = 8;
const MAX_PAUSE_MS = 500;
/** A try may use the connection's own time limit until less than this is left. */
const LAST_TRY_MS = 5_000;

interface Lane {
  /** How many there were. */
  batches: number;
  /** In order. */
  readonly underway: Batch[];
  readonly waiting: (() => void)[];
}

interface Batch {
  readonly number: number;
  /** Its place in the lane. */
  readonly index: number;
  decision: Promise<string> | undefined;
}

/** @param timeoutMs how long one batch is tried in all */
export function createPublisher(clock: Clock, timeoutMs: number = 15_000): Publisher {
  const lanes = new Map<string, Lane>();
  const closing = new AbortController();
  let numbers = 0;

  async function decide(lane: Lane, batch: Batch, attempt: Attempt): Promise<string> {
    const deadline = uptime() + timeoutMs;
    let interruption: unknown;
    for (let failures = 0; ; ) {
      // The next one before it that is undecided; those between may have been refused, and left no trace.
      const before = lane.underway[lane.underway.indexOf(batch) - 1];
      const leftMs = deadline - uptime();
      try {
        const stamp = { number: batch.number, slot: batch.index % SLOTS, behind: before?.number ?? 0 };
        const reply = await attempt(stamp, leftMs < LAST_TRY_MS ? Math.max(1, leftMs) : undefined);
        if (reply === FORGOTTEN) throw new PublishIndeterminateError("Redis has forgotten what became of the publish");
        if (reply !== GAP) return reply;
        // However that one ends, its own caller is told.
        await before?.decision?.catch(() => undefined);
      } catch (error) {
        // Asking again would give the same answer.
        if (error instanceof PublishIndeterminateError) throw error;
        if (isInterrupted(error)) interruption = error;
        // Refused before anything was under way: the caller may know at once.
        else if (interruption === undefined && !(error instanceof ConnectionError)) throw error;
        if (uptime() >= deadline || closing.signal.aborted) throw verdict(error, interruption);
        failures += 1;
        // The first time the connection is simply lost, and waits for the next by itself.
        if (failures > 1) await wait(clock, Math.min(MAX_PAUSE_MS, 10 * 2 ** failures), closing.signal);
      }
    }
  }

  /** Runs synchronously up to the attempt's first command, so that batches are sent in the order of their numbers. */
  async function begin(target: string, lane: Lane, attempt: Attempt): Promise<string> {
    numbers += 1;
    const batch: Batch = { number: numbers, index: lane.batches, decision: undefined };
    lane.batches += 1;
    lane.underway.push(batch);
    try {
      batch.decision = decide(lane, batch, attempt);
      return await batch.decision;
    } finally {
      lane.underway.splice(lane.underway.indexOf(batch), 1);
      while (lane.waiting.length > 0 && hasRoom(lane)) lane.waiting.shift()?.();
      if (lane.underway.length === 0) lanes.delete(target);
    }
  }

  function publish(target: string, attempt: Attempt): Promise<string> {
    if (closing.signal.aborted) return Promise.reject(new ClosedError("the Redis backend is closed"));
    const lane = lanes.get(target) ?? { batches: 0, underway: [], waiting: [] };
    lanes.set(target, lane);
    if (lane.waiting.length === 0 && hasRoom(lane)) return begin(target, lane, attempt);
    return new Promise((resolve) => lane.waiting.push(() => resolve(begin(target, lane, attempt))));
  }

  return { id: randomBytes(9).toString("base64url"), publish, close: () => closing.abort() };
}

function hasRoom({ batches, underway }: Lane): boolean {
  return underway.length < WINDOW && batches - (underway[0]?.index ?? batches) < SLOTS;
}

/** What the caller is told in the end: whether it may have been stored decides. */
function verdict(error: unknown, interruption: unknown): unknown {
  if (interruption === undefined) return error;
  return new PublishIndeterminateError(
    "the connection to Redis was lost while publishing, and whether the messages were stored cannot be known",
    { cause: error },
  );
}
