/** One kind of traffic: finds the socket for each command, keeps commands until there is one, and sends refused ones again. */

import { ClientClosedError, ClientOfflineError } from "@redis/client";
import { type Clock, type Timer, wait } from "../../core/clock.js";
import { ClosedError, ConnectionError, LimitError, type SignalboxError } from "../../core/errors.js";
import type { Arg, CommandOptions, Connection, Reply } from "./connection.js";
import { judge, replyError } from "./errors.js";
import { uptime } from "./ledger.js";
import { Link, type Opener } from "./link.js";
import { isServerReply, type Socket } from "./socket.js";
import type { Server } from "./target.js";
import type { Topology } from "./topology.js";

export interface LaneSettings {
  readonly topology: Topology;
  readonly open: Opener;
  readonly clock: Clock;
  readonly commandTimeoutMs: number;
  /**
   * What a command that had to wait for a connection is given once it is sent, so that the wait does not eat up the time
   * of its answer, which would end the socket. `whole`: all of its deadline, for commands that block.
   */
  readonly afterWaiting: "a moment" | "whole";
  /** The slots whose primaries are to be connected without a command that asks for them. */
  readonly keep: () => readonly number[];
  readonly onLive?: (socket: Socket) => void;
  readonly onLost?: (server: Server, reason: SignalboxError) => void;
}

interface Request {
  readonly slot: number;
  readonly args: readonly Arg[];
  /** Sent right behind `args`; the reply is then both replies. */
  readonly follow: readonly Arg[] | undefined;
  readonly deadlineMs: number;
  /** By `uptime`. */
  readonly deadlineAt: number;
  /** Place in the order of calls. */
  readonly place: number;
  /** How often a server has refused it. */
  refusals: number;
  /** It had to wait for a connection. */
  waited: boolean;
}

interface Waiting {
  readonly request: Request;
  readonly resolve: (reply: Reply | Promise<Reply>) => void;
  readonly reject: (error: SignalboxError) => void;
  /** What the server said when it refused the command. */
  readonly reason: SignalboxError | undefined;
}

/** Commands that may wait for a connection; more are refused, so that an outage cannot fill the memory. */
const MAX_WAITING = 10_000;
const MOMENT_MS = 1_000;

export class Lane {
  readonly #settings: LaneSettings;
  readonly #topology: Topology;
  readonly #links = new Map<Server, Link>();
  #waiting: Waiting[] = [];
  #timer: Timer | undefined;
  #looksAt = Number.POSITIVE_INFINITY;
  #places = 0;
  #closed = false;

  constructor(settings: LaneSettings) {
    this.#settings = settings;
    this.#topology = settings.topology;
  }

  /** {@link Connection.command}, for a slot. */
  command(slot: number, args: readonly Arg[], options?: CommandOptions): Promise<Reply> {
    return this.#dispatch(this.#request(slot, args, undefined, options));
  }

  /** {@link Connection.pair}, for a slot. */
  pair(
    slot: number,
    first: readonly Arg[],
    second: readonly Arg[],
    options?: CommandOptions,
  ): Promise<readonly [Reply, Reply]> {
    // `#transmitPair` makes just such replies.
    return this.#dispatch(this.#request(slot, first, second, options)) as Promise<readonly [Reply, Reply]>;
  }

  /** The present socket to a server. */
  socketTo(server: Server): Socket | undefined {
    return this.#links.get(server)?.socket;
  }

  /** The present sockets. */
  *sockets(): Generator<Socket> {
    for (const { socket } of this.#links.values()) if (socket !== undefined) yield socket;
  }

  /** Servers that it wants to be connected to and is not, each with the reason where there is one. */
  *missing(): Generator<{ readonly server: Server; readonly problem: SignalboxError | undefined }> {
    for (const { server, connected, problem } of this.#links.values()) if (!connected) yield { server, problem };
  }

  /** Connects to the primaries it is to keep, lets go of servers that are none any more, sends what can now be sent. */
  update(): void {
    if (this.#closed) return;
    for (const [server, link] of this.#links) {
      if (this.#topology.isPrimary(server)) continue;
      this.#links.delete(server);
      link.close(`it is no longer the primary`);
    }
    for (const slot of this.#settings.keep()) this.#linkFor(slot);
    this.#drain();
  }

  /** Ends what waits for a connection, with null as the reply. */
  abandon(): void {
    for (const { resolve } of this.#waiting.splice(0)) resolve(null);
  }

  /** Drops the sockets; those wanted are opened again. */
  drop(reason: string): void {
    for (const socket of this.sockets()) socket.destroy(reason);
  }

  /** Ends all sockets. What waits rejects with `ClosedError`; what is under way with `underway`, or as interrupted. */
  close(underway?: SignalboxError): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#timer?.cancel();
    for (const { reject } of this.#waiting.splice(0)) reject(closedError());
    for (const link of this.#links.values()) link.close(underway ?? "the backend was closed");
    this.#links.clear();
  }

  #request(slot: number, args: readonly Arg[], follow: readonly Arg[] | undefined, options?: CommandOptions): Request {
    const deadlineMs = options?.deadlineMs ?? this.#settings.commandTimeoutMs;
    this.#places += 1;
    return {
      slot,
      args,
      follow,
      deadlineMs,
      deadlineAt: uptime() + deadlineMs,
      place: this.#places,
      refusals: 0,
      waited: false,
    };
  }

  /** The hot path: an array, a map, a promise. */
  #dispatch(request: Request): Promise<Reply> {
    const server = this.#topology.ownerOf(request.slot);
    const link = server === undefined ? undefined : this.#links.get(server);
    const socket = link?.socket;
    return link === undefined || socket === undefined ? this.#wait(request) : this.#transmit(link, socket, request);
  }

  #transmit(link: Link, socket: Socket, request: Request): Promise<Reply> {
    const deadlineAt = request.waited ? this.#extended(request) : request.deadlineAt;
    if (request.follow !== undefined) return this.#transmitPair(link, socket, request, request.follow, deadlineAt);
    return socket.send(request.args, deadlineAt, (error) => this.#refused(error, link, socket, request));
  }

  /** When a command that had to wait must be answered. */
  #extended({ deadlineAt, deadlineMs }: Request): number {
    const least = this.#settings.afterWaiting === "whole" ? deadlineMs : Math.min(deadlineMs, MOMENT_MS);
    return Math.max(deadlineAt, uptime() + least);
  }

  #transmitPair(
    link: Link,
    socket: Socket,
    request: Request,
    follow: readonly Arg[],
    deadlineAt: number,
  ): Promise<Reply> {
    const plain = (error: unknown): never => {
      throw error;
    };
    let reply: Reply = null;
    let refusal: { readonly reason: unknown } | undefined;
    socket.send(request.args, deadlineAt, plain).then(
      (answer) => {
        reply = answer;
      },
      (reason: unknown) => {
        refusal = { reason };
      },
    );
    // Answered, refused or lost, the second is so behind the first.
    return socket.send(follow, deadlineAt, plain).then(
      (second) => (refusal === undefined ? [reply, second] : this.#refused(refusal.reason, link, socket, request)),
      (reason: unknown) => {
        if (refusal !== undefined) return this.#refused(refusal.reason, link, socket, request);
        const cause = socket.typed(follow, reason);
        throw new ConnectionError(
          `${String(request.args[0])} was answered, what followed it was not: ${cause.message}`,
          { interrupted: true, cause },
        );
      },
    );
  }

  /** Decides what becomes of a command that got no reply, or an error for one. */
  #refused(error: unknown, link: Link, socket: Socket, request: Request): Promise<Reply> {
    const { args } = request;
    if (!isServerReply(error)) {
      const written = !(error instanceof ClientOfflineError || error instanceof ClientClosedError);
      if (written) throw socket.typed(args, error);
      socket.destroy("the client is offline");
      return this.#wait(request);
    }
    const topology = this.#topology;
    const reply = error.message;
    const verdict = judge(args, reply);
    request.refusals += 1;
    switch (verdict.kind) {
      case "later":
        link.pause(pauseMs(request.refusals));
        return this.#wait(request, replyError(args, reply));
      case "slot-later":
        topology.suspect(undefined, undefined);
        return this.#later(request, replyError(args, reply));
      case "demoted":
        topology.suspect(link.server, replyError(args, reply));
        link.replace(socket, `Redis at ${link.server.name} is not the primary any more`);
        return this.#wait(request, replyError(args, reply));
      case "moved":
        topology.moved(verdict.slot, verdict.to, link.server);
        // A server that sends in circles is asked less and less.
        return request.refusals > 4 ? this.#later(request, replyError(args, reply)) : this.#dispatch(request);
      case "ask":
        return this.#ask(topology.serverAt(verdict.to, link.server), request, replyError(args, reply));
      case "unblocked":
        topology.suspect(undefined, undefined);
        return Promise.resolve(null);
      case "final":
        throw verdict.error;
    }
  }

  /** Sends to the server that is taking a slot over, for this once. */
  #ask(server: Server, request: Request, reason: SignalboxError): Promise<Reply> {
    const link = this.#linkTo(server);
    if (link.socket === undefined) return this.#later(request, reason);
    // Were it refused, the command behind it would be too, with an answer that says where to go.
    link.socket.ask(["ASKING"], this.#settings.commandTimeoutMs).catch(() => {});
    return this.#transmit(link, link.socket, request);
  }

  /** Tries again shortly. Other commands may pass it meanwhile. */
  async #later(request: Request, reason: SignalboxError): Promise<Reply> {
    const { clock } = this.#settings;
    const left = request.deadlineAt - uptime();
    await wait(clock, Math.max(0, Math.min(pauseMs(request.refusals), left)));
    if (uptime() >= request.deadlineAt) throw expired(request, reason);
    return this.#dispatch(request);
  }

  /** Keeps a command until there is a socket for it, before all that was called later. */
  #wait(request: Request, reason?: SignalboxError): Promise<Reply> {
    if (this.#closed) return Promise.reject(closedError());
    if (this.#waiting.length >= MAX_WAITING) {
      const message = `${MAX_WAITING} commands wait for Redis already`;
      return Promise.reject(new LimitError(message, { retryable: true }));
    }
    const link = this.#linkFor(request.slot);
    const problem = link === undefined ? this.#topology.problem : link.problem;
    if (problem !== undefined && !problem.retryable) return Promise.reject(problem);
    if (uptime() >= request.deadlineAt) return Promise.reject(expired(request, reason ?? this.#obstacle(request.slot)));
    request.waited = true;
    // A refusal may come so late that there is another socket already.
    if (link?.socket !== undefined) return this.#transmit(link, link.socket, request);
    return new Promise((resolve, reject) => {
      let at = this.#waiting.length;
      while (at > 0 && (this.#waiting[at - 1]?.request.place ?? 0) > request.place) at -= 1;
      this.#waiting.splice(at, 0, { request, resolve, reject, reason });
      this.#watch(request.deadlineAt);
    });
  }

  /** Looks after what waits at `at`, where it does not look earlier anyway. */
  #watch(at: number): void {
    if (at >= this.#looksAt) return;
    this.#timer?.cancel();
    this.#looksAt = at;
    this.#timer = this.#settings.clock.setTimer(() => this.#expire(), Math.max(1, Math.ceil(at - uptime())));
  }

  #expire(): void {
    this.#looksAt = Number.POSITIVE_INFINITY;
    const now = uptime();
    const waiting = this.#waiting;
    this.#waiting = waiting.filter(({ request }) => request.deadlineAt > now);
    for (const { request, reject, reason } of waiting) {
      if (request.deadlineAt > now) continue;
      reject(expired(request, reason ?? this.#obstacle(request.slot)));
    }
    this.#watch(Math.min(...this.#waiting.map(({ request }) => request.deadlineAt)));
  }

  #obstacle(slot: number): SignalboxError {
    const server = this.#topology.ownerOf(slot);
    if (server === undefined) return this.#topology.problem ?? new ConnectionError("no primary is known yet");
    const problem = this.#links.get(server)?.problem;
    return problem ?? new ConnectionError(`Redis at ${server.name} has not answered yet`);
  }

  #drain(): void {
    const waiting = this.#waiting;
    if (waiting.length === 0) return;
    this.#waiting = [];
    for (const one of waiting) {
      const link = this.#linkFor(one.request.slot);
      const problem = link === undefined ? this.#topology.problem : link.problem;
      if (link?.socket !== undefined) one.resolve(this.#transmit(link, link.socket, one.request));
      else if (problem !== undefined && !problem.retryable) one.reject(problem);
      else this.#waiting.push(one);
    }
  }

  #linkFor(slot: number): Link | undefined {
    const server = this.#topology.ownerOf(slot);
    if (server !== undefined) return this.#linkTo(server);
    this.#topology.suspect(undefined, undefined);
    return undefined;
  }

  #linkTo(server: Server): Link {
    let link = this.#links.get(server);
    if (link === undefined) {
      const { open, clock, onLive, onLost } = this.#settings;
      link = new Link(server, open, clock, {
        live: (_, socket) => {
          this.#topology.trust(server);
          onLive?.(socket);
          this.#drain();
        },
        resumed: () => this.#drain(),
        lost: (_, reason) => {
          this.#topology.suspect(server, reason);
          onLost?.(server, reason);
        },
        failed: (_, reason) => {
          // A refused login says nothing against the server.
          if (reason.retryable) this.#topology.suspect(server, reason);
          this.#drain();
        },
      });
      this.#links.set(server, link);
      link.start();
    }
    return link;
  }
}

/** The connection of one slot on a lane. */
export class LaneConnection implements Connection {
  readonly #lane: Lane;
  readonly #slot: number;

  constructor(lane: Lane, slot: number) {
    this.#lane = lane;
    this.#slot = slot;
  }

  command(args: readonly Arg[], options?: CommandOptions): Promise<Reply> {
    return this.#lane.command(this.#slot, args, options);
  }

  pair(first: readonly Arg[], second: readonly Arg[], options?: CommandOptions): Promise<readonly [Reply, Reply]> {
    return this.#lane.pair(this.#slot, first, second, options);
  }
}

export function closedError(): ClosedError {
  return new ClosedError("the connection to Redis was closed");
}

function expired(request: Request, reason: SignalboxError): ConnectionError {
  const message = `${String(request.args[0])} could not be sent before its deadline: ${reason.message}`;
  return new ConnectionError(message, { cause: reason });
}

/** Before a refused command is sent again: 10 ms, doubling up to 200, each between half and whole. */
function pauseMs(refusals: number): number {
  return Math.min(10 * 2 ** (refusals - 1), 200) * (0.5 + Math.random() / 2);
}
