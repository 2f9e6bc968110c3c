/** Opening and closing, once: what owns what, in which order it ends, and what an abort does. */

import { ClosedError } from "./errors.js";

/** Anything that has to be ended. Ending it twice is safe. */
export interface Closable {
  close(options?: { readonly drainMs?: number }): Promise<void>;
}

/** What a broker or a facade has opened. Closes the newest first, everything even if something fails, and only once. */
export class Owner {
  readonly #name: string;
  readonly #owned = new Set<Closable>();
  #closing: Promise<void> | undefined;

  constructor(name: string) {
    this.#name = name;
  }

  /** @throws {ClosedError} */
  assertOpen(): void {
    if (this.#closing !== undefined) throw new ClosedError(`the ${this.#name} is closed`);
  }

  get isOpen(): boolean {
    return this.#closing === undefined;
  }

  own<T extends Closable>(closable: T): T {
    this.#owned.add(closable);
    return closable;
  }

  /** For what ended by itself. */
  disown(closable: Closable): void {
    this.#owned.delete(closable);
  }

  owned(): readonly Closable[] {
    return [...this.#owned];
  }

  /**
   * Ends everything owned, at the same time, then runs `last`. Later calls wait for the first.
   *
   * @throws the first failure, or an `AggregateError` of several, once everything has ended
   */
  close(drainMs: number, last: () => Promise<void>): Promise<void> {
    this.#closing ??= this.#closeOnce(drainMs, last);
    return this.#closing;
  }

  async #closeOnce(drainMs: number, last: () => Promise<void>): Promise<void> {
    const results = await Promise.allSettled([...this.#owned].toReversed().map((owned) => owned.close({ drainMs })));
    this.#owned.clear();
    results.push(...(await Promise.allSettled([last()])));
    const failures = results.flatMap((result): unknown[] => (result.status === "rejected" ? [result.reason] : []));
    if (failures.length === 1) throw failures[0];
    if (failures.length > 1) throw new AggregateError(failures, `the ${this.#name} did not close cleanly`);
  }
}

/** Rejects with the signal's reason as soon as it aborts. What was under way goes on, unobserved. */
export function abortable<T>(promise: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (signal === undefined) return promise;
  return new Promise((resolve, reject) => {
    // The reason is the caller's own, whatever it is: AbortSignal promises no more.
    const abort = (): void => reject(signal.reason as Error);
    if (signal.aborted) abort();
    else signal.addEventListener("abort", abort, { once: true });
    promise.then(resolve, reject).finally(() => signal.removeEventListener("abort", abort));
  });
}
