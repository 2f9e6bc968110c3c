/** Positions in the log are the ids of stream entries: `<milliseconds>-<sequence>`. */

import { NotFoundError } from "../../core/errors.js";

/** @throws {NotFoundError} when it is no position of any stream */
export function checkedPosition(position: string): string {
  if (/^\d{1,19}-\d{1,19}$/.test(position)) return position;
  throw new NotFoundError(`"${position}" is no position of this stream`);
}

export function isBefore(a: string, b: string): boolean {
  const [aMs = "", aSequence = ""] = a.split("-");
  const [bMs = "", bSequence = ""] = b.split("-");
  const ms = BigInt(aMs) - BigInt(bMs);
  return ms < 0n || (ms === 0n && BigInt(aSequence) < BigInt(bSequence));
}

/** The positions of `count` entries that follow each other. */
export function positionsFrom(first: string, count: number): { readonly position: string }[] {
  const [ms = "", sequence = "0"] = first.split("-");
  const start = Number(sequence);
  return Array.from({ length: count }, (_, index) => ({ position: `${ms}-${start + index}` }));
}
