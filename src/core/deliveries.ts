/** The iterable form of consuming: the caller settles each delivery itself. On the same consumer as the handler form. */

import type { Delivery as PortDelivery } from "./backend.js";
import type { Consumer, Run } from "./consumer.js";
import { LeaseLostError } from "./errors.js";
import type { Message } from "./message.js";
import {
  ACK,
  type HandlerOutcome,
  deadLetter,
  defer,
  retry,
  type Verdict,
  verdictOnReturn,
  verdictOnThrow,
} from "./outcome.js";
import type { RetryPolicy } from "./retry.js";

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

/** Deliveries as an iterable that can be used once. Leaving the loop closes the consumer and gives back what is unsettled. */
export class DeliveryStream<T> implements AsyncIterableIterator<Delivery<T>> {
  readonly #start: (stream: DeliveryStream<T>) => Promise<Consumer>;
  readonly #ready: Delivery<T>[] = [];
  readonly #policy: RetryPolicy;
  #consumer: Promise<Consumer> | undefined;
  #wakes: (() => void)[] = [];
  #over = false;
  /** Called once, when the stream has ended. */
  onClosed: (() => void) | undefined;
  #detach: (() => void) | undefined;

  constructor(policy: RetryPolicy, start: (stream: DeliveryStream<T>) => Promise<Consumer>, signal?: AbortSignal) {
    this.#policy = policy;
    this.#start = start;
    if (signal !== undefined) {
      const end = (): void => void this.return();
      signal.addEventListener("abort", end, { once: true });
      this.#detach = () => signal.removeEventListener("abort", end);
      if (signal.aborted) end();
    }
  }

  /** Offers a delivery to the loop; resolves with what the caller settles it with. */
  offer(message: Message<T>, { attempt }: PortDelivery, run: Run, consumer: Consumer): Promise<Verdict> {
    return new Promise((resolve) => {
      let decided = false;
      const settle = async (verdict: Verdict): Promise<void> => {
        if (decided) throw new LeaseLostError("the delivery was settled already: each is settled once");
        decided = true;
        await new Promise<void>((stored, failed) => {
          run.onSettled = (failure) => (failure === undefined ? stored() : failed(failure));
          resolve(verdict);
        });
      };
      const decide = async (outcome: HandlerOutcome): Promise<void> =>
        await settle(verdictOnReturn(outcome, attempt, this.#policy));
      this.#ready.push({
        data: message.data,
        message,
        attempt,
        get signal() {
          return run.signal;
        },
        ack: () => settle(ACK),
        // Async, so that a delay that is none rejects like everything else.
        retry: async (options) => await decide(retry(options)),
        defer: async (options) => await decide(defer(options)),
        deadLetter: async (reason) => await decide(deadLetter(reason)),
        skip: () => settle(ACK),
        extend: () => consumer.extend(run),
      });
      this.#wakeAll();
    });
  }

  /** What cannot be decoded never reaches the loop: it is settled as the handler form does. */
  refuse(error: unknown, { attempt }: PortDelivery): Verdict {
    return verdictOnThrow(error, attempt, this.#policy);
  }

  async next(): Promise<IteratorResult<Delivery<T>, undefined>> {
    if (!this.#over) {
      this.#consumer ??= this.#start(this);
      await this.#consumer;
    }
    while (!this.#over) {
      const value = this.#ready.shift();
      if (value !== undefined) return { done: false, value };
      await new Promise<void>((resolve) => this.#wakes.push(resolve));
    }
    return { done: true, value: undefined };
  }

  /** Ends the iteration: what was not settled goes back, uncounted, at once. */
  async return(): Promise<IteratorResult<Delivery<T>, undefined>> {
    await this.close();
    return { done: true, value: undefined };
  }

  async close(): Promise<void> {
    if (this.#over) return;
    this.#over = true;
    this.#detach?.();
    this.#wakeAll();
    // A consumer that could not start has told whoever called next().
    const consumer = await this.#consumer?.catch(() => undefined);
    await consumer?.close(0);
    this.onClosed?.();
  }

  #wakeAll(): void {
    const wakes = this.#wakes;
    this.#wakes = [];
    for (const wake of wakes) wake();
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}
