/** Durable events: what happened, recorded in order, processed by every group of consumers at least once. */

import type { Retention } from "../core/backend.js";
import { type BatchHandler, batchSizeOf, createBatchRunner } from "../core/batches.js";
import { assertHandler } from "../core/consuming.js";
import type { InputOf, NameIn, OutputOf } from "../core/contract.js";
import type { DeliveryStream } from "../core/deliveries.js";
import { ErrorRules, type OnError } from "../core/error-policy.js";
import { createRunner, type Handler } from "../core/handler.js";
import { abortable, abortableCall } from "../core/lifecycle.js";
import { handleBatchThrough, handleThrough } from "../core/middleware.js";
import { validName } from "../core/names.js";
import { aSignal, type Checks, checkOptions } from "../core/options.js";
import { payloadOf } from "../core/payload.js";
import type { Runtime } from "../core/runtime.js";
import type { Stream } from "../core/streams.js";
import { iterate, subscribe, type Subscription } from "../core/subscription.js";
import {
  checkConsume,
  type ConsumeEventOptions,
  planConsumers,
  type SubscribeBatchOptions,
  type SubscribeEventOptions,
  type Wanted,
} from "./consume.js";
import { type EventForwarding, forward, type ForwardOptions, type ForwardTarget, rememberRuntime } from "./forward.js";
import { type CallOptions, createGroup, type EventGroup } from "./group.js";
import { changeLimits, type StreamLimits } from "./limits.js";
import {
  createEventPublisher,
  type EventReceipt,
  type PublishEventOptions,
  type PublishEventsOptions,
} from "./publish.js";
import { replay, type ReplayOptions, type ReplayResult } from "./replay.js";
import { type EventStats, toEventStats } from "./stats.js";

export interface Events<C> {
  /** Stores one event. What is published in the same tick travels together. */
  publish<N extends NameIn<C, "events">>(
    type: N,
    data: InputOf<C, "events", N>,
    options?: PublishEventOptions,
  ): Promise<EventReceipt>;
  /** Stores several, in order. Rejects when one is not stored; others may be. */
  publishMany<N extends NameIn<C, "events">>(
    type: N,
    data: readonly InputOf<C, "events", N>[],
    options?: PublishEventsOptions<InputOf<C, "events", N>>,
  ): Promise<readonly EventReceipt[]>;
  /** Runs the handler for each event of these types. In force once it resolves. */
  subscribe<N extends NameIn<C, "events">>(
    types: N | readonly N[],
    options: SubscribeEventOptions,
    handler: Handler<OutputOf<C, "events", N>>,
  ): Promise<Subscription>;
  /** Runs the handler for several events at once: for as many as there are, up to `max`. */
  subscribeBatch<N extends NameIn<C, "events">>(
    types: N | readonly N[],
    options: SubscribeBatchOptions,
    handler: BatchHandler<OutputOf<C, "events", N>>,
  ): Promise<Subscription>;
  /** The same as an iterable: the caller settles each delivery. */
  deliveries<N extends NameIn<C, "events">>(
    types: N | readonly N[],
    options: ConsumeEventOptions,
  ): DeliveryStream<OutputOf<C, "events", N>>;
  /**
   * Reads a stretch of the past: its events one at a time and in order. Every group stays as it is.
   *
   * @throws {ReplayError} when the handler fails, with the position from which to go on
   */
  replay<N extends NameIn<C, "events">>(
    type: N,
    options: ReplayOptions<OutputOf<C, "events", N>>,
    handler: Handler<OutputOf<C, "events", N>>,
  ): Promise<ReplayResult>;
  /**
   * Moves what is stored in the streams of these types to the streams of the same names of another broker, and what is
   * stored later as well: in order, as it is, once by its id. Of several processes one does, the others stand by.
   *
   * @throws {ConfigError} when the group is one that consumers have made
   */
  forward<N extends NameIn<C, "events">>(
    types: N | readonly N[],
    target: ForwardTarget,
    options?: ForwardOptions,
  ): Promise<EventForwarding>;
  /** A group of the type's stream. What is asked of one that does not exist is a `NotFoundError`. */
  group<N extends NameIn<C, "events">>(
    type: N,
    name: string,
  ): EventGroup<OutputOf<C, "events", N>, NameIn<C, "events">>;
  /** Names of the groups of the type's stream. */
  groups(type: NameIn<C, "events">, options?: CallOptions): Promise<readonly string[]>;
  /**
   * Changes how long the type's stream may grow: for all processes, from the next event that is published. What is not
   * named stays. Whoever declares something else at `connect` is refused from then on.
   *
   * @returns what is stored from now on
   */
  configure(type: NameIn<C, "events">, changes: StreamLimits): Promise<Retention>;
  /** Counts of the type's stream, and what each group has still to do. */
  stats(type: NameIn<C, "events">, options?: CallOptions): Promise<EventStats>;
  /**
   * What becomes of deliveries that fail, for all consumers of this facade: the first rule that fits decides. Without one a
   * failed delivery is retried and becomes a dead letter; one that cannot be read becomes a dead letter at once.
   */
  readonly onError: OnError;
}

const CALL_CHECKS: Checks<CallOptions> = { signal: aSignal };

export function createEvents<C>(common: Runtime): Events<C> {
  const rules = new ErrorRules((error, where) => common.report(error, where));
  const runtime: Runtime = { ...common, rules };
  const { backend, clock } = runtime;
  const publisher = createEventPublisher(runtime);
  runtime.owner.ownPublisher(publisher);

  /** @throws {InvalidArgumentError} for a type that the contract does not have */
  const knownName = (type: string): string => {
    const name = validName("event type", type);
    payloadOf(runtime.contract, "events", name);
    return name;
  };
  const streamOf = (type: string): Stream => runtime.streams.of(validName("event type", type));
  const statsOf = async (method: string, type: string, options: CallOptions | undefined): Promise<EventStats> => {
    checkOptions(`events.${method}`, options, CALL_CHECKS);
    const { name } = streamOf(type);
    return toEventStats(name, await abortableCall(() => backend.log.stats(name), options?.signal));
  };

  const events: Events<C> = {
    publish: (type, data, options) => publisher.publish(type, data, options),
    publishMany: (type, data, options) =>
      // The functions among the options get what they are declared for: the data beside them.
      publisher.publishMany(type, data, options as PublishEventsOptions | undefined),
    async subscribe(types, options, handler) {
      assertHandler(handler);
      const wanted = checkConsume(runtime, "events.subscribe", types, options);
      const plans = await abortable(planConsumers(runtime, wanted, options), options.signal);
      const timeoutMs = options.handlerTimeoutMs;
      const handle = handleThrough(runtime.middleware, "events", handler);
      return await subscribe(
        runtime,
        plans,
        ({ decoding, policy }) => createRunner(decoding, handle, { policy, rules, clock, timeoutMs }),
        options.signal,
      );
    },
    async subscribeBatch(types, options, handler) {
      assertHandler(handler);
      const wanted = checkConsume(runtime, "events.subscribeBatch", types, options);
      return await subscribeBatch(runtime, wanted, options, handler);
    },
    deliveries(types, options) {
      const wanted = checkConsume(runtime, "events.deliveries", types, options);
      return iterate(runtime, () => planConsumers(runtime, wanted, options), options.signal);
    },
    async replay(type, options, handler) {
      runtime.owner.assertOpen();
      const name = knownName(type);
      return await replay(runtime, streamOf(name), name, options, handleThrough(runtime.middleware, "events", handler));
    },
    forward: (types, target, options) => forward(runtime, types, target, options),
    group: (type, name) => createGroup(runtime, streamOf(type), validName("group", name)),
    async groups(type, options) {
      const { groups } = await statsOf("groups", type, options);
      return groups.map(({ group }) => group);
    },
    configure: async (type, changes) => await changeLimits(runtime, streamOf(knownName(type)), changes),
    stats: (type, options) => statsOf("stats", type, options),
    onError: rules.adding(),
  };
  rememberRuntime(events, runtime);
  return events;
}

async function subscribeBatch<T>(
  runtime: Runtime,
  wanted: readonly Wanted[],
  options: SubscribeBatchOptions,
  handler: BatchHandler<T>,
): Promise<Subscription> {
  const { max, waitMs, concurrency } = batchSizeOf("events.subscribeBatch", options);
  const { signal } = options;
  const plans = await abortable(planConsumers(runtime, wanted, options, max * concurrency), signal);
  const handle = handleBatchThrough(runtime.middleware, "events", handler);
  return await subscribe(
    runtime,
    plans,
    ({ channel, reader, decoding, policy, settings }) =>
      createBatchRunner(decoding, handle, {
        policy,
        rules: runtime.rules,
        clock: runtime.clock,
        timeoutMs: options.handlerTimeoutMs,
        // In strict order there is never a second one to wait for.
        max: settings.order === "strict" ? 1 : max,
        waitMs,
        concurrency,
        report: (error) => runtime.report(error, `batch handler of ${channel} (${reader})`),
      }),
    signal,
  );
}
