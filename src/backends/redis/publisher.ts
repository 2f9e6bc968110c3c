/**
 * Storing each batch once and in order, however often the connection breaks: batches carry a number, and the stream or
 * queue remembers the last number it has decided on for each publisher.
 */

import { randomBytes } from "node:crypto";
import { type Clock, wait } from "../../core/clock.js";
import { ClosedError, ConnectionError, PublishIndeterminateError } from "../../core/errors.js";
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

/** Batches of one target under way at once; the scripts remember the results of twice as many. */
const WINDOW = 4;
const SLOTS = 2 * WINDOW;
const MAX_PAUSE_MS = 500;
/** A try may use the connection's own time limit until less than this is left. */
const LAST_TRY_MS = 5_000;

interface Lane {
  batches: number;
  underway: number;
  readonly waiting: (() => void)[];
  last: Batch | undefined;
}

interface Batch {
  readonly number: number;
  readonly slot: number;
  /** Forgotten once this batch is decided, or all batches would hang together for ever. */
  predecessor: Batch | undefined;
  decided: boolean;
  whenDecided: Promise<unknown>;
}

/** @param timeoutMs how long one batch is tried in all */
export function createPublisher(clock: Clock, timeoutMs: number = 15_000): Publisher {
  const lanes = new Map<string, Lane>();
  const closing = new AbortController();
  let numbers = 0;

  async function decide(batch: Batch, attempt: Attempt): Promise<string> {
    const deadline = uptime() + timeoutMs;
    let interruption: unknown;
    for (let failures = 0; ; ) {
      const { predecessor } = batch;
      const behind = predecessor === undefined || predecessor.decided ? 0 : predecessor.number;
      const leftMs = deadline - uptime();
      try {
        const stamp = { number: batch.number, slot: batch.slot, behind };
        const reply = await attempt(stamp, leftMs < LAST_TRY_MS ? Math.max(1, leftMs) : undefined);
        if (reply === FORGOTTEN)
          throw new PublishIndeterminateError("Redis no longer knows what became of the publish");
        if (reply !== GAP) return reply;
        await predecessor?.whenDecided;
      } catch (error) {
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
  function start(lane: Lane, attempt: Attempt): Promise<string> {
    lane.underway += 1;
    numbers += 1;
    const predecessor = lane.last?.decided === false ? lane.last : undefined;
    const slot = lane.batches % SLOTS;
    const batch: Batch = { number: numbers, slot, predecessor, decided: false, whenDecided: Promise.resolve() };
    lane.batches += 1;
    lane.last = batch;
    const decision = decide(batch, attempt).finally(() => {
      batch.decided = true;
      batch.predecessor = undefined;
    });
    batch.whenDecided = decision.catch(() => undefined);
    return decision;
  }

  function publish(target: string, attempt: Attempt): Promise<string> {
    if (closing.signal.aborted) return Promise.reject(new ClosedError("the Redis backend is closed"));
    const lane = lanes.get(target) ?? { batches: 0, underway: 0, waiting: [], last: undefined };
    lanes.set(target, lane);
    return new Promise((resolve, reject) => {
      const begin = (): void => {
        start(lane, attempt)
          .finally(() => {
            lane.underway -= 1;
            lane.last = lane.last?.decided === true ? undefined : lane.last;
            lane.waiting.shift()?.();
            if (lane.underway === 0) lanes.delete(target);
          })
          .then(resolve, reject);
      };
      if (lane.underway < WINDOW) begin();
      else lane.waiting.push(begin);
    });
  }

  return { id: randomBytes(9).toString("base64url"), publish, close: () => closing.abort() };
}

function isInterrupted(error: unknown): boolean {
  return error instanceof ConnectionError && error.interrupted;
}

/** What the caller is told in the end: whether it may have been stored decides. */
function verdict(error: unknown, interruption: unknown): unknown {
  if (interruption === undefined || error instanceof PublishIndeterminateError) return error;
  return new PublishIndeterminateError(
    "the connection to Redis was lost while publishing, and whether the messages were stored cannot be known",
    { cause: error },
  );
}
