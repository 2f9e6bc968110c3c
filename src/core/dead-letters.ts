/** Dead letters as a caller sees them: the same for groups of events and for recipients of queues. */

import type { DeadLetter as StoredLetter, DeadLetters, DeadReason } from "./backend.js";
import { createDecoder, type Decoding, toMessage } from "./handler.js";
import type { Message } from "./message.js";

/** A parked message with its reason. */
export interface DeadLetter<T = unknown> {
  /** Of the letter itself. */
  readonly id: string;
  /** Undefined where the stored bytes cannot be decoded any more: then `raw` is what there is. */
  readonly message: Message<T> | undefined;
  /** The payload as it is stored. */
  readonly raw: Uint8Array;
  readonly attempts: number;
  /** The consumer of the last attempt. */
  readonly consumer: string;
  readonly reason: DeadReason;
  /** When it was parked (ms since the epoch). */
  readonly at: number;
}

const PAGE = 100;

/** All present letters, oldest first, read page by page. */
export async function* readDeadLetters<T>(letters: DeadLetters, decoding: Decoding): AsyncGenerator<DeadLetter<T>> {
  // Not validated again: a payload that its schema refuses is just what one wants to see here.
  const decode = createDecoder<T>({ ...decoding, validatorFor: () => (data) => data });
  let cursor: string | undefined;
  do {
    const page = await letters.list(cursor === undefined ? { max: PAGE } : { max: PAGE, cursor });
    for (const letter of page.letters)
      yield { ...summaryOf(letter), message: await tryDecode(decoding, decode, letter) };
    cursor = page.cursor;
  } while (cursor !== undefined);
}

function summaryOf({ id, data, attempts, consumer, reason, at }: StoredLetter): Omit<DeadLetter<never>, "message"> {
  return { id, raw: data, attempts, consumer, reason, at };
}

async function tryDecode<T>(
  { channel }: Decoding,
  decode: ReturnType<typeof createDecoder<T>>,
  letter: StoredLetter,
): Promise<Message<T> | undefined> {
  try {
    return toMessage(channel, letter, await decode(letter));
  } catch {
    // Undecodable is one of the reasons for being here; the letter says so, and `raw` holds the bytes.
    return undefined;
  }
}
