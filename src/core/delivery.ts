/** A delivery in its caller's hand, who settles it: in the iterable form of consuming, and in a batch. */

import { LeaseLostError, toError } from "./errors.js";
import { toMessage } from "./handler.js";
import type { Message } from "./message.js";
import {
  ACK,
  deadLetter,
  defer,
  type HandlerOutcome,
  retry,
  type Verdict,
  verdictOnReturn,
  verdictOnThrow,
} from "./outcome.js";
import type { RetryPolicy } from "./retry.js";
import type { Run } from "./run.js";

/**
 * One handing-over of a message. Its lease is renewed until it is settled, or nobody waits for that any more. What its
 * methods return need not be awaited: a failure that nobody looks at is in the metrics, and no unhandled rejection.
 */
export interface Delivery<T = unknown> {
  readonly data: T;
  readonly message: Message<T>;
  /** From 1. */
  readonly attempt: number;
  /** Aborts when the lease is lost, or when nobody waits for the outcome any more. */
  readonly signal: AbortSignal;
  /** Done. Like the others: resolves once that is stored; @throws {LeaseLostError} when another consumer has it by now. */
  ack(): Promise<void>;
  /**
   * Try again, counted: after `delayMs`, or the policy's backoff. After the last attempt it becomes a dead letter. A delay
   * that is none rejects, and is a failed attempt.
   */
  retry(options?: { readonly delayMs?: number }): Promise<void>;
  /** Try again, not counted. */
  defer(options?: { readonly delayMs?: number }): Promise<void>;
  deadLetter(reason: string): Promise<void>;
  /** Acknowledge without having handled it. */
  skip(): Promise<void>;
  /** Renews the lease now. @throws {LeaseLostError} */
  extend(): Promise<void>;
}

/** The same, of a message that may be a request. */
export interface QueueDelivery<T = unknown> extends Delivery<T> {
  /**
   * Done, and this is the answer: both in one step. Where nobody has asked, or the value cannot be sent as it is, it
   * rejects and is a failed attempt.
   */
  reply(value: unknown): Promise<void>;
}

/** A delivery that was handed out. A class for its lazy members: most handlers of batches look at the data alone. */
export class HeldDelivery<T> implements QueueDelivery<T> {
  readonly data: T;
  readonly #channel: string;
  readonly #run: Run;
  readonly #policy: RetryPolicy;
  /** Undefined once it is decided what the delivery came to. */
  #decided: ((verdict: Verdict) => void) | undefined;
  #message: Message<T> | undefined;

  /** @param decided told once what it came to */
  constructor(channel: string, data: T, run: Run, policy: RetryPolicy, decided: (verdict: Verdict) => void) {
    this.data = data;
    this.#channel = channel;
    this.#run = run;
    this.#policy = policy;
    this.#decided = decided;
  }

  // ------------------------------------------------------------------------ for whoever hands it out, not for callers

  static runOf(held: HeldDelivery<unknown>): Run {
    return held.#run;
  }
  static isDecided(held: HeldDelivery<unknown>): boolean {
    return held.#decided === undefined;
  }
  /** Decides for the caller; changes nothing where the caller has decided. */
  static decide(held: HeldDelivery<unknown>, verdict: Verdict): void {
    const decided = held.#decided;
    held.#decided = undefined;
    decided?.(verdict);
  }

  // ------------------------------------------------------------------------------------------------------ for callers

  get message(): Message<T> {
    this.#message ??= toMessage(this.#channel, this.#run.delivery, this.data);
    return this.#message;
  }
  get attempt(): number {
    return this.#run.delivery.attempt;
  }
  get signal(): AbortSignal {
    return this.#run.signal;
  }
  ack(): Promise<void> {
    return quietly(this.#settle(ACK));
  }
  reply(value: unknown): Promise<void> {
    return quietly(this.#settleAs(() => this.#run.reply(value)));
  }
  retry(options?: { readonly delayMs?: number }): Promise<void> {
    return quietly(this.#settleAs(() => retry(options)));
  }
  defer(options?: { readonly delayMs?: number }): Promise<void> {
    return quietly(this.#settleAs(() => defer(options)));
  }
  deadLetter(reason: string): Promise<void> {
    return quietly(this.#settleAs(() => deadLetter(reason)));
  }
  skip(): Promise<void> {
    return quietly(this.#settle(ACK));
  }
  extend(): Promise<void> {
    return quietly(this.#decided === undefined ? Promise.reject(settledAlready()) : this.#run.extend());
  }

  /** Async, so that a delay that is none rejects like everything else. Without an outcome it is done. */
  async #settleAs(outcome: () => HandlerOutcome | void): Promise<void> {
    if (this.#decided === undefined) throw settledAlready();
    let verdict: Verdict;
    try {
      verdict = verdictOnReturn(outcome(), this.attempt, this.#policy);
    } catch (thrown) {
      // Nobody may look. Undecided, it would be acknowledged with its batch, or stay in hand for ever.
      const error = toError(thrown);
      this.#run.thrown = error;
      HeldDelivery.decide(this, verdictOnThrow(error, this.attempt, this.#policy));
      throw error;
    }
    await this.#settle(verdict);
  }

  async #settle(verdict: Verdict): Promise<void> {
    const decided = this.#decided;
    if (decided === undefined) throw settledAlready();
    this.#decided = undefined;
    await new Promise<void>((stored, failed) => {
      this.#run.onSettled = (failure) => (failure === undefined ? stored() : failed(failure));
      decided(verdict);
    });
  }
}

function settledAlready(): LeaseLostError {
  return new LeaseLostError("the delivery was settled already: each is settled once");
}

const ignore = (): void => undefined;

/** The same promise: whoever awaits it hears of its failure, and nobody has to. */
function quietly(promise: Promise<void>): Promise<void> {
  promise.catch(ignore);
  return promise;
}
