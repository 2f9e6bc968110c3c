/** The iterable form of consuming: the caller settles each delivery itself. On the same consumer as the handler form. */

import type { Consumer } from "./consumer.js";
import { LeaseLostError } from "./errors.js";
import type { Message } from "./message.js";
import {
  ACK,
  deadLetter,
  defer,
  GIVE_BACK,
  type HandlerOutcome,
  retry,
  type Verdict,
  verdictOnReturn,
} from "./outcome.js";
import type { RetryPolicy } from "./retry.js";
import type { Run } from "./run.js";

/** One handing-over of a message. Its lease is renewed until it is settled or the iteration ends. */
export interface Delivery<T = unknown> {
  readonly data: T;
  readonly message: Message<T>;
  /** From 1. */
  readonly attempt: number;
  /** Aborts when the lease is lost or the iteration ends. */
  readonly signal: AbortSignal;
  /** Done. Like the others: resolves once that is stored; @throws {LeaseLostError} when another consumer has it by now. */
  ack(): Promise<void>;
  /** Try again, counted: after `delayMs`, or the policy's backoff. After the last attempt it becomes a dead letter. */
  retry(options?: { readonly delayMs?: number }): Promise<void>;
  /** Try again, not counted. */
  defer(options?: { readonly delayMs?: number }): Promise<void>;
  deadLetter(reason: string): Promise<void>;
  /** Acknowledge without having handled it. */
  skip(): Promise<void>;
  /** Renews the lease now. @throws {LeaseLostError} */
  extend(): Promise<void>;
}

export interface DeliveryStreamOptions {
  /** Makes the consumer, with the first `next()`. */
  readonly start: () => Promise<Consumer>;
  /** Called when the consumer has ended or could not start; maybe twice. */
  readonly ended: () => void;
  /** Hears of a close that failed and that only the signal had asked for. */
  readonly report: (error: unknown) => void;
  readonly signal: AbortSignal | undefined;
}

/** Deliveries as an iterable that can be used once. Leaving the loop closes the consumer and gives back what is unsettled. */
export class DeliveryStream<T> implements AsyncIterableIterator<Delivery<T>>, AsyncDisposable {
  readonly #options: DeliveryStreamOptions;
  readonly #ready: { readonly delivery: Delivery<T>; readonly giveBack: () => void }[] = [];
  #consumer: Promise<Consumer> | undefined;
  #wakes: (() => void)[] = [];
  #closing: Promise<void> | undefined;
  #detach: (() => void) | undefined;

  constructor(options: DeliveryStreamOptions) {
    this.#options = options;
    const { signal, report } = options;
    if (signal === undefined) return;
    const end = (): void => void this.close().catch(report);
    signal.addEventListener("abort", end, { once: true });
    this.#detach = () => signal.removeEventListener("abort", end);
    if (signal.aborted) end();
  }

  /** Offers a delivery to the loop; resolves with what the caller settles it with. */
  offer(message: Message<T>, run: Run, policy: RetryPolicy): Promise<Verdict> {
    return new Promise((resolve) => {
      const giveBack = (): void => resolve(GIVE_BACK);
      if (this.#closing !== undefined) return giveBack();
      this.#ready.push({ delivery: this.#createDelivery(message, run, policy, resolve), giveBack });
      this.#wakeAll();
    });
  }

  async next(): Promise<IteratorResult<Delivery<T>, undefined>> {
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
    return { done: true, value: undefined };
  }

  /** Ends the iteration: what was not settled goes back, uncounted, at once. */
  async return(): Promise<IteratorResult<Delivery<T>, undefined>> {
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

  async #closeOnce(drainMs: number): Promise<void> {
    // In the next turn of the queue, when `#closing` is set: from then on nothing is offered any more.
    await Promise.resolve();
    this.#detach?.();
    for (const { giveBack } of this.#ready.splice(0)) giveBack();
    this.#wakeAll();
    // A consumer that could not start has told whoever called next().
    const consumer = await this.#consumer?.catch(() => undefined);
    try {
      await consumer?.close(drainMs);
    } finally {
      this.#options.ended();
    }
  }

  #createDelivery(
    message: Message<T>,
    run: Run,
    policy: RetryPolicy,
    resolve: (verdict: Verdict) => void,
  ): Delivery<T> {
    const { attempt } = run.delivery;
    let decided = false;
    const settle = async (verdict: Verdict): Promise<void> => {
      if (decided) throw new LeaseLostError("the delivery was settled already: each is settled once");
      decided = true;
      await new Promise<void>((stored, failed) => {
        run.onSettled = (failure) => (failure === undefined ? stored() : failed(failure));
        resolve(verdict);
      });
    };
    const decide = (outcome: HandlerOutcome): Promise<void> => settle(verdictOnReturn(outcome, attempt, policy));
    const consumer = this.#consumer;
    return {
      data: message.data,
      message,
      attempt,
      get signal() {
        return run.signal;
      },
      // Async, so that a delay that is none rejects like everything else.
      ack: async () => await settle(ACK),
      retry: async (options) => await decide(retry(options)),
      defer: async (options) => await decide(defer(options)),
      deadLetter: async (reason) => await decide(deadLetter(reason)),
      skip: async () => await settle(ACK),
      extend: async () => await (await consumer)?.extend(run),
    };
  }

  #wakeAll(): void {
    const wakes = this.#wakes;
    this.#wakes = [];
    for (const wake of wakes) wake();
  }
}
