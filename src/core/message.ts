/** The envelope that every message travels in, and its routing header: one line of text in front of the payload. */

import { CodecError } from "./errors.js";
import { timeOfId } from "./ids.js";

/** What is known of a message besides its data. Maps one to one onto CloudEvents 1.0. */
export interface Envelope {
  /** Unique; UUIDv7 text unless the publisher gave one. */
  readonly id: string;
  /** What happened or what is asked, such as `order.created`. */
  readonly type: string;
  /** Who published it. */
  readonly source: string;
  /** The channel, stream or queue it was published to. */
  readonly channel: string;
  /** When it was published, by the publisher's clock (ms since the epoch). */
  readonly time: number;
  readonly target?: string;
  /** What order goes by. */
  readonly key?: string;
  readonly priority?: number;
  /** Ms since the epoch, by the publisher's clock; the backend expires by its own. */
  readonly expiresAt?: number;
  readonly correlationId?: string;
  readonly causationId?: string;
  readonly replyTo?: string;
  /** W3C trace context. */
  readonly traceparent?: string;
  readonly schemaVersion?: number;
  /** How the data is encoded: `json`, `bytes`, or the name of a codec. */
  readonly contentType: string;
  /** The publisher's own. */
  readonly headers?: Readonly<Record<string, string>>;
}

/** An envelope with its data. */
export interface Message<T = unknown> extends Envelope {
  readonly data: T;
  /** Where it stands in its stream; in a queue, its id. */
  readonly position: string;
}

export const DEFAULT_SOURCE = "signalbox";
export const JSON_CONTENT = "json";

/** Version of the layout below. A reader refuses what it does not know. */
const LAYOUT = "1";
/** ASCII's own unit separator. No field holds it: names refuse control characters and JSON escapes them. */
const SEPARATOR = "\u001f";
const BARE_START: string = LAYOUT + SEPARATOR;

/** What the header is written from. Without a time it is the id's own. */
export type HeaderFields = Omit<Envelope, "time"> & { readonly time?: number };

/**
 * Writes the header: the fields below in fixed order, each without its default, empty ones at the end left out. An
 * ordinary message's header is its version and its id.
 *
 * Text rather than binary, because the Redis client sends text several times cheaper than buffers (ADR 3).
 */
export function encodeHeader(envelope: HeaderFields): string {
  const { id, time, type, channel, source, contentType } = envelope;
  const fields = [
    time === undefined ? "" : time.toString(36),
    type === channel ? "" : type,
    source === DEFAULT_SOURCE ? "" : source,
    envelope.target ?? "",
    envelope.key ?? "",
    envelope.priority === undefined ? "" : String(envelope.priority),
    envelope.expiresAt === undefined ? "" : envelope.expiresAt.toString(36),
    envelope.correlationId ?? "",
    envelope.causationId ?? "",
    envelope.replyTo ?? "",
    envelope.traceparent ?? "",
    envelope.schemaVersion === undefined ? "" : String(envelope.schemaVersion),
    contentType === JSON_CONTENT ? "" : contentType,
    envelope.headers === undefined ? "" : JSON.stringify(envelope.headers),
  ];
  let used = fields.length;
  while (used > 0 && fields[used - 1] === "") used -= 1;
  let text = bareHeader(id);
  for (let index = 0; index < used; index += 1) text += SEPARATOR + String(fields[index]);
  return text;
}

/** The header of a message of which everything but its id is as usual: JSON, of the channel's own type, the default source. */
export function bareHeader(id: string): string {
  return LAYOUT + SEPARATOR + id;
}

/** Whether a header holds nothing but an id: most do, and need no parsing before somebody asks. */
export function isBareHeader(header: string): boolean {
  return header.startsWith(BARE_START) && !header.includes(SEPARATOR, BARE_START.length);
}

/**
 * Reads a header.
 *
 * @param channel where the message was found: the header does not repeat it
 * @throws {CodecError} for a layout this version does not know, or text that is no header
 */
export function decodeHeader(header: string, channel: string): Envelope {
  const [layout, id, time, type, source, ...rest] = header.split(SEPARATOR);
  if (layout !== LAYOUT || id === undefined || id === "") {
    throw new CodecError(`not a message header of layout ${LAYOUT}: ${JSON.stringify(header.slice(0, 64))}`);
  }
  const envelope: Envelope = {
    id,
    type: orDefault(type, channel),
    source: orDefault(source, DEFAULT_SOURCE),
    channel,
    time: time ? Number.parseInt(time, 36) : (timeOfId(id) ?? 0),
    contentType: orDefault(rest[9], JSON_CONTENT),
  };
  return rest.length === 0 ? envelope : { ...envelope, ...optionalFields(rest) };
}

/** An empty field stands for its default. */
function orDefault(field: string | undefined, value: string): string {
  return field === undefined || field === "" ? value : field;
}

function optionalFields(fields: readonly string[]): Partial<Envelope> {
  const [target, key, priority, expiresAt, correlationId, causationId, replyTo, traceparent, schemaVersion, , headers] =
    fields;
  return {
    ...(target && { target }),
    ...(key && { key }),
    ...(priority && { priority: Number(priority) }),
    ...(expiresAt && { expiresAt: Number.parseInt(expiresAt, 36) }),
    ...(correlationId && { correlationId }),
    ...(causationId && { causationId }),
    ...(replyTo && { replyTo }),
    ...(traceparent && { traceparent }),
    ...(schemaVersion && { schemaVersion: Number(schemaVersion) }),
    ...(headers && { headers: parseHeaders(headers) }),
  };
}

function parseHeaders(text: string): Readonly<Record<string, string>> {
  try {
    return JSON.parse(text) as Record<string, string>; // Written by encodeHeader from such a record.
  } catch (cause) {
    throw new CodecError("the message's headers are not JSON", { cause });
  }
}
