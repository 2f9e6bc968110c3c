/** One channel or pattern that is listened to: who listens, and whether Redis has confirmed it. */

import type { Bytes } from "../../core/backend.js";
import type { Clock } from "../../core/clock.js";
import { wait } from "../../core/clock.js";
import { ConnectionError, type SignalboxError } from "../../core/errors.js";
import type { PubSubKind } from "./socket.js";

export interface ChannelListener {
  message(data: Bytes, channel: Buffer): void;
  gap(reason: string): void;
}

interface Seat {
  readonly listener: ChannelListener;
  /** Its subscription has been in force, so that it can miss something. */
  seated: boolean;
}

interface Waiting {
  readonly confirm: () => void;
  readonly refuse: (error: SignalboxError) => void;
}

export interface SubscriptionEvents {
  /** The messages in what was heard. */
  unpack(heard: Buffer): readonly Bytes[];
  report(error: unknown): void;
}

export class Subscription {
  readonly id: string;
  readonly kind: PubSubKind;
  readonly name: string;
  /** How often something was heard. */
  heard = 0;
  readonly #seats = new Set<Seat>();
  readonly #waiting = new Set<Waiting>();
  readonly #events: SubscriptionEvents;
  #confirmed = false;
  /** Why messages may be missing since it was in force last. */
  #missed: string | undefined;

  constructor(kind: PubSubKind, name: string, events: SubscriptionEvents) {
    this.id = `${kind}:${name}`;
    this.kind = kind;
    this.name = name;
    this.#events = events;
  }

  /** Nobody listens. */
  get empty(): boolean {
    return this.#seats.size === 0;
  }

  get isConfirmed(): boolean {
    return this.#confirmed;
  }

  /** Hands what was heard to all listeners. */
  readonly deliver = (heard: Buffer, channel: Buffer): void => {
    this.heard += 1;
    // The confirmation is still on its way through the client; what was delivered shows that it is there.
    if (!this.#confirmed) this.confirmed();
    for (const message of this.#events.unpack(heard)) {
      for (const { listener } of this.#seats) {
        try {
          listener.message(message, channel);
        } catch (error) {
          // A listener's failure must not reach the connection's parser, which calls it.
          this.#events.report(error);
        }
      }
    }
  };

  add(listener: ChannelListener): Seat {
    const seat = { listener, seated: this.#confirmed };
    this.#seats.add(seat);
    return seat;
  }

  /** @returns whether it was there */
  remove(seat: Seat): boolean {
    return this.#seats.delete(seat);
  }

  /** It is in force: says so to those who wait, and to those who may have missed something. */
  confirmed(): void {
    if (this.#confirmed) return;
    this.#confirmed = true;
    const missed = this.#missed;
    this.#missed = undefined;
    for (const seat of this.#seats) {
      if (seat.seated && missed !== undefined) this.#tellGap(seat.listener, missed);
      seat.seated = true;
    }
    for (const { confirm } of this.#waiting) confirm();
    this.#waiting.clear();
  }

  /** What it was in force on is gone. */
  lost(reason: SignalboxError): void {
    if (this.#confirmed) this.#missed = reason.message;
    this.#confirmed = false;
  }

  /** It cannot be had. Where nobody waits to be told, it is reported. */
  refused(error: SignalboxError): void {
    if (this.#waiting.size === 0) this.#events.report(error);
    this.fail(error);
  }

  /** Rejects those who wait. */
  fail(error: SignalboxError): void {
    for (const { refuse } of this.#waiting) refuse(error);
    this.#waiting.clear();
  }

  /**
   * Resolves when it is in force.
   *
   * @param problem asked for the reason when `timeoutMs` has passed
   */
  async confirmation(clock: Clock, timeoutMs: number, problem: () => SignalboxError | undefined): Promise<void> {
    if (this.#confirmed) return;
    const settled = new AbortController();
    try {
      await new Promise<void>((confirm, refuse) => {
        const entry = { confirm, refuse };
        this.#waiting.add(entry);
        void wait(clock, timeoutMs, settled.signal).then(() => {
          if (!this.#waiting.delete(entry)) return;
          const cause = problem();
          const why = cause?.message ?? "Redis did not confirm it";
          refuse(new ConnectionError(`SUBSCRIBE was not in force before its deadline: ${why}`, { cause }));
        });
      });
    } finally {
      settled.abort();
    }
  }

  #tellGap(listener: ChannelListener, reason: string): void {
    try {
      listener.gap(reason);
    } catch (error) {
      this.#events.report(error);
    }
  }
}
