/** From what a caller publishes to what a port takes: checked, validated and encoded before anything is written. */

import type { Bytes } from "./backend.js";
import { BYTES_CONTENT } from "./codec.js";
import { InvalidArgumentError, LimitError } from "./errors.js";
import { bareHeader, DEFAULT_SOURCE, encodeHeader, JSON_CONTENT, type MessageOptions } from "./message.js";
import { validText } from "./names.js";
import { isPlainObject, show } from "./options.js";
import type { Validate } from "./payload.js";
import type { Runtime } from "./runtime.js";
import { isThenable } from "./thenable.js";

export type { MessageOptions } from "./message.js";

/** The names of `MessageOptions`, and the signal that every call takes. */
export const MESSAGE_OPTIONS: readonly string[] = [
  "source",
  "correlationId",
  "causationId",
  "traceparent",
  "schemaVersion",
  "headers",
  "signal",
];

/** A message on its way to the backend. */
export interface Outgoing {
  readonly id: string;
  readonly header: string;
  readonly data: Bytes;
  /** Of header and data; exact for ASCII, and never more than three times too small. */
  readonly size: number;
}

/** What the facade knows of the message besides the caller's options. */
export interface Routing {
  readonly channel: string;
  readonly type: string;
  /** The store keeps the id as the message's position: the header need not. */
  readonly idIsPosition: boolean;
  /** Nothing below is given, and the type is the channel's own. */
  readonly isBare: boolean;
  readonly key: string | undefined;
  readonly target: string | undefined;
  readonly priority: number | undefined;
  readonly expiresAt: number | undefined;
  /** The inbox that an answer goes to. */
  readonly replyTo?: string | undefined;
  /** What the contract says: of a message that has one, it is not bare. */
  readonly schemaVersion: number | undefined;
}

const MAX_ID_CHARS = 200;
const MAX_HEADERS = 64;
const MAX_HEADERS_BYTES = 16_384;

/**
 * Encodes one message.
 *
 * @param givenId the caller's own id; without one it gets one that tells its time
 * @throws {CodecError | SchemaError | LimitError | InvalidArgumentError} when it cannot be published as it is
 */
export function encodeOutgoing(
  runtime: Runtime,
  routing: Routing,
  payload: unknown,
  options?: MessageOptions,
  givenId?: string,
): Outgoing {
  const isBytes = payload instanceof Uint8Array;
  let data: Bytes = isBytes ? payload : runtime.codec.encode(payload);
  let contentType = isBytes ? BYTES_CONTENT : runtime.codec.contentType;
  const id = givenId ?? runtime.createId();
  if (runtime.codecs.isTransforming) {
    const { channel, type, target, replyTo } = routing;
    const place = { id, channel, type, target, causationId: options?.causationId, replyTo };
    ({ data, contentType } = runtime.codecs.transform(data, contentType, place));
  }
  assertSize(runtime, data);
  const header = headerOf(
    runtime,
    routing.idIsPosition ? "" : id,
    givenId === undefined ? undefined : runtime.clock.now(),
    contentType,
    routing,
    options,
  );
  return { id, header, data, size: header.length + data.length };
}

function headerOf(
  runtime: Runtime,
  id: string,
  time: number | undefined,
  contentType: string,
  routing: Routing,
  options: MessageOptions | undefined,
): string {
  const isBare =
    options === undefined && contentType === JSON_CONTENT && runtime.source === DEFAULT_SOURCE && routing.isBare;
  if (isBare) return bareHeader(id);
  // Field by field: spreading what is mostly absent costs more than the rest of a publish.
  return encodeHeader({
    id,
    time,
    contentType,
    type: routing.type,
    channel: routing.channel,
    source: options?.source === undefined ? runtime.source : validText("source", options.source),
    target: routing.target,
    key: routing.key,
    priority: routing.priority,
    expiresAt: routing.expiresAt,
    correlationId: optionalText("correlationId", options?.correlationId),
    causationId: optionalText("causationId", options?.causationId),
    replyTo: routing.replyTo,
    traceparent: optionalText("traceparent", options?.traceparent),
    schemaVersion: checkedVersion(options?.schemaVersion, routing.schemaVersion),
    headers: options?.headers === undefined ? undefined : checkedHeaders(options.headers),
  });
}

/** Checks an id of the caller's own. @throws {InvalidArgumentError} */
export function validId(id: unknown): string {
  if (typeof id === "string" && id.length > MAX_ID_CHARS)
    throw new InvalidArgumentError(`id ${show(id)}… is longer than ${MAX_ID_CHARS} characters`);
  // A character takes three bytes at most, of which a pair of surrogates is two.
  return validText("id", id, 3 * MAX_ID_CHARS);
}

/**
 * The own id of one message: given as text for a single one, by a function for each of several.
 *
 * @param index of a message among several
 * @throws {InvalidArgumentError} for one id that would stand for several
 */
export function ownId(
  where: string,
  given: string | ((data: unknown, index: number) => string) | undefined,
  data: unknown,
  index: number | undefined,
): string | undefined {
  if (given === undefined) return undefined;
  if (index === undefined) return validId(given);
  if (typeof given === "function") return validId(given(data, index));
  throw new InvalidArgumentError(
    `${where} takes a function that gives each message its id, not ${show(given)} for all of them`,
  );
}

/** Checks a payload against the contract. What is sent is what was given: the reader's schema transforms it. */
export function validatePayload(validate: Validate, payload: unknown): Promise<void> | undefined {
  const result = validate(payload);
  return isThenable(result) ? Promise.resolve(result).then(() => undefined) : undefined;
}

function assertSize({ maxPayloadBytes }: Runtime, data: Bytes): void {
  // Text of a third of the limit fits however it is encoded: most payloads need no count.
  if (typeof data === "string" && data.length * 3 <= maxPayloadBytes) return;
  const bytes = typeof data === "string" ? Buffer.byteLength(data) : data.byteLength;
  if (bytes > maxPayloadBytes) {
    throw new LimitError(
      `the payload is ${bytes} bytes long, more than maxPayloadBytes (${maxPayloadBytes}): publish a reference to it instead, or raise the limit`,
    );
  }
}

function optionalText(name: string, text: string | undefined): string | undefined {
  return text === undefined ? undefined : validText(name, text);
}

function checkedVersion(given: number | undefined, declared: number | undefined): number | undefined {
  if (given === undefined) return declared;
  if (!Number.isSafeInteger(given) || given < 0)
    throw new InvalidArgumentError(`schemaVersion must be a whole number from 0, not ${show(given)}`);
  if (declared !== undefined && declared !== given)
    throw new InvalidArgumentError(
      `schemaVersion is ${given}, and the contract's version is ${declared}: leave it out`,
    );
  return given;
}

function checkedHeaders(headers: Readonly<Record<string, string>>): Readonly<Record<string, string>> {
  if (!isPlainObject(headers))
    throw new InvalidArgumentError(`headers must be a plain object of strings, not ${show(headers)}`);
  const entries = Object.entries(headers);
  if (entries.length > MAX_HEADERS)
    throw new LimitError(`the message has ${entries.length} headers: at most ${MAX_HEADERS} are allowed`);
  const bad = entries.find(([, value]) => typeof value !== "string");
  if (bad !== undefined)
    throw new InvalidArgumentError(`the header "${bad[0]}" must be a string, not ${typeof bad[1]}`);
  if (Buffer.byteLength(JSON.stringify(headers)) > MAX_HEADERS_BYTES) {
    throw new LimitError(
      `the message's headers are longer than ${MAX_HEADERS_BYTES} bytes: move the bulk into the payload`,
    );
  }
  return headers;
}
