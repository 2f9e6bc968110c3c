/** A binary heap: the first in order comes out first. */

export interface Heap<T> {
  readonly size: number;
  push(item: T): void;
  peek(): T | undefined;
  pop(): T | undefined;
  /** All items, in no particular order. */
  items(): readonly T[];
  /** Drops what `isOver`. */
  prune(isOver: (item: T) => boolean): void;
}

/** @param before whether `a` comes out before `b` */
export function createHeap<T>(before: (a: T, b: T) => boolean): Heap<T> {
  let items: T[] = [];
  const at = (index: number): T => items[index] as T; // Indices below are always within the array.

  function swap(a: number, b: number): void {
    const held = at(a);
    items[a] = at(b);
    items[b] = held;
  }

  function sink(start: number): void {
    let index = start;
    for (;;) {
      const left = 2 * index + 1;
      if (left >= items.length) return;
      const child = left + 1 < items.length && before(at(left + 1), at(left)) ? left + 1 : left;
      if (!before(at(child), at(index))) return;
      swap(index, child);
      index = child;
    }
  }

  return {
    get size() {
      return items.length;
    },
    push(item) {
      items.push(item);
      let index = items.length - 1;
      while (index > 0) {
        const parent = (index - 1) >> 1;
        if (!before(at(index), at(parent))) return;
        swap(index, parent);
        index = parent;
      }
    },
    peek: () => items[0],
    items: () => items,
    prune(isOver) {
      items = items.filter((item) => !isOver(item));
      for (let index = (items.length >> 1) - 1; index >= 0; index -= 1) sink(index);
    },
    pop() {
      if (items.length < 2) return items.pop();
      const first = items[0];
      items[0] = items.pop() as T; // At least two were there.
      sink(0);
      return first;
    },
  };
}
