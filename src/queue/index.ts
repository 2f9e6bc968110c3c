/** Work for recipients: by priority, with delay and time to live, each message held by one consumer at a time. */

import type { QueueStats } from "../core/backend.js";
import { type BatchHandler, batchSizeOf, createBatchRunner } from "../core/batches.js";
import { assertGiven, assertHandler } from "../core/consuming.js";
import type { InputOf, NameIn, OutputOf } from "../core/contract.js";
import type { DeliveryStream } from "../core/deliveries.js";
import type { QueueDelivery } from "../core/delivery.js";
import { ErrorRules, type OnError } from "../core/error-policy.js";
import { createRunner, type QueueHandler } from "../core/handler.js";
import { handleBatchThrough, handleThrough } from "../core/middleware.js";
import { NameCache, validName } from "../core/names.js";
import { checkOptions } from "../core/options.js";
import { payloadOf } from "../core/payload.js";
import type { Runtime } from "../core/runtime.js";
import { iterate, subscribe, type Subscription } from "../core/subscription.js";
import {
  type ConsumeQueueOptions,
  planConsumer,
  type SubscribeQueueBatchOptions,
  type SubscribeQueueOptions,
} from "./consume.js";
import { explain, type ExplainOptions, type Explanation } from "./explain.js";
import { agree, call, createShared, type Handle, noteOpened } from "./handle.js";
import { type ItemCalls, itemCalls } from "./items.js";
import { type LetterCalls, letterCalls } from "./letters.js";
import { type QueueOptions, settingsOf } from "./options.js";
import {
  createItemPublisher,
  createTarget,
  type ItemOptions,
  type PublishManyQueueOptions,
  type PublishQueueOptions,
  type QueuePublisher,
  type QueueReceipt,
  anyRecipientOf,
} from "./publish.js";
import { CALL_CHECKS, type QueueCallOptions, type RecipientCalls, recipientCalls } from "./recipients.js";
import { request, type RequestOptions } from "./request.js";

/** @typeParam T what is published @typeParam R what handlers get */
export interface Queue<T, R = T> extends ItemCalls<R>, RecipientCalls, LetterCalls<R> {
  readonly name: string;
  /** Stores one message. What is published in the same tick travels together. */
  publish(data: T, options?: PublishQueueOptions): Promise<QueueReceipt>;
  /** Stores several, in order. Rejects when one is not stored; others may be. */
  publishMany(data: readonly T[], options?: PublishManyQueueOptions<T>): Promise<readonly QueueReceipt[]>;
  /**
   * Publishes a request, and resolves with what its handler answers by `reply`: `ctx.reply(value)`, or the same of a
   * delivery. The answer is stored in the step that acknowledges the request.
   *
   * @throws {TimeoutError} without an answer within `timeoutMs`
   * @throws {RequestError} when the request was parked, or acknowledged without an answer
   */
  request(data: T, options?: RequestOptions): Promise<unknown>;
  /** Competing consumers: each message goes to one of them, the most urgent first. In force once it resolves. */
  subscribe(options: SubscribeQueueOptions, handler: QueueHandler<R>): Promise<Subscription>;
  /** Runs the handler for several messages at once: for as many as there are, up to `max`. */
  subscribeBatch(
    options: SubscribeQueueBatchOptions,
    handler: BatchHandler<R, QueueDelivery<R>>,
  ): Promise<Subscription>;
  /** The same as an iterable: the caller settles each delivery. */
  deliveries(options?: ConsumeQueueOptions): DeliveryStream<R, QueueDelivery<R>>;
  /** Why a message was not received: expired, for somebody else, acknowledged already, in another queue, held, paused …? */
  explain(id: string, options?: ExplainOptions): Promise<Explanation>;
  /** Counts of a recipient. Default: of whoever consumes the queue. */
  stats(recipient?: string, options?: QueueCallOptions): Promise<QueueStats>;
  /** What becomes of deliveries that fail, for all consumers of this queue in this broker: see `broker.events.onError`. */
  readonly onError: OnError;
}

/** What `broker.queue` is. */
export type OpenQueue<C> = <N extends NameIn<C, "queues">>(
  name: N,
  options?: QueueOptions,
) => Queue<InputOf<C, "queues", N>, OutputOf<C, "queues", N>>;

interface Publishers {
  readonly messages: QueuePublisher;
  readonly requests: QueuePublisher;
}

export function createQueues<C>(common: Runtime): OpenQueue<C> {
  const rules = new ErrorRules((error, where) => common.report(error, where));
  const runtime: Runtime = { ...common, rules };
  const { contract, codecs } = runtime;
  const shared = createShared();
  const publishers: Publishers = {
    messages: createItemPublisher(runtime, "publish"),
    requests: createItemPublisher(runtime, "request"),
  };
  const open = (given: string, options?: QueueOptions): Queue<never> => {
    const name = validName("queue", given);
    const settings = settingsOf(name, options);
    const payload = payloadOf(contract, "queues", name);
    noteOpened(shared, name);
    const decoding = { channel: name, codecs, readerFor: () => payload.read, isForOthers: undefined };
    const handle: Handle = { runtime, name, settings, payload, decoding, shared };
    return { ...createQueue<never, never>(handle, publishers), onError: rules.adding(name) };
  };
  // Opened as it is wherever something is published, a queue is made once.
  const plain = new NameCache((name) => open(name));
  // The contract's types, which `payloadOf` checks.
  return (name, options) => (options === undefined ? plain.get(name) : open(name, options));
}

function createQueue<T, R>(handle: Handle, publishers: Publishers): Omit<Queue<T, R>, "onError"> {
  const { runtime, name } = handle;
  return {
    name,
    ...publishing<T>(handle, publishers),
    ...consuming<R>(handle),
    ...itemCalls<R>(handle),
    ...recipientCalls(handle),
    ...letterCalls<R>(handle),
    explain: (id, options) => explain(handle, id, options),
    async stats(given, options) {
      checkOptions("queue.stats", options, CALL_CHECKS);
      const recipient = anyRecipientOf(given);
      return await call(handle, options?.signal, undefined, () => runtime.backend.queue.stats(name, recipient));
    },
  };
}

function publishing<T>(
  handle: Handle,
  { messages, requests }: Publishers,
): Pick<Queue<T>, "publish" | "publishMany" | "request"> {
  const target = createTarget(handle);
  return {
    publish(data, options) {
      const agreeing = whileOpen(handle);
      if (agreeing === undefined) return messages.publish(target, data, options);
      return agreeing.then(() => messages.publish(target, data, options));
    },
    async publishMany(data, options) {
      await whileOpen(handle);
      // The function among the options gets what it is declared for: the data beside it.
      return await messages.publishMany(target, data, options as ItemOptions | undefined);
    },
    request: (data, options) => request(handle, requests, target, data, options),
  };
}

/** Agrees on records, where there is something to agree on. What is closed says so itself. */
function whileOpen(handle: Handle): Promise<void> | undefined {
  return handle.runtime.owner.isPublishing ? agree(handle) : undefined;
}

function consuming<R>(queue: Handle): Pick<Queue<never, R>, "subscribe" | "subscribeBatch" | "deliveries"> {
  const { runtime, decoding } = queue;
  const { clock, middleware, rules } = runtime;
  return {
    async subscribe(options, handler) {
      assertHandler(handler);
      assertGiven("queue.subscribe", options);
      const plan = planConsumer(queue, "queue.subscribe", options);
      const running = { policy: plan.policy, rules, clock, timeoutMs: options.handlerTimeoutMs };
      const handle = handleThrough(middleware, "queue", handler);
      return await subscribe(runtime, [plan], () => createRunner(decoding, handle, running), options.signal);
    },
    async subscribeBatch(options, handler) {
      assertHandler(handler);
      assertGiven("queue.subscribeBatch", options);
      const size = batchSizeOf("queue.subscribeBatch", options);
      const plan = planConsumer(queue, "queue.subscribeBatch", options, size.max * size.concurrency);
      const batching = {
        ...size,
        policy: plan.policy,
        rules,
        clock,
        timeoutMs: options.handlerTimeoutMs,
        report: (error: unknown) => runtime.report(error, `batch handler of ${plan.channel} (${plan.reader})`),
      };
      const handle = handleBatchThrough(middleware, "queue", handler);
      return await subscribe(runtime, [plan], () => createBatchRunner(decoding, handle, batching), options.signal);
    },
    deliveries(options = {}) {
      const plan = planConsumer(queue, "queue.deliveries", options);
      return iterate(runtime, async () => [plan], options.signal);
    },
  };
}
