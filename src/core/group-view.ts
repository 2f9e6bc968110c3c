/** Who is in one group, kept up to date for all who watch it in this process: a list, then the news. */

import { randomInt } from "node:crypto";
import type { Broadcast, Bytes, Membership, Unsubscribe } from "./backend.js";
import { type Clock, type Timer, wait } from "./clock.js";
import { ClosedError, toError } from "./errors.js";
import { createFailureNews } from "./failure-news.js";
import { decodeNews, type KnownChange, type KnownMember, nameOfGroup, newsChannel } from "./group-news.js";
import { GroupReplica, Listing } from "./group-replica.js";
import { backoffMs, RECONNECT } from "./retry.js";

export interface ViewListener {
  /** What has changed since the group is known; never empty. */
  changed(changes: readonly KnownChange[]): void;
}

export interface ViewOptions {
  readonly group: string;
  readonly membership: Membership;
  readonly broadcast: Broadcast;
  readonly clock: Clock;
  readonly report: (error: unknown, where: string) => void;
  /** Hears of changes and of lists that were read, whoever listens. */
  readonly events: ViewEvents;
}

export interface ViewEvents {
  changed(changes: readonly KnownChange[]): void;
  /** @param reason why it was read again; undefined the first time */
  listed(reason: string | undefined): void;
  /** So many more members are known, or fewer. */
  counted(difference: number): void;
}

const PAGE = 1_000;
/** How long news that are missing may take: each publisher sends its own, and one may overtake another. */
const PATIENCE_MS = 200;
/** News that are kept while others are missing or a list is read. */
const MAX_KEPT = 5_000;

export class GroupView {
  readonly #options: ViewOptions;
  readonly #listeners = new Set<ViewListener>();
  readonly #closing = new AbortController();
  readonly #isNews = createFailureNews();
  readonly #replica = new GroupReplica();
  #starting: Promise<void> | undefined;
  #unsubscribe: Unsubscribe | undefined;
  #isReady = false;
  /** The list that is being read. */
  #listing: Listing | undefined;
  /** Why the list has to be read again once the present reading is over. */
  #missed: string | undefined;
  #isReading = false;
  /** Members that `events` has been told of. */
  #counted = 0;
  #patience: Timer | undefined;

  constructor(options: ViewOptions) {
    this.#options = options;
  }

  /** Nobody watches: then it is to be closed. */
  get isIdle(): boolean {
    return this.#listeners.size === 0;
  }

  get listeners(): number {
    return this.#listeners.size;
  }

  get members(): ReadonlyMap<string, KnownMember> {
    return this.#replica.members;
  }

  /** Of what is known. */
  get version(): number {
    return this.#replica.version;
  }

  /** Resolves once the group is known and every change from then on is heard. @throws what subscribing or listing throws */
  async add(listener: ViewListener): Promise<void> {
    this.#listeners.add(listener);
    try {
      this.#starting ??= this.#start();
      await this.#starting;
    } catch (error) {
      this.#listeners.delete(listener);
      throw error;
    }
  }

  remove(listener: ViewListener): void {
    this.#listeners.delete(listener);
  }

  /** Compares with the group's version in the store: the truth behind news that are lost. @param asked what it was here then */
  compare(version: number, asked: number): void {
    const known = this.#replica.version;
    if (!this.#isReady || this.#isReading || version === known || asked !== known) return;
    // Who empties a group may have been the last to know its version.
    if (version === 0 && this.#replica.members.size === 0) return;
    this.#waitForMissing("the store has another version");
  }

  /** Safe to call twice. */
  async close(): Promise<void> {
    this.#closing.abort();
    this.#patience?.cancel();
    this.#count(0);
    const unsubscribe = this.#unsubscribe;
    this.#unsubscribe = undefined;
    await unsubscribe?.();
  }

  async #start(): Promise<void> {
    const { broadcast, group } = this.#options;
    try {
      const unsubscribe = await broadcast.subscribe(
        { channel: newsChannel(group) },
        { message: (_channel, data) => this.#hear(data), gap: (reason) => this.#readAgain(reason) },
      );
      if (this.#closing.signal.aborted) await unsubscribe();
      this.#assertOpen();
      this.#unsubscribe = unsubscribe;
      // As long as it takes to read one list whole; a failure is for whoever waits to watch.
      while (!(await this.#read())) this.#assertOpen();
      this.#options.events.listed(undefined);
      if (this.#missed !== undefined) void this.#readUntilKnown();
      this.#look();
    } catch (error) {
      this.#starting = undefined;
      const unsubscribe = this.#unsubscribe;
      this.#unsubscribe = undefined;
      await unsubscribe?.();
      throw error;
    }
  }

  #assertOpen(): void {
    if (this.#closing.signal.aborted)
      throw new ClosedError("nobody watches the group any more, or the broker is closed");
  }

  #hear(data: Bytes): void {
    if (this.#closing.signal.aborted) return;
    const news = decodeNews(data);
    if (news === undefined) return this.#readAgain("news that cannot be read");
    this.#listing?.hear(news);
    if (!this.#isReady) return;
    this.#tell(this.#replica.hear(news));
    this.#look();
  }

  #count(members: number): void {
    if (members !== this.#counted) this.#options.events.counted(members - this.#counted);
    this.#counted = members;
  }

  #tell(changes: readonly KnownChange[]): void {
    if (changes.length === 0) return;
    this.#count(this.#replica.members.size);
    this.#options.events.changed(changes);
    for (const listener of this.#listeners) {
      try {
        listener.changed(changes);
      } catch (error) {
        // The others are to hear of it all the same, and what is known has changed already.
        this.#options.report(error, `telling who watches ${nameOfGroup(this.#options.group)}`);
      }
    }
  }

  #look(): void {
    const { early } = this.#replica;
    if (early > MAX_KEPT) this.#readAgain("too many news without those they follow");
    else if (early > 0) this.#waitForMissing("news are missing");
  }

  /** Gives what is missing some time, and reads the list when nothing has come. */
  #waitForMissing(reason: string): void {
    const { version } = this.#replica;
    this.#patience ??= this.#options.clock.setTimer(() => {
      this.#patience = undefined;
      if (this.#replica.version === version) this.#readAgain(reason);
      else this.#look();
    }, PATIENCE_MS);
  }

  #readAgain(reason: string): void {
    if (this.#closing.signal.aborted) return;
    this.#missed ??= reason;
    if (this.#isReady && !this.#isReading) void this.#readUntilKnown();
  }

  /** Never rejects. */
  async #readUntilKnown(): Promise<void> {
    const { clock, report, group, events } = this.#options;
    const { signal } = this.#closing;
    this.#isReading = true;
    // Where a server was away, everybody's list is wanted at the same time.
    await wait(clock, randomInt(PATIENCE_MS), signal);
    for (let failures = 0; this.#missed !== undefined && !signal.aborted; ) {
      const reason = this.#missed;
      this.#missed = undefined;
      try {
        const isKnown = await this.#read();
        if (!isKnown) this.#missed ??= reason;
        events.listed(reason);
        failures = isKnown ? 0 : failures + 1;
      } catch (thrown) {
        const error = toError(thrown);
        this.#missed ??= reason;
        failures += 1;
        if (this.#isNews(error, failures)) report(error, `watching ${nameOfGroup(group)}`);
      }
      if (failures > 0) await wait(clock, backoffMs(RECONNECT, Math.min(failures, 10)), signal);
    }
    this.#isReading = false;
    if (!signal.aborted) this.#look();
  }

  /** Reads the list, and takes over what it and the news since come to. @returns false when news were missed meanwhile */
  async #read(): Promise<boolean> {
    const { membership, group, clock } = this.#options;
    const { signal } = this.#closing;
    const listing = new Listing();
    this.#listing = listing;
    try {
      let cursor: string | undefined;
      do {
        const page = await membership.list(group, { max: PAGE, cursor });
        listing.add(page);
        cursor = page.cursor;
        if (signal.aborted || listing.heard > MAX_KEPT) return false;
      } while (cursor !== undefined);
      let found = listing.finish();
      if (found === undefined) await wait(clock, PATIENCE_MS, signal);
      found ??= listing.finish();
      if (found === undefined || signal.aborted) return false;
      const changes = this.#replica.become(found);
      if (this.#isReady) this.#tell(changes);
      this.#count(this.#replica.members.size);
      this.#isReady = true;
      return true;
    } finally {
      this.#listing = undefined;
    }
  }
}
