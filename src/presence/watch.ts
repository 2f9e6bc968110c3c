/** Watching as an iterable: who is present first, then every change. */

import type { KnownChange, KnownMember } from "../core/group-news.js";
import type { ViewListener } from "../core/group-view.js";
import { type PresenceChange, toPresent } from "./member.js";

/** What is watched, once it has begun. */
export interface Watched {
  readonly members: ReadonlyMap<string, KnownMember>;
  close(): Promise<void>;
}

export interface WatchOptions {
  /** Begins with the first `next()`. Rejects with why it could not; nothing stays open then. */
  readonly start: (listener: ViewListener) => Promise<Watched>;
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

/** Changes as an iterable that can be used once. Leaving the loop ends the watching. */
export class PresenceWatch implements AsyncIterableIterator<PresenceChange>, AsyncDisposable {
  readonly #options: WatchOptions;
  #ready: KnownChange[] = [];
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
    while (this.#closing === undefined) {
      if (!this.#hasBegun) {
        this.#hasBegun = true;
        const members = [...watched.members.values()].map(toPresent);
        return { done: false, value: { kind: "snapshot", members } };
      }
      const change = this.#ready.shift();
      if (this.#ready.length === 0) this.#room = this.#options.buffer;
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
    this.#ready.push(...changes);
    if (this.#ready.length > this.#room) this.#merge();
    this.#wakeAll();
  }

  /** What is left has at most one change of each member: never more than were present and are. */
  #merge(): void {
    const before = this.#ready.length;
    this.#ready = mergeChanges(this.#ready);
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
      this.#ready = [];
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
