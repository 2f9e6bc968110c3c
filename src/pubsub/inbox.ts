/** Messages that wait for a subscriber: bounded, and what is beyond the bound is dropped. */

import { nextTurn } from "../core/clock.js";

export interface InboxOptions<T> {
  /** Messages that may wait. */
  readonly max: number;
  /** Where there are more: which of them go. `all`, as there is no use in the rest. */
  readonly overflow: "oldest" | "newest" | "all";
  /** These have gone. */
  readonly dropped: (items: readonly T[]) => void;
}

/** However many come in one turn of the event loop: beyond this they go at once. */
const MAX_BURST = 10_000;

/**
 * What is beyond the bound goes when the event loop comes round, and not before: handlers that need no more than a few
 * microtasks keep up with any number of messages that one read of a socket brings.
 */
export class Inbox<T> {
  readonly #options: InboxOptions<T>;
  #items: T[] = [];
  /** Those before it are taken. */
  #head = 0;
  #isLooking = false;

  constructor(options: InboxOptions<T>) {
    this.#options = options;
  }

  get size(): number {
    return this.#items.length - this.#head;
  }

  push(item: T): void {
    this.#items.push(item);
    const { max } = this.#options;
    if (this.size <= max) return;
    if (this.size > max + MAX_BURST) this.#drop();
    if (this.#isLooking) return;
    this.#isLooking = true;
    void nextTurn().then(() => {
      this.#isLooking = false;
      if (this.size > max) this.#drop();
    });
  }

  shift(): T | undefined {
    if (this.size === 0) return undefined;
    const item = this.#items[this.#head];
    this.#head += 1;
    // Whatever is taken is let go of: at once where nothing is left, otherwise in large pieces.
    if (this.size === 0) this.clear();
    else if (this.#head >= MAX_BURST) this.#keep(this.#items.slice(this.#head));
    return item;
  }

  /** Lets everything go. @returns what that was */
  clear(): readonly T[] {
    const items = this.#items.slice(this.#head);
    this.#keep([]);
    return items;
  }

  #drop(): void {
    const { max, overflow, dropped } = this.#options;
    const items = this.clear();
    const excess = items.length - max;
    if (overflow === "oldest") this.#keep(items.slice(excess));
    else if (overflow === "newest") this.#keep(items.slice(0, max));
    dropped(overflow === "oldest" ? items.slice(0, excess) : overflow === "newest" ? items.slice(max) : items);
  }

  #keep(items: T[]): void {
    this.#items = items;
    this.#head = 0;
  }
}
