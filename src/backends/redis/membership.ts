/** The membership port on Redis: a group's members in one slot, each holder's lease in another. */

import type { GroupVersion, Membership, MembershipChange } from "../../core/backend.js";
import { InvalidArgumentError } from "../../core/errors.js";
import {
  assertCount,
  assertLease,
  assertMembers,
  MAX_GROUPS_AT_ONCE,
  MAX_MEMBERS_AT_ONCE,
  placeOf,
} from "../../core/membership-limits.js";
import { bufferOf, listOf, numberOf, textOf } from "./blob.js";
import type { Arg, Connection, PortDependencies, Reply } from "./connection.js";
import { Holders } from "./holders.js";
import { type MemberKeys, memberKeys } from "./keys.js";
import { type Drop, memberFrom, pageFrom, toldFrom } from "./members.js";
import { heldFrom, Orphans } from "./orphans.js";
import { byName } from "./port.js";
import { type LuaScript, loadScript } from "./scripts.js";
import { repeating } from "./repeat.js";

const joinScript = loadScript("membership-join");
const leaveScript = loadScript("membership-leave");
const dropScript = loadScript("membership-drop");
const listScript = loadScript("membership-list");

/** @param assertOpen throws once the backend is closed */
export function createMembership(dependencies: PortDependencies, assertOpen: () => void): Membership {
  const { connections, context } = dependencies;
  const keysOf = byName((group) => memberKeys(context.namespace, group));
  const connectionOf = (key: string): Connection => repeating(connections, key, context.clock);
  // An interrupted call may arrive after those that were made later, which its number tells.
  let calls = 0;

  const run = (script: LuaScript, keys: MemberKeys, holder: string, args: readonly Arg[]): Promise<Reply> => {
    const scriptKeys = [keys.state, keys.members, keys.order, keys.fading, keys.ids(holder)];
    return script.run(connectionOf(keys.state), scriptKeys, [holder, ...args]);
  };
  const drop: Drop = async (group, holder, max, lastSeen) =>
    toldFrom(await run(dropScript, keysOf(group), holder, [String(max), lastSeen]));
  const holders = new Holders({ namespace: context.namespace, connectionOf, drop });
  const orphans = new Orphans({ context, connectionOf, keysOf, drop });

  return {
    ...createLeases(holders, assertOpen),

    async join(group, holder, members, { maxMembers }) {
      assertOpen();
      assertMembers(group, members);
      const number = (calls += 1);
      if (!(await holders.intend(holder, group, number))) return "lapsed";
      const words = members.flatMap(({ id, meta, connections }): Arg[] => [id, String(connections), toArg(meta)]);
      const reply = await run(joinScript, keysOf(group), holder, [String(number), String(maxMembers), ...words]);
      if (isWord(reply, "LAPSED")) return "lapsed";
      assertInOrder(reply, group);
      const { change, refused } = toldFrom(reply);
      return { ...change, refused };
    },

    async leave(group, holder, ids): Promise<MembershipChange> {
      assertOpen();
      assertCount("ids", ids.length, MAX_MEMBERS_AT_ONCE);
      const number = (calls += 1);
      const reply = await run(leaveScript, keysOf(group), holder, [String(number), ...new Set(ids)]);
      assertInOrder(reply, group);
      const { change, isEmpty } = toldFrom(reply);
      if (isEmpty) await holders.forget(holder, group, number);
      return change;
    },

    async list(group, { max, cursor }) {
      assertOpen();
      assertCount("page", max, MAX_MEMBERS_AT_ONCE);
      const { state, members, order } = keysOf(group);
      const args = [String(max), String(placeOf(cursor))];
      return pageFrom(await listScript.run(connectionOf(state), [state, members, order], args));
    },

    async find(group, ids) {
      assertOpen();
      assertCount("ids", ids.length, MAX_MEMBERS_AT_ONCE);
      if (ids.length === 0) return [];
      const { members } = keysOf(group);
      const records = listOf(await connectionOf(members).command(["HMGET", members, ...ids]));
      return ids.flatMap((id, index) => {
        const record = records[index] ?? null;
        return record === null ? [] : [memberFrom(id, bufferOf(record))];
      });
    },

    async versions(groups, holder) {
      assertOpen();
      assertCount("groups", groups.length, MAX_GROUPS_AT_ONCE);
      await orphans.removeFromSome(groups);
      return Promise.all(
        groups.map(async (group): Promise<GroupVersion> => {
          const { state } = keysOf(group);
          const [version, mark] = listOf(await connectionOf(state).command(["HMGET", state, "v", `h${holder}`]));
          return { version: numberOf(version ?? 0), held: heldFrom(mark ?? "") };
        }),
      );
    },
  };
}

function createLeases(
  holders: Holders,
  assertOpen: () => void,
): Pick<Membership, "begin" | "renew" | "end" | "lapsing" | "reap"> {
  return {
    async begin(holder, leaseMs) {
      assertOpen();
      assertLease(leaseMs);
      await holders.begin(holder, leaseMs);
    },
    async renew(holder, leaseMs) {
      assertOpen();
      assertLease(leaseMs);
      return holders.renew(holder, leaseMs);
    },
    async end(holder) {
      assertOpen();
      await holders.end(holder);
    },
    async lapsing() {
      assertOpen();
      return holders.lapsing();
    },
    async reap(holder) {
      assertOpen();
      return holders.reap(holder);
    },
  };
}

function isWord(reply: Reply, word: string): boolean {
  return !Array.isArray(reply) && textOf(reply) === word;
}

function assertInOrder(reply: Reply, group: string): void {
  if (!isWord(reply, "STALE")) return;
  throw new InvalidArgumentError(`calls of one holder on the group "${group}" overlap: make one after the other`);
}

/** The client takes Buffers only; the bytes are shared, not copied. */
function toArg(meta: Uint8Array | string): Arg {
  if (typeof meta === "string" || Buffer.isBuffer(meta)) return meta;
  return Buffer.from(meta.buffer, meta.byteOffset, meta.byteLength);
}
