/** What a checked history comes to: violations with their evidence, and the figures of the run. */

import type { Entry } from "./history-read.js";

/** What must not be. The letters are those of the test plan. */
export const RULES = {
  lost: "(a) an acknowledged message was never delivered and is not accounted for",
  unfinished: "(a) a message was delivered and forgotten: neither acknowledged nor a dead letter nor still pending",
  phantom: "(b) something was delivered that nobody published",
  refused: "(b) a message was delivered whose publish was refused",
  corrupt: "(b) a delivery is not as it was published",
  twice: "(c) one publish was stored twice",
  order: "(d) a message was first delivered after a later one of its key",
  overtaken: "(d) a message was delivered while an earlier one of its key was unfinished",
  overlap: "(d) two handlers had the same message at once",
  equation: "(e) the counts of the store do not add up",
  left: "(e) the group did not finish what there was",
  gone: "(e) messages were dropped although nothing may be",
  fence: "(f) the acknowledgement of an attempt counted after its lease had passed on",
  again: "(f) a message came again after its acknowledgement was stored",
  unseen: "(f) an attempt was counted that no handler ever saw",
  attempts: "(f) attempts were not counted as they should be",
  stuck: "(g) work did not go on in time after the fault was over",
  memory: "(h) a process used more memory than it may",
  unhandled: "(i) a process failed in a way that nobody handles",
  expired: "(j) a message was handed out after its time to live",
  early: "(j) a message was handed out before its delay had passed, or expired before its time to live had",
  priority: "(k) a message was handed out while a more urgent one, or an older one of its priority, was waiting",
  audience: "(l) a message for an audience did not get as many recipients as were registered",
  history: "the history itself is not sound",
} as const;

export type Rule = keyof typeof RULES;

export interface Finding {
  readonly rule: Rule;
  /** What happened. */
  readonly what: string;
  /** The message it is about: `n` of publisher `p`. */
  readonly message?: { readonly p: number; readonly n: number };
  readonly group?: string;
  /** The recipient, where it is about a queue. */
  readonly inbox?: string;
  /** When it was noticed. */
  readonly t?: number;
}

/** Most are the same again and again: so many of each rule are kept. */
const KEPT = 10;

export class Findings {
  readonly kept: Finding[] = [];
  readonly counts = new Map<Rule, number>();

  add(finding: Finding): void {
    const count = (this.counts.get(finding.rule) ?? 0) + 1;
    this.counts.set(finding.rule, count);
    if (count <= KEPT) this.kept.push(finding);
  }

  of(rule: Rule): number {
    return this.counts.get(rule) ?? 0;
  }
}

/** Milliseconds. */
export interface Spread {
  readonly count: number;
  readonly p50: number;
  readonly p99: number;
  readonly max: number;
}

export function spreadOf(values: readonly number[]): Spread {
  const sorted = [...values].sort((a, b) => a - b);
  const at = (share: number): number => Math.round(sorted[Math.ceil(share * sorted.length) - 1] ?? 0);
  return { count: sorted.length, p50: at(0.5), p99: at(0.99), max: at(1) };
}

/** How one operation reads in a report: seconds since `start`, who, and the operation itself. */
export function describe({ op, source }: Entry, start: number): string {
  const { t, ...rest } = op;
  return `${((t - start) / 1e9).toFixed(3).padStart(9)} s  ${source.padEnd(13)} ${JSON.stringify(rest)}`;
}
