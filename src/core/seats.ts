/** Who this process holds in a group: what is wanted, and what of it the store does not know yet. Pure state. */

import type { NewMember } from "./backend.js";

/** One connection of a member. */
export interface Seat {
  readonly id: string;
  meta: string;
  /** How often its meta was changed. */
  changes: number;
  /** The last one that the store has taken. */
  accepted: string;
}

export class Seats {
  /** By member; the seat whose meta was given last at the end. */
  readonly #seats = new Map<string, Set<Seat>>();
  /** Members of which the store may know something else. */
  readonly #changed = new Set<string>();
  #connections = 0;

  get members(): number {
    return this.#seats.size;
  }

  get connections(): number {
    return this.#connections;
  }

  get hasChanged(): boolean {
    return this.#changed.size > 0;
  }

  has(id: string): boolean {
    return this.#seats.has(id);
  }

  add(id: string, meta: string): Seat {
    const seat: Seat = { id, meta, changes: 0, accepted: meta };
    this.#seats.set(id, (this.#seats.get(id) ?? new Set()).add(seat));
    this.#connections += 1;
    this.#changed.add(id);
    return seat;
  }

  /** @returns false for a seat that was given up */
  change(seat: Seat, meta: string): boolean {
    const seats = this.#seats.get(seat.id);
    if (seats?.delete(seat) !== true) return false;
    seat.meta = meta;
    seat.changes += 1;
    seats.add(seat);
    this.#changed.add(seat.id);
    return true;
  }

  /** @returns false for a seat that was given up before */
  remove(seat: Seat): boolean {
    const seats = this.#seats.get(seat.id);
    if (seats?.delete(seat) !== true) return false;
    if (seats.size === 0) this.#seats.delete(seat.id);
    this.#connections -= 1;
    this.#changed.add(seat.id);
    return true;
  }

  /** The store may not know these any more. */
  doubt(ids: Iterable<string> = this.#seats.keys()): void {
    for (const id of ids) this.#changed.add(id);
  }

  /** Takes some of what the store does not know: about so much, and one member at least. */
  take(maxMembers: number, maxChars: number): Wanted {
    const joining: NewMember[] = [];
    const leaving: string[] = [];
    let chars = 0;
    for (const id of this.#changed) {
      if (joining.length + leaving.length >= maxMembers || chars >= maxChars) break;
      this.#changed.delete(id);
      const seats = [...(this.#seats.get(id) ?? [])];
      const meta = seats.at(-1)?.meta;
      if (meta === undefined) leaving.push(id);
      else joining.push({ id, meta, connections: seats.length });
      chars += id.length + (meta?.length ?? 0);
    }
    return { joining, leaving };
  }
}

/** What the store is to be told. */
export interface Wanted {
  readonly joining: readonly NewMember[];
  readonly leaving: readonly string[];
}
