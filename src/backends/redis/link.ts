/** Keeps one socket to one server open: connects, and connects again with a backoff, until it is closed. */

import type { Clock, Timer } from "../../core/clock.js";
import { ConnectionError, type SignalboxError } from "../../core/errors.js";
import { uptime } from "./ledger.js";
import type { Socket } from "./socket.js";
import type { Server } from "./target.js";

const FIRST_BACKOFF_MS = 20;
const MIN_BACKOFF_MS = 50;
const MAX_BACKOFF_MS = 1_000;
/** A socket that lives shorter counts as a failed attempt: a server may accept and drop. */
const LASTING_MS = 1_000;
/** A refused login is tried again this slowly: it was an administrator's doing, and takes another to undo. */
const REFUSED_MS = 2_000;
/** How often a pausing link looks whether everything has been answered. */
const ANSWERS_MS = 5;

export interface LinkEvents {
  /** There is a socket. Called before anything else can send on it. */
  live(link: Link, socket: Socket): void;
  /** The server may be asked again after a pause. */
  resumed(link: Link): void;
  /** The socket has ended; commands under way are about to be rejected. */
  lost(link: Link, reason: SignalboxError): void;
  /** An attempt to connect has failed; the next one follows. */
  failed(link: Link, reason: SignalboxError): void;
}

/** Opens a socket that may be used: connected, logged in, and to a primary where that matters. Rejects with typed errors. */
export type Opener = (server: Server, signal: AbortSignal) => Promise<Socket>;

export class Link {
  readonly server: Server;
  /** What to send on; undefined while there is no connection, or while the server asked to be left alone. */
  socket: Socket | undefined;
  /** Why the last attempt failed or the last socket ended; undefined while there is one. */
  problem: SignalboxError | undefined;
  readonly #open: Opener;
  readonly #clock: Clock;
  readonly #events: LinkEvents;
  readonly #closing = new AbortController();
  #current: Socket | undefined;
  /** Given up, but still answering. */
  #former: Socket | undefined;
  #connecting = false;
  #failures = 0;
  #liveSince = 0;
  #timer: Timer | undefined;
  #pause: Timer | undefined;

  constructor(server: Server, open: Opener, clock: Clock, events: LinkEvents) {
    this.server = server;
    this.#open = open;
    this.#clock = clock;
    this.#events = events;
  }

  /** Begins to connect, where it has not begun yet. */
  start(): void {
    if (this.#closing.signal.aborted || this.#current || this.#connecting || this.#timer) return;
    void this.#connect();
  }

  /** Whether there is a socket, be it a pausing one. */
  get connected(): boolean {
    return this.#current !== undefined;
  }

  /**
   * Sends nothing new for `ms`, as the server asked, and until it has answered what is under way: it may refuse that as
   * well, and what is sent again must not fall behind what was never refused.
   */
  pause(ms: number): void {
    if (this.#current === undefined || this.#pause !== undefined) return;
    this.socket = undefined;
    this.#pause = this.#clock.setTimer(() => {
      this.#pause = undefined;
      if (this.#current === undefined) return;
      if (this.#current.underway > 0) {
        this.pause(ANSWERS_MS);
        return;
      }
      this.socket = this.#current;
      this.#events.resumed(this);
    }, ms);
  }

  /** Gives the socket up in favour of a new one, once it has answered what is under way. */
  replace(socket: Socket, reason: string): void {
    if (this.#current !== socket) return;
    const problem = new ConnectionError(reason);
    socket.onEnd = undefined;
    this.#former?.destroy(reason);
    this.#former = socket;
    socket.retire(reason);
    this.#ended(problem);
  }

  /** Ends the socket, and every attempt to have another. Safe to call twice. */
  close(reason: string | SignalboxError): void {
    if (this.#closing.signal.aborted) return;
    this.#closing.abort();
    this.#timer?.cancel();
    this.#pause?.cancel();
    this.#former?.destroy(reason);
    const socket = this.#current;
    this.#current = undefined;
    this.socket = undefined;
    if (socket === undefined) return;
    socket.onEnd = undefined;
    socket.destroy(reason);
  }

  async #connect(): Promise<void> {
    this.#connecting = true;
    const { signal } = this.#closing;
    let socket: Socket;
    try {
      socket = await this.#open(this.server, signal);
    } catch (error) {
      this.#connecting = false;
      if (signal.aborted) return;
      // The opener rejects with typed errors only.
      this.problem = error as SignalboxError;
      this.#failures += 1;
      this.#retry();
      this.#events.failed(this, this.problem);
      return;
    }
    this.#connecting = false;
    if (signal.aborted) return socket.destroy("closed");
    if (socket.ended !== undefined) return this.#ended(socket.ended);
    this.#current = socket;
    this.socket = socket;
    this.problem = undefined;
    this.#liveSince = uptime();
    socket.onEnd = (reason) => this.#ended(reason);
    this.#events.live(this, socket);
  }

  #ended(reason: SignalboxError): void {
    this.#current = undefined;
    this.socket = undefined;
    this.#pause?.cancel();
    this.#pause = undefined;
    this.problem = reason;
    this.#failures = uptime() - this.#liveSince < LASTING_MS ? this.#failures + 1 : 0;
    this.#retry();
    this.#events.lost(this, reason);
  }

  #retry(): void {
    const { signal } = this.#closing;
    if (signal.aborted || this.#timer !== undefined) return;
    this.#timer = this.#clock.setTimer(
      () => {
        this.#timer = undefined;
        this.start();
      },
      this.problem?.retryable === false ? REFUSED_MS * (0.5 + Math.random() / 2) : backoffMs(this.#failures),
    );
  }
}

/** How long to wait after so many failures in a row: 50 ms, doubling up to a second, each between half and whole. */
export function backoffMs(failures: number): number {
  // Whoever drops one client drops them all, and they need not come back in the same millisecond.
  if (failures === 0) return Math.random() * FIRST_BACKOFF_MS;
  const longest = Math.min(MIN_BACKOFF_MS * 2 ** (failures - 1), MAX_BACKOFF_MS);
  return longest * (0.5 + Math.random() / 2);
}
