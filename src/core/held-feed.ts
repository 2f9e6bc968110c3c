/** Keeps a consumer's feed: opened once however many ask, every call watched, and given up when one never answers. */

import type { Feed } from "./backend.js";
import type { Clock } from "./clock.js";
import { ClosedError, TimeoutError } from "./errors.js";

export interface HeldFeedOptions {
  readonly open: () => Promise<Feed>;
  readonly clock: Clock;
  /** Called when a feed is given up; everything that it had handed out is lost. */
  readonly abandoned: (reason: Error) => void;
  /** Hears of a given up feed that could not be closed either. */
  readonly report: (error: unknown) => void;
}

/** A call that takes this much longer than it may wait is given up with its feed: silently dead must not exist. */
const WATCHDOG_MS = 15_000;

export class HeldFeed {
  readonly #options: HeldFeedOptions;
  #feed: Feed | undefined;
  #opening: Promise<Feed> | undefined;
  /** Ends the calls of the feed that is open. */
  readonly #rejects = new Set<(reason: Error) => void>();
  #closed = false;

  constructor(options: HeldFeedOptions) {
    this.#options = options;
  }

  /** Opens the feed where it is not open. */
  async open(): Promise<void> {
    await this.#current();
  }

  /**
   * Calls the feed.
   *
   * @param waitMs how long the call may wait by itself
   * @throws {TimeoutError} when it does not answer; the next call opens another feed
   */
  async call<T>(use: (feed: Feed) => Promise<T>, waitMs = 0): Promise<T> {
    const feed = await this.#current();
    const ms = waitMs + WATCHDOG_MS;
    let end: (reason: Error) => void = () => undefined;
    const ended = new Promise<never>((_, reject) => {
      end = reject;
    });
    const late = (): void => this.#abandon(feed, new TimeoutError(`the backend did not answer within ${ms} ms`));
    const timer = this.#options.clock.setTimer(late, ms);
    this.#rejects.add(end);
    try {
      return await Promise.race([use(feed), ended]);
    } finally {
      timer.cancel();
      this.#rejects.delete(end);
    }
  }

  /** Closes the feed for good. One that is being opened closes itself when it sees that it came too late. */
  async close(): Promise<void> {
    this.#closed = true;
    await this.#feed?.close();
  }

  async #current(): Promise<Feed> {
    if (this.#feed !== undefined) return this.#feed;
    this.#opening ??= this.#open().finally(() => {
      this.#opening = undefined;
    });
    return await this.#opening;
  }

  async #open(): Promise<Feed> {
    if (this.#closed) throw new ClosedError("the consumer is closed");
    const feed = await this.#options.open();
    if (this.#closed) {
      await feed.close();
      throw new ClosedError("the consumer was closed while it opened");
    }
    this.#feed = feed;
    return feed;
  }

  /** All calls of the feed end with it. */
  #abandon(feed: Feed, reason: Error): void {
    if (this.#feed !== feed) return;
    this.#feed = undefined;
    for (const reject of this.#rejects) reject(reason);
    this.#options.abandoned(reason);
    feed.close().catch(this.#options.report);
  }
}
