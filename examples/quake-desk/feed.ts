/** The feed: reads quakes from a file or stdin, and refuses what is none. */

import { readFile } from "node:fs/promises";
import { text } from "node:stream/consumers";
import { Quake } from "./contract.js";
import { Failure } from "./failure.js";

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
