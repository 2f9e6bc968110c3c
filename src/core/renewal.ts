/** When the leases of running deliveries are renewed: as often as the lease asks for, also when the lease is changed. */

import type { Clock, Timer } from "./clock.js";

export interface RenewalOptions {
  readonly clock: Clock;
  /** At the start. */
  readonly leaseMs: number;
  /** Asks for the lease as it is stored now; undefined when nothing is stored. Without it, it never changes. */
  readonly currentLeaseMs: (() => Promise<number | undefined>) | undefined;
  /** Renews what is running. */
  readonly renew: () => Promise<void>;
  readonly failed: (error: unknown) => void;
}

/** However short the lease is, it is asked for no more often than this. */
const MIN_ASKING_MS = 1_000;

export class Renewal {
  readonly #options: RenewalOptions;
  #leaseMs: number;
  #askedAt = Number.NEGATIVE_INFINITY;
  #timer: Timer | undefined;
  /** Asks soon. */
  #asking: Timer | undefined;
  #stopped = false;

  constructor(options: RenewalOptions) {
    this.#options = options;
    this.#leaseMs = options.leaseMs;
  }

  start(): void {
    // A third leaves room for one renewal to fail.
    this.#timer = this.#options.clock.setTimer(() => void this.#renew(), Math.ceil(this.#leaseMs / 3));
  }

  stop(): void {
    this.#stopped = true;
    this.#timer?.cancel();
    this.#asking?.cancel();
  }

  /** Something was taken, by the lease that is stored by now: renewals have to keep up with that one. */
  taken(): void {
    const { currentLeaseMs, clock } = this.#options;
    if (currentLeaseMs === undefined || this.#asking !== undefined || this.#stopped) return;
    const leftMs = Math.min(MIN_ASKING_MS, this.#askedAt + MIN_ASKING_MS - clock.now());
    this.#asking = clock.setTimer(
      () => {
        this.#asking = undefined;
        void this.#try(() => this.#ask());
      },
      Math.max(0, leftMs),
    );
  }

  async #renew(): Promise<void> {
    await this.#try(this.#options.renew);
    if (this.#stopped) return;
    this.start();
    // Beside the next renewal, which must not wait for it.
    await this.#try(() => this.#ask());
  }

  /** A consumer that went by an older, longer lease would lose what it is working on. */
  async #ask(): Promise<void> {
    const { currentLeaseMs, clock } = this.#options;
    if (currentLeaseMs === undefined || clock.now() - this.#askedAt < MIN_ASKING_MS) return;
    this.#askedAt = clock.now();
    const leaseMs = await currentLeaseMs();
    if (this.#stopped || leaseMs === undefined || leaseMs === this.#leaseMs) return;
    this.#leaseMs = leaseMs;
    this.#timer?.cancel();
    this.start();
  }

  async #try(call: () => Promise<void>): Promise<void> {
    try {
      await call();
    } catch (error) {
      if (!this.#stopped) this.#options.failed(error);
    }
  }
}
