/** From what a caller publishes to messages on a channel. */

import type { BroadcastMessage } from "../core/backend.js";
import type { Channels } from "../core/channels.js";
import { InvalidArgumentError } from "../core/errors.js";
import { NameCache, validText } from "../core/names.js";
import { show } from "../core/options.js";
import { encodeOutgoing, MESSAGE_OPTIONS, type Outgoing, type Routing } from "../core/outgoing.js";
import { Publisher, type PublishTarget } from "../core/publisher.js";
import type { Runtime } from "../core/runtime.js";
import type { Counter } from "../core/telemetry.js";
import { joined } from "./envelope.js";
import type { PublishChannelOptions } from "./options.js";
import { messagesOf } from "./reception.js";
import { labelOf } from "./targets.js";

/** What is known of a message that was published. */
export interface ChannelReceipt {
  readonly id: string;
  /**
   * Processes that are known to listen to the channel: a hint, and no acknowledgement. Exact where all are in this process;
   * with Redis an open connection counts for each of its matching subscriptions, and in a Cluster those at one node.
   */
  readonly receivers: number;
}

type OutgoingMessage = Outgoing & BroadcastMessage;

/** Publishes under the name of a channel. */
export type ChannelPublisher = Publisher<string, OutgoingMessage, number, ChannelReceipt, PublishChannelOptions>;

const PUBLISH_OPTIONS = new Set([...MESSAGE_OPTIONS, "id", "sharded"]);
/** Messages that may wait for the store, for each channel. */
const DEFAULT_PUBLISH_BUFFER = 1_000;

export function createChannelPublisher(runtime: Runtime, channels: Channels): ChannelPublisher {
  const { publishBuffer = DEFAULT_PUBLISH_BUFFER } = runtime;
  const targets = new NameCache((channel) => targetOf(runtime, channels, channel));
  return new Publisher(runtime, {
    facade: "pubsub",
    target: (channel: string) => targets.get(channel),
    known: PUBLISH_OPTIONS,
    maxPending: publishBuffer,
    toReceipt: ({ id }, receivers) => ({ id, receivers }),
  });
}

function targetOf(
  runtime: Runtime,
  channels: Channels,
  given: string,
): PublishTarget<OutgoingMessage, number, PublishChannelOptions> {
  const { backend, contract } = runtime;
  const named = channels.of(given);
  const { name, payload } = named;
  const { validate, version } = payload;
  const label = labelOf(named, contract?.channels !== undefined);
  const routing = routingOf(name, version);
  let published: Counter | undefined;
  return {
    name,
    channel: name,
    lane: name,
    label,
    validate,
    blockMs: undefined,
    encode: (data, options, index) => encodeMessage(runtime, routing, data, options, index),
    store: (batch) => backend.broadcast.publish(batch),
    stored(count) {
      published ??= messagesOf(runtime, label, "published");
      published.add(count);
    },
  };
}

function routingOf(channel: string, schemaVersion: number | undefined): Routing {
  return {
    channel,
    type: channel,
    idIsPosition: false,
    isBare: schemaVersion === undefined,
    key: undefined,
    target: undefined,
    priority: undefined,
    expiresAt: undefined,
    schemaVersion,
  };
}

function encodeMessage(
  runtime: Runtime,
  routing: Routing,
  payload: unknown,
  options: PublishChannelOptions | undefined,
  index: number | undefined,
): OutgoingMessage {
  const { channel } = routing;
  const id = options?.id === undefined ? undefined : validId(options.id, index);
  const sharded = isSharded(options);
  const outgoing = encodeOutgoing(runtime, routing, payload, plainOptions(options), id);
  const { header, size } = outgoing;
  const data = joined(header, outgoing.data);
  // Field by field: a spread costs more than the rest.
  if (!sharded) return { id: outgoing.id, header, data, size, channel };
  return { id: outgoing.id, header, data, size, channel, sharded: true };
}

/** The header of a message about which nothing is said needs no options: then it is the short one. */
function plainOptions(options: PublishChannelOptions | undefined): PublishChannelOptions | undefined {
  return options !== undefined && MESSAGE_FIELDS.some((name) => options[name] !== undefined) ? options : undefined;
}

const MESSAGE_FIELDS = ["source", "correlationId", "causationId", "traceparent", "schemaVersion", "headers"] as const;

function isSharded(options: PublishChannelOptions | undefined): boolean {
  const sharded: unknown = options?.sharded;
  if (sharded !== undefined && sharded !== true)
    throw new InvalidArgumentError(`sharded must be true, or left out, not ${show(sharded)}`);
  return sharded === true;
}

function validId(id: string, index: number | undefined): string {
  if (index !== undefined)
    throw new InvalidArgumentError("pubsub.publishMany takes no id: each message has one of its own");
  return validText("id", id);
}
