/** Which server is the primary of what: the question that standalone, Sentinel and Cluster answer differently. */

import type { Clock, Timer } from "../../core/clock.js";
import type { SignalboxError } from "../../core/errors.js";
import { uptime } from "./ledger.js";
import { backoffMs } from "./link.js";
import type { Socket } from "./socket.js";
import { type Address, addressName, type RedisTarget, type Server } from "./target.js";

export interface Topology {
  /** The hash slot of a key; always 0 outside a Cluster. */
  slotOf(key: string): number;
  /** The slot's primary as far as is known; undefined while nobody has said. */
  ownerOf(slot: number): Server | undefined;
  /** One slot of each known primary, to reach all of them. */
  primarySlots(): readonly number[];
  isPrimary(server: Server): boolean;
  /** Why no primary is known. */
  readonly problem: SignalboxError | undefined;
  /** A server said that a slot is at `to`; an empty host means its own. */
  moved(slot: number, to: Address, via: Server): void;
  /** The server at an address that another one named. */
  serverAt(to: Address, via: Server): Server;
  /** Something is wrong with a server, or with not knowing one: asks again, soon and repeatedly, until `trust`. */
  suspect(server: Server | undefined, reason: SignalboxError | undefined): void;
  /** The server has answered as a primary. */
  trust(server: Server): void;
  /** @throws {ConnectionError} unless the server behind a new socket is a primary, and says so within `timeoutMs` */
  confirm(socket: Socket, timeoutMs: number): Promise<void>;
  /** Calls back after every change of an owner, and when `problem` appears. */
  onChange(listener: () => void): void;
  close(): void;
}

/** Makes each server once, so that a server can be compared and used as a key. */
export class Servers {
  readonly #byName = new Map<string, Server>();

  at(address: Address): Server {
    const name = addressName(address);
    let server = this.#byName.get(name);
    if (server === undefined) {
      server = { name, at: { host: address.host, port: address.port } };
      this.#byName.set(name, server);
    }
    return server;
  }

  /** Where a server points to, which may leave its own host out. */
  named(to: Address, via: Server): Server {
    const host = to.host === "" && "host" in via.at ? via.at.host : to.host;
    return this.at({ host, port: to.port });
  }
}

/** A single server, of which nobody knows more than its address. */
export function standaloneTopology(
  target: RedisTarget & { readonly kind: "standalone" | "socket" },
  confirm: Topology["confirm"],
): Topology {
  const only: Server =
    target.kind === "socket"
      ? { name: target.path, at: { path: target.path } }
      : new Servers().at({ host: target.host, port: target.port });
  return {
    problem: undefined,
    slotOf: () => 0,
    ownerOf: () => only,
    primarySlots: () => [0],
    isPrimary: (server) => server === only,
    moved() {},
    serverAt: () => only,
    suspect() {},
    trust() {},
    confirm,
    onChange() {},
    close() {},
  };
}

/** As often as someone is asked who the primary is while all is well: a deposed one must not be used for longer. */
const CALM_MS = 1_500;
const MAX_TROUBLED_MS = 250;
/** Refusals may come by the thousand. */
const MIN_PAUSE_MS = 50;

/** Asks a question now and then, and often while there is trouble. */
export interface Poller {
  /** Asks soon: at once when it has been quiet, with a growing pause otherwise. */
  hurry(): void;
  /** Resolves when a question that was asked after this call has been answered. */
  fresh(): Promise<void>;
  close(): void;
}

/** @param ask never rejects; resolves with whether there is still trouble */
export function startPoller(clock: Clock, ask: () => Promise<boolean>): Poller {
  let timer: Timer | undefined;
  let running: Promise<void> | undefined;
  let next: Promise<void> | undefined;
  let rounds = 0;
  let hurried = false;
  let closed = false;
  let endedAt = Number.NEGATIVE_INFINITY;

  const schedule = (ms: number): void => {
    timer?.cancel();
    timer = closed ? undefined : clock.setTimer(() => void run(), ms);
  };
  const troubledMs = (): number => Math.min(backoffMs(rounds), MAX_TROUBLED_MS);
  const run = (): Promise<void> => {
    timer?.cancel();
    timer = undefined;
    running ??= (async () => {
      hurried = false;
      const trouble = await ask();
      running = undefined;
      endedAt = uptime();
      rounds = trouble || hurried ? rounds + 1 : 0;
      schedule(rounds > 0 ? troubledMs() : CALM_MS);
    })();
    return running;
  };
  return {
    hurry() {
      if (running !== undefined) hurried = true;
      else if (rounds === 0) {
        rounds = 1;
        schedule(Math.max(0, endedAt + MIN_PAUSE_MS - uptime()));
      }
      // Otherwise it is troubled already, and asks again shortly.
    },
    fresh() {
      if (running === undefined) return run();
      // Whoever asks while a question is out shares the one behind it.
      next ??= running.then(() => {
        next = undefined;
        return closed ? undefined : run();
      });
      return next;
    },
    close() {
      closed = true;
      timer?.cancel();
      timer = undefined;
    },
  };
}
