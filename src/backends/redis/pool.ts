/** All connections of one backend: which there are, how they open, and what keeps them honest. */

import type { BackendContext } from "../../core/backend.js";
import type { Timer } from "../../core/clock.js";
import { ConnectionError, type SignalboxError } from "../../core/errors.js";
import { ClusterTopology } from "./cluster.js";
import type { Connection, Connections, OwnConnection } from "./connection.js";
import { confirmPrimary } from "./info.js";
import { closedError, Lane, LaneConnection, type LaneSettings } from "./lane.js";
import { uptime } from "./ledger.js";
import type { Opener } from "./link.js";
import { BlockingConnection } from "./own.js";
import { SentinelTopology } from "./sentinel.js";
import { openSocket, type Socket, type SocketSettings } from "./socket.js";
import type { RedisOptions, RedisTarget, Server } from "./target.js";
import { standaloneTopology, type Topology } from "./topology.js";

const DEFAULT_TIMEOUT_MS = 5_000;
/** An attempt to connect once one has succeeded. */
const RECONNECT_MS = 2_000;
const DEFAULT_MAX_BLOCKING = 50;
/** How often a silent socket is asked for a sign of life. */
const KEEP_ALIVE_MS = 2_000;
/** One loss in so many milliseconds is reported per server: fifty readers lose theirs together. */
const REPORT_EVERY_MS = 5_000;

export class Pool {
  readonly connections: Connections;
  readonly topology: Topology;
  /** How to get a socket to a primary, for sockets that are not a lane's. */
  readonly open: Opener;
  readonly commandTimeoutMs: number;
  readonly connectTimeoutMs: number;
  /** Short commands of everyone. */
  readonly commands: Lane;
  /** What publishes durably; undefined until something has. */
  publishing: Lane | undefined;
  readonly blocking: Set<BlockingConnection> = new Set();
  /** Sockets beyond the lanes' that are to be kept alive. */
  readonly others: Set<() => Iterable<Socket>> = new Set();
  /** Told of each new socket for commands. */
  onCommandSocket: ((socket: Socket) => void) | undefined;
  /** Tells about a lost connection that no caller may be waiting for. */
  readonly lost: (server: Server, reason: SignalboxError) => void;
  readonly #context: BackendContext;
  readonly #maxBlocking: number;
  readonly #keepAlive: Timer;
  #closed = false;

  /** Opens nothing before the first command. */
  constructor(target: RedisTarget, options: RedisOptions, context: BackendContext) {
    this.#context = context;
    this.#maxBlocking = options.maxBlockingConnections ?? DEFAULT_MAX_BLOCKING;
    this.commandTimeoutMs = options.commandTimeoutMs ?? DEFAULT_TIMEOUT_MS;
    this.connectTimeoutMs = options.connectTimeoutMs ?? DEFAULT_TIMEOUT_MS;
    const settings = socketSettings(target, options, context, this.connectTimeoutMs);
    this.topology = topologyOf(target, options, settings);
    this.open = opener(this.topology, settings);
    this.lost = lossReporter(context);
    this.commands = this.#lane((socket) => this.onCommandSocket?.(socket));
    this.topology.onChange(() => {
      this.commands.update();
      this.publishing?.update();
      for (const own of this.blocking) own.update();
    });
    const shared = this.#perSlot(this.commands);
    let publishing: ((key: string) => Connection) | undefined;
    this.connections = {
      shared,
      publishing: (key) => (publishing ??= this.#perSlot(this.#openPublishing()))(key),
      blocking: (key) => this.#openBlocking(key),
    };
    this.#keepAlive = startKeepAlive(context, this.commandTimeoutMs, () => this.#sockets());
  }

  /** Ends every socket and timer. Safe to call twice. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#keepAlive.cancel();
    this.topology.close();
    for (const own of this.blocking) own.shut(closedError());
    this.commands.close();
    this.publishing?.close();
  }

  #laneSettings(): Omit<LaneSettings, "afterWaiting" | "keep"> {
    const { topology, open, commandTimeoutMs, lost } = this;
    return { topology, open, clock: this.#context.clock, commandTimeoutMs, onLost: lost };
  }

  #lane(onLive: (socket: Socket) => void): Lane {
    const keep = (): readonly number[] => this.topology.primarySlots();
    return new Lane({ ...this.#laneSettings(), afterWaiting: "a moment", keep, onLive });
  }

  #openPublishing(): Lane {
    this.publishing = this.#lane(() => {});
    if (this.#closed) this.publishing.close();
    this.publishing.update();
    return this.publishing;
  }

  #perSlot(lane: Lane): (key: string) => Connection {
    const made: Connection[] = [];
    return (key) => {
      const slot = this.topology.slotOf(key);
      return (made[slot] ??= new LaneConnection(lane, slot));
    };
  }

  #openBlocking(key: string): OwnConnection | undefined {
    if (this.blocking.size >= this.#maxBlocking) return undefined;
    const own = new BlockingConnection(this.topology.slotOf(key), {
      ...this.#laneSettings(),
      socketTo: (server) => this.commands.socketTo(server),
      onClose: () => void this.blocking.delete(own),
    });
    if (this.#closed) own.shut(closedError());
    else this.blocking.add(own);
    return own;
  }

  *#sockets(): Generator<Socket> {
    yield* this.commands.sockets();
    if (this.publishing !== undefined) yield* this.publishing.sockets();
    // One whose consumer has its hands full does not block, and is idle.
    for (const own of this.blocking) yield* own.sockets();
    for (const sockets of this.others) yield* sockets();
  }
}

function socketSettings(
  target: RedisTarget,
  options: RedisOptions,
  context: BackendContext,
  connectTimeoutMs: number,
): SocketSettings {
  return {
    login: { username: target.username, password: target.password, database: target.database },
    tls: target.tls ? (options.tls ?? {}) : undefined,
    clientName: options.clientName ?? "signalbox",
    connectTimeoutMs,
    clock: context.clock,
  };
}

function topologyOf(target: RedisTarget, options: RedisOptions, settings: SocketSettings): Topology {
  switch (target.kind) {
    case "standalone":
    case "socket":
      return standaloneTopology(target, confirmPrimary);
    case "cluster":
      return new ClusterTopology(target, settings);
    case "sentinel":
      return new SentinelTopology(target, settings, {
        username: options.sentinelUsername,
        password: options.sentinelPassword,
        database: 0,
      });
  }
}

/**
 * An attempt may take `connectTimeoutMs` in all, and far less once one has succeeded: what was swallowed on the way has to be
 * asked again soon. On a slow line that is four times as long as the quickest attempt took.
 */
function opener(topology: Topology, settings: SocketSettings): Opener {
  let quickestMs = Number.POSITIVE_INFINITY;
  return async (server, signal) => {
    const startedAt = uptime();
    const timeoutMs = Math.min(settings.connectTimeoutMs, Math.max(RECONNECT_MS, 4 * quickestMs));
    const socket = await openSocket(server, { ...settings, connectTimeoutMs: timeoutMs }, signal);
    const close = (): void => socket.destroy("closed");
    const leftMs = Math.max(1, startedAt + timeoutMs - uptime());
    let refusal: unknown;
    signal.addEventListener("abort", close, { once: true });
    try {
      // A name helps the operator; a user who may not set one is served all the same.
      socket.ask(["CLIENT", "SETNAME", settings.clientName], leftMs).catch((error: unknown) => {
        refusal = error;
      });
      await topology.confirm(socket, leftMs);
      quickestMs = Math.min(quickestMs, uptime() - startedAt);
      return socket;
    } catch (error) {
      socket.destroy("it is of no use");
      // A server that is full says so to the first command, and hangs up.
      throw refusal instanceof ConnectionError && !refusal.interrupted ? refusal : error;
    } finally {
      signal.removeEventListener("abort", close);
    }
  };
}

function lossReporter(context: BackendContext): (server: Server, reason: SignalboxError) => void {
  const reportedAt = new Map<Server, number>();
  return (server, reason) => {
    const now = uptime();
    if (now - (reportedAt.get(server) ?? Number.NEGATIVE_INFINITY) < REPORT_EVERY_MS) return;
    reportedAt.set(server, now);
    context.report(reason, "redis connection");
  };
}

/** Asks idle sockets for a sign of life, so that a dead one is found before somebody needs it. */
function startKeepAlive(context: BackendContext, timeoutMs: number, sockets: () => Iterable<Socket>): Timer {
  let timer: Timer;
  const next = (): void => {
    timer = context.clock.setTimer(() => {
      for (const socket of sockets()) {
        // Its deadline is what matters; the loss is told by the socket itself.
        if (socket.underway === 0) socket.ask(["PING"], timeoutMs).catch(() => {});
      }
      next();
    }, KEEP_ALIVE_MS);
  };
  next();
  return { cancel: () => timer.cancel() };
}
