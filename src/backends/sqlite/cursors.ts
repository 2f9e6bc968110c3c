/** Pages, and the cursors that go on from them. */

import { NotFoundError } from "../../core/errors.js";
import { PAGE_BYTES } from "../../core/limits.js";

export interface Page<T> {
  readonly items: readonly T[];
  readonly cursor?: string;
}

/** How many of these rows a page holds before it ends early: until there is much payload, at least one. */
export function fitting(rows: readonly { readonly data: Uint8Array }[]): number {
  let bytes = 0;
  const index = rows.findIndex(({ data }) => {
    bytes += data.byteLength;
    return bytes >= PAGE_BYTES;
  });
  return index < 0 ? rows.length : index + 1;
}

/** One page of rows of which one more was asked for. @param placeOf what the cursor of the page holds */
export function pageOf<T>(rows: readonly T[], max: number, placeOf: (row: T) => readonly number[]): Page<T> {
  const items = rows.slice(0, max);
  const last = items.at(-1);
  return rows.length > max && last !== undefined ? { items, cursor: placeOf(last).join(" ") } : { items };
}

/**
 * The place that a cursor holds.
 *
 * @param first where there is no cursor
 * @throws {NotFoundError} when no page gave such a cursor
 */
export function placeOf(cursor: string | undefined, first: readonly number[]): readonly number[] {
  if (cursor === undefined) return first;
  const place = cursor.split(" ").map(Number);
  if (place.length === first.length && place.every(Number.isSafeInteger)) return place;
  throw new NotFoundError(`"${cursor}" is no cursor of these pages`);
}
