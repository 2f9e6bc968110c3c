/** Looks at what a recipient has not finished, page by page. */

import type { OpenState, PageRequest } from "../../core/backend.js";
import { createPage, type Page, placeOf as placeIn } from "./cursors.js";
import type { Inbox } from "./inbox.js";
import type { Share } from "./items.js";

/** The order in which they are shown. */
const STATES: readonly OpenState[] = ["waiting", "delayed", "leased"];

/** Where a share stands: compared part by part. */
type Position = readonly [state: number, rank: number, arrival: number];

/** One page of an inbox; `state` shows only these. @throws {NotFoundError} when it is no cursor */
export function browse(inbox: Inbox, { max, cursor }: PageRequest, state?: OpenState): Page<Share> {
  const after = cursor === undefined ? undefined : toPosition(cursor);
  const page = createPage<Share>(max, ({ item }) => item);
  for (const share of inOrder(inbox, after)) {
    if (state !== undefined && share.state !== state) continue;
    if (after !== undefined && !isBefore(after, placeOf(share))) continue;
    const { last } = page;
    if (last !== undefined && page.isFull) return page.upTo(placeOf(last));
    page.add(share);
  }
  return page.all();
}

/** What is ready as it would be handed out, then the others by their time. May begin before `after`. */
function* inOrder(inbox: Inbox, after: Position | undefined): Generator<Share> {
  const [from, rank] = after ?? [0, Number.NEGATIVE_INFINITY];
  if (from === 0) yield* inbox.levels.inOrder(-rank);
  const leased = [...inbox.list.leased.values()].map(({ work }) => work);
  for (const shares of [[...inbox.delayedShares], leased]) {
    yield* shares.toSorted((a, b) => (isBefore(placeOf(a), placeOf(b)) ? -1 : 1));
  }
}

function placeOf({ state, priority, arrival, lease, until = 0 }: Share): Position {
  const index = STATES.findIndex((one) => one === state);
  return [index, state === "waiting" ? -priority : (lease?.until ?? until), arrival];
}

function toPosition(cursor: string): Position {
  const [state = 0, rank = 0, arrival = 0] = placeIn(cursor, [0, 0, 0]);
  return [state, rank, arrival];
}

function isBefore(a: Position, b: Position): boolean {
  for (const [index, part] of a.entries()) {
    const other = b[index] ?? 0;
    if (part !== other) return part < other;
  }
  return false;
}
