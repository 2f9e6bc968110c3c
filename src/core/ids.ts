/** Message ids: UUIDv7 text (RFC 9562), which sorts by time and, within one process, by order of creation. */

import { randomFillSync } from "node:crypto";
import type { Clock } from "./clock.js";

const DIGITS = Buffer.from("0123456789abcdef");
const RANDOM_BYTES = 8;
const POOL_BYTES = 16_384;
/** The 12 bits behind the time count the ids of one millisecond. */
const MAX_COUNT = 0xfff;
const LENGTH = 36;

/**
 * Makes ids from the clock's time. Random bytes are drawn in bulk: one call for each id would cost more than the rest.
 * Their text is written where it stays, and taken as one piece: put together from parts it would be several times as large.
 */
export function createIdFactory(clock: Clock): () => string {
  const pool = new Uint8Array(POOL_BYTES);
  const text = Buffer.alloc(LENGTH, "-");
  let used = POOL_BYTES;
  let lastMs = -1;
  let count = 0;

  const startAt = (ms: number): void => {
    lastMs = ms;
    count = 0;
    const digits = ms.toString(16).padStart(12, "0");
    text.write(digits.slice(0, 8), 0, "latin1");
    text.write(`${digits.slice(8)}-7`, 9, "latin1");
  };

  return () => {
    const now = clock.now();
    if (now > lastMs) startAt(now);
    // More than 4,096 in a millisecond, or a clock that went back: borrow the next one, order matters more.
    else if (count === MAX_COUNT) startAt(lastMs + 1);
    else count += 1;
    if (used + RANDOM_BYTES > POOL_BYTES) {
      randomFillSync(pool);
      used = 0;
    }
    text[15] = digit(count >> 8);
    writeByte(text, 16, count);
    // The first two bits are the variant.
    writeByte(text, 19, ((pool[used] ?? 0) & 0x3f) | 0x80);
    writeByte(text, 21, pool[used + 1] ?? 0);
    for (let index = 2; index < RANDOM_BYTES; index += 1) writeByte(text, 20 + 2 * index, pool[used + index] ?? 0);
    used += RANDOM_BYTES;
    return text.toString("latin1");
  };
}

function writeByte(text: Uint8Array, at: number, byte: number): void {
  text[at] = digit(byte >> 4);
  text[at + 1] = digit(byte);
}

function digit(bits: number): number {
  return DIGITS[bits & 0xf] ?? 0;
}

const UUID_V7 = /^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/;

/** The time an id of ours was made at (ms since the epoch); undefined for other ids. */
export function timeOfId(id: string): number | undefined {
  if (!UUID_V7.test(id)) return undefined;
  return Number.parseInt(id.slice(0, 8) + id.slice(9, 13), 16);
}
