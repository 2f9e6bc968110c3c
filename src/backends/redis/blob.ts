/** How one message is stored, header, line feed, data, and how replies are read. */

import type { Bytes } from "../../core/backend.js";
import { SignalboxError } from "../../core/errors.js";
import type { Arg, Reply } from "./connection.js";

const LINE_FEED = 10;
/** `m`, the field of a stream entry that holds the message. */
const FIELD = 0x6d;
/** `g`, the field of an entry that was redriven for one group. */
const GROUP_FIELD = 0x67;

/** A message as one value. Text stays text: the client sends it several times cheaper than bytes. */
export function toBlob(header: string, data: Bytes): Arg {
  if (typeof data === "string") return `${header}\n${data}`;
  const start = Buffer.byteLength(header) + 1;
  const blob = Buffer.allocUnsafe(start + data.length);
  blob.write(header);
  blob[start - 1] = LINE_FEED;
  blob.set(data, start);
  return blob;
}

/** The message in a value; its data is a view, not a copy. */
export function fromBlob(blob: Buffer): { readonly header: string; readonly data: Uint8Array } {
  const end = blob.indexOf(LINE_FEED);
  if (end < 0) return { header: "", data: blob };
  return { header: blob.toString("utf8", 0, end), data: blob.subarray(end + 1) };
}

/** The message in a stream entry's fields. What somebody else wrote has no header, and its fields as JSON for data. */
export function blobOf(fields: readonly Reply[]): Buffer {
  const [name, value] = fields;
  if (isField(name, FIELD) && Buffer.isBuffer(value)) return value;
  return Buffer.from(`\n${JSON.stringify(fields.map(textOf))}`);
}

/** The group that an entry was redriven for; undefined for the entries that are for everybody. */
export function redrivenFor(fields: readonly Reply[]): string | undefined {
  // Behind the message, and behind its key where it has one.
  for (let at = 2; at + 1 < fields.length && at <= 4; at += 2) {
    if (isField(fields[0], FIELD) && isField(fields[at], GROUP_FIELD)) return textOf(fields[at + 1]);
  }
  return undefined;
}

function isField(name: Reply | undefined, code: number): boolean {
  return Buffer.isBuffer(name) && name.length === 1 && name[0] === code;
}

export function textOf(reply: Reply | undefined): string {
  if (Buffer.isBuffer(reply)) return reply.toString();
  if (typeof reply === "string" || typeof reply === "number") return String(reply);
  return unexpected(reply);
}

export function numberOf(reply: Reply | undefined): number {
  return typeof reply === "number" ? reply : Number(textOf(reply));
}

export function listOf(reply: Reply | undefined): readonly Reply[] {
  if (reply === null) return [];
  return Array.isArray(reply) ? (reply as readonly Reply[]) : unexpected(reply); // Only lists are arrays.
}

/** A reply that alternates names and values. */
export function fieldsOf(reply: Reply | undefined): Map<string, Reply> {
  const list = listOf(reply);
  const fields = new Map<string, Reply>();
  for (let at = 0; at + 1 < list.length; at += 2) fields.set(textOf(list[at]), list[at + 1] ?? null);
  return fields;
}

export function bufferOf(reply: Reply | undefined): Buffer {
  return Buffer.isBuffer(reply) ? reply : unexpected(reply);
}

function unexpected(reply: Reply | undefined): never {
  const kind = reply === null ? "nil" : Array.isArray(reply) ? "a list" : typeof reply;
  throw new SignalboxError("UNSUPPORTED", `Redis answered with ${kind} where signalbox expects something else`);
}
