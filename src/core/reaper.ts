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

export interface ReaperOptions {
  readonly membership: Membership;
  readonly clock: Clock;
  /** Tells whoever watches. Never rejects. */
  readonly announce: (group: string, change: MembershipChange) => Promise<void>;
  /** Hears how many members of a holder were taken away. */
  readonly reaped: (holder: string, members: number) => void;
}

export class Reaper {
  readonly #options: ReaperOptions;
  /** Holders whose lease was over at the last look. */
  #suspects: ReadonlySet<string> = new Set();
  #tidying: Promise<void> | undefined;
  #tidiedAt = Number.NEGATIVE_INFINITY;

  constructor(options: ReaperOptions) {
    this.#options = options;
  }

  /**
   * Reaps those that were seen before, at a look at least {@link GRACE_MS} ago.
   *
   * @returns `new` when there are others, which want that time; `more` when it has not come to an end
   */
  async look(lapsing: readonly string[]): Promise<"done" | "new" | "more"> {
    const dead = lapsing.filter((holder) => this.#suspects.has(holder));
    const isNew = dead.length < lapsing.length;
    this.#suspects = new Set(lapsing);
    let parts = 0;
    for (const holder of dead) {
      while (!(await this.reap(holder))) {
        parts += 1;
        if (parts >= MAX_PARTS) return "more";
      }
    }
    return isNew ? "new" : "done";
  }

  /** The store was away: who could not renew is not to be taken for dead as soon as it is back. */
  forgive(): void {
    this.#suspects = new Set();
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

  async #tidy(): Promise<void> {
    const { membership, clock } = this.#options;
    if (Math.abs(clock.now() - this.#tidiedAt) < TIDY_EVERY_MS) return;
    const suspects = await membership.lapsing();
    if (suspects.length > 0) {
      await wait(clock, GRACE_MS);
      const lapsing = new Set(await membership.lapsing());
      for (const holder of suspects) while (lapsing.has(holder) && !(await this.reap(holder)));
    }
    this.#tidiedAt = clock.now();
  }
}
