/** How long handlers may take: one timer for all that get as long. */

import { Bag, type Bagged } from "./bag.js";
import type { Clock, Timer } from "./clock.js";
import { TimeoutError } from "./errors.js";

/** Something that may not take too long. */
export interface Limited extends Bagged {
  /** By the clock. */
  readonly startedAt: number;
  /** Its time is up. Called once at most. */
  late(error: TimeoutError): void;
}

/** A timer for each handler would cost more than the rest of its delivery. */
export class TimeLimit {
  readonly #clock: Clock;
  readonly #ms: number;
  readonly #running = new Bag<Limited>();
  /** Stays set when nothing runs any more: setting one for each handler is what shall not be. */
  #timer: Timer | undefined;

  constructor(clock: Clock, ms: number) {
    this.#clock = clock;
    this.#ms = ms;
  }

  begin(limited: Limited): void {
    this.#running.add(limited);
    if (this.#timer === undefined) this.#timer = this.#clock.setTimer(() => this.#expire(), this.#ms);
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
      const limited: Limited = { place: 0, startedAt, late: (error) => resolve(late(error)) };
      cancel = () => this.end(limited);
      this.begin(limited);
      void work.then((value) => {
        cancel();
        resolve(value);
      });
    });
    return { result, cancel };
  }

  #expire(): void {
    const now = this.#clock.now();
    const running = this.#running.all();
    const due = running.filter(({ startedAt }) => startedAt + this.#ms <= now);
    for (const limited of due) this.#running.remove(limited);
    // Before anything is told: what is begun then shall find it.
    const nextAt = Math.min(
      ...running.filter((each) => !due.includes(each)).map(({ startedAt }) => startedAt + this.#ms),
    );
    this.#timer = due.length < running.length ? this.#clock.setTimer(() => this.#expire(), nextAt - now) : undefined;
    for (const limited of due)
      limited.late(new TimeoutError(`the handler did not finish within its handlerTimeoutMs of ${this.#ms}`));
  }
}
