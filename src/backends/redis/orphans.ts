/** Members whose holder's lease was lost with its server: nobody would reap them, so that whoever looks at their group does. */

import type { BackendContext } from "../../core/backend.js";
import { DataLossDetected } from "../../core/errors.js";
import { fieldsOf, listOf, numberOf, textOf } from "./blob.js";
import type { Connection, Reply } from "./connection.js";
import { holderKeys, leasesKey } from "./keys.js";
import { uptime } from "./ledger.js";
import type { Drop } from "./members.js";

/** What a group's hash `state` says. */
export interface GroupState {
  readonly group: string;
  readonly version: number;
  /** By holder, those that have lapsed left out: the version after its last call. */
  readonly held: ReadonlyMap<string, number>;
}

export function stateFrom(group: string, reply: Reply): GroupState {
  const held = new Map<string, number>();
  let version = 0;
  for (const [field, value] of fieldsOf(reply)) {
    if (field === "v") version = numberOf(value);
    const [, after] = textOf(value).split(" ");
    if (field.startsWith("h") && after !== undefined) held.set(field.slice(1), Number(after));
  }
  return { group, version, held };
}

export interface OrphanDependencies {
  readonly context: BackendContext;
  readonly connectionOf: (key: string) => Connection;
  readonly drop: Drop;
}

/** A holder is asked after once in so long. */
const CHECK_EVERY_MS = 5_000;
const MAX_REMEMBERED = 10_000;
/** Removed from a group in one look. */
const MAX_REMOVED = 250;

export class Orphans {
  readonly #dependencies: OrphanDependencies;
  /** By `uptime`: when each holder was known to live. */
  readonly #checked = new Map<string, number>();

  constructor(dependencies: OrphanDependencies) {
    this.#dependencies = dependencies;
  }

  async removeFrom(states: readonly GroupState[]): Promise<void> {
    const lost = await this.#lostAmong(new Set(states.flatMap(({ held }) => [...held.keys()])));
    for (const { group, held } of states) {
      for (const holder of lost) if (held.has(holder)) await this.#remove(group, holder);
    }
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
    const { change } = await drop(group, holder, MAX_REMOVED, String(context.clock.now()));
    const count = change.changes.length;
    if (count === 0) return;
    const message = `the lease of "${holder}" was lost with its server, and ${count} of its members of "${group}" with it`;
    context.report(new DataLossDetected(message, { channel: group, reader: holder, count }), "membership");
  }
}
