/** Holders on Redis: their leases, the groups that they may have members in, and how what they leave behind is removed. */

import type { Lapsed, Reaped } from "../../core/backend.js";
import { MAX_LAPSING, MAX_LEASE_MS, MAX_REAPED } from "../../core/membership-limits.js";
import { listOf, numberOf, textOf } from "./blob.js";
import type { Connection } from "./connection.js";
import { type HolderKeys, holderKeys, leasesKey } from "./keys.js";
import type { Drop } from "./members.js";
import { loadScript } from "./scripts.js";

const renewScript = loadScript("membership-renew");
const intendScript = loadScript("membership-intend");
const forgetScript = loadScript("membership-forget");
const noteScript = loadScript("membership-note");
const lapsingScript = loadScript("membership-lapsing");
const lapseScript = loadScript("membership-lapse");

/** Members that are removed from a group by one script: it takes some two milliseconds. */
const MAX_DROPPED = 250;
/** Groups that one call of `reap` looks into at the same time. */
const GROUPS_AT_ONCE = 20;

export interface HolderDependencies {
  readonly namespace: string;
  /** For what may be sent twice. */
  readonly connectionOf: (key: string) => Connection;
  readonly drop: Drop;
}

export class Holders {
  readonly #dependencies: HolderDependencies;
  readonly #leases: string;

  constructor(dependencies: HolderDependencies) {
    this.#dependencies = dependencies;
    this.#leases = leasesKey(dependencies.namespace);
  }

  async begin(holder: string, leaseMs: number): Promise<void> {
    await this.#renew(holder, leaseMs, "begin");
  }

  async renew(holder: string, leaseMs: number): Promise<"held" | "lapsed"> {
    return (await this.#renew(holder, leaseMs, "renew")) ? "held" : "lapsed";
  }

  async end(holder: string): Promise<void> {
    const { state } = await this.#lapse(holder, "now");
    if (state !== "unknown") await this.#note(holder, "0");
  }

  async lapsing(): Promise<readonly string[]> {
    const args = [String(MAX_LAPSING), String(MAX_LEASE_MS)];
    return listOf(await lapsingScript.run(this.#connection(this.#leases), [this.#leases], args)).map(textOf);
  }

  async reap(holder: string): Promise<Reaped> {
    const { state, lastSeen, groups } = await this.#lapse(holder, "due");
    if (state !== "over" && state !== "unknown") {
      // It was renewed, and whoever did so has not come to say it here.
      await this.#note(holder, state, "XX");
      return { lapsed: [], isDone: true };
    }
    if (groups.length === 0) {
      const keys = this.#keysOf(holder);
      await this.#connection(keys.lease).command(["UNLINK", keys.lease, keys.groups]);
      await this.#connection(this.#leases).command(["ZREM", this.#leases, holder]);
      return { lapsed: [], isDone: true };
    }
    const max = Math.min(MAX_DROPPED, Math.floor(MAX_REAPED / groups.length));
    const dropped = await Promise.allSettled(groups.map((group) => this.#drop(group, holder, max, lastSeen)));
    const lapsed = dropped.flatMap((one) => (one.status === "fulfilled" ? one.value : []));
    const failed = dropped.find((one) => one.status === "rejected");
    // What was removed is to be told all the same; the next call meets the failure again.
    if (failed !== undefined && lapsed.length === 0) throw failed.reason;
    return { lapsed, isDone: false };
  }

  /**
   * Notes that a holder is about to join a group, before it does: so whoever reaps it looks there. The lease and the group
   * may be on different servers.
   *
   * @returns whether its lease is not over
   */
  async intend(holder: string, group: string, call: number): Promise<boolean> {
    const { lease, groups } = this.#keysOf(holder);
    return numberOf(await intendScript.run(this.#connection(lease), [lease, groups], [group, String(call)])) === 1;
  }

  /** Nobody is left there, unless a later call has joined again. */
  async forget(holder: string, group: string, call: number): Promise<void> {
    const { groups } = this.#keysOf(holder);
    await forgetScript.run(this.#connection(groups), [groups], [group, String(call)]);
  }

  /** @returns whether it holds */
  async #renew(holder: string, leaseMs: number, how: "begin" | "renew"): Promise<boolean> {
    const { lease } = this.#keysOf(holder);
    const end = textOf(await renewScript.run(this.#connection(lease), [lease], [String(leaseMs), how]));
    if (end === "0") return false;
    await this.#note(holder, end);
    return true;
  }

  async #lapse(holder: string, how: "due" | "now"): Promise<Lapse> {
    const { lease, groups } = this.#keysOf(holder);
    const args = [how, String(MAX_LEASE_MS), String(GROUPS_AT_ONCE)];
    const reply = listOf(await lapseScript.run(this.#connection(lease), [lease, groups], args)).map(textOf);
    const [state = "unknown", lastSeen = "0", ...names] = reply;
    return { state, lastSeen, groups: names };
  }

  /** Removes up to `max` members; forgets the group where nobody is left. */
  async #drop(group: string, holder: string, max: number, lastSeen: string): Promise<readonly Lapsed[]> {
    const { change, isEmpty } = await this.#dependencies.drop(group, holder, max, lastSeen);
    const { groups } = this.#keysOf(holder);
    if (isEmpty) await this.#connection(groups).command(["ZREM", groups, group]);
    return change.changes.length > 0 ? [{ group, change }] : [];
  }

  #keysOf(holder: string): HolderKeys {
    return holderKeys(this.#dependencies.namespace, holder);
  }

  #connection(key: string): Connection {
    return this.#dependencies.connectionOf(key);
  }

  async #note(holder: string, end: string, how: "" | "XX" = ""): Promise<void> {
    await noteScript.run(this.#connection(this.#leases), [this.#leases], [holder, end, how]);
  }
}

interface Lapse {
  /** When the lease ends, where it holds; `over`; or `unknown`, where there is none. */
  readonly state: string;
  readonly lastSeen: string;
  /** Some of the groups that it may have members in. */
  readonly groups: readonly string[];
}
