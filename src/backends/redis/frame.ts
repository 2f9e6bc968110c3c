/** How messages travel on a channel: one, or several of one moment together, behind a mark and the name of their publisher. */

import { randomBytes } from "node:crypto";
import type { Bytes } from "../../core/backend.js";
import { bytesOf } from "../../core/bytes.js";
import type { Arg } from "./connection.js";

/** One message follows. Users' texts begin with none of these marks: headers begin with their version. */
const SINGLE = 0x01;
/** Several texts follow, each behind its length in UTF-16 units (base 36) and a colon: they are read as one text. */
const TEXTS = 0x02;
/** The same with messages that are not all texts, and lengths in bytes. */
const MIXED = 0x03;
const COLON = 0x3a;
const RADIX = 36;
const ORIGIN_BYTES = 6;
const ORIGIN_CHARS = 8;
const START = 1 + ORIGIN_CHARS;

/** A publish is at most this large, so that it holds neither Redis nor a receiver for long. One message always fits. */
const MAX_MESSAGES = 256;
const MAX_BYTES = 64 * 1_024;

/** Of UTF-8, for each UTF-16 unit. */
const MOST_BYTES_PER_CHAR = 3;

/** One backend's way of writing and reading frames. */
export interface Wire {
  pack(messages: readonly Bytes[]): Arg;
  /** The messages in what was heard; none in what this backend has sent, which is known without looking at them. */
  unpack(heard: Buffer): readonly Bytes[];
}

export function createWire(): Wire {
  const origin = randomBytes(ORIGIN_BYTES).toString("base64url");
  const own = Buffer.from(origin);
  return { pack: (messages) => toFrame(origin, messages), unpack: (heard) => fromFrame(own, heard) };
}

/** How many of the messages from `from` on fit into one frame: at least one. */
export function fitting(messages: readonly Bytes[], from: number): number {
  let bytes = 0;
  let count = 0;
  for (; from + count < messages.length && count < MAX_MESSAGES; count += 1) {
    // The length of text is good enough here: it is at most three times too small.
    bytes += messages[from + count]?.length ?? 0;
    if (count > 0 && bytes > MAX_BYTES) break;
  }
  return count;
}

function toFrame(origin: string, messages: readonly Bytes[]): Arg {
  const [first] = messages;
  if (messages.length === 1 && first !== undefined) return joined(String.fromCharCode(SINGLE) + origin, first);
  if (!messages.every((message) => typeof message === "string"))
    return toMixed(String.fromCharCode(MIXED) + origin, messages);
  let text = String.fromCharCode(TEXTS) + origin;
  for (const message of messages) text += lengthMark(message.length) + message;
  // So much of it the client sends cheaper as bytes.
  return encoded(text);
}

/** Node writes a number in another base than ten several times slower than it adds two texts, and lengths are much alike. */
const LENGTH_MARKS: string[] = [];
const MAX_KEPT_LENGTH = 4_096;

function lengthMark(length: number): string {
  if (length >= MAX_KEPT_LENGTH) return `${length.toString(RADIX)}:`;
  return (LENGTH_MARKS[length] ??= `${length.toString(RADIX)}:`);
}

/** `Buffer.from` reads text twice, first to know how long it is. */
function encoded(text: string): Buffer {
  const bytes = Buffer.allocUnsafe(MOST_BYTES_PER_CHAR * text.length);
  return bytes.subarray(0, bytes.write(text));
}

/** Short text stays text, which the client sends several times cheaper than bytes. */
function joined(start: string, message: Bytes): Arg {
  return typeof message === "string" ? start + message : Buffer.concat([Buffer.from(start), message]);
}

function toMixed(start: string, messages: readonly Bytes[]): Buffer {
  const parts: Uint8Array[] = [Buffer.from(start)];
  for (const message of messages) {
    const bytes = bytesOf(message);
    parts.push(Buffer.from(`${bytes.length.toString(RADIX)}:`), bytes);
  }
  return Buffer.concat(parts);
}

/**
 * Reads the messages in what was heard: none in one's own frames, and the whole where somebody else wrote what is no frame.
 *
 * @param origin one's own
 * @returns views, not copies
 */
function fromFrame(origin: Buffer, heard: Buffer): readonly Bytes[] {
  const mark = heard[0];
  if ((mark !== SINGLE && mark !== TEXTS && mark !== MIXED) || heard.length < START) return [heard];
  if (origin.compare(heard, 1, START) === 0) return [];
  if (mark === SINGLE) return [heard.subarray(START)];
  return (mark === TEXTS ? readTexts(heard.toString("utf8", START)) : readMixed(heard.subarray(START))) ?? [heard];
}

/** @returns undefined where the lengths do not add up, or there are more than a frame takes */
function readTexts(text: string): string[] | undefined {
  return readPieces(
    text.length,
    (at) => text.charCodeAt(at),
    (from, to) => text.slice(from, to),
  );
}

function readMixed(bytes: Buffer): Buffer[] | undefined {
  return readPieces(
    bytes.length,
    (at) => bytes[at] ?? 0,
    (from, to) => bytes.subarray(from, to),
  );
}

function readPieces<T>(
  length: number,
  codeAt: (at: number) => number,
  slice: (from: number, to: number) => T,
): T[] | undefined {
  const pieces: T[] = [];
  for (let at = 0; at < length; ) {
    const start = at;
    let size = 0;
    for (; at < length && codeAt(at) !== COLON; at += 1) {
      const digit = digitOf(codeAt(at));
      if (digit === undefined) return undefined;
      size = size * RADIX + digit;
    }
    const end = at + 1 + size;
    if (at === start || end > length || pieces.length === MAX_MESSAGES) return undefined;
    pieces.push(slice(at + 1, end));
    at = end;
  }
  return pieces;
}

function digitOf(code: number): number | undefined {
  if (code >= 0x30 && code <= 0x39) return code - 0x30;
  return code >= 0x61 && code <= 0x7a ? code - 0x57 : undefined;
}
