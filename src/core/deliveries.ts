/** The iterable form of consuming: the caller settles each delivery itself. On the same consumer as the handler form. */

import type { Consuming } from "./consumer-stats.js";
import { type Delivery, HeldDelivery, type QueueDelivery } from "./delivery.js";
import { GIVE_BACK, type Verdict } from "./outcome.js";
import type { RetryPolicy } from "./retry.js";
import type { Run } from "./run.js";

/**
 * Deliveries as an iterable that can be used once. Leaving the loop closes the consumer and gives back what is unsettled.
 *
 * @typeParam D what it yields
 */
export interface DeliveryStream<T, D extends Delivery<T> = Delivery<T>>
  extends AsyncIterableIterator<D>,
    AsyncDisposable {
  next(): Promise<IteratorResult<D, undefined>>;
  return(): Promise<IteratorResult<D, undefined>>;
  /** Ends the iteration; what the caller has in hand may still be settled for `drainMs` (default 0). */
  close(options?: { readonly drainMs?: number }): Promise<void>;
}

export interface DeliveriesOptions {
  /** Makes the consumer, or several, with the first `next()`. */
  readonly start: () => Promise<Pick<Consuming, "close">>;
  /** Called when the consumer has ended or could not start; maybe twice. */
  readonly ended: () => void;
  /** Hears of a close that failed and that no caller had asked for. */
  readonly report: (error: unknown) => void;
  readonly signal: AbortSignal | undefined;
}

/** Between a consumer and the loop over it. */
export class Deliveries<T> implements DeliveryStream<T, QueueDelivery<T>> {
  readonly #options: DeliveriesOptions;
  readonly #ready: { readonly delivery: QueueDelivery<T>; readonly giveBack: () => void }[] = [];
  #consumer: Promise<Pick<Consuming, "close">> | undefined;
  #wakes: (() => void)[] = [];
  #closing: Promise<void> | undefined;
  #failure: Error | undefined;
  #detach: (() => void) | undefined;

  constructor(options: DeliveriesOptions) {
    this.#options = options;
    const { signal } = options;
    if (signal === undefined) return;
    const end = (): void => this.#closeUnasked();
    signal.addEventListener("abort", end, { once: true });
    this.#detach = () => signal.removeEventListener("abort", end);
    if (signal.aborted) end();
  }

  /** Offers a delivery to the loop; resolves with what the caller settles it with. */
  offer(channel: string, data: T, run: Run, policy: RetryPolicy): Promise<Verdict> {
    return new Promise((resolve) => {
      const giveBack = (): void => resolve(GIVE_BACK);
      if (this.#closing !== undefined) return giveBack();
      this.#ready.push({ delivery: new HeldDelivery(channel, data, run, policy, resolve), giveBack });
      this.#wakeAll();
    });
  }

  /** Ends the iteration because there will be no more: whoever asks for the next delivery hears why. */
  fail(error: Error): void {
    if (this.#closing !== undefined) return;
    this.#failure = error;
    this.#closeUnasked();
  }

  async next(): Promise<IteratorResult<QueueDelivery<T>, undefined>> {
    if (this.#closing === undefined) {
      this.#consumer ??= this.#options.start();
      try {
        await this.#consumer;
      } catch (error) {
        this.#detach?.();
        this.#options.ended();
        throw error;
      }
    }
    while (this.#closing === undefined) {
      const next = this.#ready.shift();
      if (next !== undefined) return { done: false, value: next.delivery };
      await new Promise<void>((resolve) => this.#wakes.push(resolve));
    }
    const failure = this.#failure;
    this.#failure = undefined;
    if (failure !== undefined) throw failure;
    return { done: true, value: undefined };
  }

  /** Ends the iteration: what was not settled goes back, uncounted, at once. */
  async return(): Promise<IteratorResult<QueueDelivery<T>, undefined>> {
    await this.close();
    return { done: true, value: undefined };
  }

  /** The same; what the caller has in hand may still be settled for `drainMs` (default 0). */
  close({ drainMs = 0 }: { readonly drainMs?: number } = {}): Promise<void> {
    this.#closing ??= this.#closeOnce(drainMs);
    return this.#closing;
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  #closeUnasked(): void {
    this.close().catch(this.#options.report);
  }

  async #closeOnce(drainMs: number): Promise<void> {
    // In the next turn of the queue, when `#closing` is set: from then on nothing is offered any more.
    await Promise.resolve();
    this.#detach?.();
    for (const { giveBack } of this.#ready.splice(0)) giveBack();
    this.#wakeAll();
    // A consumer that could not start has told whoever called next().
    const consumer = await this.#consumer?.catch(() => undefined);
    try {
      await consumer?.close({ drainMs });
    } finally {
      this.#options.ended();
    }
  }

  #wakeAll(): void {
    const wakes = this.#wakes;
    this.#wakes = [];
    for (const wake of wakes) wake();
  }
}
