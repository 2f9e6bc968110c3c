/** Which items make room for others, where a full queue drops the oldest. */

import type { Inbox } from "./inbox.js";
import type { Item, Place, Share } from "./items.js";

/**
 * The first `count` items that may be dropped: the least urgent, the oldest first. They wait or are delayed, and nobody
 * but the recipients of these inboxes has them to finish, so that each makes room for one.
 *
 * @returns undefined where there are too few
 */
export function choose(count: number, inboxes: ReadonlySet<Inbox>): readonly Item[] | undefined {
  const chosen = new Set<Item>();
  const places: ReadonlySet<Place> = inboxes;
  for (const { item } of merged([...inboxes].map(leastUrgentFirst))) {
    if (chosen.size >= count) break;
    if (item.shares.every((share) => !share.isOpen || (share.isIdle && places.has(share.inbox)))) chosen.add(item);
  }
  return chosen.size < count ? undefined : [...chosen];
}

/** What nobody holds of one inbox. */
function leastUrgentFirst({ levels, delayedShares }: Inbox): Iterator<Share> {
  const delayed = delayedShares.toSorted((a, b) => (isLessUrgent(a, b) ? -1 : 1));
  return merged([levels.leastUrgentFirst(), delayed[Symbol.iterator]()]);
}

/** One order out of several. */
function* merged(sources: readonly Iterator<Share>[]): Generator<Share> {
  const heads = sources.map((source) => ({ source, next: source.next() }));
  for (;;) {
    let first: { share: Share; head: (typeof heads)[number] } | undefined;
    for (const head of heads) {
      if (head.next.done === true) continue;
      const share = head.next.value;
      if (first === undefined || isLessUrgent(share, first.share)) first = { share, head };
    }
    if (first === undefined) return;
    yield first.share;
    first.head.next = first.head.source.next();
  }
}

function isLessUrgent(a: Share, b: Share): boolean {
  return a.priority < b.priority || (a.priority === b.priority && a.arrival < b.arrival);
}
