/** The one socket that listens: subscribes once to each target, follows the primary, and says when messages may be missing. */

import type { Clock } from "../../core/clock.js";
import { ConnectionError, SignalboxError, toError } from "../../core/errors.js";
import { closedError } from "./lane.js";
import { Link } from "./link.js";
import type { Pool } from "./pool.js";
import type { PubSubKind, Socket } from "./socket.js";
import { type ChannelListener, Subscription } from "./subscription.js";
import type { Server } from "./target.js";

export class Subscriber {
  /** Whether anything has ever been listened to. */
  used = false;
  readonly #pool: Pool;
  readonly #clock: Clock;
  readonly #report: (error: unknown) => void;
  readonly #subscriptions = new Map<string, Subscription>();
  #link: Link | undefined;
  #closed = false;
  #heard = 0;
  readonly #sockets = (): Socket[] => (this.#link?.socket === undefined ? [] : [this.#link.socket]);

  constructor(pool: Pool, clock: Clock, report: (error: unknown) => void) {
    this.#pool = pool;
    this.#clock = clock;
    this.#report = (error) => report(toError(error));
    pool.topology.onChange(() => this.#follow());
    pool.others.add(this.#sockets);
  }

  /** Why it hears nothing now; undefined also while it connects for the first time. */
  get problem(): SignalboxError | undefined {
    return this.#link === undefined ? this.#pool.topology.problem : this.#link.problem;
  }

  /**
   * Resolves once Redis has confirmed; whoever else listens to the same target shares the subscription.
   *
   * @throws {AuthError} when the ACL forbids the channel
   * @throws {ConnectionError} when it is not in force before the command deadline
   * @returns ends it: the listener hears nothing more at once, Redis knows when the promise resolves
   */
  async subscribe(kind: PubSubKind, name: string, listener: ChannelListener): Promise<() => Promise<void>> {
    if (this.#closed) throw closedError();
    this.used = true;
    const subscription = this.#find(kind, name);
    const seat = subscription.add(listener);
    const leave = (): Promise<void> => {
      subscription.remove(seat);
      return this.#release(subscription);
    };
    this.#follow();
    try {
      await subscription.confirmation(this.#clock, this.#pool.commandTimeoutMs, () => this.problem);
    } catch (error) {
      void leave();
      throw error;
    }
    return leave;
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#pool.others.delete(this.#sockets);
    this.#fail(closedError());
    this.#subscriptions.clear();
    this.#link?.close("the backend was closed");
    this.#link = undefined;
  }

  #find(kind: PubSubKind, name: string): Subscription {
    const id = idOf(kind, name);
    let subscription = this.#subscriptions.get(id);
    if (subscription === undefined) {
      subscription = new Subscription(kind, name, () => (this.#heard += 1), this.#report);
      this.#subscriptions.set(id, subscription);
      for (const socket of this.#sockets()) void this.#request(subscription, socket);
    }
    return subscription;
  }

  async #release(subscription: Subscription): Promise<void> {
    const { kind, name, deliver } = subscription;
    const id = idOf(kind, name);
    if (!subscription.empty || this.#subscriptions.get(id) !== subscription) return;
    this.#subscriptions.delete(id);
    const { commandTimeoutMs } = this.#pool;
    // Should the socket be lost meanwhile, so is the subscription.
    await Promise.allSettled(
      this.#sockets().map((socket) => socket.unsubscribe(kind, name, deliver, commandTimeoutMs)),
    );
  }

  async #request(subscription: Subscription, socket: Socket): Promise<void> {
    const { kind, name, deliver } = subscription;
    try {
      await socket.subscribe(kind, name, deliver, this.#pool.commandTimeoutMs);
      if (this.#link?.socket === socket) subscription.confirmed();
    } catch (error) {
      // After a loss the next socket subscribes anew.
      if (socket.ended === undefined && error instanceof SignalboxError) subscription.refused(error);
    }
  }

  /** Turns to a primary where it listens to none. */
  #follow(): void {
    if (this.#closed || this.#subscriptions.size === 0) return;
    const { topology } = this.#pool;
    const present = this.#link?.server;
    if (present !== undefined && topology.isPrimary(present)) return;
    const server = this.#choose(undefined);
    if (server !== undefined) {
      this.#turnTo(server, new ConnectionError(`Redis at ${(present ?? server).name} is no longer the primary`));
      return;
    }
    if (topology.problem?.retryable === false) this.#fail(topology.problem);
    topology.suspect(undefined, undefined);
  }

  #turnTo(server: Server, reason: SignalboxError): void {
    const former = this.#link;
    this.#link = this.#connectTo(server);
    if (former === undefined) return;
    this.#lost(reason);
    former.close(reason);
  }

  #connectTo(server: Server): Link {
    const { topology, open, lost } = this.#pool;
    const link = new Link(server, open, this.#clock, {
      live: (_, socket) => {
        topology.trust(server);
        socket.heard = () => this.#heard;
        for (const subscription of this.#subscriptions.values()) void this.#request(subscription, socket);
      },
      resumed() {},
      lost: (_, reason) => {
        this.#lost(reason);
        topology.suspect(server, reason);
        lost(server, reason);
      },
      failed: (_, reason) => {
        if (reason.retryable) topology.suspect(server, reason);
        else this.#fail(reason);
        const other = this.#choose(server);
        if (other !== undefined && other !== server) this.#turnTo(other, reason);
      },
    });
    link.start();
    return link;
  }

  /** Any of the primaries, but for `avoided` where there are others: in a Cluster all of them hear everything. */
  #choose(avoided: Server | undefined): Server | undefined {
    const { topology } = this.#pool;
    const known = topology.primarySlots().flatMap((slot) => topology.ownerOf(slot) ?? []);
    const others = known.filter((server) => server !== avoided);
    const choice = others.length > 0 ? others : known;
    return choice[Math.floor(Math.random() * choice.length)];
  }

  #lost(reason: SignalboxError): void {
    for (const subscription of this.#subscriptions.values()) subscription.lost(reason);
  }

  #fail(error: SignalboxError): void {
    for (const subscription of this.#subscriptions.values()) subscription.fail(error);
  }
}

function idOf(kind: PubSubKind, name: string): string {
  return `${kind}:${name}`;
}
