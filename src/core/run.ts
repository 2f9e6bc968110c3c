/** One handler's run: its signal, and what becomes of its outcome. */

import type { Delivery } from "./backend.js";

export class Run {
  readonly delivery: Delivery;
  /** Told once the outcome is settled; with the reason when it was not. */
  onSettled: ((failure?: Error) => void) | undefined;
  #failure: Error | undefined;
  #controller: AbortController | undefined;

  constructor(delivery: Delivery) {
    this.delivery = delivery;
  }

  /** Why its outcome changes nothing any more, where that is so. */
  get failure(): Error | undefined {
    return this.#failure;
  }

  /** Aborts when the lease is lost or the consumer stops waiting. Made on first use: most handlers never look. */
  get signal(): AbortSignal {
    if (this.#controller === undefined) {
      this.#controller = new AbortController();
      if (this.#failure !== undefined) this.#controller.abort(this.#failure);
    }
    return this.#controller.signal;
  }

  /** Only the first reason counts. */
  fail(reason: Error): void {
    if (this.#failure !== undefined) return;
    this.#failure = reason;
    this.#controller?.abort(reason);
  }
}
