/** The one telemetry seam: logging, counters and durations, called by every facade and wrapped around every port. */

import type { Backend, DeadLetters, Feed, Log, Membership, Outcome, Queue, TakeRequest } from "./backend.js";
import type { Clock } from "./clock.js";
import { SignalboxError, toError } from "./errors.js";
import { LOG_EVENTS, type LogEvent, type LogLevel } from "./log-events.js";
import { anObjectWith, type Check } from "./options.js";

/** Where log events go; pino fits as it is: errors stand under `err`, which it knows how to write. */
export interface Logger {
  debug(fields: object, message: string): void;
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
  error(fields: object, message: string): void;
  /** Whether a level is written at all: what costs something to say is left unsaid otherwise. Default: each is. */
  isLevelEnabled?(level: LogLevel): boolean;
}

/** Labels of a metric. Never an id: `channel` is the stream, queue or template. */
export type Labels = Readonly<Record<string, string>>;

/** A counter or a histogram of durations; kept by whoever records, so that recording costs no lookup. */
export interface Counter {
  add(count: number): void;
}
export interface Histogram {
  record(ms: number): void;
}
/** Something that is there now, and may be less later. */
export interface Gauge {
  add(change: number): void;
}

/** One metric's present value. */
export type Metric =
  | { readonly kind: "counter" | "gauge"; readonly name: string; readonly labels: Labels; readonly value: number }
  | {
      readonly kind: "histogram";
      readonly name: string;
      readonly labels: Labels;
      readonly count: number;
      readonly sumMs: number;
      /** Counts of the values up to each of `BUCKETS_MS`; what is beyond the last shows in `count` alone. */
      readonly buckets: readonly number[];
    };

export interface Telemetry {
  log(event: LogEvent, fields?: object): void;
  /** Whether anybody reads such an event, for those that are told of each message. */
  isLogged(event: LogEvent): boolean;
  counter(name: string, labels: Labels): Counter;
  gauge(name: string, labels: Labels): Gauge;
  histogram(name: string, labels: Labels): Histogram;
  metrics(): readonly Metric[];
}

export const BUCKETS_MS: readonly number[] = [0.5, 1, 2.5, 5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000];

/** Metric names: the sources' own, beside OpenTelemetry's messaging conventions (semconv 1.45, experimental). */
export const METRICS = {
  sent: "messaging.client.sent.messages",
  consumed: "messaging.client.consumed.messages",
  operation: "messaging.client.operation.duration",
  processing: "messaging.process.duration",
  channelMessages: "pubsub.messages",
  channelSubscribers: "pubsub.subscribers",
  channelProcessing: "pubsub.processing.duration",
} as const;

/** Without a logger only warnings and errors are written, to stderr. */
export const stderrLogger: Logger = {
  debug: () => undefined,
  info: () => undefined,
  warn: (fields, message) => writeLine("warn", fields, message),
  error: (fields, message) => writeLine("error", fields, message),
  isLevelEnabled: (level) => level === "warn" || level === "error",
};

function writeLine(level: string, fields: object, message: string): void {
  const texts = Object.entries(fields).map(
    ([name, value]) => `${name}=${oneLine(value instanceof Error ? value.message : String(value))}`,
  );
  process.stderr.write(`signalbox ${level}: ${[message, ...texts].join(" ")}\n`);
}

/** A value from outside must neither begin a line of its own nor steer the terminal. */
function oneLine(text: string): string {
  if (!/[\p{Cc}\p{Zl}\p{Zp}]/u.test(text)) return text;
  return JSON.stringify(text).replace(
    // JSON lets these through.
    /[\p{Cc}\p{Zl}\p{Zp}]/gu,
    (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
}

/** For options: all four methods, since a missing one would show when something fails. */
export const aLogger: Check = anObjectWith("debug", "info", "warn", "error");

/** Labels hold names that callers make up: beyond this many series a metric's new ones share one, as in OpenTelemetry. */
const MAX_SERIES = 10_000;
const OVERFLOW: Labels = { "otel.metric.overflow": "true" };

export function createTelemetry(logger: Logger): Telemetry {
  const metrics = new Map<
    string,
    { sum: Counter & Gauge & { read(): Metric } } | { histogram: Histogram & { read(): Metric } }
  >();
  const keyOf = (name: string, labels: Labels): string => `${name} ${JSON.stringify(labels)}`;
  const seriesOf = (name: string, labels: Labels): { key: string; labels: Labels } => {
    const key = keyOf(name, labels);
    if (metrics.size < MAX_SERIES || metrics.has(key)) return { key, labels };
    return { key: keyOf(name, OVERFLOW), labels: OVERFLOW };
  };

  const sumOf = (kind: "counter" | "gauge", name: string, labels: Labels): Counter & Gauge => {
    const series = seriesOf(name, labels);
    const found = metrics.get(series.key);
    if (found !== undefined && "sum" in found) return found.sum;
    const sum = createSum(kind, name, series.labels);
    metrics.set(series.key, { sum });
    return sum;
  };

  const isLogged = (event: LogEvent): boolean => {
    try {
      return logger.isLevelEnabled?.(LOG_EVENTS[event].level) ?? true;
    } catch {
      // Then it is asked to write, and `log` tells of what it throws.
      return true;
    }
  };

  return {
    log(event, fields = {}) {
      if (!isLogged(event)) return;
      const { level, text } = LOG_EVENTS[event];
      try {
        logger[level]({ event, ...fields }, text);
      } catch (error) {
        // A logger that throws must not take a delivery with it.
        stderrLogger.error({ event, err: toError(error) }, "the logger threw");
      }
    },
    isLogged,
    counter: (name, labels) => sumOf("counter", name, labels),
    gauge: (name, labels) => sumOf("gauge", name, labels),
    histogram(name, labels) {
      const series = seriesOf(name, labels);
      const found = metrics.get(series.key);
      if (found !== undefined && "histogram" in found) return found.histogram;
      const histogram = createHistogram(name, series.labels);
      metrics.set(series.key, { histogram });
      return histogram;
    },
    metrics: () => [...metrics.values()].map((entry) => ("sum" in entry ? entry.sum.read() : entry.histogram.read())),
  };
}

function createSum(kind: "counter" | "gauge", name: string, labels: Labels): Counter & Gauge & { read(): Metric } {
  let value = 0;
  return {
    add(count) {
      value += count;
    },
    read: () => ({ kind, name, labels, value }),
  };
}

function createHistogram(name: string, labels: Labels): Histogram & { read(): Metric } {
  const buckets = BUCKETS_MS.map(() => 0);
  let count = 0;
  let sumMs = 0;
  return {
    record(ms) {
      count += 1;
      sumMs += ms;
      let index = 0;
      while (ms > (BUCKETS_MS[index] ?? Number.POSITIVE_INFINITY)) index += 1;
      if (index < buckets.length) buckets[index] = (buckets[index] ?? 0) + 1;
    },
    read: () => ({ kind: "histogram", name, labels, count, sumMs, buckets: [...buckets] }),
  };
}

/** The same backend, with the duration and the failures of each call recorded. Once per call, never once per message. */
export function observeBackend(backend: Backend, telemetry: Telemetry, clock: Clock): Backend {
  const timed = createTimer(backend.name, telemetry, clock);
  const { log, queue, broadcast, membership } = backend;
  return {
    name: backend.name,
    durability: backend.durability,
    broadcast: {
      publish: timed("broadcast", broadcast.publish.bind(broadcast)),
      subscribe: timed("subscribe", broadcast.subscribe.bind(broadcast)),
    },
    log: observeLog(log, timed),
    queue: observeQueue(queue, timed),
    membership: observeMembership(membership, timed),
    ping: timed("ping", backend.ping.bind(backend)),
    check: () => backend.check(),
    close: () => backend.close(),
  };
}

function observeLog(log: Log, timed: Timed): Log {
  return {
    append: timed("append", log.append.bind(log)),
    read: timed("read", log.read.bind(log)),
    configure: timed("configure", log.configure.bind(log)),
    changeRetention: timed("changeRetention", log.changeRetention.bind(log)),
    trim: timed("trim", log.trim.bind(log)),
    createGroup: timed("createGroup", log.createGroup.bind(log)),
    configureGroup: timed("configureGroup", log.configureGroup.bind(log)),
    seek: timed("seek", log.seek.bind(log)),
    pause: timed("pause", log.pause.bind(log)),
    resume: timed("resume", log.resume.bind(log)),
    deleteGroup: timed("deleteGroup", log.deleteGroup.bind(log)),
    open: async (...args) => observeFeed(await log.open(...args), timed),
    deadLetters: (...args) => observeLetters(log.deadLetters(...args), timed),
    park: timed("park", log.park.bind(log)),
    stats: timed("stats", log.stats.bind(log)),
  };
}

function observeQueue(queue: Queue, timed: Timed): Queue {
  return {
    push: timed("push", queue.push.bind(queue)),
    open: async (...args) => observeFeed(await queue.open(...args), timed),
    deadLetters: (...args) => observeLetters(queue.deadLetters(...args), timed),
    stats: timed("stats", queue.stats.bind(queue)),
    register: timed("register", queue.register.bind(queue)),
    unregister: timed("unregister", queue.unregister.bind(queue)),
    recipients: timed("recipients", queue.recipients.bind(queue)),
    pause: timed("pause", queue.pause.bind(queue)),
    resume: timed("resume", queue.resume.bind(queue)),
    configure: timed("configure", queue.configure.bind(queue)),
    browse: timed("browse", queue.browse.bind(queue)),
    get: timed("get", queue.get.bind(queue)),
    list: timed("list", queue.list.bind(queue)),
    count: timed("count", queue.count.bind(queue)),
    acknowledge: timed("acknowledge", queue.acknowledge.bind(queue)),
    remove: timed("remove", queue.remove.bind(queue)),
    clear: timed("clear", queue.clear.bind(queue)),
  };
}

function observeMembership(membership: Membership, timed: Timed): Membership {
  return {
    begin: timed("beginHolder", membership.begin.bind(membership)),
    renew: timed("renewHolder", membership.renew.bind(membership)),
    end: timed("endHolder", membership.end.bind(membership)),
    join: timed("join", membership.join.bind(membership)),
    leave: timed("leave", membership.leave.bind(membership)),
    list: timed("listMembers", membership.list.bind(membership)),
    find: timed("findMembers", membership.find.bind(membership)),
    versions: timed("groupVersions", membership.versions.bind(membership)),
    lapsing: timed("lapsingHolders", membership.lapsing.bind(membership)),
    reap: timed("reapHolder", membership.reap.bind(membership)),
  };
}

function observeFeed(feed: Feed, timed: Timed): Feed {
  return {
    take: timed("take", feed.take.bind(feed), isWork),
    extend: timed("extend", feed.extend.bind(feed)),
    close: () => feed.close(),
  };
}

function observeLetters(letters: DeadLetters, timed: Timed): DeadLetters {
  return {
    list: timed("listDeadLetters", letters.list.bind(letters)),
    get: timed("getDeadLetter", letters.get.bind(letters)),
    redrive: timed("redrive", letters.redrive.bind(letters)),
    remove: timed("removeDeadLetters", letters.remove.bind(letters)),
    purge: timed("purgeDeadLetters", letters.purge.bind(letters)),
  };
}

/** A take that may wait for messages says nothing about the store by its duration. */
function isWork(want: TakeRequest, outcomes: readonly Outcome[]): boolean {
  return want.waitMs === 0 || outcomes.length > 0;
}

type Timed = ReturnType<typeof createTimer>;

/** Failures are recorded under their code, and always: they are looked at for their count. */
function createTimer(system: string, telemetry: Telemetry, clock: Clock) {
  return <A extends readonly unknown[], R>(
    operation: string,
    call: (...args: A) => Promise<R>,
    isTimed: (...args: A) => boolean = () => true,
  ): ((...args: A) => Promise<R>) => {
    const labels = { "messaging.system.name": system, "messaging.operation.name": operation };
    const durations = telemetry.histogram(METRICS.operation, labels);
    return async (...args) => {
      const start = clock.now();
      try {
        const result = await call(...args);
        if (isTimed(...args)) durations.record(clock.now() - start);
        return result;
      } catch (error) {
        const type = error instanceof SignalboxError ? error.code : "OTHER";
        telemetry.histogram(METRICS.operation, { ...labels, "error.type": type }).record(clock.now() - start);
        throw error;
      }
    };
  };
}
