/** Runs the chosen paths in this process, prints what came out, and writes bench/results. */

import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type Environment, measure, measureBytes, type Row } from "./harness.js";
import { describeMachine, watchOthers } from "./machine.js";
import { isComplete, type Options } from "./options.js";
import { eventsPath } from "./paths/events.js";
import type { BenchmarkPath } from "./paths/path.js";
import { presencePath } from "./paths/presence.js";
import { pubsubPath } from "./paths/pubsub.js";
import { queuePath } from "./paths/queue.js";
import { createProfiler, type Profiler } from "./profile.js";
import { openProbe } from "./redis-probe.js";
import { describe, judge, type Report, toReport } from "./report.js";

/** What the launcher hands over. */
export interface Assignment {
  readonly options: Options;
  /** Absent where no contender needs Redis. */
  readonly redisUrl?: string;
  /** For database files. */
  readonly dir: string;
  readonly resultsDir: string;
  /** Of the work tree. */
  readonly commit: string;
}

const PATHS = { events: eventsPath, queue: queuePath, pubsub: pubsubPath, presence: presencePath } as const;

/** Leaves room, within the 45 seconds and four minutes, for compiling, starting Redis and a last round that runs over. */
const LENGTHS = {
  quick: { rounds: 3, roundMs: 250, pathMs: 26_000, bytesCount: 5_000 },
  full: { rounds: 5, roundMs: 1_000, pathMs: 200_000, bytesCount: 50_000 },
} as const;
const PROFILED = { rounds: 1, roundMs: 3_000, pathMs: 60_000, bytesCount: 0 } as const;

/** @throws {Error} when a contender did not do what was counted */
export async function runBenchmarks({ options, redisUrl, dir, resultsDir, commit }: Assignment): Promise<void> {
  const redis = redisUrl === undefined ? undefined : await openProbe(redisUrl);
  let names = 0;
  const environment: Environment = {
    redis,
    dir,
    unique(prefix) {
      names += 1;
      return `${prefix}-${names}`;
    },
  };
  const profiler = options.profile ? await createProfiler() : undefined;
  try {
    const reports: Report[] = [];
    for (const name of options.paths) {
      const path = PATHS[name](options.quick ? "quick" : "full");
      const othersCores = await watchOthers(redis);
      const report = await runPath(path, environment, options, profiler);
      if (report !== undefined) {
        reports.push(report);
        const others = await othersCores();
        if (!options.json) console.log(`Other processes used ${others} cores meanwhile.\n`);
        if (isComplete(options)) {
          const { quick } = options;
          const conditions = {
            date: new Date().toISOString(),
            commit,
            quick,
            ...describeMachine(redis),
            othersCores: others,
          };
          mkdirSync(resultsDir, { recursive: true });
          const text = JSON.stringify({ ...report, conditions }, undefined, 2);
          writeFileSync(join(resultsDir, `${report.path}.json`), `${text}\n`);
        }
      }
    }
    if (options.json) console.log(JSON.stringify(reports.length === 1 ? reports[0] : reports, undefined, 2));
    if (profiler !== undefined) console.log(profiler.report());
  } finally {
    profiler?.close();
    await redis?.close();
  }
}

/** @returns undefined when profiling: the figures mean nothing then */
async function runPath(
  path: BenchmarkPath,
  environment: Environment,
  options: Options,
  profiler: Profiler | undefined,
): Promise<Report | undefined> {
  const { rounds, roundMs, pathMs, bytesCount } = profiler ? PROFILED : LENGTHS[options.quick ? "quick" : "full"];
  const isChosen = ({ backend, role }: { backend: string; role: string }): boolean =>
    options.backends.some((each) => each === backend) && options.roles.some((each) => each === role);
  const progress = createProgress(path.name);
  const rows: Row[] = [];
  const contenders = path.measures.flatMap((each) => each.contenders.filter(isChosen));
  let deadline = performance.now();
  for (const each of path.measures) {
    deadline += each.share * pathMs;
    const plan = { rounds, roundMs, deadline, progress, ...(profiler !== undefined && { profiler }) };
    rows.push(...(await measure({ ...each, contenders: each.contenders.filter(isChosen) }, environment, plan)));
  }
  const bytes = new Map<string, number>();
  for (const { name, contender } of bytesCount === 0 ? [] : path.bytes) {
    progress(`bytes: ${name}`);
    if (isChosen(contender)) bytes.set(name, await measureBytes(contender, environment, bytesCount));
  }
  progress("");
  if (profiler !== undefined) return undefined;
  const judged = judge(path.ratios, rows, bytes);
  if (!options.json) console.log(describe(path.name, rows, judged, bytes, contenders));
  return toReport(path.name, rows, judged);
}

/** One line on a terminal's stderr that replaces itself. */
function createProgress(path: string): (text: string) => void {
  return (text) => {
    if (process.stderr.isTTY) process.stderr.write(`\r\u001b[K${text === "" ? "" : `${path}: ${text}`}`);
  };
}
