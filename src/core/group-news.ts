/** How the changes of a group travel to those who watch it: on a channel of its own, in pieces that fit into a message. */

import type { Bytes, Member, MemberChange, MembershipChange } from "./backend.js";
import { textOf } from "./bytes.js";
import { decodeJson } from "./codec.js";
import { INTERNAL } from "./glob.js";
import { isPlainObject } from "./options.js";

/** A member as this process knows it: its meta is text here. */
export interface KnownMember {
  readonly id: string;
  readonly meta: string;
  readonly connections: number;
  readonly joinedAt: number;
  readonly lastSeen: number;
}

export interface KnownChange {
  readonly kind: MemberChange["kind"];
  readonly member: KnownMember;
}

/** Changes that follow one another, from behind one version up to another; `from` 0: the group had no members before. */
export interface News {
  readonly from: number;
  readonly version: number;
  readonly changes: readonly KnownChange[];
}

/** A message holds about so much; one change always fits. */
const MAX_CHARS = 48_000;
/** What a change takes besides its id and its meta. */
const CHANGE_CHARS = 100;

/** The channel that tells of a group. */
export function newsChannel(group: string): string {
  return `${INTERNAL}members:${group}`;
}

/** A group is called `<kind>:<name>`, the kind being its facade's; this is the name. */
export function nameOfGroup(group: string): string {
  return group.slice(group.indexOf(":") + 1);
}

export function toKnown({ id, meta, connections, joinedAt, lastSeen }: Member): KnownMember {
  const bytes = Buffer.from(meta.buffer, meta.byteOffset, meta.byteLength);
  return { id, meta: bytes.toString(), connections, joinedAt, lastSeen };
}

/** One call's changes as messages: each goes on where the one before has ended. */
export function encodeNews({ from, version, changes }: MembershipChange): string[] {
  if (changes.length === 0) return [JSON.stringify({ from, version, changes })];
  const messages: string[] = [];
  let piece: KnownChange[] = [];
  let size = 0;
  let before = from;
  for (const [index, { kind, member }] of changes.entries()) {
    const known = toKnown(member);
    piece.push({ kind, member: known });
    size += known.id.length + known.meta.length + CHANGE_CHARS;
    const left = changes.length - 1 - index;
    if (size < MAX_CHARS && left > 0) continue;
    messages.push(JSON.stringify({ from: before, version: version - left, changes: piece } satisfies News));
    before = version - left;
    piece = [];
    size = 0;
  }
  return messages;
}

/** @returns undefined for what is no news, such as that of another build, or has a meta that is no JSON */
export function decodeNews(data: Bytes): News | undefined {
  let value: unknown;
  try {
    value = JSON.parse(textOf(data));
  } catch {
    // The list tells what it was about.
    return undefined;
  }
  if (!isPlainObject(value)) return undefined;
  const { from, version, changes } = value;
  if (typeof from !== "number" || typeof version !== "number" || !Array.isArray(changes)) return undefined;
  return changes.every(isChange) ? { from, version, changes } : undefined;
}

function isChange(value: unknown): value is KnownChange {
  if (!isPlainObject(value)) return false;
  const { kind, member } = value;
  if ((kind !== "joined" && kind !== "updated" && kind !== "left") || !isPlainObject(member)) return false;
  return (
    typeof member["id"] === "string" &&
    isMeta(member["meta"]) &&
    [member["connections"], member["joinedAt"], member["lastSeen"]].every((one) => typeof one === "number")
  );
}

function isMeta(value: unknown): boolean {
  if (typeof value !== "string") return false;
  try {
    decodeJson(value);
    return true;
  } catch {
    // The list tells what it was about.
    return false;
  }
}
