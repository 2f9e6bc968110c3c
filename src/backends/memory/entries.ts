/** The entries of one stream: numbered, in order, dropped from the front alone. */

import type { Bytes, EntryPlace } from "../../core/backend.js";
import { NotFoundError } from "../../core/errors.js";

export interface StoredEntry {
  /** Growing by one; never used again. */
  readonly number: number;
  /** When it was appended. */
  readonly at: number;
  readonly header: string;
  readonly data: Bytes;
  readonly key: string | undefined;
  /** The only group that is given it, which has redriven it; reads pass it by. */
  readonly only: object | undefined;
  /** Bytes of header and data. */
  readonly size: number;
}

export class Entries {
  readonly #list: StoredEntry[] = [];
  /** Those that are for one group only: few, if any. */
  readonly #redriven: StoredEntry[] = [];
  #first = 1;
  #bytes = 0;

  /** The number of the oldest entry, or `end` without any. */
  get first(): number {
    return this.#first;
  }

  /** The number of the next entry to come. */
  get end(): number {
    return this.#first + this.#list.length;
  }

  get length(): number {
    return this.#list.length;
  }

  /** Of headers and data. */
  get bytes(): number {
    return this.#bytes;
  }

  at(number: number): StoredEntry | undefined {
    return this.#list[number - this.#first];
  }

  add({ at, header, data, key, only }: Omit<StoredEntry, "number" | "size">): StoredEntry {
    const size = Buffer.byteLength(header) + Buffer.byteLength(data);
    const added: StoredEntry = { number: this.end, at, header, data, key, only, size };
    this.#list.push(added);
    if (only !== undefined) this.#redriven.push(added);
    this.#bytes += size;
    return added;
  }

  drop(count: number): void {
    for (const { size } of this.#list.splice(0, count)) this.#bytes -= size;
    this.#first += count;
    while ((this.#redriven[0]?.number ?? this.#first) < this.#first) this.#redriven.shift();
  }

  /** How many from this number on are for one group only, and not for `group`. */
  notFor(group: object, from: number): number {
    return this.#redriven.filter(({ number, only }) => number >= from && only !== group).length;
  }

  /** How many of the oldest were appended before `time`. */
  countBefore(time: number): number {
    let count = 0;
    while ((this.#list[count]?.at ?? time) < time) count += 1;
    return count;
  }
}

/** An entry's number as text is its position. */
export function positionOf(number: number): string {
  return String(number);
}

/** @throws {NotFoundError} when the text is no position */
export function numberOf(position: string): number {
  const number = Number(position);
  if (!/^\d+$/.test(position) || !Number.isSafeInteger(number))
    throw new NotFoundError(`"${position}" is no position of this stream`);
  return number;
}

export function placeOf(entry: StoredEntry | undefined): EntryPlace | undefined {
  return entry && { position: positionOf(entry.number), at: entry.at };
}
