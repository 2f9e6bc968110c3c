/** Watching as an iterable: who is present first, then every change. */

import { nextTurn } from "../core/clock.js";
import type { KnownChange, KnownMember } from "../core/group-news.js";
import type { ViewListener } from "../core/group-view.js";
import type { PresenceChange, PresentMember } from "./member.js";

/** What is watched, once it has begun. */
export interface Watched {
  readonly members: ReadonlyMap<string, KnownMember>;
  close(): Promise<void>;
}

export interface WatchOptions {
  /** Begins with the first `next()`. Rejects with why it could not; nothing stays open then. */
  readonly start: (listener: ViewListener) => Promise<Watched>;
  /** Members as they are told. */
  readonly toPresent: (member: KnownMember) => PresentMember;
  /** Changes that may wait to be read one by one. */
  readonly buffer: number;
  /** Hears that somebody reads too slowly, and how many changes were told as one with others. */
  readonly merged: (changes: number) => void;
  /** Hears of an end that failed and that no caller had asked for. */
  readonly report: (error: unknown) => void;
  /** Maybe twice. */
  readonly ended: () => void;
  readonly signal: AbortSignal | undefined;
}

/** Changes that are handed out before the event loop comes round: a loop over what is ready would keep it from all else. */
const CHANGES_IN_A_TURN = 256;
/** Changes that were read are let go of in pieces of at least so many. */
const MIN_READ = 1_024;

/** Changes as an iterable that can be used once. Leaving the loop ends the watching. */
export class PresenceWatch implements AsyncIterableIterator<PresenceChange>, AsyncDisposable {
  readonly #options: WatchOptions;
  #ready: KnownChange[] = [];
  /** How many of them were read. */
  #read = 0;
  /** Changes handed out since the event loop came round for this. */
  #handed = 0;
  #turning: Promise<void> | undefined;
  /** As many as may wait before they are merged. */
  #room: number;
  /** Who is present was told. */
  #hasBegun = false;
  #watched: Promise<Watched> | undefined;
  #wakes: (() => void)[] = [];
  #closing: Promise<void> | undefined;
  #detach: (() => void) | undefined;

  constructor(options: WatchOptions) {
    this.#options = options;
    this.#room = options.buffer;
    const { signal } = options;
    if (signal === undefined) return;
    const end = (): void => void this.close().catch(options.report);
    signal.addEventListener("abort", end, { once: true });
    this.#detach = () => signal.removeEventListener("abort", end);
    if (signal.aborted) end();
  }

  async next(): Promise<IteratorResult<PresenceChange, undefined>> {
    const watched = await this.#begin();
    if (watched === undefined) return { done: true, value: undefined };
    try {
      return await this.#next(watched);
    } catch (error) {
      // A loop ends with what next() throws, and does not come back to end the watching.
      await this.close().catch(this.#options.report);
      throw error;
    }
  }

  async #next(watched: Watched): Promise<IteratorResult<PresenceChange, undefined>> {
    const { toPresent } = this.#options;
    while (this.#closing === undefined) {
      if (!this.#hasBegun) {
        this.#hasBegun = true;
        const members = [...watched.members.values()].map(toPresent);
        return { done: false, value: { kind: "snapshot", members } };
      }
      if (this.#handed >= CHANGES_IN_A_TURN) {
        // All who wait for a change wait for the same, so that they go on in their order.
        await (this.#turning ??= this.#turn());
        continue;
      }
      const change = this.#take();
      if (change !== undefined) return { done: false, value: { kind: change.kind, member: toPresent(change.member) } };
      await new Promise<void>((resolve) => this.#wakes.push(resolve));
    }
    return { done: true, value: undefined };
  }

  /** Ends the watching. */
  async return(): Promise<IteratorResult<PresenceChange, undefined>> {
    await this.close();
    return { done: true, value: undefined };
  }

  /** The same. Safe to call twice. */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  async #begin(): Promise<Watched | undefined> {
    if (this.#closing !== undefined) return undefined;
    this.#watched ??= this.#options.start({ changed: (changes) => this.#changed(changes) });
    try {
      return await this.#watched;
    } catch (error) {
      this.#detach?.();
      this.#options.ended();
      if (this.#closing !== undefined) return undefined;
      throw error;
    }
  }

  #changed(changes: readonly KnownChange[]): void {
    // Until the snapshot is read, it has them all.
    if (!this.#hasBegun) return;
    // One by one: as arguments of one call, very many would not fit on the stack.
    for (const change of changes) this.#ready.push(change);
    if (this.#ready.length - this.#read > this.#room) this.#merge();
    this.#wakeAll();
  }

  async #turn(): Promise<void> {
    await nextTurn();
    this.#handed = 0;
    this.#turning = undefined;
  }

  #take(): KnownChange | undefined {
    const change = this.#ready[this.#read];
    if (change !== undefined) {
      this.#read += 1;
      this.#handed += 1;
    }
    if (this.#read === this.#ready.length) {
      this.#keep([]);
      this.#room = this.#options.buffer;
    } else if (this.#read >= MIN_READ && 2 * this.#read >= this.#ready.length) {
      this.#keep(this.#ready.slice(this.#read));
    }
    return change;
  }

  #keep(unread: KnownChange[]): void {
    this.#ready = unread;
    this.#read = 0;
  }

  /** What is left has at most one change of each member: never more than were present and are. */
  #merge(): void {
    const before = this.#ready.length - this.#read;
    this.#keep(mergeChanges(this.#ready.slice(this.#read)));
    this.#room = Math.max(this.#options.buffer, 2 * this.#ready.length);
    if (this.#ready.length < before) this.#options.merged(before - this.#ready.length);
  }

  async #close(): Promise<void> {
    // In the next turn of the queue, when `#closing` is set.
    await Promise.resolve();
    this.#detach?.();
    this.#wakeAll();
    try {
      // One that could not begin has told whoever called next().
      const watched = await this.#watched?.catch(() => undefined);
      await watched?.close();
    } finally {
      this.#keep([]);
      this.#options.ended();
    }
  }

  #wakeAll(): void {
    const wakes = this.#wakes;
    this.#wakes = [];
    for (const wake of wakes) wake();
  }
}

/** The same with one change of each member: what it comes to for whoever has read none of them. */
export function mergeChanges(changes: readonly KnownChange[]): KnownChange[] {
  const merged = new Map<string, KnownChange>();
  for (const { kind, member } of changes) {
    const before = merged.get(member.id)?.kind;
    // Who has come and gone was never there.
    if (before === "joined" && kind === "left") merged.delete(member.id);
    else if (before === "joined") merged.set(member.id, { kind: "joined", member });
    else merged.set(member.id, { kind: before === "left" ? "updated" : kind, member });
  }
  return [...merged.values()];
}
