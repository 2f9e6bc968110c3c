/** Publishing for a facade: one batcher for each stream or queue, with validation, counting and receipts' durability. */

import { Batcher } from "./batcher.js";
import { PublishIndeterminateError } from "./errors.js";
import { abortable } from "./lifecycle.js";
import type { Outgoing } from "./outgoing.js";
import type { Runtime } from "./runtime.js";
import { type Counter, METRICS } from "./telemetry.js";

/** A batch is at most this large, so that no script holds Redis for more than about a millisecond. */
const MAX_BATCH_ITEMS = 256;
const MAX_BATCH_BYTES = 64 * 1_024;
/** Batches under way to one stream or queue: enough that client and server work at the same time. */
const MAX_IN_FLIGHT = 4;
/** Messages that may wait for one stream or queue before publishing is refused. */
const MAX_PENDING = 100_000;

interface Lane<I, R> {
  readonly batcher: Batcher<I, R>;
  readonly sent: Counter;
}

export class Publisher<I extends Outgoing, R> {
  readonly #runtime: Runtime;
  readonly #store: (channel: string, batch: readonly I[]) => Promise<readonly R[]>;
  readonly #lanes = new Map<string, Lane<I, R>>();

  /** @param store writes one batch: `log.append` or `queue.push` */
  constructor(runtime: Runtime, store: (channel: string, batch: readonly I[]) => Promise<readonly R[]>) {
    this.#runtime = runtime;
    this.#store = store;
  }

  /** Sends one message with what else is published in this tick. An abort stops the waiting, not the message. */
  async publish(channel: string, message: I, signal?: AbortSignal): Promise<R> {
    this.#runtime.owner.assertOpen();
    const lane = this.#lanes.get(channel) ?? this.#createLane(channel);
    try {
      return await abortable(lane.batcher.add(message), signal);
    } catch (error) {
      // A batch shares its fate, but each caller has a message of its own.
      if (!(error instanceof PublishIndeterminateError)) throw error;
      throw new PublishIndeterminateError(error.message, { cause: error.cause, messageId: message.id });
    }
  }

  /** Resolves when everything published so far is stored or refused. */
  async idle(): Promise<void> {
    await Promise.all([...this.#lanes.values()].map(({ batcher }) => batcher.idle()));
  }

  #createLane(channel: string): Lane<I, R> {
    const { telemetry } = this.#runtime;
    const sent = telemetry.counter(METRICS.sent, { channel });
    const batcher = new Batcher<I, R>({
      flush: async (batch) => {
        try {
          const results = await this.#store(channel, batch);
          sent.add(batch.length);
          telemetry.log("message_published", { channel, count: batch.length, id: batch[0]?.id });
          return results;
        } catch (error) {
          telemetry.log("message_publish_failed", { channel, count: batch.length, err: error });
          throw error;
        }
      },
      sizeOf: ({ size }) => size,
      maxItems: MAX_BATCH_ITEMS,
      maxBytes: MAX_BATCH_BYTES,
      maxInFlight: MAX_IN_FLIGHT,
      maxPending: MAX_PENDING,
    });
    const lane = { batcher, sent };
    this.#lanes.set(channel, lane);
    return lane;
  }
}
