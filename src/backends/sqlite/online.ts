/** Which recipients a feed is open for, in any process: the feeds that say so from time to time. */

import { randomUUID } from "node:crypto";
import type { Timer } from "../../core/clock.js";
import type { Reader } from "./readers.js";
import type { Store } from "./store.js";
import type { Tx } from "./writer.js";

/** A feed counts for so long after its process was last heard of. */
const ONLINE_MS = 30_000;
/** How often a process says that its feeds are open: at least; and three times while the shortest-lived recipient lives. */
const RENEW_MS = 10_000;
const RENEWED_PER_LIFE = 3;
const MIN_RENEW_MS = 100;
/** Feeds of processes that died which one renewal forgets. */
const MAX_FORGOTTEN = 1_000;

export interface OnlineFeed {
  /** It is open: it says so from now on, and calls `renew` whenever it does. */
  start(renew: (tx: Tx) => void): void;
  /** Its recipient was forgotten, and begins anew. */
  moveTo(tx: Tx, inbox: Reader): void;
  /** It counts no longer. Safe to call twice. */
  end(): void;
}

/** Where a feed is counted. */
interface Place {
  readonly queue: number;
  reader: number;
}

interface OpenFeed {
  readonly place: Place;
  readonly everyMs: number;
  readonly renew: (tx: Tx) => void;
}

export class Online {
  readonly #store: Store;
  readonly #sql: ReturnType<typeof prepare>;
  readonly #process: string = randomUUID();
  /** Our open feeds, by their names in the table. */
  readonly #feeds = new Map<string, OpenFeed>();
  #opened = 0;
  #timer: Timer | undefined;
  #everyMs = RENEW_MS;
  #forget: () => void = () => undefined;

  constructor(store: Store) {
    this.#store = store;
    this.#sql = prepare(store);
  }

  /** Counts a feed that is about to open. */
  open(tx: Tx, queue: number, inbox: Reader): OnlineFeed {
    this.#opened += 1;
    const name = `${this.#process} ${this.#opened}`;
    const place: Place = { queue, reader: inbox.id };
    this.#sql.add.run(queue, inbox.id, name, tx.now + ONLINE_MS);
    return {
      start: (renew) => {
        const everyMs = inbox.lapsesAt === null ? RENEW_MS : Math.ceil(inbox.ttlMs / RENEWED_PER_LIFE);
        this.#feeds.set(name, { place, renew, everyMs });
        this.#start(everyMs);
      },
      moveTo: (later, { id }) => {
        if (place.reader === id) return;
        this.#sql.remove.run(queue, place.reader, name);
        this.#sql.add.run(queue, id, name, later.now + ONLINE_MS);
        later.afterCommit(() => {
          place.reader = id;
        });
      },
      end: () => {
        this.#sql.remove.run(queue, place.reader, name);
        this.#feeds.delete(name);
        if (this.#feeds.size === 0) this.#stop();
      },
    };
  }

  isOnline(queue: number, reader: number, now: number): boolean {
    return this.#sql.isOnline.get(queue, reader, now) !== undefined;
  }

  /** A recipient is forgotten: whoever reads it begins anew. */
  forget(queue: number, reader: number): void {
    this.#sql.forget.run(queue, reader);
  }

  #start(everyMs: number): void {
    if (this.#timer !== undefined && everyMs >= this.#everyMs) return;
    this.#timer?.cancel();
    if (this.#timer === undefined) this.#forget = this.#store.onClose(async () => this.#stop());
    this.#wait();
  }

  #stop(): void {
    this.#timer?.cancel();
    this.#timer = undefined;
    this.#forget();
  }

  #wait(): void {
    const everyMs = [...this.#feeds.values()].reduce((least, feed) => Math.min(least, feed.everyMs), RENEW_MS);
    this.#everyMs = Math.max(MIN_RENEW_MS, everyMs);
    this.#timer = this.#store.clock.setTimer(() => {
      this.#wait();
      this.#store.writer
        .run((tx) => this.#renew(tx))
        .catch((error: unknown) =>
          this.#store.report(error, "saying which recipients are online; it is said again soon"),
        );
    }, this.#everyMs);
  }

  #renew(tx: Tx): void {
    for (const [name, { place, renew }] of this.#feeds) {
      this.#sql.add.run(place.queue, place.reader, name, tx.now + ONLINE_MS);
      renew(tx);
    }
    this.#sql.removeDead.run(tx.now, MAX_FORGOTTEN);
    tx.spend(this.#feeds.size);
  }
}

// Parameters come in the order of the calls above.
function prepare({ db }: Store) {
  return {
    add: db.prepare("INSERT OR REPLACE INTO sb1_online (queue, reader, feed, until) VALUES (?, ?, ?, ?)"),
    remove: db.prepare("DELETE FROM sb1_online WHERE queue = ? AND reader = ? AND feed = ?"),
    isOnline: db.prepare("SELECT 1 FROM sb1_online WHERE queue = ? AND reader = ? AND until > ? LIMIT 1"),
    forget: db.prepare("DELETE FROM sb1_online WHERE queue = ? AND reader = ?"),
    removeDead: db.prepare(
      `DELETE FROM sb1_online WHERE (queue, reader, feed) IN
         (SELECT queue, reader, feed FROM sb1_online INDEXED BY sb1_online_until WHERE until <= ? LIMIT ?)`,
    ),
  };
}
