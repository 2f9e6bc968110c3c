/** Tells the store who this process holds in one group, one call after the other, until it knows. */

import type { Membership, MembershipChange } from "./backend.js";
import { type Clock, wait } from "./clock.js";
import { ClosedError, LimitError, toError } from "./errors.js";
import { createFailureNews } from "./failure-news.js";
import { nameOfGroup } from "./group-news.js";
import { backoffMs, RECONNECT } from "./retry.js";
import { Seats, type Wanted } from "./seats.js";

export interface EnrolmentOptions {
  readonly group: string;
  readonly membership: Membership;
  readonly clock: Clock;
  /** The holder to call with; begun where there is none. */
  readonly holder: () => Promise<string>;
  /** Hears that this holder has lapsed. */
  readonly lapsed: (holder: string) => void;
  /** Tells whoever watches. Never rejects. */
  readonly announce: (group: string, change: MembershipChange) => Promise<void>;
  readonly report: (error: unknown, where: string) => void;
}

interface Waiting {
  readonly resolve: () => void;
  readonly reject: (error: Error) => void;
}

/** Of one call: so that no script holds Redis for much more than a millisecond. */
const MAX_MEMBERS = 128;
const MAX_CHARS = 128 * 1_024;
/** Members that may wait to be told: memory is bounded. */
const MAX_WAITING = 100_000;

export class Enrolment {
  /** Members that the group may have, as whoever enters says. */
  maxMembers = 0;
  readonly seats: Seats = new Seats();
  readonly #options: EnrolmentOptions;
  readonly #waiting = new Map<string, Waiting[]>();
  readonly #isNews = createFailureNews();
  readonly #closing = new AbortController();
  /** Who found no room; those who only wait for some are told once. */
  readonly #refused = new Set<string>();
  #isFull = false;
  /** What the last call returned as its version, while the store is known to have it. */
  #held: number | undefined;
  #telling: Promise<void> | undefined;

  constructor(options: EnrolmentOptions) {
    this.#options = options;
  }

  /** Nothing is held and nothing is to be told. */
  get isIdle(): boolean {
    return this.seats.members === 0 && !this.seats.hasChanged && this.#telling === undefined;
  }

  /** The version that the store should have of this process's last call; undefined while that is not known. */
  get held(): number | undefined {
    return this.#telling === undefined && this.seats.members > 0 ? this.#held : undefined;
  }

  /** Resolves once the store knows of a change to this member, or rejects with why it does not yet. */
  told(id: string): Promise<void> {
    const waiting = this.#waiting.get(id) ?? [];
    if (this.#closing.signal.aborted) return Promise.reject(new ClosedError("the broker is closed"));
    if (this.#waiting.size >= MAX_WAITING) {
      return Promise.reject(
        new LimitError(`${MAX_WAITING} members of "${nameOfGroup(this.#options.group)}" wait to be told: await some`, {
          retryable: true,
        }),
      );
    }
    this.#waiting.set(id, waiting);
    this.tell();
    return new Promise((resolve, reject) => void waiting.push({ resolve, reject }));
  }

  /** Begins to tell what the store does not know. */
  tell(): void {
    if (this.#telling !== undefined || this.#closing.signal.aborted) return;
    this.#telling = this.#tellAll().finally(() => {
      this.#telling = undefined;
      // What was changed in between has met a call that was as good as over.
      if (this.seats.hasChanged) this.tell();
    });
  }

  /** Everything is told anew: the holder is another one, or the store has lost something. */
  tellAgain(): void {
    this.#held = undefined;
    this.seats.doubt();
    if (this.seats.hasChanged) this.tell();
  }

  /** Tells nothing more. Resolves when no call is under way. */
  async close(): Promise<void> {
    this.#closing.abort();
    this.#rejectWaiting();
    await this.#telling;
    // What was under way may have been put back.
    this.#rejectWaiting();
  }

  /** Tries again for those who found no room: there may be some now. */
  askForRoom(): void {
    const again = [...this.#refused].filter((id) => this.seats.has(id));
    this.#isFull &&= again.length > 0;
    this.seats.doubt(again);
    this.#refused.clear();
    if (this.seats.hasChanged) this.tell();
  }

  /** Never rejects. */
  async #tellAll(): Promise<void> {
    const { clock, report, announce, group } = this.#options;
    // What is changed in the same turn travels together.
    await Promise.resolve();
    for (let failures = 0; this.seats.hasChanged && !this.#closing.signal.aborted; ) {
      const wanted = this.seats.take(MAX_MEMBERS, MAX_CHARS);
      const ids = [...wanted.joining.map(({ id }) => id), ...wanted.leaving];
      const waiting = ids.map((id) => ({ id, all: this.#takeWaiting(id) }));
      const made: MembershipChange[] = [];
      for (const id of ids) this.#refused.delete(id);
      try {
        const isTold = await this.#call(wanted, made);
        const leaving = new Set(wanted.leaving);
        for (const { id, all } of waiting) {
          // Where the holder has lapsed, who joins is told of again, to another. It holds nobody who could leave.
          if (!isTold && !leaving.has(id)) this.#waiting.set(id, [...all, ...this.#takeWaiting(id)]);
          else if (!this.#refused.has(id)) for (const { resolve } of all) resolve();
          else this.#refuse(all);
        }
        failures = isTold ? 0 : failures + 1;
      } catch (thrown) {
        const error = toError(thrown);
        failures += 1;
        this.seats.doubt(ids);
        for (const { all } of waiting) for (const { reject } of all) reject(error);
        if (this.#isNews(error, failures)) report(error, `telling who is in ${nameOfGroup(group)}`);
      }
      for (const change of made) await announce(group, change);
      if (failures > 0) await wait(clock, backoffMs(RECONNECT, Math.min(failures, 10)), this.#closing.signal);
    }
  }

  /**
   * @param made is given what was changed, also when a later call fails
   * @returns false when the holder has lapsed: then nothing is joined, and all that is held is marked to be told again
   */
  async #call({ joining, leaving }: Wanted, made: MembershipChange[]): Promise<boolean> {
    const { group, membership, holder, lapsed } = this.#options;
    const name = await holder();
    if (leaving.length > 0) {
      const left = await membership.leave(group, name, leaving);
      this.#held = left.version;
      made.push(left);
    }
    if (joining.length === 0) return true;
    const joined = await membership.join(group, name, joining, { maxMembers: this.maxMembers });
    if (joined === "lapsed") {
      lapsed(name);
      return false;
    }
    this.#held = joined.version;
    for (const id of joined.refused) this.#refused.add(id);
    made.push(joined);
    return true;
  }

  /** Those who have just come are turned away; those who were here before stay, and wait for room. */
  #refuse(waiting: readonly Waiting[]): void {
    const name = nameOfGroup(this.#options.group);
    const error = new LimitError(`"${name}" has its maxMembers of ${this.maxMembers}: let some leave, or raise it`, {
      retryable: true,
    });
    for (const { reject } of waiting) reject(error);
    if (waiting.length === 0 && !this.#isFull) this.#options.report(error, `coming back to ${name}`);
    this.#isFull = true;
  }

  #rejectWaiting(): void {
    const error = new ClosedError("the broker is closed");
    for (const waiting of this.#waiting.values()) for (const { reject } of waiting) reject(error);
    this.#waiting.clear();
  }

  #takeWaiting(id: string): Waiting[] {
    const waiting = this.#waiting.get(id) ?? [];
    this.#waiting.delete(id);
    return waiting;
  }
}
