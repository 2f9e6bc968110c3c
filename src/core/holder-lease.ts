/** The one lease of a broker: begun when it is needed, renewed in time, and replaced when it has lapsed. */

import { randomBytes } from "node:crypto";
import type { Membership } from "./backend.js";
import type { Clock } from "./clock.js";
import { MAX_LEASE_MS } from "./membership-limits.js";
import { anInteger, type Check } from "./options.js";

export const DEFAULT_HOLDER_LEASE_MS = 90_000;
/** For options. Each broker looks a few times in the shortest: what lives would be taken for dead in less. */
export const aHolderLease: Check = anInteger(3_000, MAX_LEASE_MS);

/** What `health()` says of the holder that keeps this broker's members alive. */
export interface HolderHealth {
  readonly ok: boolean;
  /** What is wrong, where something is. */
  readonly error?: string;
  /** Names this broker in the store. */
  readonly holder: string;
  readonly leaseMs: number;
  /** When the lease was last renewed, by this process's clock (ms since the epoch). */
  readonly lastRenewalAt: number;
  /** For how long it has not been renewed. Once it is longer than `leaseMs`, what the broker holds may be taken away. */
  readonly leaseAgeMs: number;
}

export interface HolderLeaseOptions {
  readonly membership: Membership;
  readonly clock: Clock;
  readonly leaseMs: number;
  /** Hears that the holder has lapsed: what it held is to be told anew, to another. */
  readonly lapsed: (holder: string) => void;
}

/** Renewals in the time of a lease: two may fail. */
const RENEWALS = 3;

interface Held {
  readonly name: string;
  renewedAt: number;
  /** As it was counted, since a clock may be set back. */
  ageMs: number;
}

export class HolderLease {
  readonly #options: HolderLeaseOptions;
  #beginning: Promise<Held> | undefined;
  #held: Held | undefined;

  constructor(options: HolderLeaseOptions) {
    this.#options = options;
  }

  /** The holder, where there is one. */
  get holder(): string | undefined {
    return this.#held?.name;
  }

  /** The holder; begun where there is none. */
  async begun(): Promise<string> {
    this.#beginning ??= this.#begin();
    return (await this.#beginning).name;
  }

  /** So much time has passed. Renews what is due for it, or what the store says is over. */
  async passed(ms: number, isOver: (holder: string) => boolean): Promise<void> {
    const { clock, leaseMs } = this.#options;
    const held = this.#held;
    if (held === undefined) return;
    held.ageMs += ms;
    const ageMs = Math.max(held.ageMs, clock.now() - held.renewedAt);
    if (ageMs >= leaseMs / RENEWALS || isOver(held.name)) await this.renew();
  }

  /** Renews it now, or finds that it has lapsed. */
  async renew(): Promise<void> {
    const { membership, clock, leaseMs } = this.#options;
    const held = this.#held;
    if (held === undefined) return;
    if ((await membership.renew(held.name, leaseMs)) === "lapsed") return this.lapse(held.name);
    held.ageMs = 0;
    held.renewedAt = clock.now();
  }

  /** The store does not know this holder any more. */
  lapse(holder: string): void {
    if (this.#held?.name !== holder) return;
    this.#held = undefined;
    this.#beginning = undefined;
    this.#options.lapsed(holder);
  }

  health(): HolderHealth | undefined {
    if (this.#held === undefined) return undefined;
    const { name: holder, renewedAt: lastRenewalAt, ageMs } = this.#held;
    const { leaseMs, clock } = this.#options;
    const leaseAgeMs = Math.max(ageMs, clock.now() - lastRenewalAt);
    const health = { holder, leaseMs, lastRenewalAt, leaseAgeMs };
    // One renewal was missed, and the next is due.
    if (leaseAgeMs <= (2 * leaseMs) / RENEWALS) return { ok: true, ...health };
    return { ok: false, error: `the lease of ${leaseMs} ms was not renewed for ${leaseAgeMs} ms`, ...health };
  }

  async #begin(): Promise<Held> {
    const { membership, clock, leaseMs } = this.#options;
    const name = randomBytes(12).toString("base64url");
    try {
      await membership.begin(name, leaseMs);
    } catch (error) {
      this.#beginning = undefined;
      throw error;
    }
    this.#held = { name, renewedAt: clock.now(), ageMs: 0 };
    return this.#held;
  }
}
