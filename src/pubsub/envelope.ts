/** A message as it travels: its header, a line feed, its data. */

import type { Bytes } from "../core/backend.js";
import { asBuffer } from "../core/bytes.js";

const LINE_FEED = "\n";

/** @param header empty: the data is what somebody else wrote, and goes as it is */
export function joined(header: string, data: Bytes): Bytes {
  if (header === "") return data;
  return typeof data === "string" ? `${header}\n${data}` : Buffer.concat([Buffer.from(`${header}\n`), data]);
}

/** Views, not copies. What has no line feed was written by somebody else, and has no header. */
export function separated(message: Bytes): { readonly header: string; readonly data: Bytes } {
  if (typeof message === "string") {
    const end = message.indexOf(LINE_FEED);
    return end < 0 ? { header: "", data: message } : { header: message.slice(0, end), data: message.slice(end + 1) };
  }
  const bytes = asBuffer(message);
  const end = bytes.indexOf(LINE_FEED);
  return end < 0
    ? { header: "", data: bytes }
    : { header: bytes.toString("utf8", 0, end), data: bytes.subarray(end + 1) };
}
