/** When things were allowed to be otherwise: the times of faults, as the director noted them. */

import type { Op } from "./history-log.js";

interface Window {
  /** Of the fault; undefined for what nobody has caused. */
  readonly number: number | undefined;
  readonly stalls: boolean;
  readonly rollsBack: boolean;
  readonly from: number;
  /** How long after it its traces may still show; undefined: as after a fault. */
  readonly slackNs?: number;
  /** Infinite while it lasts. */
  to: number;
}

/** What was on its way to a replica, or between a store and a handler, when the fault struck. */
const BEFORE_NS = 2e9;

/** Whoever stood still begins at once what he was given before. */
const AFTER_STANDING_NS = 1e9;

export class Windows {
  /** How long after a fault its traces may still show: a lease that ran out beneath it. */
  slackNs = 3e9;
  readonly #windows: Window[] = [];
  readonly #deaths: number[] = [];

  feed(op: Op): void {
    if (op.op === "died") this.#deaths.push(op.t);
    if (op.op === "fault") {
      const { number, stalls, rollsBack, t } = op;
      this.#windows.push({ number, stalls, rollsBack, from: t, to: Number.POSITIVE_INFINITY });
    }
    if (op.op === "unforeseen")
      this.#windows.push({ number: undefined, stalls: true, rollsBack: true, from: op.t, to: op.until });
    if (op.op === "stood")
      this.#windows.push({
        number: undefined,
        stalls: true,
        rollsBack: false,
        from: op.t,
        slackNs: AFTER_STANDING_NS,
        to: op.until,
      });
    if (op.op !== "over") return;
    const window = this.#windows.find(({ number }) => number === op.number);
    if (window !== undefined) window.to = op.t;
  }

  /** Whether the store may have forgotten between these times what had not to be replicated. */
  rolledBack(since: number, until: number): boolean {
    return this.#any(({ rollsBack }) => rollsBack, since - BEFORE_NS, until);
  }

  /** Whether some process or the store stood still between these times, so that a lease may have run out beneath a handler. */
  stalled(since: number, until: number): boolean {
    return this.#any(({ stalls }) => stalls, since - BEFORE_NS, until);
  }

  /** Whether somebody stood still, died or forgot between these times: leases may have run out unseen. */
  excused(since: number, until: number): boolean {
    const died = this.#deaths.some((t) => t >= since - BEFORE_NS && t <= until);
    return died || this.stalled(since, until) || this.rolledBack(since, until);
  }

  #any(which: (window: Window) => boolean, since: number, until: number): boolean {
    return this.#windows.some(
      (window) => which(window) && window.from <= until && window.to + (window.slackNs ?? this.slackNs) >= since,
    );
  }
}
