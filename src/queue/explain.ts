/** Why a message was not received: what the store knows of it, in data and in words. */

import { type ItemState, type RecipientState, SHARED_RECIPIENT, type StoredItem } from "../core/backend.js";
import { decodeHeader } from "../core/message.js";
import { aSignal, type Checks, checkOptions, show } from "../core/options.js";
import { validId } from "../core/outgoing.js";
import { call, type Handle } from "./handle.js";
import { anyRecipientOf } from "./publish.js";
import type { QueueCallOptions } from "./recipients.js";

export interface ExplainOptions extends QueueCallOptions {
  /** Who did not receive it. Default: whoever it is for, where that is one. */
  readonly recipient?: string;
}

/**
 * Times are the store's (ms since the epoch). Where a recipient was named, or the message is for one alone, `acknowledged`,
 * `expired`, `dead`, `leasedUntil` and `delayedUntil` tell of that one, otherwise of all together.
 */
export interface Explanation {
  readonly id: string;
  /** The queue that was asked. */
  readonly channel: string;
  /** It is unfinished, or kept as a record. */
  readonly found: boolean;
  /** Other queues that this broker has opened and that hold it; looked for where it was not found. */
  readonly foundIn: readonly string[];
  /** Whose inbox it was published to. Undefined: to whoever consumes the queue, to an audience, or not known. */
  readonly target: string | undefined;
  /**
   * Whether it is for the recipient that was named. Undefined where none was, where it was not found, and where it was
   * for an audience that is not known any more: then the recipient has finished it, or was not meant.
   */
  readonly matchesRecipient: boolean | undefined;
  readonly acknowledged: boolean;
  readonly expired: boolean;
  readonly dead: boolean;
  /** The inbox is paused. */
  readonly paused: boolean;
  /** A consumer holds it until then, unless it renews its lease. */
  readonly leasedUntil: number | undefined;
  /** It is not delivered before then. */
  readonly delayedUntil: number | undefined;
  /** Those that have it to finish, and of records those that have finished it; at most 1,000. */
  readonly recipients: readonly RecipientState[];
  /** The same in words. */
  readonly summary: string;
}

const CHECKS: Checks<ExplainOptions> = { recipient: () => undefined, signal: aSignal };
/** Dead letters looked through, the oldest first, where no record tells of them. */
const MAX_LETTERS = 1_000;
/** Few at a time: they come with their messages. */
const LETTER_PAGE = 20;
/** Queues that are asked, the last opened first, and how many of them at once. */
const MAX_QUEUES = 100;
const QUEUES_AT_ONCE = 10;

export async function explain(handle: Handle, givenId: string, options: ExplainOptions = {}): Promise<Explanation> {
  checkOptions("queue.explain", options, CHECKS);
  const id = validId(givenId);
  const asked = options.recipient === undefined ? undefined : anyRecipientOf(options.recipient);
  const { queue } = handle.runtime.backend;
  return await call(handle, options.signal, { event: "get_message_failed", fields: { message_id: id } }, async () => {
    const item = await queue.get(handle.name, id);
    return item === undefined ? await explainAbsent(handle, id, asked) : await explainPresent(handle, item, asked);
  });
}

async function explainPresent(
  { runtime, name: channel }: Handle,
  item: StoredItem,
  asked: string | undefined,
): Promise<Explanation> {
  const { id, recipients, state } = item;
  const one = asked === undefined && recipients.length === 1 ? recipients[0]?.recipient : asked;
  const standing = recipients.find(({ recipient }) => recipient === one);
  const paused = one !== undefined && (await runtime.backend.queue.stats(channel, one)).paused;
  const target = targetOf(item, channel);
  const isForAudience = target === undefined && recipients.every(({ recipient }) => recipient !== SHARED_RECIPIENT);
  const isKnown = asked !== undefined && (standing !== undefined || !isForAudience);
  const is = standing?.state ?? (one === undefined ? state : undefined);
  const facts = {
    id,
    channel,
    found: true,
    foundIn: [],
    target,
    matchesRecipient: isKnown ? standing !== undefined : undefined,
    acknowledged: is === "acked",
    expired: is === "expired",
    dead: is === "dead",
    paused,
    leasedUntil: is === "leased" ? standing?.until : undefined,
    delayedUntil: is === "delayed" ? standing?.until : undefined,
    recipients,
  };
  const text =
    standing === undefined ? sumUp(item, isForAudience, asked) : `it ${tell(standing)}${pausedText(standing, paused)}`;
  return { ...facts, summary: `${show(id)} is in the queue ${show(channel)}: ${text}` };
}

async function explainAbsent(handle: Handle, id: string, asked: string | undefined): Promise<Explanation> {
  const { name: channel } = handle;
  const buriedBy = await findLetter(handle, [...new Set([asked ?? SHARED_RECIPIENT, SHARED_RECIPIENT])], id);
  const foundIn = buriedBy === undefined ? await othersWith(handle, id) : [];
  const facts = {
    id,
    channel,
    found: false,
    foundIn,
    target: undefined,
    matchesRecipient: undefined,
    acknowledged: false,
    expired: false,
    dead: buriedBy !== undefined,
    paused: false,
    leasedUntil: undefined,
    delayedUntil: undefined,
    recipients: [],
  };
  return { ...facts, summary: absenceText(facts, buriedBy) };
}

function absenceText({ id, channel, foundIn }: Omit<Explanation, "summary">, buriedBy: string | undefined): string {
  if (buriedBy !== undefined) return `${show(id)} is a dead letter of ${nameOf(buriedBy)}: redrive delivers it again`;
  if (foundIn.length > 0)
    return `${show(id)} is not in the queue ${show(channel)}, but in ${foundIn.map(show).join(", ")}: look there`;
  return (
    `the queue ${show(channel)} does not hold ${show(id)}: it was never published here, or it is finished (acknowledged, ` +
    "expired, deleted), and no record of it is kept: the option keepAckedMs says how long records are; or it is a dead " +
    "letter of some recipient: ask with { recipient }"
  );
}

/** Who of these recipients has it among the dead letters. */
async function findLetter(handle: Handle, recipients: readonly string[], id: string): Promise<string | undefined> {
  for (const recipient of recipients) if (await hasLetter(handle, recipient, id)) return recipient;
  return undefined;
}

async function hasLetter({ runtime, name }: Handle, recipient: string, id: string): Promise<boolean> {
  const letters = runtime.backend.queue.deadLetters(name, recipient);
  let cursor: string | undefined;
  for (let seen = 0; seen < MAX_LETTERS; seen += LETTER_PAGE) {
    const page = await letters.list(cursor === undefined ? { max: LETTER_PAGE } : { max: LETTER_PAGE, cursor });
    if (page.letters.some(({ position }) => position === id)) return true;
    cursor = page.cursor;
    if (cursor === undefined) break;
  }
  return false;
}

async function othersWith({ runtime, name, shared }: Handle, id: string): Promise<readonly string[]> {
  const { queue } = runtime.backend;
  const others = [...shared.opened].filter((other) => other !== name).slice(-MAX_QUEUES);
  const found: string[] = [];
  for (let start = 0; start < others.length; start += QUEUES_AT_ONCE) {
    const some = others.slice(start, start + QUEUES_AT_ONCE);
    const held = await Promise.all(some.map(async (other) => (await queue.get(other, id)) !== undefined));
    found.push(...some.filter((_, index) => held[index]));
  }
  return found;
}

function targetOf({ header, id }: StoredItem, channel: string): string | undefined {
  try {
    return decodeHeader(header, channel, id).target;
  } catch {
    // Somebody else's message, or a newer layout's: then that is not known.
    return undefined;
  }
}

/** How it stands with one recipient, behind "it". */
function tell({ recipient, state, attempts, until }: RecipientState): string {
  const who = nameOf(recipient);
  const at = until === undefined ? "" : ` ${new Date(until).toISOString()}`;
  const texts: Readonly<Record<ItemState, string>> = {
    waiting: `is ready for ${who}, and waits for a consumer that has room`,
    delayed: `is for ${who}, and not delivered before${at}${attempts > 0 ? `: attempt ${attempts} failed` : ""}`,
    leased: `is held by a consumer of ${who} until${at}, unless that renews its lease`,
    acked: `was acknowledged by ${who} at${at}`,
    dead: `became a dead letter of ${who} at${at}: redrive delivers it again`,
    expired: `expired at${at} before ${who} had finished it`,
  };
  return texts[state];
}

function pausedText({ state, recipient }: RecipientState, paused: boolean): string {
  const isOpen = state === "waiting" || state === "delayed";
  return paused && isOpen ? `; and ${nameOf(recipient)} is paused: resume hands it out` : "";
}

function sumUp({ recipients, state }: StoredItem, isForAudience: boolean, asked: string | undefined): string {
  const names = recipients.slice(0, 3).map(({ recipient }) => nameOf(recipient));
  const who = `${names.join(", ")}${recipients.length > names.length ? " …" : ""}`;
  if (asked !== undefined)
    return isForAudience
      ? `${nameOf(asked)} has finished it, or was not registered when it was published; it is still for ${who || "nobody"}`
      : `it is for ${who}, and not for ${nameOf(asked)}`;
  const counts = new Map<string, number>();
  for (const each of recipients) counts.set(each.state, (counts.get(each.state) ?? 0) + 1);
  const parts = [...counts].map(([name, count]) => `${count} ${name}`).join(", ");
  return state === "open"
    ? `it is for several (${who}): ${parts}`
    : `it is finished: ${state}${parts && ` (${parts})`}`;
}

function nameOf(recipient: string): string {
  return recipient === SHARED_RECIPIENT ? "whoever consumes the queue" : show(recipient);
}
