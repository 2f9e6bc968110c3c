/** A message as it travels: its header, a line feed, its data. */

import type { Bytes } from "../core/backend.js";
import { asBuffer } from "../core/codec.js";

const LINE_FEED = 10;

/** @param header empty: the data is what somebody else wrote, and goes as it is */
export function joined(header: string, data: Bytes): Bytes {
  if (header === "") return data;
  return typeof data === "string" ? `${header}\n${data}` : Buffer.concat([Buffer.from(`${header}\n`), data]);
}

/** Views, not copies. What has no line feed was written by somebody else, and has no header. */
export function separated(message: Uint8Array): { readonly header: string; readonly data: Buffer } {
  const bytes = asBuffer(message);
  const end = bytes.indexOf(LINE_FEED);
  if (end < 0) return { header: "", data: bytes };
  return { header: bytes.toString("utf8", 0, end), data: bytes.subarray(end + 1) };
}
