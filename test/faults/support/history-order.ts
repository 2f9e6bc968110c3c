/** Order by key: first deliveries in the order of publishing, and nothing of a key while an earlier message is unfinished. */

import type { EndedAs } from "./history-log.js";
import type { Findings } from "./history-findings.js";
import type { Windows } from "./history-windows.js";

interface Lane {
  /** The message of the key that began last. */
  n: number;
  begunAt: number;
  /** An acknowledgement or a dead letter was decided. */
  finished: boolean;
  /** The latest message of the key that has begun. */
  highest: number;
}

/** One message began although another was unfinished. */
interface Suspicion {
  readonly p: number;
  readonly earlier: number;
  readonly later: number;
  readonly t: number;
}

export interface Begin {
  readonly p: number;
  readonly n: number;
  readonly key: number;
  readonly t: number;
  /** It has never begun before. */
  readonly isFirst: boolean;
}

/** A publisher has at most so many keys. */
const KEYS = 65_536;
const MAX_SUSPICIONS = 10_000;

export class KeyOrder {
  readonly #group: string;
  readonly #findings: Findings;
  readonly #windows: Windows;
  readonly #lanes = new Map<number, Lane>();
  readonly #suspicions: Suspicion[] = [];

  constructor(group: string, findings: Findings, windows: Windows) {
    this.#group = group;
    this.#findings = findings;
    this.#windows = windows;
  }

  begin({ p, n, key, t, isFirst }: Begin): void {
    const lane = this.#lanes.get(p * KEYS + key);
    if (lane === undefined) {
      this.#lanes.set(p * KEYS + key, { n, begunAt: t, finished: false, highest: n });
      return;
    }
    if (isFirst && n < lane.highest) {
      const what = `key ${key} of publisher ${p}: message ${n} was first delivered after message ${lane.highest}`;
      this.#findings.add({ rule: "order", what, message: { p, n }, group: this.#group, t });
    } else if (n !== lane.n && !lane.finished) {
      this.#suspect({ p, earlier: lane.n, later: n, t }, lane.begunAt);
    }
    lane.n = n;
    lane.begunAt = t;
    lane.finished = false;
    lane.highest = Math.max(lane.highest, n);
  }

  end(p: number, n: number, key: number, as: EndedAs): void {
    const lane = this.#lanes.get(p * KEYS + key);
    if (lane?.n === n) lane.finished = as === "ack" || as === "dead";
  }

  /** @param isDead whether a message has become a dead letter, which ends it without a handler */
  finish(isDead: (p: number, n: number) => boolean): void {
    for (const { p, earlier, later, t } of this.#suspicions) {
      if (isDead(p, earlier)) continue;
      const what = `message ${later} of publisher ${p} was delivered while message ${earlier} of its key was unfinished`;
      this.#findings.add({ rule: "overtaken", what, message: { p, n: earlier }, group: this.#group, t });
    }
  }

  #suspect(suspicion: Suspicion, since: number): void {
    // A lease that ran out beneath a handler is nothing that the group could have known.
    if (this.#windows.stalled(since, suspicion.t) || this.#windows.rolledBack(since, suspicion.t)) return;
    if (this.#suspicions.length < MAX_SUSPICIONS) this.#suspicions.push(suspicion);
  }
}
