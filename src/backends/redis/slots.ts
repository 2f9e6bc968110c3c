/** Which of a Cluster's 16,384 hash slots a key belongs to (Redis Cluster specification, "Key distribution model"). */

export const SLOT_COUNT = 16_384;

/** CRC16/XMODEM: polynomial 0x1021, starting at 0. */
const TABLE = Uint16Array.from({ length: 256 }, (_, byte) => {
  let crc = byte << 8;
  for (let bit = 0; bit < 8; bit += 1) crc = (crc & 0x8000 ? (crc << 1) ^ 0x1021 : crc << 1) & 0xffff;
  return crc;
});

/** The slot of a key: of what stands between its first `{` and the next `}`, where that is not empty. */
export function slotOfKey(key: string): number {
  const open = key.indexOf("{");
  const close = open < 0 ? -1 : key.indexOf("}", open + 1);
  const hashed = close > open + 1 ? key.slice(open + 1, close) : key;
  let crc = 0;
  for (const byte of Buffer.from(hashed)) crc = ((crc << 8) & 0xffff) ^ (TABLE[(crc >> 8) ^ byte] ?? 0);
  return crc % SLOT_COUNT;
}

/** A run of slots, both ends included. */
export interface SlotRange<Owner> {
  readonly first: number;
  readonly last: number;
  readonly primary: Owner;
}

/** Who owns each slot. */
export class SlotTable<Owner> {
  /** What the table was last made of; empty after single changes. */
  #ranges: readonly SlotRange<Owner>[] = [];
  #owners: (Owner | undefined)[] = Array.from({ length: SLOT_COUNT });
  /** One slot of each owner. */
  #slotBy: ReadonlyMap<Owner, number> = new Map();
  #complete = false;

  ownerOf(slot: number): Owner | undefined {
    return this.#owners[slot];
  }

  /** Each owner with one of its slots. */
  get owners(): ReadonlyMap<Owner, number> {
    return this.#slotBy;
  }

  /** Whether every slot has an owner. */
  get complete(): boolean {
    return this.#complete;
  }

  /** Takes over one slot; whether that changed anything. */
  assign(slot: number, owner: Owner): boolean {
    if (this.#owners[slot] === owner) return false;
    this.#owners[slot] = owner;
    this.#ranges = [];
    this.#count();
    return true;
  }

  /** Forgets everything for these ranges; whether that changed anything. */
  replace(ranges: readonly SlotRange<Owner>[]): boolean {
    // Usually nothing has changed, and then comparing thousands of slots would be what an idle program does most.
    if (ranges.length === this.#ranges.length && ranges.every((range, index) => isSame(range, this.#ranges[index])))
      return false;
    const owners: (Owner | undefined)[] = Array.from({ length: SLOT_COUNT });
    for (const { first, last, primary } of ranges) owners.fill(primary, first, last + 1);
    this.#ranges = ranges;
    if (owners.every((owner, slot) => owner === this.#owners[slot])) return false;
    this.#owners = owners;
    this.#count();
    return true;
  }

  #count(): void {
    const slotBy = new Map<Owner, number>();
    this.#owners.forEach((owner, slot) => {
      if (owner !== undefined && !slotBy.has(owner)) slotBy.set(owner, slot);
    });
    this.#slotBy = slotBy;
    this.#complete = !this.#owners.includes(undefined);
  }
}

function isSame<Owner>(one: SlotRange<Owner>, other: SlotRange<Owner> | undefined): boolean {
  return one.first === other?.first && one.last === other.last && one.primary === other.primary;
}
