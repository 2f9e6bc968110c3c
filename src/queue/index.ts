/** Work for recipients: by priority, with delay and time to live, each message held by one consumer at a time. */

import { type Durability, type NewItem, type Pushed, type QueueStats, SHARED_RECIPIENT } from "../core/backend.js";
import {
  assertGiven,
  assertHandler,
  CONSUME_CHECKS,
  type ConsumeOptions,
  DEFAULT_CONCURRENCY,
  DEFAULT_LEASE_MS,
  DEFAULT_MAX_DEAD_LETTERS,
  HANDLER_CHECKS,
  type HandlerOptions,
  retryPolicy,
} from "../core/consuming.js";
import type { InputOf, NameIn, OutputOf } from "../core/contract.js";
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
import type { DeliveryStream } from "../core/deliveries.js";
import { ErrorRules, type OnError } from "../core/error-policy.js";
import { InvalidArgumentError } from "../core/errors.js";
import { createRunner, type Decoding, type Handler } from "../core/handler.js";
import { abortableCall } from "../core/lifecycle.js";
import { handleThrough } from "../core/middleware.js";
import { validName } from "../core/names.js";
import { aDuration, anInteger, aSignal, type Checks, checkOptions, show } from "../core/options.js";
import { encodeOutgoing, MESSAGE_OPTIONS, type MessageOptions, type Outgoing, type Routing } from "../core/outgoing.js";
import { payloadOf } from "../core/payload.js";
import { Publisher } from "../core/publisher.js";
import type { Runtime } from "../core/runtime.js";
import { type ConsumerPlan, iterate, subscribe, type Subscription } from "../core/subscription.js";

export interface QueueOptions {
  /** Unfinished messages that the queue may hold, beyond which publishing is a `LimitError`. Default 1,000,000. */
  readonly maxItems?: number;
}

/** Proof that a message is stored, naming how safely. */
export interface QueueReceipt {
  readonly id: string;
  readonly durability: Durability;
}

export interface PublishQueueOptions extends MessageOptions {
  /** The recipient whose inbox it goes to. Default: whoever consumes the queue. */
  readonly target?: string;
  /** Any safe integer, higher first; kept across retries. Default 0. */
  readonly priority?: number;
  /** It waits and is retried for this long, then it expires. `null`, the default: for ever. A running handler is left alone. */
  readonly ttlMs?: number | null;
  /** It is not delivered before this much time has passed. Default 0. */
  readonly delayMs?: number;
  readonly signal?: AbortSignal;
}

/** For the iterable form; the other adds to it. */
export interface ConsumeQueueOptions extends ConsumeOptions {
  /** Consume this recipient's inbox. Default: the messages for whoever consumes the queue. */
  readonly as?: string;
}

export interface SubscribeQueueOptions extends ConsumeQueueOptions, HandlerOptions {}

/** A parked message, with where it comes from. */
export interface QueueDeadLetter<T = unknown> extends DeadLetter<T> {
  readonly queue: string;
  /** Empty: of those that are for whoever consumes the queue. */
  readonly recipient: string;
}

/** Whose dead letters. Default: of the messages for whoever consumes the queue. */
interface OfRecipient {
  readonly recipient?: string;
}

export interface Queue<T, R = T> {
  readonly name: string;
  /** Stores one message. What is published in the same tick travels together. */
  publish(data: T, options?: PublishQueueOptions): Promise<QueueReceipt>;
  /** Stores several, in order. Rejects when one is not stored; others may be. */
  publishMany(data: readonly T[], options?: PublishQueueOptions): Promise<readonly QueueReceipt[]>;
  /** Competing consumers: each message goes to one of them, the most urgent first. In force once it resolves. */
  subscribe(options: SubscribeQueueOptions, handler: Handler<R>): Promise<Subscription>;
  /** The same as an iterable: the caller settles each delivery. */
  deliveries(options?: ConsumeQueueOptions): DeliveryStream<R>;
  /** What was parked of a recipient, oldest first. */
  deadLetters(recipient?: string): AsyncGenerator<QueueDeadLetter<R>>;
  /** One dead letter, while it is kept. */
  inspect(
    id: string,
    options?: OfRecipient & { readonly signal?: AbortSignal },
  ): Promise<QueueDeadLetter<R> | undefined>;
  /** Delivers dead letters again: with their priority, without expiry, and with attempts from 1. @returns how many */
  redrive(options?: OfRecipient & RedriveOptions): Promise<number>;
  /** Forgets dead letters. @returns how many */
  purge(options?: OfRecipient & PurgeOptions): Promise<number>;
  /** Counts of a recipient. */
  stats(recipient?: string): Promise<QueueStats>;
  /** What becomes of deliveries that fail, for all consumers of this queue in this broker: see `broker.events.onError`. */
  readonly onError: OnError;
}

/** What `broker.queue` is. */
export type OpenQueue<C> = <N extends NameIn<C, "queues">>(
  name: N,
  options?: QueueOptions,
) => Queue<InputOf<C, "queues", N>, OutputOf<C, "queues", N>>;

type OutgoingItem = Outgoing & NewItem;

const DEFAULT_MAX_ITEMS = 1_000_000;
const QUEUE_CHECKS: Checks<QueueOptions> = { maxItems: anInteger(1, 1_000_000_000) };
const CONSUMING_CHECKS: Checks<ConsumeQueueOptions> = { ...CONSUME_CHECKS, as: () => undefined };
const SUBSCRIBE_CHECKS: Checks<SubscribeQueueOptions> = { ...CONSUMING_CHECKS, ...HANDLER_CHECKS };
/** Of calls about one recipient's dead letters; the recipient is checked on its own, as a name. */
const LETTER_CHECKS: Checks<OfRecipient & { readonly signal?: AbortSignal }> = {
  recipient: () => undefined,
  signal: aSignal,
};
const PUBLISH_OPTIONS = new Set([...MESSAGE_OPTIONS, "target", "priority", "ttlMs", "delayMs"]);
const priorityCheck = anInteger(Number.MIN_SAFE_INTEGER);
const delayCheck = aDuration();
const ttlCheck = aDuration(1);

type QueuePublisher = Publisher<OutgoingItem, Pushed, QueueReceipt, PublishQueueOptions>;

export function createQueues<C>(common: Runtime): OpenQueue<C> {
  const rules = new ErrorRules((error, where) => common.report(error, where));
  const runtime: Runtime = { ...common, rules };
  const { backend, contract, codecs } = runtime;
  const limits = new Map<string, { readonly maxItems: number }>();
  const publisher: QueuePublisher = new Publisher(runtime, {
    facade: "queue",
    known: PUBLISH_OPTIONS,
    store: (queue, batch) => backend.queue.push(queue, batch, limits.get(queue) ?? { maxItems: DEFAULT_MAX_ITEMS }),
    toReceipt: ({ id }) => ({ id, durability: backend.durability }),
    target(name) {
      const { validate, version } = payloadOf(contract, "queues", name);
      return {
        channel: name,
        validate,
        blockMs: undefined,
        encode: (data, options) => encodeItem(runtime, { queue: name, version }, data, options),
      };
    },
  });
  runtime.owner.ownPublisher(publisher);

  return (name, options) => {
    checkOptions("queue", options, QUEUE_CHECKS);
    const queue = validName("queue", name);
    const { read } = payloadOf(contract, "queues", queue);
    if (options?.maxItems !== undefined) limits.set(queue, { maxItems: options.maxItems });
    const decoding: Decoding = { channel: queue, codecs, readerFor: () => read, isForOthers: undefined };
    return { ...createQueue(runtime, publisher, decoding), onError: rules.adding(queue) };
  };
}

function createQueue<T, R>(
  runtime: Runtime,
  publisher: QueuePublisher,
  decoding: Decoding,
): Omit<Queue<T, R>, "onError"> {
  const { channel: name } = decoding;
  const { backend, clock, rules } = runtime;
  return {
    name,
    publish: (data, options) => publisher.publish(name, data, options),
    publishMany: (data, options) => publisher.publishMany(name, data, options),
    async subscribe(options, handler) {
      assertHandler(handler);
      assertGiven("queue.subscribe", options);
      const plan = createPlan(runtime, decoding, options, SUBSCRIBE_CHECKS);
      const running = { policy: plan.policy, rules, clock, timeoutMs: options.handlerTimeoutMs };
      return await subscribe(
        runtime,
        [plan],
        () => createRunner(decoding, handleThrough(runtime.middleware, "queue", handler), running),
        options.signal,
      );
    },
    deliveries(options = {}) {
      const plan = createPlan(runtime, decoding, options, CONSUMING_CHECKS);
      return iterate(runtime, async () => [plan], options.signal);
    },
    stats: async (recipient) => await backend.queue.stats(name, recipientOf(recipient)),
    ...letterCalls<R>(runtime, decoding),
  };
}

function letterCalls<R>(
  { backend }: Runtime,
  decoding: Decoding,
): Pick<Queue<unknown, R>, "deadLetters" | "inspect" | "redrive" | "purge"> {
  const { channel: queue } = decoding;
  const boxOf = (name: string | undefined): LetterBox<Pick<QueueDeadLetter, "queue" | "recipient">> => {
    const recipient = recipientOf(name);
    return { letters: backend.queue.deadLetters(queue, recipient), decoding, place: { queue, recipient } };
  };
  return {
    deadLetters: (recipient) => readDeadLetters(boxOf(recipient)),
    async inspect(id, options = {}) {
      checkOptions("queue.inspect", options, LETTER_CHECKS);
      return await readDeadLetter(boxOf(options.recipient), id, options.signal);
    },
    async redrive(given = {}) {
      checkOptions("queue.redrive", given, { ...LETTER_CHECKS, ...REDRIVE_CHECKS });
      const { recipient, ...options } = given;
      const { letters, place } = boxOf(recipient);
      const { dead } = await abortableCall(() => backend.queue.stats(queue, place.recipient), options.signal);
      return await redriveDeadLetters(letters, options, dead);
    },
    async purge(given = {}) {
      checkPurge("queue.purge", given, { ...LETTER_CHECKS, ...PURGE_CHECKS });
      const { recipient, ...options } = given;
      return await purgeDeadLetters(boxOf(recipient).letters, options);
    },
  };
}

function encodeItem(
  runtime: Runtime,
  { queue, version }: { readonly queue: string; readonly version: number | undefined },
  data: unknown,
  options?: PublishQueueOptions,
): OutgoingItem {
  const { target, priority = 0, delayMs = 0 } = options ?? {};
  // Null says that there is no end, as absence does: a default could be set one day.
  const ttlMs = options?.ttlMs ?? undefined;
  assertArgument("priority", priorityCheck(priority), priority);
  assertArgument("delayMs", delayCheck(delayMs), delayMs);
  if (ttlMs !== undefined) assertArgument("ttlMs", ttlCheck(ttlMs), ttlMs);
  const recipient = recipientOf(target);
  const routing: Routing = {
    channel: queue,
    type: queue,
    idIsPosition: true,
    isBare: target === undefined && priority === 0 && ttlMs === undefined && version === undefined,
    key: undefined,
    target: target === undefined ? undefined : recipient,
    priority: priority === 0 ? undefined : priority,
    expiresAt: ttlMs === undefined ? undefined : runtime.clock.now() + ttlMs,
    schemaVersion: version,
  };
  const { id, header, data: bytes, size } = encodeOutgoing(runtime, routing, data, options);
  return { id, header, data: bytes, size, recipient, priority, delayMs, ttlMs };
}

function assertArgument(name: string, problem: string | undefined, value: unknown): void {
  if (problem !== undefined) throw new InvalidArgumentError(`${name} ${problem}, not ${show(value)}`);
}

function recipientOf(name: string | undefined): string {
  return name === undefined ? SHARED_RECIPIENT : validName("recipient", name);
}

function createPlan<O extends ConsumeQueueOptions>(
  runtime: Runtime,
  decoding: Decoding,
  options: O,
  checks: Checks<O>,
): ConsumerPlan {
  checkOptions("queue.subscribe", options, checks);
  runtime.owner.assertOpen();
  const recipient = recipientOf(options.as);
  const policy = retryPolicy(options.retry);
  const leaseMs = options.leaseMs ?? DEFAULT_LEASE_MS;
  const maxDeadLetters = options.maxDeadLetters ?? DEFAULT_MAX_DEAD_LETTERS;
  const { maxAttempts } = policy;
  return {
    channel: decoding.channel,
    reader: recipient,
    // A recipient may be a user: not a label.
    labels: { channel: decoding.channel },
    decoding,
    policy,
    rules: runtime.rules,
    concurrency: options.concurrency ?? DEFAULT_CONCURRENCY,
    leaseMs,
    mayLose: false,
    open: (consumer) =>
      runtime.backend.queue.open(decoding.channel, recipient, { consumer, leaseMs, maxAttempts, maxDeadLetters }),
  };
}
