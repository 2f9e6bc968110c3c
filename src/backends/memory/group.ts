/** One group of a stream: where it has read to, and what it has read and not finished. */

import type { GroupSettings, GroupStart, NewLetter, Outcome, Receipt, Taken } from "../../core/backend.js";
import { ConfigError, NotFoundError } from "../../core/errors.js";
import { type Entries, numberOf, positionOf, type StoredEntry } from "./entries.js";
import type { FeedSource } from "./feed.js";
import { createHeap, type Heap } from "./heap.js";
import { KeyLines, type Ordered } from "./key-lines.js";
import { toStored } from "./stored.js";
import { type Holder, type Owner, type Work, WorkList } from "./worklist.js";

export interface LogWork extends Work, Ordered {
  /** When its entry was appended. */
  readonly at: number;
  readonly key: string | undefined;
}

const NEVER_AN_ENTRY = -1;
/** The line that all entries stand in when order is strict. */
const ONE_LINE = "";

export class Group implements FeedSource, Owner<LogWork> {
  readonly list: WorkList<LogWork> = new WorkList<LogWork>(this);
  settings: GroupSettings;
  isPaused = false;
  /** Set by `delete`: what is open on the group is to reject from then on. */
  isDeleted = false;
  lastProgressAt: number;
  readonly #title: string;
  readonly #entries: Entries;
  readonly #lines = new KeyLines<LogWork>();
  /** Taken back and due again, oldest entry first. */
  #restored: Heap<LogWork> = createHeap(isOlder);
  /** Number of the next entry to read. */
  #cursor: number;
  /** What was appended before this time is not for the group. */
  #notBefore = Number.NEGATIVE_INFINITY;
  /** Entries removed before they were finished, and not reported yet. */
  #gone = 0;

  /**
   * @param title what errors call it
   * @throws {NotFoundError} when the settings start at what is no position
   */
  constructor(title: string, entries: Entries, settings: GroupSettings, now: number) {
    this.#title = title;
    this.#entries = entries;
    this.settings = settings;
    this.lastProgressAt = now;
    this.#cursor = entries.first;
    this.seek(settings.from);
  }

  // ------------------------------------------------------------------------------------ taking and settling

  take(want: { readonly max: number; readonly holder: Holder }, outcomes: readonly Outcome[], now: number): Taken {
    this.#assertThere();
    const { lost, poisoned } = this.list.settle(outcomes, now, this.settings);
    const max = this.isPaused ? 0 : want.max;
    const deliveries = this.list.deliver(max, want.holder, now + this.settings.leaseMs, () => this.#next());
    if (deliveries.length > 0 || lost.length < outcomes.length || poisoned > 0) this.lastProgressAt = now;
    const gone = this.#gone;
    this.#gone = 0;
    return { deliveries, lost, poisoned, gone, expired: 0 };
  }

  extend(receipts: readonly Receipt[], now: number): readonly Receipt[] {
    this.#assertThere();
    const until = now + this.settings.leaseMs;
    return receipts.filter((receipt) => !this.list.extend(receipt, until));
  }

  giveBack(holder: Holder, now: number): void {
    this.list.giveBack(holder, now);
  }

  /** Makes a dead letter of what was never an entry. */
  park({ position, header, data, attempts, consumer, reason }: NewLetter, now: number): void {
    const place = { number: NEVER_AN_ENTRY, line: undefined, key: undefined, at: now };
    const work = { ...place, position, header, data: toStored(data), attempts, firstFailedAt: now };
    this.list.bury(work, { consumer, reason, at: now }, this.settings.maxDeadLetters);
  }

  nextReadyAt(): number {
    return this.list.nextReadyAt();
  }

  #assertThere(): void {
    if (this.isDeleted) throw new NotFoundError(`the ${this.#title} was deleted`);
  }

  // -------------------------------------------------------------------------------- what the work list says

  restored(work: LogWork): void {
    if (work.number >= this.#entries.first) {
      this.#restored.push(work);
    } else {
      this.#gone += 1;
      this.#lines.release(work);
    }
  }

  finished(work: LogWork): void {
    this.#lines.release(work);
  }

  leased(): void {}

  parked(): void {}

  // ------------------------------------------------------------------------------------------------ reading

  #next(): LogWork | undefined {
    const waiting = this.#restored.pop() ?? this.#lines.next();
    if (waiting !== undefined) return waiting;
    while (this.#mayRead()) {
      const work = this.#read();
      if (work === undefined || this.#lines.admit(work)) return work;
    }
    return undefined;
  }

  #mayRead(): boolean {
    const { order, maxHeld } = this.settings;
    if (order === "strict") return this.#lines.isIdle;
    return order === "none" || this.#lines.held < maxHeld;
  }

  #read(): LogWork | undefined {
    const entry = this.#entries.at(this.#passOver());
    if (entry === undefined) return undefined;
    this.#cursor = entry.number + 1;
    const { number, at, header, data, key } = entry;
    const { order } = this.settings;
    const line = order === "key" ? key : order === "strict" ? ONE_LINE : undefined;
    const position = positionOf(number);
    return { number, at, position, header, data, key, line, attempts: 0, firstFailedAt: undefined };
  }

  /** Moves the cursor past what is not for this group. @returns the number of the next entry that is, or the end */
  #passOver(): number {
    for (let entry = this.#entries.at(this.#cursor); entry !== undefined; entry = this.#entries.at(this.#cursor)) {
      if (this.#isFor(entry)) break;
      this.#cursor += 1;
    }
    return this.#cursor;
  }

  #isFor({ only, at }: StoredEntry): boolean {
    return only === undefined ? at >= this.#notBefore : only === this;
  }

  /**
   * Goes on from there, and drops all that was read and not finished: its receipts are worthless.
   *
   * @throws {NotFoundError} when it is no position
   */
  seek(to: GroupStart): void {
    const { first, end } = this.#entries;
    let cursor = to === "new" ? end : first;
    if (typeof to === "object" && "after" in to) cursor = numberOf(to.after) + 1;
    if (typeof to === "object" && "at" in to) cursor = numberOf(to.at);
    this.#cursor = Math.min(end, Math.max(first, cursor));
    // The time may be one to come: what is appended until then is not for the group either.
    this.#notBefore = typeof to === "object" && "time" in to ? to.time : Number.NEGATIVE_INFINITY;
    this.list.clear();
    this.#lines.clear();
    this.#restored = createHeap(isOlder);
  }

  /** The oldest entries are about to be dropped: all before `first`. Those that are not finished are gone. */
  drop(first: number): void {
    while (this.#passOver() < first) {
      this.#gone += 1;
      this.#cursor += 1;
    }
    const isGone = (work: LogWork): boolean => work.number < first;
    this.#gone += this.#lines.drop(isGone);
    const restored = this.#restored.items();
    this.#restored = createHeap(isOlder);
    for (const work of restored) if (!isGone(work)) this.#restored.push(work);
    // Each of these kept its key busy. Of what is leased the list tells when it comes back.
    for (const work of [...restored.filter(isGone), ...this.list.dropParked(isGone)]) {
      this.#gone += 1;
      this.#lines.release(work);
    }
  }

  // ------------------------------------------------------------------------------------ counts and settings

  get lag(): number {
    const cursor = this.#passOver();
    return this.#entries.end - cursor - this.#entries.notFor(this, cursor) + this.held;
  }

  get retrying(): number {
    return this.list.parkedWork().length + this.#restored.size;
  }

  get held(): number {
    return this.#lines.held;
  }

  /** The oldest entry that is not finished; its number is the stream's end when all are. */
  get oldestUnfinished(): { readonly number: number; readonly at: number | undefined } {
    const cursor = this.#passOver();
    let oldest: { number: number; at: number | undefined } = { number: cursor, at: this.#entries.at(cursor)?.at };
    const look = (work: LogWork | undefined): void => {
      if (work !== undefined && work.number < oldest.number) oldest = work;
    };
    for (const { work } of this.list.leased.values()) look(work);
    for (const work of this.list.parkedWork()) look(work);
    look(this.#restored.peek());
    look(this.#lines.oldest);
    return oldest;
  }

  /** @throws {ConfigError} when `order` is to change while something is on its way */
  configure(changes: Partial<GroupSettings>): GroupSettings {
    const { order } = this.settings;
    const isChanging = changes.order !== undefined && changes.order !== order;
    if (isChanging && this.list.leased.size + this.retrying + this.held > 0) {
      throw new ConfigError([
        `the order of the ${this.#title} cannot change from "${order}" to "${changes.order}" while something is leased, ` +
          "waits for its retry or is held back: pause the group and let its consumers finish",
      ]);
    }
    this.settings = { ...this.settings, ...changes };
    return this.settings;
  }
}

function isOlder(a: LogWork, b: LogWork): boolean {
  return a.number < b.number;
}
