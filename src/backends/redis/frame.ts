/** How messages travel on a channel: one, or several of one moment together, behind a mark and the name of their publisher. */

import { randomBytes } from "node:crypto";
import type { Bytes } from "../../core/backend.js";
import type { Arg } from "./connection.js";

/** One message follows. Users' texts do not begin with either mark: headers begin with their version. */
const SINGLE = 0x01;
/** Several follow, each behind its length in bytes (base 36) and a colon. */
const CONTAINER = 0x02;
const COLON = 0x3a;
const ORIGIN_BYTES = 6;
const ORIGIN_CHARS = 8;
const START = 1 + ORIGIN_CHARS;

/** A publish is at most this large, so that it holds neither Redis nor a receiver for long. One message always fits. */
const MAX_MESSAGES = 256;
const MAX_BYTES = 64 * 1_024;

/** One backend's way of writing and reading frames. */
export interface Wire {
  pack(messages: readonly Bytes[]): Arg;
  /** The messages in what was heard; none in what this backend has sent, which is known without looking at them. */
  unpack(heard: Buffer): readonly Buffer[];
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
  const start = String.fromCharCode(CONTAINER) + origin;
  if (!messages.every((message) => typeof message === "string")) return toBytes(start, messages);
  let text = start;
  for (const message of messages) text += `${message.length.toString(36)}:${message}`;
  // Mostly it is ASCII, whose length is the same in bytes: that is one look at all of it instead of one at each.
  return Buffer.byteLength(text) === text.length ? Buffer.from(text, "latin1") : toBytes(start, messages);
}

function joined(start: string, message: Bytes): Arg {
  return typeof message === "string" ? start + message : Buffer.concat([Buffer.from(start), message]);
}

function toBytes(start: string, messages: readonly Bytes[]): Buffer {
  const parts: Uint8Array[] = [Buffer.from(start)];
  for (const message of messages) {
    const bytes = typeof message === "string" ? Buffer.from(message) : message;
    parts.push(Buffer.from(`${bytes.length.toString(36)}:`), bytes);
  }
  return Buffer.concat(parts);
}

/**
 * Reads the messages in what was heard: none in one's own frames, and the whole where somebody else wrote what is no frame.
 *
 * @param origin one's own
 * @returns views, not copies
 */
function fromFrame(origin: Buffer, heard: Buffer): readonly Buffer[] {
  const mark = heard[0];
  if ((mark !== SINGLE && mark !== CONTAINER) || heard.length < START) return [heard];
  if (origin.compare(heard, 1, START) === 0) return [];
  return mark === SINGLE ? [heard.subarray(START)] : (readContainer(heard) ?? [heard]);
}

/** @returns undefined where the lengths do not add up */
function readContainer(heard: Buffer): Buffer[] | undefined {
  const messages: Buffer[] = [];
  for (let at = START; at < heard.length; ) {
    let length = 0;
    for (let digit = digitAt(heard, at); digit !== undefined; digit = digitAt(heard, at)) {
      length = length * 36 + digit;
      at += 1;
    }
    if (heard[at] !== COLON || at + 1 + length > heard.length) return undefined;
    at += 1;
    messages.push(heard.subarray(at, at + length));
    at += length;
  }
  return messages;
}

/** Of base 36. */
function digitAt(bytes: Buffer, at: number): number | undefined {
  const code = bytes[at] ?? 0;
  if (code >= 0x30 && code <= 0x39) return code - 0x30;
  return code >= 0x61 && code <= 0x7a ? code - 0x57 : undefined;
}
