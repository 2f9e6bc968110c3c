/** The queue's part of the history checker: publishers, recipients, and whether everything is accounted for in the end. */

import type { Findings, Rule } from "./history-findings.js";
import { type InboxLedger, ITEM, ItemLedger } from "./history-item-ledger.js";
import { EVERYBODY, type ItemDelivered, type ItemInvoke, type ItemsFound, type QueueTraits } from "./history-items.js";
import { Inbox } from "./history-inbox.js";
import { RESULT } from "./history-ledger.js";
import type { PublisherOp } from "./history-log.js";
import type { Windows } from "./history-windows.js";

/** Of one recipient. */
export interface InboxCounts {
  /** Messages delivered at least once. */
  readonly delivered: number;
  /** Deliveries beyond the first of each message. */
  readonly repeated: number;
  readonly acked: number;
  readonly dead: number;
  /** As the store counts them. */
  readonly expired: number;
  /** Acknowledged publishes that are accounted for by nothing. */
  readonly lost: number;
  /** Messages that had to wait while others were handed out, and were compared with those. */
  readonly compared: number;
}

export interface QueueFigures {
  readonly published: { readonly tried: number; readonly ok: number; readonly fail: number; readonly unknown: number };
  /** By recipient; `""` is whoever consumes the queue. */
  readonly recipients: Readonly<Record<string, InboxCounts>>;
}

export interface QueueShared {
  readonly findings: Findings;
  readonly windows: Windows;
  /** The queue drops its oldest when it is full: what the store counts as dropped is then accounted for. */
  readonly mayDrop: boolean;
  /** The recipients need not have finished. */
  readonly mayBeLeft: boolean;
}

type Left = Extract<ItemsFound, { op: "itemsLeft" }>;

/** A message of which it is not known what became of it. */
interface Missing {
  readonly p: number;
  readonly n: number;
  readonly rule: "lost" | "unfinished";
}

export class QueueHistory {
  readonly #shared: QueueShared;
  readonly #publishers = new Map<number, ItemLedger>();
  readonly #inboxes = new Map<string, Inbox>();
  readonly #left = new Map<string, Left>();
  readonly #letters = new Map<string, number>();
  readonly #published = { tried: 0, ok: 0, fail: 0, unknown: 0 };
  #traits: QueueTraits = { audience: [], leaseMs: 0, maxAttempts: 0 };
  #gone = 0;

  constructor(shared: QueueShared) {
    this.#shared = shared;
  }

  /** Of all recipients. */
  get redeliveries(): readonly number[] {
    return [...this.#inboxes.values()].flatMap(({ redeliveries }) => redeliveries);
  }

  publisherOpened(number: number): void {
    this.#publishers.set(number, new ItemLedger());
  }

  /** All say the same of it. */
  opened(traits: QueueTraits): void {
    if (this.#inboxes.size > 0) return;
    this.#traits = traits;
    this.#shared.windows.slackNs = Math.max(this.#shared.windows.slackNs, traits.leaseMs * 1e6);
    const { findings, windows } = this.#shared;
    const shared = { traits, publishers: this.#publishers, findings, windows };
    for (const [number, recipient] of ["", ...traits.audience].entries())
      this.#inboxes.set(recipient, new Inbox(recipient, number, shared));
  }

  /** @returns whether it may be so */
  invoke(op: ItemInvoke, publisher: number): boolean {
    const ledger = this.#publishers.get(publisher);
    const to = op.to === EVERYBODY ? this.#inboxes.size : [...this.#inboxes.keys()].indexOf(op.to);
    if (ledger === undefined || op.n !== ledger.count || to < 0) return false;
    ledger.invoke(op, to);
    this.#published.tried += 1;
    return true;
  }

  /** @returns whether it may be so */
  told(op: Extract<PublisherOp, { op: "ok" | "fail" | "unknown" }>, publisher: number): boolean {
    const ledger = this.#publishers.get(publisher);
    if (ledger === undefined || op.n >= ledger.count || ledger.resultOf(op.n) !== RESULT.none) return false;
    ledger.settle(op.n, RESULT[op.op], op.t);
    this.#published[op.op] += 1;
    if (op.op !== "ok" || op.count === undefined) return true;
    const isForAll = ledger.recipientOf(op.n) === this.#inboxes.size;
    const expected = isForAll ? this.#traits.audience.length : 1;
    if (op.count !== expected) {
      const what = `the receipt counts ${op.count} recipients, and there are ${expected}`;
      const message = { p: publisher, n: op.n };
      this.#shared.findings.add({ rule: "audience", what, message, inbox: EVERYBODY, t: op.t });
    }
    return true;
  }

  /** @returns whether it may be so */
  delivered(op: ItemDelivered, consumer: number, awaitsAnswer: boolean): boolean {
    const inbox = this.#inboxes.get(op.r);
    if (inbox === undefined) return false;
    switch (op.op) {
      case "itemBegin":
        inbox.begin(op, consumer);
        break;
      case "itemEnd":
        inbox.end(op, consumer, awaitsAnswer);
        break;
      case "itemStored":
      case "itemLost":
        inbox.answered(op, consumer);
        break;
      case "itemExtended":
        inbox.extended(op, consumer);
        break;
      case "itemExpired":
        inbox.expired(op);
        break;
      case "itemsReleased":
        inbox.released(consumer, op.t);
        break;
    }
    return true;
  }

  gone(count: number): void {
    this.#gone += count;
  }

  died(consumer: number, t: number): void {
    for (const inbox of this.#inboxes.values()) inbox.died(consumer, t);
  }

  found(op: ItemsFound): void {
    if (op.op === "itemsLeft") {
      this.#left.set(op.r, op);
      return;
    }
    this.#letters.set(op.r, (this.#letters.get(op.r) ?? 0) + 1);
    this.#inboxes.get(op.r)?.letter(op);
  }

  /** The judgement that needs the whole history. @returns undefined where there is no queue in it */
  finish(): QueueFigures | undefined {
    if (this.#inboxes.size === 0) return undefined;
    if (this.#gone > 0 && !this.#shared.mayDrop)
      this.#shared.findings.add({ rule: "gone", what: `${this.#gone} messages were dropped`, inbox: EVERYBODY });
    const recipients = [...this.#inboxes].map(([name, inbox]) => [name, this.#account(inbox)] as const);
    return { published: { ...this.#published }, recipients: Object.fromEntries(recipients) };
  }

  #account(inbox: Inbox): InboxCounts {
    const { recipient } = inbox;
    const mortal: Missing[] = [];
    const missing: Missing[] = [];
    const sums = { delivered: 0, begins: 0, acked: 0, expired: 0, mayExpire: 0 };
    for (const [p, publisher] of this.#publishers) {
      const ledger = inbox.ledgerOf(p, publisher.count);
      for (let n = 0; n < publisher.count; n += 1) {
        if (!inbox.isFor(publisher, n)) continue;
        const isMortal = (publisher.ttlMs[n] ?? 0) > 0;
        const one = this.#judge(recipient, ledger, { p, n, result: publisher.resultOf(n) }, sums);
        if (isMortal && !ledger.has(n, ITEM.stored)) sums.mayExpire += 1;
        if (one !== undefined) (isMortal ? mortal : missing).push(one);
      }
    }
    const lost = this.#balance(recipient, { missing, mortal, expired: sums.expired, mayExpire: sums.mayExpire });
    return {
      delivered: sums.delivered,
      repeated: sums.begins - sums.delivered,
      acked: sums.acked,
      dead: this.#letters.get(recipient) ?? 0,
      expired: this.#left.get(recipient)?.expired ?? 0,
      lost,
      compared: inbox.compared,
    };
  }

  /** @returns it when it is missing */
  #judge(
    inbox: string,
    ledger: InboxLedger,
    { p, n, result }: { readonly p: number; readonly n: number; readonly result: number },
    sums: { delivered: number; begins: number; acked: number; expired: number },
  ): Missing | undefined {
    const begun = ledger.has(n, ITEM.begun);
    sums.begins += ledger.begins[n] ?? 0;
    if (begun) sums.delivered += 1;
    if (begun && result === RESULT.fail) this.#add("refused", "its publish was refused, and it came", inbox, { p, n });
    if (ledger.has(n, ITEM.acked)) sums.acked += 1;
    else if (ledger.has(n, ITEM.expired)) sums.expired += 1;
    else if (!ledger.has(n, ITEM.dead) && (begun || result === RESULT.ok))
      return { p, n, rule: begun ? "unfinished" : "lost" };
    return undefined;
  }

  /**
   * What is missing must be what the store says is left, or has dropped; of what may expire, also what it counts as expired.
   *
   * @returns the rest
   */
  #balance(
    inbox: string,
    counts: {
      readonly missing: readonly Missing[];
      readonly mortal: readonly Missing[];
      /** Of which the store has told that they expired. */
      readonly expired: number;
      /** So many may be counted as expired. */
      readonly mayExpire: number;
    },
  ): number {
    const { mayDrop, mayBeLeft, windows } = this.#shared;
    const left = this.#left.get(inbox);
    if (left === undefined) {
      this.#add("equation", "nobody has asked the store what is left", inbox);
      return 0;
    }
    const open = left.waiting + left.leased + left.delayed;
    if (open > 0 && !mayBeLeft)
      this.#add("left", `${left.waiting} waiting, ${left.leased} leased, ${left.delayed} delayed`, inbox);
    const letters = this.#letters.get(inbox) ?? 0;
    if (left.dead !== letters)
      this.#add("equation", `${left.dead} dead letters are counted, ${letters} are there`, inbox);
    if (left.dropped > 0 && !mayDrop) this.#add("gone", `${left.dropped} messages were dropped`, inbox);
    // What became of it, and that it was counted, is known together or not at all, unless its acknowledgement was forgotten.
    if (left.expired > counts.mayExpire && !windows.rolledBack(0, Number.POSITIVE_INFINITY))
      this.#add("equation", `${left.expired} are counted as expired, and ${counts.mayExpire} may have`, inbox);
    const { missing, mortal } = counts;
    const other = open + (mayDrop ? left.dropped : 0);
    const unexplained = Math.max(0, missing.length - other);
    const forMortals = Math.max(0, other - missing.length) + left.expired - counts.expired;
    const what = `${missing.length} messages are missing and ${mortal.length} that may expire; ${open} are left`;
    const all = `${what}, ${left.dropped} were dropped, ${left.expired} have expired`;
    if (unexplained > 0) for (const { rule, p, n } of missing) this.#add(rule, all, inbox, { p, n });
    if (mortal.length <= forMortals) return unexplained;
    for (const { rule, p, n } of mortal) this.#add(rule, all, inbox, { p, n });
    return unexplained + mortal.length - forMortals;
  }

  #add(rule: Rule, what: string, inbox: string, message?: { readonly p: number; readonly n: number }): void {
    this.#shared.findings.add({ rule, what, inbox, ...(message === undefined ? {} : { message }) });
  }
}
