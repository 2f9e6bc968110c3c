/** All connections of one backend: which there are, how they open, and what keeps them honest. */

import type { BackendContext } from "../../core/backend.js";
import type { Timer } from "../../core/clock.js";
import type { SignalboxError } from "../../core/errors.js";
import { clusterTopology } from "./cluster.js";
import type { Connection, Connections, OwnConnection } from "./connection.js";
import { confirmPrimary } from "./info.js";
import { closedError, Lane, LaneConnection, type LaneSettings } from "./lane.js";
import { uptime } from "./ledger.js";
import type { Opener } from "./link.js";
import { type BlockingConnection, openOwn } from "./own.js";
import { sentinelTopology } from "./sentinel.js";
import { openSocket, type Socket, type SocketSettings } from "./socket.js";
import type { RedisOptions, RedisTarget, Server } from "./target.js";
import { standaloneTopology, type Topology } from "./topology.js";

const DEFAULT_TIMEOUT_MS = 5_000;
const DEFAULT_MAX_BLOCKING = 50;
/** How often a silent socket is asked for a sign of life. */
const KEEP_ALIVE_MS = 2_000;
/** One loss in so many milliseconds is reported per server: fifty readers lose theirs together. */
const REPORT_EVERY_MS = 5_000;

export interface Pool {
  readonly connections: Connections;
  readonly topology: Topology;
  /** How `openSocket` gets into a server, for sockets that are not a lane's. */
  readonly open: Opener;
  readonly commandTimeoutMs: number;
  readonly connectTimeoutMs: number;
  readonly commands: Lane;
  /** Undefined until something has been published. */
  readonly publishing: () => Lane | undefined;
  readonly blocking: ReadonlySet<BlockingConnection>;
  /** Sockets beyond the lanes' that are to be kept alive. */
  readonly others: Set<() => Iterable<Socket>>;
  /** Tells about a lost connection that no caller may be waiting for. */
  lost(server: Server, reason: SignalboxError): void;
  /** Ends every socket and timer. Safe to call twice. */
  close(): void;
}

/** Makes the connections of a backend; none is opened before the first command. */
export function createPool(target: RedisTarget, options: RedisOptions, context: BackendContext): Pool {
  const { clock } = context;
  const connectTimeoutMs = options.connectTimeoutMs ?? DEFAULT_TIMEOUT_MS;
  const commandTimeoutMs = options.commandTimeoutMs ?? DEFAULT_TIMEOUT_MS;
  const settings = socketSettings(target, options, context, connectTimeoutMs);
  const topology = topologyOf(target, options, settings);
  const lost = lossReporter(context);
  const open = opener(topology, settings);
  const laneSettings = { topology, open, clock, commandTimeoutMs, onLost: lost };
  const lane = (more: Partial<LaneSettings> = {}): Lane =>
    new Lane({ ...laneSettings, keep: () => topology.primarySlots(), ...more });

  const commands = lane();
  let publishing: Lane | undefined;
  const blocking = new Set<BlockingConnection>();
  topology.onChange(() => {
    commands.update();
    publishing?.update();
    for (const own of blocking) own.update();
  });

  const perSlot = (of: Lane): ((key: string) => Connection) => {
    const made: Connection[] = [];
    return (key) => {
      const slot = topology.slotOf(key);
      return (made[slot] ??= new LaneConnection(of, slot));
    };
  };
  const openBlocking = (key: string): OwnConnection | undefined => {
    if (closed) throw closedError();
    if (blocking.size >= (options.maxBlockingConnections ?? DEFAULT_MAX_BLOCKING)) return undefined;
    const own = openOwn(topology.slotOf(key), {
      ...laneSettings,
      socketTo: (server) => commands.socketTo(server),
      onClose: () => blocking.delete(own),
    });
    blocking.add(own);
    return own;
  };
  let forPublishing: ((key: string) => Connection) | undefined;

  const others = new Set<() => Iterable<Socket>>();
  const keepAlive = startKeepAlive(context, commandTimeoutMs, () => [
    ...commands.sockets(),
    ...(publishing?.sockets() ?? []),
    ...[...others].flatMap((list) => [...list()]),
  ]);
  let closed = false;
  return {
    connections: {
      shared: perSlot(commands),
      publishing(key) {
        if (forPublishing === undefined) {
          publishing = lane();
          if (closed) publishing.close();
          forPublishing = perSlot(publishing);
        }
        return forPublishing(key);
      },
      blocking: openBlocking,
    },
    topology,
    open,
    commandTimeoutMs,
    connectTimeoutMs,
    commands,
    publishing: () => publishing,
    blocking,
    others,
    lost,
    close() {
      if (closed) return;
      closed = true;
      keepAlive.cancel();
      topology.close();
      for (const own of blocking) own.shut();
      commands.close();
      publishing?.close();
    },
  };
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
      return standaloneTopology(target, (socket) => confirmPrimary(socket, settings.connectTimeoutMs));
    case "cluster":
      return clusterTopology(target, settings);
    case "sentinel":
      return sentinelTopology(target, settings, {
        username: options.sentinelUsername,
        password: options.sentinelPassword,
        database: 0,
      });
  }
}

function opener(topology: Topology, settings: SocketSettings): Opener {
  return async (server, signal) => {
    const socket = await openSocket(server, settings, signal);
    const close = (): void => socket.destroy("closed");
    signal.addEventListener("abort", close, { once: true });
    try {
      // A name helps the operator; a user who may not set one is served all the same.
      socket.ask(["CLIENT", "SETNAME", settings.clientName], settings.connectTimeoutMs).catch(() => {});
      await topology.confirm(socket);
      return socket;
    } catch (error) {
      socket.destroy("it is of no use");
      throw error;
    } finally {
      signal.removeEventListener("abort", close);
    }
  };
}

function lossReporter(context: BackendContext): Pool["lost"] {
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
