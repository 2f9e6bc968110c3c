/** What the rest of the Redis backend knows about connections: types only, so that ports can be read without sockets. */

import type { BackendContext, Durability } from "../../core/backend.js";

/** A command's words. Text is sent as UTF-8. */
export type Arg = string | Buffer;

/** A reply as it came: bulk strings are Buffers, integers numbers, nil null, arrays arrays. */
export type Reply = Buffer | number | string | null | readonly Reply[];

/**
 * A connection to the primary that owns some key, for as long as the broker lives: sockets come and go beneath it.
 *
 * Commands are pipelined in the order they were given. A command that the server refused without running it because it
 * is not (or not yet) the right one (LOADING, BUSY, TRYAGAIN, CLUSTERDOWN, MASTERDOWN, READONLY, MOVED, ASK) is sent
 * again to the right one by the connection itself, until the deadline. One that was interrupted after it had been
 * written is never sent again: it rejects with `ConnectionError { interrupted: true }`.
 */
export interface Connection {
  /**
   * @throws {ConnectionError} when no primary can be reached until the deadline (`interrupted: false`), or the socket
   *   broke with the command under way (`interrupted: true`)
   * @throws {TimeoutError} never: a deadline that passes with the command under way destroys the socket, and every
   *   command under way on it rejects as interrupted
   * @throws {LimitError} when 10,000 commands wait for a connection already
   * @throws {AuthError | OutOfMemoryError | ClosedError | SignalboxError} for what the server or the broker says
   */
  command(args: readonly Arg[], options?: CommandOptions): Promise<Reply>;
  /**
   * Sends two commands with nothing between them, on one socket: a script and the WAIT that covers it.
   *
   * Resolves with both replies. Rejects as `command` does for the first; when the first was answered and the second was
   * not, or was refused, it rejects with `ConnectionError { interrupted: true }`.
   */
  pair(
    first: readonly Arg[],
    second: readonly Arg[],
    options?: CommandOptions,
  ): Promise<readonly [first: Reply, second: Reply]>;
}

export interface CommandOptions {
  /**
   * How long the whole call may take, reconnecting included. Default: the `commandTimeoutMs` of the options. A command that
   * had to wait for its connection is given up to a second from when it is sent, on a blocking connection all of this again.
   */
  readonly deadlineMs?: number;
}

/** A connection of one's own, for blocking reads. */
export interface OwnConnection extends Connection {
  /** Counts the sockets opened so far: a change between two commands means that something may have been lost between them. */
  readonly generation: number;
  /** Whether there is a socket to send on now. */
  readonly isOpen: boolean;
  /** Ends a command that blocks now, which then resolves with null: by CLIENT UNBLOCK, or by dropping the socket. */
  unblock(): void;
  close(): void;
}

/** Where connections come from: standalone, Sentinel or Cluster; callers cannot tell. */
export interface Connections {
  /** For short commands and scripts on `key`'s slot; shared by everyone in the backend. */
  shared(key: string): Connection;
  /** For scripts that publish to `key`'s slot; nothing else travels on it, so that WAIT covers just them. */
  publishing(key: string): Connection;
  /**
   * A connection for blocking on `key`'s slot. At most `maxBlockingConnections` exist; undefined beyond that: the
   * caller then looks once a second on the shared one.
   */
  blocking(key: string): OwnConnection | undefined;
}

/** What each durable port is made from. */
export interface PortDependencies {
  readonly connections: Connections;
  readonly context: BackendContext;
  /** What a resolved `append` or `push` must have attained. */
  readonly durability: Durability;
  /** Replicas that must have a write before it counts as `replicated`. */
  readonly replicas: number;
  /** How long one batch is tried in all. */
  readonly publishTimeoutMs?: number | undefined;
}

/** One Lua script: EVALSHA, and EVAL once where the server does not know it (SCRIPT FLUSH, a restart, a failover). */
export interface Script {
  readonly name: string;
  run(connection: Connection, keys: readonly string[], args: readonly Arg[], options?: CommandOptions): Promise<Reply>;
}
