/** Starts consumers for a facade: the handler form and the iterable form, with telemetry, ownership and close. */

import { randomUUID } from "node:crypto";
import type { Feed } from "./backend.js";
import { Consumer, type ConsumerEvents, type ConsumerOptions, type ConsumerStats } from "./consumer.js";
import { DeliveryStream } from "./deliveries.js";
import { createDecoder, createRunner, type Decoding, type Handle, type Handler, toMessage } from "./handler.js";
import { type Closable, abortable } from "./lifecycle.js";
import type { RetryPolicy } from "./retry.js";
import type { Runtime } from "./runtime.js";
import { METRICS, type Labels } from "./telemetry.js";

/** What a facade says about one consumer. */
export interface ConsumerPlan {
  /** The stream or queue. */
  readonly channel: string;
  /** The group or recipient, for logs and health. */
  readonly reader: string;
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

export interface SubscriptionStats extends ConsumerStats {
  readonly channel: string;
  readonly reader: string;
}

export const DEFAULT_DRAIN_MS = 5_000;

/** Something that `health()` asks. */
export interface Consuming extends Closable {
  stats(): readonly SubscriptionStats[];
}

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
  const stats = (): SubscriptionStats[] =>
    consumers.map(({ plan: { channel, reader }, consumer }) => ({ channel, reader, ...consumer.stats() }));
  const closable: Consuming = {
    stats,
    async close({ drainMs = DEFAULT_DRAIN_MS } = {}) {
      runtime.owner.disown(closable);
      await Promise.all(consumers.map(({ consumer }) => consumer.close(drainMs)));
      for (const { plan } of consumers) runtime.telemetry.log("unsubscribed_from_channel", namesOf(plan));
    },
  };
  const close: Subscription["close"] = (options) => closable.close(options);
  try {
    await abortable(Promise.all(consumers.map(({ consumer }) => consumer.start())), signal);
  } catch (error) {
    await close({ drainMs: 0 });
    throw error;
  }
  runtime.owner.own(closable);
  for (const { plan } of consumers) runtime.telemetry.log("subscribing_to_channel", namesOf(plan));
  signal?.addEventListener("abort", () => closeInBackground(runtime, closable), { once: true });
  return { close, stats, [Symbol.asyncDispose]: close };
}

/** Nobody waits for a close that a signal set off. */
function closeInBackground(runtime: Runtime, closable: Closable): void {
  closable.close().catch((error: unknown) => runtime.report(error, "closing a subscription whose signal aborted"));
}

/** The iterable form: one consumer that starts with the first `next()`. */
export function iterate<T>(
  runtime: Runtime,
  prepare: () => Promise<ConsumerPlan>,
  policy: RetryPolicy,
  signal: AbortSignal | undefined,
): DeliveryStream<T> {
  const start = async (stream: DeliveryStream<T>): Promise<Consumer> => {
    const plan = await prepare();
    const decode = createDecoder<T>(plan.decoding);
    const consumer: Consumer = new Consumer(
      consumerOptions(runtime, plan, async (delivery, run, onThrow) => {
        try {
          const message = toMessage(plan.channel, delivery, await decode(delivery));
          return await stream.offer(message, delivery, run, consumer);
        } catch (error) {
          onThrow(error);
          return stream.refuse(error, delivery);
        }
      }),
    );
    await consumer.start();
    const { channel, reader } = plan;
    const consuming: Consuming = {
      stats: () => [{ channel, reader, ...consumer.stats() }],
      close: () => stream.close(),
    };
    stream.onClosed = () => runtime.owner.disown(consuming);
    runtime.owner.own(consuming);
    return consumer;
  };
  return new DeliveryStream<T>(policy, start, signal);
}

function namesOf({ channel, reader }: ConsumerPlan): { channel: string; reader: string } {
  return { channel, reader };
}

function consumerOptions(runtime: Runtime, plan: ConsumerPlan, handle: Handle): ConsumerOptions {
  const { clock, telemetry } = runtime;
  const labels = { channel: plan.channel, reader: plan.reader };
  const processing = telemetry.histogram(METRICS.processing, labels);
  const retried = telemetry.counter("signalbox.retried.messages", labels);
  const dead = telemetry.counter("signalbox.dead.messages", labels);
  return {
    open: () => plan.open(`${process.pid}-${randomUUID()}`),
    concurrency: plan.concurrency,
    leaseMs: plan.leaseMs,
    clock,
    events: consumerEvents(runtime, labels),
    async handle(delivery, run) {
      const start = clock.now();
      let err: unknown;
      const verdict = await handle(delivery, run, (thrown) => {
        err = thrown;
      });
      processing.record(clock.now() - start);
      if (verdict.as === "ack") return verdict;
      const { position, attempt } = delivery;
      if (verdict.as === "retry") {
        retried.add(1);
        telemetry.log("message_retried", { ...labels, position, attempt, delayMs: verdict.delayMs, err });
      } else {
        dead.add(1);
        const { kind, message } = verdict.reason;
        telemetry.log("message_dead_lettered", { ...labels, position, attempt, kind, reason: message });
      }
      return verdict;
    },
  };
}

function consumerEvents(runtime: Runtime, labels: Labels): ConsumerEvents {
  const { telemetry } = runtime;
  const consumed = telemetry.counter(METRICS.consumed, labels);
  const lost = telemetry.counter("signalbox.lost.leases", labels);
  const gone = telemetry.counter("signalbox.gone.messages", labels);
  const expired = telemetry.counter("signalbox.expired.messages", labels);
  const dead = telemetry.counter("signalbox.dead.messages", labels);
  return {
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
      if (failures <= 1) runtime.report(error, `consumer of ${labels["channel"]} (${labels["reader"]})`);
    },
    recovered: () => telemetry.log("consumer_recovered", labels),
  };
}
