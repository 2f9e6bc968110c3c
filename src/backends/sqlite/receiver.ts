/** Hears what other processes broadcast, and lets them know that this one listens. */

import type { BroadcastTarget } from "../../core/backend.js";
import type { Timer } from "../../core/clock.js";
import { type Audience, RENEW_MS } from "./audience.js";
import type { Statement } from "./driver.js";
import type { Local } from "./local.js";
import { BROADCASTS, shardedNamespace } from "./outbox.js";
import type { Store } from "./store.js";
import { type StoredText, textOf } from "./values.js";

/** Messages read at once. */
const READ_SLICE = 500;
/** However sure the wake-ups are, listeners look again after this long. */
const RECHECK_MS = 1_000;

interface MessageRow {
  readonly id: number;
  readonly namespace: StoredText;
  readonly origin: string;
  readonly channel: StoredText;
  readonly data: Uint8Array;
}

export interface ReceiverOptions {
  readonly store: Store;
  /** This backend's name among those on the file. */
  readonly backend: string;
  readonly local: Local;
  readonly audience: Audience;
  /** What is subscribed to at present. */
  readonly targets: () => Iterable<BroadcastTarget>;
}

export class Receiver {
  readonly #options: ReceiverOptions;
  readonly #newest: Statement<{ id: number | null }>;
  readonly #behind: Statement<MessageRow>;
  /** The last message heard. */
  #cursor = 0;
  #unlisten: (() => void) | undefined;
  #recheck: Timer | undefined;
  #renewal: Timer | undefined;
  #closed = false;

  constructor(options: ReceiverOptions) {
    const { db } = options.store;
    this.#options = options;
    this.#newest = db.prepare("SELECT max(id) AS id FROM sb1_broadcasts");
    this.#behind = db.prepare(
      "SELECT id, namespace, origin, channel, data FROM sb1_broadcasts WHERE id > ? ORDER BY id LIMIT ?",
    );
  }

  /** The last message that any backend has written. */
  newest(): number {
    return this.#newest.get()?.id ?? 0;
  }

  /** Hears what is written behind this message; where it listens already, it goes on. */
  start(after: number): void {
    if (this.#unlisten !== undefined || this.#closed) return;
    const { clock, bell } = this.#options.store;
    this.#cursor = after;
    this.#unlisten = bell.listen(BROADCASTS, this.#read);
    this.#recheck = clock.setTimer(this.#read, RECHECK_MS);
    this.#renewal = clock.setTimer(this.#renew, RENEW_MS);
  }

  stop(): void {
    this.#unlisten?.();
    this.#unlisten = undefined;
    this.#recheck?.cancel();
    this.#renewal?.cancel();
  }

  async close(): Promise<void> {
    const { store, audience } = this.#options;
    const listened = this.#unlisten !== undefined;
    this.stop();
    this.#closed = true;
    if (!listened) return;
    try {
      await store.writer.run(() => audience.leaveAll());
    } catch (error) {
      // Others find out by themselves that this backend is gone.
      store.report(error, "ending the broadcast subscriptions");
    }
  }

  readonly #read = (): void => {
    if (this.#unlisten === undefined) return;
    const { store } = this.#options;
    this.#recheck?.cancel();
    this.#recheck = store.clock.setTimer(this.#read, RECHECK_MS);
    try {
      const rows = store.read(() => this.#behind.all(this.#cursor, READ_SLICE));
      for (const row of rows) this.#hear(row);
      if (rows.length === READ_SLICE) setImmediate(this.#read);
    } catch (error) {
      store.report(error, "reading broadcasts of other processes");
    }
  };

  #hear({ id, namespace, origin, channel, data }: MessageRow): void {
    const { store, local, backend } = this.#options;
    const missed = id - this.#cursor - 1;
    this.#cursor = id;
    if (missed > 0) local.gap(`${missed} messages were removed before this process came to read them`);
    // Our own were heard when they were published.
    if (origin === backend) return;
    const heardIn = textOf(namespace);
    if (heardIn === store.namespace) local.deliver({ channel: textOf(channel) }, data, id);
    else if (heardIn === shardedNamespace(store.namespace))
      local.deliver({ channel: textOf(channel), sharded: true }, data, id);
  }

  readonly #renew = (): void => {
    const { store, audience, local, targets } = this.#options;
    this.#renewal = store.clock.setTimer(this.#renew, RENEW_MS);
    store.writer
      .run((tx) => {
        if (this.#unlisten === undefined || audience.renew(tx)) return;
        for (const target of targets()) audience.join(tx, target);
        tx.afterCommit(() => local.gap("this process was silent for so long that others took it for dead"));
      })
      .catch((error: unknown) => store.report(error, "renewing the broadcast subscriptions"));
  };
}
