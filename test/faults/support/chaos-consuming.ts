/** Consuming in a chaos run, whatever it is: opened however often that fails, and what the store confirms is written down. */

import { pause } from "../../support/wait.js";
import type { Delivery, DeliveryStream, Logger, Subscription } from "../../../src/index.js";
import { silent } from "./chaos-child.js";
import { type HistoryLog, now } from "./history-log.js";

const AGAIN_MS = 50;
const DRAIN_MS = 5_000;

/** What the store has confirmed is news only here: the library's own events are the witness. */
export function noticing(history: HistoryLog): Logger {
  return {
    ...silent,
    debug(fields) {
      const { event, count } = fields as { event?: string; count?: number };
      if (event === "message_acknowledged") history.write({ op: "settled", t: now(), count: Number(count) });
    },
    warn(fields) {
      const { event, count } = fields as { event?: string; count?: number };
      if (event === "message_gone") history.write({ op: "gone", t: now(), count: Number(count) });
    },
  };
}

/**
 * Opens the subscription, however often that fails: the store may be away just now.
 *
 * @returns ends it
 */
export async function subscribe(
  open: () => Promise<Subscription>,
  failed: (error: unknown) => void,
): Promise<() => Promise<void>> {
  for (;;) {
    try {
      const subscription = await open();
      return () => subscription.close({ drainMs: DRAIN_MS });
    } catch (error) {
      failed(error);
      await pause(AGAIN_MS);
    }
  }
}

/** The same in the iterable form: `settle` begins with each delivery at once. */
export function iterate<D extends Delivery>(
  open: () => DeliveryStream<unknown, D>,
  settle: (delivery: D) => Promise<void>,
  failed: (error: unknown) => void,
): () => Promise<void> {
  let deliveries = open();
  const closing = new AbortController();
  const run = async (): Promise<void> => {
    while (!closing.signal.aborted) {
      try {
        for await (const delivery of deliveries) void settle(delivery);
      } catch (error) {
        failed(error);
        await pause(AGAIN_MS);
        deliveries = open();
      }
    }
  };
  void run();
  return async () => {
    closing.abort();
    await deliveries.close({ drainMs: DRAIN_MS });
  };
}
