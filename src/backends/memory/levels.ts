/** What waits in an inbox: by priority, and within one by age. Pure state. */

import { createHeap, type Heap } from "./heap.js";

export interface Ranked {
  /** Higher comes first. */
  readonly priority: number;
  /** Lower comes first, within a priority. */
  readonly arrival: number;
  /** No longer, once it has ended without having been taken: it is passed by then. */
  readonly isWaiting: boolean;
}

/** Of so many deliveries, one goes round the priorities in turn where a consumer wants them weighted. */
const ROUND_EVERY = 5;
/** What has ended is cleared out when it is more than what waits, and worth the effort. */
const WORTH_CLEARING = 100;

export class Levels<T extends Ranked> {
  readonly #levels = new Map<number, Level<T>>();
  /** Of the levels, the most urgent first. */
  readonly #priorities: number[] = [];
  #size = 0;
  #deliveries = 0;
  /** Where the last delivery that went round was taken from. */
  #rounded = Number.POSITIVE_INFINITY;

  get size(): number {
    return this.#size;
  }

  add(entry: T): void {
    let level = this.#levels.get(entry.priority);
    if (level === undefined) {
      level = new Level<T>();
      this.#levels.set(entry.priority, level);
      this.#priorities.splice(this.#placeOf(entry.priority), 0, entry.priority);
    }
    level.add(entry);
    this.#size += 1;
  }

  /** Removes the oldest of the most urgent, or of the priority whose turn it is. */
  next(priorities: "strict" | "weighted"): T | undefined {
    const priority = priorities === "weighted" ? this.#weighted() : this.#priorities[0];
    const level = priority === undefined ? undefined : this.#levels.get(priority);
    const entry = level?.shift();
    if (entry !== undefined) this.#left(entry.priority);
    return entry;
  }

  /** One that was waiting has ended. */
  ended({ priority }: T): void {
    this.#levels.get(priority)?.pass();
    this.#left(priority);
  }

  /** The oldest of the most urgent. */
  get first(): T | undefined {
    const [priority] = this.#priorities;
    return priority === undefined ? undefined : this.#levels.get(priority)?.peek();
  }

  /** The oldest of all. */
  get oldest(): T | undefined {
    let oldest: T | undefined;
    for (const level of this.#levels.values()) {
      const head = level.peek();
      if (head !== undefined && (oldest === undefined || head.arrival < oldest.arrival)) oldest = head;
    }
    return oldest;
  }

  /** In the order in which they would be taken, from a priority on. */
  *inOrder(from: number = Number.POSITIVE_INFINITY): Generator<T> {
    for (const priority of this.#priorities.filter((one) => one <= from)) {
      yield* this.#levels.get(priority)?.inOrder() ?? [];
    }
  }

  /** The least urgent first, the oldest first within a priority. */
  *leastUrgentFirst(): Generator<T> {
    for (const priority of this.#priorities.toReversed()) yield* this.#levels.get(priority)?.inOrder() ?? [];
  }

  clear(): void {
    this.#levels.clear();
    this.#priorities.length = 0;
    this.#size = 0;
  }

  #weighted(): number | undefined {
    if (this.#size === 0) return undefined;
    this.#deliveries += 1;
    if (this.#deliveries % ROUND_EVERY !== 0) return this.#priorities[0];
    this.#rounded = this.#priorities.find((priority) => priority < this.#rounded) ?? this.#priorities[0] ?? 0;
    return this.#rounded;
  }

  #left(priority: number): void {
    this.#size -= 1;
    if (this.#levels.get(priority)?.size !== 0) return;
    this.#levels.delete(priority);
    this.#priorities.splice(this.#placeOf(priority), 1);
  }

  /** Where this priority stands, or would. */
  #placeOf(priority: number): number {
    let [low, high] = [0, this.#priorities.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((this.#priorities[middle] ?? priority) > priority) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}

/** What waits at one priority, the oldest first. */
class Level<T extends Ranked> {
  /** Those that came in the order of their age, as nearly all do; taken up to `#taken`. */
  #line: T[] = [];
  #taken = 0;
  /** Those that came later than younger ones: delayed, or back for a retry. */
  #late: Heap<T> = createHeap<T>((a, b) => a.arrival < b.arrival);
  /** Without those that have ended. */
  size = 0;
  #ended = 0;

  add(entry: T): void {
    const last = this.#line.at(-1);
    if (last === undefined || last.arrival < entry.arrival) this.#line.push(entry);
    else this.#late.push(entry);
    this.size += 1;
  }

  peek(): T | undefined {
    const [first, late] = [this.#first(), this.#firstLate()];
    return first === undefined || (late !== undefined && late.arrival < first.arrival) ? late : first;
  }

  shift(): T | undefined {
    const entry = this.peek();
    if (entry === undefined) return undefined;
    if (entry === this.#late.peek()) this.#late.pop();
    else this.#advance();
    this.size -= 1;
    return entry;
  }

  /** One of them has ended: it is passed by. */
  pass(): void {
    this.size -= 1;
    this.#ended += 1;
    if (this.#ended < WORTH_CLEARING || this.#ended < this.size) return;
    this.#line = this.#line.slice(this.#taken).filter(isWaiting);
    this.#late.prune((entry) => !entry.isWaiting);
    this.#taken = 0;
    this.#ended = 0;
  }

  *inOrder(): Generator<T> {
    const late = this.#late.items().filter(isWaiting);
    late.sort((a, b) => a.arrival - b.arrival);
    let next = 0;
    for (let index = this.#taken; index < this.#line.length; index += 1) {
      const entry = this.#line[index];
      if (entry === undefined || !entry.isWaiting) continue;
      for (let one = late[next]; one !== undefined && one.arrival < entry.arrival; one = late[next]) {
        next += 1;
        yield one;
      }
      yield entry;
    }
    yield* late.slice(next);
  }

  #first(): T | undefined {
    for (let first = this.#line[this.#taken]; first !== undefined; first = this.#line[this.#taken]) {
      if (first.isWaiting) return first;
      this.#advance();
    }
    return undefined;
  }

  #firstLate(): T | undefined {
    for (let first = this.#late.peek(); first !== undefined; first = this.#late.peek()) {
      if (first.isWaiting) return first;
      this.#late.pop();
    }
    return undefined;
  }

  /** What was taken is let go of now and then, as removing from the front moves all the others. */
  #advance(): void {
    this.#taken += 1;
    if (this.#taken === this.#line.length) {
      this.#line = [];
      this.#taken = 0;
    } else if (this.#taken > 1_000 && this.#taken * 2 > this.#line.length) {
      this.#line = this.#line.slice(this.#taken);
      this.#taken = 0;
    }
  }
}

function isWaiting(entry: Ranked): boolean {
  return entry.isWaiting;
}
