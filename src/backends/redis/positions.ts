/** Positions in the log are the ids of stream entries: `<milliseconds>-<sequence>`. */

import type { Appended } from "../../core/backend.js";
import { NotFoundError } from "../../core/errors.js";

/** @throws {NotFoundError} when it is no position of any stream */
export function checkedPosition(position: string): string {
  if (/^\d{1,19}-\d{1,19}$/.test(position)) return position;
  throw new NotFoundError(`"${position}" is no position of this stream`);
}

/** When the entry of a position was appended, in milliseconds since the epoch. */
export function timeOf(position: string): number {
  return Number(position.slice(0, position.indexOf("-")));
}

export function isBefore(a: string, b: string): boolean {
  const [aMs = "", aSequence = ""] = a.split("-");
  const [bMs = "", bSequence = ""] = b.split("-");
  const ms = BigInt(aMs) - BigInt(bMs);
  return ms < 0n || (ms === 0n && BigInt(aSequence) < BigInt(bSequence));
}

/** Who was appended where, as the script says: see `lua/log-append.lua`. */
export function appendedFrom(reply: string, count: number): Appended[] {
  const [first = "", ...duplicates] = reply.split(" ");
  const [ms = "", sequence = "0"] = first.split("-");
  const start = Number(sequence);
  if (duplicates.length === 0) return Array.from({ length: count }, (_, index) => stored(ms, start + index));
  const earlier = new Map(duplicates.map((text) => parseDuplicate(text)));
  let next = start;
  return Array.from({ length: count }, (_, index) => {
    const position = earlier.get(index);
    if (position !== undefined) return { position, duplicate: true };
    next += 1;
    return stored(ms, next - 1);
  });
}

function stored(ms: string, sequence: number): Appended {
  return { position: `${ms}-${sequence}`, duplicate: false };
}

/** `3:1700000000000-0`: the third entry of the batch, and where the one stands that has its id. */
function parseDuplicate(text: string): readonly [index: number, position: string] {
  const colon = text.indexOf(":");
  return [Number(text.slice(0, colon)) - 1, text.slice(colon + 1)];
}

const LAST_SEQUENCE = 2n ** 64n - 1n;

/** The last position before another; the one before the first is `0-0`, which no entry has. */
export function positionBefore(position: string): string {
  const [ms = "0", sequence = "0"] = position.split("-");
  if (BigInt(sequence) > 0n) return `${ms}-${BigInt(sequence) - 1n}`;
  return BigInt(ms) > 0n ? `${BigInt(ms) - 1n}-${LAST_SEQUENCE}` : "0-0";
}
