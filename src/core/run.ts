/** One handler's run: its signal, and what becomes of its outcome. */

import type { Bytes, Delivery } from "./backend.js";
import type { Bagged } from "./bag.js";
import { InvalidArgumentError } from "./errors.js";

/** What is handed to a handler: a delivery, or what has no receipt because nobody asks what became of it. */
export interface Handed extends Pick<Delivery, "position" | "attempt" | "header"> {
  readonly data: Bytes;
}

/** Whoever hands deliveries out: the consumer. */
export interface Handing {
  /** Aborts when nothing more is taken. */
  readonly stopping: AbortSignal;
  /** @throws {LeaseLostError} */
  extend(run: Run<Handed>): Promise<void>;
}

/** Told when the outcome of a run stops mattering. */
export interface Watcher {
  failed(reason: Error): void;
}

/** Whoever waits for the answer to a request. */
export interface Asking {
  /** Notes the answer; it leaves with the outcome. @throws {InvalidArgumentError} when there is one already */
  reply(value: unknown): void;
}

/** @typeParam D what its consumer hands out */
export class Run<D extends Handed = Delivery> implements Bagged {
  place = 0;
  readonly delivery: D;
  /** By the consumer's clock. */
  readonly startedAt: number;
  /** What the handler or the decoding threw, for the log. */
  thrown: Error | undefined;
  /** Told once the outcome is settled; with the reason when it was not. */
  onSettled: ((failure?: Error) => void) | undefined;
  /** An object rather than a function, which would be one more for every delivery. */
  watcher: Watcher | undefined;
  /** Whoever waits for an answer, where the message is a request. */
  asker: Asking | undefined;
  readonly #consumer: Handing;
  #failure: Error | undefined;
  #aborted: Error | undefined;
  #controller: AbortController | undefined;

  constructor(delivery: D, startedAt: number, consumer: Handing) {
    this.delivery = delivery;
    this.startedAt = startedAt;
    this.#consumer = consumer;
  }

  /** Why its outcome changes nothing any more, where that is so. */
  get failure(): Error | undefined {
    return this.#failure;
  }

  /** Aborts when the lease is lost or the consumer stops waiting. Made on first use: most handlers never look. */
  get signal(): AbortSignal {
    if (this.#controller === undefined) {
      this.#controller = new AbortController();
      if (this.#aborted !== undefined) this.#controller.abort(this.#aborted);
    }
    return this.#controller.signal;
  }

  /** Aborts when nothing comes behind this one any more. */
  get stopping(): AbortSignal {
    return this.#consumer.stopping;
  }

  /** Renews the delivery's lease now. @throws {LeaseLostError} */
  async extend(): Promise<void> {
    await this.#consumer.extend(this);
  }

  /** Answers the request that this is. @throws {InvalidArgumentError} where nobody has asked */
  reply(value: unknown): void {
    if (this.asker === undefined)
      throw new InvalidArgumentError("nobody waits for an answer: the message was published, not sent with request");
    this.asker.reply(value);
  }

  /** Nobody waits for the handler any more; the outcome is somebody else's to give. Only the first reason counts. */
  abort(reason: Error): void {
    if (this.#aborted !== undefined) return;
    this.#aborted = reason;
    this.#controller?.abort(reason);
  }

  /** From now on its outcome changes nothing. Only the first reason counts. */
  fail(reason: Error): void {
    if (this.#failure !== undefined) return;
    this.#failure = reason;
    this.abort(reason);
    this.watcher?.failed(reason);
  }
}
