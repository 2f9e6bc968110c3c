/** How a feed waits: one blocking read at a time on a connection of its own, begun by one call and perhaps ended by a later. */

import type { BackendContext, Delivery, TakeRequest } from "../../core/backend.js";
import { wait } from "../../core/clock.js";
import type { Connections, OwnConnection } from "./connection.js";
import { isInterrupted } from "./errors.js";
import { uptime } from "./ledger.js";
import { type Brought, MAX_AT_ONCE, type Source } from "./source.js";

/** Pause after a blocking read whose connection broke. */
const BROKEN_MS = 100;
/** Two waits until the same moment may differ by this much. */
const ROUNDING_MS = 2;
/** What a wait has brought is as good as new for so long; later it may have been dropped, and the store has to be asked. */
const FRESH_MS = 20;

/** What the feed does with what comes. */
export interface WaitingHooks {
  /** Notes that these are leased. @param since when they may have been leased at the earliest (`uptime`) */
  hold(brought: Brought, since: number): readonly Delivery[];
  /** Something may have been brought of which nobody knows. */
  doubt(): void;
  /** Aborts when the feed closes. */
  readonly closing: AbortSignal;
}

/** A blocking read under way, or what it brought while no call waited for it. */
interface Wait {
  readonly brought: Promise<readonly Delivery[]>;
  /** When it ends at the latest (`uptime`). */
  readonly until: number;
  /** Some call waits for it; otherwise the next one that waits takes it over. */
  isTaken: boolean;
  /** What it brought, and when, once it has ended. */
  result: { readonly deliveries: readonly Delivery[]; readonly at: number } | undefined;
}

export class Waiting {
  readonly #source: Source;
  readonly #connections: Connections;
  readonly #context: BackendContext;
  readonly #hooks: WaitingHooks;
  #own: OwnConnection | undefined;
  #generation = 0;
  #current: Wait | undefined;
  /** Ends the wait. One listener serves many waits: there may be a thousand a second. */
  #signal: AbortSignal | undefined;
  readonly #unblock = (): void => this.unblock();

  constructor(source: Source, connections: Connections, context: BackendContext, hooks: WaitingHooks) {
    this.#source = source;
    this.#connections = connections;
    this.#context = context;
    this.#hooks = hooks;
  }

  /** Whether a call may begin a wait beside other work, or take over one that a call before it has begun. */
  get isFree(): boolean {
    const current = this.#current;
    if (current === undefined) return this.idle !== undefined;
    return !current.isTaken && (current.result === undefined || uptime() - current.result.at < FRESH_MS);
  }

  /** The own connection, when it is there and nothing waits on it. */
  get idle(): OwnConnection | undefined {
    if (this.#current !== undefined || this.#hooks.closing.aborted) return undefined;
    return this.#own?.isOpen === true ? this.#own : undefined;
  }

  /** When the wait under way ends at the latest (`uptime`); undefined when there is none. */
  get until(): number | undefined {
    return this.#current?.until;
  }

  /** Begins to wait for up to `ms`, where nothing waits yet; the next call that waits takes over. */
  begin(want: TakeRequest, ms: number): void {
    if (this.#own !== undefined) this.#current ??= this.#begin(this.#own, want, ms);
  }

  /** Waits on the own connection; while another call does, or without one, by the clock. Resolves early with nothing. */
  async wait(want: TakeRequest, ms: number): Promise<readonly Delivery[]> {
    this.#own ??= this.#connections.blocking(this.#source.key);
    if (this.#own === undefined || this.#current?.isTaken === true) {
      await this.#pause(want, ms, this.#current?.brought);
      return [];
    }
    const current = (this.#current ??= this.#begin(this.#own, want, ms));
    current.isTaken = true;
    this.#endWith(want.signal);
    try {
      // Begun by a call before this one, it may last longer than this one waits.
      if (current.until > uptime() + ms + ROUNDING_MS) await this.#pause(want, ms, current.brought);
      else await current.brought;
    } catch (error) {
      this.#current = undefined;
      throw error;
    } finally {
      current.isTaken = false;
    }
    return this.collect();
  }

  /** What a wait that has ended brought, where no call waits for it. */
  collect(): readonly Delivery[] {
    const current = this.#current;
    if (current?.result === undefined || current.isTaken) return [];
    this.#current = undefined;
    return current.result.deliveries;
  }

  /** Ends the wait under way, which then brings what it has. */
  unblock(): void {
    this.#own?.unblock();
  }

  /** Ends a wait that no call waits for. @returns what it brought */
  async stop(): Promise<readonly Delivery[]> {
    const current = this.#current;
    if (current === undefined) return [];
    this.unblock();
    await current.brought.catch(() => undefined);
    return this.collect();
  }

  close(): void {
    this.#endWith(undefined);
    this.#own?.close();
  }

  #begin(own: OwnConnection, want: TakeRequest, ms: number): Wait {
    this.#endWith(want.signal);
    const brought = this.#read(own, Math.min(want.max, MAX_AT_ONCE), ms);
    const begun: Wait = { brought, until: uptime() + ms, isTaken: false, result: undefined };
    const ended = (deliveries: readonly Delivery[]): void => {
      begun.result = { deliveries, at: uptime() };
    };
    // Whoever takes it over is told why it failed.
    brought.then(ended, () => ended([]));
    return begun;
  }

  #endWith(signal: AbortSignal | undefined): void {
    if (signal === this.#signal) return;
    this.#signal?.removeEventListener("abort", this.#unblock);
    this.#signal = signal;
    signal?.addEventListener("abort", this.#unblock);
  }

  /** By the clock, or until something was brought. */
  async #pause({ signal }: TakeRequest, ms: number, brought?: Promise<unknown>): Promise<void> {
    const over = new AbortController();
    const signals = [this.#hooks.closing, over.signal, ...(signal === undefined ? [] : [signal])];
    const pause = wait(this.#context.clock, ms, AbortSignal.any(signals));
    await Promise.race(brought === undefined ? [pause] : [pause, brought.catch(() => undefined)]);
    over.abort();
  }

  async #read(own: OwnConnection, max: number, ms: number): Promise<readonly Delivery[]> {
    // The first socket of all has nothing to lose.
    const generation = Math.max(1, own.generation, this.#generation);
    const startedAt = uptime();
    try {
      return this.#hooks.hold(await this.#source.block(own, max, ms), startedAt);
    } catch (error) {
      if (!isInterrupted(error)) throw error;
      this.#hooks.doubt();
      // The shared connection will tell whether the store is there; this one may keep failing at once.
      await wait(this.#context.clock, Math.min(ms, BROKEN_MS), this.#hooks.closing);
      return [];
    } finally {
      if (own.generation > generation) this.#hooks.doubt();
      this.#generation = own.generation;
    }
  }
}
