/** The port of membership: who is where, kept alive by one lease for each process. Types only. */

import type { Bytes } from "./feed-port.js";

/**
 * Groups have members, and holders hold them there. A holder is one process of the application; its one lease keeps
 * everything alive that it has joined, wherever that is. A member is present while at least one holder holds it: it joins
 * with the first and leaves with the last.
 *
 * A holder's id is made by whoever begins it, used by that one alone, and never used again. Its calls on one group are
 * made one after the other; calls on different groups, and those of different holders, may overlap.
 *
 * Every change in a group has a version. Versions grow and do not come again, also where a group is forgotten and made
 * anew; a version that is not the one expected says that something was missed: list again.
 */
export interface Membership {
  /**
   * Begins a holder, whose lease ends after `leaseMs` by the store's clock unless it is renewed.
   *
   * @throws {InvalidArgumentError} for a lease longer than `MAX_LEASE_MS` (`core/membership-limits.ts`)
   */
  begin(holder: string, leaseMs: number): Promise<void>;
  /**
   * Holds on for `leaseMs` from now. A lease that has run out and that nobody has reaped yet is renewed like any other: a
   * store that was away for long takes nobody's members away.
   *
   * @returns `lapsed` where the holder has ended, was reaped or was lost with the store: begin another, and join again
   */
  renew(holder: string, leaseMs: number): Promise<"held" | "lapsed">;
  /** Gives the lease up: `lapsing` names the holder at once, and whoever reaps it removes what it held. Safe to call twice. */
  end(holder: string): Promise<void>;
  /**
   * Holds members in a group, each as it is given here: a second time it replaces the first. Up to
   * `MAX_MEMBERS_AT_ONCE` of them.
   *
   * A repetition changes nothing, so that an interrupted call may be made again. What it had changed is then reported by
   * neither.
   *
   * @throws {InvalidArgumentError | LimitError} for too many members at once or too large a meta; nothing is joined
   * @throws {OutOfMemoryError} when the store refuses to grow; nothing is joined
   */
  join(group: string, holder: string, members: readonly NewMember[], limits: MemberLimits): Promise<Joined | "lapsed">;
  /** Holds them no longer. What another holder holds, and what nobody does, is left alone. */
  leave(group: string, holder: string, ids: readonly string[]): Promise<MembershipChange>;
  /**
   * The members in the order in which they joined. Members that stay are listed once each, however many come and go
   * between two pages; of those that come and go a page shows what was there when it was read.
   *
   * @param page `max` is at most `MAX_MEMBERS_AT_ONCE`; 0 only counts. A page may hold fewer, and is the last when
   *   it has no cursor.
   */
  list(group: string, page: { readonly max: number; readonly cursor?: string | undefined }): Promise<MemberPage>;
  /** Those of the ids that are members, in the order asked. */
  find(group: string, ids: readonly string[]): Promise<readonly Member[]>;
  /** Where each group stands, and what it knows of a holder; up to `MAX_GROUPS_AT_ONCE` groups. */
  versions(groups: readonly string[], holder: string): Promise<readonly GroupVersion[]>;
  /**
   * Holders that are to be reaped, or have been and not to the end: some of them, the oldest first. Their lease has run
   * out or was given up, or ends later than any can: then the store's clock was set back, and those that live renew.
   */
  lapsing(): Promise<readonly string[]>;
  /**
   * Removes what a lapsed holder held, part by part: call again until it is done. A holder whose lease holds is left
   * alone, and done.
   *
   * Each removal is made and reported once, however many reap at the same time. A report may die with its caller, and the
   * version tells. What one leaves half done the next goes on with.
   */
  reap(holder: string): Promise<Reaped>;
}

export interface NewMember {
  readonly id: string;
  /** At most `MAX_META_BYTES`. */
  readonly meta: Bytes;
  /** For how many connections the holder holds it; at least 1. */
  readonly connections: number;
}

export interface MemberLimits {
  /** Members that the group may have; who is a member already may be joined by others all the same. */
  readonly maxMembers: number;
}

export interface Member {
  readonly id: string;
  /** What was given last, of those that are still held. */
  readonly meta: Uint8Array;
  /** Of all holders together. */
  readonly connections: number;
  /** When its first holder joined it, by the store's clock (ms since the epoch). */
  readonly joinedAt: number;
  /** When it changed last; of one that has left, when it left, or when its holder that died had renewed its lease last. */
  readonly lastSeen: number;
}

/** What a call has changed in a group. */
export interface MembershipChange {
  /** The group's version before the call; 0: it had no members, and nothing is known of it. */
  readonly from: number;
  /** The version now. Each change counts one, so that those before the last have the versions before this one. */
  readonly version: number;
  readonly changes: readonly MemberChange[];
}

/** A member that has left is told of as it was. */
export interface MemberChange {
  readonly kind: "joined" | "updated" | "left";
  readonly member: Member;
}

export interface Joined extends MembershipChange {
  /** Ids that found no room in the group. */
  readonly refused: readonly string[];
}

export interface MemberPage {
  /** What the page shows, and the count, are as of this version. */
  readonly version: number;
  /** Members of the whole group. */
  readonly count: number;
  readonly members: readonly Member[];
  /** Pass it to go on; absent on the last page. */
  readonly cursor?: string;
}

export interface GroupVersion {
  /** 0: the group has no members, and nothing is known of it. */
  readonly version: number;
  /**
   * What the holder's last join or leave of the group had returned as its version, while the holder has members there:
   * another number says that the store has lost one of these calls.
   */
  readonly held: number;
}

export interface Reaped {
  readonly lapsed: readonly Lapsed[];
  /** Nothing is left of the holder. */
  readonly isDone: boolean;
}

export interface Lapsed {
  readonly group: string;
  readonly change: MembershipChange;
}
