/** How members and changes come out of the scripts that keep them. */

import type { Member, MemberChange, MembershipChange, MemberPage } from "../../core/backend.js";
import { bufferOf, listOf, numberOf, textOf } from "./blob.js";
import type { Reply } from "./connection.js";

const SPACE = 0x20;

/** A member by its record; `lua/lib/members.lua` has the form. The meta is a view, not a copy. */
export function memberFrom(id: string, record: Buffer): Member {
  let at = 0;
  const number = (): number => {
    const end = record.indexOf(SPACE, at);
    const value = Number(record.toString("latin1", at, end));
    at = end + 1;
    return value;
  };
  const [joinedAt, lastSeen] = [number(), number()];
  let connections = 0;
  let meta: Uint8Array | undefined;
  while (at < record.length) {
    connections += number();
    const [holderBytes, metaBytes] = [number(), number()];
    at += holderBytes + metaBytes;
    meta ??= record.subarray(at - metaBytes, at);
  }
  return { id, meta: meta ?? new Uint8Array(), connections, joinedAt, lastSeen };
}

/** What `closeCall` of `lua/lib/members.lua` says. */
export interface Told {
  readonly change: MembershipChange;
  /** The holder has nobody in the group any more. */
  readonly isEmpty: boolean;
  readonly refused: readonly string[];
}

/** Removes part of what a lapsed holder held in a group. */
export type Drop = (group: string, holder: string, max: number, lastSeen: string) => Promise<Told>;

export function toldFrom(reply: Reply): Told {
  const [from, version, isEmpty, refused, ...flat] = listOf(reply);
  const changes: MemberChange[] = [];
  for (let at = 0; at + 2 < flat.length; at += 3) {
    // The script knows no other kinds.
    const kind = textOf(flat[at]) as MemberChange["kind"];
    changes.push({ kind, member: memberFrom(textOf(flat[at + 1]), bufferOf(flat[at + 2])) });
  }
  return {
    change: { from: numberOf(from), version: numberOf(version), changes },
    isEmpty: isEmpty === 1,
    refused: listOf(refused).map(textOf),
  };
}

export function pageFrom(reply: Reply): MemberPage {
  const [version, count, last, ...flat] = listOf(reply);
  const members: Member[] = [];
  for (let at = 0; at + 1 < flat.length; at += 2) {
    const record = bufferOf(flat[at + 1]);
    // One without a record was lost by the server.
    if (record.length > 0) members.push(memberFrom(textOf(flat[at]), record));
  }
  const cursor = textOf(last);
  return { version: numberOf(version), count: numberOf(count), members, ...(cursor !== "" && { cursor }) };
}
