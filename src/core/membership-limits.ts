/** What every backend of the membership port goes by: its limits, and the one wording for what is beyond them. */

import { InvalidArgumentError, LimitError } from "./errors.js";
import type { NewMember } from "./membership-port.js";

/** Longest lease. A store's clock that was set back by more is noticed. */
export const MAX_LEASE_MS = 600_000;
/** Members in one call, and in one page. */
export const MAX_MEMBERS_AT_ONCE = 1_000;
/** Groups in one call. */
export const MAX_GROUPS_AT_ONCE = 1_000;
/** Bytes of one member's meta. */
export const MAX_META_BYTES = 4_096;
/** Holders that `lapsing` names at most. */
export const MAX_LAPSING = 100;
/** Members that one call of `reap` removes, about. */
export const MAX_REAPED = 1_000;

/** Whether a holder's lease is over, by the same clock; see `Membership.lapsing`. */
export function isLapsing(until: number, now: number): boolean {
  return until <= now || until > now + MAX_LEASE_MS;
}

/** @throws {InvalidArgumentError} */
export function assertLease(leaseMs: number): void {
  if (!Number.isSafeInteger(leaseMs) || leaseMs < 1 || leaseMs > MAX_LEASE_MS)
    throw new InvalidArgumentError(`a lease must be a whole number from 1 to ${MAX_LEASE_MS} ms, not ${leaseMs}`);
}

/** @throws {InvalidArgumentError | LimitError} */
export function assertMembers(group: string, members: readonly NewMember[]): void {
  assertCount("members", members.length, MAX_MEMBERS_AT_ONCE);
  for (const { id, meta, connections } of members) {
    const bytes = typeof meta === "string" ? Buffer.byteLength(meta) : meta.length;
    if (bytes > MAX_META_BYTES) {
      throw new LimitError(
        `the meta of a member of "${group}" is ${bytes} bytes long: at most ${MAX_META_BYTES} are allowed; ` +
          "keep what is larger elsewhere, and its key here",
      );
    }
    if (!Number.isSafeInteger(connections) || connections < 1)
      throw new InvalidArgumentError(`a member is held for at least one connection, not ${connections}`);
    if (id === "") throw new InvalidArgumentError("a member's id is empty");
  }
}

/** @throws {InvalidArgumentError} */
export function assertCount(what: "members" | "ids" | "groups" | "page", count: number, max: number): void {
  if (Number.isSafeInteger(count) && count >= 0 && count <= max) return;
  throw new InvalidArgumentError(
    `${what === "page" ? "a page" : "a call"} takes at most ${max} ${what === "page" ? "members" : what}, not ${count}`,
  );
}

/** The place behind which a page begins. @throws {InvalidArgumentError} for what is no cursor */
export function placeOf(cursor: string | undefined): number {
  if (cursor === undefined) return 0;
  if (!/^\d{1,16}$/.test(cursor)) throw new InvalidArgumentError(`${JSON.stringify(cursor.slice(0, 64))} is no cursor`);
  return Number(cursor);
}
