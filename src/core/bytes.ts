/** Payloads that are text in one place and bytes in another. */

import type { Bytes } from "./backend.js";

/** What the bytes say in UTF-8. */
export function textOf(data: Bytes): string {
  return typeof data === "string" ? data : asBuffer(data).toString("utf8");
}

/** Text in UTF-8; bytes as they are. */
export function bytesOf(data: Bytes): Uint8Array {
  return typeof data === "string" ? Buffer.from(data) : data;
}

/** A view of the same bytes, with a Buffer's methods. */
export function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
