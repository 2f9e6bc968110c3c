/** Group commit: everything that is written in one turn of the event loop rides in one transaction. */

import type { Clock } from "../../core/clock.js";
import { PublishIndeterminateError, SignalboxError, toError } from "../../core/errors.js";
import type { Bell } from "./bell.js";
import type { Database, Statement } from "./driver.js";
import { isBusy, isFull, translate } from "./errors.js";

/** One transaction, as the operations in it see it. */
export interface Tx {
  /** The clock when the transaction began. */
  readonly now: number;
  /** Counts messages handled, so that one transaction does not hold the event loop for long. */
  spend(messages: number): void;
  /** Wakes whoever waits for the topic: here at once, so that what they then take rides along; elsewhere after the commit. */
  changed(topic: string): void;
  /** Wakes those in other processes only. */
  changedForOthers(topic: string): void;
  /** Runs before the commit, to write what was kept in memory. */
  beforeCommit(save: () => void): void;
  /** Runs after the commit, before the operations' promises resolve. Must not throw. */
  afterCommit(run: () => void): void;
}

export interface WriterOptions {
  readonly db: Database;
  readonly path: string;
  readonly clock: Clock;
  readonly bell: Bell;
}

/** Beyond this many messages the rest waits for the next turn of the event loop. */
const MAX_MESSAGES = 1_000;
/**
 * How long SQLite itself waits for another process's lock. That blocks the event loop, so it is short: enough for a
 * transaction to finish. Then the loop has its turn, and the next attempt follows. What is awaited is another process and no
 * moment in time, so the injected clock has no part in it.
 */
export const BUSY_TIMEOUT_MS = 2;
/** How long an operation asks for the lock in all. */
const LOCK_TIMEOUT_MS = 5_000;

interface Job {
  /** @throws what is no `SignalboxError` */
  attempt(tx: Tx): void;
  committed(): void;
  reject(error: Error): void;
  readonly storesMessages: boolean;
  /** Since when the lock was asked for in vain, by `performance.now`; undefined before that. */
  lockedOutSince: number | undefined;
}

class Transaction implements Tx {
  readonly now: number;
  readonly saves: (() => void)[] = [];
  readonly effects: (() => void)[] = [];
  readonly topics: Set<string> = new Set();
  messages = 0;
  readonly #bell: Bell;

  constructor(now: number, bell: Bell) {
    this.now = now;
    this.#bell = bell;
  }

  spend(messages: number): void {
    this.messages += messages;
  }

  changed(topic: string): void {
    this.topics.add(topic);
    this.#bell.wake(topic);
  }

  changedForOthers(topic: string): void {
    this.topics.add(topic);
  }

  beforeCommit(save: () => void): void {
    this.saves.push(save);
  }

  afterCommit(run: () => void): void {
    this.effects.push(run);
  }
}

export class Writer {
  readonly #options: WriterOptions;
  readonly #begin: Statement<unknown>;
  readonly #commit: Statement<unknown>;
  readonly #rollback: Statement<unknown>;
  #jobs: Job[] = [];
  #scheduled = false;
  /** How many of the next operations run alone, since something failed while they ran together. */
  #alone = 0;
  readonly #idlers: (() => void)[] = [];

  constructor(options: WriterOptions) {
    this.#options = options;
    this.#begin = options.db.prepare("BEGIN IMMEDIATE");
    this.#commit = options.db.prepare("COMMIT");
    this.#rollback = options.db.prepare("ROLLBACK");
  }

  /**
   * Runs `work` in a transaction and resolves once that is on the disk. `work` either throws a `SignalboxError` before it
   * writes anything of its own, or is done; whatever else it throws rolls everything back, and each operation is then tried by
   * itself. So it may run again, and keeps nothing outside the transaction.
   *
   * @param stores whether it stores messages: a commit that fails half-way then rejects with `PublishIndeterminateError`
   * @throws {TimeoutError} when another process kept the file locked for five seconds
   */
  run<T>(work: (tx: Tx) => T, stores?: "messages"): Promise<T> {
    return new Promise<T>((resolve, reject) => {
      let settle: () => void;
      this.#jobs.push({
        attempt(tx) {
          try {
            const value = work(tx);
            settle = () => resolve(value);
          } catch (error) {
            if (!(error instanceof SignalboxError)) throw error;
            settle = () => reject(error);
          }
        },
        committed: () => settle(),
        reject,
        storesMessages: stores === "messages",
        lockedOutSince: undefined,
      });
      this.#schedule();
    });
  }

  /** Resolves when nothing is left to do. */
  async idle(): Promise<void> {
    if (this.#jobs.length > 0) await new Promise<void>((resolve) => void this.#idlers.push(resolve));
  }

  #schedule(): void {
    if (this.#scheduled) return;
    this.#scheduled = true;
    setImmediate(this.#flush);
  }

  readonly #flush = (): void => {
    this.#scheduled = false;
    if (!this.#tryBegin()) return;
    const tx = new Transaction(this.#options.clock.now(), this.#options.bell);
    let done = 0;
    try {
      const most = this.#alone > 0 ? 1 : Number.POSITIVE_INFINITY;
      // What an operation changes may add operations, such as the take that waited for it.
      for (
        let job = this.#jobs[0];
        job !== undefined && done < most && tx.messages < MAX_MESSAGES;
        job = this.#jobs[done]
      ) {
        done += 1;
        job.attempt(tx);
      }
      for (const save of tx.saves) save();
    } catch (error) {
      this.#undo(error, done, "in time");
      return;
    }
    try {
      this.#commit.run();
    } catch (error) {
      this.#undo(error, done, isFull(error) || isBusy(error) ? "in time" : "too late");
      return;
    }
    for (const effect of tx.effects) effect();
    for (const job of this.#take(done)) job.committed();
    if (tx.topics.size > 0) this.#options.bell.ring(tx.topics);
    this.#goOn();
  };

  /** @returns false when there is no transaction: then whoever waited long enough has been told */
  #tryBegin(): boolean {
    try {
      this.#begin.run();
      return true;
    } catch (error) {
      if (isBusy(error)) this.#waitForLock(error);
      else this.#refuse(this.#take(this.#jobs.length), error);
      this.#goOn();
      return false;
    }
  }

  #waitForLock(error: unknown): void {
    const now = performance.now();
    const tooLong: Job[] = [];
    const patient: Job[] = [];
    for (const job of this.#jobs) {
      job.lockedOutSince ??= now;
      (now - job.lockedOutSince < LOCK_TIMEOUT_MS ? patient : tooLong).push(job);
    }
    this.#refuse(tooLong, error);
    this.#jobs = patient;
  }

  /** Undoes everything. What failed among others is tried alone, so that one operation's failure is its own. */
  #undo(error: unknown, done: number, when: "in time" | "too late"): void {
    try {
      this.#rollback.run();
    } catch (secondary) {
      // SQLite rolls back by itself when the disk fails or is full, and then there is no transaction to end.
      if (!toError(secondary).message.includes("no transaction"))
        this.#refuse(this.#take(this.#jobs.length), secondary);
    }
    if (when === "too late") this.#refuse(this.#take(done), error, "may have happened");
    else if (done === 1) this.#refuse(this.#take(1), error);
    else this.#alone = done;
    this.#goOn();
  }

  #take(count: number): Job[] {
    this.#alone = Math.max(0, this.#alone - count);
    return this.#jobs.splice(0, count);
  }

  #refuse(refused: readonly Job[], cause: unknown, fate?: "may have happened"): void {
    const error = translate(cause, this.#options.path);
    const unknown = new PublishIndeterminateError(
      `the commit failed, and whether it took effect is not known: ${error.message}`,
      { cause },
    );
    for (const job of refused) job.reject(fate !== undefined && job.storesMessages ? unknown : error);
  }

  #goOn(): void {
    if (this.#jobs.length > 0) this.#schedule();
    else for (const resolve of this.#idlers.splice(0)) resolve();
  }
}
