/** The envelope that every message travels in, and its routing header: one line of text in front of the payload. */

import { CodecError } from "./errors.js";
import { timeOfId } from "./ids.js";
import { isPlainObject } from "./options.js";

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

/** What may be said of a message when it is published. */
export interface MessageOptions {
  /** Who publishes it. Default: the broker's `source`. */
  readonly source?: string;
  readonly correlationId?: string;
  readonly causationId?: string;
  /** W3C trace context. */
  readonly traceparent?: string;
  /** Version of the payload's schema, a whole number from 0. */
  readonly schemaVersion?: number;
  /** At most 64, and 16 KiB as JSON. */
  readonly headers?: Readonly<Record<string, string>>;
}

export const DEFAULT_SOURCE = "signalbox";
export const JSON_CONTENT = "json";

/** Version of the layout below. A reader refuses what it does not know. */
const LAYOUT = "1";
/** ASCII's own unit separator. No field holds it: names refuse control characters and JSON escapes them. */
const SEPARATOR = "\u001f";
const BARE_START: string = LAYOUT + SEPARATOR;

/** What the header is written from. Without a time it is the id's own. */
export type HeaderFields = { readonly [K in keyof Envelope]?: Envelope[K] | undefined } & Pick<
  Envelope,
  "id" | "type" | "channel" | "source" | "contentType"
>;

/**
 * Writes the header: version and id, then each field that is not at its default, a letter in front of it. An ordinary
 * message's header is its version and its id. Letters that a reader does not know it passes by.
 *
 * Text rather than binary, because the Redis client sends text several times cheaper than buffers (ADR 3).
 */
export function encodeHeader(fields: HeaderFields): string {
  const { time, target, key, priority, expiresAt, correlationId, causationId, replyTo, traceparent } = fields;
  let text = bareHeader(fields.id);
  if (time !== undefined) text += `${SEPARATOR}t${time.toString(36)}`;
  if (fields.type !== fields.channel) text += `${SEPARATOR}y${fields.type}`;
  if (fields.source !== DEFAULT_SOURCE) text += `${SEPARATOR}s${fields.source}`;
  if (target !== undefined) text += `${SEPARATOR}g${target}`;
  if (key !== undefined) text += `${SEPARATOR}k${key}`;
  if (priority !== undefined) text += `${SEPARATOR}p${priority}`;
  if (expiresAt !== undefined) text += `${SEPARATOR}x${expiresAt.toString(36)}`;
  if (correlationId !== undefined) text += `${SEPARATOR}c${correlationId}`;
  if (causationId !== undefined) text += `${SEPARATOR}a${causationId}`;
  if (replyTo !== undefined) text += `${SEPARATOR}r${replyTo}`;
  if (traceparent !== undefined) text += `${SEPARATOR}w${traceparent}`;
  if (fields.schemaVersion !== undefined) text += `${SEPARATOR}v${fields.schemaVersion}`;
  if (fields.contentType !== JSON_CONTENT) text += `${SEPARATOR}f${fields.contentType}`;
  if (fields.headers !== undefined) text += `${SEPARATOR}h${JSON.stringify(fields.headers)}`;
  return text;
}

/**
 * The header of a message of which everything but its id is as usual: JSON, of the channel's own type, the default source.
 *
 * @param id empty where the message's position is its id, as in queues: stored once is enough
 */
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
 * @param position where it stands there: its id, unless the header has one
 * @throws {CodecError} for a layout this version does not know, or text that is no header
 */
export function decodeHeader(header: string, channel: string, position: string): Envelope {
  const read = readHeader(header, channel, position);
  return Object.assign(read, { time: read.time ?? timeOfId(read.id) ?? 0 });
}

/**
 * The same without the time, unless the header has it: handling goes by the rest, and reading it from the id takes as long
 * as all of that.
 */
export function readHeader(header: string, channel: string, position: string): HeaderRead {
  const [layout, written, ...fields] = header.split(SEPARATOR);
  const id = written === "" ? position : written;
  if (layout !== LAYOUT || id === undefined) {
    throw new CodecError(`not a message header of layout ${LAYOUT}: ${JSON.stringify(header.slice(0, 64))}`);
  }
  const read: Writable<HeaderRead> = {
    id,
    type: channel,
    source: DEFAULT_SOURCE,
    channel,
    time: undefined,
    contentType: JSON_CONTENT,
  };
  for (const field of fields) readField(read, field.charAt(0), field.slice(1));
  return read;
}

export type HeaderRead = Omit<Envelope, "time"> & { readonly time: number | undefined };

type Writable<T> = { -readonly [K in keyof T]: T[K] };

const TEXT_FIELDS = {
  y: "type",
  s: "source",
  g: "target",
  k: "key",
  c: "correlationId",
  a: "causationId",
  r: "replyTo",
  w: "traceparent",
  f: "contentType",
} as const;

function readField(envelope: Writable<HeaderRead>, letter: string, value: string): void {
  switch (letter) {
    case "t":
      envelope.time = Number.parseInt(value, 36);
      return;
    case "p":
      envelope.priority = Number(value);
      return;
    case "x":
      envelope.expiresAt = Number.parseInt(value, 36);
      return;
    case "v":
      envelope.schemaVersion = parseVersion(value);
      return;
    case "h":
      envelope.headers = parseHeaders(value);
      return;
    default:
      if (letter in TEXT_FIELDS) envelope[TEXT_FIELDS[letter as keyof typeof TEXT_FIELDS]] = value;
  }
}

/** An upgrade goes by it: what is no version must not reach one. */
function parseVersion(text: string): number {
  const version = Number(text);
  if (!/^\d+$/.test(text) || !Number.isSafeInteger(version))
    throw new CodecError(
      `the message's schema version is no whole number from 0: ${JSON.stringify(text.slice(0, 64))}`,
    );
  return version;
}

function parseHeaders(text: string): Readonly<Record<string, string>> {
  let headers: unknown;
  try {
    headers = JSON.parse(text);
  } catch (cause) {
    throw new CodecError("the message's headers are not JSON", { cause });
  }
  if (!isPlainObject(headers) || !Object.values(headers).every((value) => typeof value === "string"))
    throw new CodecError("the message's headers are no object of strings");
  return headers as Record<string, string>; // As the line before has seen.
}
