/** Things without an order, each of which comes and goes often: an entry costs no hashing, and nothing is left behind. */

/** What is in a bag keeps its place there. It may be in one bag at a time. */
export interface Bagged {
  /** The bag's own to set. */
  place: number;
}

export class Bag<T extends Bagged> {
  readonly #items: T[] = [];

  get size(): number {
    return this.#items.length;
  }

  add(item: T): void {
    item.place = this.#items.length;
    this.#items.push(item);
  }

  /** @returns whether it was there */
  remove(item: T): boolean {
    if (this.#items[item.place] !== item) return false;
    const last = this.#items.pop();
    if (last !== undefined && last !== item) {
      this.#items[item.place] = last;
      last.place = item.place;
    }
    return true;
  }

  /** All of them, as they are now. */
  all(): T[] {
    return [...this.#items];
  }
}
