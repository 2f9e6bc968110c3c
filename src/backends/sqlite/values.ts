/** How values travel between the ports and SQLite. */

import type { Bytes } from "../../core/backend.js";

/**
 * Text as it is bound. Text with a NUL goes in as bytes, because `@photostructure/sqlite` cuts text at a NUL both ways;
 * always doing so lets processes with different drivers share a file.
 */
export type StoredText = string | Uint8Array;

export function text(value: string): StoredText {
  return value.includes("\0") ? Buffer.from(value) : value;
}

const decoder = new TextDecoder("utf-8", { ignoreBOM: true });

export function textOf(value: StoredText): string {
  return typeof value === "string" ? value : decoder.decode(value);
}

/**
 * Payload as it is bound to `CAST(? AS BLOB)`, which is cheaper than encoding text here. Bytes are copied: what the
 * caller does to its buffer before the commit changes nothing. Some drivers bind an empty array as NULL.
 */
export function payload(data: Bytes): StoredText {
  if (typeof data === "string") return text(data);
  // Not by slice(): a Buffer's is a view.
  return data.length === 0 ? "" : new Uint8Array(data);
}
