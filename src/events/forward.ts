/** Forwarding streams to another broker, live: from SQLite to Redis, for one. */

import type { Consuming } from "../core/consumer-stats.js";
import { DataLossDetected, InvalidArgumentError, toError } from "../core/errors.js";
import { createFailureNews } from "../core/failure-news.js";
import { Forwarding, type ForwardingEvents, type ForwardingStats } from "../core/forwarding.js";
import { abortable } from "../core/lifecycle.js";
import { validName } from "../core/names.js";
import { aSignal, assertSignal, type Checks, checkOptions, show } from "../core/options.js";
import { payloadOf } from "../core/payload.js";
import type { Runtime } from "../core/runtime.js";
import { CLOSE_CHECKS, DEFAULT_DRAIN_MS } from "../core/subscription.js";
import { METRICS } from "../core/telemetry.js";

export interface ForwardOptions {
  /** Keeps how far it has come: one group for each target. Default `forward`. */
  readonly group?: string;
  /** Ends the forwarding, as `close` does. */
  readonly signal?: AbortSignal;
}

/** A forwarding in force. */
export interface EventForwarding extends AsyncDisposable {
  /** Finishes the batch that is under way within `drainMs` (default 5,000). The next forwarding goes on behind it. */
  close(options?: { readonly drainMs?: number }): Promise<void>;
  /** One entry for each stream. */
  stats(): readonly ForwardingStats[];
  /**
   * Resolves once everything that is stored by now stands in the target, whichever process forwards it.
   *
   * @throws {ClosedError | NotFoundError} when the forwarding ends before
   */
  caughtUp(options?: { readonly signal?: AbortSignal }): Promise<void>;
}

/** Whatever `connect` gave. */
export interface ForwardTarget {
  readonly events: object;
}

const DEFAULT_GROUP = "forward";
const OPTION_CHECKS: Checks<ForwardOptions> = { group: () => undefined, signal: aSignal };

/** The runtime behind each broker's events: a broker shows its facades, and nothing of what they are made of. */
const runtimes = new WeakMap<object, Runtime>();

/** Notes which runtime these events have, so that others can forward to them. */
export function rememberRuntime(events: object, runtime: Runtime): void {
  runtimes.set(events, runtime);
}

/** Forwards the streams of these types; in force once this resolves. All or none. */
export async function forward(
  runtime: Runtime,
  types: string | readonly string[],
  target: ForwardTarget,
  options: ForwardOptions | undefined,
): Promise<EventForwarding> {
  checkOptions("events.forward", options, OPTION_CHECKS);
  options?.signal?.throwIfAborted();
  runtime.owner.assertOpen();
  const to = targetOf(runtime, target);
  const group = validName("group", options?.group ?? DEFAULT_GROUP);
  const forwardings = streamsOf(runtime, types).map((stream) => createForwarding(runtime, to, stream, group));
  const { signal } = options ?? {};

  const close = async (closeOptions?: { readonly drainMs?: number }): Promise<void> => {
    checkOptions("close", closeOptions, CLOSE_CHECKS);
    signal?.removeEventListener("abort", closeOnAbort);
    try {
      await Promise.all(forwardings.map((each) => each.close(closeOptions?.drainMs ?? DEFAULT_DRAIN_MS)));
    } finally {
      runtime.owner.disown(consuming);
    }
  };
  const closeOnAbort = (): void => {
    close().catch((error: unknown) => runtime.report(error, "closing a forwarding whose signal aborted"));
  };
  const stats = (): ForwardingStats[] => forwardings.map((each) => each.stats());
  const consuming: Consuming = { stats, close };
  runtime.owner.ownConsumer(consuming);
  try {
    await abortable(Promise.all(forwardings.map((each) => each.start())), signal);
    signal?.throwIfAborted();
  } catch (error) {
    await close({ drainMs: 0 });
    throw error;
  }
  signal?.addEventListener("abort", closeOnAbort, { once: true });
  return {
    close,
    stats,
    async caughtUp(waiting) {
      assertSignal(waiting?.signal);
      await Promise.all(forwardings.map((each) => each.caughtUp(waiting?.signal)));
    },
    [Symbol.asyncDispose]: close,
  };
}

function targetOf(runtime: Runtime, target: ForwardTarget): Runtime {
  // Callers without types get this far.
  const events: unknown = (target as Partial<ForwardTarget> | undefined)?.events;
  const to = typeof events === "object" && events !== null ? runtimes.get(events) : undefined;
  if (to === undefined)
    throw new InvalidArgumentError(
      `events.forward needs a broker to forward to, as connect gives it, not ${show(target)}`,
    );
  if (to === runtime) throw new InvalidArgumentError("a broker cannot forward to itself: pass the other one");
  to.owner.assertOpen();
  return to;
}

/** Types that share a stream are forwarded together: the stream is what keeps their order. */
function streamsOf({ contract, streams }: Runtime, types: string | readonly string[]): readonly string[] {
  const names = Array.isArray(types) ? (types as readonly unknown[]) : [types];
  if (names.length === 0) throw new InvalidArgumentError("events.forward takes one event type or several, not none");
  const found = names.map((name) => {
    const type = validName("event type", name);
    payloadOf(contract, "events", type);
    return streams.of(type).name;
  });
  return [...new Set(found)];
}

function createForwarding(runtime: Runtime, to: Runtime, stream: string, group: string): Forwarding {
  const { backend, clock } = runtime;
  return new Forwarding({
    source: backend,
    target: to.backend.log,
    stream,
    group,
    retention: to.streams.retentionOf(stream),
    clock,
    events: eventsOf(runtime, to, stream, group),
  });
}

function eventsOf(runtime: Runtime, to: Runtime, stream: string, group: string): ForwardingEvents {
  const { telemetry } = runtime;
  const labels = { channel: stream, reader: group };
  const consumed = telemetry.counter(METRICS.consumed, labels);
  const gone = telemetry.counter("signalbox.gone.messages", labels);
  const where = `forwarding ${stream} (${group})`;
  const mayLose = runtime.streams.retentionOf(stream).overflow === "drop-oldest";
  const sent = to.telemetry.counter(METRICS.sent, { channel: stream });
  const isNews = createFailureNews();
  return {
    forwarded(count, duplicates) {
      sent.add(count - duplicates);
      to.telemetry.log("message_published", { channel: stream, count: count - duplicates, forwarded: true });
    },
    taken(taken) {
      consumed.add(taken.deliveries.length);
      if (taken.gone === 0) return;
      gone.add(taken.gone);
      telemetry.log("message_gone", { ...labels, count: taken.gone });
      if (!mayLose) runtime.report(lossOf(stream, group, taken.gone), where);
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
    },
  };
}

function lossOf(channel: string, reader: string, count: number): DataLossDetected {
  const message = `${count} messages of "${channel}" were removed before they could be forwarded (${reader})`;
  return new DataLossDetected(message, { channel, reader, count });
}
