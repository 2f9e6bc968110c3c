/** Durable events: what happened, recorded in order, processed by every group of consumers at least once. */

import type { Appended, Durability, GroupStart, Retention, StreamStats } from "../core/backend.js";
import {
  assertHandler,
  CONSUME_CHECKS,
  type ConsumeOptions,
  DEFAULT_CONCURRENCY,
  DEFAULT_LEASE_MS,
  DEFAULT_MAX_DEAD_LETTERS,
  retryPolicy,
} from "../core/consuming.js";
import { type InputOf, type NameIn, type OutputOf, validatorOf } from "../core/contract.js";
import { type DeadLetter, readDeadLetters } from "../core/dead-letters.js";
import type { DeliveryStream } from "../core/deliveries.js";
import { ConfigError, InvalidArgumentError } from "../core/errors.js";
import type { Decoding, Handler } from "../core/handler.js";
import { validName, validText } from "../core/names.js";
import { type Checks, findProblems } from "../core/options.js";
import { encodeOutgoing, MESSAGE_OPTIONS, type MessageOptions, type Outgoing, type Routing } from "../core/outgoing.js";
import { Publisher } from "../core/publisher.js";
import type { Runtime } from "../core/runtime.js";
import { type ConsumerPlan, iterate, subscribe, type Subscription } from "../core/subscription.js";

/** Proof that an event is stored, naming how safely. */
export interface EventReceipt {
  readonly id: string;
  /** Its place in the stream: opaque. */
  readonly position: string;
  readonly durability: Durability;
}

export interface PublishEventOptions extends MessageOptions {
  /** Names what the event is about, such as a customer's id. Travels with it; order by key will go by it. */
  readonly key?: string;
  readonly signal?: AbortSignal;
}

export interface SubscribeEventOptions extends ConsumeOptions {
  /** Consumers of one group share its events; every group gets all of them. */
  readonly group: string;
  /**
   * Where the group starts when it is new: at the `beginning`, with the `new` events only, behind a position, or with
   * the first event stored at or after a date. A group that exists goes on where it is.
   */
  readonly from: "beginning" | "new" | Date | { readonly after: string };
}

export interface Events<C> {
  /** Stores one event. What is published in the same tick travels together. */
  publish<N extends NameIn<C, "events">>(
    type: N,
    data: InputOf<C, "events", N>,
    options?: PublishEventOptions,
  ): Promise<EventReceipt>;
  /** Stores several, in order. Rejects when one is not stored; those before it may be. */
  publishMany<N extends NameIn<C, "events">>(
    type: N,
    data: readonly InputOf<C, "events", N>[],
    options?: PublishEventOptions,
  ): Promise<readonly EventReceipt[]>;
  /** Runs the handler for each event of these types. In force once it resolves. */
  subscribe<N extends NameIn<C, "events">>(
    types: N | readonly N[],
    options: SubscribeEventOptions,
    handler: Handler<OutputOf<C, "events", N>>,
  ): Promise<Subscription>;
  /** The same as an iterable: the caller settles each delivery. */
  deliveries<N extends NameIn<C, "events">>(
    type: N,
    options: SubscribeEventOptions,
  ): DeliveryStream<OutputOf<C, "events", N>>;
  group<N extends NameIn<C, "events">>(type: N, group: string): EventGroup<OutputOf<C, "events", N>>;
  /** Length of the stream, and what each group has still to do. */
  stats(type: NameIn<C, "events">): Promise<StreamStats>;
}

/** One group of one stream. */
export interface EventGroup<T> {
  /** What was parked, oldest first. */
  deadLetters(): AsyncGenerator<DeadLetter<T>>;
}

interface OutgoingEvent extends Outgoing {
  readonly key?: string;
}

/** Streams are bounded; entries that a group still has to read are kept, and publishing is refused instead. */
const RETENTION: Retention = { maxEntries: 1_000_000, overflow: "reject" };

const PUBLISH_OPTIONS = new Set([...MESSAGE_OPTIONS, "key"]);

const startCheck = (from: unknown): string | undefined => {
  if (from === "beginning" || from === "new" || (from instanceof Date && !Number.isNaN(from.getTime())))
    return undefined;
  if (typeof from === "object" && from !== null && "after" in from && typeof from.after === "string") return undefined;
  return 'must be "beginning", "new", a Date or { after: position }';
};

const SUBSCRIBE_CHECKS: Checks<SubscribeEventOptions> = { ...CONSUME_CHECKS, group: () => undefined, from: startCheck };

export function createEvents<C>(runtime: Runtime): Events<C> {
  const { backend, contract } = runtime;
  const publisher = new Publisher<OutgoingEvent, Appended, EventReceipt, PublishEventOptions>(runtime, {
    name: "events.publish",
    known: PUBLISH_OPTIONS,
    store: (stream, batch) => backend.log.append(stream, batch, RETENTION),
    toReceipt: ({ id }, { position }) => ({ id, position, durability: backend.durability }),
    target(type) {
      const stream = validName("event type", type);
      const routing = routingOf(stream, undefined);
      return {
        channel: stream,
        validate: validatorOf(contract, "events", stream),
        encode: (data, options) => encodeEvent(runtime, routing, data, options),
      };
    },
  });
  runtime.owner.ownPublisher(publisher);

  return {
    publish: (type, data, options) => publisher.publish(type, data, options),
    publishMany: (type, data, options) => publisher.publishMany(type, data, options),
    async subscribe(types, options, handler) {
      assertHandler(handler);
      const streams = checkSubscribe(runtime, "events.subscribe", types, options);
      const plans = await Promise.all(streams.map((stream) => createPlan(runtime, stream, options)));
      return await subscribe(runtime, plans, handler, options.signal);
    },
    deliveries(type, options) {
      const streams = checkSubscribe(runtime, "events.deliveries", type, options);
      return iterate(runtime, () => createPlan(runtime, String(streams[0]), options), options.signal);
    },
    group(type, group) {
      const stream = validName("event type", type);
      const letters = backend.log.deadLetters(stream, validName("group", group));
      return { deadLetters: () => readDeadLetters(letters, decodingOf(runtime, stream)) };
    },
    stats: async (type) => await backend.log.stats(validName("event type", type)),
  };
}

function routingOf(stream: string, key: string | undefined): Routing {
  return {
    channel: stream,
    type: stream,
    idIsPosition: false,
    isBare: key === undefined,
    key,
    target: undefined,
    priority: undefined,
    expiresAt: undefined,
  };
}

function encodeEvent(runtime: Runtime, routing: Routing, data: unknown, options?: PublishEventOptions): OutgoingEvent {
  const key = options?.key;
  if (key === undefined) return encodeOutgoing(runtime, routing, data, options);
  const keyed = routingOf(routing.channel, validText("key", key));
  const { id, header, data: bytes, size } = encodeOutgoing(runtime, keyed, data, options);
  return { id, header, data: bytes, size, key };
}

/** Checks everything before a group is made: one that nobody reads would hold its stream back. @returns the streams */
function checkSubscribe(
  runtime: Runtime,
  where: string,
  types: string | readonly string[],
  options: SubscribeEventOptions,
): readonly string[] {
  const missing = (["group", "from"] as const).filter((name) => options?.[name] === undefined);
  const problems = missing.map((name) => `${where}: ${name} is missing: ${MISSING[name]}`);
  problems.push(...findProblems(where, options, SUBSCRIBE_CHECKS));
  if (problems.length > 0) throw new ConfigError(problems);
  options.signal?.throwIfAborted();
  runtime.owner.assertOpen();
  validName("group", options.group);
  const names = Array.isArray(types) ? (types as readonly unknown[]) : [types];
  if (names.length === 0) throw new InvalidArgumentError(`${where} takes one event type or several, not none`);
  const streams = new Set(names.map((name) => validName("event type", name)));
  for (const stream of streams) validatorOf(runtime.contract, "events", stream);
  return [...streams];
}

const MISSING = {
  group: "name the group of consumers that share the events",
  from: 'say where a new group starts: "beginning", "new", a Date or { after: position }',
};

/** Makes the group where it is new, and plans a consumer by the settings that are stored with it. */
async function createPlan(runtime: Runtime, stream: string, options: SubscribeEventOptions): Promise<ConsumerPlan> {
  const { log } = runtime.backend;
  const group = validName("group", options.group);
  const decoding = decodingOf(runtime, stream);
  const asked = retryPolicy(options.retry);
  const stored = await log.createGroup(stream, group, {
    from: toStart(options.from),
    leaseMs: options.leaseMs ?? DEFAULT_LEASE_MS,
    maxAttempts: asked.maxAttempts,
    maxDeadLetters: options.maxDeadLetters ?? DEFAULT_MAX_DEAD_LETTERS,
  });
  assertAgreement(`group "${group}" of "${stream}"`, options, stored);
  return {
    channel: stream,
    reader: group,
    labels: { channel: stream, reader: group },
    decoding,
    policy: { ...asked, maxAttempts: stored.maxAttempts },
    concurrency: options.concurrency ?? DEFAULT_CONCURRENCY,
    leaseMs: stored.leaseMs,
    open: (consumer) => log.open(stream, group, consumer),
  };
}

/** What the caller did not say is as the group has it; what it did say must be what is stored. */
function assertAgreement(
  group: string,
  { leaseMs, maxDeadLetters, retry }: SubscribeEventOptions,
  stored: { leaseMs: number; maxAttempts: number; maxDeadLetters: number },
): void {
  const asked: Partial<Record<keyof typeof stored, number | undefined>> = {
    leaseMs,
    maxDeadLetters,
    maxAttempts: retry?.maxAttempts,
  };
  const problems = (["leaseMs", "maxAttempts", "maxDeadLetters"] as const)
    .filter((name) => asked[name] !== undefined && asked[name] !== stored[name])
    .map(
      (name) =>
        `${group} was made with ${name} ${stored[name]}, and this consumer asks for ${asked[name]}: they must agree`,
    );
  if (problems.length > 0) throw new ConfigError(problems);
}

function toStart(from: SubscribeEventOptions["from"]): GroupStart {
  return from instanceof Date ? { time: from.getTime() } : from;
}

function decodingOf({ contract, codecs }: Runtime, stream: string): Decoding {
  const validate = validatorOf(contract, "events", stream);
  return { channel: stream, codecs, validatorFor: () => validate };
}
