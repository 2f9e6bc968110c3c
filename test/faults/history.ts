/**
 * The history checker: from what publishers and consumers wrote down (`support/history-log.ts`), whatever happened to
 * them and to the store, it proves what has to hold, or shows which message broke it and by which operations.
 *
 * It reads the files side by side in the order of time, once, and keeps some sixty bytes for each message, with each group
 * or recipient.
 */

import { type GroupCounts, GroupDeliveries, type Shared } from "./support/history-deliveries.js";
import {
  describe,
  type Finding,
  Findings,
  type Rule,
  RULES,
  type Spread,
  spreadOf,
} from "./support/history-findings.js";
import { PublisherLedger, RESULT } from "./support/history-ledger.js";
import { EVERYBODY, type ItemDelivered, type ItemInvoke, type ItemsFound } from "./support/history-items.js";
import type { DirectorOp, Op, Opened } from "./support/history-log.js";
import { type QueueFigures, QueueHistory } from "./support/history-queue.js";
import { type Entry, nameOf, operationsOf, queueSource, readHistory } from "./support/history-read.js";
import { Recovery, type RecoveryFigures } from "./support/history-recovery.js";
import { Windows } from "./support/history-windows.js";

export interface CheckOptions {
  /** From the moment that the store accepts writes again until work goes on. Default 5,000. */
  readonly recoveryMs?: number;
  /** From the kill of a primary until a write is accepted. Default 10,000. */
  readonly killToWriteMs?: number;
  /** Of one process. Default 512 MiB. */
  readonly maxRssBytes?: number;
  /** Stream and queue drop their oldest when they are full: what is reported as gone is then accounted for. Default false. */
  readonly mayDrop?: boolean;
  /** The run ends before groups and recipients have finished: what the store says is left is then accounted for. Default false. */
  readonly mayBeLeft?: boolean;
}

/** A finding with all that was done to its message. */
export interface Evidence extends Finding {
  readonly operations: readonly string[];
}

export interface Verdict {
  readonly findings: readonly Evidence[];
  /** How often each broken rule was broken. */
  readonly broken: Readonly<Partial<Record<Rule, number>>>;
  readonly operations: number;
  readonly published: { readonly tried: number; readonly ok: number; readonly fail: number; readonly unknown: number };
  readonly groups: Readonly<Record<string, GroupCounts>>;
  /** Undefined where the history has none. */
  readonly queue: QueueFigures | undefined;
  readonly recovery: RecoveryFigures;
  /** From a consumer's death until what it held came again (ms). */
  readonly redelivery: Spread;
  /** Times at which a process or the store stood still and nobody had caused it. */
  readonly standstills: number;
  readonly maxRssBytes: number;
  /** From the first publish to the last operation. */
  readonly seconds: number;
}

/** Operations between two breaths: whoever waits in this process wants to be heard too. */
const BREATH = 100_000;
/** Of one message, in a finding. */
const MAX_OPERATIONS = 40;

/** Checks the history in `dir`: `*.ndjson`, one file for each process, and `director.ndjson` of whoever caused the faults. */
export async function checkHistory(dir: string, options: CheckOptions = {}): Promise<Verdict> {
  const checker = new Checker(options);
  let operations = 0;
  for (const entry of readHistory(dir)) {
    checker.feed(entry);
    operations += 1;
    if (operations % BREATH === 0) await new Promise((resolve) => setImmediate(resolve));
  }
  return checker.finish(dir, operations);
}

/** The findings as a page to read. */
export function explain({ findings, broken }: Verdict): string {
  if (findings.length === 0) return "every property holds";
  const lines = Object.entries(broken).map(([rule, count]) => `${count} × ${rule}: ${RULES[rule as Rule]}`);
  for (const { rule, what, group, inbox, message, operations } of findings) {
    const about = message === undefined ? "" : ` message ${message.p}-${message.n}`;
    const where = inbox === undefined ? (group === undefined ? "" : ` in group ${group}`) : ` of recipient "${inbox}"`;
    lines.push("", `${rule}${where}:${about} ${what}`);
    lines.push(...operations.map((operation) => `  ${operation}`));
  }
  return lines.join("\n");
}

class Checker {
  readonly #maxRssAllowed: number;
  readonly #findings = new Findings();
  readonly #windows = new Windows();
  readonly #recovery: Recovery;
  readonly #publishers = new Map<number, PublisherLedger>();
  readonly #groups = new Map<string, GroupDeliveries>();
  readonly #processes = new Map<string, Opened>();
  readonly #deadConsumers = new Set<number>();
  readonly #shared: Shared;
  readonly #queue: QueueHistory;
  readonly #published = { tried: 0, ok: 0, fail: 0, unknown: 0 };
  #maxRss = 0;
  #standstills = 0;
  #start = 0;
  #publishedAt = 0;
  #end = 0;

  constructor({
    recoveryMs = 5_000,
    killToWriteMs = 10_000,
    maxRssBytes = 512 * 1_048_576,
    mayDrop = false,
    mayBeLeft = false,
  }: CheckOptions) {
    this.#maxRssAllowed = maxRssBytes;
    this.#recovery = new Recovery(this.#findings, { recoveryMs, killToWriteMs });
    this.#shared = {
      publishers: this.#publishers,
      findings: this.#findings,
      windows: this.#windows,
      deadConsumers: this.#deadConsumers,
      mayDrop,
      mayBeLeft,
    };
    this.#queue = new QueueHistory({ findings: this.#findings, windows: this.#windows, mayDrop, mayBeLeft });
  }

  feed({ op, source }: Entry): void {
    if (this.#start === 0) this.#start = op.t;
    this.#end = op.t;
    this.#windows.feed(op);
    switch (op.op) {
      case "opened":
        return this.#opened(op, source);
      case "invoke":
      case "ok":
      case "fail":
      case "unknown":
        return this.#publish(op, source);
      case "begin":
      case "end":
      case "stored":
      case "lost":
      case "settled":
      case "gone":
        return this.#deliver(op, source);
      case "corrupt":
      case "unhandled":
        return this.#findings.add({ rule: op.op, what: `${source}: ${op.what}`, t: op.t });
      case "stood":
        this.#standstills += 1;
        return;
      case "rss":
        return this.#weigh(op, source);
      case "itemInvoke":
        return this.#publishItem(op, source);
      case "itemBegin":
      case "itemEnd":
      case "itemStored":
      case "itemLost":
      case "itemExtended":
      case "itemExpired":
      case "itemsReleased":
        return this.#deliverItem(op, source);
      default:
        return this.#direct(op);
    }
  }

  finish(dir: string, operations: number): Verdict {
    const recovery = this.#recovery.finish();
    const groups = [...this.#groups].map(([name, deliveries]) => [name, deliveries.finish()] as const);
    const queue = this.#queue.finish();
    const redeliveries = [...this.#groups.values()].flatMap((deliveries) => deliveries.redeliveries);
    const redelivery = spreadOf([...redeliveries, ...this.#queue.redeliveries]);
    if (operations === 0) this.#findings.add({ rule: "history", what: "there are no operations" });
    const seconds = this.#publishedAt === 0 ? 0 : (this.#end - this.#publishedAt) / 1e9;
    return {
      findings: this.#withEvidence(dir),
      broken: Object.fromEntries(this.#findings.counts),
      operations,
      published: { ...this.#published },
      groups: Object.fromEntries(groups),
      queue,
      recovery,
      redelivery,
      standstills: this.#standstills,
      maxRssBytes: this.#maxRss,
      seconds,
    };
  }

  #opened(op: Opened, source: string): void {
    this.#processes.set(source, op);
    this.#recovery.opened(source, op.process);
    if (op.queue !== undefined) {
      this.#queue.opened(op.queue);
      if (op.process === "publisher") this.#queue.publisherOpened(op.number);
    } else if (op.process === "publisher") {
      this.#publishers.set(op.number, new PublisherLedger());
    } else if (op.group !== undefined && !this.#groups.has(op.group.name)) {
      this.#groups.set(op.group.name, new GroupDeliveries(op.group, this.#shared));
      this.#windows.slackNs = Math.max(this.#windows.slackNs, op.group.leaseMs * 1e6);
    }
  }

  #publishItem(op: ItemInvoke, source: string): void {
    if (!this.#queue.invoke(op, this.#processes.get(source)?.number ?? -1)) return this.#unsound(source, op);
    if (this.#publishedAt === 0) this.#publishedAt = op.t;
  }

  #publish(op: Extract<Op, { op: "invoke" | "ok" | "fail" | "unknown" }>, source: string): void {
    const process = this.#processes.get(source);
    if (process?.queue !== undefined && op.op !== "invoke") {
      if (!this.#queue.told(op, process.number)) this.#unsound(source, op);
      if (op.op === "ok") this.#recovery.sign(source, op.t);
      return;
    }
    const publisher = this.#publishers.get(process?.number ?? -1);
    if (publisher === undefined) return this.#unsound(source, op);
    if (op.op === "invoke") {
      if (op.n !== publisher.count) this.#unsound(source, op);
      publisher.invoke(op.n, op.k, op.t);
      if (this.#publishedAt === 0) this.#publishedAt = op.t;
      this.#published.tried += 1;
      return;
    }
    if (op.n >= publisher.count || publisher.resultOf(op.n) !== RESULT.none) this.#unsound(source, op);
    publisher.settle(op.n, RESULT[op.op]);
    this.#published[op.op] += 1;
    if (op.op === "ok") this.#recovery.sign(source, op.t);
  }

  #deliver(op: Extract<Op, { op: "begin" | "end" | "stored" | "lost" | "settled" | "gone" }>, source: string): void {
    const consumer = this.#processes.get(source);
    if (op.op === "settled" && consumer !== undefined) return this.#recovery.sign(source, op.t);
    if (op.op === "gone" && consumer?.queue !== undefined) return this.#queue.gone(op.count);
    const group = this.#groups.get(consumer?.group?.name ?? "");
    if (consumer === undefined || group === undefined) return this.#unsound(source, op);
    switch (op.op) {
      case "begin":
        return group.begin(op, consumer.number);
      case "end":
        return group.end(op, consumer.number, consumer.answers === true);
      case "stored":
      case "lost":
        return group.answered(op, consumer.number);
      case "settled":
        return undefined;
      case "gone":
        return group.gone(op.count);
    }
  }

  #deliverItem(op: ItemDelivered, source: string): void {
    const consumer = this.#processes.get(source);
    if (consumer === undefined || !this.#queue.delivered(op, consumer.number, consumer.answers === true))
      this.#unsound(source, op);
  }

  #direct(op: DirectorOp | ItemsFound): void {
    switch (op.op) {
      case "fault":
        return this.#recovery.fault(op);
      case "writable":
        return this.#recovery.writable(op);
      case "died":
        if (op.process === "consumer") this.#consumerDied(op.number, op.t);
        this.#recovery.closed(queueSource(`${op.process}-${op.number}`));
        return this.#recovery.closed(`${op.process}-${op.number}`);
      case "ended":
        return this.#findings.add({ rule: "unhandled", what: `${op.process} has ended: ${op.what}`, t: op.t });
      case "left":
        return this.#groups.get(op.group)?.left(op);
      case "letter":
        return this.#groups.get(op.group)?.letter(op);
      case "itemsLeft":
      case "itemLetter":
        return this.#queue.found(op);
      default:
        return undefined;
    }
  }

  #consumerDied(number: number, t: number): void {
    this.#deadConsumers.add(number);
    const group = this.#processes.get(`consumer-${number}`)?.group?.name ?? "";
    this.#groups.get(group)?.died(number, t);
    this.#queue.died(number, t);
  }

  #weigh({ bytes, t }: Extract<Op, { op: "rss" }>, source: string): void {
    this.#maxRss = Math.max(this.#maxRss, bytes);
    if (bytes > this.#maxRssAllowed) {
      const what = `${source} uses ${mebibytes(bytes)} MiB, ${mebibytes(this.#maxRssAllowed)} are allowed`;
      this.#findings.add({ rule: "memory", what, t });
    }
  }

  #unsound(source: string, op: Op): void {
    this.#findings.add({ rule: "history", what: `${source} wrote ${JSON.stringify(op)} out of turn`, t: op.t });
  }

  #withEvidence(dir: string): Evidence[] {
    const { kept } = this.#findings;
    const wanted = kept.flatMap(({ message, inbox }) => {
      return message === undefined ? [] : [{ ...message, side: inbox === undefined ? "events" : "queue" } as const];
    });
    const operations = wanted.length === 0 ? new Map<string, Entry[]>() : operationsOf(dir, wanted);
    return kept.map((finding) => {
      const { message, group, inbox } = finding;
      const isAbout = ({ op, source }: Entry): boolean => {
        if ("r" in op) return inbox === EVERYBODY || op.r === inbox;
        const of = this.#processes.get(source)?.group?.name;
        return of === undefined || of === group;
      };
      const side = inbox === undefined ? "events" : "queue";
      const all = message === undefined ? [] : (operations.get(nameOf({ side, ...message })) ?? []);
      const about = all.filter(isAbout);
      return { ...finding, operations: about.slice(-MAX_OPERATIONS).map((entry) => describe(entry, this.#start)) };
    });
  }
}

function mebibytes(bytes: number): number {
  return Math.round(bytes / 1_048_576);
}
