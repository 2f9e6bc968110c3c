/** Places in a stream as callers name them: where a group starts, where it is moved to, where a replay begins. */

import type { GroupStart, Range } from "../core/backend.js";

/** Text that some `position` has shown, such as a receipt's or a message's. */
export type Position = string & Record<never, never>;

/**
 * `beginning`: the oldest event that is kept. `new`: behind the newest. A date: the first event stored at or after it,
 * by the store's clock. A position: that event and what follows; behind it with `after`.
 */
export type StartPlace = "beginning" | "new" | Date | Position | { readonly after: string } | { readonly at: string };

/** Says what is wrong with a place, or nothing. Whether a position is one of its stream, the stream knows. */
export function startProblem(place: unknown): string | undefined {
  const isPlace = typeof place === "string" ? place !== "" : isDate(place) || isRelative(place);
  return isPlace ? undefined : 'must be "beginning", "new", a Date, a position or { after: position }';
}

export function isDate(value: unknown): value is Date {
  return value instanceof Date && !Number.isNaN(value.getTime());
}

function isRelative(place: unknown): boolean {
  if (typeof place !== "object" || place === null) return false;
  const [name, ...others] = Object.keys(place);
  if (others.length > 0 || (name !== "after" && name !== "at")) return false;
  const position: unknown = Reflect.get(place, name);
  return typeof position === "string" && position !== "";
}

/** For the port of groups. */
export function toGroupStart(place: StartPlace): GroupStart {
  if (place === "beginning") return "beginning";
  if (place === "new") return "new";
  if (typeof place === "string") return { at: place };
  return place instanceof Date ? { time: place.getTime() } : place;
}

/** For reading without a group: where the range starts. `new` is where the stream ends now. */
export function toRangeStart(place: StartPlace, newest: string | undefined): Pick<Range, "from" | "after" | "since"> {
  const start = toGroupStart(place);
  if (start === "beginning") return {};
  if (start === "new") return newest === undefined ? {} : { after: newest };
  if ("time" in start) return { since: start.time };
  return "after" in start ? { after: start.after } : { from: start.at };
}
