/** `npm run chaos`: seeded faults upon a real store under load, and the proof that nothing was lost; or the seed of a failure. */

import { parseArgs } from "node:util";
import { reportOf } from "../test/faults/support/chaos-report.js";
import { runChaos, SIDES } from "../test/faults/support/chaos-run.js";
import type { Side } from "../test/faults/support/history-log.js";
import { TOPOLOGIES, type Topology } from "../test/faults/support/chaos-sites.js";

const USAGE = `npm run chaos -- [--topology ${TOPOLOGIES.join("|")}] [--minutes N] [--seed N] [--side events|queue] [--rate N] [--queue-rate N] [--json]`;
const MAX_SEED = 2 ** 31;

interface Settings {
  readonly topologies: readonly Topology[];
  readonly minutes: number;
  readonly seed: number;
  /** Default both. */
  readonly sides: readonly Side[];
  /** Events a second, and messages to the queue. */
  readonly rate: number | undefined;
  readonly queueRate: number | undefined;
  readonly json: boolean;
}

/** @throws {Error} naming what cannot be understood */
function settingsOf(args: readonly string[]): Settings {
  const { values } = parseArgs({
    args: [...args],
    options: {
      topology: { type: "string" },
      minutes: { type: "string", default: "1" },
      seed: { type: "string" },
      side: { type: "string" },
      rate: { type: "string" },
      "queue-rate": { type: "string" },
      json: { type: "boolean", default: false },
    },
  });
  const topologies = TOPOLOGIES.filter((one) => values.topology === undefined || one === values.topology);
  if (topologies.length === 0) throw new Error(`--topology must be ${TOPOLOGIES.join(", ")}, not ${values.topology}`);
  const sides = SIDES.filter((one) => values.side === undefined || one === values.side);
  if (sides.length === 0) throw new Error(`--side must be ${SIDES.join(" or ")}, not ${values.side}`);
  const seed = values.seed === undefined ? Math.floor(Math.random() * MAX_SEED) : positive("seed", values.seed);
  return {
    topologies,
    minutes: positive("minutes", values.minutes),
    seed,
    sides,
    rate: optional("rate", values.rate),
    queueRate: optional("queue-rate", values["queue-rate"]),
    json: values.json,
  };
}

function optional(name: string, text: string | undefined): number | undefined {
  return text === undefined ? undefined : positive(name, text);
}

function positive(name: string, text: string): number {
  const value = Number(text);
  if (Number.isFinite(value) && value > 0) return value;
  throw new Error(`--${name} must be a number above 0, not ${text}`);
}

async function main(args: readonly string[]): Promise<void> {
  const { topologies, minutes, seed, sides, rate, queueRate, json } = settingsOf(args);
  const rates = { ...(rate === undefined ? {} : { rate }), ...(queueRate === undefined ? {} : { queueRate }) };
  for (const topology of topologies) {
    console.error(`${topology}, seed ${seed}`);
    const say = json ? {} : { say: (line: string) => console.error(line) };
    const faults = { minutes };
    const report = await runChaos({ topology, sides, faults, seed, ...say, ...rates });
    console.log(json ? JSON.stringify(report) : reportOf(report));
    if (report.verdict.findings.length > 0) process.exitCode = 1;
  }
}

try {
  await main(process.argv.slice(2));
} catch (error) {
  console.error(error instanceof Error ? error.message : error);
  console.error(USAGE);
  process.exitCode = 2;
}
