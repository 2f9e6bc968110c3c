/** The ids of the messages that a handler had last. */

/** Remembered for certain; up to twice as many are. */
const MAX_IDS = 10_000;

/** Two generations, so that forgetting costs nothing for each id. */
export class RecentIds {
  #present = new Set<string>();
  #previous = new Set<string>();

  /** @returns whether it is new */
  add(id: string): boolean {
    if (this.#present.has(id) || this.#previous.has(id)) return false;
    if (this.#present.size >= MAX_IDS) {
      this.#previous = this.#present;
      this.#present = new Set();
    }
    this.#present.add(id);
    return true;
  }

  /** For what has not been handled after all. */
  forget(id: string): void {
    this.#present.delete(id);
    this.#previous.delete(id);
  }
}
