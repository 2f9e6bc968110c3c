/** The feed: reads quakes from a file or stdin, and publishes them in the order and at the pace they happened. */

import { readFile } from "node:fs/promises";
import { text } from "node:stream/consumers";
import { setTimeout as sleep } from "node:timers/promises";
import { Quake, type QuakeBroker } from "./contract.js";
import { Failure } from "./failure.js";

/** Few and small enough that the broker stores them in one write: all of them, or none. */
const BATCH = 50;
const HOUR_MS = 3_600_000;

/**
 * Reads one quake per line, the oldest first.
 *
 * @param input a file's path, or `-` for stdin
 * @throws {Failure} naming the line that is no quake
 */
export async function readFeed(input: string): Promise<readonly Quake[]> {
  const name = input === "-" ? "stdin" : input;
  const lines = await (input === "-" ? text(process.stdin) : readFile(input, "utf8")).catch((cause: unknown) => {
    throw new Failure(`cannot read ${name}: ${cause instanceof Error ? cause.message : String(cause)}`);
  });
  const lineOf = new Map<string, number>();
  return lines
    .split("\n")
    .flatMap((line, index): Quake[] => {
      if (line.trim() === "") return [];
      const quake = parseQuake(line, `${name}, line ${index + 1}`);
      // An id that came twice would be published twice and counted once.
      const earlier = lineOf.get(quake.id);
      if (earlier !== undefined) {
        throw new Failure(`${name}, line ${index + 1}: the id "${quake.id}" stands on line ${earlier} already`);
      }
      lineOf.set(quake.id, index + 1);
      return [quake];
    })
    .toSorted((a, b) => a.time - b.time);
}

function parseQuake(line: string, where: string): Quake {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch (error) {
    throw new Failure(`${where} is not JSON: ${(error as Error).message}`); // JSON.parse throws nothing but SyntaxError.
  }
  const { error, data } = Quake.safeParse(value);
  if (data !== undefined) return data;
  const problems = error.issues.map(({ path, message }) => [...path, message].join(": "));
  throw new Failure(`${where} is no quake: ${problems.join("; ")}`);
}

/**
 * How many quakes of this feed the store has: where to go on.
 *
 * The stream's own length tells, exactly: nothing else publishes to it, each write is stored whole or not at all, and
 * the next one starts when the last one is stored, so what a kill leaves behind is always the feed's beginning. A note
 * of our own, kept beside the store, would be ahead or behind whenever a kill came between the two. (A stream forgets
 * its oldest events beyond 1,000,000; a feed longer than that would need another way.)
 */
export async function playedSoFar(broker: QuakeBroker): Promise<number> {
  const { length } = await broker.events.stats("quake.recorded");
  return length;
}

/**
 * Publishes what is left of the feed. Ends early when the signal aborts.
 *
 * @param hoursPerSecond absent: as fast as it goes
 * @returns how long it took, in ms
 */
export async function playFeed(
  broker: QuakeBroker,
  quakes: readonly Quake[],
  hoursPerSecond: number | undefined,
  signal: AbortSignal,
): Promise<number> {
  let next = await playedSoFar(broker);
  const startedAt = performance.now();
  const origin = quakes[next]?.time ?? 0;
  const sinceDue = (quake: Quake): number =>
    hoursPerSecond === undefined
      ? 0
      : performance.now() - startedAt - ((quake.time - origin) / (hoursPerSecond * HOUR_MS)) * 1_000;

  for (let quake = quakes[next]; quake !== undefined && !signal.aborted; quake = quakes[next]) {
    const early = -sinceDue(quake);
    if (early > 0) {
      // An aborted sleep is no failure: the loop looks at the signal.
      await sleep(early, undefined, { signal }).catch(() => undefined);
      continue;
    }
    // A second desk on the same store would play the same quakes again: the first that notices gives way.
    const length = await playedSoFar(broker);
    if (length !== next) {
      throw new Failure(`the store holds ${length} quakes where ${next} were played: is another desk playing into it?`);
    }
    const batch = quakes.slice(next, next + BATCH).filter((each) => sinceDue(each) >= 0);
    await Promise.all(batch.map((each) => broker.events.publish("quake.recorded", each, { key: each.net })));
    next += batch.length;
  }
  return performance.now() - startedAt;
}
