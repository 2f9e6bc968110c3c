/** From what a caller publishes to messages on a channel. */

import type { BroadcastMessage } from "../core/backend.js";
import type { Channels } from "../core/channels.js";
import { InvalidArgumentError } from "../core/errors.js";
import { NameCache, validText } from "../core/names.js";
import { show } from "../core/options.js";
import { encodeOutgoing, MESSAGE_OPTIONS, type Outgoing, type Routing } from "../core/outgoing.js";
import { Publisher } from "../core/publisher.js";
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

export type ChannelPublisher = Publisher<OutgoingMessage, number, ChannelReceipt, PublishChannelOptions>;

const PUBLISH_OPTIONS = new Set([...MESSAGE_OPTIONS, "id", "sharded"]);
/** Messages that may wait for the store, for each channel. */
const DEFAULT_PUBLISH_BUFFER = 1_000;

export function createChannelPublisher(runtime: Runtime, channels: Channels): ChannelPublisher {
  const { backend, contract, publishBuffer = DEFAULT_PUBLISH_BUFFER } = runtime;
  const labelFor = (channel: string): string => labelOf(channels.of(channel), contract?.channels !== undefined);
  const published = new NameCache((channel): Counter => messagesOf(runtime, labelFor(channel), "published"));
  return new Publisher(runtime, {
    facade: "pubsub",
    known: PUBLISH_OPTIONS,
    maxPending: publishBuffer,
    async store(channel, batch) {
      const receivers = await backend.broadcast.publish(batch);
      published.get(channel).add(batch.length);
      return receivers;
    },
    toReceipt: ({ id }, receivers) => ({ id, receivers }),
    target(given) {
      const { name, payload } = channels.of(given);
      const { validate, version } = payload;
      const routing = routingOf(name, version);
      return {
        channel: name,
        label: labelFor(name),
        validate,
        blockMs: undefined,
        encode: (data, options, index) => encodeMessage(runtime, routing, data, options, index),
      };
    },
  });
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
