/** From what a caller publishes to an item of a queue. */

import { type Audience, type Durability, type NewItem, type Pushed, SHARED_RECIPIENT } from "../core/backend.js";
import { InvalidArgumentError } from "../core/errors.js";
import { decodeHeader } from "../core/message.js";
import { validName } from "../core/names.js";
import { aDuration, anInteger, type Check, oneOf, show } from "../core/options.js";
import {
  encodeOutgoing,
  MESSAGE_OPTIONS,
  type MessageOptions,
  type Outgoing,
  ownId,
  type Routing,
} from "../core/outgoing.js";
import { isFanout } from "../core/private-recipients.js";
import { Publisher, type PublishTarget } from "../core/publisher.js";
import type { Runtime } from "../core/runtime.js";
import type { Handle } from "./handle.js";
import type { IndexedField } from "./options.js";

/** Proof that a message is stored, naming how safely. */
export interface QueueReceipt {
  readonly id: string;
  /** The queue holds or remembers a message of this id: nothing was stored. */
  readonly duplicate: boolean;
  /** How many have it to finish: 1, or those of its audience. */
  readonly recipients: number;
  readonly durability: Durability;
}

interface Addressed extends MessageOptions {
  /** The recipient whose inbox it goes to. Default: whoever consumes the queue. */
  readonly target?: string;
  /**
   * Instead of a target, one delivery for each of several recipients: `registered` for all that are registered now, and
   * `online` for those of them that somebody consumes now. Each has its own to acknowledge.
   */
  readonly audience?: "registered" | "online";
  /** Any safe integer, higher first; kept across retries. Default 0. */
  readonly priority?: number;
  /**
   * It waits and is retried for this long, then it expires. A running handler is left alone. `null`: for ever. Default:
   * the queue's `ttlMs`, without one for ever.
   */
  readonly ttlMs?: number | null;
  /** It is not delivered before this much time has passed. Default 0. */
  readonly delayMs?: number;
  /** Stops the waiting. A message on its way may be stored all the same; one that waits for room is not. */
  readonly signal?: AbortSignal;
}

export interface PublishQueueOptions extends Addressed {
  /**
   * The message's own id, at most 200 characters. While the queue holds it, keeps a record of it or remembers it (for 10
   * minutes, unless 100,000 others came first), a message of the same id is not stored again.
   */
  readonly id?: string;
}

/** For several messages: what they share, and what is told from each. */
export interface PublishManyQueueOptions<T = unknown> extends Addressed {
  /** Each its own: see {@link PublishQueueOptions.id}. */
  readonly id?: (data: T, index: number) => string;
}

/** Everything that a publish or a request may say. */
export interface ItemOptions extends Addressed {
  readonly id?: string | ((data: unknown, index: number) => string);
}

/** Of a request: its id, which was made before, and the inbox for the answer. */
export interface Requested {
  readonly id: string;
  readonly replyTo: string;
}

type OutgoingItem = Outgoing & NewItem;
export type QueueTarget = PublishTarget<OutgoingItem, Pushed, ItemOptions>;
export type QueuePublisher = Publisher<QueueTarget, OutgoingItem, Pushed, QueueReceipt, ItemOptions>;

const ADDRESS_OPTIONS: readonly string[] = [...MESSAGE_OPTIONS, "target", "priority", "ttlMs"];
const KNOWN: Readonly<Record<"publish" | "request", ReadonlySet<string>>> = {
  publish: new Set([...ADDRESS_OPTIONS, "audience", "delayMs", "id"]),
  request: new Set(ADDRESS_OPTIONS),
};
const priorityCheck = anInteger(Number.MIN_SAFE_INTEGER);
const delayCheck = aDuration();
export const ttlCheck: Check = (value) => (value === null ? undefined : aDuration(1)(value));
const audienceCheck = oneOf("registered", "online");

/** Publishes to the queues of one broker; of messages that travel alone, each is told to the log. */
export function createItemPublisher(runtime: Runtime, call: keyof typeof KNOWN): QueuePublisher {
  const { durability } = runtime.backend;
  const publisher: QueuePublisher = new Publisher(runtime, {
    facade: "queue",
    call,
    known: KNOWN[call],
    target: (target) => target,
    toReceipt: ({ id }, { duplicate, recipients }) => ({ id, duplicate, recipients, durability }),
    describe,
  });
  runtime.owner.ownPublisher(publisher);
  return publisher;
}

function describe(channel: string, { id, header }: OutgoingItem): object {
  const { source, target, priority = 0 } = decodeHeader(header, channel, id);
  return { channel, message_id: id, source, ...(target !== undefined && { target }), priority };
}

/** Where the messages of a handle go. What is published by handles of the same limits travels together. */
export function createTarget(handle: Handle): QueueTarget {
  const { runtime, name, settings, payload } = handle;
  const { limits, blockMs } = settings;
  return {
    name,
    channel: name,
    lane: JSON.stringify([name, limits, blockMs]),
    validate: payload.validate,
    blockMs,
    encode: (data, options, index) => encodeItem(handle, data, options, index),
    store: (batch) => runtime.backend.queue.push(name, batch, limits),
  };
}

/** The same for one request. */
export function requestTarget(handle: Handle, target: QueueTarget, request: Requested): QueueTarget {
  return { ...target, encode: (data, options) => encodeItem(handle, data, options, undefined, request) };
}

function encodeItem(
  { runtime, name: queue, settings, payload }: Handle,
  given: unknown,
  options: ItemOptions | undefined,
  index: number | undefined,
  request?: Requested,
): OutgoingItem {
  const { target, audience, priority = 0, delayMs = 0 } = options ?? {};
  const ttlMs = options?.ttlMs === null ? undefined : (options?.ttlMs ?? settings.ttlMs);
  assertArgument("priority", priorityCheck(priority), priority);
  assertArgument("delayMs", delayCheck(delayMs), delayMs);
  if (ttlMs !== undefined) assertArgument("ttlMs", ttlCheck(ttlMs), ttlMs);
  const ownOne = ownId("queue.publishMany", options?.id, given, index);
  const recipient = audience === undefined ? recipientOf(target) : audienceOf(audience, target);
  const { version } = payload;
  const isPlain = target === undefined && priority === 0 && ttlMs === undefined;
  const routing: Routing = {
    channel: queue,
    type: queue,
    idIsPosition: true,
    isBare: isPlain && request === undefined && version === undefined,
    key: undefined,
    target: typeof recipient === "string" && recipient !== SHARED_RECIPIENT ? recipient : undefined,
    priority: priority === 0 ? undefined : priority,
    expiresAt: ttlMs === undefined ? undefined : runtime.clock.now() + ttlMs,
    replyTo: request?.replyTo,
    schemaVersion: version,
  };
  const { id, header, data, size } = encodeOutgoing(runtime, routing, given, options, ownOne ?? request?.id);
  const fields = fieldsOf(options?.source ?? runtime.source, routing.target);
  const isOwn = ownOne !== undefined;
  return { id, dedupe: isOwn, isNew: !isOwn, header, data, size, recipient, priority, delayMs, ttlMs, fields };
}

/** What `list` finds it by, whoever has said what is indexed: the store passes over the rest. */
function fieldsOf(source: string, target: string | undefined): Readonly<Partial<Record<IndexedField, string>>> {
  return target === undefined ? { source } : { source, target };
}

function audienceOf(audience: "registered" | "online", target: string | undefined): Audience {
  assertArgument("audience", audienceCheck(audience), audience);
  if (target !== undefined)
    throw new InvalidArgumentError(
      `a message goes to a target or to an audience, not to both (${show(target)} and ${show(audience)})`,
    );
  return { audience };
}

function assertArgument(name: string, problem: string | undefined, value: unknown): void {
  if (problem !== undefined) throw new InvalidArgumentError(`${name} ${problem}, not ${show(value)}`);
}

/** Of whom there is something to look at, or to settle: fan-out consumers as well. @throws {InvalidArgumentError} */
export function anyRecipientOf(name: string | undefined): string {
  return isFanout(name) ? name : recipientOf(name);
}

/** @throws {InvalidArgumentError} for a name that is none */
export function recipientOf(name: string | undefined): string {
  return name === undefined ? SHARED_RECIPIENT : validName("recipient", name);
}
