/** What is remembered of each message of a queue while a history is read: some sixty bytes for each recipient that may have it. */

import { grown, RESULT } from "./history-ledger.js";
import type { ItemInvoke } from "./history-items.js";

/** The messages of one publisher, by their numbers. */
export class ItemLedger {
  count = 0;
  /** When it was published. */
  invokedAt = new Float64Array(1_024);
  /** When its publisher had the receipt: until then it was stored, if it has one. 0: it has none. */
  okAt = new Float64Array(1_024);
  priority = new Float64Array(1_024);
  /** 0: it never expires. */
  ttlMs = new Float64Array(1_024);
  delayMs = new Float64Array(1_024);
  #to = new Uint8Array(1_024);
  #results = new Uint8Array(1_024);

  /** @param to the number of its recipient */
  invoke({ n, t, priority, ttlMs = 0, delayMs = 0 }: ItemInvoke, to: number): void {
    if (n >= this.#results.length) {
      this.invokedAt = grown(this.invokedAt, n);
      this.okAt = grown(this.okAt, n);
      this.priority = grown(this.priority, n);
      this.ttlMs = grown(this.ttlMs, n);
      this.delayMs = grown(this.delayMs, n);
      this.#to = grown(this.#to, n);
      this.#results = grown(this.#results, n);
    }
    this.invokedAt[n] = t;
    this.priority[n] = priority;
    this.ttlMs[n] = ttlMs;
    this.delayMs[n] = delayMs;
    this.#to[n] = to;
    this.count = Math.max(this.count, n + 1);
  }

  settle(n: number, result: number, t: number): void {
    this.#results[n] = result;
    if (result === RESULT.ok) this.okAt[n] = t;
  }

  resultOf(n: number): number {
    return this.#results[n] ?? RESULT.none;
  }

  /** The number of whom it is for. */
  recipientOf(n: number): number {
    return this.#to[n] ?? 0;
  }
}

/** Facts about a message with one recipient, as bits. */
export const ITEM = {
  begun: 1,
  /** A handler decided to acknowledge it. */
  acked: 2,
  /** The store has said that it took an acknowledgement. */
  stored: 4,
  /** There is a dead letter of it. */
  dead: 8,
  /** Its last attempt ended in a retry that is counted, or in one that is not. */
  retried: 16,
  deferred: 32,
  /** A handler is about it. */
  open: 64,
  /** The store has said that it expired. */
  expired: 128,
} as const;

/** What became of one publisher's messages with one recipient. */
export class InboxLedger {
  facts = new Uint8Array(1_024);
  /** The highest attempt that has begun. */
  attempt = new Uint8Array(1_024);
  /** How often it has begun. */
  begins = new Uint8Array(1_024);
  /** Its id, as a number that is all but unique. */
  id = new Uint32Array(1_024);
  /** The number of the consumer that took it last. */
  holder = new Uint16Array(1_024);
  /** Between which times it was last taken. */
  takenFrom = new Float64Array(1_024);
  takenUntil = new Float64Array(1_024);
  /** Since when its lease has been in force for sure: from when it was last taken or renewed. */
  leasedFrom = new Float64Array(1_024);
  /** When the store had taken what ended it, or had ended it because it expired. 0: that is not known. */
  finishedAt = new Float64Array(1_024);
  /** A retry: until when it has to wait. 0: it has not. */
  readyAt = new Float64Array(1_024);
  /** A retry that was stored: from when on it has been waiting for sure. 0: that is not known. */
  waitsFrom = new Float64Array(1_024);

  /** Makes room for message `n`. */
  hold(n: number): void {
    if (n < this.facts.length) return;
    this.facts = grown(this.facts, n);
    this.attempt = grown(this.attempt, n);
    this.begins = grown(this.begins, n);
    this.id = grown(this.id, n);
    this.holder = grown(this.holder, n);
    this.takenFrom = grown(this.takenFrom, n);
    this.takenUntil = grown(this.takenUntil, n);
    this.leasedFrom = grown(this.leasedFrom, n);
    this.finishedAt = grown(this.finishedAt, n);
    this.readyAt = grown(this.readyAt, n);
    this.waitsFrom = grown(this.waitsFrom, n);
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
