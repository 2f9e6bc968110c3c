/** Chance from a seed: the same seed draws the same values, so that a failing run can be named by a number. */

export interface Random {
  /** From 0 up to 1, which is never drawn. */
  next(): number;
  /** A whole number; both ends can be drawn. */
  int(min: number, max: number): number;
  chance(probability: number): boolean;
  /** @throws {RangeError} when there is nothing to pick from */
  pick<T>(values: readonly T[]): T;
  shuffled<T>(values: readonly T[]): T[];
  /** A source of its own: what is drawn from it changes nothing here. */
  fork(): Random;
}

/** Mulberry32: 32 bits of state are plenty for choosing faults. */
export function createRandom(seed: number): Random {
  let state = seed >>> 0;
  const next = (): number => {
    state = (state + 0x6d2b79f5) >>> 0;
    return mix(state) / 2 ** 32;
  };
  const int = (min: number, max: number): number => min + Math.floor(next() * (max - min + 1));
  return {
    next,
    int,
    chance: (probability) => next() < probability,
    pick(values) {
      if (values.length === 0) throw new RangeError("there is nothing to pick from");
      return values[int(0, values.length - 1)]!;
    },
    shuffled(values) {
      const all = [...values];
      for (let last = all.length - 1; last > 0; last -= 1) {
        const other = int(0, last);
        [all[last], all[other]] = [all[other]!, all[last]!];
      }
      return all;
    },
    fork: () => createRandom(Math.floor(next() * 2 ** 32)),
  };
}

/** 32 bits that look like chance and are always the same for the same numbers. */
export function hashOf(...numbers: readonly number[]): number {
  let hash = 0x9e3779b9;
  for (const number of numbers) hash = mix((hash ^ number) >>> 0);
  return hash;
}

function mix(value: number): number {
  let bits = value;
  bits = Math.imul(bits ^ (bits >>> 15), bits | 1);
  bits ^= bits + Math.imul(bits ^ (bits >>> 7), bits | 61);
  return (bits ^ (bits >>> 14)) >>> 0;
}
