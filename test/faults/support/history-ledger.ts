/** What is remembered of each message while a history is read: a few dozen bytes, so that millions of messages fit. */

/** What became of a publish; 0 while nothing is known. */
export const RESULT = { none: 0, ok: 1, fail: 2, unknown: 3 } as const;

/** The messages of one publisher, by their numbers. */
export class PublisherLedger {
  count = 0;
  /** When it was published. */
  invokedAt = new Float64Array(1_024);
  #results = new Uint8Array(1_024);
  #keys = new Int32Array(1_024);

  invoke(n: number, key: number | undefined, t: number): void {
    if (n >= this.#results.length) {
      this.invokedAt = grown(this.invokedAt, n);
      this.#results = grown(this.#results, n);
      this.#keys = grown(this.#keys, n);
    }
    this.#keys[n] = key ?? -1;
    this.invokedAt[n] = t;
    this.count = Math.max(this.count, n + 1);
  }

  settle(n: number, result: number): void {
    this.#results[n] = result;
  }

  resultOf(n: number): number {
    return this.#results[n] ?? RESULT.none;
  }

  /** Undefined for messages without one. */
  keyOf(n: number): number | undefined {
    const key = this.#keys[n] ?? -1;
    return key < 0 ? undefined : key;
  }
}

/** Facts about a message in one group, as bits. */
export const FACT = {
  begun: 1,
  /** A handler decided to acknowledge it. */
  acked: 2,
  /** The store has said that it took an acknowledgement. */
  stored: 4,
  /** There is a dead letter of it. */
  dead: 8,
  /** Its last attempt ended in a counted retry. */
  retried: 16,
  /** A handler is about it. */
  open: 32,
} as const;

/** One group's deliveries of one publisher's messages. */
export class DeliveryLedger {
  facts = new Uint8Array(1_024);
  /** The highest attempt that has begun. */
  attempt = new Uint8Array(1_024);
  /** How often it has begun. */
  begins = new Uint8Array(1_024);
  /** Where it stood, as a number that is all but unique. */
  place = new Uint32Array(1_024);
  /** When it last began. */
  begunAt = new Float64Array(1_024);
  /** When the store last took an acknowledgement. */
  storedAt = new Float64Array(1_024);
  /** The number of the consumer that began it last. */
  holder = new Uint16Array(1_024);

  /** Makes room for message `n`. */
  hold(n: number): void {
    if (n < this.facts.length) return;
    this.facts = grown(this.facts, n);
    this.attempt = grown(this.attempt, n);
    this.begins = grown(this.begins, n);
    this.place = grown(this.place, n);
    this.begunAt = grown(this.begunAt, n);
    this.storedAt = grown(this.storedAt, n);
    this.holder = grown(this.holder, n);
  }

  has(n: number, fact: number): boolean {
    return ((this.facts[n] ?? 0) & fact) !== 0;
  }

  mark(n: number, fact: number): void {
    this.facts[n] = (this.facts[n] ?? 0) | fact;
  }

  clear(n: number, fact: number): void {
    this.facts[n] = (this.facts[n] ?? 0) & ~fact;
  }
}

interface Columns {
  readonly length: number;
  set(from: this): void;
}

/** Twice as long as now, or more when `index` needs it. */
export function grown<T extends Columns>(column: T, index: number): T {
  let length = column.length;
  while (length <= index) length *= 2;
  // Every typed array is made from its length.
  const larger = new (column.constructor as new (length: number) => T)(length);
  larger.set(column);
  return larger;
}
