/** Asking across a queue: a message that waits for its handler's answer. */

import { Inbox } from "../core/asking.js";
import { abortable } from "../core/lifecycle.js";
import { aDuration, anInteger, aSignal, type Checks, checkOptions } from "../core/options.js";
import type { MessageOptions } from "../core/outgoing.js";
import { agree, type Handle } from "./handle.js";
import { type QueuePublisher, type QueueTarget, requestTarget, ttlCheck } from "./publish.js";

export interface RequestOptions extends MessageOptions {
  /** Whom to ask. Default: whoever consumes the queue. */
  readonly target?: string;
  /** How long to wait for the answer, from the call on. Default 30,000. */
  readonly timeoutMs?: number;
  readonly priority?: number;
  /** It waits and is retried for this long. Default: `timeoutMs`, after which nobody waits for the answer. `null`: for ever. */
  readonly ttlMs?: number | null;
  /** Gives up waiting. */
  readonly signal?: AbortSignal;
}

const DEFAULT_TIMEOUT_MS = 30_000;
/** What travels with the message is checked with it. */
const later = (): undefined => undefined;
const CHECKS: Checks<RequestOptions> = {
  target: later,
  timeoutMs: aDuration(1),
  priority: anInteger(Number.MIN_SAFE_INTEGER),
  ttlMs: ttlCheck,
  signal: aSignal,
  source: later,
  correlationId: later,
  causationId: later,
  traceparent: later,
  schemaVersion: later,
  headers: later,
};

export async function request(
  handle: Handle,
  publisher: QueuePublisher,
  target: QueueTarget,
  data: unknown,
  options: RequestOptions = {},
): Promise<unknown> {
  checkOptions("queue.request", options, CHECKS);
  const { runtime } = handle;
  const { timeoutMs = DEFAULT_TIMEOUT_MS, signal, ...rest } = options;
  const id = runtime.createId();
  const sent = { correlationId: id, ...rest, ttlMs: rest.ttlMs === undefined ? timeoutMs : rest.ttlMs };
  return await inboxOf(handle).ask({
    id,
    timeoutMs,
    signal,
    async send(replyTo, over) {
      await abortable(agree(handle) ?? Promise.resolve(), over);
      await publisher.publish(requestTarget(handle, target, { id, replyTo }), data, { ...sent, signal: over });
    },
  });
}

function inboxOf({ runtime, name, shared }: Handle): Inbox {
  let inbox = shared.inboxes.get(name);
  if (inbox === undefined) {
    inbox = new Inbox(runtime, name);
    shared.inboxes.set(name, inbox);
  }
  return inbox;
}
