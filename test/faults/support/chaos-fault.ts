/** What a fault of a chaos run is. */

import type { Crew } from "./chaos-crew.js";
import type { Site, Topology } from "./chaos-sites.js";
import type { Random } from "./random.js";

export interface Field {
  readonly site: Site;
  readonly crew: Crew;
  readonly random: Random;
  /** How long it lasts, where that is not left to chance. */
  readonly ms?: number;
}

export interface Struck {
  /** From when on the store accepted writes. */
  readonly writableAt: number;
  /** When the primary was taken away. */
  readonly killedAt?: number;
  /** Puts back in place what is still missing, once work goes on. */
  readonly tidy?: () => Promise<void>;
}

export interface Fault {
  readonly kind: string;
  readonly topologies: readonly Topology[];
  /** How often it is in the deck that a run draws from. */
  readonly copies: number;
  /** {@link FaultOp} */
  readonly stalls: boolean;
  readonly rollsBack: boolean;
  /** Makes another server the primary: some time has to pass between two of these. */
  readonly failsOver?: boolean;
  /** Whether it may strike while nobody publishes. */
  readonly mayBeQuiet: boolean;
  strike(field: Field): Promise<Struck>;
}

export const ANYWHERE: readonly Topology[] = ["standalone", "sentinel", "cluster"];
export const REPLICATED: readonly Topology[] = ["sentinel", "cluster"];
export const ALONE: readonly Topology[] = ["standalone"];

/** How long it is to last, between these limits. */
export function lasting({ ms, random }: Field, shortestMs: number, longestMs: number): number {
  return ms ?? random.int(shortestMs, longestMs);
}
