/** From what a caller publishes to an entry of a stream. */

import type { Appended, Durability } from "../core/backend.js";
import { NameCache, validName, validText } from "../core/names.js";
import {
  encodeOutgoing,
  MESSAGE_OPTIONS,
  type MessageOptions,
  type Outgoing,
  ownId,
  type Routing,
} from "../core/outgoing.js";
import { payloadOf } from "../core/payload.js";
import { Publisher, type PublishTarget } from "../core/publisher.js";
import type { Runtime } from "../core/runtime.js";

/** Proof that an event is stored, naming how safely. */
export interface EventReceipt {
  readonly id: string;
  /** Its place in the stream: opaque. Empty while a fallback keeps the event: it has no place yet. */
  readonly position: string;
  /** The stream remembers an event of this id: nothing was stored, and the position is the earlier one's. */
  readonly duplicate: boolean;
  /** What has been attained, by the server or by the fallback. */
  readonly durability: Durability;
  /** The server is away: the fallback keeps the event until it can be moved there. */
  readonly fallback?: true;
}

export interface PublishEventOptions extends MessageOptions {
  /** Names what the event is about, such as a customer's id. Travels with it; order by key goes by it. */
  readonly key?: string;
  /**
   * The event's own id, at most 200 characters. While the stream remembers it (for 10 minutes, unless 100,000 others
   * came first) an event of the same id is not stored again.
   */
  readonly id?: string;
  /** Stops the waiting. An event on its way may be stored all the same; one that waits for room is not. */
  readonly signal?: AbortSignal;
}

/** For several events: what they share, and what is told from each. */
export interface PublishEventsOptions<T = unknown> extends MessageOptions {
  /** One for all, or each its own. */
  readonly key?: string | ((data: T, index: number) => string | undefined);
  /** Each its own: see {@link PublishEventOptions.id}. */
  readonly id?: (data: T, index: number) => string;
  readonly signal?: AbortSignal;
}

type AnyOptions = PublishEventOptions | PublishEventsOptions;

interface OutgoingEvent extends Outgoing {
  readonly key?: string;
  readonly dedupeId?: string;
}

/** Publishes under the name of a type. */
export type EventPublisher = Publisher<string, OutgoingEvent, Appended, EventReceipt, AnyOptions>;

const PUBLISH_OPTIONS = new Set([...MESSAGE_OPTIONS, "key", "id"]);

export function createEventPublisher(runtime: Runtime): EventPublisher {
  const { backend } = runtime;
  const targets = new NameCache((name) => targetOf(runtime, name));
  return new Publisher(runtime, {
    facade: "events",
    target: (type: string) => targets.get(type),
    known: PUBLISH_OPTIONS,
    toReceipt: ({ id }, { position, duplicate, fallback }) =>
      fallback === undefined
        ? { id, position, duplicate, durability: backend.durability }
        : { id, position, duplicate, durability: fallback, fallback: true },
  });
}

function targetOf(runtime: Runtime, name: string): PublishTarget<OutgoingEvent, Appended, AnyOptions> {
  const { backend, contract, streams } = runtime;
  const type = validName("event type", name);
  const stream = streams.of(type);
  const { validate, version } = payloadOf(contract, "events", type);
  streams.use(stream);
  const routing = routingOf(stream.name, type, version, undefined);
  return {
    name: type,
    channel: stream.name,
    lane: stream.name,
    validate,
    blockMs: stream.blockMs,
    encode: (data, options, index) => encodeEvent(runtime, routing, data, options, index),
    store: (batch) => backend.log.append(stream.name, batch, streams.retentionOf(stream.name)),
  };
}

function routingOf(stream: string, type: string, schemaVersion: number | undefined, key: string | undefined): Routing {
  return {
    channel: stream,
    type,
    idIsPosition: false,
    isBare: type === stream && key === undefined && schemaVersion === undefined,
    key,
    target: undefined,
    priority: undefined,
    expiresAt: undefined,
    schemaVersion,
  };
}

function encodeEvent(
  runtime: Runtime,
  routing: Routing,
  payload: unknown,
  options: AnyOptions | undefined,
  index: number | undefined,
): OutgoingEvent {
  if (options === undefined) return encodeOutgoing(runtime, routing, payload);
  const key = keyOf(options.key, payload, index);
  // The functions among the options get what they are declared for.
  const dedupeId = ownId("events.publishMany", options.id, payload, index);
  const routed = key === undefined ? routing : routingOf(routing.channel, routing.type, routing.schemaVersion, key);
  const outgoing = encodeOutgoing(runtime, routed, payload, options, dedupeId);
  if (key === undefined && dedupeId === undefined) return outgoing;
  // Field by field: a spread costs more than the rest.
  const { id, header, data, size } = outgoing;
  if (dedupeId === undefined) return { id, header, data, size, key: key as string }; // One of them is given.
  return key === undefined ? { id, header, data, size, dedupeId } : { id, header, data, size, key, dedupeId };
}

/** @param index of a message among several, where functions tell of each */
function keyOf(given: AnyOptions["key"], data: unknown, index: number | undefined): string | undefined {
  const key = typeof given === "function" && index !== undefined ? given(data, index) : given;
  return key === undefined ? undefined : validText("key", key);
}
