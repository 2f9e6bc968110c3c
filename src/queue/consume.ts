/** Consuming a queue: options, whose messages they ask for, and the consumer that comes of it. */

import type { Taken } from "../core/backend.js";
import { answering } from "../core/answering.js";
import {
  BATCH_CHECKS,
  type BatchOptions,
  CONSUME_CHECKS,
  type ConsumeOptions,
  DEFAULT_CONCURRENCY,
  DEFAULT_LEASE_MS,
  DEFAULT_MAX_DEAD_LETTERS,
  HANDLER_CHECKS,
  type HandlerOptions,
  retryPolicy,
} from "../core/consuming.js";
import { ConfigError } from "../core/errors.js";
import { type Check, type Checks, findProblems, oneOf, show } from "../core/options.js";
import { forgetRecipient, privateRecipient } from "../core/private-recipients.js";
import type { ConsumerPlan } from "../core/subscription.js";
import { onRejection } from "../core/thenable.js";
import { type Handle, sayForConsumer } from "./handle.js";
import { recipientOf } from "./publish.js";

/** For the iterable form; the others add to it. */
export interface ConsumeQueueOptions extends ConsumeOptions {
  /** Consume this recipient's inbox, and register it. Default: the messages for whoever consumes the queue. */
  readonly as?: string;
  /** Each consumer gets its own copy of what is published for an audience, while it runs. Not with `as`. */
  readonly fanout?: true;
  /**
   * `strict`, the default: always the most urgent. `weighted`: one delivery in five goes round the less urgent priorities,
   * to the oldest of each in turn, so that none waits for ever.
   */
  readonly priorities?: "strict" | "weighted";
}

export interface SubscribeQueueOptions extends ConsumeQueueOptions, HandlerOptions {}

export interface SubscribeQueueBatchOptions extends ConsumeQueueOptions, HandlerOptions, BatchOptions {}

const onlyTrue: Check = (value) => (value === true ? undefined : "must be true, or left out");

const CHECKS: Checks<ConsumeQueueOptions> = {
  ...CONSUME_CHECKS,
  as: () => undefined, // Checked on its own, as a name.
  fanout: onlyTrue,
  priorities: oneOf("strict", "weighted"),
};

type Form = "queue.subscribe" | "queue.deliveries" | "queue.subscribeBatch";

/** What each form of consuming takes, by its name. */
const FORMS: Readonly<Record<Form, Readonly<Record<string, Check>>>> = {
  "queue.subscribe": { ...CHECKS, ...HANDLER_CHECKS },
  "queue.deliveries": CHECKS,
  "queue.subscribeBatch": { ...CHECKS, ...HANDLER_CHECKS, ...BATCH_CHECKS },
};

const LOST_BY =
  'dropped for others by a full queue that somebody publishes to with overflow "drop-oldest": say that where the queue is ' +
  "consumed as well, and it is counted alone";
/** A fan-out consumer whose feed shows no sign of life for this long has died: nobody else reads what is kept for it. */
const MAX_FANOUT_TTL_MS = 120_000;

/**
 * @param concurrency deliveries out at once
 * @throws {ConfigError} listing every problem
 */
export function planConsumer(
  handle: Handle,
  form: Form,
  options: ConsumeQueueOptions,
  concurrency: number = options.concurrency ?? DEFAULT_CONCURRENCY,
): ConsumerPlan {
  const { runtime, name, settings, decoding } = handle;
  const problems = findProblems(form, options, FORMS[form] as Checks<ConsumeQueueOptions>);
  if (problems.length === 0 && options.fanout === true && options.as !== undefined)
    problems.push(
      `${form}: fanout gives each consumer an inbox of its own, and as shares that of ${show(options.as)}: choose one`,
    );
  if (problems.length > 0) throw new ConfigError(problems);
  runtime.owner.assertOpen();
  const isFanout = options.fanout === true;
  const recipient = isFanout ? privateRecipient("fanout") : recipientOf(options.as);
  const policy = retryPolicy(options.retry);
  const leaseMs = options.leaseMs ?? DEFAULT_LEASE_MS;
  const ttlMs = isFanout ? Math.min(settings.recipientTtlMs, MAX_FANOUT_TTL_MS) : settings.recipientTtlMs;
  const terms = {
    leaseMs,
    maxAttempts: policy.maxAttempts,
    maxDeadLetters: options.maxDeadLetters ?? DEFAULT_MAX_DEAD_LETTERS,
    priorities: options.priorities ?? "strict",
    ...((isFanout || options.as !== undefined) && { registration: { ttlMs, isAudience: true } }),
  };
  return {
    channel: name,
    reader: recipient,
    // A recipient may be a user: not a label.
    labels: { channel: name },
    decoding,
    policy,
    rules: runtime.rules,
    concurrency,
    leaseMs,
    mayLose: settings.limits.overflow === "drop-oldest",
    lostBy: LOST_BY,
    async open(consumer) {
      await sayForConsumer(handle);
      return await runtime.backend.queue.open(name, recipient, { consumer, ...terms });
    },
    around: (handler) => answering(runtime, name, handler),
    ...(settings.onExpired !== undefined && { onTaken: (taken: Taken) => tellExpired(handle, recipient, taken) }),
    ...(isFanout && { onClose: () => forgetRecipient(runtime, name, recipient) }),
  };
}

/** Never throws: what the hook comes to is nothing that consuming depends on. */
function tellExpired({ runtime, name, settings }: Handle, recipient: string, { expired, expiredIds }: Taken): void {
  if (expired === 0) return;
  const failed = (error: unknown): void => runtime.report(error, `onExpired of the queue ${name}`);
  try {
    onRejection(settings.onExpired?.({ queue: name, recipient, count: expired, ids: expiredIds ?? [] }), failed);
  } catch (error) {
    failed(error);
  }
}
