/**
 * A TCP proxy that misbehaves: in front of a server, it cuts, stalls, slows down and chops up what flows through it, as a
 * test says or as a seed says. Everything lies in user space, so no rights are needed.
 */

import { type AddressInfo, connect, createServer, type Server, type Socket } from "node:net";
import { pause } from "../../support/wait.js";
import { type Flaw, type FlawKind, randomFlaw } from "./proxy-flaws.js";
import { Pipe } from "./proxy-pipe.js";
import { createRandom, type Random } from "./random.js";

export interface Proxy extends AsyncDisposable {
  /** Where clients connect to. */
  readonly port: number;
  /** Connections open now. */
  readonly connections: number;
  /** Connections opened so far. */
  readonly accepted: number;
  /** From now on, until the next call or `heal`. */
  impose(flaw: Flaw): void;
  /** Ends the flaw. Connections that it has broken stay broken. */
  heal(): void;
  /** Ends everything at once: listener, connections, timers. Safe to call twice. */
  close(): Promise<void>;
}

export interface ProxyOptions {
  /** The server's port on 127.0.0.1. */
  readonly target: number;
  /** Of the sizes of pieces. Default 1. */
  readonly seed?: number;
  /** Default one that is free. */
  readonly port?: number;
  /** Default 127.0.0.1. */
  readonly host?: string;
}

/** Both directions of one connection. */
interface Pair {
  readonly up: Pipe;
  readonly down: Pipe;
  reset(): void;
}

export async function startProxy(options: ProxyOptions): Promise<Proxy> {
  const random = createRandom(options.seed ?? 1);
  const pairs = new Set<Pair>();
  let flaw: Flaw | undefined;
  let accepted = 0;
  let closing: Promise<void> | undefined;

  const server = createServer({ allowHalfOpen: true, noDelay: true }, (client) => {
    accepted += 1;
    const pair = join(client, options.target, random.fork(), () => pairs.delete(pair));
    pairs.add(pair);
    // Only what was open already can be cut.
    if (flaw !== undefined && flaw.kind !== "cut") apply(pair, flaw);
  });
  await listen(server, options.port ?? 0, options.host ?? "127.0.0.1");

  const close = (): Promise<void> => {
    closing ??= new Promise((resolve) => {
      for (const pair of pairs) pair.reset();
      server.close(() => resolve());
    });
    return closing;
  };
  return {
    port: (server.address() as AddressInfo).port, // a TCP server that listens has such an address
    get connections() {
      return pairs.size;
    },
    get accepted() {
      return accepted;
    },
    impose(next) {
      flaw = next;
      for (const pair of pairs) apply(pair, next);
    },
    heal() {
      flaw = undefined;
      for (const { up, down } of pairs) {
        up.heal();
        down.heal();
      }
    },
    close,
    [Symbol.asyncDispose]: close,
  };
}

function listen(server: Server, port: number, host: string): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen(port, host, () => {
      server.off("error", reject);
      resolve();
    });
  });
}

function join(client: Socket, target: number, random: Random, ended: () => void): Pair {
  const upstream = connect({ port: target, host: "127.0.0.1", allowHalfOpen: true, noDelay: true });
  let open = 2;
  const reset = (): void => {
    up.stop();
    down.stop();
    cutOff(client);
    cutOff(upstream);
  };
  const up = new Pipe(client, upstream, random.fork(), reset);
  const down = new Pipe(upstream, client, random.fork(), reset);
  for (const socket of [client, upstream]) {
    socket.on("error", reset);
    socket.on("close", () => {
      open -= 1;
      if (open === 0) ended();
      // One that went without having said all leaves the other nothing to wait for.
      else if (!up.isDone || !down.isDone) reset();
    });
  }
  return { up, down, reset };
}

/** With a reset where Node can: it first waits for what is written, and forgets a socket that breaks meanwhile. */
function cutOff(socket: Socket): void {
  if (socket.connecting || socket.writableEnded || socket.writableLength > 0) socket.destroy();
  else if (!socket.destroyed) socket.resetAndDestroy();
}

function apply(pair: Pair, flaw: Flaw): void {
  if (flaw.kind === "cut") {
    pair.reset();
    return;
  }
  for (const direction of ["up", "down"] as const) {
    const affected = !("direction" in flaw) || flaw.direction === direction || flaw.direction === "both";
    if (affected) pair[direction].impose(flaw);
    else pair[direction].heal();
  }
}

export interface Schedule {
  readonly seed: number;
  readonly kinds?: readonly FlawKind[];
  /** How long a flaw lasts, and how long all is well between two: drawn from this range. Default 20 to 200. */
  readonly minMs?: number;
  readonly maxMs?: number;
  readonly signal: AbortSignal;
}

/** Imposes one flaw after another, as the seed says, until the signal aborts. @returns what it imposed */
export async function follow(proxy: Proxy, schedule: Schedule): Promise<readonly Flaw[]> {
  const { minMs = 20, maxMs = 200, signal } = schedule;
  const random = createRandom(schedule.seed);
  const imposed: Flaw[] = [];
  while (!signal.aborted) {
    const flaw = randomFlaw(random, schedule.kinds);
    imposed.push(flaw);
    proxy.impose(flaw);
    await pause(random.int(minMs, maxMs));
    proxy.heal();
    await pause(random.int(minMs, maxMs));
  }
  return imposed;
}
