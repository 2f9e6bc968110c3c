/** One connection that listens: asks the server for its subscriptions, and for all of them again after each loss. */

import type { Clock, Timer } from "../../core/clock.js";
import { ConnectionError, type SignalboxError } from "../../core/errors.js";
import { judge } from "./errors.js";
import { Link } from "./link.js";
import type { Pool } from "./pool.js";
import { isServerReply, type PubSubKind, type Socket } from "./socket.js";
import type { Subscription } from "./subscription.js";
import type { Server } from "./target.js";

export interface EarOptions {
  /** For the sharded channels of its server, or for all channels and patterns. */
  readonly hears: "shards" | "all";
  readonly pool: Pool;
  readonly clock: Clock;
  /** An attempt to connect has failed, or the server is of no use. */
  failed(reason: SignalboxError): void;
  /** A sharded channel is somewhere else now. */
  moved(subscription: Subscription): void;
}

/** Names in one SUBSCRIBE: confirming them holds the server for well below a millisecond. */
const BATCH = 512;
/** Before a subscription is asked for again that was refused, as when a user's rights are being changed. */
const REFUSED_MS = 1_000;
/** The same where the server could not be asked just then. */
const BUSY_MS = 50;

export class Ear {
  readonly server: Server;
  readonly hears: EarOptions["hears"];
  readonly #options: EarOptions;
  readonly #timeoutMs: number;
  readonly #link: Link;
  readonly #subscriptions = new Set<Subscription>();
  /** By id, what the server is being told to end: asked for meanwhile, it would end with it. */
  readonly #leaving = new Map<string, Promise<void>>();
  /** Those that the server is to be asked for once the tick is over. */
  #wanted: Subscription[] = [];
  readonly #timers = new Set<Timer>();

  constructor(server: Server, options: EarOptions) {
    this.server = server;
    this.hears = options.hears;
    this.#options = options;
    this.#timeoutMs = options.pool.commandTimeoutMs;
    this.#link = this.#createLink();
    this.#link.start();
  }

  /** Why it hears nothing now; undefined also while it connects for the first time. */
  get problem(): SignalboxError | undefined {
    return this.#link.problem;
  }

  get socket(): Socket | undefined {
    return this.#link.socket;
  }

  /** Grows with everything that is heard. */
  get heard(): number {
    let heard = 0;
    for (const subscription of this.#subscriptions) heard += subscription.heard;
    return heard;
  }

  /** What it listens to, or wants to. */
  get subscriptions(): ReadonlySet<Subscription> {
    return this.#subscriptions;
  }

  add(subscription: Subscription): void {
    if (this.#subscriptions.has(subscription)) return;
    this.#subscriptions.add(subscription);
    const leaving = this.#leaving.get(subscription.id);
    if (leaving === undefined) this.#want(subscription);
    else void leaving.then(() => this.#want(subscription));
  }

  /** Listens to it no more. Resolves when the server knows, or is gone. */
  remove(subscription: Subscription): Promise<void> {
    const { id, kind, name } = subscription;
    this.#subscriptions.delete(subscription);
    // Should the socket be lost meanwhile, so is the subscription.
    const left = this.socket?.unsubscribe(kind, name, this.#timeoutMs).catch(() => undefined);
    if (left === undefined) return Promise.resolve();
    const leaving = left.then(() => {
      if (this.#leaving.get(id) === leaving) this.#leaving.delete(id);
    });
    this.#leaving.set(id, leaving);
    return leaving;
  }

  /** Gives the connection up for a new one, to another server where that hears as much. */
  replace(reason: SignalboxError): void {
    this.socket?.destroy(reason);
    this.#options.failed(reason);
  }

  close(reason: string | SignalboxError): void {
    for (const timer of this.#timers) timer.cancel();
    this.#link.close(reason);
  }

  #createLink(): Link {
    const { clock, pool } = this.#options;
    const { topology, open, lost } = pool;
    return new Link(this.server, open, clock, {
      live: (_, socket) => {
        topology.trust(this.server);
        socket.heard = () => this.heard;
        socket.onMoved = (name) => this.#moved(name, socket);
        this.#request([...this.#subscriptions], socket);
      },
      resumed() {},
      lost: (_, reason) => {
        this.#wanted = [];
        this.#leaving.clear();
        for (const subscription of this.#subscriptions) subscription.lost(reason);
        topology.suspect(this.server, reason);
        lost(this.server, reason);
      },
      failed: (_, reason) => {
        // A refused login says nothing against the server.
        if (reason.retryable) topology.suspect(this.server, reason);
        else for (const subscription of this.#subscriptions) subscription.fail(reason);
        this.#options.failed(reason);
      },
    });
  }

  #want(subscription: Subscription): void {
    // Without a socket it is asked for with all others, once there is one.
    if (this.socket === undefined) return;
    if (this.#wanted.length === 0) process.nextTick(() => this.#requestWanted());
    this.#wanted.push(subscription);
  }

  #requestWanted(): void {
    const wanted = this.#wanted;
    this.#wanted = [];
    if (this.socket !== undefined) this.#request(wanted, this.socket);
  }

  #request(subscriptions: readonly Subscription[], socket: Socket): void {
    for (const kind of ["channel", "pattern", "sharded"] as const) {
      const all = subscriptions.filter((each) => each.kind === kind);
      // Sharded channels of one command would have to share a slot.
      const batch = kind === "sharded" ? 1 : BATCH;
      for (let start = 0; start < all.length; start += batch)
        void this.#ask(kind, all.slice(start, start + batch), socket);
    }
  }

  /** Never rejects. */
  async #ask(kind: PubSubKind, batch: readonly Subscription[], socket: Socket): Promise<void> {
    const present = batch.filter((each) => this.#subscriptions.has(each));
    if (present.length === 0 || socket.ended !== undefined) return;
    try {
      await socket.subscribe(
        kind,
        present.map(({ name, deliver }) => [name, deliver]),
        this.#timeoutMs,
      );
      if (socket.ended !== undefined) return;
      for (const each of present) if (this.#subscriptions.has(each)) each.confirmed();
    } catch (error) {
      // After a loss the next socket subscribes anew.
      if (socket.ended !== undefined) return;
      // One that is forbidden is refused with all others of its command.
      if (present.length > 1) await Promise.all(present.map((each) => this.#ask(kind, [each], socket)));
      else for (const each of present) this.#refused(each, error, socket);
    }
  }

  #refused(subscription: Subscription, error: unknown, socket: Socket): void {
    const command = ["SUBSCRIBE", subscription.name];
    const { topology } = this.#options.pool;
    const verdict = isServerReply(error) ? judge(command, error.message) : undefined;
    if (verdict?.kind === "moved") {
      topology.moved(verdict.slot, verdict.to, this.server);
      this.#options.moved(subscription);
    } else if (verdict === undefined || verdict.kind === "final") {
      subscription.refused(socket.typed(command, error));
    } else {
      topology.suspect(this.server, socket.typed(command, error));
    }
    // Whoever was told has left. Others may rely on it, and nobody else would ask again.
    this.#askAgain(subscription, verdict?.kind === "final" ? REFUSED_MS : BUSY_MS, socket);
  }

  #askAgain(subscription: Subscription, ms: number, socket: Socket): void {
    const timer = this.#options.clock.setTimer(() => {
      this.#timers.delete(timer);
      void this.#ask(subscription.kind, [subscription], socket);
    }, ms);
    this.#timers.add(timer);
  }

  /** The server has ended a sharded subscription by itself, because its slot has moved. */
  #moved(name: string, socket: Socket): void {
    for (const subscription of this.#subscriptions) {
      if (subscription.kind !== "sharded" || subscription.name !== name) continue;
      subscription.lost(
        new ConnectionError(`Redis at ${this.server.name} serves "${name}" no more: its slot has moved`),
      );
      this.#options.pool.topology.suspect(undefined, undefined);
      this.#options.moved(subscription);
      // Where nobody knows yet whereto, the server says.
      this.#askAgain(subscription, BUSY_MS, socket);
    }
  }
}
