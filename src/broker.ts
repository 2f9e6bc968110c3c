/** The broker: the facades over one backend, and what ends with it. */

import type { Backend } from "./core/backend.js";
import type { SubscriptionStats } from "./core/consumer-stats.js";
import type { NoContract } from "./core/contract.js";
import { assessHealth, findIdleGroups, type Health } from "./core/health.js";
import { DEFAULT_HOLDER_LEASE_MS } from "./core/holder-lease.js";
import { abortableCall } from "./core/lifecycle.js";
import { Members } from "./core/members.js";
import { aSignal, type Checks, checkOptions } from "./core/options.js";
import { register, type Registered, type RegisterOptions } from "./core/registrations.js";
import type { Runtime } from "./core/runtime.js";
import { CLOSE_CHECKS, DEFAULT_DRAIN_MS } from "./core/subscription.js";
import type { Metric } from "./core/telemetry.js";
import { startTrimming } from "./core/trimming.js";
import { createEvents, type Events } from "./events/index.js";
import { createPubSub, type PubSub } from "./pubsub/index.js";
import type { ChannelStats } from "./pubsub/stats.js";
import { createPresence, type OpenPresence } from "./presence/index.js";
import { createQueues, type OpenQueue } from "./queue/index.js";

/** One connection to one place where messages live. Made by `connect`. */
export interface Broker<C = NoContract> extends AsyncDisposable {
  /** `memory`, `sqlite`, `redis`. */
  readonly backend: string;
  readonly pubsub: PubSub<C>;
  readonly events: Events<C>;
  readonly queue: OpenQueue<C>;
  readonly presence: OpenPresence;
  /** Round trip to the store, in milliseconds. */
  ping(options?: { readonly signal?: AbortSignal }): Promise<number>;
  /**
   * Checks every connection the broker owns, end to end, and the progress of every consumer and of the groups of its
   * streams. Rejects for an abort alone.
   */
  health(options?: { readonly signal?: AbortSignal }): Promise<Health>;
  /**
   * Subscribes the methods of an object that are decorated with `signalbox/decorators`: all or none. In force once it
   * resolves.
   */
  register(instance: object, options?: RegisterOptions): Promise<Registered<SubscriptionStats | ChannelStats>>;
  /** Counters and durations so far. */
  metrics(): readonly Metric[];
  /** Stops taking, lets handlers and publishes finish for up to `drainMs` (default 5,000), then closes everything. Safe to call twice. */
  close(options?: { readonly drainMs?: number }): Promise<void>;
}

const CALL_CHECKS: Checks<{ readonly signal?: AbortSignal }> = { signal: aSignal };

/** What `connect` says of the broker itself: see its options of these names. */
export interface BrokerOptions {
  readonly groupIdleMs?: number;
  readonly presenceLeaseMs?: number;
}

const DEFAULT_GROUP_IDLE_MS = 600_000;

export function createBroker<C>(runtime: Runtime, backend: Backend, options: BrokerOptions): Broker<C> {
  const { owner, streams, telemetry } = runtime;
  const { groupIdleMs = DEFAULT_GROUP_IDLE_MS, presenceLeaseMs = DEFAULT_HOLDER_LEASE_MS } = options;
  startTrimming(runtime);
  const members = new Members(runtime, presenceLeaseMs);
  owner.ownConsumer(members);

  async function close(options?: { readonly drainMs?: number }): Promise<void> {
    checkOptions("close", options, CLOSE_CHECKS);
    await owner.close(options?.drainMs ?? DEFAULT_DRAIN_MS, async () => {
      await backend.close();
      telemetry.log("backend_closed", { backend: backend.name });
    });
  }

  async function health(): Promise<Health> {
    const consumers = owner.consumers().flatMap((consumer) => consumer.stats());
    if (owner.isClosing) {
      return assessHealth([{ name: "broker", ok: false, error: "the broker is closed" }], consumers, []);
    }
    const checks = await backend.check();
    // A store that cannot be reached would only say so again, once for each stream.
    const isReachable = checks.every(({ ok }) => ok);
    const idle = await findIdleGroups(backend.log, isReachable ? streams.used() : [], groupIdleMs);
    return assessHealth([...checks, ...idle.checks], consumers, idle.groups, members.health());
  }

  const broker: Broker<C> = {
    backend: backend.name,
    pubsub: createPubSub<C>(runtime),
    events: createEvents<C>(runtime),
    queue: createQueues<C>(runtime),
    presence: createPresence(runtime, members),
    async ping(options) {
      checkOptions("ping", options, CALL_CHECKS);
      owner.assertOpen();
      return await abortableCall(() => backend.ping(), options?.signal);
    },
    async health(options) {
      checkOptions("health", options, CALL_CHECKS);
      return await abortableCall(health, options?.signal);
    },
    async register(instance, options) {
      const registered = await register(broker, instance, options, (error, where) => runtime.report(error, where));
      return registered as Registered<SubscriptionStats | ChannelStats>; // Of these facades' subscriptions.
    },
    metrics: () => telemetry.metrics(),
    close,
    [Symbol.asyncDispose]: () => close(),
  };
  return broker;
}
