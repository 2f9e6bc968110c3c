/** Whoever listens now hears it: in this process at once, in others through a table of recent messages. */

import { randomUUID } from "node:crypto";
import type { Broadcast, BroadcastMessage, BroadcastTarget } from "../../core/backend.js";
import { createAudience } from "./audience.js";
import { createLocal } from "./local.js";
import { createOutbox, type OwnMessage } from "./outbox.js";
import { Receiver } from "./receiver.js";
import type { Store } from "./store.js";

export function createBroadcast(store: Store): Broadcast {
  const { writer, db, namespace } = store;
  const backend = randomUUID();
  const local = createLocal(store.report);
  const audience = createAudience(db, namespace, backend);
  const send = createOutbox(db, namespace, backend);
  const wanted = new Wanted();
  const receiver = new Receiver({ store, backend, local, audience, targets: () => wanted.targets() });
  store.onClose(() => receiver.close());

  async function leave(target: BroadcastTarget): Promise<void> {
    if (wanted.remove(target) > 0) return;
    if (wanted.isEmpty()) receiver.stop();
    await writer.run((tx) => {
      // Somebody may have subscribed to it in between.
      if (!wanted.has(target)) audience.leave(tx, target);
    });
  }

  return {
    async publish(messages) {
      store.assertOpen();
      if (messages.length === 0) return [];
      const own = messages.map(({ data, ...destination }): OwnMessage => ({ ...destination, data: toBytes(data) }));
      // Who listens here need not wait for the file, nor for other processes that keep it locked.
      const heardHere = own.map((message) => (local.deliver(message, message.data) ? 1 : 0));
      return writer.run((tx) => {
        const othersAt = audience.others(tx);
        const others = own.map(othersAt);
        const forOthers = own.filter((_, index) => others[index] !== 0);
        if (forOthers.length > 0) send(tx, forOthers);
        tx.spend(own.length);
        return heardHere.map((here, index): number => here + (others[index] ?? 0));
      });
    },

    async subscribe(target, listener) {
      store.assertOpen();
      wanted.add(target);
      let remove = (): void => undefined;
      try {
        await writer.run((tx) => {
          audience.join(tx, target);
          const since = receiver.newest();
          tx.afterCommit(() => {
            receiver.start(since);
            remove = local.add(target, listener, since);
          });
        });
        store.assertOpen();
      } catch (error) {
        remove();
        wanted.remove(target);
        throw error;
      }
      let ended: Promise<void> | undefined;
      const forget = store.onClose(async () => {
        ended = Promise.resolve();
        remove();
      });
      return () => {
        if (ended === undefined) {
          remove();
          forget();
          ended = leave(target);
        }
        return ended;
      };
    },
  };
}

/** A copy, as every listener in this process gets the same one after the caller has gone on. */
function toBytes(data: BroadcastMessage["data"]): Uint8Array {
  // Not by slice(): a Buffer's is a view.
  return typeof data === "string" ? Buffer.from(data) : new Uint8Array(data);
}

/** How often each target of this backend is subscribed to, or about to be. */
class Wanted {
  readonly #targets = new Map<string, { readonly target: BroadcastTarget; count: number }>();

  add(target: BroadcastTarget): void {
    const entry = this.#targets.get(keyOf(target));
    if (entry === undefined) this.#targets.set(keyOf(target), { target, count: 1 });
    else entry.count += 1;
  }

  /** @returns how often it is still wanted */
  remove(target: BroadcastTarget): number {
    const entry = this.#targets.get(keyOf(target));
    if (entry === undefined) return 0;
    entry.count -= 1;
    if (entry.count === 0) this.#targets.delete(keyOf(target));
    return entry.count;
  }

  has(target: BroadcastTarget): boolean {
    return this.#targets.has(keyOf(target));
  }

  isEmpty(): boolean {
    return this.#targets.size === 0;
  }

  *targets(): Iterable<BroadcastTarget> {
    for (const { target } of this.#targets.values()) yield target;
  }
}

function keyOf(target: BroadcastTarget): string {
  if ("pattern" in target) return `pattern ${target.pattern}`;
  return `${target.sharded ? "sharded" : "channel"} ${target.channel}`;
}
