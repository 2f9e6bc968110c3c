/** Runs the quake desk as a user does, and knows from the feed itself what its summary has to say. */

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { connect } from "signalbox";
import { type ManagedProcess, startProcess } from "../support/process.js";
import { until } from "../support/wait.js";

const root = fileURLToPath(new URL("../..", import.meta.url));
const tsx = pathToFileURL(createRequire(import.meta.url).resolve("tsx")).href;

export interface Quake {
  readonly id: string;
  readonly magnitude: number;
  readonly place: string;
}

export const feedFile = join(root, "examples/data/earthquakes.ndjson");
export const feed: readonly Quake[] = readFileSync(feedFile, "utf8")
  .trimEnd()
  .split("\n")
  .map((line) => JSON.parse(line) as Quake);

/** Starts an example in `cwd`. It is node itself that runs, so that a signal reaches the program and nothing in between. */
export function startExample(
  name: string,
  cwd: string,
  args: readonly string[] = [],
  stdin: "ignore" | "pipe" = "ignore",
): ManagedProcess {
  // tsx looks for the paths of `signalbox` where it is started, unless it is told.
  const env = { TSX_TSCONFIG_PATH: join(root, "tsconfig.json") };
  const nodeArgs = ["--import", tsx, join(root, "examples", name), ...args];
  return startProcess(process.execPath, nodeArgs, { cwd, env, stdin });
}

export interface Finished {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

export async function finish(running: ManagedProcess): Promise<Finished> {
  const { code } = await running.exited;
  return { code, stdout: running.output("stdout"), stderr: running.output("stderr") };
}

/** Runs the desk to its end. */
export async function runDesk(cwd: string, args: readonly string[], input?: string): Promise<Finished> {
  const desk = startExample("quake-desk/main.ts", cwd, args, input === undefined ? "ignore" : "pipe");
  desk.child.stdin?.end(input);
  return await finish(desk);
}

/** Resolves once the desk has reported that at least this many quakes are published. */
export async function untilPublished(desk: ManagedProcess, atLeast: number): Promise<void> {
  await until(
    () => {
      const reports = [...desk.output("stdout").matchAll(/^([\d,]+) of [\d,]+ published/gm)];
      return reports.some(([, published]) => toNumber(published) >= atLeast);
    },
    {
      deadlineMs: 20_000,
      what: `${atLeast} published quakes`,
      giveUp: () => (desk.running() ? undefined : `it has ended: ${desk.output()}`),
    },
  );
}

export interface Summary {
  readonly published: number;
  readonly counted: number;
  /** Of every class of magnitude and every region that is shown. */
  readonly counts: Readonly<Record<string, number>>;
  readonly strongest: readonly string[];
  readonly handled: number;
  readonly retried: number;
  /** `place: kind: reason`. */
  readonly dead: readonly string[];
}

export function readSummary(stdout: string): Summary {
  const number = (pattern: RegExp): number => toNumber(pattern.exec(stdout)?.[1]);
  const places = (pattern: RegExp): string[] => [...stdout.matchAll(pattern)].map(([, place]) => place!);
  return {
    published: number(/^Published +([\d,]+) quakes/m),
    counted: number(/^Counted +([\d,]+) quakes/m),
    counts: Object.fromEntries(
      [...stdout.matchAll(/^ {2}(.+?) +([\d,]+) █+$/gm)].map(([, name, count]) => [name, toNumber(count)]),
    ),
    strongest: places(/^ {2}(M .+?) {2}\d{4}-\d\d-\d\d/gm),
    handled: number(/^Alerts +([\d,]+) handled/m),
    retried: number(/handled, ([\d,]+) of them retried/),
    dead: [...stdout.matchAll(/^ {2}M [\d.]+ {2}(.+?) {2}(\w+) after \d+: (.+)$/gm)].map(
      ([, place, kind, reason]) => `${place}: ${kind}: ${reason}`,
    ),
  };
}

function toNumber(text: string | undefined): number {
  return text === undefined ? Number.NaN : Number(text.replaceAll(",", ""));
}

/** What the desk must come to with this feed, from the lines alone. */
export function expectedSummary(quakes: readonly Quake[]): Summary {
  const counts: Record<string, number> = {};
  const regions: Record<string, number> = {};
  for (const { magnitude, place } of quakes) {
    const whole = Math.floor(magnitude);
    const band = whole < 1 ? "below 1" : `${whole} to ${whole + 1}`;
    counts[band] = (counts[band] ?? 0) + 1;
    const named = place.slice(place.lastIndexOf(", ") + 1).trim();
    const region = named === "CA" ? "California" : named;
    regions[region] = (regions[region] ?? 0) + 1;
  }
  const ranked = Object.entries(regions).toSorted(([, a], [, b]) => b - a);
  for (const [region, number] of ranked.slice(0, 8)) counts[region] = number;
  const others = ranked.slice(8);
  if (others.length > 0) counts[`${others.length} others`] = others.reduce((sum, [, number]) => sum + number, 0);

  const alerts = quakes.filter(({ magnitude }) => magnitude >= 4.5);
  const dead = alerts.flatMap(({ place }) => {
    if (!/^\d+km /.test(place)) return [`${place}: rejected: far from any town: nobody to call`];
    if (/Antarctica|Sandwich/.test(place)) return [`${place}: failed: Error: nobody answers the telephone`];
    return [];
  });
  return {
    published: quakes.length,
    counted: quakes.length,
    counts,
    strongest: quakes
      .toSorted((a, b) => b.magnitude - a.magnitude)
      .slice(0, 5)
      .map(({ magnitude, place }) => `M ${magnitude.toFixed(1)}  ${place}`),
    handled: alerts.length - dead.length,
    retried: alerts.filter(({ place }) => place.includes("Taiwan")).length,
    dead,
  };
}

/** The ids of every quake in the store, in its order: read by a group of the test's own. */
export async function storedIds(url: string): Promise<string[]> {
  await using broker = await connect(url, { namespace: "quake-desk" });
  const { length } = await broker.events.stats("quake.recorded");
  const ids: string[] = [];
  // A handler that returns at once: its deliveries come in order, and are acknowledged many at a time.
  const options = { group: `test-${process.hrtime.bigint()}`, from: "beginning", concurrency: 500 } as const;
  await broker.events.subscribe("quake.recorded", options, (quake) => {
    ids.push((quake as Quake).id);
  });
  await until(() => ids.length >= length, { deadlineMs: 20_000, what: `all ${length} stored quakes` });
  return ids;
}

/** Why events were parked by either group of the desk, which should never happen. */
export async function parkedEvents(url: string): Promise<string[]> {
  await using broker = await connect(url, { namespace: "quake-desk" });
  const reasons: string[] = [];
  for (const group of ["statistics", "alerting"]) {
    for await (const { reason } of broker.events.group("quake.recorded", group).deadLetters()) {
      reasons.push(`${group}: ${reason.kind}: ${reason.message}`);
    }
  }
  return reasons;
}
