/** The deadlines of everything under way on one socket, watched by one timer. */

import type { Clock, Timer } from "../../core/clock.js";

/** Milliseconds on a clock that never jumps: a deadline must pass in time even when the machine's date is set back. */
export function uptime(): number {
  return performance.now();
}

/** A late timer means that this process was busy: the answer may lie unread, so it gets this long to be read. */
const GRACE_MS = 100;
const LATE_MS = 50;

/**
 * A queue of deadlines. Answers come in the order of the commands, so that counting them is enough to know what is
 * still under way. The timer is armed for the earliest deadline it knows of and looks again when it fires, so that a
 * command costs no timer of its own.
 */
export class Ledger {
  /** Called when the last answer is in. */
  onEmpty: (() => void) | undefined;
  readonly #clock: Clock;
  readonly #expired: () => void;
  #deadlines = new Float64Array(64);
  #mask = 63;
  #head = 0;
  #tail = 0;
  #timer: Timer | undefined;
  #firesAt = Number.POSITIVE_INFINITY;
  #graced = false;

  constructor(clock: Clock, expired: () => void) {
    this.#clock = clock;
    this.#expired = expired;
  }

  /** How many commands are under way. */
  get size(): number {
    return this.#tail - this.#head;
  }

  /** A command was handed to the socket and must be answered by `deadlineAt` (`uptime`). */
  sent(deadlineAt: number): void {
    if (this.#tail - this.#head > this.#mask) this.#grow();
    this.#deadlines[this.#tail & this.#mask] = deadlineAt;
    this.#tail += 1;
    if (deadlineAt < this.#firesAt) this.#arm(deadlineAt);
  }

  /** The oldest command was answered. */
  answered(): void {
    this.#head += 1;
    if (this.#head !== this.#tail) return;
    this.#head = 0;
    this.#tail = 0;
    this.onEmpty?.();
  }

  /** Looks again after `ms`, whatever has expired meanwhile. */
  postpone(ms: number): void {
    this.#arm(uptime() + ms);
  }

  /** Stops watching. */
  close(): void {
    this.#timer?.cancel();
    this.#timer = undefined;
    // Whatever is still handed over arms no timer again.
    this.#firesAt = Number.NEGATIVE_INFINITY;
    this.onEmpty = undefined;
  }

  #arm(at: number): void {
    this.#timer?.cancel();
    this.#firesAt = at;
    this.#timer = this.#clock.setTimer(() => this.#look(at), Math.max(1, Math.ceil(at - uptime())));
  }

  #look(dueAt: number): void {
    this.#timer = undefined;
    this.#firesAt = Number.POSITIVE_INFINITY;
    const now = uptime();
    const next = this.#earliest();
    if (next === Number.POSITIVE_INFINITY) return;
    if (next > now) {
      this.#graced = false;
      this.#arm(next);
    } else if (!this.#graced && now - dueAt > LATE_MS) {
      this.#graced = true;
      this.#arm(now + GRACE_MS);
    } else {
      this.#expired();
    }
  }

  #earliest(): number {
    let earliest = Number.POSITIVE_INFINITY;
    for (let at = this.#head; at < this.#tail; at += 1) {
      // Within the queue there is always a number.
      earliest = Math.min(earliest, this.#deadlines[at & this.#mask] ?? earliest);
    }
    return earliest;
  }

  #grow(): void {
    const size = this.#tail - this.#head;
    const larger = new Float64Array(this.#deadlines.length * 2);
    for (let index = 0; index < size; index += 1) {
      larger[index] = this.#deadlines[(this.#head + index) & this.#mask] ?? 0;
    }
    this.#deadlines = larger;
    this.#mask = larger.length - 1;
    this.#head = 0;
    this.#tail = size;
  }
}
