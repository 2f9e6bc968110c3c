/** The ids that callers gave to what they appended, as far back as a stream remembers them. */

import { DEDUPE_MAX_IDS, DEDUPE_WINDOW_MS } from "../../core/limits.js";

/**
 * Two generations: when the present one is full or old enough it becomes the previous one, which is forgotten. So an id
 * is remembered for at least the window, or for the last `DEDUPE_MAX_IDS` ids, and no entry needs a timer.
 */
export class RememberedIds {
  #present = new Map<string, number>();
  #previous = new Map<string, number>();
  /** When the present generation began. */
  #since = Number.NEGATIVE_INFINITY;

  /** The number of the entry that had this id; undefined where it is not remembered. */
  get(id: string): number | undefined {
    return this.#present.get(id) ?? this.#previous.get(id);
  }

  remember(id: string, number: number, now: number): void {
    if (this.#present.size >= DEDUPE_MAX_IDS) this.#turn(now);
    this.#present.set(id, number);
  }

  /** Forgets what is old enough; to be called before ids are looked up. */
  age(now: number): void {
    if (now - this.#since < DEDUPE_WINDOW_MS) return;
    const isLongAgo = now - this.#since >= 2 * DEDUPE_WINDOW_MS;
    this.#turn(now);
    if (isLongAgo) this.#previous = new Map();
  }

  clear(): void {
    this.#present = new Map();
    this.#previous = new Map();
  }

  #turn(now: number): void {
    this.#previous = this.#present;
    this.#present = new Map();
    this.#since = now;
  }
}
