/** Who listens: asks Redis once for each target, follows the primaries, and says when messages may be missing. */

import type { Clock, Timer } from "../../core/clock.js";
import { ConnectionError, type SignalboxError } from "../../core/errors.js";
import { Ear } from "./ear.js";
import { closedError } from "./lane.js";
import { uptime } from "./ledger.js";
import type { Pool } from "./pool.js";
import type { PubSubKind, Socket } from "./socket.js";
import { type ChannelListener, Subscription, type SubscriptionEvents } from "./subscription.js";
import type { Server } from "./target.js";

/** Redis is told that the last listener has gone after so long: one that comes back within it costs nothing. */
const LINGER_MS = 1_000;

/** Has one ear for all channels and patterns, at any primary, and one for sharded channels at each primary that has some. */
export class Subscriber {
  /** Whether anything has ever been listened to. */
  used = false;
  readonly #pool: Pool;
  readonly #clock: Clock;
  readonly #events: SubscriptionEvents;
  readonly #subscriptions = new Map<string, Subscription>();
  readonly #shards = new Map<Server, Ear>();
  /** Those that nobody listens to, and until when somebody may come back. */
  readonly #lingering = new Map<Subscription, number>();
  #lingerTimer: Timer | undefined;
  #closed = false;
  #ear: Ear | undefined;
  readonly #sockets = (): Socket[] => this.ears().flatMap(({ socket }) => socket ?? []);

  constructor(pool: Pool, clock: Clock, events: SubscriptionEvents) {
    this.#pool = pool;
    this.#clock = clock;
    this.#events = events;
    pool.topology.onChange(() => this.#follow());
    pool.others.add(this.#sockets);
  }

  /** @throws {ClosedError} */
  assertOpen(): void {
    if (this.#closed) throw closedError();
  }

  /** The connections that listen. */
  ears(): readonly Ear[] {
    return [...(this.#ear === undefined ? [] : [this.#ear]), ...this.#shards.values()];
  }

  /** Why nothing is heard where that name is listened to; undefined also while it connects for the first time. */
  problemOf(kind: PubSubKind, name: string): SignalboxError | undefined {
    const { topology } = this.#pool;
    const owner = kind === "sharded" ? topology.ownerOf(topology.slotOf(name)) : this.#ear?.server;
    const ear = kind === "sharded" && owner !== undefined ? this.#shards.get(owner) : this.#ear;
    return owner === undefined ? topology.problem : ear?.problem;
  }

  /**
   * Resolves once Redis has confirmed; whoever else listens to the same target shares the subscription.
   *
   * @throws {AuthError} when the ACL forbids the channel
   * @throws {ConnectionError} when it is not in force before the command deadline
   * @returns ends it: the listener hears nothing more at once, and Redis is told a second after the last one has gone
   */
  async subscribe(kind: PubSubKind, name: string, listener: ChannelListener): Promise<() => void> {
    this.assertOpen();
    this.used = true;
    const subscription = this.#find(kind, name);
    const seat = subscription.add(listener);
    const leave = (): void => {
      if (!subscription.remove(seat) || !subscription.empty) return;
      // One that was never in force has nothing to keep.
      if (subscription.isConfirmed) this.#linger(subscription);
      else this.#release(subscription);
    };
    try {
      const problem = (): SignalboxError | undefined => this.problemOf(kind, name);
      await subscription.confirmation(this.#clock, this.#pool.commandTimeoutMs, problem);
    } catch (error) {
      leave();
      throw error;
    }
    return leave;
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#lingerTimer?.cancel();
    this.#pool.others.delete(this.#sockets);
    for (const subscription of this.#subscriptions.values()) subscription.fail(closedError());
    this.#subscriptions.clear();
    for (const ear of this.ears()) ear.close("the backend was closed");
    this.#ear = undefined;
    this.#shards.clear();
  }

  #find(kind: PubSubKind, name: string): Subscription {
    const known = this.#subscriptions.get(`${kind}:${name}`);
    if (known !== undefined) return known;
    const subscription = new Subscription(kind, name, this.#events);
    this.#subscriptions.set(subscription.id, subscription);
    if (!this.#place(subscription)) this.#askForPrimary();
    return subscription;
  }

  #linger(subscription: Subscription): void {
    if (this.#closed) return;
    // Behind all others: the first are due first.
    this.#lingering.delete(subscription);
    this.#lingering.set(subscription, uptime() + LINGER_MS);
    this.#lingerTimer ??= this.#clock.setTimer(() => this.#releaseOverdue(), LINGER_MS);
  }

  #releaseOverdue(): void {
    this.#lingerTimer = undefined;
    const now = uptime();
    for (const [subscription, until] of this.#lingering) {
      if (until > now) {
        this.#lingerTimer = this.#clock.setTimer(() => this.#releaseOverdue(), Math.ceil(until - now));
        return;
      }
      this.#lingering.delete(subscription);
      this.#release(subscription);
    }
  }

  /** Ends a subscription, unless somebody has come back to it. */
  #release(subscription: Subscription): void {
    if (!subscription.empty || this.#subscriptions.get(subscription.id) !== subscription) return;
    this.#subscriptions.delete(subscription.id);
    for (const ear of this.ears()) if (ear.subscriptions.has(subscription)) void ear.remove(subscription);
    this.#closeIdleShards();
  }

  /** Turns to the primaries where it listens to others, or to none. */
  #follow(): void {
    if (this.#subscriptions.size === 0) return;
    let isHomeless = false;
    for (const subscription of this.#subscriptions.values()) isHomeless ||= !this.#place(subscription);
    if (isHomeless) this.#askForPrimary();
    this.#closeIdleShards();
  }

  /** Listens to it where that has to be done now. @returns whether anybody knows where that is */
  #place(subscription: Subscription): boolean {
    const { topology } = this.#pool;
    if (subscription.kind === "sharded") {
      const owner = topology.ownerOf(topology.slotOf(subscription.name));
      this.#move(subscription, owner === undefined ? undefined : this.#shardAt(owner));
      return owner !== undefined;
    }
    if (this.#ear === undefined || !topology.isPrimary(this.#ear.server)) this.#turn(undefined);
    this.#ear?.add(subscription);
    return this.#ear !== undefined && topology.isPrimary(this.#ear.server);
  }

  #move(subscription: Subscription, to: Ear | undefined): void {
    for (const ear of this.#shards.values()) {
      if (ear === to || !ear.subscriptions.has(subscription)) continue;
      subscription.lost(
        new ConnectionError(`the slot of "${subscription.name}" is not at ${ear.server.name} any more`),
      );
      void ear.remove(subscription);
    }
    to?.add(subscription);
  }

  #askForPrimary(): void {
    const { topology } = this.#pool;
    const { problem } = topology;
    if (problem?.retryable === false) for (const each of this.#subscriptions.values()) each.fail(problem);
    topology.suspect(undefined, undefined);
  }

  /** Turns to any of the primaries, another than `failed` where there is one: in a Cluster all of them hear everything. */
  #turn(failed: Ear | undefined): void {
    const { topology } = this.#pool;
    const known = topology.primarySlots().flatMap((slot) => topology.ownerOf(slot) ?? []);
    const choice = known.filter((server) => server !== failed?.server);
    const server = choice[Math.floor(Math.random() * choice.length)];
    if (server !== undefined) this.#turnTo(server);
  }

  #turnTo(server: Server): void {
    const former = this.#ear;
    const ear = this.#createEar(server, "all", () => {
      if (this.#ear === ear) this.#turn(ear);
    });
    this.#ear = ear;
    if (former === undefined) return;
    const reason = new ConnectionError(
      `Redis at ${former.server.name} is not listened to any more, but ${server.name}`,
    );
    for (const subscription of former.subscriptions) {
      subscription.lost(former.problem ?? reason);
      ear.add(subscription);
    }
    former.close(reason);
  }

  #shardAt(server: Server): Ear {
    const known = this.#shards.get(server);
    if (known !== undefined) return known;
    const ear = this.#createEar(server, "shards", () => undefined);
    this.#shards.set(server, ear);
    return ear;
  }

  #closeIdleShards(): void {
    for (const [server, ear] of this.#shards) {
      if (ear.subscriptions.size > 0) continue;
      this.#shards.delete(server);
      ear.close("nothing is listened to there");
    }
  }

  #createEar(server: Server, hears: Ear["hears"], failed: () => void): Ear {
    return new Ear(server, { hears, pool: this.#pool, clock: this.#clock, failed, moved: () => this.#follow() });
  }
}
