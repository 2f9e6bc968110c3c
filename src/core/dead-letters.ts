/** Dead letters as a caller sees them: the same for groups of events and for recipients of queues. */

import type { DeadLetter as StoredLetter, DeadLetters, DeadReason } from "./backend.js";
import { InvalidArgumentError } from "./errors.js";
import { createDecoder, type Decoding, Foreign, toMessage } from "./handler.js";
import { abortableCall } from "./lifecycle.js";
import type { Message } from "./message.js";
import { anAge, anInteger, aSignal, type Check, type Checks, checkOptions } from "./options.js";

/** A parked message with its reason. */
export interface DeadLetter<T = unknown> {
  /** Of the letter itself. */
  readonly id: string;
  /** Where the message stood: in its stream, its id in a queue, its channel in pub/sub. */
  readonly position: string;
  /** Undefined where the stored bytes cannot be decoded any more: then `raw` is what there is. */
  readonly message: Message<T> | undefined;
  /** The payload as it is stored. */
  readonly raw: Uint8Array;
  readonly attempts: number;
  /** The consumer of the last attempt. */
  readonly consumer: string;
  readonly reason: DeadReason;
  /** When an attempt first failed (ms since the epoch). */
  readonly firstFailedAt: number;
  /** When it was parked, which is when the last attempt failed. */
  readonly at: number;
}

export interface RedriveOptions {
  /** Put back at most this many, the oldest first. Default: all that are there when it starts. */
  readonly max?: number;
  /** Put back these letters. Those that are not kept any more are passed over. */
  readonly ids?: readonly string[];
  readonly signal?: AbortSignal;
}

export interface PurgeOptions {
  /** Forget those that were parked at least this long ago. Default: all. */
  readonly olderThanMs?: number;
  /** Forget these letters. */
  readonly ids?: readonly string[];
  readonly signal?: AbortSignal;
}

/** Letters read or moved at a time. */
const PAGE = 100;
const MAX_IDS = 1_000_000;

const aListOfIds: Check = (ids) =>
  Array.isArray(ids) && ids.length <= MAX_IDS && ids.every((id) => typeof id === "string" && id !== "")
    ? undefined
    : "must be a list of letters' ids";

export const REDRIVE_CHECKS: Checks<RedriveOptions> = { max: anInteger(1), ids: aListOfIds, signal: aSignal };
export const PURGE_CHECKS: Checks<PurgeOptions> = { olderThanMs: anAge(), ids: aListOfIds, signal: aSignal };

/** Whose letters they are: part of each that is shown. */
export interface LetterBox<P> {
  readonly letters: DeadLetters;
  readonly decoding: Decoding;
  /** Where they come from several: the channel of each. Default: that of `decoding`. */
  readonly channelOf?: (letter: StoredLetter) => string;
  readonly place: P;
}

/** All present letters, oldest first, read page by page. */
export async function* readDeadLetters<T, P extends object>(
  box: LetterBox<P>,
  signal?: AbortSignal,
): AsyncGenerator<DeadLetter<T> & P> {
  const show = createReader<T, P>(box);
  for await (const page of pagesOf(box.letters, signal)) {
    for (const letter of page) yield await show(letter);
  }
}

/** The letter of that id, while it is kept. */
export async function readDeadLetter<T, P extends object>(
  box: LetterBox<P>,
  id: string,
  signal?: AbortSignal,
): Promise<(DeadLetter<T> & P) | undefined> {
  if (typeof id !== "string" || id === "") throw new InvalidArgumentError("the id of a dead letter is text");
  const letter = await abortableCall(() => box.letters.get(id), signal);
  return letter === undefined ? undefined : await createReader<T, P>(box)(letter);
}

/**
 * Puts letters back.
 *
 * @param present how many there are now: those that a failing handler adds meanwhile are left alone
 * @returns how many were put back
 */
export async function redriveDeadLetters(
  letters: DeadLetters,
  { max = Number.POSITIVE_INFINITY, ids, signal }: RedriveOptions,
  present: number,
): Promise<number> {
  if (ids !== undefined) {
    const wanted = [...new Set(ids)].slice(0, max);
    return await inSlices(wanted, signal, (slice) => letters.redrive(slice));
  }
  let left = Math.min(max, present);
  let redriven = 0;
  if (left <= 0) return redriven;
  for await (const page of pagesOf(letters, signal, left)) {
    const slice = page.slice(0, left).map(({ id }) => id);
    redriven += await abortableCall(() => letters.redrive(slice), signal);
    left -= slice.length;
    if (left <= 0) break;
  }
  return redriven;
}

/** Forgets letters. @returns how many there were */
export async function purgeDeadLetters(
  letters: DeadLetters,
  { olderThanMs, ids, signal }: PurgeOptions,
): Promise<number> {
  if (ids === undefined) return await abortableCall(() => letters.purge(olderThanMs ?? 0), signal);
  return await inSlices([...new Set(ids)], signal, (slice) => letters.remove(slice));
}

/** @throws {ConfigError} for what cannot be meant */
export function checkPurge<T extends PurgeOptions>(where: string, options: T | undefined, checks: Checks<T>): void {
  checkOptions(where, options, checks);
  if (options?.ids !== undefined && options.olderThanMs !== undefined)
    throw new InvalidArgumentError(`${where} takes ids or olderThanMs, not both`);
}

async function* pagesOf(
  letters: DeadLetters,
  signal: AbortSignal | undefined,
  max = PAGE,
): AsyncGenerator<readonly StoredLetter[]> {
  let cursor: string | undefined;
  do {
    const size = Math.min(PAGE, max);
    const want = cursor === undefined ? { max: size } : { max: size, cursor };
    const page = await abortableCall(() => letters.list(want), signal);
    yield page.letters;
    cursor = page.cursor;
  } while (cursor !== undefined);
}

async function inSlices(
  ids: readonly string[],
  signal: AbortSignal | undefined,
  use: (slice: readonly string[]) => Promise<number>,
): Promise<number> {
  let count = 0;
  for (let start = 0; start < ids.length; start += PAGE)
    count += await abortableCall(() => use(ids.slice(start, start + PAGE)), signal);
  return count;
}

function createReader<T, P extends object>({ decoding, channelOf = () => decoding.channel, place }: LetterBox<P>) {
  const tryDecode = async (letter: StoredLetter): Promise<Message<T> | undefined> => {
    try {
      const channel = channelOf(letter);
      // Not validated again, and of whatever type: a payload that its schema refuses is just what one wants to see here.
      const data = await createDecoder<T>({ ...decoding, channel, readerFor: () => (given) => given })(letter);
      return data instanceof Foreign ? undefined : toMessage(channel, letter, data);
    } catch {
      // Undecodable is one of the reasons for being here; the letter says so, and `raw` holds the bytes.
      return undefined;
    }
  };
  return async (letter: StoredLetter): Promise<DeadLetter<T> & P> => {
    const { id, position, data, attempts, consumer, reason, firstFailedAt, at } = letter;
    const message = await tryDecode(letter);
    return { ...place, id, position, message, raw: data, attempts, consumer, reason, firstFailedAt, at };
  };
}
