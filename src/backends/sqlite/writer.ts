/** Group commit: everything that is written in one turn of the event loop rides in one transaction. */

import type { Clock } from "../../core/clock.js";
import { PublishIndeterminateError, SignalboxError, toError } from "../../core/errors.js";
import type { Database } from "./driver.js";
import { isBusy, isFull, translate } from "./errors.js";

/** One transaction, as the operations in it see it. */
export interface Tx {
  /** The clock when the transaction began. */
  readonly now: number;
  /** Counts messages handled, so that one transaction does not hold the event loop for long. */
  spend(messages: number): void;
  /** Wakes whoever waits for the topic: here at once, so that what they then take rides along; elsewhere after the commit. */
  changed(topic: string): void;
  /** Runs before the commit, to write what was kept in memory. */
  beforeCommit(save: () => void): void;
  /** Runs after the commit, before the operations' promises resolve. Must not throw. */
  afterCommit(run: () => void): void;
}

export interface Writer {
  /**
   * Runs `work` in a transaction and resolves once that is on the disk. `work` either throws a `SignalboxError` before it
   * writes anything, or is done; whatever else it throws rolls everything back, and each operation is then tried by itself. So
   * it may run again, and keeps nothing outside the transaction.
   *
   * @param stores whether it stores messages: a commit that fails half-way then rejects with `PublishIndeterminateError`
   * @throws {TimeoutError} when another process kept the file locked for five seconds
   */
  run<T>(work: (tx: Tx) => T, stores?: "messages"): Promise<T>;
  /** Resolves when nothing is left to do. */
  idle(): Promise<void>;
}

export interface WriterOptions {
  readonly db: Database;
  readonly path: string;
  readonly clock: Clock;
  /** Wakes those who wait in this process. */
  readonly wake: (topic: string) => void;
  /** Wakes other processes. */
  readonly ring: () => void;
}

/** Beyond this many messages the rest waits for the next turn of the event loop. */
const MAX_MESSAGES = 1_000;
/** How long an operation waits for other processes, in all. */
const BUSY_LIMIT_MS = 5_000;
/** Pause between two attempts at the lock; in each, SQLite itself waits for `BUSY_TIMEOUT_MS`. */
const BUSY_PAUSE_MS = 10;
/** Blocks the event loop, so it is short: enough for another process to finish its transaction. */
export const BUSY_TIMEOUT_MS = 20;

interface Job {
  /** @throws what is no `SignalboxError` */
  attempt(tx: Tx): void;
  committed(): void;
  reject(error: Error): void;
  readonly stores: boolean;
  waitingSince: number | undefined;
}

class Transaction implements Tx {
  readonly now: number;
  readonly saves: (() => void)[] = [];
  readonly effects: (() => void)[] = [];
  readonly topics: Set<string> = new Set<string>();
  messages = 0;
  readonly #wake: (topic: string) => void;

  constructor(now: number, wake: (topic: string) => void) {
    this.now = now;
    this.#wake = wake;
  }

  spend(messages: number): void {
    this.messages += messages;
  }

  changed(topic: string): void {
    this.topics.add(topic);
    this.#wake(topic);
  }

  beforeCommit(save: () => void): void {
    this.saves.push(save);
  }

  afterCommit(run: () => void): void {
    this.effects.push(run);
  }
}

export function createWriter(options: WriterOptions): Writer {
  const { db, path, clock, wake, ring } = options;
  const begin = db.prepare("BEGIN IMMEDIATE");
  const commit = db.prepare("COMMIT");
  const rollback = db.prepare("ROLLBACK");
  let jobs: Job[] = [];
  let scheduled = false;
  /** How many of the next operations run alone, since something failed while they ran together. */
  let alone = 0;
  const idlers: (() => void)[] = [];

  function schedule(): void {
    if (scheduled || jobs.length === 0) return;
    scheduled = true;
    setImmediate(flush);
  }

  function flush(): void {
    scheduled = false;
    if (!tryBegin()) return;
    const tx = new Transaction(clock.now(), wake);
    let done = 0;
    try {
      const most = alone > 0 ? 1 : Number.POSITIVE_INFINITY;
      // What an operation changes may add operations, such as the take that waited for it.
      for (let job = jobs[0]; job !== undefined && done < most && tx.messages < MAX_MESSAGES; job = jobs[done]) {
        done += 1;
        job.attempt(tx);
      }
      for (const save of tx.saves) save();
    } catch (error) {
      undo(error, done, "in time");
      return;
    }
    try {
      commit.run();
    } catch (error) {
      undo(error, done, isFull(error) || isBusy(error) ? "in time" : "too late");
      return;
    }
    for (const effect of tx.effects) effect();
    for (const job of take(done)) job.committed();
    if (tx.topics.size > 0) ring();
    goOn();
  }

  /** @returns false when there is no transaction: then whoever waited long enough has been told */
  function tryBegin(): boolean {
    try {
      begin.run();
      return true;
    } catch (error) {
      if (isBusy(error)) waitForLock(error);
      else refuse(take(jobs.length), error);
      goOn();
      return false;
    }
  }

  function waitForLock(error: unknown): void {
    const now = clock.now();
    const isOver = (job: Job): boolean => now - (job.waitingSince ?? now) >= BUSY_LIMIT_MS;
    refuse(jobs.filter(isOver), error);
    jobs = jobs.filter((job) => !isOver(job));
    for (const job of jobs) job.waitingSince ??= now;
    if (jobs.length === 0) return;
    scheduled = true;
    clock.setTimer(flush, BUSY_PAUSE_MS);
  }

  /** Undoes everything. What failed among others is tried alone, so that one operation's failure is its own. */
  function undo(error: unknown, done: number, when: "in time" | "too late"): void {
    try {
      rollback.run();
    } catch (secondary) {
      // SQLite rolls back by itself when the disk fails or is full, and then there is no transaction to end.
      if (!toError(secondary).message.includes("no transaction")) refuse(take(jobs.length), secondary);
    }
    if (when === "too late") refuse(take(done), error, "may have happened");
    else if (done === 1) refuse(take(1), error);
    else alone = done;
    goOn();
  }

  function take(count: number): Job[] {
    alone = Math.max(0, alone - count);
    return jobs.splice(0, count);
  }

  function refuse(refused: readonly Job[], cause: unknown, fate?: "may have happened"): void {
    const error = translate(cause, path);
    const unknown = new PublishIndeterminateError(
      `the commit failed, and whether it took effect is not known: ${error.message}`,
      { cause },
    );
    for (const job of refused) job.reject(fate !== undefined && job.stores ? unknown : error);
  }

  function goOn(): void {
    if (jobs.length > 0) schedule();
    else for (const resolve of idlers.splice(0)) resolve();
  }

  return {
    run<T>(work: (tx: Tx) => T, stores?: "messages"): Promise<T> {
      return new Promise<T>((resolve, reject) => {
        let settle: () => void;
        jobs.push({
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
          stores: stores === "messages",
          waitingSince: undefined,
        });
        schedule();
      });
    },
    async idle() {
      if (jobs.length > 0) await new Promise<void>((resolve) => void idlers.push(resolve));
    },
  };
}

/** A row of bookkeeping that several operations of a transaction change, and that is written once before the commit. */
export interface Row {
  changed: boolean;
}

export interface Rows<K, T extends Row> {
  /** The row as this transaction has it; loaded at its first use. */
  get(tx: Tx, key: K): T | undefined;
  /** Adds a row that was just inserted. */
  add(tx: Tx, key: K, row: T): T;
}

/** Keeps one table's rows for the length of a transaction: other processes may change them in between. */
export function createRows<K, T extends Row>(load: (key: K) => T | undefined, save: (row: T) => void): Rows<K, T> {
  let current: Tx | undefined;
  let rows = new Map<K, T>();

  function of(tx: Tx): Map<K, T> {
    if (current === tx) return rows;
    current = tx;
    const fresh = new Map<K, T>();
    rows = fresh;
    tx.beforeCommit(() => {
      for (const row of fresh.values()) {
        if (row.changed) save(row);
        row.changed = false;
      }
    });
    return rows;
  }

  return {
    get(tx, key) {
      const known = of(tx).get(key);
      if (known !== undefined) return known;
      const row = load(key);
      if (row !== undefined) of(tx).set(key, row);
      return row;
    },
    add(tx, key, row) {
      of(tx).set(key, row);
      return row;
    },
  };
}
