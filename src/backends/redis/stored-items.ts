/** From what the store has of an item to what the port shows of it. Pure functions. */

import type { ItemState, RecordState, RecipientState, StoredItem } from "../../core/backend.js";
import type { Reply } from "./connection.js";
import { decodeName } from "./keys.js";
import { messageOf } from "./records.js";

/** How an item stands with one recipient, and when that was last changed by somebody; undefined: never. */
export interface Share {
  readonly shown: RecipientState;
  readonly updatedAt: number | undefined;
}

/** Recipients of one item that are shown. */
const MAX_SHOWN = 1_000;

/** What scripts call the states of what is unfinished. */
const STATES = { w: "waiting", d: "delayed", l: "leased" } as const;
type Section = keyof typeof STATES;

/**
 * @param encoded the recipient as in keys
 * @param section `w`, `d` or `l`
 * @param until the score of its ticket, where it is delayed or leased
 * @param attempts `<fence> <attempt>@<first failure>+<put back> <consumer>`, without what is not known
 */
export function openShare(encoded: string, section: string, until: string, attempts: string): Share {
  const state = STATES[section as Section]; // As the scripts wrote it.
  const [, attempt = "1", putBackAt] = /^\d+ (\d+)(?:@\d+)?(?:\+(\d+))?/.exec(attempts) ?? [];
  const shown = {
    recipient: decodeName(encoded),
    state,
    // The next one has not begun.
    attempts: Number(attempt) - (state === "leased" ? 0 : 1),
  };
  return {
    shown: state === "waiting" ? shown : { ...shown, until: Number(until) },
    updatedAt: putBackAt === undefined ? undefined : Number(putBackAt),
  };
}

/** What recipients have come to with an item. */
export interface Outcomes {
  /** Of the item, once nobody has it to finish. */
  readonly state: RecordState;
  readonly shares: readonly Share[];
}

/** @param text counts of each outcome and the last time, then a line for each recipient; `""` where there are none */
export function readOutcomes(text: string): Outcomes {
  const [head = "", ...lines] = text.split("\n");
  const [, dead = 0, expired = 0] = head.split(" ").map(Number);
  const shares = lines.flatMap((line): Share[] => {
    const [recipient = "", state, attempts, at] = line.split(" ");
    if (at === undefined) return [];
    const until = Number(at);
    const shown = { recipient: decodeName(recipient), state: state as ItemState, attempts: Number(attempts), until };
    return [{ shown, updatedAt: until }];
  });
  return { state: dead > 0 ? "dead" : expired > 0 ? "expired" : "acked", shares };
}

/** What is known of an item besides who has it. */
export interface ItemFacts {
  readonly id: string;
  readonly at: number;
  readonly expiresAt: number | undefined;
  readonly priority: number;
}

/** @param shares those who have it to finish, then those who have finished it */
export function toStoredItem(
  { id, at, expiresAt, priority }: ItemFacts,
  record: Reply | undefined,
  state: RecordState,
  shares: readonly Share[],
): StoredItem {
  const updatedAt = shares.reduce((last, share) => Math.max(last, share.updatedAt ?? 0), at);
  const recipients = shares.slice(0, MAX_SHOWN).map(({ shown }) => shown);
  return { id, ...messageOf(record), priority, at, updatedAt, expiresAt, state, recipients };
}
