/** The recipients of a queue: who is registered, until when, and whose inbox is paused. */

import type { RegisteredRecipient } from "../core/backend.js";
import { abortableCall } from "../core/lifecycle.js";
import { validName } from "../core/names.js";
import { aSignal, type Checks, checkOptions } from "../core/options.js";
import { isFanout, isReplyInbox } from "../core/private-recipients.js";
import { call, type Handle } from "./handle.js";
import { recipientTtlCheck } from "./options.js";
import { anyRecipientOf } from "./publish.js";

/** Every call may be given up: it rejects with the signal's reason, and what was under way goes on unobserved. */
export interface QueueCallOptions {
  readonly signal?: AbortSignal;
}

export interface RegisterRecipientOptions extends QueueCallOptions {
  /** It is forgotten when nobody has read it for this long. Default: the queue's `recipientTtlMs`. */
  readonly ttlMs?: number;
}

export interface RecipientCalls {
  /** Makes a recipient known to audiences before anybody reads it; again, its time begins anew. `as` registers as well. */
  register(recipient: string, options?: RegisterRecipientOptions): Promise<void>;
  /** Forgets a recipient, with all that it has. @returns whether it was registered */
  unregister(recipient: string, options?: QueueCallOptions): Promise<boolean>;
  /** Those that are registered, in the order of their registration. */
  recipients(options?: QueueCallOptions): AsyncGenerator<RegisteredRecipient, void, undefined>;
  /** From now on nothing is handed out of this inbox, in any process, until `resume`. Default: of whoever consumes the queue. */
  pause(recipient?: string, options?: QueueCallOptions): Promise<void>;
  resume(recipient?: string, options?: QueueCallOptions): Promise<void>;
}

export const CALL_CHECKS: Checks<QueueCallOptions> = { signal: aSignal };
const REGISTER_CHECKS: Checks<RegisterRecipientOptions> = { signal: aSignal, ttlMs: recipientTtlCheck };
const PAGE = 1_000;

export function recipientCalls(handle: Handle): RecipientCalls {
  const { runtime, name, settings } = handle;
  const { queue } = runtime.backend;
  const plain = async <R>(method: string, options: QueueCallOptions | undefined, use: () => Promise<R>): Promise<R> => {
    checkOptions(`queue.${method}`, options, CALL_CHECKS);
    return await call(handle, options?.signal, undefined, use);
  };
  return {
    async register(given, options) {
      checkOptions("queue.register", options, REGISTER_CHECKS);
      const recipient = validName("recipient", given);
      const registration = { ttlMs: options?.ttlMs ?? settings.recipientTtlMs, isAudience: true };
      await call(handle, options?.signal, undefined, () => queue.register(name, recipient, registration));
    },
    async unregister(given, options) {
      const recipient = isFanout(given) ? given : validName("recipient", given);
      return await plain("unregister", options, () => queue.unregister(name, recipient));
    },
    async *recipients(options) {
      checkOptions("queue.recipients", options, CALL_CHECKS);
      let cursor: string | undefined;
      do {
        const want = cursor === undefined ? { max: PAGE } : { max: PAGE, cursor };
        const page = await abortableCall(() => queue.recipients(name, want), options?.signal);
        for (const each of page.recipients) if (!isReplyInbox(each.recipient)) yield each;
        cursor = page.cursor;
      } while (cursor !== undefined);
    },
    async pause(given, options) {
      const recipient = anyRecipientOf(given);
      await plain("pause", options, () => queue.pause(name, recipient));
    },
    async resume(given, options) {
      const recipient = anyRecipientOf(given);
      await plain("resume", options, () => queue.resume(name, recipient));
    },
  };
}
