/** How long handlers may take: one timer for all that get as long. */

import { Bag, type Bagged } from "./bag.js";
import type { Clock, Timer } from "./clock.js";
import { TimeoutError } from "./errors.js";

/** Something that may not take too long. */
export interface Limited extends Bagged {
  /** By the clock. */
  readonly startedAt: number;
  /** The limit's own to set: what its timers had counted up to when this began. */
  countedFrom: number;
  /** Its time is up. Called once at most. */
  late(error: TimeoutError): void;
}

/** A timer that waits for nothing keeps all that its handlers hold: it is gone after as long, and never set more often. */
const LOOK_MS = 1_000;

/**
 * A timer for each handler would cost more than the rest of its delivery. Time is up by the clock, or by what the timers
 * have counted: the clock may be set back meanwhile.
 */
export class TimeLimit {
  readonly #clock: Clock;
  readonly #ms: number;
  readonly #running = new Bag<Limited>();
  /** Stays set for a moment when nothing runs any more: setting one for each handler is what shall not be. */
  #timer: Timer | undefined;
  #delayMs = 0;
  /** By the timers that have fired. */
  #countedMs = 0;

  constructor(clock: Clock, ms: number) {
    this.#clock = clock;
    this.#ms = ms;
  }

  begin(limited: Limited): void {
    this.#running.add(limited);
    // Of a timer that is set already some has passed, nobody knows how much.
    limited.countedFrom = this.#timer === undefined ? this.#countedMs : this.#countedMs + this.#delayMs;
    if (this.#timer === undefined) this.#setTimer(this.#ms);
    else if (this.#running.size === 1) this.#timer.ref?.();
  }

  /** It has come to an end, or nobody waits for that any more. */
  end(limited: Limited): void {
    if (this.#running.remove(limited) && this.#running.size === 0) this.#timer?.unref?.();
  }

  /**
   * Limits work that never rejects: the result is what it comes to, or what `late` makes of the timeout. A result that
   * comes later changes nothing.
   */
  within<T>(
    startedAt: number,
    work: Promise<T>,
    late: (error: TimeoutError) => T,
  ): { readonly result: Promise<T>; readonly cancel: () => void } {
    let cancel = (): void => undefined;
    const result = new Promise<T>((resolve) => {
      const limited: Limited = { place: 0, startedAt, countedFrom: 0, late: (error) => resolve(late(error)) };
      cancel = () => this.end(limited);
      this.begin(limited);
      void work.then((value) => {
        cancel();
        resolve(value);
      });
    });
    return { result, cancel };
  }

  #setTimer(leftMs: number): void {
    this.#delayMs = Math.max(1, Math.min(leftMs, LOOK_MS));
    this.#timer = this.#clock.setTimer(() => this.#look(), this.#delayMs);
  }

  #look(): void {
    this.#timer = undefined;
    this.#countedMs += this.#delayMs;
    const now = this.#clock.now();
    const due: Limited[] = [];
    let leastMs = this.#ms;
    for (const limited of this.#running.all()) {
      const leftMs = this.#ms - Math.max(now - limited.startedAt, this.#countedMs - limited.countedFrom);
      if (leftMs > 0) leastMs = Math.min(leastMs, leftMs);
      else due.push(limited);
    }
    for (const limited of due) this.#running.remove(limited);
    // Before anything is told: what is begun then shall find it.
    if (this.#running.size > 0) this.#setTimer(leastMs);
    for (const limited of due)
      limited.late(new TimeoutError(`the handler did not finish within its handlerTimeoutMs of ${this.#ms}`));
  }
}
