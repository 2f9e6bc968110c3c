/** The iterable form of subscribing: the caller takes one message after the other, at its own pace. */

import { wait } from "../core/clock.js";
import type { Consuming } from "../core/consumer-stats.js";
import { type ErrorRules, verdictOnFailure } from "../core/error-policy.js";
import { ClosedError, CodecError, toError } from "../core/errors.js";
import { createDecoder, type Decoder, Foreign, toMessage } from "../core/handler.js";
import { abortable } from "../core/lifecycle.js";
import type { Message } from "../core/message.js";
import { STOP } from "../core/outcome.js";
import type { RetryPolicy } from "../core/retry.js";
import type { Runtime } from "../core/runtime.js";
import type { Params } from "../core/template.js";
import { isThenable } from "../core/thenable.js";
import type { Graveyard } from "./graveyard.js";
import { DEFAULT_HANDLER_TIMEOUT_MS, type ListenOptions } from "./options.js";
import { type Arrival, Reception } from "./reception.js";
import { RecentIds } from "./recent-ids.js";
import { type ChannelStats, toSubscriptionStats } from "./stats.js";
import type { Wanted } from "./targets.js";

/** A message that was heard. There is nothing to settle: pub/sub tells whoever listens, once. */
export interface Heard<T = unknown, P extends Params = Params> {
  readonly data: T;
  readonly channel: string;
  /** What a template's parameters stand for; of a raw pattern, what its wild cards stand for, as `"0"`, `"1"` … */
  readonly params: P;
  /** The envelope, with its data. */
  readonly message: Message<T>;
  /** Messages may have been missed before this one, for this reason. */
  readonly gap: string | undefined;
}

export interface MessageStreamOptions {
  readonly runtime: Runtime;
  readonly wanted: readonly Wanted[];
  readonly listen: ListenOptions;
  readonly policy: RetryPolicy;
  readonly rules: ErrorRules;
  readonly graveyard: Graveyard;
}

/** The name of its reader, for logs and dead letters. */
const READER = "listen";

/** Messages as an iterable that can be used once. It begins to listen with `ready()`, or the first `next()`. */
export class MessageStream<T, P extends Params = Params>
  implements AsyncIterableIterator<Heard<T, P>>, AsyncDisposable
{
  readonly #options: MessageStreamOptions;
  readonly #reception: Reception<Decoder<T>>;
  readonly #consuming: Consuming;
  readonly #since: number;
  #opening: Promise<void> | undefined;
  #closing: Promise<void> | undefined;
  readonly #closed = new AbortController();
  #failure: Error | undefined;
  #handled = 0;
  #failed = 0;
  #lastMessageAt: number | undefined;
  #wakes: (() => void)[] = [];

  constructor(options: MessageStreamOptions) {
    const { runtime, wanted, listen } = options;
    this.#options = options;
    this.#since = runtime.clock.now();
    this.#consuming = {
      stats: () => [toSubscriptionStats(this.stats(), READER, this.#since)],
      close: () => this.close(),
    };
    this.#reception = new Reception<Decoder<T>>({
      runtime,
      reader: READER,
      wanted,
      listen,
      recent: listen.dedupe ? new RecentIds() : undefined,
      bind: (channel, { read }) =>
        createDecoder<T>({ channel, codecs: runtime.codecs, readerFor: () => read, isForOthers: undefined }),
      arrived: () => this.#wakeAll(),
      overrun: (error) => this.#fail(error),
    });
  }

  /** Begins to listen. Resolves once that is in force: what is published afterwards is heard. */
  async ready(): Promise<void> {
    if (this.#closing !== undefined) throw new ClosedError("the iteration has ended");
    this.#opening ??= this.#open();
    await this.#opening;
  }

  async next(): Promise<IteratorResult<Heard<T, P>, undefined>> {
    if (this.#closing === undefined) await this.ready();
    for (;;) {
      const failure = this.#failure;
      this.#failure = undefined;
      if (failure !== undefined) throw failure;
      if (this.#closing !== undefined) return { done: true, value: undefined };
      const arrival = this.#reception.next();
      if (arrival === undefined) {
        await new Promise<void>((resolve) => void this.#wakes.push(resolve));
        continue;
      }
      this.#lastMessageAt = this.#options.runtime.clock.now();
      const heard = await this.#read(arrival);
      if (heard !== undefined) return { done: false, value: heard };
      this.#reception.passOver(arrival);
    }
  }

  /** Ends the iteration; what waits is dropped. */
  async return(): Promise<IteratorResult<Heard<T, P>, undefined>> {
    await this.close();
    return { done: true, value: undefined };
  }

  /** The same. */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  stats(): ChannelStats {
    const { received, dropped, gaps, waiting } = this.#reception;
    return {
      channels: this.#options.wanted.map(({ name }) => name),
      state: this.#closing === undefined ? "running" : "closed",
      waiting,
      running: 0,
      concurrency: 1,
      received,
      handled: this.#handled,
      failed: this.#failed,
      dropped,
      gaps,
      lastMessageAt: this.#lastMessageAt,
    };
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  readonly #closeOnAbort = (): void => {
    this.close().catch((error: unknown) => this.#options.runtime.report(error, "ending an iteration"));
  };

  async #open(): Promise<void> {
    const { runtime, listen } = this.#options;
    listen.signal?.throwIfAborted();
    listen.signal?.addEventListener("abort", this.#closeOnAbort, { once: true });
    runtime.owner.ownConsumer(this.#consuming);
    try {
      await this.#reception.open();
    } catch (error) {
      this.#closeOnAbort();
      throw error;
    }
  }

  async #close(): Promise<void> {
    const { runtime, listen } = this.#options;
    listen.signal?.removeEventListener("abort", this.#closeOnAbort);
    this.#closed.abort();
    const leaving = this.#reception.close();
    this.#reception.clear();
    this.#wakeAll();
    await leaving;
    runtime.owner.disown(this.#consuming);
  }

  #fail(error: Error): void {
    if (this.#closing !== undefined) return;
    this.#failure = error;
    this.#closeOnAbort();
  }

  /** @returns undefined for a message that cannot be read; what becomes of it is decided by then */
  async #read(arrival: Arrival<Decoder<T>>): Promise<Heard<T, P> | undefined> {
    const { from, gap } = arrival;
    const { channel, hearing, bound } = from;
    const { runtime, graveyard } = this.#options;
    for (let attempt = 1; ; ) {
      try {
        const decoded = bound(arrival);
        const data = isThenable(decoded) ? await this.#inTime(decoded) : decoded;
        // Of pub/sub's channels none holds several types.
        if (data instanceof Foreign) return undefined;
        this.#handled += 1;
        const message = toMessage(channel, arrival, data);
        return { data, channel, params: hearing.params as P, message, gap };
      } catch (thrown) {
        // The iteration has ended meanwhile: nothing is to be said of the message.
        if (this.#closed.signal.aborted && thrown === this.#closed.signal.reason) {
          this.#failed += 1;
          return undefined;
        }
        const error = toError(thrown);
        const verdict = verdictOnFailure(error, { channel, attempt, kind: "unreadable" }, this.#options);
        if (verdict.as === "retry" && verdict !== STOP) {
          await wait(runtime.clock, verdict.delayMs, this.#closed.signal);
          if (verdict.counted) attempt += 1;
          if (!this.#closed.signal.aborted) continue;
        }
        if (verdict.as === "ack") this.#handled += 1;
        else this.#failed += 1;
        if (verdict === STOP) this.#fail(error);
        else if (verdict.as === "deadLetter" && verdict.reason.kind === "rejected")
          await graveyard.bury({ ...arrival, attempt }, READER, verdict.reason);
        else if (verdict.as === "deadLetter") runtime.report(error, `iteration over ${channel}`);
        return undefined;
      }
    }
  }

  /** An asynchronous schema may hang: neither the next message nor the end waits for that. */
  async #inTime<V>(decoding: PromiseLike<V>): Promise<V> {
    const done = new AbortController();
    const tooLate = wait(this.#options.runtime.clock, DEFAULT_HANDLER_TIMEOUT_MS, done.signal).then(() => {
      throw new CodecError(`the message could not be read within ${DEFAULT_HANDLER_TIMEOUT_MS} ms`);
    });
    try {
      return await abortable(Promise.race([decoding, tooLate]), this.#closed.signal);
    } finally {
      done.abort();
    }
  }

  #wakeAll(): void {
    const wakes = this.#wakes;
    if (wakes.length === 0) return;
    this.#wakes = [];
    for (const wake of wakes) wake();
  }
}
