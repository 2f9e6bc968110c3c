/** Measures contenders side by side: in small rounds that alternate, so that the machine's noise hits all alike. */

import type { BackendName, Role } from "./options.js";
import type { Profiler } from "./profile.js";
import type { RedisProbe } from "./redis-probe.js";
import { median, percentile } from "./statistics.js";

/** What a contender may use. */
export interface Environment {
  readonly redis: RedisProbe | undefined;
  /** An empty directory on the disk that the repository is on. */
  readonly dir: string;
  /** A name that this run has not used. */
  unique(prefix: string): string;
}

/** One way to do what is measured. */
export interface Contender {
  readonly name: string;
  readonly backend: BackendName;
  readonly role: Role;
  /** What it is, for the legend. */
  readonly is: string;
  /** Messages of the first, uncounted run; further ones and the rounds are sized by how long that took. */
  readonly warmUp: number;
  /** A round has at least this many messages, however slow it is: starting is not what is measured. Default 500. */
  readonly minCount?: number;
  /** Prepares one round of `count` messages: whatever is not measured. */
  prepare(environment: Environment, count: number): Promise<Trial>;
}

/** One round of one contender. */
export interface Trial {
  /** What is measured. */
  run(): Promise<void>;
  /** @throws {Error} when what was counted did not happen */
  verify(): Promise<void>;
  close(): Promise<void>;
  /** From publish to handler, in milliseconds, where that is measured. */
  readonly latencies?: Float64Array;
}

export interface Measure {
  readonly name: string;
  readonly contenders: readonly Contender[];
  /** Messages of a round. Absent: as many as take a round's time. */
  readonly count?: number;
}

export interface Row {
  readonly name: string;
  readonly perSecond: number | null;
  readonly cpuMicros: number | null;
  readonly redisCpuMicros: number | null;
  readonly p50Ms: number | null;
  readonly p99Ms: number | null;
}

export interface Plan {
  readonly rounds: number;
  /** How long a round of one contender should take. */
  readonly roundMs: number;
  /** When the measure should be over: no round starts after it, except the first. */
  readonly deadline: number;
  readonly profiler?: Profiler;
  readonly progress: (text: string) => void;
}

interface Sample {
  readonly perSecond: number;
  readonly cpuMicros: number;
  readonly redisCpuMicros: number | null;
  readonly p50Ms: number | null;
  readonly p99Ms: number | null;
}

const MIN_COUNT = 500;
const MAX_COUNT = 400_000;
/** The share of a latency round that goes before what is counted: new connections make V8 compile some of the code anew. */
const LATENCY_LEAD_IN = 0.25;
/** What a warm-up takes of a round's time, and how often it is repeated while it still makes things faster. */
const WARM_UP_SHARE = 0.5;
const MAX_WARM_UPS = 4;
const STILL_WARMING = 1.1;

/** Warms every contender up, then runs the rounds. One row for each contender, of the medians of its rounds. */
export async function measure(what: Measure, environment: Environment, plan: Plan): Promise<Row[]> {
  const entries: { contender: Contender; count: number; samples: Sample[] }[] = [];
  for (const contender of what.contenders) {
    plan.progress(`${what.name}: ${contender.name} warms up`);
    entries.push({ contender, count: await warmUp(what, contender, environment, plan), samples: [] });
  }
  for (let round = 0; round < plan.rounds; round += 1) {
    if (round > 0 && performance.now() >= plan.deadline) break;
    // Every other round backwards: nobody always follows the same neighbour.
    const order = round % 2 === 0 ? entries : [...entries].reverse();
    for (const { contender, count, samples } of order) {
      plan.progress(`${what.name}: round ${round + 1}, ${contender.name}`);
      samples.push(await runOnce(contender, environment, count, what.name, plan.profiler));
    }
  }
  return entries.map(({ contender, samples }) => toRow(`${what.name} ${contender.name}`, samples));
}

/** @returns how many messages a round shall have */
async function warmUp(what: Measure, contender: Contender, environment: Environment, plan: Plan): Promise<number> {
  if (what.count !== undefined) {
    await runOnce(contender, environment, Math.ceil(what.count / 4), what.name);
    return what.count;
  }
  const sized = ({ perSecond }: Sample, ms: number, minCount: number): number =>
    Math.min(MAX_COUNT, Math.max(minCount, Math.round((perSecond * ms) / 1_000)));
  let best = await runOnce(contender, environment, contender.warmUp, what.name);
  for (let run = 0; run < MAX_WARM_UPS; run += 1) {
    const count = sized(best, plan.roundMs * WARM_UP_SHARE, MIN_COUNT);
    const next = await runOnce(contender, environment, count, what.name);
    if (next.perSecond < best.perSecond * STILL_WARMING) break;
    best = next;
  }
  return sized(best, plan.roundMs, contender.minCount ?? MIN_COUNT);
}

async function runOnce(
  contender: Contender,
  environment: Environment,
  count: number,
  measured: string,
  profiler?: Profiler,
): Promise<Sample> {
  const probe = contender.backend === "redis" ? environment.redis : undefined;
  let trial: Trial | undefined;
  try {
    // No forced collection in between: it would take objects of the last round's connections away from optimized code,
    // which V8 then throws away, and a round would measure compiling. Whoever runs on never sees that.
    trial = await contender.prepare(environment, count);
    await profiler?.start(probe);
    const sample = await time(trial, count, probe);
    await profiler?.stop(`${measured} ${contender.name}`, count, probe);
    await trial.verify();
    return sample;
  } catch (error) {
    throw new Error(`${measured}, ${contender.name}, ${count} messages`, { cause: error });
  } finally {
    await trial?.close();
    await probe?.clear();
  }
}

async function time(trial: Trial, count: number, probe: RedisProbe | undefined): Promise<Sample> {
  const redisBefore = await probe?.cpuMicros();
  const cpuBefore = process.cpuUsage();
  const startedAt = performance.now();
  await trial.run();
  const seconds = (performance.now() - startedAt) / 1_000;
  const cpu = process.cpuUsage(cpuBefore);
  const redisAfter = await probe?.cpuMicros();
  const latencies = trial.latencies?.subarray(Math.floor(count * LATENCY_LEAD_IN));
  return {
    perSecond: count / seconds,
    cpuMicros: (cpu.user + cpu.system) / count,
    redisCpuMicros: redisBefore === undefined || redisAfter === undefined ? null : (redisAfter - redisBefore) / count,
    p50Ms: latencies === undefined ? null : percentile(latencies, 50),
    p99Ms: latencies === undefined ? null : percentile(latencies, 99),
  };
}

/** Redis' memory for each of `count` messages that wait, by a contender that publishes. */
export async function measureBytes(contender: Contender, environment: Environment, count: number): Promise<number> {
  const probe = environment.redis;
  if (probe === undefined) throw new Error("memory in Redis is measured with Redis only");
  const trial = await contender.prepare(environment, count);
  try {
    await trial.run();
    await trial.verify();
    return (await probe.keyBytes()) / count;
  } finally {
    await trial.close();
    await probe.clear();
  }
}

function toRow(name: string, samples: readonly Sample[]): Row {
  const hasLatency = samples.some(({ p50Ms }) => p50Ms !== null);
  return {
    name,
    // Under a given rate the rate says nothing.
    perSecond: hasLatency ? null : medianOf(samples, "perSecond", 0),
    cpuMicros: medianOf(samples, "cpuMicros", 2),
    redisCpuMicros: medianOf(samples, "redisCpuMicros", 2),
    p50Ms: medianOf(samples, "p50Ms", 3),
    p99Ms: medianOf(samples, "p99Ms", 3),
  };
}

function medianOf(samples: readonly Sample[], field: keyof Sample, digits: number): number | null {
  const values = samples.map((sample) => sample[field]).filter((value) => value !== null);
  return values.length === 0 ? null : Number(median(values).toFixed(digits));
}
