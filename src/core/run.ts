/** One handler's run: its signal, and what becomes of its outcome. */

import type { Delivery } from "./backend.js";

export class Run {
  readonly delivery: Delivery;
  /** By the consumer's clock. */
  readonly startedAt: number;
  /** What the handler or the decoding threw, for the log. */
  thrown: unknown;
  /** Told once the outcome is settled; with the reason when it was not. */
  onSettled: ((failure?: Error) => void) | undefined;
  #failure: Error | undefined;
  #controller: AbortController | undefined;

  constructor(delivery: Delivery, startedAt: number) {
    this.delivery = delivery;
    this.startedAt = startedAt;
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
