/** Message ids: UUIDv7 text (RFC 9562), which sorts by time and, within one process, by order of creation. */

import { randomFillSync } from "node:crypto";
import type { Clock } from "./clock.js";

const HEX = Array.from({ length: 256 }, (_, byte) => byte.toString(16).padStart(2, "0"));
const RANDOM_BYTES = 8;
const POOL_BYTES = 4_096;
/** The 12 bits behind the time count the ids of one millisecond. */
const MAX_COUNT = 0xfff;

/** Makes ids from the clock's time. Random bytes are drawn in bulk: one call for each id would cost more than the rest. */
export function createIdFactory(clock: Clock): () => string {
  const pool = new Uint8Array(POOL_BYTES);
  let used = POOL_BYTES;
  let lastMs = 0;
  let count = 0;
  let prefix = "";

  return () => {
    const now = clock.now();
    if (now > lastMs) {
      lastMs = now;
      count = 0;
      prefix = timePrefix(lastMs);
    } else {
      count += 1;
      if (count > MAX_COUNT) {
        // More than 4,096 in a millisecond, or a clock that went back: borrow the next one, order matters more.
        lastMs += 1;
        count = 0;
        prefix = timePrefix(lastMs);
      }
    }
    if (used + RANDOM_BYTES > POOL_BYTES) {
      randomFillSync(pool);
      used = 0;
    }
    const at = used;
    used += RANDOM_BYTES;
    return `${prefix}-${counterText(count)}-${randomText(pool, at)}`;
  };
}

function counterText(count: number): string {
  return `7${count < 256 ? "0" : count.toString(16).charAt(0)}${HEX[count & 0xff]}`;
}

/** Eight random bytes, the first two bits being the variant. */
function randomText(pool: Uint8Array, at: number): string {
  const variant = HEX[((pool[at] ?? 0) & 0x3f) | 0x80];
  return `${variant}${hexAt(pool, at + 1)}-${hexAt(pool, at + 2)}${hexAt(pool, at + 3)}${hexAt(pool, at + 4)}${hexAt(pool, at + 5)}${hexAt(pool, at + 6)}${hexAt(pool, at + 7)}`;
}

function hexAt(pool: Uint8Array, at: number): string {
  return HEX[pool[at] ?? 0] ?? "";
}

function timePrefix(ms: number): string {
  const text = ms.toString(16).padStart(12, "0");
  return `${text.slice(0, 8)}-${text.slice(8)}`;
}

const UUID_V7 = /^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/;

/** The time an id of ours was made at (ms since the epoch); undefined for other ids. */
export function timeOfId(id: string): number | undefined {
  if (!UUID_V7.test(id)) return undefined;
  return Number.parseInt(id.slice(0, 8) + id.slice(9, 13), 16);
}
