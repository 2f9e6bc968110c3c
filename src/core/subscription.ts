/** Starts consumers for a facade: the handler form and the iterable form, with telemetry, ownership and close. */

import { randomUUID } from "node:crypto";
import type { Feed, Taken } from "./backend.js";
import { Consumer } from "./consumer.js";
import type { ConsumerEvents, ConsumerOptions } from "./consumer-options.js";
import type { Consuming, SubscriptionStats } from "./consumer-stats.js";
import { Deliveries, type DeliveryStream } from "./deliveries.js";
import type { QueueDelivery } from "./delivery.js";
import { type ErrorRules, verdictOnFailure } from "./error-policy.js";
import { DataLossDetected, toError } from "./errors.js";
import { createFailureNews } from "./failure-news.js";
import { createDecoder, type Decoding, Foreign, type Handle } from "./handler.js";
import { abortable } from "./lifecycle.js";
import { aDuration, type Checks, checkOptions } from "./options.js";
import { GIVE_BACK, LEFT_TO_OTHERS, PASSED_BY, STOP } from "./outcome.js";
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
  /** They come before it. */
  readonly rules?: ErrorRules | undefined;
  /** Deliveries out at once. */
  readonly concurrency: number;
  /** See {@link ConsumerOptions}. */
  readonly fetchAhead?: boolean;
  readonly leaseMs: number;
  /** See {@link ConsumerOptions}. */
  readonly currentLeaseMs?: () => Promise<number | undefined>;
  /** Messages may be dropped before they are handled, because somebody wants it so: counted, and no failure. */
  readonly mayLose: boolean;
  /** By what they are removed otherwise. Default: by what removes the entries of streams. */
  readonly lostBy?: string;
  /** Opens the feed under this consumer name. */
  readonly open: (consumer: string) => Promise<Feed>;
  /** What comes between a delivery and its handler. */
  readonly around?: (handle: Handle) => Handle;
  /** Hears of each answer of the feed. */
  readonly onTaken?: (taken: Taken) => void;
  /** Called when the consumer has closed, or could not start; maybe twice. */
  readonly onClose?: () => Promise<void>;
  /** It takes answers that other consumers' handlers may wait for: when the broker closes, it ends after them. */
  readonly isInbox?: true;
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

/**
 * Starts a consumer for each plan; in force once this resolves. All or none: a failure closes those that had started.
 *
 * @param bind makes what runs the deliveries of a plan
 */
export async function subscribe<P extends ConsumerPlan>(
  runtime: Runtime,
  plans: readonly P[],
  bind: (plan: P) => Handle,
  signal: AbortSignal | undefined,
): Promise<Subscription> {
  signal?.throwIfAborted();
  const consumers = plans.map((plan) => ({ plan, consumer: createConsumer(runtime, plan, bind(plan)) }));
  const stats = (): SubscriptionStats[] => consumers.map(({ plan, consumer }) => statsOf(plan, consumer));
  const close = async (options?: { readonly drainMs?: number }): Promise<void> => {
    checkOptions("close", options, CLOSE_CHECKS);
    const drainMs = options?.drainMs ?? DEFAULT_DRAIN_MS;
    signal?.removeEventListener("abort", closeOnAbort);
    try {
      await Promise.all(consumers.map(({ plan, consumer }) => end(plan, consumer, drainMs)));
    } finally {
      runtime.owner.disown(consuming);
    }
    for (const { plan } of consumers) runtime.telemetry.log("unsubscribed_from_channel", namesOf(plan));
  };
  const closeOnAbort = (): void => {
    close().catch((error: unknown) => runtime.report(error, "closing a subscription whose signal aborted"));
  };
  const consuming: Consuming = { stats, close };
  if (plans.some(({ isInbox }) => isInbox)) runtime.owner.ownInbox(consuming);
  else runtime.owner.ownConsumer(consuming);
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

/** The iterable form: a consumer for each plan, which start with the first `next()`. */
export function iterate<T>(
  runtime: Runtime,
  prepare: () => Promise<readonly ConsumerPlan[]>,
  signal: AbortSignal | undefined,
): DeliveryStream<T, QueueDelivery<T>> {
  let consuming: Consuming | undefined;
  const create = (plan: ConsumerPlan): Consumer =>
    createConsumer(runtime, plan, createOfferer(plan, stream), (error) => stream.fail(error));
  const stream: Deliveries<T> = new Deliveries<T>({
    async start() {
      const consumers = (await prepare()).map((plan) => ({ plan, consumer: create(plan) }));
      const close = async (drainMs: number): Promise<void> => {
        await Promise.all(consumers.map(({ plan, consumer }) => end(plan, consumer, drainMs)));
      };
      consuming = {
        stats: () => consumers.map(({ plan, consumer }) => statsOf(plan, consumer)),
        close: (options) => stream.close(options),
      };
      runtime.owner.ownConsumer(consuming);
      try {
        await Promise.all(consumers.map(({ consumer }) => consumer.start()));
      } catch (error) {
        await close(0);
        throw error;
      }
      return { close: (options) => close(options?.drainMs ?? 0) };
    },
    ended() {
      if (consuming !== undefined) runtime.owner.disown(consuming);
    },
    report: (error) => runtime.report(error, "closing an iteration"),
    signal,
  });
  return stream;
}

/** @param onEnd hears when the consumer ends by itself, besides the log and `onError` */
function createConsumer(
  runtime: Runtime,
  plan: ConsumerPlan,
  handle: Handle,
  onEnd?: (error: Error) => void,
): Consumer {
  const events = consumerEvents(runtime, plan, (reason) => {
    onEnd?.(reason);
    // It is closing already: what its plan has beside it goes once it has.
    end(plan, consumer, 0).catch((failure: unknown) => runtime.report(failure, "closing a consumer that has ended"));
  });
  const consumer = new Consumer(consumerOptions(runtime, plan, handle, events));
  return consumer;
}

/** Closes a consumer, and what its plan has beside it even when that fails. */
async function end(plan: ConsumerPlan, consumer: Consumer, drainMs: number): Promise<void> {
  try {
    await consumer.close(drainMs);
  } finally {
    await plan.onClose?.();
  }
}

/** Hands each delivery that can be read to the loop. */
function createOfferer<T>(plan: ConsumerPlan, stream: Deliveries<T>): Handle {
  const { channel, decoding, policy } = plan;
  const decode = createDecoder<T>(decoding);
  return async (delivery, run) => {
    try {
      const data = await decode(delivery);
      return data instanceof Foreign ? data.verdict : await stream.offer(channel, data, run, policy);
    } catch (thrown) {
      run.thrown = toError(thrown);
      return verdictOnFailure(run.thrown, { channel, attempt: delivery.attempt, kind: "unreadable" }, plan);
    }
  };
}

function statsOf({ channel, reader }: ConsumerPlan, consumer: Consumer): SubscriptionStats {
  return { channel, reader, ...consumer.stats() };
}

function namesOf({ channel, reader }: ConsumerPlan): { channel: string; reader: string } {
  return { channel, reader };
}

function consumerOptions(
  runtime: Runtime,
  plan: ConsumerPlan,
  handle: Handle,
  events: ConsumerEvents,
): ConsumerOptions {
  return {
    open: () => plan.open(`${process.pid}-${randomUUID()}`),
    handle: plan.around === undefined ? handle : plan.around(handle),
    concurrency: plan.concurrency,
    ...(plan.fetchAhead !== undefined && { fetchAhead: plan.fetchAhead }),
    leaseMs: plan.leaseMs,
    ...(plan.currentLeaseMs !== undefined && { currentLeaseMs: plan.currentLeaseMs }),
    clock: runtime.clock,
    events,
  };
}

/** @param onEnd hears when the consumer ends by itself, besides the log and `onError` */
function consumerEvents(runtime: Runtime, plan: ConsumerPlan, onEnd: (error: Error) => void): ConsumerEvents {
  const { telemetry, clock } = runtime;
  const labels = namesOf(plan);
  const where = `consumer of ${plan.channel} (${plan.reader})`;
  const consumed = telemetry.counter(METRICS.consumed, plan.labels);
  const passedBy =
    plan.decoding.isForOthers !== undefined ? telemetry.counter("signalbox.passed.messages", plan.labels) : undefined;
  const lost = telemetry.counter("signalbox.lost.leases", plan.labels);
  const gone = telemetry.counter("signalbox.gone.messages", plan.labels);
  const expired = telemetry.counter("signalbox.expired.messages", plan.labels);
  const dead = telemetry.counter("signalbox.dead.messages", plan.labels);
  const retried = telemetry.counter("signalbox.retried.messages", plan.labels);
  const isNews = createFailureNews();
  const processing = telemetry.histogram(METRICS.processing, plan.labels);
  return {
    handled({ delivery: { position, attempt }, startedAt, thrown, failure }, verdict) {
      if (verdict === PASSED_BY) {
        passedBy?.add(1);
        return;
      }
      // Nobody has handled it, or what it came to changes nothing any more.
      const isUnhandled = verdict === GIVE_BACK || verdict === STOP || verdict === LEFT_TO_OTHERS;
      if (isUnhandled || failure !== undefined) return;
      processing.record(clock.now() - startedAt);
      if (verdict.as === "retry") {
        retried.add(1);
        const cause = thrown === undefined ? {} : { err: thrown };
        telemetry.log("message_retried", { ...labels, position, attempt, delayMs: verdict.delayMs, ...cause });
      } else if (verdict.as === "deadLetter") {
        dead.add(1);
        const { kind, message } = verdict.reason;
        telemetry.log("message_dead_lettered", { ...labels, position, attempt, kind, reason: message });
      }
    },
    taken(taken) {
      plan.onTaken?.(taken);
      consumed.add(taken.deliveries.length);
      if (taken.gone > 0) {
        gone.add(taken.gone);
        telemetry.log("message_gone", { ...labels, count: taken.gone });
        if (!plan.mayLose) runtime.report(lossOf(plan, taken.gone), where);
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
    failing(thrown, failures) {
      const error = toError(thrown);
      telemetry.log("consumer_failing", { ...labels, failures, err: error });
      if (isNews(error, failures)) runtime.report(error, where);
    },
    recovered: () => telemetry.log("consumer_recovered", labels),
    ended(error) {
      telemetry.log("consumer_ended", { ...labels, err: error });
      runtime.report(error, where);
      onEnd(error);
    },
  };
}

const LOST_BY = "trimmed or deleted by hand, or dropped for their age or number by a stream that drops the oldest";

function lossOf({ channel, reader, lostBy = LOST_BY }: ConsumerPlan, count: number): DataLossDetected {
  return new DataLossDetected(
    `${count} messages of "${channel}" were removed before "${reader}" had handled them: ${lostBy}`,
    { channel, reader, count },
  );
}
