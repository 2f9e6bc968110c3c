/** Opening and closing, once: what owns what, in which order it ends, and what an abort does. */

import type { Clock } from "./clock.js";
import type { Consuming } from "./consumer-stats.js";
import { ClosedError } from "./errors.js";

/** Anything that has to be ended. Ending it twice is safe. */
type Closable = Pick<Consuming, "close">;

/**
 * What a broker has opened. Closes in the order in which messages flow backwards: consumers drain first, and their
 * handlers may still ask and publish; then nobody waits for answers any more; then what is being published is waited for;
 * then the store is closed.
 */
export class Owner {
  readonly #clock: Clock;
  readonly #consumers = new Set<Consuming>();
  readonly #inboxes = new Set<Consuming>();
  readonly #publishers = new Set<Closable>();
  #closing: Promise<void> | undefined;
  #publishing = true;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Nothing new may start. */
  get isClosing(): boolean {
    return this.#closing !== undefined;
  }

  /** @throws {ClosedError} once closing has begun */
  assertOpen(): void {
    if (this.isClosing) throw new ClosedError("the broker is closed");
  }

  /** Whether something may still be published, while consumers drain. */
  get isPublishing(): boolean {
    return this.#publishing;
  }

  /** @throws {ClosedError} once the consumers have drained */
  assertPublishing(): void {
    if (!this.#publishing) throw new ClosedError("the broker is closed");
  }

  /** Takes a consumer before it starts, so that no close can miss it. @throws {ClosedError} */
  ownConsumer(consumer: Consuming): void {
    this.assertOpen();
    this.#consumers.add(consumer);
  }

  /** The same for a consumer of answers, which the handlers of the others may wait for. @throws {ClosedError} */
  ownInbox(inbox: Consuming): void {
    this.assertOpen();
    this.#inboxes.add(inbox);
  }

  /** For a consumer that has ended by itself. */
  disown(consumer: Consuming): void {
    this.#consumers.delete(consumer);
    this.#inboxes.delete(consumer);
  }

  ownPublisher(publisher: Closable): void {
    this.#publishers.add(publisher);
  }

  consumers(): readonly Consuming[] {
    return [...this.#consumers, ...this.#inboxes];
  }

  /**
   * Ends everything owned within `drainMs`, then runs `last`. Later calls wait for the first.
   *
   * @throws the first failure, or an `AggregateError` of several, once everything has ended
   */
  close(drainMs: number, last: () => Promise<void>): Promise<void> {
    this.#closing ??= this.#closeOnce(drainMs, last);
    return this.#closing;
  }

  async #closeOnce(drainMs: number, last: () => Promise<void>): Promise<void> {
    const deadline = this.#clock.now() + drainMs;
    const endAll = async (closables: Iterable<Closable>): Promise<PromiseSettledResult<void>[]> => {
      const left = { drainMs: Math.max(0, deadline - this.#clock.now()) };
      return await Promise.allSettled([...closables].map((closable) => closable.close(left)));
    };
    const results = await endAll(this.#consumers);
    results.push(...(await endAll(this.#inboxes)));
    this.#publishing = false;
    results.push(...(await endAll(this.#publishers)));
    results.push(...(await Promise.allSettled([last()])));
    const failures = results.flatMap((result): unknown[] => (result.status === "rejected" ? [result.reason] : []));
    if (failures.length === 1) throw failures[0];
    if (failures.length > 1) throw new AggregateError(failures, "the broker did not close cleanly");
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

/** The same for a call that is not made at all when the signal has aborted before. */
export async function abortableCall<T>(call: () => Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  signal?.throwIfAborted();
  return await abortable(call(), signal);
}
