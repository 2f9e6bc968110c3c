/** One recipient of a queue: what was handed out to it and when, and what has to hold of each message by itself. */

import type { Findings, Rule } from "./history-findings.js";
import { InboxLedger, ITEM, type ItemLedger } from "./history-item-ledger.js";
import type { ItemDelivered, ItemsFound, OfItem, QueueTraits, Within } from "./history-items.js";
import { hashOf } from "./random.js";
import { Urgency } from "./history-urgency.js";
import type { Windows } from "./history-windows.js";

export interface InboxShared {
  readonly traits: QueueTraits;
  readonly publishers: ReadonlyMap<number, ItemLedger>;
  readonly findings: Findings;
  readonly windows: Windows;
}

type Begin = OfItem & Within & { readonly t: number; readonly at: string };
type Letter = Extract<ItemsFound, { op: "itemLetter" }>;

/**
 * How far the store's clock may be off by what is known of it from outside, which is when it was asked and when it
 * answered: it counts whole milliseconds, and is adjusted now and then, while ours is not.
 */
const CLOCK_NS = 20e6;
/** After the lease of what a dead consumer held has run out. */
const REDELIVERY_MS = 5_000;

export class Inbox {
  readonly recipient: string;
  /** How long each message took to come again that a consumer held when it was killed (ms). */
  readonly redeliveries: number[] = [];
  /** The number that the publishers' ledgers have for it. */
  readonly #number: number;
  readonly #shared: InboxShared;
  readonly #leaseNs: number;
  readonly #urgency = new Urgency();
  readonly #ledgers = new Map<number, InboxLedger>();
  /** When the decisions were made that the store has not answered yet, by consumer, message and attempt. */
  readonly #decidedAt = new Map<string, number>();
  /** What each consumer is about, as `<publisher> <number>`. */
  readonly #holding = new Map<number, Set<string>>();
  /** What was held by consumers that were killed, and when. */
  readonly #orphans = new Map<string, number>();
  /** When something was last given back unfinished, and nobody may ever have seen it. */
  #releasedAt = 0;

  constructor(recipient: string, number: number, shared: InboxShared) {
    this.recipient = recipient;
    this.#number = number;
    this.#shared = shared;
    this.#leaseNs = shared.traits.leaseMs * 1e6;
  }

  /** Whether it is for this recipient. */
  isFor(publisher: ItemLedger, n: number): boolean {
    const to = publisher.recipientOf(n);
    // The number behind the audience's stands for all of them, and 0 is nobody of them.
    return to === this.#number || (this.#number > 0 && to > this.#shared.traits.audience.length);
  }

  begin(op: Begin, consumer: number): void {
    const { p, n, a, from, until } = op;
    const publisher = this.#shared.publishers.get(p);
    if (publisher === undefined || n >= publisher.count || until < (publisher.invokedAt[n] ?? 0)) {
      this.#add("phantom", op, `message ${n} of publisher ${p} was delivered, and nobody had published it`);
      return;
    }
    if (!this.isFor(publisher, n)) {
      this.#add("phantom", op, "the message was delivered, and it is for somebody else");
      return;
    }
    if (a > this.#shared.traits.maxAttempts)
      this.#add("attempts", op, `attempt ${a} of a message that has ${this.#shared.traits.maxAttempts} at most`);
    const ledger = this.ledgerOf(p, n);
    const isFirst = !ledger.has(n, ITEM.begun);
    ledger.begins[n] = Math.min(255, (ledger.begins[n] ?? 0) + 1);
    this.#judgeTimes(op, publisher, ledger, isFirst);
    // Somebody who stood still begins now what he was given long ago, whatever has become of it since.
    const isEarlier = until <= (ledger.takenFrom[n] ?? 0) || a < (ledger.attempt[n] ?? 0);
    if (!isFirst && isEarlier && from < (ledger.takenUntil[n] ?? 0)) return;
    if (isFirst) ledger.id[n] = hashOf(...Buffer.from(op.at));
    else this.#judgeRepeated(op, ledger, consumer);
    this.#judgeUnseen(op, publisher, ledger, isFirst);
    this.#judgeUrgency(op, publisher, ledger, isFirst);
    this.#adopt(op, consumer);
    const priority = publisher.priority[n] ?? 0;
    this.#urgency.note({ p, n, priority, invokedAt: publisher.invokedAt[n] ?? 0, from, until });
    ledger.mark(n, ITEM.begun | ITEM.open);
    ledger.clear(n, ITEM.retried | ITEM.deferred);
    ledger.attempt[n] = Math.max(ledger.attempt[n] ?? 0, a);
    ledger.holder[n] = consumer;
    ledger.takenFrom[n] = from;
    ledger.takenUntil[n] = until;
    ledger.leasedFrom[n] = from;
    ledger.readyAt[n] = 0;
    ledger.waitsFrom[n] = 0;
  }

  end(op: Extract<ItemDelivered, { op: "itemEnd" }>, consumer: number, awaitsAnswer: boolean): void {
    const { p, n, a, as, delayMs = 0, t } = op;
    const ledger = this.#known(p, n);
    // Phantoms were reported when they began.
    if (ledger === undefined) return;
    if (awaitsAnswer) this.#decidedAt.set(`${consumer} ${p} ${n} ${a}`, t);
    if (as === "ack") ledger.mark(n, ITEM.acked);
    this.#holding.get(consumer)?.delete(`${p} ${n}`);
    if (ledger.holder[n] !== consumer || ledger.attempt[n] !== a) return;
    ledger.clear(n, ITEM.open);
    if (as !== "retry" && as !== "defer") return;
    ledger.mark(n, as === "retry" ? ITEM.retried : ITEM.deferred);
    ledger.readyAt[n] = t + delayMs * 1e6;
  }

  /** The store has taken what was decided, or has refused it. */
  answered(op: Extract<ItemDelivered, { op: "itemStored" | "itemLost" }>, consumer: number): void {
    const { p, n, a, as, t, delayMs = 0 } = op;
    const name = `${consumer} ${p} ${n} ${a}`;
    const decidedAt = this.#decidedAt.get(name) ?? t;
    this.#decidedAt.delete(name);
    const ledger = this.#known(p, n);
    if (op.op === "itemLost" || ledger === undefined) return;
    const current = ledger.attempt[n] ?? 0;
    const wasTaken = current > a && (ledger.takenUntil[n] ?? 0) < decidedAt;
    if (wasTaken && !this.#shared.windows.rolledBack(ledger.takenFrom[n] ?? 0, t))
      this.#add(
        "fence",
        op,
        `the outcome of attempt ${a} counted although attempt ${current} had been handed out before`,
      );
    if (as === "ack") ledger.mark(n, ITEM.stored);
    if (as === "ack" || as === "dead") ledger.finishedAt[n] = t;
    const isCurrent = current === a && ledger.holder[n] === consumer;
    if (isCurrent && (as === "retry" || as === "defer")) ledger.waitsFrom[n] = t + delayMs * 1e6 + CLOCK_NS;
  }

  extended({ p, n, a, from }: OfItem & { readonly from: number }, consumer: number): void {
    const ledger = this.#known(p, n);
    if (ledger === undefined || ledger.holder[n] !== consumer || ledger.attempt[n] !== a) return;
    ledger.leasedFrom[n] = Math.max(ledger.leasedFrom[n] ?? 0, from);
  }

  expired(op: Within & { readonly p: number; readonly n: number; readonly t: number }): void {
    const { p, n, from, until } = op;
    const publisher = this.#shared.publishers.get(p);
    if (publisher === undefined || n >= publisher.count || !this.isFor(publisher, n)) {
      this.#add("phantom", op, "something expired that nobody has published");
      return;
    }
    const ledger = this.ledgerOf(p, n);
    const ttlMs = publisher.ttlMs[n] ?? 0;
    if (ttlMs === 0) this.#add("early", op, "it expired, and has no time to live");
    else if (until < (publisher.invokedAt[n] ?? 0) + ttlMs * 1e6 - CLOCK_NS)
      this.#add("early", op, `it expired before its ${ttlMs} ms were over`);
    const finishedAt = ledger.finishedAt[n] ?? 0;
    if (ledger.has(n, ITEM.stored) && from > finishedAt && !this.#shared.windows.rolledBack(finishedAt, op.t))
      this.#add("again", op, "it expired although its acknowledgement was stored");
    ledger.mark(n, ITEM.expired);
    ledger.finishedAt[n] = until;
  }

  letter(op: Letter): void {
    const { p, n, attempts, kind } = op;
    const publisher = this.#shared.publishers.get(p);
    if (publisher === undefined || n >= publisher.count || !this.isFor(publisher, n)) {
      this.#add("phantom", op, "there is a dead letter of what nobody has published, or for somebody else");
      return;
    }
    const ledger = this.ledgerOf(p, n);
    const { windows } = this.#shared;
    if (ledger.has(n, ITEM.dead) && !windows.rolledBack(0, ledger.takenUntil[n] ?? 0))
      this.#add("twice", op, "there are two dead letters of one message");
    ledger.mark(n, ITEM.dead);
    const { maxAttempts } = this.#shared.traits;
    const all = kind === "failed" || kind === "abandoned";
    if (attempts < 1 || attempts > maxAttempts || (all && attempts < maxAttempts))
      this.#add("attempts", op, `a dead letter (${kind}) after ${attempts} of ${maxAttempts} attempts`);
    const isOver = ledger.has(n, ITEM.stored) || ledger.has(n, ITEM.expired);
    if (isOver && !windows.rolledBack(ledger.finishedAt[n] ?? 0, op.t))
      this.#add("again", op, "there is a dead letter of a message that was finished");
  }

  /** Whoever takes over has to do so soon after the leases have run out. */
  died(consumer: number, t: number): void {
    for (const name of this.#holding.get(consumer) ?? []) this.#orphans.set(name, t);
    this.#holding.delete(consumer);
  }

  released(consumer: number, t: number): void {
    this.#releasedAt = t;
    for (const name of this.#holding.get(consumer) ?? []) {
      const [p = 0, n = 0] = name.split(" ").map(Number);
      this.#known(p, n)?.clear(n, ITEM.open);
    }
    this.#holding.delete(consumer);
  }

  /** Messages by which it would have shown had another been preferred. */
  get compared(): number {
    return this.#urgency.compared;
  }

  ledgerOf(p: number, n: number): InboxLedger {
    let ledger = this.#ledgers.get(p);
    if (ledger === undefined) {
      ledger = new InboxLedger();
      this.#ledgers.set(p, ledger);
    }
    ledger.hold(n);
    return ledger;
  }

  #known(p: number, n: number): InboxLedger | undefined {
    const ledger = this.#ledgers.get(p);
    return ledger?.has(n, ITEM.begun) === true ? ledger : undefined;
  }

  /** Neither before it was ready nor after it was over. */
  #judgeTimes(op: Begin, publisher: ItemLedger, ledger: InboxLedger, isFirst: boolean): void {
    const { n, a, from, until } = op;
    const { windows } = this.#shared;
    const ttlMs = publisher.ttlMs[n] ?? 0;
    const okAt = publisher.okAt[n] ?? 0;
    if (ttlMs > 0 && okAt > 0 && from > okAt + ttlMs * 1e6 + CLOCK_NS)
      this.#add("expired", op, `it was handed out ${ms(from - okAt)} ms or more after it was stored, to live ${ttlMs}`);
    const delayMs = publisher.delayMs[n] ?? 0;
    if (until < (publisher.invokedAt[n] ?? 0) + delayMs * 1e6 - CLOCK_NS)
      this.#add("early", op, `it was handed out before its delay of ${delayMs} ms had passed`);
    const finishedAt = ledger.finishedAt[n] ?? 0;
    if (finishedAt > 0 && from > finishedAt && !windows.rolledBack(finishedAt, op.t)) {
      const how = ledger.has(n, ITEM.expired) ? "the store said that it had expired" : "what ended it was stored";
      this.#add("again", op, `attempt ${a} was handed out after ${how}`);
    }
    if (isFirst || from < (ledger.takenUntil[n] ?? 0)) return;
    const readyAt = ledger.readyAt[n] ?? 0;
    // Once the lease has run out it comes again at once, whatever was decided too late.
    const isHeld = until < (ledger.leasedFrom[n] ?? 0) + this.#leaseNs - CLOCK_NS;
    if (isHeld && until < readyAt - CLOCK_NS && !windows.rolledBack(ledger.takenFrom[n] ?? 0, op.t))
      this.#add("early", op, `attempt ${a} was handed out ${ms(readyAt - until)} ms or more before its retry was due`);
  }

  #judgeRepeated(op: Begin, ledger: InboxLedger, consumer: number): void {
    const { t, n, a, from, until } = op;
    const takenFrom = ledger.takenFrom[n] ?? 0;
    if (this.#shared.windows.rolledBack(takenFrom, t)) return;
    if (ledger.id[n] !== hashOf(...Buffer.from(op.at)))
      this.#add("twice", op, `the message comes as ${op.at}, and had another id before`);
    // Which of two takes came first is known where one ended before the other began.
    if (from < (ledger.takenUntil[n] ?? 0)) return;
    const before = ledger.attempt[n] ?? 0;
    if (a < before || (a === before && ledger.has(n, ITEM.retried)))
      this.#add("attempts", op, `attempt ${a} was handed out behind attempt ${before}, which had to be counted`);
    if (ledger.has(n, ITEM.open) && until < (ledger.leasedFrom[n] ?? 0) + this.#leaseNs - CLOCK_NS)
      this.#add(
        "overlap",
        op,
        `it was handed to consumer ${consumer} within the lease of consumer ${ledger.holder[n]}`,
      );
  }

  /** Attempts pass unseen only where a consumer dies or stands still. */
  #judgeUnseen(op: Begin, publisher: ItemLedger, ledger: InboxLedger, isFirst: boolean): void {
    const { n, a, t } = op;
    const since = (isFirst ? publisher.invokedAt[n] : ledger.takenFrom[n]) ?? 0;
    const before = ledger.attempt[n] ?? 0;
    if (a <= before + 1 || this.#shared.windows.excused(since, t)) return;
    this.#add("unseen", op, `attempt ${a} has begun, and before it only ${before} were seen`);
  }

  /** Of what is new, or was put back: since when it waited is known, and that nobody had it meanwhile. */
  #judgeUrgency(op: Begin, publisher: ItemLedger, ledger: InboxLedger, isFirst: boolean): void {
    const { n, a, t, from } = op;
    const storedAt = publisher.okAt[n] ?? 0;
    const isNext = isFirst ? a === 1 : a === (ledger.attempt[n] ?? 0) + (ledger.has(n, ITEM.retried) ? 1 : 0);
    const waitsFrom = isFirst ? storedAt + (publisher.delayMs[n] ?? 0) * 1e6 + CLOCK_NS : (ledger.waitsFrom[n] ?? 0);
    if (!isNext || storedAt === 0 || waitsFrom === 0) return;
    const since = Math.max(waitsFrom, this.#releasedAt + this.#leaseNs);
    const priority = publisher.priority[n] ?? 0;
    const preferred = this.#urgency.preferredTo({ priority, storedAt, since, from });
    if (preferred === undefined || this.#shared.windows.rolledBack(since, t)) return;
    const other = `message ${preferred.p}-${preferred.n} of priority ${preferred.priority}`;
    const what = `${other} was handed out while this one, of priority ${priority}, had been waiting for`;
    this.#add("priority", op, `${what} ${ms(preferred.from - since)} ms or more`);
  }

  #adopt(op: Begin, consumer: number): void {
    const { t, p, n } = op;
    const name = `${p} ${n}`;
    const held = this.#holding.get(consumer) ?? new Set();
    held.add(name);
    this.#holding.set(consumer, held);
    const diedAt = this.#orphans.get(name);
    if (diedAt === undefined) return;
    this.#orphans.delete(name);
    const tookMs = (t - diedAt) / 1e6;
    this.redeliveries.push(tookMs);
    const { windows, traits } = this.#shared;
    if (tookMs > traits.leaseMs + REDELIVERY_MS && !windows.stalled(diedAt, t) && !windows.rolledBack(diedAt, t))
      this.#add("stuck", op, `it came again ${ms(t - diedAt)} ms after the consumer that held it had died`);
  }

  #add(rule: Rule, { t, p, n }: { readonly t: number; readonly p: number; readonly n: number }, what: string): void {
    this.#shared.findings.add({ rule, what, t, message: { p, n }, inbox: this.recipient });
  }
}

function ms(ns: number): number {
  return Math.round(ns / 1e6);
}
