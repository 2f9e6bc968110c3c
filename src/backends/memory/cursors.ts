/** Pages of items that are looked at, and the cursors that go on from them. */

import { NotFoundError } from "../../core/errors.js";
import { PAGE_BYTES } from "../../core/limits.js";
import type { Item } from "./items.js";
import { sizeOf } from "./stored.js";

export interface Page<T> {
  readonly page: readonly T[];
  readonly cursor?: string;
}

/** A page that is filled. */
export interface FilledPage<T> {
  readonly last: T | undefined;
  /** It holds as many as it may, or as much payload. */
  readonly isFull: boolean;
  add(one: T): void;
  /** There is more, behind this place. */
  upTo(place: readonly number[]): Page<T>;
  /** There is no more. */
  all(): Page<T>;
}

/** @param itemOf what one of them shows */
export function createPage<T>(max: number, itemOf: (one: T) => Item): FilledPage<T> {
  const page: T[] = [];
  let bytes = 0;
  return {
    get last() {
      return page.at(-1);
    },
    get isFull() {
      return page.length >= max || bytes >= PAGE_BYTES;
    },
    add(one) {
      page.push(one);
      bytes += sizeOf(itemOf(one).data);
    },
    upTo: (place) => ({ page, cursor: place.join(" ") }),
    all: () => ({ page }),
  };
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
