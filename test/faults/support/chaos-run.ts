/** A chaos run: processes publish and consume while faults strike, one after the other; then the history is checked. */

import { existsSync, renameSync } from "node:fs";
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import type { DeadLetter } from "../../../src/core/dead-letters.js";
import { removeDir, tempDir } from "../../support/process.js";
import type { RedisServer } from "../../support/redis-servers.js";
import { pause, until } from "../../support/wait.js";
import { checkHistory, type Verdict } from "../history.js";
import { connect } from "./chaos-broker.js";
import { silent } from "./chaos-child.js";
import { awaitWork, Crew, type Role } from "./chaos-crew.js";
import type { Fault, Field } from "./chaos-fault.js";
import { Deck, faultsOf } from "./chaos-faults.js";
import { payloadIn, STREAM } from "./chaos-load.js";
import { type Site, startSite, type Topology } from "./chaos-sites.js";
import { type HistoryLog, now, openHistory } from "./history-log.js";
import { DIRECTOR_FILE } from "./history-read.js";
import { Tail } from "./history-tail.js";
import { createRandom, type Random } from "./random.js";

export interface ChaosOptions {
  readonly topology: Topology;
  readonly seed: number;
  /** How long faults strike that the seed draws; starting, finishing and checking come on top. Or which strike, and that is all. */
  readonly faults: { readonly minutes: number } | { readonly script: readonly Scripted[] };
  /** Messages a second that all publishers together try for. Default 6,000. */
  readonly rate?: number;
  /** Of both groups. Default 3,000. */
  readonly leaseMs?: number;
  /** Default 2. */
  readonly publishers?: number;
  /** Of each group. Default 2. */
  readonly consumers?: number;
  /** How long a fault may keep work from going on before the run is given up. Default 25,000. */
  readonly patienceMs?: number;
  /** How long the groups may take to finish in the end. Default 90,000. */
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
  readonly durability: string;
  readonly failovers: number;
  /** Failovers that nobody had asked for: the machine was too busy. */
  readonly unforeseen: number;
  readonly verdict: Verdict;
  /** Where the history is kept; only that of a run that failed. */
  readonly history: string | undefined;
}

const DEFAULT_RATE = 6_000;
const PUBLISHERS = 2;
const CONSUMERS = 2;
const WINDOW = 400;
const COMMAND_TIMEOUT_MS = 1_000;
const GROUPS = [
  { name: "work", order: "key", maxAttempts: 6, form: "handler" },
  { name: "audit", order: "none", maxAttempts: 6, form: "deliveries" },
] as const;
const CONCURRENCY = 60;
/** Beyond this the publishers make way. */
const MAX_BACKLOG = 20_000;
/** The share of faults that strike in the quiet: nobody publishes, and what is left has to move by itself. */
const QUIET = 0.25;
const BURST = 1_000;
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
  readonly #rate: number;
  readonly #patienceMs: number;
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
    this.#rate = Math.round((options.rate ?? DEFAULT_RATE) / (options.publishers ?? PUBLISHERS));
  }

  async start(): Promise<void> {
    await this.#site.awaitHealthy();
    await this.#notePrimary(false);
    // Consumers first, so that publishing begins when everybody is there.
    for (const kind of ["consumer", "publisher"] as const)
      await Promise.all(this.#roles().map(async (role) => role.kind === kind && (await this.#crew.start(role))));
    const members = [...this.#crew.members("publisher"), ...this.#crew.members("consumer")];
    const how = await awaitWork(this.#tail, { members, who: "all", since: 0, deadlineMs: PATIENCE_MS });
    if (how !== "worked") throw new Error("the processes do not work, before any fault");
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
      await this.#noteLeft();
      await this.#crew.finish("consumer");
      return;
    }
    // What is left is only what it is while nobody works on it.
    await this.#crew.stop();
    await this.#noteLeft();
  }

  async stop(): Promise<void> {
    await this.#crew.stop();
    this.#tail.close();
  }

  /** @returns whether the store says that nothing is left */
  async #drain(): Promise<boolean> {
    const { leaseMs = LEASE_MS, drainMs = DRAIN_MS } = this.#options;
    const broker = await connect(this.#site.directUrl, { logger: silent });
    let movedAt = performance.now();
    let finished = 0;
    const look = async (): Promise<"drained" | "still" | undefined> => {
      this.#tail.poll();
      if (this.#tail.finished > finished) movedAt = performance.now();
      finished = this.#tail.finished;
      const { groups } = await broker.events.stats(STREAM);
      if (groups.every(({ lag, pending, retrying }) => lag + pending + retrying === 0)) return "drained";
      return performance.now() - movedAt > leaseMs * STILL_LEASES ? "still" : undefined;
    };
    const end = await until(look, { deadlineMs: drainMs, everyMs: 100 }).catch(() => "late");
    await broker.close({ drainMs: 0 });
    return end === "drained";
  }

  #roles(): Role[] {
    const { url, durability } = this.#site;
    const {
      seed,
      bug,
      leaseMs = LEASE_MS,
      publishers: count = PUBLISHERS,
      consumers: each = CONSUMERS,
    } = this.#options;
    const common = { url, seed, commandTimeoutMs: COMMAND_TIMEOUT_MS, ...(bug === undefined ? {} : { bug }) };
    const publishers = Array.from({ length: count }, (_, index): Role => {
      return {
        kind: "publisher",
        config: { ...common, durability, rate: this.#rate, window: WINDOW, ids: index % 2 === 1 },
      };
    });
    const consumers = GROUPS.flatMap(({ form, ...group }) =>
      Array.from({ length: each }, (): Role => {
        return {
          kind: "consumer",
          config: { ...common, group: { ...group, leaseMs }, form, concurrency: CONCURRENCY },
        };
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
    const how = await awaitWork(this.#tail, { members, who, since: writableAt, deadlineMs: this.#patienceMs });
    const recoveredMs = Math.round((now() - writableAt) / 1e6);
    const times = killedAt === undefined ? {} : { killedAt };
    this.#director.write({ op: "writable", t: writableAt, number, work: how !== "idle", ...times });
    await tidy?.();
    if (tidy !== undefined) await this.#site.awaitHealthy();
    await this.#notePrimary(fault.failsOver === true);
    this.#director.write({ op: "over", t: now(), number });
    if (quiet) this.#crew.order("publisher", { rate: this.#rate });
    this.#stuck = how === "stuck";
    const seconds = ((now() - startedAt) / 1e9).toFixed(1);
    const outcome = { worked: `work went on after ${recoveredMs} ms`, idle: "nothing was left", stuck: "STUCK" }[how];
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

  /** Leaves something to do, and nobody who publishes more. */
  async #quieten(): Promise<void> {
    this.#crew.order("publisher", { rate: 0, burst: BURST });
    await pause(20);
  }

  /** Publishers make way while too much waits: the faults are to meet a system that is busy, not one that is buried. */
  async #awaitRoom(): Promise<void> {
    const hasRoom = (): boolean => {
      this.#tail.poll();
      return this.#tail.backlog < MAX_BACKLOG;
    };
    if (hasRoom()) return;
    this.#crew.order("publisher", { rate: this.#rate / 10 });
    await until(hasRoom, { deadlineMs: DRAIN_MS, everyMs: 50, what: "the backlog to shrink" });
    this.#crew.order("publisher", { rate: this.#rate });
  }

  async #noteLeft(): Promise<void> {
    const broker = await connect(this.#site.directUrl, { logger: silent });
    try {
      const stats = await broker.events.stats(STREAM);
      for (const { group, lag, pending, retrying, dead } of stats.groups) {
        for await (const letter of broker.events.group(STREAM, group).deadLetters()) this.#noteLetter(group, letter);
        this.#director.write({ op: "left", t: now(), group, lag, pending, retrying, dead });
      }
    } finally {
      await broker.close({ drainMs: 0 });
    }
  }

  #noteLetter(group: string, { id, message, attempts, reason }: DeadLetter): void {
    const payload = payloadIn(message?.data, message?.key);
    if (typeof payload === "string") {
      this.#director.write({ op: "corrupt", t: now(), what: `the dead letter ${id} of ${group}: ${payload}` });
      return;
    }
    const { p, n } = payload;
    this.#director.write({ op: "letter", t: now(), group, p, n, attempts, kind: reason.kind });
  }
}
