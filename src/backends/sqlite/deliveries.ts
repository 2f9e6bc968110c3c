/** What a group of the log and an inbox of the queue have in common: deliveries that are leased, parked or dead. */

import { randomInt } from "node:crypto";
import type { Outcome, Receipt, Reply } from "../../core/backend.js";
import type { Burial } from "./graveyard.js";
import type { Database } from "./driver.js";
import type { Reader } from "./readers.js";
import { NEVER } from "./schema.js";
import { type StoredText, text } from "./values.js";
import type { Tx } from "./writer.js";

/** Where the messages of a reader come from, as far as settling concerns it. */
export interface Supply {
  /** Changes when there is something to take. */
  readonly topic: string;
  /** Copies the message to the dead letters. @returns false when it is gone */
  bury(reader: Reader, seq: number, burial: Burial): boolean;
  /** Ends and counts a delivery whose message is no longer there to come back: removed, or expired. @returns whether it was */
  endWhereOver(tx: Tx, reader: Reader, seq: number): boolean;
  /** Called when a message is dead. */
  finished(tx: Tx, reader: Reader, seq: number, attempts: number): void;
  /** Called before leases end because their messages are acknowledged. */
  acknowledged(tx: Tx, reader: Reader, leases: LeaseRange): void;
  /** Inboxes: stores an answer that came with an outcome. */
  answered?(tx: Tx, reply: Reply): void;
}

/** All leases of one fence on messages `first` to `last`. */
export interface LeaseRange {
  readonly first: number;
  readonly last: number;
  readonly fence: number;
  readonly count: number;
}

/** Who holds leases: one open feed. Another may have the same name. */
export interface Holder {
  readonly consumer: StoredText;
  /** Any number. */
  readonly feed: number;
}

/** The lease that one take grants to all that it hands out. */
export interface Grant extends Holder {
  readonly fence: number;
  readonly until: number;
  /** With the message's number behind it, a receipt. */
  readonly receipts: string;
}

interface Claim {
  readonly receipt: Receipt;
  readonly fence: number;
  readonly seq: number;
  /** What is acknowledged may be answered. */
  readonly reply: Reply | undefined;
}

interface Leased extends Parked {
  readonly consumer: StoredText;
}

export interface Parked {
  readonly seq: number;
  readonly attempt: number;
  /** When an attempt first failed or was abandoned; null where none did. */
  readonly failedAt: number | null;
  /** When it was last put back for a retry; null where it never was. */
  readonly putBackAt: number | null;
}

/** Of what was never delivered. */
export const UNTRIED = { attempt: 1, failedAt: null, putBackAt: null } as const;

/** Feeds that hold something at the same time have different numbers, as good as always. */
const FEEDS = 2 ** 32;
/** Abandoned deliveries that one take sweeps; the next goes on. */
const MAX_SWEPT = 1_000;

export function createHolder(consumer: string): Holder {
  return { consumer: text(consumer), feed: randomInt(FEEDS) };
}

/**
 * A receipt is the reader, the fence of the take, and the message's number: a lease that was given back, settled or taken
 * over has another fence or none, whatever its attempt.
 */
function parseReceipt(reader: Reader, receipt: Receipt, reply?: Reply): Claim | undefined {
  const [id, fence, seq] = receipt.split(".").map(Number);
  if (id !== reader.id || !Number.isSafeInteger(fence) || !Number.isSafeInteger(seq)) return undefined;
  return { receipt, fence: Number(fence), seq: Number(seq), reply };
}

export class Deliveries {
  readonly #sql: ReturnType<typeof prepare>;

  constructor(db: Database) {
    this.#sql = prepare(db);
  }

  /** Settles each outcome once. @returns the receipts that are no longer valid */
  settle(tx: Tx, reader: Reader, outcomes: readonly Outcome[], supply: Supply): Receipt[] {
    const lost: Receipt[] = [];
    const acks = new Map<number, Claim[]>();
    const seen = new Set<Receipt>();
    for (const outcome of outcomes) {
      const { receipt } = outcome;
      const reply = outcome.as === "ack" ? outcome.reply : undefined;
      const claim = seen.has(receipt) ? undefined : parseReceipt(reader, receipt, reply);
      seen.add(receipt);
      if (claim === undefined) lost.push(receipt);
      else if (outcome.as === "ack") append(acks, claim);
      else if (!this.#settleOne(tx, reader, claim, outcome, supply)) lost.push(receipt);
    }
    for (const [fence, claims] of acks) lost.push(...this.#acknowledge(tx, reader, fence, claims, supply));
    tx.spend(outcomes.length);
    return lost;
  }

  /** Takes back the leases that have run out: their consumer died or hangs. @returns how many are dead letters now */
  sweep(tx: Tx, reader: Reader, maxAttempts: number, supply: Supply): number {
    if (tx.now < reader.nextEnd) return 0;
    let poisoned = 0;
    const abandoned = this.#sql.abandoned.all(reader.id, tx.now, MAX_SWEPT);
    for (const { seq, attempt, consumer, failedAt, putBackAt } of abandoned) {
      const isOver = supply.endWhereOver(tx, reader, seq);
      this.#sql.drop.run(reader.id, seq);
      if (isOver) continue;
      const firstFailedAt = failedAt ?? tx.now;
      if (attempt < maxAttempts) {
        this.park(reader, { seq, attempt: attempt + 1, failedAt: firstFailedAt, putBackAt }, tx.now);
        continue;
      }
      const reason = { kind: "abandoned", message: `no consumer finished it in ${attempt} attempts` } as const;
      if (supply.bury(reader, seq, { attempts: attempt, consumer, reason, firstFailedAt, at: tx.now })) poisoned += 1;
      else reader.unreported += 1;
      supply.finished(tx, reader, seq, attempt);
    }
    reader.nextEnd = this.#sql.earliestEnd.get(reader.id)?.until ?? NEVER;
    reader.changed = true;
    tx.spend(abandoned.length);
    return poisoned;
  }

  /** Begins to hand out: everything that the take gives gets this grant. */
  grant(tx: Tx, reader: Reader, leaseMs: number, holder: Holder): Grant {
    reader.fence += 1;
    const until = tx.now + leaseMs;
    reader.nextEnd = Math.min(reader.nextEnd, until);
    reader.changed = true;
    return { ...holder, fence: reader.fence, until, receipts: `${reader.id}.${reader.fence}.` };
  }

  lease(reader: Reader, { seq, attempt, failedAt, putBackAt }: Parked, grant: Grant): void {
    const { fence, until, consumer, feed } = grant;
    this.#sql.lease.run(reader.id, seq, fence, attempt, until, consumer, feed, failedAt, putBackAt);
  }

  /** Whether a consumer has it in hands. */
  isLeased(reader: Reader, seq: number): boolean {
    return this.#sql.isLeased.get(reader.id, seq) !== undefined;
  }

  /** Ends a lease from outside: its receipt is no longer valid. */
  drop(reader: Pick<Reader, "id">, seq: number): void {
    this.#sql.drop.run(reader.id, seq);
  }

  /** Whether any consumer has something in hands. */
  anyLeased({ id }: Reader): boolean {
    return this.#sql.anyLeased.get(id) !== undefined;
  }

  anyParked({ id }: Reader): boolean {
    return this.#sql.anyParked.get(id) !== undefined;
  }

  /** Keeps a delivery back until it is due. */
  park(reader: Pick<Reader, "id">, { seq, attempt, failedAt, putBackAt }: Parked, due: number): void {
    this.#sql.park.run(seq, attempt, due, failedAt, putBackAt, seq, reader.id);
  }

  unpark(reader: Pick<Reader, "id">, seq: number): void {
    this.#sql.unpark.run(reader.id, seq);
  }

  /** What is parked and due, the earliest first. */
  due(reader: Reader, now: number, max: number): Parked[] {
    return this.#sql.due.all(reader.id, now, max);
  }

  /** When something will be ready by the clock alone. */
  readyAt(reader: Reader): number {
    return Math.min(reader.nextEnd, this.#sql.earliestDue.get(reader.id)?.due ?? NEVER);
  }

  /** Renews leases. @returns the receipts that are no longer valid */
  extend(tx: Tx, reader: Reader, receipts: readonly Receipt[], leaseMs: number): Receipt[] {
    tx.spend(receipts.length);
    return receipts.filter((receipt) => {
      const claim = parseReceipt(reader, receipt);
      return claim === undefined || this.#sql.extend.run(tx.now + leaseMs, reader.id, claim.seq, claim.fence) === 0;
    });
  }

  /** Makes what the feed still holds available again, uncounted. */
  giveBack(tx: Tx, reader: Reader, { feed }: Holder): void {
    const held = this.#sql.parkHeld.run(tx.now, reader.id, feed);
    if (held > 0) this.#sql.dropHeld.run(reader.id, feed);
  }

  /** Forgets all that is leased or parked: receipts are worthless from now on. */
  clear(reader: Reader): void {
    this.#sql.clearLeased.run(reader.id);
    this.#sql.clearParked.run(reader.id);
    reader.nextEnd = NEVER;
    reader.changed = true;
  }

  #settleOne(
    tx: Tx,
    reader: Reader,
    { seq, fence }: Claim,
    outcome: Exclude<Outcome, { as: "ack" }>,
    supply: Supply,
  ): boolean {
    const leased = this.#sql.leased.get(reader.id, seq, fence);
    if (leased === undefined) return false;
    const { attempt, consumer, failedAt } = leased;
    this.#sql.drop.run(reader.id, seq);
    if (outcome.as === "retry") {
      const again = outcome.counted ? { attempt: attempt + 1, failedAt: failedAt ?? tx.now } : { attempt, failedAt };
      this.park(reader, { seq, ...again, putBackAt: tx.now }, tx.now + outcome.delayMs);
      // Others who wait now know when it is due.
      tx.changed(supply.topic);
      return true;
    }
    const burial = { attempts: attempt, consumer, reason: outcome.reason, at: tx.now };
    if (!supply.bury(reader, seq, { ...burial, firstFailedAt: failedAt ?? tx.now })) {
      reader.unreported += 1;
      reader.changed = true;
    }
    supply.finished(tx, reader, seq, attempt);
    if (outcome.reply !== undefined) supply.answered?.(tx, outcome.reply);
    return true;
  }

  /**
   * Acknowledges deliveries of one take: with one statement, where they are all that it still holds between the first and
   * the last. @returns the receipts that are no longer valid
   */
  #acknowledge(tx: Tx, reader: Reader, fence: number, claims: readonly Claim[], supply: Supply): Receipt[] {
    const end = (first: number, last: number, count: number): void => {
      supply.acknowledged(tx, reader, { first, last, fence, count });
      this.#sql.dropRange.run(reader.id, first, last, fence);
    };
    let first = Number.POSITIVE_INFINITY;
    let last = Number.NEGATIVE_INFINITY;
    for (const { seq } of claims) {
      first = Math.min(first, seq);
      last = Math.max(last, seq);
    }
    const held = new Set(this.#sql.held.all(reader.id, first, last, fence).map(({ seq }) => seq));
    const valid = claims.filter(({ seq }) => held.has(seq));
    if (valid.length === held.size && valid.length > 0) end(first, last, valid.length);
    else for (const { seq } of valid) end(seq, seq, 1);
    for (const { reply } of valid) if (reply !== undefined) supply.answered?.(tx, reply);
    return claims.filter(({ seq }) => !held.has(seq)).map(({ receipt }) => receipt);
  }
}

function append(byFence: Map<number, Claim[]>, claim: Claim): void {
  const claims = byFence.get(claim.fence);
  if (claims === undefined) byFence.set(claim.fence, [claim]);
  else claims.push(claim);
}

// Parameters come in the order of the calls above.
function prepare(db: Database) {
  const range = "reader = ? AND seq BETWEEN ? AND ? AND fence = ?";
  const columns = "seq, attempt, consumer, failed_at AS failedAt, put_back_at AS putBackAt";
  // How urgent it is, only items have.
  const urgency = (seq: string): string =>
    `CASE kind WHEN 'inbox' THEN (SELECT urgency FROM sb1_items WHERE seq = ${seq}) END`;
  return {
    leased: db.prepare<Leased>(`SELECT ${columns} FROM sb1_leased WHERE reader = ? AND seq = ? AND fence = ?`),
    anyLeased: db.prepare("SELECT 1 FROM sb1_leased WHERE reader = ? LIMIT 1"),
    lease: db.prepare(
      `INSERT INTO sb1_leased (reader, seq, fence, attempt, until, consumer, feed, failed_at, put_back_at)
       VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)`,
    ),
    isLeased: db.prepare("SELECT 1 FROM sb1_leased WHERE reader = ? AND seq = ?"),
    extend: db.prepare("UPDATE sb1_leased SET until = ? WHERE reader = ? AND seq = ? AND fence = ?"),
    drop: db.prepare("DELETE FROM sb1_leased WHERE reader = ? AND seq = ?"),
    clearLeased: db.prepare("DELETE FROM sb1_leased WHERE reader = ?"),
    held: db.prepare<{ seq: number }>(`SELECT seq FROM sb1_leased WHERE ${range}`),
    dropRange: db.prepare(`DELETE FROM sb1_leased WHERE ${range}`),
    abandoned: db.prepare<Leased>(
      `SELECT ${columns} FROM sb1_leased WHERE reader = ? AND until <= ? ORDER BY seq LIMIT ?`,
    ),
    earliestEnd: db.prepare<{ until: number | null }>("SELECT min(until) AS until FROM sb1_leased WHERE reader = ?"),
    parkHeld: db.prepare(
      `INSERT INTO sb1_parked (reader, seq, attempt, due, failed_at, put_back_at, urgency)
       SELECT reader, seq, attempt, ?, failed_at, put_back_at, ${urgency("leased.seq")}
       FROM sb1_leased AS leased JOIN sb1_readers AS readers ON readers.id = leased.reader
       WHERE reader = ? AND feed = ?`,
    ),
    dropHeld: db.prepare("DELETE FROM sb1_leased WHERE reader = ? AND feed = ?"),
    park: db.prepare(
      `INSERT INTO sb1_parked (reader, seq, attempt, due, failed_at, put_back_at, urgency)
       SELECT id, ?, ?, ?, ?, ?, ${urgency("?")} FROM sb1_readers WHERE id = ?`,
    ),
    anyParked: db.prepare("SELECT 1 FROM sb1_parked WHERE reader = ? LIMIT 1"),
    unpark: db.prepare("DELETE FROM sb1_parked WHERE reader = ? AND seq = ?"),
    clearParked: db.prepare("DELETE FROM sb1_parked WHERE reader = ?"),
    due: db.prepare<Parked>(
      `SELECT seq, attempt, failed_at AS failedAt, put_back_at AS putBackAt FROM sb1_parked WHERE reader = ? AND due <= ?
       ORDER BY due, seq LIMIT ?`,
    ),
    earliestDue: db.prepare<{ due: number | null }>("SELECT min(due) AS due FROM sb1_parked WHERE reader = ?"),
  };
}
