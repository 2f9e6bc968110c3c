/** Takes away what holders that died have left, once they have had the time to show that they live. */

import type { Membership, MembershipChange } from "./backend.js";
import { type Clock, wait } from "./clock.js";

/**
 * From seeing that a lease is over to taking its members away: longer than it takes each broker to look, which renews its own.
 * So nobody is taken for dead because a clock has jumped or the store was away, and who is dead is gone within two seconds.
 */
export const GRACE_MS = 760;
/** Parts that are reaped in one look. */
const MAX_PARTS = 20;
/** Who only asks need not look more often than this. */
const TIDY_EVERY_MS = 600;
/** And waits so often at most for those that the store had not named before: it names a hundred at a time. */
const TIDY_ROUNDS = 10;

export interface ReaperOptions {
  readonly membership: Membership;
  readonly clock: Clock;
  /** Tells whoever watches. Never rejects. */
  readonly announce: (group: string, change: MembershipChange) => Promise<void>;
  /** Hears how many members of a holder were taken away. */
  readonly reaped: (holder: string, members: number) => void;
  /** Hears of what could not be taken away, where whoever asks is not to fail because of it. */
  readonly report: (error: unknown) => void;
}

/**
 * `more`: it has not come to an end; `soon`: some have had a part of their grace; `new`: some were seen for the first time
 * and have all of it before them.
 */
export type Found = "more" | "soon" | "new" | "done";

interface Suspect {
  /** It has had its grace. */
  isDead: boolean;
}

export class Reaper {
  readonly #options: ReaperOptions;
  /** Holders whose lease is over, in the order in which they are served. */
  readonly #suspects = new Map<string, Suspect>();
  #tidying: Promise<void> | undefined;
  #tidiedAt = Number.NEGATIVE_INFINITY;

  constructor(options: ReaperOptions) {
    this.#options = options;
  }

  /**
   * Reaps a part of those that were first seen at a look at least {@link GRACE_MS} ago, and whose lease is still over.
   *
   * @throws what the first reap that failed has thrown, once the others have had theirs
   */
  async look(lapsing: readonly string[]): Promise<Found> {
    const fresh = this.#suspect(lapsing);
    const failures: unknown[] = [];
    let parts = 0;
    // In turn, since who has more goes to the end: one that had very many members holds up nobody.
    for (const [holder, suspect] of this.#suspects) {
      if (parts >= MAX_PARTS) break;
      if (!suspect.isDead) continue;
      parts += 1;
      this.#suspects.delete(holder);
      try {
        if (!(await this.reap(holder))) this.#suspects.set(holder, suspect);
      } catch (error) {
        // It begins its grace anew: the store may have been away.
        failures.push(error);
      }
    }
    if (failures.length > 0) throw failures[0];
    const left = [...this.#suspects.values()];
    if (left.some(({ isDead }) => isDead)) return "more";
    if (left.length > fresh) return "soon";
    return fresh > 0 ? "new" : "done";
  }

  /** The store was away: who could not renew is not to be taken for dead as soon as it is back. */
  forgive(): void {
    this.#suspects.clear();
  }

  /** @returns whether nothing is left of the holder */
  async reap(holder: string): Promise<boolean> {
    const { membership, announce, reaped } = this.#options;
    const { lapsed, isDone } = await membership.reap(holder);
    for (const { group, change } of lapsed) await announce(group, change);
    const count = lapsed.reduce((sum, { change }) => sum + change.changes.length, 0);
    if (count > 0) reaped(holder, count);
    return isDone;
  }

  /** For who only asks: nobody may have been there to look since somebody died. Takes the grace where that is so. */
  tidy(): Promise<void> {
    this.#tidying ??= this.#tidy().finally(() => {
      this.#tidying = undefined;
    });
    return this.#tidying;
  }

  /** @returns how many of them had not been seen before */
  #suspect(lapsing: readonly string[]): number {
    const named = new Set(lapsing);
    for (const holder of this.#suspects.keys()) if (!named.has(holder)) this.#suspects.delete(holder);
    const fresh = lapsing.filter((holder) => !this.#suspects.has(holder)).map((holder) => ({ holder, isDead: false }));
    if (fresh.length === 0) return 0;
    for (const suspect of fresh) this.#suspects.set(suspect.holder, suspect);
    // A timer, since clocks jump; who was forgiven meanwhile and is seen again has another.
    const timer = this.#options.clock.setTimer(() => {
      for (const suspect of fresh) suspect.isDead = true;
    }, GRACE_MS);
    timer.unref?.();
    return fresh.length;
  }

  async #tidy(): Promise<void> {
    const { membership, clock } = this.#options;
    if (Math.abs(clock.now() - this.#tidiedAt) < TIDY_EVERY_MS) return;
    const failed = new Set<string>();
    for (let round = 0; round < TIDY_ROUNDS; round += 1) {
      const suspects = (await membership.lapsing()).filter((holder) => !failed.has(holder));
      if (suspects.length === 0) break;
      await wait(clock, GRACE_MS);
      const lapsing = new Set(await membership.lapsing());
      for (const holder of suspects) {
        if (lapsing.has(holder) && !(await this.#reapWhole(holder))) failed.add(holder);
      }
    }
    this.#tidiedAt = clock.now();
  }

  /** @returns false where that failed, which is reported: what can be read is to be read all the same */
  async #reapWhole(holder: string): Promise<boolean> {
    try {
      while (!(await this.reap(holder)));
      return true;
    } catch (error) {
      this.#options.report(error);
      return false;
    }
  }
}
