/** What was parked of a recipient: read, put back, forgotten. */

import {
  checkPurge,
  type DeadLetter,
  type LetterBox,
  PURGE_CHECKS,
  purgeDeadLetters,
  type PurgeOptions,
  readDeadLetter,
  readDeadLetters,
  REDRIVE_CHECKS,
  redriveDeadLetters,
  type RedriveOptions,
} from "../core/dead-letters.js";
import { aSignal, type Checks, checkOptions } from "../core/options.js";
import { call, type Handle } from "./handle.js";
import { anyRecipientOf } from "./publish.js";
import { CALL_CHECKS, type QueueCallOptions } from "./recipients.js";

/** A parked message, with where it comes from. */
export interface QueueDeadLetter<T = unknown> extends DeadLetter<T> {
  readonly queue: string;
  /** Empty: of those that are for whoever consumes the queue. */
  readonly recipient: string;
}

/** Whose dead letters. Default: of the messages for whoever consumes the queue. */
export interface OfRecipient {
  readonly recipient?: string;
}

export interface LetterCalls<T> {
  /** What was parked of a recipient, oldest first. */
  deadLetters(recipient?: string, options?: QueueCallOptions): AsyncGenerator<QueueDeadLetter<T>, void, undefined>;
  /** One dead letter, while it is kept. */
  inspect(id: string, options?: OfRecipient & QueueCallOptions): Promise<QueueDeadLetter<T> | undefined>;
  /** Delivers dead letters again: with their priority, without expiry, and with attempts from 1. @returns how many */
  redrive(options?: OfRecipient & RedriveOptions): Promise<number>;
  /** Forgets dead letters. @returns how many */
  purge(options?: OfRecipient & PurgeOptions): Promise<number>;
}

/** The recipient is checked on its own, as a name. */
const LETTER_CHECKS: Checks<OfRecipient & QueueCallOptions> = { recipient: () => undefined, signal: aSignal };

type Place = Pick<QueueDeadLetter, "queue" | "recipient">;

export function boxOf({ runtime, name: queue, decoding }: Handle, recipient: string): LetterBox<Place> {
  return { letters: runtime.backend.queue.deadLetters(queue, recipient), decoding, place: { queue, recipient } };
}

export function letterCalls<T>(handle: Handle): LetterCalls<T> {
  const { runtime, name } = handle;
  return {
    async *deadLetters(given, options) {
      checkOptions("queue.deadLetters", options, CALL_CHECKS);
      yield* readDeadLetters<T, Place>(boxOf(handle, anyRecipientOf(given)), options?.signal);
    },
    async inspect(id, options = {}) {
      checkOptions("queue.inspect", options, LETTER_CHECKS);
      return await readDeadLetter<T, Place>(boxOf(handle, anyRecipientOf(options.recipient)), id, options.signal);
    },
    async redrive(given = {}) {
      checkOptions("queue.redrive", given, { ...LETTER_CHECKS, ...REDRIVE_CHECKS });
      const { recipient, ...options } = given;
      const { letters, place } = boxOf(handle, anyRecipientOf(recipient));
      const about = { event: "put_message_failed", fields: { reader: place.recipient } } as const;
      return await call(handle, options.signal, about, async () => {
        const { dead } = await runtime.backend.queue.stats(name, place.recipient);
        return await redriveDeadLetters(letters, options, dead);
      });
    },
    async purge(given = {}) {
      checkPurge("queue.purge", given, { ...LETTER_CHECKS, ...PURGE_CHECKS });
      const { recipient, ...options } = given;
      return await purgeDeadLetters(boxOf(handle, anyRecipientOf(recipient)).letters, options);
    },
  };
}
