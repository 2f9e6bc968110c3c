/** What the calls of pub/sub take, and how that is checked. */

import { HANDLER_CHECKS, type HandlerOptions, MAX_CONCURRENCY, RETRY_CHECKS } from "../core/consuming.js";
import { aFunction, anInteger, aSignal, type Check, type Checks, nested, oneOf } from "../core/options.js";
import type { MessageOptions } from "../core/message.js";
import type { RetryPolicy } from "../core/retry.js";

export interface PublishChannelOptions extends MessageOptions {
  /**
   * The message's own id, at most 200 characters: given to several channels, subscribers with `dedupe` handle it once.
   * Default: one of its own.
   */
  readonly id?: string;
  /** To the sharded channel of that name, which only sharded subscriptions hear. */
  readonly sharded?: true;
  /** Stops the waiting. A message on its way may be heard all the same. */
  readonly signal?: AbortSignal;
}

/** For several: each has an id of its own. */
export type PublishChannelManyOptions = Omit<PublishChannelOptions, "id">;

/** Messages may have been missed: the connection was lost, and the subscription is in force again. */
export interface Gap {
  /** What was subscribed to: the name, template or pattern as it was given. */
  readonly channel: string;
  readonly reason: string;
}

/** What both forms of subscribing take. */
export interface ListenOptions {
  /** Messages that may wait for the subscriber. Default 100. */
  readonly buffer?: number;
  /**
   * What becomes of messages beyond the buffer, once the handlers had their turn: `drop-oldest`, the default, and
   * `drop-newest` drop and count them, `error` ends the subscription.
   */
  readonly overflow?: "drop-oldest" | "drop-newest" | "error";
  /**
   * Subscribe to the sharded channel of that name, which lives on one node of a Redis Cluster instead of all. Its messages
   * are published with `sharded` as well. Not for patterns and templates.
   */
  readonly sharded?: true;
  /**
   * Pass over messages whose id this handler has had before, in whatever call that has `dedupe` as well: of the last 10,000.
   * In the iterable form: in this iteration.
   */
  readonly dedupe?: true;
  /** Hears when messages may have been missed, once the subscription is in force again. */
  readonly onGap?: (gap: Gap) => void | Promise<void>;
  /** Gives up the subscribing; later it ends the subscription, or the iteration, as their `close` does. */
  readonly signal?: AbortSignal;
}

export interface SubscribeChannelOptions extends ListenOptions, HandlerOptions {
  /**
   * Handlers at once. They start in order, unless an asynchronous schema takes longer for one than for the next; with 1
   * each starts when the one before has ended. Default 10.
   */
  readonly concurrency?: number;
  /**
   * A failed message is tried again in this process, in its handler's place. Defaults: 3 attempts, 100 ms doubling up to
   * 30 s, jitter 0.2. After the last the failure is reported.
   */
  readonly retry?: Partial<RetryPolicy>;
  /** How long a handler may take, for each attempt. Default 30,000. */
  readonly handlerTimeoutMs?: number;
  /** What the handler is called in metrics. Default: the function's own name. */
  readonly name?: string;
}

export const DEFAULT_BUFFER = 100;
export const DEFAULT_HANDLER_TIMEOUT_MS = 30_000;
const MAX_BUFFER = 1_000_000;
const MAX_NAME_CHARS = 200;

const yes: Check = (value) => (value === true ? undefined : "must be true, or left out");

const overflow: Check = (value) =>
  value === "block"
    ? 'cannot be "block": a subscriber that makes others wait is not for pub/sub; use events or a queue, which wait by themselves'
    : oneOf("drop-oldest", "drop-newest", "error")(value);

const aHandlerName: Check = (value) =>
  typeof value === "string" && value !== "" && value.length <= MAX_NAME_CHARS
    ? undefined
    : `must be text of 1 to ${MAX_NAME_CHARS} characters`;

export const LISTEN_CHECKS: Checks<ListenOptions> = {
  buffer: anInteger(0, MAX_BUFFER),
  overflow,
  sharded: yes,
  dedupe: yes,
  onGap: aFunction,
  signal: aSignal,
};

export const SUBSCRIBE_CHECKS: Checks<SubscribeChannelOptions> = {
  ...LISTEN_CHECKS,
  ...HANDLER_CHECKS,
  concurrency: anInteger(1, MAX_CONCURRENCY),
  retry: nested(RETRY_CHECKS),
  name: aHandlerName,
};
