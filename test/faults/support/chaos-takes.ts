/** Sees from beneath a facade when each message was taken from its queue, which says how the store must have stood then. */

import type { Backend, Feed, Receipt } from "../../../src/core/backend.js";
import { now } from "./history-log.js";
import type { Within } from "./history-items.js";

/** Told of what feeds do. */
export interface TakeListener {
  /** These expired, by their ids. */
  expired(recipient: string, ids: readonly string[], within: Within): void;
  /** Leases were renewed, at `from` or later, of these. */
  extended(recipient: string, ids: readonly string[], from: number): void;
  /** What is held goes back from now on. */
  released(recipient: string): void;
}

export interface Takes {
  /** When the message was taken that a handler now has. */
  of(recipient: string, id: string): Within;
  /** From now on nobody renews its lease. */
  neglect(recipient: string, id: string): void;
  /** The same store, observed. */
  observe(backend: Backend): Backend;
}

export function createTakes(listener: TakeListener): Takes {
  /** By recipient and id. */
  const taken = new Map<string, Within>();
  const neglected = new Set<string>();
  const nameOf = (recipient: string, id: string): string => `${recipient} ${id}`;

  function watch(feed: Feed, recipient: string): Feed {
    const ids = new Map<Receipt, string>();
    /** A reply was lost, and with it deliveries: they come with later replies, until one has room for more. */
    let doubtedFrom: number | undefined;
    return {
      async take(want, outcomes) {
        const askedAt = now();
        for (const { receipt } of outcomes) forget(receipt);
        try {
          const result = await feed.take(want, outcomes);
          const within = { from: doubtedFrom ?? askedAt, until: now() };
          for (const { receipt, position } of result.deliveries) {
            ids.set(receipt, position);
            taken.set(nameOf(recipient, position), within);
          }
          if (want.max > 0 && result.deliveries.length < want.max) doubtedFrom = undefined;
          if (result.expiredIds !== undefined)
            listener.expired(recipient, result.expiredIds, { from: askedAt, until: within.until });
          return result;
        } catch (error) {
          if (want.max > 0) doubtedFrom ??= askedAt;
          throw error;
        }
      },
      async extend(receipts) {
        const from = now();
        const renewed = receipts.filter((receipt) => !neglected.has(nameOf(recipient, ids.get(receipt) ?? "")));
        const lost = renewed.length === 0 ? [] : await feed.extend(renewed);
        const kept = renewed.filter((receipt) => !lost.includes(receipt));
        listener.extended(
          recipient,
          kept.flatMap((receipt) => ids.get(receipt) ?? []),
          from,
        );
        return lost;
      },
      async close() {
        listener.released(recipient);
        await feed.close();
      },
    };

    function forget(receipt: Receipt): void {
      const id = ids.get(receipt);
      ids.delete(receipt);
      if (id !== undefined) neglected.delete(nameOf(recipient, id));
    }
  }

  return {
    of(recipient, id) {
      const name = nameOf(recipient, id);
      const within = taken.get(name);
      if (within === undefined) throw new Error(`nobody has taken ${id} for "${recipient}"`);
      taken.delete(name);
      return within;
    },
    neglect: (recipient, id) => void neglected.add(nameOf(recipient, id)),
    observe: (backend) => ({
      ...backend,
      queue: {
        ...backend.queue,
        open: async (queue, recipient, consumer) =>
          watch(await backend.queue.open(queue, recipient, consumer), recipient),
      },
    }),
  };
}
