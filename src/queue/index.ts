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
  retryPolicy,
} from "../core/consuming.js";
import { type InputOf, type NameIn, type OutputOf, validatorOf } from "../core/contract.js";
import { type DeadLetter, readDeadLetters } from "../core/dead-letters.js";
import type { DeliveryStream } from "../core/deliveries.js";
import { InvalidArgumentError } from "../core/errors.js";
import type { Decoding, Handler } from "../core/handler.js";
import { validName } from "../core/names.js";
import { aDuration, anInteger, type Checks, checkOptions, show } from "../core/options.js";
import { encodeOutgoing, MESSAGE_OPTIONS, type MessageOptions, type Outgoing, type Routing } from "../core/outgoing.js";
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

export interface SubscribeQueueOptions extends ConsumeOptions {
  /** Consume this recipient's inbox. Default: the messages for whoever consumes the queue. */
  readonly as?: string;
}

export interface Queue<T, R = T> {
  readonly name: string;
  /** Stores one message. What is published in the same tick travels together. */
  publish(data: T, options?: PublishQueueOptions): Promise<QueueReceipt>;
  /** Stores several, in order. Rejects when one is not stored; those before it may be. */
  publishMany(data: readonly T[], options?: PublishQueueOptions): Promise<readonly QueueReceipt[]>;
  /** Competing consumers: each message goes to one of them, the most urgent first. In force once it resolves. */
  subscribe(options: SubscribeQueueOptions, handler: Handler<R>): Promise<Subscription>;
  /** The same as an iterable: the caller settles each delivery. */
  deliveries(options?: SubscribeQueueOptions): DeliveryStream<R>;
  /** What was parked of a recipient, oldest first. */
  deadLetters(recipient?: string): AsyncGenerator<DeadLetter<R>>;
  /** Counts of a recipient. */
  stats(recipient?: string): Promise<QueueStats>;
}

/** What `broker.queue` is. */
export type OpenQueue<C> = <N extends NameIn<C, "queues">>(
  name: N,
  options?: QueueOptions,
) => Queue<InputOf<C, "queues", N>, OutputOf<C, "queues", N>>;

type OutgoingItem = Outgoing & NewItem;

const DEFAULT_MAX_ITEMS = 1_000_000;
const QUEUE_CHECKS: Checks<QueueOptions> = { maxItems: anInteger(1, 1_000_000_000) };
const SUBSCRIBE_CHECKS: Checks<SubscribeQueueOptions> = { ...CONSUME_CHECKS, as: () => undefined };
const PUBLISH_OPTIONS = new Set([...MESSAGE_OPTIONS, "target", "priority", "ttlMs", "delayMs"]);
const priorityCheck = anInteger(Number.MIN_SAFE_INTEGER);
const delayCheck = aDuration();
const ttlCheck = aDuration(1);

type QueuePublisher = Publisher<OutgoingItem, Pushed, QueueReceipt, PublishQueueOptions>;

export function createQueues<C>(runtime: Runtime): OpenQueue<C> {
  const { backend, contract, codecs } = runtime;
  const limits = new Map<string, { readonly maxItems: number }>();
  const publisher: QueuePublisher = new Publisher(runtime, {
    name: "queue.publish",
    known: PUBLISH_OPTIONS,
    store: (queue, batch) => backend.queue.push(queue, batch, limits.get(queue) ?? { maxItems: DEFAULT_MAX_ITEMS }),
    toReceipt: ({ id }) => ({ id, durability: backend.durability }),
    target: (name) => ({
      channel: name,
      validate: validatorOf(contract, "queues", name),
      encode: (data, options) => encodeItem(runtime, name, data, options),
    }),
  });
  runtime.owner.ownPublisher(publisher);

  return (name, options) => {
    checkOptions("queue", options, QUEUE_CHECKS);
    const queue = validName("queue", name);
    const validate = validatorOf(contract, "queues", queue);
    if (options?.maxItems !== undefined) limits.set(queue, { maxItems: options.maxItems });
    return createQueue(runtime, publisher, { channel: queue, codecs, validatorFor: () => validate });
  };
}

function createQueue<T, R>(runtime: Runtime, publisher: QueuePublisher, decoding: Decoding): Queue<T, R> {
  const { channel: name } = decoding;
  const { backend } = runtime;
  return {
    name,
    publish: (data, options) => publisher.publish(name, data, options),
    publishMany: (data, options) => publisher.publishMany(name, data, options),
    async subscribe(options, handler) {
      assertHandler(handler);
      const plan = createPlan(runtime, decoding, options);
      return await subscribe(runtime, [plan], handler, options.signal);
    },
    deliveries(options = {}) {
      const plan = createPlan(runtime, decoding, options);
      return iterate(runtime, async () => plan, options.signal);
    },
    deadLetters: (recipient) => readDeadLetters(backend.queue.deadLetters(name, recipientOf(recipient)), decoding),
    stats: async (recipient) => await backend.queue.stats(name, recipientOf(recipient)),
  };
}

function encodeItem(runtime: Runtime, queue: string, data: unknown, options?: PublishQueueOptions): OutgoingItem {
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
    isBare: target === undefined && priority === 0 && ttlMs === undefined,
    key: undefined,
    target: target === undefined ? undefined : recipient,
    priority: priority === 0 ? undefined : priority,
    expiresAt: ttlMs === undefined ? undefined : runtime.clock.now() + ttlMs,
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

function createPlan(runtime: Runtime, decoding: Decoding, options: SubscribeQueueOptions): ConsumerPlan {
  assertGiven("queue.subscribe", options);
  checkOptions("queue.subscribe", options, SUBSCRIBE_CHECKS);
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
    concurrency: options.concurrency ?? DEFAULT_CONCURRENCY,
    leaseMs,
    open: (consumer) =>
      runtime.backend.queue.open(decoding.channel, recipient, { consumer, leaseMs, maxAttempts, maxDeadLetters }),
  };
}
