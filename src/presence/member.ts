/** Members as their users see them. */

import { jsonCodec } from "../core/codec.js";
import type { KnownMember } from "../core/group-news.js";
import { LimitError } from "../core/errors.js";
import { MAX_META_BYTES } from "../core/membership-limits.js";

/** Who is present. Times are the store's, in milliseconds since the epoch. */
export interface PresentMember {
  readonly id: string;
  /**
   * What was given last by one of its connections that are still there; `null` where nothing was, and where what the store
   * has there cannot be read, which is reported.
   */
  readonly meta: unknown;
  /** How many connections it has, in all processes. */
  readonly connections: number;
  readonly joinedAt: number;
  /** When it last entered, changed or left; of one whose process died, when that process was heard of last. */
  readonly lastSeen: number;
}

/**
 * `snapshot`: all who are present; what was known before is void. `joined`: with its first connection. `updated`: its meta
 * or its connections changed. `left`: with its last connection; its meta is as it was.
 */
export type PresenceChange =
  | { readonly kind: "snapshot"; readonly members: readonly PresentMember[] }
  | { readonly kind: "joined" | "updated" | "left"; readonly member: PresentMember };

/** @param report hears of a meta that this codec did not write: whose it is is present all the same, and so are the others */
export function toPresent(known: KnownMember, report: (error: unknown) => void): PresentMember {
  const { id, connections, joinedAt, lastSeen } = known;
  let meta: unknown = null;
  try {
    meta = jsonCodec.decode(Buffer.from(known.meta));
  } catch (error) {
    report(error);
  }
  return { id, meta, connections, joinedAt, lastSeen };
}

/**
 * @throws {CodecError} naming the path of what JSON cannot hold
 * @throws {LimitError} for what is too large
 */
export function encodeMeta(meta: unknown): string {
  // JSON text: this codec makes no bytes.
  const text = String(jsonCodec.encode(meta));
  const bytes = Buffer.byteLength(text);
  if (bytes <= MAX_META_BYTES) return text;
  throw new LimitError(
    `the meta is ${bytes} bytes long: at most ${MAX_META_BYTES} are allowed; keep what is larger elsewhere, and its key here`,
  );
}
