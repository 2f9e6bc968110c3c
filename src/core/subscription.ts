/** Starts consumers for a facade: the handler form and the iterable form, with telemetry, ownership and close. */

import { randomUUID } from "node:crypto";
import type { Feed } from "./backend.js";
import {
  Consumer,
  type ConsumerEvents,
  type ConsumerOptions,
  type Consuming,
  type SubscriptionStats,
} from "./consumer.js";
import { DeliveryStream } from "./deliveries.js";
import { createDecoder, createRunner, type Decoding, type Handle, type Handler, toMessage } from "./handler.js";
import { abortable } from "./lifecycle.js";
import type { Message } from "./message.js";
import { aDuration, type Checks, checkOptions } from "./options.js";
import { verdictOnUnreadable } from "./outcome.js";
import type { RetryPolicy } from "./retry.js";
import type { Runtime } from "./runtime.js";
import { METRICS, type Labels } from "./telemetry.js";

/** What a facade says about one consumer. */
export interface ConsumerPlan {
  /** The stream or queue. */
  readonly channel: string;
  /** The group or recipient, for logs and health. */
  readonly reader: string;
  /** Of its metrics: never a user's id. */
  readonly labels: Labels;
  readonly decoding: Decoding;
  readonly policy: RetryPolicy;
  readonly concurrency: number;
  readonly leaseMs: number;
  /** Opens the feed under this consumer name. */
  readonly open: (consumer: string) => Promise<Feed>;
}

/** A subscription in force. */
export interface Subscription extends AsyncDisposable {
  /** Stops taking, lets handlers finish for up to `drainMs` (default 5,000), then aborts them. What is unfinished goes to others. */
  close(options?: { readonly drainMs?: number }): Promise<void>;
  /** One entry for each stream or queue. */
  stats(): readonly SubscriptionStats[];
}

export const DEFAULT_DRAIN_MS = 5_000;
/** Of every `close`. */
export const CLOSE_CHECKS: Checks<{ readonly drainMs?: number }> = { drainMs: aDuration() };

/** Starts a consumer for each plan; in force once this resolves. All or none: a failure closes those that had started. */
export async function subscribe<T>(
  runtime: Runtime,
  plans: readonly ConsumerPlan[],
  handler: Handler<T>,
  signal: AbortSignal | undefined,
): Promise<Subscription> {
  signal?.throwIfAborted();
  const consumers = plans.map((plan) => ({
    plan,
    consumer: new Consumer(consumerOptions(runtime, plan, createRunner(plan.decoding, handler, plan.policy))),
  }));
  const stats = (): SubscriptionStats[] => consumers.map(({ plan, consumer }) => statsOf(plan, consumer));
  const close = async (options?: { readonly drainMs?: number }): Promise<void> => {
    checkOptions("close", options, CLOSE_CHECKS);
    const drainMs = options?.drainMs ?? DEFAULT_DRAIN_MS;
    signal?.removeEventListener("abort", closeOnAbort);
    try {
      await Promise.all(consumers.map(({ consumer }) => consumer.close(drainMs)));
    } finally {
      runtime.owner.disown(consuming);
    }
    for (const { plan } of consumers) runtime.telemetry.log("unsubscribed_from_channel", namesOf(plan));
  };
  const closeOnAbort = (): void => {
    close().catch((error: unknown) => runtime.report(error, "closing a subscription whose signal aborted"));
  };
  const consuming: Consuming = { stats, close };
  runtime.owner.ownConsumer(consuming);
  try {
    await abortable(Promise.all(consumers.map(({ consumer }) => consumer.start())), signal);
    signal?.throwIfAborted();
  } catch (error) {
    await close({ drainMs: 0 });
    throw error;
  }
  signal?.addEventListener("abort", closeOnAbort, { once: true });
  for (const { plan } of consumers) runtime.telemetry.log("subscribing_to_channel", namesOf(plan));
  return { close, stats, [Symbol.asyncDispose]: close };
}

/** The iterable form: one consumer that starts with the first `next()`. */
export function iterate<T>(
  runtime: Runtime,
  prepare: () => Promise<ConsumerPlan>,
  signal: AbortSignal | undefined,
): DeliveryStream<T> {
  let consuming: Consuming | undefined;
  const stream: DeliveryStream<T> = new DeliveryStream<T>({
    async start() {
      const plan = await prepare();
      const consumer = new Consumer(consumerOptions(runtime, plan, createOfferer(plan, stream)));
      consuming = { stats: () => [statsOf(plan, consumer)], close: (options) => stream.close(options) };
      runtime.owner.ownConsumer(consuming);
      await consumer.start();
      return consumer;
    },
    ended() {
      if (consuming !== undefined) runtime.owner.disown(consuming);
    },
    report: (error) => runtime.report(error, "closing an iteration whose signal aborted"),
    signal,
  });
  return stream;
}

/** Hands each delivery that can be read to the loop. */
function createOfferer<T>({ channel, decoding, policy }: ConsumerPlan, stream: DeliveryStream<T>): Handle {
  const decode = createDecoder<T>(decoding);
  return async (delivery, run) => {
    let message: Message<T>;
    try {
      message = toMessage(channel, delivery, await decode(delivery));
    } catch (thrown) {
      run.thrown = thrown;
      return verdictOnUnreadable(thrown, delivery.attempt, policy);
    }
    return await stream.offer(message, run, policy);
  };
}

function statsOf({ channel, reader }: ConsumerPlan, consumer: Consumer): SubscriptionStats {
  return { channel, reader, ...consumer.stats() };
}

function namesOf({ channel, reader }: ConsumerPlan): { channel: string; reader: string } {
  return { channel, reader };
}

function consumerOptions(runtime: Runtime, plan: ConsumerPlan, handle: Handle): ConsumerOptions {
  return {
    open: () => plan.open(`${process.pid}-${randomUUID()}`),
    handle,
    concurrency: plan.concurrency,
    leaseMs: plan.leaseMs,
    clock: runtime.clock,
    events: consumerEvents(runtime, plan),
  };
}

function consumerEvents(runtime: Runtime, plan: ConsumerPlan): ConsumerEvents {
  const { telemetry, clock } = runtime;
  const labels = namesOf(plan);
  const consumed = telemetry.counter(METRICS.consumed, plan.labels);
  const lost = telemetry.counter("signalbox.lost.leases", plan.labels);
  const gone = telemetry.counter("signalbox.gone.messages", plan.labels);
  const expired = telemetry.counter("signalbox.expired.messages", plan.labels);
  const dead = telemetry.counter("signalbox.dead.messages", plan.labels);
  const retried = telemetry.counter("signalbox.retried.messages", plan.labels);
  const processing = telemetry.histogram(METRICS.processing, plan.labels);
  return {
    handled({ delivery: { position, attempt }, startedAt, thrown }, verdict) {
      processing.record(clock.now() - startedAt);
      if (verdict.as === "retry") {
        retried.add(1);
        telemetry.log("message_retried", { ...labels, position, attempt, delayMs: verdict.delayMs, err: thrown });
      } else if (verdict.as === "deadLetter") {
        dead.add(1);
        const { kind, message } = verdict.reason;
        telemetry.log("message_dead_lettered", { ...labels, position, attempt, kind, reason: message });
      }
    },
    taken(taken) {
      consumed.add(taken.deliveries.length);
      if (taken.gone > 0) {
        gone.add(taken.gone);
        telemetry.log("message_gone", { ...labels, count: taken.gone });
      }
      if (taken.expired > 0) {
        expired.add(taken.expired);
        telemetry.log("message_expired", { ...labels, count: taken.expired });
      }
      if (taken.poisoned > 0) {
        dead.add(taken.poisoned);
        telemetry.log("message_dead_lettered", { ...labels, count: taken.poisoned, kind: "abandoned" });
      }
    },
    settled(count) {
      telemetry.log("message_acknowledged", { ...labels, count });
    },
    lost(count) {
      lost.add(count);
      telemetry.log("message_lease_lost", { ...labels, count });
    },
    failing(error, failures) {
      telemetry.log("consumer_failing", { ...labels, failures, err: error });
      // The first failure of a row is news; the rest shows in health().
      if (failures <= 1) runtime.report(error, `consumer of ${plan.channel} (${plan.reader})`);
    },
    recovered: () => telemetry.log("consumer_recovered", labels),
  };
}
