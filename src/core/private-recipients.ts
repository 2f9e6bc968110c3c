/** Recipients that one consumer has to itself, and that end with it. */

import { randomUUID } from "node:crypto";
import { atMost } from "./clock.js";
import type { Runtime } from "./runtime.js";

/** How their names begin, by what they are for: no recipient of a user's can have such a name. */
const PREFIXES = { fanout: "{fanout}:", reply: "{reply}:" } as const;
const FANOUT = /^\{fanout\}:\d+-[\da-f-]{36}$/;
/** As long as closing waits for a store that does not answer. */
const FORGET_MS = 1_000;

/** @returns a name that nobody else has */
export function privateRecipient(kind: keyof typeof PREFIXES): string {
  return `${PREFIXES[kind]}${process.pid}-${randomUUID()}`;
}

/** Whether it is an inbox for answers, which nobody but `request` has a use for. */
export function isReplyInbox(recipient: string): boolean {
  return recipient.startsWith(PREFIXES.reply);
}

/** Whether it is the inbox of a fan-out consumer, which whoever looks after a queue may look at, pause and forget. */
export function isFanout(recipient: unknown): recipient is string {
  return typeof recipient === "string" && FANOUT.test(recipient);
}

/** Forgets one with all that it has. Never rejects: what cannot be forgotten now lapses by itself. */
export async function forgetRecipient(runtime: Runtime, queue: string, name: string): Promise<void> {
  const forgetting = runtime.backend.queue.unregister(queue, name).catch((error: unknown) => {
    runtime.report(error, `forgetting a private recipient of the queue ${queue}`);
  });
  await atMost(runtime.clock, FORGET_MS, forgetting);
}
