/** Recovery: how long it takes, once the store accepts writes again, until work goes on; for each fault. */

import { type Findings, type Spread, spreadOf } from "./history-findings.js";
import type { DirectorOp, FaultOp, Side } from "./history-log.js";
import { sideOf } from "./history-read.js";

type Writable = Extract<DirectorOp, { op: "writable" }>;

export interface RecoveryFigures {
  readonly faults: number;
  readonly byKind: Readonly<Record<string, number>>;
  /** Times at which the primary was taken away. */
  readonly kills: number;
  /** From the moment that the store accepts writes until every process has made progress (ms). */
  readonly recovery: Spread;
  /** From the moment that the primary was taken away until the first accepted write (ms). */
  readonly killToWrite: Spread;
}

interface Watched {
  readonly fault: FaultOp;
  readonly since: number;
  /** Sources from which a sign is still missing. */
  readonly missing: Set<string>;
  readonly hadWork: boolean;
  /** Sides that had something to do, and of which nobody has given a sign: for the quiet. */
  readonly silent: Set<Side>;
  /** When the last needed sign came. */
  recoveredAt: number | undefined;
}

/** From the last moment at which nothing was amiss: a fault that never ends would otherwise not be noticed. */
export class Recovery {
  readonly #findings: Findings;
  readonly #limitMs: number;
  readonly #limitToWriteMs: number;
  readonly #alive = new Map<string, "publisher" | "consumer">();
  readonly #faults = new Map<number, FaultOp>();
  readonly #recoveries: number[] = [];
  readonly #toWrite: number[] = [];
  readonly #byKind = new Map<string, number>();
  #watched: Watched | undefined;

  constructor(findings: Findings, limits: { readonly recoveryMs: number; readonly killToWriteMs: number }) {
    this.#findings = findings;
    this.#limitMs = limits.recoveryMs;
    this.#limitToWriteMs = limits.killToWriteMs;
  }

  opened(source: string, process: "publisher" | "consumer"): void {
    this.#alive.set(source, process);
  }

  closed(source: string): void {
    this.#alive.delete(source);
    this.#watched?.missing.delete(source);
  }

  fault(op: FaultOp): void {
    this.#conclude();
    this.#faults.set(op.number, op);
    this.#byKind.set(op.kind, (this.#byKind.get(op.kind) ?? 0) + 1);
  }

  writable(op: Writable): void {
    const fault = this.#faults.get(op.number);
    if (fault === undefined) return;
    this.#faults.delete(op.number);
    if (op.killedAt !== undefined) {
      const ms = (op.t - op.killedAt) / 1e6;
      this.#toWrite.push(ms);
      if (ms > this.#limitToWriteMs) this.#stuck(fault, `no write was accepted for ${Math.round(ms)} ms`, op.t);
    }
    // In the quiet somebody takes what is left; otherwise there is enough for all, and one that is asleep must not hide.
    const missing = new Set(
      [...this.#alive].filter(([, kind]) => !fault.quiet || kind === "consumer").map(([source]) => source),
    );
    const hadWork = op.work.length > 0;
    this.#watched = { fault, since: op.t, missing, hadWork, silent: new Set(op.work), recoveredAt: undefined };
  }

  /** A sign of life from a process: an acknowledged publish, or decisions that the store has taken. */
  sign(source: string, t: number): void {
    const watched = this.#watched;
    if (watched === undefined || t <= watched.since || !watched.missing.delete(source)) return;
    watched.silent.delete(sideOf(source));
    const { fault, missing, silent } = watched;
    if (watched.recoveredAt === undefined && (fault.quiet ? silent.size === 0 : missing.size === 0))
      watched.recoveredAt = t;
  }

  finish(): RecoveryFigures {
    this.#conclude();
    for (const fault of this.#faults.values()) this.#stuck(fault, "the store never accepted writes again", fault.t);
    return {
      faults: [...this.#byKind.values()].reduce((sum, count) => sum + count, 0),
      byKind: Object.fromEntries([...this.#byKind].sort(([a], [b]) => a.localeCompare(b))),
      kills: this.#toWrite.length,
      recovery: spreadOf(this.#recoveries),
      killToWrite: spreadOf(this.#toWrite),
    };
  }

  #conclude(): void {
    const watched = this.#watched;
    this.#watched = undefined;
    if (watched === undefined) return;
    const { fault, since, recoveredAt } = watched;
    if (recoveredAt === undefined) {
      // Where nothing was left to do there was nothing to see.
      const without = fault.quiet || !watched.hadWork ? watched.silent : watched.missing;
      if (without.size > 0)
        this.#stuck(fault, `no progress of ${[...without].join(", ")} before the next fault, or the end`, since);
      return;
    }
    const ms = (recoveredAt - since) / 1e6;
    this.#recoveries.push(ms);
    if (ms > this.#limitMs) this.#stuck(fault, `it took ${Math.round(ms)} ms until work went on`, since);
  }

  #stuck(fault: FaultOp, what: string, t: number): void {
    this.#findings.add({ rule: "stuck", what: `fault ${fault.number} (${fault.kind}): ${what}`, t });
  }
}
