/** Everything that one broker holds and watches of groups, on one lease and one timer; it also clears away after the dead. */

import { randomInt } from "node:crypto";
import type { MembershipChange } from "./backend.js";
import { atMost, nextTurn, type Timer } from "./clock.js";
import type { Consuming } from "./consumer-stats.js";
import { ClosedError } from "./errors.js";
import { encodeNews, newsChannel } from "./group-news.js";
import { type HolderHealth, HolderLease } from "./holder-lease.js";
import { MemberGroup } from "./member-group.js";
import { createMembersEvents, type MembersEvents } from "./members-events.js";
import { type Found, GRACE_MS, Reaper } from "./reaper.js";
import type { Runtime } from "./runtime.js";

/** How often it is looked for holders that have died: each broker does so by itself, at moments of its own. */
const LOOK_MS = 600;
const JITTER_MS = 60;
/** When it is looked again. Where there is more to do that is at once, unless the broker closes. */
const NEXT_MS: Readonly<Record<Found, number>> = {
  more: JITTER_MS,
  soon: 2 * JITTER_MS,
  new: GRACE_MS + JITTER_MS,
  done: LOOK_MS,
};
/** Every so many looks groups are compared with the store; and how many of them at a time. */
const COMPARE_EVERY = 2;
const GROUPS_AT_ONCE = 500;
/** How long leaving may take at least when the broker closes. Whoever is left then is taken away by others. */
const LEAVE_MS = 1_000;

export class Members implements Consuming {
  readonly #runtime: Runtime;
  readonly #lease: HolderLease;
  readonly #reaper: Reaper;
  readonly #events: MembersEvents;
  readonly #groups = new Map<string, MemberGroup>();
  #timer: Timer | undefined;
  #looking: Promise<void> = Promise.resolve();
  #looks = 0;
  #failures = 0;
  /** Behind which group the next comparison begins. */
  #compared = 0;
  #closing: Promise<void> | undefined;
  /** What is still under way is nobody's business any more. */
  #isClosed = false;

  constructor(runtime: Runtime, leaseMs: number) {
    this.#runtime = runtime;
    this.#events = createMembersEvents(runtime);
    const { clock } = runtime;
    const { membership } = runtime.backend;
    this.#lease = new HolderLease({ membership, clock, leaseMs, lapsed: (holder) => this.#lapsed(holder) });
    this.#reaper = new Reaper({
      membership,
      clock,
      announce: (group, change) => this.#announce(group, change),
      reaped: (holder, members) => {
        // One that closes takes away its own.
        if (this.#closing === undefined) this.#events.reaped(holder, members);
      },
      report: (error) => runtime.report(error, "taking away members of a process that died"),
    });
  }

  /** The group of that name, `<kind>:<name>`, for as long as something is held or watched there. @throws {ClosedError} */
  group(name: string): MemberGroup {
    if (this.#closing !== undefined) throw new ClosedError("the broker is closed");
    let group = this.#groups.get(name);
    if (group === undefined) {
      group = this.#createGroup(name);
      this.#groups.set(name, group);
    }
    if (this.#timer === undefined) this.#lookIn(LOOK_MS);
    return group;
  }

  /** The same where there is one. */
  find(name: string): MemberGroup | undefined {
    return this.#groups.get(name);
  }

  /** What is asked of the store afterwards does not tell of who has long been dead. */
  async tidy(): Promise<void> {
    if (this.#timer === undefined) await this.#reaper.tidy();
  }

  /** It is no consumer of messages: `health()` has another question for it. */
  stats(): [] {
    return [];
  }

  /** Undefined while nothing is held. */
  health(): HolderHealth | undefined {
    return this.#lease.health();
  }

  /** Leaves everything at once, and tells of it. Safe to call twice. */
  close({ drainMs = 0 }: { readonly drainMs?: number } = {}): Promise<void> {
    this.#closing ??= this.#close(Math.max(drainMs, LEAVE_MS));
    return this.#closing;
  }

  async #close(leaveMs: number): Promise<void> {
    this.#timer?.cancel();
    const left = this.#leave().catch((error: unknown) => {
      if (!this.#isClosed) this.#events.failing(error, 1);
    });
    await atMost(this.#runtime.clock, leaveMs, left);
    this.#isClosed = true;
  }

  async #leave(): Promise<void> {
    const groups = [...this.#groups.values()];
    const unwatching = Promise.allSettled(groups.map(async ({ view }) => view?.close()));
    await Promise.all([...groups.map(({ enrolment }) => enrolment.close()), this.#looking]);
    const { holder } = this.#lease;
    if (holder !== undefined) {
      await this.#runtime.backend.membership.end(holder);
      while (!this.#isClosed && !(await this.#reaper.reap(holder)));
    }
    for (const result of await unwatching)
      if (result.status === "rejected") this.#runtime.report(result.reason, "ending to watch who is present");
  }

  #createGroup(group: string): MemberGroup {
    const { backend, clock } = this.#runtime;
    const { membership, broadcast } = backend;
    const report = (error: unknown, where: string): void => this.#runtime.report(error, where);
    return new MemberGroup(
      {
        group,
        membership,
        clock,
        report,
        holder: () => this.#lease.begun(),
        lapsed: (holder) => this.#lease.lapse(holder),
        announce: (name, change) => this.#announce(name, change),
      },
      { group, membership, broadcast, clock, report, events: this.#events.view(group) },
    );
  }

  #lookIn(ms: number): void {
    this.#timer = this.#runtime.clock.setTimer(
      () => {
        this.#looking = this.#look(ms);
      },
      ms + randomInt(2 * JITTER_MS) - JITTER_MS,
    );
  }

  /** Never rejects. @param passedMs since the last look */
  async #look(passedMs: number): Promise<void> {
    let nextMs = LOOK_MS;
    try {
      let found = await this.#lookOnce(passedMs);
      while (found === "more" && this.#closing === undefined) {
        await nextTurn();
        found = await this.#lookOnce(0);
      }
      nextMs = NEXT_MS[found];
      if (this.#failures > 0) this.#events.recovered();
      this.#failures = 0;
    } catch (error) {
      this.#failures += 1;
      if (this.#closing === undefined) this.#events.failing(error, this.#failures);
    }
    this.#timer = undefined;
    // Who holds nothing, has held nothing and watches nothing need not look.
    const isNeeded = this.#groups.size > 0 || this.#lease.holder !== undefined;
    if (this.#closing === undefined && isNeeded) this.#lookIn(nextMs);
  }

  /** Renews what is due, takes away a part of what the dead have left, and now and then compares. */
  async #lookOnce(passedMs: number): Promise<Found> {
    const { membership } = this.#runtime.backend;
    this.#looks += 1;
    const lapsing = await this.#orForgive(async () => {
      const names = await membership.lapsing();
      await this.#lease.passed(passedMs, (holder) => names.includes(holder));
      return names;
    });
    try {
      return await this.#reaper.look(lapsing.filter((holder) => holder !== this.#lease.holder));
    } finally {
      // Also where somebody cannot be taken away: that may go on for long.
      if (this.#looks % COMPARE_EVERY === 0) await this.#orForgive(() => this.#compare());
    }
  }

  async #orForgive<T>(call: () => Promise<T>): Promise<T> {
    try {
      return await call();
    } catch (error) {
      this.#reaper.forgive();
      throw error;
    }
  }

  /** Compares some of the groups with the store, in turn. */
  async #compare(): Promise<void> {
    for (const [name, group] of this.#groups) if (group.isIdle) this.#groups.delete(name);
    const names = [...this.#groups.keys()];
    if (this.#compared >= names.length) this.#compared = 0;
    const asked = names.slice(this.#compared, this.#compared + GROUPS_AT_ONCE);
    this.#compared += asked.length;
    if (asked.length === 0) return;
    const { holder = "" } = this.#lease;
    const expected = asked.map((name) => this.#groups.get(name)?.expected());
    const found = await this.#runtime.backend.membership.versions(asked, holder);
    // It was replaced meanwhile, and everything is told anew.
    if (holder !== (this.#lease.holder ?? "")) return;
    const lost = asked.filter((name, index) => {
      const group = this.#groups.get(name);
      const [has, wants] = [found[index], expected[index]];
      group?.enrolment.askForRoom();
      return group !== undefined && has !== undefined && wants !== undefined && group.compare(has, wants);
    });
    // What was lost may be all of it, and then the lease is the first to know.
    if (lost.length > 0) await this.#lease.renew();
    if (holder !== this.#lease.holder) return;
    for (const name of lost) {
      const enrolment = this.#groups.get(name)?.enrolment;
      if (enrolment !== undefined) this.#events.lost(name, holder, enrolment.seats.members);
      enrolment?.tellAgain();
    }
  }

  #lapsed(holder: string): void {
    let members = 0;
    for (const { enrolment } of this.#groups.values()) {
      members += enrolment.seats.members;
      enrolment.tellAgain();
    }
    this.#events.lapsed(holder, members);
  }

  /** Never rejects: whoever watches looks at the version as well. */
  async #announce(group: string, change: MembershipChange): Promise<void> {
    const channel = newsChannel(group);
    try {
      await this.#runtime.backend.broadcast.publish(encodeNews(change).map((data) => ({ channel, data })));
    } catch (error) {
      if (!this.#isClosed) this.#events.unsent(error);
    }
  }
}
