/** One group: what was delivered to it, what became of that, and what has to hold between the two and the publishers. */

import type { Finding, Findings, Rule } from "./history-findings.js";
import { DeliveryLedger, FACT, type PublisherLedger, RESULT } from "./history-ledger.js";
import type { DirectorOp, EndedAs, GroupTraits } from "./history-log.js";
import { KeyOrder } from "./history-order.js";
import { hashOf } from "./random.js";
import type { Windows } from "./history-windows.js";

export type Left = Extract<DirectorOp, { op: "left" }>;
export type Letter = Extract<DirectorOp, { op: "letter" }>;

export interface GroupCounts {
  /** Messages delivered at least once. */
  readonly delivered: number;
  /** Deliveries beyond the first of each message. */
  readonly repeated: number;
  readonly acked: number;
  readonly dead: number;
  /** Acknowledged publishes that are accounted for by nothing. */
  readonly lost: number;
}

export interface Shared {
  readonly publishers: ReadonlyMap<number, PublisherLedger>;
  readonly findings: Findings;
  readonly windows: Windows;
  /** Numbers of consumers that were killed. */
  readonly deadConsumers: ReadonlySet<number>;
  /** Messages may be dropped, as the stream says. */
  readonly mayDrop: boolean;
  /** The groups need not have finished. */
  readonly mayBeLeft: boolean;
}

export interface Attempt {
  readonly t: number;
  readonly p: number;
  readonly n: number;
  readonly a: number;
}

export class GroupDeliveries {
  readonly traits: GroupTraits;
  readonly #shared: Shared;
  readonly #order: KeyOrder | undefined;
  readonly #ledgers = new Map<number, DeliveryLedger>();
  /** When the decisions were made that the store has not answered yet, by consumer, message and attempt. */
  readonly #decidedAt = new Map<string, number>();
  /** How long each message took to come again that a consumer held when it was killed (ms). */
  readonly redeliveries: number[] = [];
  /** What each consumer is about. */
  readonly #holding = new Map<number, Map<string, Attempt>>();
  /** What was held by consumers that were killed, and when. */
  readonly #orphans = new Map<string, number>();
  #letters = 0;
  #gone = 0;
  #left: Left | undefined;

  constructor(traits: GroupTraits, shared: Shared) {
    this.traits = traits;
    this.#shared = shared;
    if (traits.order === "key") this.#order = new KeyOrder(traits.name, shared.findings, shared.windows);
  }

  begin(op: Attempt & { readonly at: string }, consumer: number): void {
    const { t, p, n, a } = op;
    const publisher = this.#shared.publishers.get(p);
    if (publisher === undefined || n >= publisher.count) {
      this.#add("phantom", op, `message ${n} of publisher ${p} was delivered, and nobody has published it`);
      return;
    }
    const ledger = this.#ledgerOf(p, n);
    const isFirst = !ledger.has(n, FACT.begun);
    if (isFirst) ledger.place[n] = placeOf(op.at);
    else this.#judgeRepeated(ledger, op, consumer);
    this.#judgeUnseen(op, (isFirst ? publisher.invokedAt[n] : ledger.begunAt[n]) ?? 0, ledger.attempt[n] ?? 0);
    this.#adopt(op, consumer);
    if (a > this.traits.maxAttempts)
      this.#add("attempts", op, `attempt ${a} of a message that has at most ${this.traits.maxAttempts}`);
    const key = publisher.keyOf(n);
    if (key !== undefined) this.#order?.begin({ p, n, key, t, isFirst });
    ledger.mark(n, FACT.begun | FACT.open);
    ledger.clear(n, FACT.retried);
    ledger.attempt[n] = Math.max(ledger.attempt[n] ?? 0, a);
    ledger.begins[n] = Math.min(255, (ledger.begins[n] ?? 0) + 1);
    ledger.begunAt[n] = t;
    ledger.holder[n] = consumer;
  }

  end(op: Attempt & { readonly as: EndedAs }, consumer: number, awaitsAnswer: boolean): void {
    const { t, p, n, a, as } = op;
    const publisher = this.#shared.publishers.get(p);
    // Phantoms were reported when they began.
    if (publisher === undefined || n >= publisher.count) return;
    const ledger = this.#ledgerOf(p, n);
    if (as === "ack") ledger.mark(n, FACT.acked);
    this.#holding.get(consumer)?.delete(`${p} ${n}`);
    if (ledger.holder[n] === consumer) ledger.clear(n, FACT.open);
    if (as === "retry" && ledger.attempt[n] === a) ledger.mark(n, FACT.retried);
    if (awaitsAnswer && as === "ack") this.#decidedAt.set(`${consumer} ${p} ${n} ${a}`, t);
    const key = publisher.keyOf(n);
    if (key !== undefined) this.#order?.end(p, n, key, as);
  }

  /** The store has answered what a consumer decided. */
  answered(op: Attempt & { readonly op: "stored" | "lost"; readonly as: EndedAs }, consumer: number): void {
    const { t, p, n, a, as } = op;
    const name = `${consumer} ${p} ${n} ${a}`;
    const decidedAt = this.#decidedAt.get(name) ?? t;
    this.#decidedAt.delete(name);
    if (op.op === "lost" || as !== "ack") return;
    const ledger = this.#ledgerOf(p, n);
    const begunAt = ledger.begunAt[n] ?? 0;
    const overtaken = (ledger.attempt[n] ?? 0) > a && begunAt < decidedAt;
    if (overtaken && !this.#shared.windows.rolledBack(begunAt, t)) {
      const what = `attempt ${a} was acknowledged although attempt ${ledger.attempt[n]} had begun before`;
      this.#add("fence", op, what);
    }
    ledger.mark(n, FACT.stored);
    ledger.storedAt[n] = t;
  }

  /** Whoever takes over has to do so soon after the leases have run out. */
  died(consumer: number, t: number): void {
    for (const name of this.#holding.get(consumer)?.keys() ?? []) this.#orphans.set(name, t);
    this.#holding.delete(consumer);
  }

  gone(count: number): void {
    this.#gone += count;
  }

  letter(op: Letter): void {
    this.#letters += 1;
    const { p, n, attempts, kind } = op;
    const publisher = this.#shared.publishers.get(p);
    if (publisher === undefined || n >= publisher.count) {
      this.#add("phantom", op, `there is a dead letter of message ${n} of publisher ${p}, which nobody has published`);
      return;
    }
    const ledger = this.#ledgerOf(p, n);
    // What was parked comes again, and is parked again, where the store forgot that it had been.
    if (ledger.has(n, FACT.dead) && !this.#shared.windows.rolledBack(0, ledger.begunAt[n] ?? 0))
      this.#add("twice", op, "there are two dead letters of one message");
    ledger.mark(n, FACT.dead);
    const { maxAttempts } = this.traits;
    const all = kind === "failed" || kind === "abandoned";
    if (attempts < 1 || attempts > maxAttempts || (all && attempts < maxAttempts))
      this.#add("attempts", op, `a dead letter (${kind}) after ${attempts} of ${maxAttempts} attempts`);
    const storedAt = ledger.storedAt[n] ?? 0;
    if (ledger.has(n, FACT.stored) && !this.#shared.windows.rolledBack(storedAt, op.t))
      this.#add("again", op, "there is a dead letter of a message whose acknowledgement was stored");
  }

  left(op: Left): void {
    this.#left = op;
  }

  /** The judgement that needs the whole history. */
  finish(): GroupCounts {
    this.#order?.finish((p, n) => this.#ledgers.get(p)?.has(n, FACT.dead) === true);
    const missing: { p: number; n: number; rule: "lost" | "unfinished" }[] = [];
    let delivered = 0;
    let begins = 0;
    let acked = 0;
    for (const [p, publisher] of this.#shared.publishers) {
      const ledger = this.#ledgerOf(p, publisher.count);
      for (let n = 0; n < publisher.count; n += 1) {
        const begun = ledger.has(n, FACT.begun);
        const result = publisher.resultOf(n);
        begins += ledger.begins[n] ?? 0;
        if (begun) delivered += 1;
        if (begun && result === RESULT.fail) this.#addAbout("refused", p, n, REFUSED);
        if (ledger.has(n, FACT.acked)) acked += 1;
        else if (!ledger.has(n, FACT.dead) && (begun || result === RESULT.ok))
          missing.push({ p, n, rule: begun ? "unfinished" : "lost" });
      }
    }
    const lost = this.#account(missing);
    return { delivered, repeated: begins - delivered, acked, dead: this.#letters, lost };
  }

  /** What is missing must be what the store says is left, or what it has said that it dropped. @returns the rest */
  #account(missing: readonly { p: number; n: number; rule: "lost" | "unfinished" }[]): number {
    const { findings, mayDrop, mayBeLeft } = this.#shared;
    const group = this.traits.name;
    const left = this.#left;
    if (left === undefined) {
      findings.add({ rule: "equation", what: "nobody has asked the store what is left", group });
    } else {
      const { lag, pending, retrying, dead } = left;
      if (lag + pending + retrying > 0 && !mayBeLeft)
        findings.add({ rule: "left", what: `${lag} waiting, ${pending} pending, ${retrying} retrying`, group });
      if (dead !== this.#letters)
        findings.add({ rule: "equation", what: `${dead} dead letters are counted, ${this.#letters} are there`, group });
    }
    if (this.#gone > 0 && !mayDrop) findings.add({ rule: "gone", what: `${this.#gone} messages were dropped`, group });
    const open = left === undefined ? 0 : left.lag + left.pending + left.retrying;
    const excused = open + (mayDrop ? this.#gone : 0);
    if (missing.length <= excused) return 0;
    const excess = `${missing.length} of the group's messages are missing, ${open} are left, ${this.#gone} were dropped`;
    for (const { p, n, rule } of missing) this.#addAbout(rule, p, n, excess);
    return missing.length - excused;
  }

  #judgeRepeated(ledger: DeliveryLedger, op: Attempt & { readonly at: string }, consumer: number): void {
    const { t, n, a } = op;
    const { windows, deadConsumers } = this.#shared;
    const begunAt = ledger.begunAt[n] ?? 0;
    const before = ledger.attempt[n] ?? 0;
    if (ledger.place[n] !== placeOf(op.at) && !windows.rolledBack(begunAt, t))
      this.#add("twice", op, `the message came from one position, and now comes from ${op.at}`);
    // Somebody who stood still may begin now what he was given long ago, whatever has become of it since.
    if (windows.stalled(t, t) || windows.rolledBack(begunAt, t)) return;
    if (ledger.has(n, FACT.stored))
      this.#add("again", op, `attempt ${a} has begun although the acknowledgement of the message was stored`);
    if (a < before || (a === before && ledger.has(n, FACT.retried)))
      this.#add("attempts", op, `attempt ${a} has begun behind attempt ${before}, which had to be counted`);
    const holder = ledger.holder[n] ?? 0;
    const soon = t - begunAt < (this.traits.leaseMs * 1e6) / 2;
    const isHeld = ledger.has(n, FACT.open) && holder !== consumer && !deadConsumers.has(holder);
    if (isHeld && soon && !windows.stalled(begunAt, t))
      this.#add("overlap", op, `consumers ${holder} and ${consumer} have the message at the same time`);
  }

  /** Attempts pass unseen only where a consumer dies or stands still: otherwise somebody takes what he does not handle. */
  #judgeUnseen(op: Attempt, since: number, before: number): void {
    const { windows } = this.#shared;
    if (op.a <= before + 1 || windows.excused(since, op.t)) return;
    this.#add("unseen", op, `attempt ${op.a} has begun, and before it only ${before} were seen`);
  }

  #adopt(op: Attempt, consumer: number): void {
    const { t, p, n } = op;
    const name = `${p} ${n}`;
    const held = this.#holding.get(consumer) ?? new Map<string, Attempt>();
    held.set(name, op);
    this.#holding.set(consumer, held);
    const diedAt = this.#orphans.get(name);
    if (diedAt === undefined) return;
    this.#orphans.delete(name);
    const ms = (t - diedAt) / 1e6;
    this.redeliveries.push(ms);
    const { windows } = this.#shared;
    if (ms > this.traits.leaseMs + REDELIVERY_MS && !windows.stalled(diedAt, t) && !windows.rolledBack(diedAt, t))
      this.#add("stuck", op, `it came again ${Math.round(ms)} ms after the consumer that held it had died`);
  }

  #ledgerOf(p: number, n: number): DeliveryLedger {
    let ledger = this.#ledgers.get(p);
    if (ledger === undefined) {
      ledger = new DeliveryLedger();
      this.#ledgers.set(p, ledger);
    }
    ledger.hold(n);
    return ledger;
  }

  #add(rule: Rule, { t, p, n }: Pick<Attempt, "t" | "p" | "n">, what: string): void {
    this.#shared.findings.add({ rule, what, t, message: { p, n }, group: this.traits.name });
  }

  #addAbout(rule: Finding["rule"], p: number, n: number, what: string): void {
    this.#shared.findings.add({ rule, what, message: { p, n }, group: this.traits.name });
  }
}

/** After the lease of what a dead consumer held has run out. */
const REDELIVERY_MS = 5_000;
const REFUSED = "its publish was refused, and it came";

function placeOf(position: string): number {
  return hashOf(...Buffer.from(position));
}
