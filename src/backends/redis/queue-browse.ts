/** Looking through what a recipient of a queue has not finished, page by page. */

import type { ItemPage, OpenState, PageRequest, StoredItem } from "../../core/backend.js";
import { NotFoundError } from "../../core/errors.js";
import { listOf, numberOf, textOf } from "./blob.js";
import type { Reply } from "./connection.js";
import { encodeName, fromStoredId } from "./keys.js";
import type { Port } from "./port.js";
import { inboxKeys, type KnownQueue } from "./queue-known.js";
import { readTicket, startOf } from "./records.js";
import { loadScript } from "./scripts.js";
import { openShare, toStoredItem } from "./stored-items.js";

const browseScript = loadScript("queue-browse");

const SECTIONS = { waiting: "w", delayed: "d", leased: "l" } as const;
const MAX_PAGE = 1_000;
/** Section, score and ticket of the last one that was shown. */
const CURSOR = /^([wdl]) (\S+) (.+)$/s;

export async function browse(
  port: Pick<Port, "repeating">,
  { keys }: KnownQueue,
  recipient: string,
  { max, cursor }: PageRequest,
  state?: OpenState,
): Promise<ItemPage> {
  const wanted = state === undefined ? Object.values(SECTIONS).join("") : SECTIONS[state];
  const [, section = wanted.charAt(0), score = "", ticket = ""] =
    cursor === undefined ? [] : (CURSOR.exec(cursor) ?? []);
  if (!wanted.includes(section) || (cursor !== undefined && ticket === ""))
    throw new NotFoundError(`"${cursor}" is no cursor`);
  const encoded = encodeName(recipient);
  const sections = wanted.slice(wanted.indexOf(section));
  const args = [encoded, String(Math.min(max, MAX_PAGE)), sections, score, ticket];
  for (;;) {
    const reply = await browseScript.run(
      port.repeating(keys.records),
      inboxKeys(keys, keys.recipient(recipient)),
      args,
    );
    const [state_, more, ...words] = listOf(reply);
    if (textOf(state_) === "MORE") continue;
    const items: StoredItem[] = [];
    for (let at = 0; at + 4 < words.length; at += 5) items.push(...browsed(encoded, words.slice(at, at + 5)));
    if (numberOf(more) === 0) return { items };
    return { items, cursor: words.slice(-5, -2).map(textOf).join(" ") };
  }
}

/** @param words section, score, ticket, what is said of attempts, record: empty where there is none */
function browsed(encoded: string, words: readonly Reply[]): readonly StoredItem[] {
  const [section, score, ticket, attempts] = words.slice(0, 4).map(textOf);
  const record = words[4];
  if (section === undefined || ticket === undefined || textOf(record) === "") return [];
  const { id, at, expiresAt, priority } = readTicket(ticket);
  // A record of an earlier build tells nothing, and a ticket of what was put back less than its record.
  const pushedAt = startOf(record)?.at ?? at;
  const facts = { id: fromStoredId(id), at: pushedAt, expiresAt, priority };
  return [toStoredItem(facts, record, "open", [openShare(encoded, section, score ?? "", attempts ?? "")])];
}
