/** Reading the past again: every event of a stretch once, in order, whatever groups there are. */

import type { Entry, Range } from "../core/backend.js";
import { atMost, type Clock, wait } from "../core/clock.js";
import type { Consuming } from "../core/consumer-stats.js";
import { assertHandler } from "../core/consuming.js";
import {
  ClosedError,
  CodecError,
  ConfigError,
  DataLossDetected,
  ReplayError,
  SchemaError,
  toError,
} from "../core/errors.js";
import { type Context, createDecoder, Foreign, type Handler, NO_PARAMS, toMessage } from "../core/handler.js";
import { abortable, abortableCall } from "../core/lifecycle.js";
import type { Message } from "../core/message.js";
import { aFunction, aNumber, aSignal, type Check, type Checks, findProblems } from "../core/options.js";
import { HandlerOutcome } from "../core/outcome.js";
import type { Runtime } from "../core/runtime.js";
import type { Stream } from "../core/streams.js";
import { decodingOf } from "./consume.js";
import { isDate, type Position, type StartPlace, startProblem, toRangeStart } from "./places.js";

export interface ReplayOptions<T = unknown> {
  /** Where it begins. */
  readonly from: StartPlace;
  /** Where it ends: before the first event stored at or after a date, or with a position. Default: what is there when it starts. */
  readonly to?: Date | Position;
  /** Only those for which it says so. */
  readonly where?: (data: T, message: Message<T>) => boolean | PromiseLike<boolean>;
  /** Events handed over in a second, on average. Default: as fast as the handler takes them. */
  readonly ratePerSecond?: number;
  readonly signal?: AbortSignal;
}

export interface ReplayResult {
  readonly handled: number;
  /** Those that `where` left out. */
  readonly passedOver: number;
  /** Those that could not be decoded, or do not match their schema; `onError` has heard of each. */
  readonly unreadable: number;
  /** Of the last event that was looked at: go on behind it. Undefined when there was none. */
  readonly position: string | undefined;
}

/** Read at a time. */
const PAGE = 100;
/** A rate is kept on average: what timers lose is made up for, what a slow handler loses beyond this is not. */
const CATCH_UP_MS = 100;

const endCheck: Check = (to) =>
  isDate(to) || (typeof to === "string" && to !== "") ? undefined : "must be a Date or a position";

const CHECKS: Checks<ReplayOptions> = {
  from: startProblem,
  to: endCheck,
  where: aFunction,
  ratePerSecond: aNumber(0.001, 1_000_000),
  signal: aSignal,
};

/** Hands every event of the type to the handler, one at a time and in order. */
export async function replay<T>(
  runtime: Runtime,
  stream: Stream,
  type: string,
  options: ReplayOptions<T>,
  handler: Handler<T>,
): Promise<ReplayResult> {
  assertHandler(handler);
  checkReplay(options);
  options.signal?.throwIfAborted();
  const run = new Replay<T>(runtime, stream, type, options, handler);
  runtime.owner.ownConsumer(run);
  options.signal?.addEventListener("abort", run.abort, { once: true });
  try {
    return await run.start();
  } finally {
    options.signal?.removeEventListener("abort", run.abort);
    runtime.owner.disown(run);
  }
}

function checkReplay(options: ReplayOptions<never>): void {
  const problems = findProblems("events.replay", options, CHECKS as Checks<ReplayOptions<never>>);
  if (options?.from === undefined)
    problems.unshift('events.replay: from is missing: say where it begins: "beginning", a Date, a position …');
  if (problems.length > 0) throw new ConfigError(problems);
}

class Replay<T> implements Consuming {
  readonly #runtime: Runtime;
  readonly #stream: Stream;
  readonly #options: ReplayOptions<T>;
  readonly #handler: Handler<T>;
  readonly #decode: ReturnType<typeof createDecoder<T>>;
  readonly #pace: (() => Promise<void>) | undefined;
  /** Nothing more is handed over. */
  readonly #ending = new AbortController();
  /** Nothing is waited for any more. */
  readonly #stop = new AbortController();
  #done: Promise<unknown> = Promise.resolve();
  #handled = 0;
  #passedOver = 0;
  #unreadable = 0;
  #position: string | undefined;

  constructor(runtime: Runtime, stream: Stream, type: string, options: ReplayOptions<T>, handler: Handler<T>) {
    this.#runtime = runtime;
    this.#stream = stream;
    this.#options = options;
    this.#handler = handler;
    this.#decode = createDecoder<T>(decodingOf(runtime, stream, [type]));
    const { ratePerSecond } = options;
    if (ratePerSecond !== undefined) this.#pace = createPace(runtime.clock, ratePerSecond, this.#ending.signal);
  }

  readonly abort = (): void => {
    const reason: unknown = this.#options.signal?.reason;
    this.#ending.abort(reason);
    this.#stop.abort(reason);
  };

  start(): Promise<ReplayResult> {
    const reading = this.#readAll();
    this.#done = reading.catch(() => undefined);
    return reading;
  }

  /** It is no consumer of a group: `health()` has nothing to ask it. */
  stats(): [] {
    return [];
  }

  /** Lets the handler that runs finish. */
  async close({ drainMs = 0 }: { readonly drainMs?: number } = {}): Promise<void> {
    this.#ending.abort(closed());
    await atMost(this.#runtime.clock, drainMs, this.#done);
    this.#stop.abort(this.#ending.signal.reason);
  }

  async #readAll(): Promise<ReplayResult> {
    const { log } = this.#runtime.backend;
    const { signal } = this.#stop;
    const { from, to } = this.#options;
    const { newest } = await abortableCall(() => log.stats(this.#stream.name), signal);
    const until = typeof to === "string" ? to : to === undefined ? newest?.position : undefined;
    if (newest !== undefined) {
      let range: Range = { ...toRangeStart(from, newest.position), ...(until !== undefined && { until }), max: PAGE };
      for (;;) {
        const page = this.#new(range, await abortableCall(() => log.read(this.#stream.name, range), signal));
        if (page.length === 0 || !(await this.#handlePage(page)) || this.#position === until) break;
        // The last one once more: while it is there, nothing behind it has been dropped. `since` has done its part.
        range = { from: String(this.#position), ...(until !== undefined && { until }), max: PAGE + 1 };
      }
    }
    return {
      handled: this.#handled,
      passedOver: this.#passedOver,
      unreadable: this.#unreadable,
      position: this.#position,
    };
  }

  /** What was not looked at yet. */
  #new({ from }: Range, page: readonly Entry[]): readonly Entry[] {
    // Of a stretch that ends before it begins there is nothing to miss.
    if (from === undefined || (page.length === 0 && this.#position === undefined)) return page;
    if (page[0]?.position === from) return from === this.#position ? page.slice(1) : page;
    const channel = this.#stream.name;
    const message = `"${channel}" has dropped the event at position "${from}": a replay may have missed some behind it`;
    this.#runtime.report(new DataLossDetected(message, { channel, reader: "replay" }), `replay of ${channel}`);
    return page;
  }

  /** @returns whether to go on */
  async #handlePage(page: readonly Entry[]): Promise<boolean> {
    const { to } = this.#options;
    for (const entry of page) {
      if (to instanceof Date && entry.at >= to.getTime()) return false;
      this.#ending.signal.throwIfAborted();
      await this.#handleOne(entry);
      this.#position = entry.position;
    }
    return true;
  }

  async #handleOne(entry: Entry): Promise<void> {
    const read = await this.#read(entry);
    if (read === undefined) return;
    const { where } = this.#options;
    const { signal } = this.#stop;
    const message = toMessage(this.#stream.name, entry, read.data);
    try {
      // The promises are awaited under the signal: a filter or a handler that hangs must not hold the caller.
      if (where !== undefined && !(await abortable(Promise.resolve(where(read.data, message)), signal))) {
        this.#passedOver += 1;
        return;
      }
      await this.#pace?.();
      this.#ending.signal.throwIfAborted();
      const context: Context<T> = { message, attempt: 1, signal, channel: this.#stream.name, params: NO_PARAMS };
      assertHandled(await abortable(Promise.resolve(this.#handler(read.data, context)), signal));
      this.#handled += 1;
    } catch (thrown) {
      if (this.#ending.signal.aborted && thrown === this.#ending.signal.reason) throw thrown;
      const error = toError(thrown);
      throw new ReplayError(
        `the replay of "${this.#stream.name}" stopped at position "${entry.position}" after ${this.#handled} events: ` +
          `replay from there to go on: ${error.name}: ${error.message}`,
        { position: entry.position, handled: this.#handled, cause: thrown },
      );
    }
  }

  /** Undefined for what is of another type, and for what cannot be read. */
  async #read(entry: Entry): Promise<{ readonly data: T } | undefined> {
    try {
      const data = await this.#decode(entry);
      return data instanceof Foreign ? undefined : { data };
    } catch (error) {
      if (!(error instanceof CodecError || error instanceof SchemaError)) throw error;
      this.#unreadable += 1;
      this.#runtime.report(error, `replay of ${this.#stream.name} at ${entry.position}`);
      return undefined;
    }
  }
}

/** Resolves when the next event is due. */
function createPace(clock: Clock, ratePerSecond: number, signal: AbortSignal): () => Promise<void> {
  const intervalMs = 1_000 / ratePerSecond;
  let dueAt = clock.now();
  return async () => {
    const leftMs = dueAt - clock.now();
    if (leftMs > 0) await wait(clock, Math.ceil(leftMs), signal);
    dueAt = Math.max(dueAt, clock.now() - CATCH_UP_MS) + intervalMs;
  };
}

/** A replay has no second attempt: whoever asks for one has not handled the event. */
function assertHandled(returned: unknown): void {
  if (!(returned instanceof HandlerOutcome) || returned.decision.as === "skip") return;
  throw new Error(`the handler asked for ${returned.decision.as}, which a replay does not have`);
}

function closed(): ClosedError {
  return new ClosedError("the broker was closed during the replay");
}
