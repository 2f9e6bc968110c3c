/** Members whose holder's lease was lost with its server: nobody would reap them, so that whoever looks at their group does. */

import type { BackendContext } from "../../core/backend.js";
import { DataLossDetected } from "../../core/errors.js";
import { fieldsOf, listOf, textOf } from "./blob.js";
import type { Connection, Reply } from "./connection.js";
import { holderKeys, leasesKey, type MemberKeys } from "./keys.js";
import { uptime } from "./ledger.js";
import type { Drop } from "./members.js";

/** Of what a group knows of a holder: the version after its last call; 0 for one that has lapsed, or was never there. */
export function heldFrom(mark: Reply): number {
  const [, version = "0"] = textOf(mark).split(" ");
  return Number(version);
}

export interface OrphanDependencies {
  readonly context: BackendContext;
  readonly connectionOf: (key: string) => Connection;
  readonly keysOf: (group: string) => MemberKeys;
  readonly drop: Drop;
}

/** Groups that are looked through at a time: each has a field for each of its holders. */
const GROUPS_AT_ONCE = 20;
/** A holder is asked after once in so long. */
const CHECK_EVERY_MS = 5_000;
const MAX_REMEMBERED = 10_000;
/** Removed from a group in one look. */
const MAX_REMOVED = 250;

export class Orphans {
  readonly #dependencies: OrphanDependencies;
  /** By `uptime`: when each holder was known to live. */
  readonly #checked = new Map<string, number>();
  #looks = 0;

  constructor(dependencies: OrphanDependencies) {
    this.#dependencies = dependencies;
  }

  /** Looks through some of the groups, others each time. */
  async removeFromSome(groups: readonly string[]): Promise<void> {
    const from = groups.length <= GROUPS_AT_ONCE ? 0 : (this.#looks * GROUPS_AT_ONCE) % groups.length;
    this.#looks += 1;
    const some = groups.slice(from, from + GROUPS_AT_ONCE);
    const holders = await Promise.all(some.map((group) => this.#holdersOf(group)));
    const lost = await this.#lostAmong(new Set(holders.flat()));
    for (const [index, group] of some.entries())
      for (const holder of lost) if (holders[index]?.includes(holder) === true) await this.#remove(group, holder);
  }

  /** Those that have not lapsed. */
  async #holdersOf(group: string): Promise<readonly string[]> {
    const { connectionOf, keysOf } = this.#dependencies;
    const { state } = keysOf(group);
    const fields = [...fieldsOf(await connectionOf(state).command(["HGETALL", state]))];
    return fields.flatMap(([name, mark]) => (name.startsWith("h") && textOf(mark) !== "-" ? [name.slice(1)] : []));
  }

  /** Those that neither the list of leases knows nor their own keys. */
  async #lostAmong(holders: ReadonlySet<string>): Promise<readonly string[]> {
    const now = uptime();
    const asked = [...holders].filter(
      (holder) => now - (this.#checked.get(holder) ?? -CHECK_EVERY_MS) >= CHECK_EVERY_MS,
    );
    if (asked.length === 0) return [];
    const { context, connectionOf } = this.#dependencies;
    const leases = leasesKey(context.namespace);
    const ends = listOf(await connectionOf(leases).command(["ZMSCORE", leases, ...asked]));
    const lost: string[] = [];
    for (const [index, holder] of asked.entries()) {
      if (ends[index] === null && (await this.#isLost(holder))) {
        lost.push(holder);
        continue;
      }
      if (this.#checked.size >= MAX_REMEMBERED) this.#checked.clear();
      this.#checked.set(holder, now);
    }
    return lost;
  }

  async #isLost(holder: string): Promise<boolean> {
    const { context, connectionOf } = this.#dependencies;
    const { lease } = holderKeys(context.namespace, holder);
    const end = await connectionOf(lease).command(["HGET", lease, "end"]);
    return end === null || textOf(end) === "0";
  }

  async #remove(group: string, holder: string): Promise<void> {
    const { context, drop } = this.#dependencies;
    const { change } = await drop(group, holder, MAX_REMOVED, "");
    const count = change.changes.length;
    if (count === 0) return;
    const message = `the lease of "${holder}" was lost with its server, and ${count} of its members of "${group}" with it`;
    context.report(new DataLossDetected(message, { channel: group, reader: holder, count }), "membership");
  }
}
