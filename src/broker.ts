/** The broker: the facades over one backend, and what ends with it. */

import type { Backend } from "./core/backend.js";
import { CLOSE_CHECKS, DEFAULT_DRAIN_MS } from "./core/subscription.js";
import { assessHealth, type Health } from "./core/health.js";
import type { Metric } from "./core/telemetry.js";
import { checkOptions } from "./core/options.js";
import type { NoContract } from "./core/contract.js";
import type { Runtime } from "./core/runtime.js";
import { createEvents, type Events } from "./events/index.js";
import { createQueues, type OpenQueue } from "./queue/index.js";

/** One connection to one place where messages live. Made by `connect`. */
export interface Broker<C = NoContract> extends AsyncDisposable {
  /** `memory`, `sqlite`, `redis`. */
  readonly backend: string;
  readonly events: Events<C>;
  readonly queue: OpenQueue<C>;
  /** Round trip to the store, in milliseconds. */
  ping(): Promise<number>;
  /** Checks every connection the broker owns, end to end, and the progress of every consumer. Never rejects. */
  health(): Promise<Health>;
  /** Counters and durations so far. */
  metrics(): readonly Metric[];
  /** Stops taking, lets handlers and publishes finish for up to `drainMs` (default 5,000), then closes everything. Safe to call twice. */
  close(options?: { readonly drainMs?: number }): Promise<void>;
}

export function createBroker<C>(runtime: Runtime, backend: Backend): Broker<C> {
  const { owner, telemetry } = runtime;

  async function close(options?: { readonly drainMs?: number }): Promise<void> {
    checkOptions("close", options, CLOSE_CHECKS);
    await owner.close(options?.drainMs ?? DEFAULT_DRAIN_MS, async () => {
      await backend.close();
      telemetry.log("backend_closed", { backend: backend.name });
    });
  }

  return {
    backend: backend.name,
    events: createEvents<C>(runtime),
    queue: createQueues<C>(runtime),
    async ping() {
      owner.assertOpen();
      return await backend.ping();
    },
    async health() {
      const consumers = owner.consumers().flatMap((consumer) => consumer.stats());
      const checks = owner.isClosing
        ? [{ name: "broker", ok: false, error: "the broker is closed" }]
        : await backend.check();
      return assessHealth(checks, consumers);
    },
    metrics: () => telemetry.metrics(),
    close,
    [Symbol.asyncDispose]: () => close(),
  };
}
