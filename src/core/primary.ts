/** A backend whose server may be absent when it is opened: tried again in the background until it is there. */

import type { Backend, BackendContext, DeadLetters, Log, Membership, Queue } from "./backend.js";
import { type Clock, wait } from "./clock.js";
import { ClosedError, ConnectionError, toError } from "./errors.js";
import { backoffMs, RECONNECT } from "./retry.js";

export interface Patience {
  readonly clock: Clock;
  readonly forMs: number;
  readonly signal: AbortSignal | undefined;
}

/** Opens, and while the server cannot be reached tries again for `forMs`. Every other failure is final. */
export async function openPatiently(
  open: () => Promise<Backend>,
  { clock, forMs, signal }: Patience,
): Promise<Backend> {
  const deadline = clock.now() + forMs;
  for (let failures = 1; ; failures += 1) {
    try {
      return await open();
    } catch (error) {
      const leftMs = deadline - clock.now();
      if (!(error instanceof ConnectionError) || leftMs <= 0) throw error;
      await wait(clock, Math.min(leftMs, pauseMs(failures)), signal);
      signal?.throwIfAborted();
    }
  }
}

export interface PrimaryOptions {
  /** Opens the backend at the start, with all the patience there is. */
  readonly openFirst: () => Promise<Backend>;
  /** Tries once to open it. Both reject with `ConnectionError` while its server is absent. */
  readonly open: () => Promise<Backend>;
  readonly context: BackendContext;
  /** Called once, when it has been opened in the background, before anybody uses it. */
  readonly opened: (backend: Backend) => Promise<void>;
}

export class Primary {
  readonly #options: PrimaryOptions;
  readonly #closing = new AbortController();
  #backend: Backend | undefined;
  #problem: Error = new ConnectionError("the server was not asked yet");

  constructor(options: PrimaryOptions) {
    this.#options = options;
  }

  /** Undefined while the server was never there. */
  get backend(): Backend | undefined {
    return this.#backend;
  }

  /** Why there is none. */
  get problem(): Error {
    return this.#problem;
  }

  /** Opens it now, or from now on in the background. @throws whatever is no absence */
  async start(): Promise<void> {
    try {
      this.#backend = await this.#options.openFirst();
    } catch (error) {
      if (!(error instanceof ConnectionError)) throw error;
      this.#problem = error;
      void this.#keepOpening();
    }
  }

  /** @throws {ConnectionError} while it is not open; everything that needs the server is refused then */
  use(): Backend {
    if (this.#closing.signal.aborted) throw new ClosedError("the broker is closed");
    if (this.#backend !== undefined) return this.#backend;
    const { message } = this.#problem;
    throw new ConnectionError(`the server has not been reached yet: ${message}`, { cause: this.#problem });
  }

  /** Safe to call twice. */
  async close(): Promise<void> {
    this.#closing.abort();
    // What is being opened closes itself: it may take as long as its server does not answer.
    await this.#backend?.close();
  }

  /** Never rejects. */
  async #keepOpening(): Promise<void> {
    const { context } = this.#options;
    const { signal } = this.#closing;
    for (let failures = 1; !signal.aborted; failures += 1) {
      await wait(context.clock, pauseMs(failures), signal);
      if (signal.aborted) return;
      try {
        this.#backend = await this.#openOnce();
        return;
      } catch (error) {
        const problem = toError(error);
        // An operator may put it right, so that it is tried again; but it is no absence any more, and new.
        if (!(problem instanceof ConnectionError) && problem.message !== this.#problem.message)
          context.report(problem, "opening the server that a fallback stands in for");
        this.#problem = problem;
      }
    }
  }

  /** @returns nothing when this was closed meanwhile */
  async #openOnce(): Promise<Backend | undefined> {
    const { open, opened } = this.#options;
    const backend = await open();
    try {
      if (!this.#closing.signal.aborted) await opened(backend);
    } catch (error) {
      await backend.close();
      throw error;
    }
    if (!this.#closing.signal.aborted) return backend;
    await backend.close();
    return undefined;
  }
}

function pauseMs(failures: number): number {
  return backoffMs(RECONNECT, Math.min(failures, 10));
}

/** The log of a backend that may not be there yet. */
export function logOf(primary: Primary): Log {
  const log = (): Log => primary.use().log;
  return {
    append: async (...args) => log().append(...args),
    read: async (...args) => log().read(...args),
    configure: async (...args) => log().configure(...args),
    changeRetention: async (...args) => log().changeRetention(...args),
    trim: async (...args) => log().trim(...args),
    createGroup: async (...args) => log().createGroup(...args),
    configureGroup: async (...args) => log().configureGroup(...args),
    seek: async (...args) => log().seek(...args),
    pause: async (...args) => log().pause(...args),
    resume: async (...args) => log().resume(...args),
    deleteGroup: async (...args) => log().deleteGroup(...args),
    open: async (...args) => log().open(...args),
    deadLetters: (...args) => lettersOf(() => log().deadLetters(...args)),
    park: async (...args) => log().park(...args),
    stats: async (...args) => log().stats(...args),
  };
}

/** The queue of a backend that may not be there yet. */
export function queueOf(primary: Primary): Queue {
  const queue = (): Queue => primary.use().queue;
  return {
    push: async (...args) => queue().push(...args),
    open: async (...args) => queue().open(...args),
    deadLetters: (...args) => lettersOf(() => queue().deadLetters(...args)),
    stats: async (...args) => queue().stats(...args),
    register: async (...args) => queue().register(...args),
    unregister: async (...args) => queue().unregister(...args),
    recipients: async (...args) => queue().recipients(...args),
    pause: async (...args) => queue().pause(...args),
    resume: async (...args) => queue().resume(...args),
    configure: async (...args) => queue().configure(...args),
    browse: async (...args) => queue().browse(...args),
    get: async (...args) => queue().get(...args),
    list: async (...args) => queue().list(...args),
    count: async (...args) => queue().count(...args),
    acknowledge: async (...args) => queue().acknowledge(...args),
    remove: async (...args) => queue().remove(...args),
    clear: async (...args) => queue().clear(...args),
  };
}

/** The membership of a backend that may not be there yet. */
export function membershipOf(primary: Primary): Membership {
  const membership = (): Membership => primary.use().membership;
  return {
    begin: async (...args) => membership().begin(...args),
    renew: async (...args) => membership().renew(...args),
    end: async (...args) => membership().end(...args),
    join: async (...args) => membership().join(...args),
    leave: async (...args) => membership().leave(...args),
    list: async (...args) => membership().list(...args),
    find: async (...args) => membership().find(...args),
    versions: async (...args) => membership().versions(...args),
    lapsing: async () => membership().lapsing(),
    reap: async (...args) => membership().reap(...args),
  };
}

function lettersOf(letters: () => DeadLetters): DeadLetters {
  return {
    list: async (...args) => letters().list(...args),
    get: async (...args) => letters().get(...args),
    redrive: async (...args) => letters().redrive(...args),
    remove: async (...args) => letters().remove(...args),
    purge: async (...args) => letters().purge(...args),
  };
}
