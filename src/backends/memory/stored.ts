/** Payloads while they are stored: text stays text, which is several times lighter than a buffer, until it is delivered. */

import type { Bytes } from "../../core/backend.js";

/** A copy of bytes, so that what the caller does to its buffer afterwards changes nothing. */
export function toStored(data: Bytes): Bytes {
  return typeof data === "string" ? data : Buffer.from(data);
}

/** A copy as well: one reader must not change what another gets. */
export function toBytes(stored: Bytes): Uint8Array {
  return typeof stored === "string" ? Buffer.from(stored) : Buffer.from(stored);
}

/** In bytes. */
export function sizeOf(stored: Bytes): number {
  return typeof stored === "string" ? Buffer.byteLength(stored) : stored.byteLength;
}
