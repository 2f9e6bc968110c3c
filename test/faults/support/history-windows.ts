/** When things were allowed to be otherwise: the times of faults, as the director noted them. */

import type { FaultOp, Op } from "./history-log.js";

interface Window {
  readonly fault: FaultOp;
  readonly from: number;
  /** Infinite while it lasts. */
  to: number;
}

/** What was on its way to a replica, or between a store and a handler, when the fault struck. */
const BEFORE_NS = 2e9;

export class Windows {
  /** How long after a fault its traces may still show: a lease that ran out beneath it. */
  slackNs = 3e9;
  readonly #windows: Window[] = [];

  feed(op: Op): void {
    if (op.op === "fault") this.#windows.push({ fault: op, from: op.t, to: Number.POSITIVE_INFINITY });
    if (op.op !== "over") return;
    const window = this.#windows.find(({ fault }) => fault.number === op.number);
    if (window !== undefined) window.to = op.t;
  }

  /** Whether the store may have forgotten between these times what had not to be replicated. */
  rolledBack(since: number, until: number): boolean {
    return this.#any(({ fault }) => fault.rollsBack, since - BEFORE_NS, until);
  }

  /** Whether some process or the store stood still between these times, so that a lease may have run out beneath a handler. */
  stalled(since: number, until: number): boolean {
    return this.#any(({ fault }) => fault.stalls, since - BEFORE_NS, until);
  }

  #any(which: (window: Window) => boolean, since: number, until: number): boolean {
    return this.#windows.some((window) => which(window) && window.from <= until && window.to + this.slackNs >= since);
  }
}
