/** What has been done, quake by quake, in a file beside the store: so that doing it again changes nothing. */

import { appendFileSync, existsSync, readFileSync, rmSync } from "node:fs";
import type { Quake } from "./contract.js";

export interface Entry {
  readonly step: "counted" | "alerted";
  readonly quake: Quake;
  /** How many it took. */
  readonly attempts: number;
}

export interface Ledger {
  has(step: Entry["step"], quake: Quake): boolean;
  /** Writes the entry down, unless it is there already. */
  record(entry: Entry): void;
  entries(step: Entry["step"]): Entry[];
  /** Forgets everything, in the file too. */
  reset(): void;
}

/**
 * Delivery is at least once: an event comes again when its consumer was killed between the work and the
 * acknowledgement. Here the entry is written first and the acknowledgement follows, so that a quake may come twice but
 * counts once. The write is not synced: it survives `kill -9`, not a power cut; call `fsyncSync` where that matters.
 *
 * @param file absent: keeps the entries in memory only
 */
export function openLedger(file: string | undefined): Ledger {
  const entries = new Map<string, Entry>();
  const keyOf = (step: string, { id }: Quake): string => `${step} ${id}`;
  const read = (): void => {
    if (file === undefined || !existsSync(file)) return;
    for (const entry of readEntries(file)) entries.set(keyOf(entry.step, entry.quake), entry);
  };
  read();
  return {
    has: (step, quake) => entries.has(keyOf(step, quake)),
    record(entry) {
      const key = keyOf(entry.step, entry.quake);
      if (entries.has(key)) return;
      // The line feed comes first: should a kill have torn the last line, this one still stands alone.
      if (file !== undefined) appendFileSync(file, `\n${JSON.stringify(entry)}`);
      entries.set(key, entry);
    },
    entries(step) {
      // A second desk on the same store, even one that gave up, has handled some.
      read();
      return [...entries.values()].filter((entry) => entry.step === step);
    },
    reset() {
      entries.clear();
      if (file !== undefined) rmSync(file, { force: true });
    },
  };
}

function readEntries(file: string): Entry[] {
  return readFileSync(file, "utf8")
    .split("\n")
    .flatMap((line): Entry[] => {
      try {
        return [JSON.parse(line) as Entry]; // Nothing but `record` writes here.
      } catch {
        // A torn line was never acknowledged: its quake comes again.
        return [];
      }
    });
}
