/** Pub/sub: whoever listens now hears it, at most once. Nothing is stored; what must arrive is an event, or goes to a queue. */

import { Channels } from "../core/channels.js";
import { assertHandler, DEFAULT_CONCURRENCY, retryPolicy } from "../core/consuming.js";
import type { ChannelIn, InputOf, NameIn, OutputOf, ParamsIn } from "../core/contract.js";
import { ErrorRules, type OnError } from "../core/error-policy.js";
import { createExecutor, type Handler } from "../core/handler.js";
import { abortable } from "../core/lifecycle.js";
import { handleThrough } from "../core/middleware.js";
import { checkOptions } from "../core/options.js";
import type { Runtime } from "../core/runtime.js";
import { CLOSE_CHECKS } from "../core/subscription.js";
import { Dispatcher } from "./dispatcher.js";
import { type ChannelLetters, createGraveyard, letterCalls } from "./graveyard.js";
import {
  DEFAULT_HANDLER_TIMEOUT_MS,
  LISTEN_CHECKS,
  type ListenOptions,
  type PublishChannelManyOptions,
  type PublishChannelOptions,
  SUBSCRIBE_CHECKS,
  type SubscribeChannelOptions,
} from "./options.js";
import { type ChannelReceipt, createChannelPublisher } from "./publish.js";
import { RecentIds } from "./recent-ids.js";
import type { ChannelStats } from "./stats.js";
import { MessageStream } from "./stream.js";
import { type Wanted, wantedOf } from "./targets.js";

/** A subscription in force. */
export interface ChannelSubscription extends AsyncDisposable {
  /** Hears nothing more, lets handlers finish for up to `drainMs` (default 5,000), then aborts them. Safe to call twice. */
  close(options?: { readonly drainMs?: number }): Promise<void>;
  stats(): ChannelStats;
}

type Data<C, N> = OutputOf<C, "channels", N>;

export interface PubSub<C> extends ChannelLetters<ChannelIn<C>, unknown> {
  /**
   * Tells whoever listens to the channel: in this process at once, in others through the store. What is published in the
   * same tick to one channel travels together.
   *
   * @throws {ConnectionError} when the store cannot be reached: other processes may not have heard
   */
  publish<N extends NameIn<C, "channels">>(
    channel: N,
    data: InputOf<C, "channels", N>,
    options?: PublishChannelOptions,
  ): Promise<ChannelReceipt>;
  /** The same for several, in order. Rejects when one is not sent; others may be. */
  publishMany<N extends NameIn<C, "channels">>(
    channel: N,
    data: readonly InputOf<C, "channels", N>[],
    options?: PublishChannelManyOptions,
  ): Promise<readonly ChannelReceipt[]>;
  /**
   * Runs the handler for each message on the channels: exact names, templates such as `events.{type}`, or Redis globs such
   * as `events.*`; once for each message, also where several of them fit. In force once it resolves, on every connection
   * that there will be.
   */
  subscribe<N extends ChannelIn<C>>(
    channels: N | readonly N[],
    handler: Handler<Data<C, N>, ParamsIn<C, N>>,
  ): Promise<ChannelSubscription>;
  subscribe<N extends ChannelIn<C>>(
    channels: N | readonly N[],
    options: SubscribeChannelOptions,
    handler: Handler<Data<C, N>, ParamsIn<C, N>>,
  ): Promise<ChannelSubscription>;
  /**
   * The same as an iterable, which begins to listen with its `ready()` or the first `next()`. A message whose schema takes
   * more than 30 s is one that cannot be read.
   */
  listen<N extends ChannelIn<C>>(
    channels: N | readonly N[],
    options?: ListenOptions,
  ): MessageStream<Data<C, N>, ParamsIn<C, N>>;
  /**
   * What becomes of messages whose handler fails, or that cannot be read: the first rule that fits decides. Without one a
   * handler is tried again in process, and the failure is then reported; what cannot be read is reported at once.
   */
  readonly onError: OnError;
}

type AnyHandler = Handler<unknown>;

export function createPubSub<C>(common: Runtime): PubSub<C> {
  const rules = new ErrorRules((error, where) => common.report(error, where));
  const runtime: Runtime = { ...common, rules };
  const channels = new Channels(runtime.contract);
  const isDeclared = runtime.contract?.channels !== undefined;
  const publisher = createChannelPublisher(runtime, channels);
  runtime.owner.ownPublisher(publisher);
  const graveyard = createGraveyard(runtime);
  const recentOf = new WeakMap<AnyHandler, RecentIds>();

  const wanted = (names: string | readonly string[], sharded?: true): readonly Wanted[] =>
    wantedOf(channels, names, { isDeclared, sharded });

  function recentIdsOf(handler: AnyHandler): RecentIds {
    const recent = recentOf.get(handler) ?? new RecentIds();
    recentOf.set(handler, recent);
    return recent;
  }

  async function subscribe(
    names: string | readonly string[],
    options: SubscribeChannelOptions,
    handler: AnyHandler,
  ): Promise<ChannelSubscription> {
    assertHandler(handler);
    checkOptions("pubsub.subscribe", options, SUBSCRIBE_CHECKS);
    runtime.owner.assertOpen();
    options.signal?.throwIfAborted();
    const { clock, codecs, middleware } = runtime;
    const { handlerTimeoutMs: timeoutMs = DEFAULT_HANDLER_TIMEOUT_MS, concurrency = DEFAULT_CONCURRENCY } = options;
    const running = { policy: retryPolicy(options.retry), rules, clock, timeoutMs };
    const handle = handleThrough(middleware, "pubsub", handler);
    const dispatcher = new Dispatcher({
      runtime,
      graveyard,
      reader: options.name ?? (handler.name === "" ? "anonymous" : handler.name),
      wanted: wanted(names, options.sharded),
      listen: options,
      recent: options.dedupe ? recentIdsOf(handler) : undefined,
      concurrency,
      executeFor: (channel, { params, read }) =>
        createExecutor({ channel, params, codecs, readerFor: () => read, isForOthers: undefined }, handle, running),
    });
    return await inForce(runtime, dispatcher, options.signal);
  }

  return {
    publish: (channel, data, options) => publisher.publish(channel, data, options),
    publishMany: (channel, data, options) => publisher.publishMany(channel, data, options),
    subscribe: (
      names: string | readonly string[],
      ...rest: readonly [AnyHandler] | readonly [SubscribeChannelOptions, AnyHandler]
    ) => {
      const [options, handler] = rest.length === 1 ? [{}, rest[0]] : rest;
      return subscribe(names, options, handler);
    },
    listen(names: string | readonly string[], options: ListenOptions = {}) {
      checkOptions("pubsub.listen", options, LISTEN_CHECKS);
      runtime.owner.assertOpen();
      const own = wanted(names, options.sharded);
      return new MessageStream({ runtime, wanted: own, listen: options, policy: retryPolicy(), rules, graveyard });
    },
    onError: rules.adding(),
    ...letterCalls(runtime, (name) => wanted(name)[0]?.letters ?? name),
  } as PubSub<C>; // The contract's types are erased here: names and payloads are checked at run time.
}

/** Starts it; the broker owns it from then on. */
async function inForce(
  runtime: Runtime,
  dispatcher: Dispatcher,
  signal: AbortSignal | undefined,
): Promise<ChannelSubscription> {
  const close = async (options?: { readonly drainMs?: number }): Promise<void> => {
    checkOptions("close", options, CLOSE_CHECKS);
    signal?.removeEventListener("abort", closeOnAbort);
    try {
      await dispatcher.close(options);
    } finally {
      runtime.owner.disown(dispatcher);
    }
  };
  const closeOnAbort = (): void => {
    close().catch((error: unknown) => runtime.report(error, "closing a subscription whose signal aborted"));
  };
  runtime.owner.ownConsumer(dispatcher);
  try {
    await abortable(dispatcher.start(), signal);
    signal?.throwIfAborted();
  } catch (error) {
    // What is still being subscribed to may take its time.
    close({ drainMs: 0 }).catch((failure: unknown) => runtime.report(failure, "closing a subscription that failed"));
    throw error;
  }
  signal?.addEventListener("abort", closeOnAbort, { once: true });
  return { close, stats: () => dispatcher.channelStats(), [Symbol.asyncDispose]: () => close() };
}
