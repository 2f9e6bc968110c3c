/** A chaos run: processes publish and consume while faults strike, one after the other; then the history is checked. */

import { existsSync, renameSync } from "node:fs";
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { removeDir, tempDir } from "../../support/process.js";
import type { RedisServer } from "../../support/redis-servers.js";
import { pause, until } from "../../support/wait.js";
import { checkHistory, type Verdict } from "../history.js";
import { askStore, type AskedStore } from "./chaos-asking.js";
import { awaitWork, Crew, type Expected, type Observed, type Role } from "./chaos-crew.js";
import { stillMsOf } from "./chaos-load.js";
import { watchStore } from "./chaos-pulse.js";
import type { Fault, Field } from "./chaos-fault.js";
import { Deck, faultsOf } from "./chaos-faults.js";
import { AUDIENCE, RECIPIENTS } from "./chaos-queue-load.js";
import { type Site, startSite, type Topology } from "./chaos-sites.js";
import { type HistoryLog, now, openHistory, type Side } from "./history-log.js";
import { DIRECTOR_FILE } from "./history-read.js";
import { Tail } from "./history-tail.js";
import { createRandom, type Random } from "./random.js";

export interface ChaosOptions {
  readonly topology: Topology;
  readonly seed: number;
  /** How long faults strike that the seed draws; starting, finishing and checking come on top. Or which strike, and that is all. */
  readonly faults: { readonly minutes: number } | { readonly script: readonly Scripted[] };
  /** Default both. */
  readonly sides?: readonly Side[];
  /** Events a second that all publishers together try for. Default 6,000. */
  readonly rate?: number;
  /** The same for messages to the queue. Default 600. */
  readonly queueRate?: number;
  /** Of both groups and all recipients. Default 3,000. */
  readonly leaseMs?: number;
  /** Default 2. */
  readonly publishers?: number;
  /** Of each group; all of them consume the queue. Default 2. */
  readonly consumers?: number;
  /** How long a fault may keep work from going on before the run is given up. Default 25,000. */
  readonly patienceMs?: number;
  /** How long groups and recipients may take to finish in the end. Default 90,000. */
  readonly drainMs?: number;
  /** A bug to plant in all processes. */
  readonly bug?: string;
  /** What becomes of the history of a run that failed. Default `keep`. */
  readonly onFailure?: "keep" | "forget";
  /** Hears of each fault. */
  readonly say?: (line: string) => void;
}

/** A fault that is not drawn. */
export interface Scripted {
  readonly kind: string;
  /** How long it lasts. Default as the seed says. */
  readonly ms?: number;
  /** Whether nobody publishes meanwhile. Default false. */
  readonly quiet?: boolean;
}

export interface ChaosReport {
  readonly topology: Topology;
  readonly seed: number;
  /** Of faults. */
  readonly minutes: number;
  readonly rate: number;
  readonly queueRate: number;
  readonly durability: string;
  readonly failovers: number;
  /** Failovers that nobody had asked for: the machine was too busy. */
  readonly unforeseen: number;
  readonly verdict: Verdict;
  /** Where the history is kept; only that of a run that failed. */
  readonly history: string | undefined;
}

export const SIDES: readonly Side[] = ["events", "queue"];
const DEFAULT_RATE = 6_000;
const DEFAULT_QUEUE_RATE = 600;
const PUBLISHERS = 2;
const CONSUMERS = 2;
const WINDOW = 400;
const COMMAND_TIMEOUT_MS = 1_000;
const MAX_ATTEMPTS = 6;
const GROUPS = [
  { name: "work", order: "key", maxAttempts: MAX_ATTEMPTS, form: "handler" },
  { name: "audit", order: "none", maxAttempts: MAX_ATTEMPTS, form: "deliveries" },
] as const;
/** Of each recipient's few: what waits shows whether priority holds. */
const CONCURRENCY: Readonly<Record<Side, number>> = { events: 60, queue: 6 };
/** Beyond this the publishers make way. */
const MAX_BACKLOG: Readonly<Record<Side, number>> = { events: 20_000, queue: 4_000 };
/** The share of faults that strike in the quiet: nobody publishes, and what is left has to move by itself. */
const QUIET = 0.25;
const BURST: Readonly<Record<Side, number>> = { events: 1_000, queue: 150 };
const LEASE_MS = 3_000;
/** Far longer than recovery may take. */
const PATIENCE_MS = 25_000;
const DRAIN_MS = 90_000;
/** When nothing has been finished for so many leases there is nothing more to come: no retry and no handler takes as long. */
const STILL_LEASES = 3;
const KEPT_IN = new URL("../../../.cache/chaos/", import.meta.url).pathname;

export async function runChaos(options: ChaosOptions): Promise<ChaosReport> {
  const dir = await tempDir();
  const site = await startSite(options.topology, options.seed);
  const director = openHistory(join(dir, DIRECTOR_FILE));
  const run = new Run(options, site, director, dir);
  try {
    await run.start();
    await run.strikeAll();
    await run.finish();
  } catch (error) {
    const { topology, seed } = options;
    const why = error instanceof Error ? error.message : String(error);
    throw new Error(`the chaos on ${topology} with seed ${seed} could not go on: ${why}`, { cause: error });
  } finally {
    await run.stop();
    director.close();
    await site.stop();
  }
  const verdict = await checkHistory(dir);
  const isKept = verdict.findings.length > 0 && options.onFailure !== "forget";
  const history = isKept ? await keep(dir, options) : undefined;
  if (!isKept) await removeDir(dir);
  return {
    topology: options.topology,
    seed: options.seed,
    minutes: "minutes" in options.faults ? options.faults.minutes : 0,
    rate: options.rate ?? DEFAULT_RATE,
    queueRate: options.queueRate ?? DEFAULT_QUEUE_RATE,
    durability: site.durability,
    failovers: run.failovers,
    unforeseen: run.unforeseen,
    verdict,
    history,
  };
}

/** Moves a history to where it outlives this process. */
async function keep(dir: string, { topology, seed }: ChaosOptions): Promise<string> {
  await mkdir(KEPT_IN, { recursive: true });
  let place = join(KEPT_IN, `${topology}-${seed}`);
  for (let copy = 2; existsSync(place); copy += 1) place = join(KEPT_IN, `${topology}-${seed}-${copy}`);
  renameSync(dir, place);
  return place;
}

class Run {
  failovers = 0;
  unforeseen = 0;
  readonly #options: ChaosOptions;
  readonly #site: Site;
  readonly #director: HistoryLog;
  readonly #random: Random;
  readonly #crew: Crew;
  readonly #tail: Tail;
  readonly #sides: readonly Side[];
  /** Of each publisher. */
  readonly #rates: Readonly<Record<Side, number>>;
  readonly #patienceMs: number;
  readonly #leaseMs: number;
  #store: AskedStore | undefined;
  #endWatching: (() => void) | undefined;
  /** Who was the primary when somebody last looked, and when that was. */
  #primary: { readonly node: RedisServer; readonly at: number } | undefined;
  #faults = 0;
  #stuck = false;

  constructor(options: ChaosOptions, site: Site, director: HistoryLog, dir: string) {
    this.#options = options;
    this.#site = site;
    this.#director = director;
    this.#random = createRandom(options.seed);
    this.#crew = new Crew(dir, director);
    this.#tail = new Tail(dir);
    this.#patienceMs = options.patienceMs ?? PATIENCE_MS;
    this.#leaseMs = options.leaseMs ?? LEASE_MS;
    const { sides = SIDES, rate = DEFAULT_RATE, queueRate = DEFAULT_QUEUE_RATE, publishers = PUBLISHERS } = options;
    this.#sides = sides;
    this.#rates = { events: Math.round(rate / publishers), queue: Math.round(queueRate / publishers) };
  }

  async start(): Promise<void> {
    await this.#site.awaitHealthy();
    await this.#notePrimary(false);
    // Consumers first, so that publishing begins when everybody is there.
    for (const kind of ["consumer", "publisher"] as const)
      await Promise.all(this.#roles().map(async (role) => role.kind === kind && (await this.#crew.start(role))));
    this.#store = await askStore(this.#site.directUrl, this.#sides, this.#director);
    this.#endWatching = watchStore(this.#director, stillMsOf({ leaseMs: this.#leaseMs }), this.#store.ping);
    const members = [...this.#crew.members("publisher"), ...this.#crew.members("consumer")];
    const { isStuck } = await this.#awaitWork({ members, who: "all", since: 0, deadlineMs: PATIENCE_MS });
    if (isStuck) throw new Error("the processes do not work, before any fault");
  }

  async strikeAll(): Promise<void> {
    const { faults, topology } = this.#options;
    const known = faultsOf(topology);
    if ("script" in faults) {
      for (const { kind, ms, quiet = false } of faults.script) {
        const fault = known.find((one) => one.kind === kind);
        if (fault === undefined) throw new Error(`there is no fault "${kind}" on ${topology}`);
        if (!this.#stuck) await this.#strike(fault, { quiet, ...(ms === undefined ? {} : { ms }) });
      }
      return;
    }
    const deck = new Deck(known, this.#random.fork());
    const end = performance.now() + faults.minutes * 60_000;
    while (performance.now() < end && !this.#stuck) {
      await this.#awaitRoom();
      const fault = deck.draw();
      await this.#strike(fault, { quiet: fault.mayBeQuiet && this.#random.chance(QUIET) });
      await pause(this.#random.int(100, 600));
    }
  }

  /** Everything that was published is to be finished; then the store says what it has. */
  async finish(): Promise<void> {
    if (!this.#stuck) await this.#crew.finish("publisher");
    if (!this.#stuck && (await this.#drain())) {
      await this.#store?.noteLeft();
      await this.#crew.finish("consumer");
      return;
    }
    // What is left is only what it is while nobody works on it.
    await this.#crew.stop();
    await this.#store?.noteLeft();
  }

  async stop(): Promise<void> {
    await this.#crew.stop();
    this.#endWatching?.();
    await this.#store?.close();
    this.#tail.close();
  }

  /** @returns whether the store says that nothing is left */
  async #drain(): Promise<boolean> {
    const { drainMs = DRAIN_MS } = this.#options;
    let movedAt = performance.now();
    let finished = 0;
    const look = async (): Promise<"drained" | "still" | undefined> => {
      this.#tail.poll();
      if (this.#tail.finished > finished) movedAt = performance.now();
      finished = this.#tail.finished;
      if ((await this.#store?.left()) === 0) return "drained";
      return performance.now() - movedAt > this.#leaseMs * STILL_LEASES ? "still" : undefined;
    };
    const end = await until(look, { deadlineMs: drainMs, everyMs: 100 }).catch(() => "late");
    return end === "drained";
  }

  #awaitWork(expected: Omit<Expected, "isIdle">): Promise<Observed> {
    const isIdle = async (side: Side): Promise<boolean> =>
      side === "events" ? this.#tail.backlog === 0 : (await this.#store?.leftInQueue()) === 0;
    return awaitWork(this.#tail, this.#sides, { ...expected, isIdle });
  }

  #roles(): Role[] {
    const { url, durability } = this.#site;
    const leaseMs = this.#leaseMs;
    const { seed, bug, publishers: count = PUBLISHERS, consumers: each = CONSUMERS } = this.#options;
    const queue = { audience: AUDIENCE, leaseMs, maxAttempts: MAX_ATTEMPTS };
    const common = { url, seed, queue, commandTimeoutMs: COMMAND_TIMEOUT_MS, ...(bug === undefined ? {} : { bug }) };
    const sides = this.#sides;
    const publishers = Array.from({ length: count }, (_, index): Role => {
      return {
        kind: "publisher",
        sides,
        config: { ...common, durability, rates: this.#rates, window: WINDOW, ids: index % 2 === 1 },
      };
    });
    const consumers = GROUPS.flatMap(({ form, ...group }) =>
      Array.from({ length: each }, (_, index): Role => {
        const own = { form, concurrency: CONCURRENCY, recipients: recipientsOf(index, each) };
        return { kind: "consumer", sides, config: { ...common, group: { ...group, leaseMs }, ...own } };
      }),
    );
    return [...publishers, ...consumers];
  }

  async #strike(fault: Fault, { quiet, ms }: { quiet: boolean; ms?: number }): Promise<void> {
    const number = (this.#faults += 1);
    const { kind, stalls, rollsBack } = fault;
    if (quiet) await this.#quieten();
    const startedAt = now();
    this.#director.write({ op: "fault", t: startedAt, number, kind, stalls, rollsBack, quiet });
    const random = this.#random.fork();
    const field: Field = { site: this.#site, crew: this.#crew, random, ...(ms === undefined ? {} : { ms }) };
    const alive = [...this.#crew.members("publisher"), ...this.#crew.members("consumer")];
    const { writableAt, killedAt, tidy } = await fault.strike(field);
    if (killedAt !== undefined && fault.failsOver === true) this.failovers += 1;
    const present = new Set([...this.#crew.members("publisher"), ...this.#crew.members("consumer")]);
    const members = alive.filter((member) => present.has(member) && (!quiet || member.kind === "consumer"));
    const who = quiet ? "some" : "all";
    const { work, isStuck } = await this.#awaitWork({
      members,
      who,
      since: writableAt,
      deadlineMs: this.#patienceMs,
    });
    const recoveredMs = Math.round((now() - writableAt) / 1e6);
    const times = killedAt === undefined ? {} : { killedAt };
    this.#director.write({ op: "writable", t: writableAt, number, work, ...times });
    await tidy?.();
    if (tidy !== undefined) await this.#site.awaitHealthy();
    await this.#notePrimary(fault.failsOver === true);
    this.#director.write({ op: "over", t: now(), number });
    if (quiet) this.#setRates(1);
    this.#stuck = isStuck;
    const seconds = ((now() - startedAt) / 1e9).toFixed(1);
    const went = work.length === 0 ? "nothing was left" : `work went on after ${recoveredMs} ms`;
    const outcome = isStuck ? "STUCK" : went;
    this.#options.say?.(
      `${String(number).padStart(4)}  ${kind.padEnd(18)} ${seconds} s, ${quiet ? "quiet, " : ""}${outcome}`,
    );
  }

  /** On a machine that is too busy the nodes may lose sight of each other: what follows from that is no error of ours. */
  async #notePrimary(wasToChange: boolean): Promise<void> {
    const node = await until(() => this.#site.primary(), { deadlineMs: PATIENCE_MS, everyMs: 50, what: "a primary" });
    const before = this.#primary;
    this.#primary = { node, at: now() };
    if (before === undefined || before.node === node || wasToChange) return;
    this.unforeseen += 1;
    this.#director.write({ op: "unforeseen", t: before.at, until: now() });
  }

  /** @param share of what the publishers are meant to try for */
  #setRates(share: number): void {
    const { events, queue } = this.#rates;
    this.#crew.order("publisher", { eventsRate: events * share, queueRate: queue * share });
  }

  /** Leaves something to do, and nobody who publishes more. */
  async #quieten(): Promise<void> {
    this.#setRates(0);
    this.#crew.order("publisher", { eventsBurst: BURST.events, queueBurst: BURST.queue });
    await pause(20);
  }

  /** Publishers make way while too much waits: the faults are to meet a system that is busy, not one that is buried. */
  async #awaitRoom(): Promise<void> {
    const hasRoom = async (): Promise<boolean> => {
      this.#tail.poll();
      return this.#tail.backlog < MAX_BACKLOG.events && ((await this.#store?.leftInQueue()) ?? 0) < MAX_BACKLOG.queue;
    };
    // A store that does not answer just now is in no need of more.
    if (await hasRoom().catch(() => false)) return;
    this.#setRates(0.1);
    await until(hasRoom, { deadlineMs: DRAIN_MS, everyMs: 50, what: "the backlog to shrink" });
    this.#setRates(1);
  }
}

/** Everybody takes what is for whoever consumes the queue, and about half of the audience's inboxes; one alone takes all. */
function recipientsOf(index: number, consumers: number): readonly string[] {
  return RECIPIENTS.filter((_, number) => number === 0 || consumers === 1 || (number + index) % 2 === 1);
}
