/** Order by key: which keys of a group are busy, and which entries wait in line for each. Pure state. */

import { createHeap, type Heap } from "./heap.js";

/** What stands in a line. */
export interface Ordered {
  readonly number: number;
  /** What it is in order with: its key; undefined where it has no order. */
  readonly line: string | undefined;
}

const isOlder = (a: Ordered, b: Ordered): boolean => a.number < b.number;

export class KeyLines<W extends Ordered> {
  /** A key is busy while it is in here, and then has what waits for it, oldest first. */
  readonly #lines = new Map<string, W[]>();
  /** Those whose turn it is and that nobody has taken yet. Their key is busy with them. */
  #free: Heap<W> = createHeap<W>(isOlder);
  #waiting = 0;

  /** Whether nothing is on its way. */
  get isIdle(): boolean {
    return this.#lines.size === 0;
  }

  /** Entries that were read and never delivered. */
  get held(): number {
    return this.#waiting + this.#free.size;
  }

  /** The oldest of those held. */
  get oldest(): W | undefined {
    // Lines are in order, so that their heads are enough to look at.
    const heads = [...this.#lines.values()].flatMap(([head]) => head ?? []);
    return [...heads, ...this.#free.items()].reduce<W | undefined>(
      (oldest, work) => (oldest === undefined || isOlder(work, oldest) ? work : oldest),
      undefined,
    );
  }

  /** @returns true when it may be delivered, which makes its key busy; false when it has to wait in line */
  admit(work: W): boolean {
    if (work.line === undefined) return true;
    const line = this.#lines.get(work.line);
    if (line === undefined) {
      this.#lines.set(work.line, []);
      return true;
    }
    line.push(work);
    this.#waiting += 1;
    return false;
  }

  /** Removes the oldest whose turn it is; to be delivered, as its key is busy with it. */
  next(): W | undefined {
    return this.#free.pop();
  }

  /** What its key was busy with has ended: it is the next one's turn. */
  release({ line: key }: W): void {
    if (key === undefined) return;
    const next = this.#lines.get(key)?.shift();
    if (next === undefined) {
      this.#lines.delete(key);
      return;
    }
    this.#waiting -= 1;
    this.#free.push(next);
  }

  /** Forgets what is held and `isGone`. @returns how many */
  drop(isGone: (work: W) => boolean): number {
    const before = this.held;
    for (const [key, line] of this.#lines) {
      const kept = line.filter((work) => !isGone(work));
      this.#waiting -= line.length - kept.length;
      this.#lines.set(key, kept);
    }
    const free = this.#free.items();
    this.#free = createHeap<W>(isOlder);
    for (const work of free) {
      if (isGone(work)) this.release(work);
      else this.#free.push(work);
    }
    return before - this.held;
  }

  clear(): void {
    this.#lines.clear();
    this.#free = createHeap<W>(isOlder);
    this.#waiting = 0;
  }
}
