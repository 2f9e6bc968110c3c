/** One socket to one server: sends, counts what is under way, and dies rather than wait past a deadline. */

import { isIP } from "node:net";
import { ErrorReply, RedisClient, RESP_TYPES } from "@redis/client";
import type { Clock, Timer } from "../../core/clock.js";
import { ConnectionError, type SignalboxError, toError } from "../../core/errors.js";
import type { Arg, Reply } from "./connection.js";
import { replyError } from "./errors.js";
import { Ledger, uptime } from "./ledger.js";
import type { Login, Server, TlsOptions } from "./target.js";

/** How to get into a server. */
export interface SocketSettings {
  readonly login: Login;
  /** Undefined: no TLS. */
  readonly tls: TlsOptions | undefined;
  readonly clientName: string;
  /** How long one attempt may take, the server's first answer included. */
  readonly connectTimeoutMs: number;
  readonly clock: Clock;
}

export type PubSubKind = "channel" | "pattern" | "sharded";
export type PubSubListener = (message: Buffer, channel: Buffer) => void;

/** How the client calls them. */
const TYPES = { channel: "CHANNELS", pattern: "PATTERNS", sharded: "SHARDED" } as const;

/** The client's listeners of one name; it takes several names in one command only in this form. */
interface ClientListeners {
  readonly unsubscribing: boolean;
  readonly buffers: Set<PubSubListener>;
  readonly strings: Set<never>;
}

/** What is used of the package's client. */
interface Client {
  on(event: "error" | "end" | "sharded-channel-moved", listener: (what: unknown) => void): unknown;
  connect(): Promise<unknown>;
  destroy(): void;
  sendCommand<T>(args: readonly Arg[]): Promise<T>;
  extendPubSubListeners(type: (typeof TYPES)[PubSubKind], listeners: Map<string, ClientListeners>): Promise<void>;
  unsubscribe(names: string[]): Promise<void>;
  pUnsubscribe(names: string[]): Promise<void>;
  sUnsubscribe(names: string[]): Promise<void>;
}

/** When the system looks for itself whether a silent peer is still there: before a router forgets the connection. */
const KEEP_ALIVE = { keepAlive: true, keepAliveInitialDelay: 5_000 } as const;
/** As long as a socket that is no longer used may take to answer what is under way. */
const RETIRE_MS = 1_000;

/** RESP 2 has the fewest types: every reply is what `Reply` says. */
const CONFIG = { RESP: 2 } as const;
/** Made once: `createClient` builds a class of hundreds of commands anew, in 40 ms, whenever two calls in a row differ. */
const instantiate = RedisClient.factory(CONFIG);

function newClient(server: Server, settings: SocketSettings, signal: AbortSignal): Client {
  const { login } = settings;
  // The signal ends an attempt in time; the client's own timeout would watch every byte for ever.
  const common = { connectTimeout: 0, reconnectStrategy: false, signal } as const;
  const { at } = server;
  return instantiate({
    ...CONFIG,
    database: login.database,
    ...(login.username === undefined ? {} : { username: login.username }),
    ...(login.password === undefined ? {} : { password: login.password }),
    socket:
      "path" in at
        ? { ...common, path: at.path, tls: false }
        : { ...common, ...KEEP_ALIVE, ...at, ...(settings.tls === undefined ? {} : tlsFor(at.host, settings.tls)) },
    disableOfflineQueue: true,
    disableClientInfo: true,
    maintNotifications: "disabled",
    // The client's own timeout costs five times the command and ends before the command is written.
    commandOptions: { timeout: 0, typeMapping: { [RESP_TYPES.BLOB_STRING]: Buffer } },
  });
}

function tlsFor(host: string, options: TlsOptions) {
  // Node sends no server name by itself, and Redis behind a TLS router is found by it.
  const servername = options.servername ?? (isIP(host) === 0 ? host : undefined);
  return { tls: true, ...options, ...(servername === undefined ? {} : { servername }) } as const;
}

/**
 * Connects and logs in.
 *
 * @throws {AuthError} when the server refuses the login
 * @throws {ConnectionError} when it cannot be reached or does not answer in time
 */
export async function openSocket(server: Server, settings: SocketSettings, signal?: AbortSignal): Promise<Socket> {
  const abort = new AbortController();
  const client = newClient(server, settings, abort.signal);
  let late = false;
  // Errors reach the caller through `connect`, and `Socket` once there is one.
  client.on("error", () => {});
  const giveUp = (): void => abort.abort();
  const timer = settings.clock.setTimer(() => {
    late = true;
    giveUp();
  }, settings.connectTimeoutMs);
  signal?.addEventListener("abort", giveUp, { once: true });
  try {
    if (signal?.aborted) giveUp();
    await client.connect();
    return new Socket(server, client, abort, settings.clock);
  } catch (error) {
    client.destroy();
    abort.abort();
    if (error instanceof ErrorReply) throw replyError([`the login at ${server.name}`], error.message);
    const reason = late ? `no answer within ${settings.connectTimeoutMs} ms` : toError(error).message;
    throw new ConnectionError(`cannot connect to Redis at ${server.name}: ${reason}`, { cause: error });
  } finally {
    timer.cancel();
    signal?.removeEventListener("abort", giveUp);
  }
}

export class Socket {
  readonly server: Server;
  /** Why it ended; undefined while it lives. */
  ended: SignalboxError | undefined;
  /** Called once, before the commands under way are rejected. */
  onEnd: ((reason: SignalboxError) => void) | undefined;
  /** Counts pushed messages: a sign of life that no command accounts for. */
  heard: (() => number) | undefined;
  /** Told the name of a sharded channel that the server has ended, since its slot has moved. */
  onMoved: ((name: string) => void) | undefined;
  readonly #client: Client;
  readonly #abort: AbortController;
  readonly #clock: Clock;
  readonly #ledger: Ledger;
  #heardAtExpiry = 0;
  #retirement: Timer | undefined;
  readonly #answered = (reply: unknown): Reply => {
    this.#ledger.answered();
    // RESP 2 with Buffers for bulk strings has no other types.
    return reply as Reply;
  };

  constructor(server: Server, client: Client, abort: AbortController, clock: Clock) {
    this.server = server;
    this.#client = client;
    this.#abort = abort;
    this.#clock = clock;
    this.#ledger = new Ledger(clock, () => this.#expired());
    // After such an event the client may believe itself well (a reply that it cannot parse), so it never lives on.
    client.on("error", (error: unknown) => this.destroy(`the connection broke: ${toError(error).message}`));
    client.on("end", () => this.destroy("the connection was closed"));
    client.on("sharded-channel-moved", (name) => this.onMoved?.(String(name)));
  }

  /** Commands that have no answer yet. */
  get underway(): number {
    return this.#ledger.size;
  }

  /**
   * Sends at once, behind whatever was sent before.
   *
   * @param failed told the client's error; what it returns or throws becomes the result. `isServerReply` tells a refusal
   *   by the server from the loss of the socket.
   */
  send(args: readonly Arg[], deadlineAt: number, failed: (error: unknown) => Promise<Reply>): Promise<Reply> {
    this.#ledger.sent(deadlineAt);
    return this.#client.sendCommand<unknown>(args).then(this.#answered, (error: unknown) => {
      this.#ledger.answered();
      return failed(error);
    });
  }

  /** Sends a command about the server itself; rejects with a typed error and is never sent again. */
  ask(args: readonly Arg[], timeoutMs: number): Promise<Reply> {
    return this.send(args, uptime() + timeoutMs, (error) => {
      throw this.typed(args, error);
    });
  }

  /** The client's error as ours. */
  typed(command: readonly Arg[], error: unknown): SignalboxError {
    if (isServerReply(error)) return replyError(command, error.message);
    const reason = this.ended?.message ?? toError(error).message;
    return new ConnectionError(`${String(command[0])} was under way: ${reason}`, {
      interrupted: true,
      cause: this.ended ?? error,
    });
  }

  /**
   * Subscribes to names that are not subscribed to, each with a listener of its own, in one command. Resolves when Redis
   * has confirmed all of them; rejects as the client does. A refusal is for all of them.
   */
  async subscribe(
    kind: PubSubKind,
    names: readonly (readonly [name: string, listener: PubSubListener])[],
    timeoutMs: number,
  ): Promise<void> {
    const listeners = new Map(
      names.map(([name, listener]) => [
        name,
        { unsubscribing: false, buffers: new Set([listener]), strings: new Set<never>() },
      ]),
    );
    try {
      await this.#watched(this.#client.extendPubSubListeners(TYPES[kind], listeners), timeoutMs);
    } catch (error) {
      // The client takes them for subscribed from the call on.
      if (isServerReply(error)) await this.#unsubscribe(kind, [...listeners.keys()], timeoutMs);
      throw error;
    }
  }

  /** @throws as the client does */
  async unsubscribe(kind: PubSubKind, name: string, timeoutMs: number): Promise<void> {
    await this.#unsubscribe(kind, [name], timeoutMs);
  }

  async #unsubscribe(kind: PubSubKind, names: string[], timeoutMs: number): Promise<void> {
    const client = this.#client;
    const calls = {
      channel: () => client.unsubscribe(names),
      pattern: () => client.pUnsubscribe(names),
      sharded: () => client.sUnsubscribe(names),
    };
    await this.#watched(calls[kind](), timeoutMs);
  }

  /** Lets it answer what is under way, then ends it. */
  retire(reason: string): void {
    if (this.#ledger.size === 0) {
      this.destroy(reason);
      return;
    }
    this.#retirement ??= this.#clock.setTimer(() => this.destroy(reason), RETIRE_MS);
    this.#ledger.onEmpty = () => this.destroy(reason);
  }

  /** Ends it at once; commands under way are rejected as interrupted. Safe to call twice. */
  destroy(reason: string | SignalboxError): void {
    if (this.ended !== undefined) return;
    this.ended = typeof reason === "string" ? new ConnectionError(`Redis at ${this.server.name}: ${reason}`) : reason;
    this.#ledger.close();
    this.#retirement?.cancel();
    this.onEnd?.(this.ended);
    this.#client.destroy();
    this.#abort.abort();
  }

  async #watched(call: Promise<unknown>, timeoutMs: number): Promise<void> {
    this.#ledger.sent(uptime() + timeoutMs);
    try {
      await call;
    } finally {
      this.#ledger.answered();
    }
  }

  #expired(): void {
    // A flood of messages may keep an answer waiting; a server that sends is alive.
    const heard = this.heard?.() ?? 0;
    if (heard > this.#heardAtExpiry) {
      this.#heardAtExpiry = heard;
      this.#ledger.postpone(1_000);
      return;
    }
    this.destroy("no answer before the deadline of a command");
  }
}

/** Whether the server itself answered with an error; anything else is the loss of the socket. */
export function isServerReply(error: unknown): error is ErrorReply {
  return error instanceof ErrorReply;
}
