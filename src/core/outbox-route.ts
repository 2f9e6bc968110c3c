/**
 * Where what is published to one stream goes: to the server, or to the outbox while the server is away and until the
 * outbox is empty again. One batch after the other, so that the order of a publisher is kept across the change.
 */

import type { Appended, Backend, Log, NewEntry, Retention } from "./backend.js";
import { atMost, type Clock, wait } from "./clock.js";
import { ConnectionError, PublishIndeterminateError, TimeoutError } from "./errors.js";
import { Forwarding, type ForwardingStats } from "./forwarding.js";
import type { Unmark } from "./forwarding-send.js";
import { statsOf } from "./in-order.js";
import { identityOf } from "./stored.js";

export interface RouteOptions {
  readonly stream: string;
  /** Of the server. */
  readonly primary: Pick<Log, "append" | "read">;
  readonly fallback: Backend;
  readonly clock: Clock;
  readonly outage: Outage;
  readonly signal: AbortSignal;
  readonly report: (error: unknown, where: string) => void;
}

/** What all streams share. */
export interface Outage {
  /** The server is known to be away. */
  readonly isAway: boolean;
  /** The server did not take what was published. */
  begin(reason: unknown): void;
  /** A stream goes to the outbox from now on: noted there, for whoever opens it next. */
  diverted(stream: string): Promise<void>;
  /** Messages of the outbox have arrived at the server. */
  forwarded(count: number): void;
  /** A stream's outbox is empty, and it goes to the server again. */
  returned(stream: string): void;
}

/** The group that keeps what the outbox still holds. */
export const OUTBOX_GROUP = "outbox";
/** A batch that the server has not decided on after this long goes to the outbox. */
const PATIENCE_MS = 3_000;
/** While the outbox is emptied, a batch that would make it longer waits this long at most. */
const HOLD_MS = 1_000;
const LOOK_MS = 20;
const CLOSE_MS = 1_000;
/** Publishing is refused when the outbox holds this many of one stream. */
const OUTBOX_RETENTION: Retention = { maxEntries: 1_000_000, overflow: "reject" };
/** As a field that readers pass by: the server may have stored this one before it went away. */
const MARK = "\u001f!";

const unmark: Unmark = (header) =>
  header.endsWith(MARK) ? { header: header.slice(0, -MARK.length), inDoubt: true } : { header, inDoubt: false };

export class Route {
  readonly #options: RouteOptions;
  /** The batch before. */
  #tail: Promise<unknown> = Promise.resolve();
  #underway = 0;
  #forwarding: Forwarding | undefined;
  #retention: Retention = OUTBOX_RETENTION;
  /** The outbox has to be this short before the next batch makes it longer. */
  #goal = Number.POSITIVE_INFINITY;

  constructor(options: RouteOptions) {
    this.#options = options;
  }

  /** Nothing is under way, and what comes next goes to the server. */
  get isIdle(): boolean {
    return this.#underway === 0 && this.#forwarding === undefined;
  }

  get isDiverted(): boolean {
    return this.#forwarding !== undefined;
  }

  stats(): ForwardingStats | undefined {
    return this.#forwarding?.stats();
  }

  /** Appends behind what was appended before, wherever that went. Everything carries an id that is stored once. */
  append(entries: readonly NewEntry[], retention: Retention): Promise<readonly Appended[]> {
    return this.#exclusive(async () => {
      this.#retention = retention;
      const known = entries.map(withId);
      if (await this.#goesToOutbox(known.length)) return this.#keep(known, false);
      try {
        return await this.#patiently(this.#options.primary.append(this.#options.stream, known, retention));
      } catch (error) {
        if (!isAbsence(error)) throw error;
        this.#options.outage.begin(error);
        return this.#keep(known, isDoubtful(error));
      }
    });
  }

  /** Empties what another process has left in the outbox; until then the stream goes there. */
  resume(): Promise<void> {
    return this.#exclusive(() => this.#divert());
  }

  async close(): Promise<void> {
    await this.#forwarding?.close(CLOSE_MS);
  }

  async #exclusive<T>(work: () => Promise<T>): Promise<T> {
    this.#underway += 1;
    const done = this.#tail.then(work);
    this.#tail = done.catch(() => undefined);
    try {
      return await done;
    } finally {
      this.#underway -= 1;
    }
  }

  async #goesToOutbox(count: number): Promise<boolean> {
    const { outage, clock, signal } = this.#options;
    if (this.#forwarding === undefined || outage.isAway) return outage.isAway;
    if (this.#forwarding.stats().state === "failing") return true;
    // The server is back. Were publishers as fast as they can be, the outbox would never be empty.
    const deadline = clock.now() + HOLD_MS;
    let left = await this.#left();
    while (left > 0 && left > this.#goal && clock.now() < deadline && !signal.aborted) {
      await wait(clock, LOOK_MS, signal);
      left = await this.#left();
    }
    this.#goal = left - count;
    if (left > 0) return true;
    await this.#return();
    return false;
  }

  async #patiently<T>(work: Promise<T>): Promise<T> {
    let settled = false;
    const settle = (): void => {
      settled = true;
    };
    await atMost(this.#options.clock, PATIENCE_MS, work.then(settle, settle));
    if (!settled) throw new TimeoutError(`the server has not answered for ${PATIENCE_MS} ms`);
    return work;
  }

  /** @param inDoubt whether the server may have stored these all the same */
  async #keep(entries: readonly NewEntry[], inDoubt: boolean): Promise<readonly Appended[]> {
    const { fallback, stream } = this.#options;
    try {
      await this.#divert();
      const kept = inDoubt ? entries.map((entry) => ({ ...entry, header: entry.header + MARK })) : entries;
      const appended = await fallback.log.append(stream, kept, OUTBOX_RETENTION);
      return appended.map(({ duplicate }) => ({ position: "", duplicate, fallback: fallback.durability }));
    } catch (error) {
      if (!inDoubt) throw error;
      const message = "the server was lost while publishing, and the fallback cannot take the messages either";
      throw new PublishIndeterminateError(message, { cause: error });
    }
  }

  /** From now on the outbox keeps what comes, and is emptied whenever the server is there. */
  async #divert(): Promise<void> {
    if (this.#forwarding !== undefined) return;
    const { stream, primary, fallback, clock, outage, report } = this.#options;
    await outage.diverted(stream);
    const forwarding = new Forwarding({
      source: fallback,
      target: {
        append: (name, entries) => primary.append(name, entries, this.#retention),
        read: primary.read.bind(primary),
      },
      stream,
      group: OUTBOX_GROUP,
      retention: OUTBOX_RETENTION,
      clock,
      unmark,
      events: {
        forwarded: (count) => outage.forwarded(count),
        taken: () => undefined,
        failing: (error, failures) => {
          // That the server is away is known.
          if (failures === 1 && !isAbsence(error)) report(error, `emptying the outbox of ${stream}`);
        },
        recovered: () => undefined,
        ended: (error) => report(error, `emptying the outbox of ${stream}`),
      },
    });
    await forwarding.start();
    this.#forwarding = forwarding;
    this.#goal = Number.POSITIVE_INFINITY;
    void this.#awaitEmpty(forwarding);
  }

  /** Goes back to the server once the outbox is empty, also when nothing is published any more. */
  async #awaitEmpty(forwarding: Forwarding): Promise<void> {
    const { signal, report, stream, clock } = this.#options;
    while (this.#forwarding === forwarding && !signal.aborted) {
      try {
        await forwarding.caughtUp(signal);
        await this.#exclusive(async () => {
          if (this.#forwarding === forwarding && (await this.#left()) === 0) await this.#return();
        });
      } catch (error) {
        if (signal.aborted || this.#forwarding !== forwarding) return;
        report(error, `looking whether the outbox of ${stream} is empty`);
        await wait(clock, HOLD_MS, signal);
      }
    }
  }

  /** What the outbox still holds of this stream, whoever published it. */
  async #left(): Promise<number> {
    const { fallback, stream } = this.#options;
    const { lag, pending, retrying } = await statsOf(fallback.log, stream, OUTBOX_GROUP);
    return lag + pending + retrying;
  }

  async #return(): Promise<void> {
    const forwarding = this.#forwarding;
    this.#forwarding = undefined;
    await forwarding?.close(CLOSE_MS);
    this.#options.outage.returned(this.#options.stream);
  }
}

/** Whatever takes the message's second way must know that it is the same. */
function withId(entry: NewEntry): NewEntry {
  if (entry.dedupeId !== undefined) return entry;
  const { id } = identityOf(entry.header);
  return id === undefined ? entry : { ...entry, dedupeId: id };
}

function isAbsence(error: unknown): boolean {
  return (
    error instanceof ConnectionError || error instanceof PublishIndeterminateError || error instanceof TimeoutError
  );
}

/** Whether the server may have stored what it did not answer to. */
function isDoubtful(error: unknown): boolean {
  return !(error instanceof ConnectionError) || error.interrupted;
}
