/** Items and kept records of a queue, read by their ids. */

import type { StoredItem } from "../../core/backend.js";
import { listOf, numberOf, textOf } from "./blob.js";
import type { Reply } from "./connection.js";
import { toStoredId } from "./keys.js";
import type { Port } from "./port.js";
import type { KnownQueue } from "./queue-known.js";
import { type RecordStart, startOf, ticketsOf } from "./records.js";
import { loadScript } from "./scripts.js";
import { type Outcomes, openShare, readOutcomes, type Share, toStoredItem } from "./stored-items.js";

const itemsScript = loadScript("queue-items");
const sharesScript = loadScript("queue-shares");

/** An item as it was found; who has it to finish is still to be found out where several may. */
export interface FoundItem {
  /** Its id's place among those that were asked for. */
  readonly index: number;
  readonly id: string;
  readonly start: RecordStart;
  readonly record: Reply;
  readonly outcomes: Outcomes;
  readonly isKept: boolean;
  /** Of an open one that is for a single recipient. */
  readonly share: Share | undefined;
  /** Of one that several may have: how many have it. */
  readonly shares: number;
}

export interface FoundItems {
  /** How many of the ids were looked at, from the first on. */
  readonly looked: number;
  /** Some item has expired, and nobody has met it yet. */
  readonly hasExpired: boolean;
  readonly items: readonly FoundItem[];
}

/** Looks for at most 1,000 ids; for fewer, where what they have is large. */
export async function findItems(
  port: Pick<Port, "repeating">,
  { keys }: KnownQueue,
  ids: readonly string[],
): Promise<FoundItems> {
  const scriptKeys = [keys.records, keys.state, keys.none];
  const reply = await itemsScript.run(port.repeating(keys.records), scriptKeys, ids.map(toStoredId));
  const [looked, hasExpired, ...words] = listOf(reply);
  const items: FoundItem[] = [];
  for (let at = 0; at + 6 < words.length; at += 7) {
    const [number, kind, record = null, ...rest] = words.slice(at, at + 7);
    const [outcomes = "", state = "", score = "", attempts = ""] = rest.map(textOf);
    const start = startOf(record);
    const index = numberOf(number) - 1;
    const id = ids[index];
    if (start === undefined || id === undefined) continue;
    const isKept = textOf(kind) === "kept";
    const isShared = state === "s";
    const share = isKept || isShared ? undefined : openShare(start.recipient ?? "", state, score, attempts);
    const shares = isShared ? Number(score) : 0;
    items.push({ index, id, start, record, outcomes: readOutcomes(outcomes), isKept, share, shares });
  }
  return { looked: numberOf(looked), hasExpired: numberOf(hasExpired) === 1, items };
}

/** Completes items with those who have them to finish, where several may. */
export async function completeItems(
  port: Pick<Port, "repeating">,
  queue: KnownQueue,
  found: readonly FoundItem[],
): Promise<readonly StoredItem[]> {
  const holders = await findHolders(
    port,
    queue,
    found.filter(({ shares }) => shares > 0),
  );
  return found.map((item) => {
    const { id, start, record, outcomes, isKept, share } = item;
    const open = share === undefined ? (holders.get(item) ?? []) : [share];
    return toStoredItem({ ...start, id }, record, isKept ? outcomes.state : "open", [...open, ...outcomes.shares]);
  });
}

/** Looks at registered recipients, some at a time, until all that have the items are found. */
async function findHolders(
  port: Pick<Port, "repeating">,
  { keys }: KnownQueue,
  items: readonly FoundItem[],
): Promise<ReadonlyMap<FoundItem, readonly Share[]>> {
  const holders = new Map<FoundItem, Share[]>(items.map((item) => [item, []]));
  const tickets = items.flatMap((item) =>
    ticketsOf(item.start, toStoredId(item.id)).map((ticket) => ({ item, ticket })),
  );
  let missing = items.reduce((sum, { shares }) => sum + shares, 0);
  for (let after = "0"; missing > 0 && after !== ""; ) {
    const args = [after, ...tickets.map(({ ticket }) => ticket)];
    const reply = await sharesScript.run(port.repeating(keys.records), [keys.records, keys.none], args);
    const [next = "", ...words] = listOf(reply).map(textOf);
    for (let at = 0; at + 4 < words.length; at += 5) {
      const [number, recipient = "", state = "", score = "", attempts = ""] = words.slice(at, at + 5);
      const item = tickets[Number(number) - 1]?.item;
      if (item !== undefined) holders.get(item)?.push(openShare(recipient, state, score, attempts));
      missing -= 1;
    }
    after = next;
  }
  return holders;
}
