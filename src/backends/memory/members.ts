/** The members of one group, and which holders hold them. Pure state; time comes in as an argument. */

import type { Bytes, GroupVersion, Member, MemberChange, MembershipChange, NewMember } from "../../core/backend.js";
import { toBytes, toStored } from "./stored.js";

interface Kept {
  readonly joinedAt: number;
  /** The version with which it joined. */
  readonly place: number;
  lastSeen: number;
  /** By holder; the one whose meta was given last stands at the end. */
  readonly seats: Map<string, Seat>;
}

interface Seat {
  readonly meta: Bytes;
  readonly connections: number;
}

export class MemoryGroup {
  /** In the order in which they joined. */
  readonly #members = new Map<string, Kept>();
  /** The version after each holder's last call. */
  readonly #held = new Map<string, number>();
  readonly #nextVersion: () => number;
  #version = 0;
  #from = 0;
  #changes: MemberChange[] = [];

  /** @param nextVersion gives versions that grow, and that no other group has */
  constructor(nextVersion: () => number) {
    this.#nextVersion = nextVersion;
  }

  get size(): number {
    return this.#members.size;
  }

  has(id: string): boolean {
    return this.#members.has(id);
  }

  /** What has changed since it was asked last: by a call of this holder. */
  told(holder: string): MembershipChange {
    const told = { from: this.#from, version: this.#version, changes: this.#changes };
    this.#held.set(holder, this.#version);
    this.#from = this.#version;
    this.#changes = [];
    return told;
  }

  join(holder: string, { id, meta, connections }: NewMember, now: number): void {
    const known = this.#members.get(id);
    const before = known?.seats.get(holder);
    const isSameMeta = before !== undefined && Buffer.compare(toBytes(before.meta), toBytes(meta)) === 0;
    if (isSameMeta && before.connections === connections) return;
    const version = this.#nextVersion();
    const kept = known ?? { joinedAt: now, place: version, lastSeen: now, seats: new Map<string, Seat>() };
    // Only a new meta counts as given anew.
    if (!isSameMeta) kept.seats.delete(holder);
    kept.seats.set(holder, { meta: toStored(meta), connections });
    kept.lastSeen = now;
    this.#members.set(id, kept);
    this.#tell(known === undefined ? "joined" : "updated", toMember(id, kept), version);
  }

  leave(holder: string, id: string, now: number): void {
    const kept = this.#members.get(id);
    if (kept?.seats.has(holder) !== true) return;
    kept.lastSeen = now;
    const before = toMember(id, kept);
    kept.seats.delete(holder);
    if (kept.seats.size > 0) return this.#tell("updated", toMember(id, kept), this.#nextVersion());
    this.#members.delete(id);
    this.#tell("left", before, this.#nextVersion());
  }

  heldBy(holder: string): string[] {
    return [...this.#members].filter(([, { seats }]) => seats.has(holder)).map(([id]) => id);
  }

  forget(holder: string): void {
    this.#held.delete(holder);
  }

  find(id: string): readonly Member[] {
    const kept = this.#members.get(id);
    return kept === undefined ? [] : [toMember(id, kept)];
  }

  /** @param behind the place of the last member of the page before */
  page(behind: number, max: number): { members: Member[]; cursor?: string } {
    const members: Member[] = [];
    let last = behind;
    for (const [id, kept] of this.#members) {
      if (kept.place <= behind) continue;
      if (members.length === max) return { members, ...(max > 0 && { cursor: String(last) }) };
      members.push(toMember(id, kept));
      last = kept.place;
    }
    return { members };
  }

  versions(holder: string): GroupVersion {
    return { version: this.#version, held: this.#held.get(holder) ?? 0 };
  }

  #tell(kind: MemberChange["kind"], member: Member, version: number): void {
    this.#version = version;
    this.#changes.push({ kind, member });
  }
}

function toMember(id: string, { joinedAt, lastSeen, seats }: Kept): Member {
  const all = [...seats.values()];
  const connections = all.reduce((sum, seat) => sum + seat.connections, 0);
  return { id, meta: toBytes(all.at(-1)?.meta ?? ""), connections, joinedAt, lastSeen };
}
