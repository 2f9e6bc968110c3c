/** `npm run chaos`: seeded faults upon a real store under load, and the proof that nothing was lost; or the seed of a failure. */

import { parseArgs } from "node:util";
import { reportOf } from "../test/faults/support/chaos-report.js";
import { runChaos } from "../test/faults/support/chaos-run.js";
import { TOPOLOGIES, type Topology } from "../test/faults/support/chaos-sites.js";

const USAGE = `npm run chaos -- [--topology ${TOPOLOGIES.join("|")}] [--minutes N] [--seed N] [--rate N] [--json]`;
const MAX_SEED = 2 ** 31;

interface Settings {
  readonly topologies: readonly Topology[];
  readonly minutes: number;
  readonly seed: number;
  readonly rate: number | undefined;
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
      rate: { type: "string" },
      json: { type: "boolean", default: false },
    },
  });
  const topologies = TOPOLOGIES.filter((one) => values.topology === undefined || one === values.topology);
  if (topologies.length === 0) throw new Error(`--topology must be ${TOPOLOGIES.join(", ")}, not ${values.topology}`);
  const seed = values.seed === undefined ? Math.floor(Math.random() * MAX_SEED) : positive("seed", values.seed);
  return {
    topologies,
    minutes: positive("minutes", values.minutes),
    seed,
    rate: values.rate === undefined ? undefined : positive("rate", values.rate),
    json: values.json,
  };
}

function positive(name: string, text: string): number {
  const value = Number(text);
  if (Number.isFinite(value) && value > 0) return value;
  throw new Error(`--${name} must be a number above 0, not ${text}`);
}

async function main(args: readonly string[]): Promise<void> {
  const { topologies, minutes, seed, rate, json } = settingsOf(args);
  for (const topology of topologies) {
    console.error(`${topology}, seed ${seed}`);
    const say = json ? {} : { say: (line: string) => console.error(line) };
    const faults = { minutes };
    const report = await runChaos({ topology, faults, seed, ...say, ...(rate === undefined ? {} : { rate }) });
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
