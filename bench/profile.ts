/** Where the time of a measured section goes: V8's sampling profiler around it, summed by function, and Redis' commands. */

import { existsSync, readFileSync } from "node:fs";
import { type Profiler as V8, Session } from "node:inspector/promises";
import { SourceMap, type SourceMapPayload } from "node:module";
import { relative } from "node:path";
import { fileURLToPath } from "node:url";
import type { RedisProbe } from "./redis-probe.js";

export interface Profiler {
  start(probe: RedisProbe | undefined): Promise<void>;
  /** Ends the section and keeps its report. */
  stop(name: string, count: number, probe: RedisProbe | undefined): Promise<void>;
  /** Every section's report, in order. */
  report(): string;
  close(): void;
}

const SAMPLE_MICROS = 200;
const TOP = 30;
const compiledRoot = fileURLToPath(new URL("../", import.meta.url));

export async function createProfiler(): Promise<Profiler> {
  const session = new Session();
  session.connect();
  await session.post("Profiler.enable");
  await session.post("Profiler.setSamplingInterval", { interval: SAMPLE_MICROS });
  const reports: string[] = [];
  return {
    async start(probe) {
      await probe?.resetCommandStats();
      await session.post("Profiler.start");
    },
    async stop(name, count, probe) {
      const { profile } = await session.post("Profiler.stop");
      const commands = await probe?.commandStats();
      reports.push([`## ${name}, ${count} messages`, ...describe(profile), ...describeCommands(commands)].join("\n"));
    },
    report: () => reports.join("\n\n"),
    close: () => session.disconnect(),
  };
}

/** Self time by function and by place, in % of the section's wall time. */
function describe(profile: V8.Profile): string[] {
  const names = new Map(profile.nodes.map((node) => [node.id, nameOf(node.callFrame)]));
  const functions = new Map<string, number>();
  const places = new Map<string, number>();
  let total = 0;
  for (const [index, id] of (profile.samples ?? []).entries()) {
    const micros = profile.timeDeltas?.[index] ?? 0;
    const { text, place } = names.get(id) ?? { text: "?", place: "?" };
    // The inspector's own: starting and stopping the profiler.
    if (text === "dispatch") continue;
    functions.set(text, (functions.get(text) ?? 0) + micros);
    places.set(place, (places.get(place) ?? 0) + micros);
    total += micros;
  }
  const lines = (sums: ReadonlyMap<string, number>, top: number): string[] =>
    [...sums]
      .sort(([, a], [, b]) => b - a)
      .slice(0, top)
      .map(([text, micros]) => `${((micros / total) * 100).toFixed(1).padStart(6)} %  ${text}`);
  return ["by place", ...lines(places, 12), "by function", ...lines(functions, TOP)];
}

function describeCommands(commands: Awaited<ReturnType<RedisProbe["commandStats"]>> | undefined): string[] {
  if (commands === undefined) return [];
  const lines = commands
    .slice(0, 12)
    .map(({ command, calls, micros }) => `${String(Math.round(micros)).padStart(9)} µs  ${calls} × ${command}`);
  return ["Redis commands (a script's time includes those that it calls)", ...lines];
}

function nameOf({ functionName, url, lineNumber, columnNumber }: V8.Profile["nodes"][number]["callFrame"]): {
  text: string;
  place: string;
} {
  const name = functionName === "" ? "(anonymous)" : functionName;
  if (url === "") {
    const isState = ["(garbage collector)", "(idle)", "(program)", "(root)"].includes(functionName);
    // V8 names what is written in C++ as best it can: a driver's functions all go by the name of one of them.
    return {
      text: isState || functionName === "dispatch" ? name : `${name} [native]`,
      place: isState ? name : "native",
    };
  }
  if (!url.startsWith("file:")) return { text: `${name} ${url}:${lineNumber + 1}`, place: "node" };
  const { file, line } = original(fileURLToPath(url), lineNumber, columnNumber);
  const packages = /node_modules\/((?:@[^/]+\/)?[^/]+)/.exec(file)?.[1];
  return { text: `${name} ${file}:${line}`, place: packages ?? file.split("/").slice(0, -1).join("/") };
}

const maps = new Map<string, SourceMap | undefined>();

/** From the compiled file back to the TypeScript it came from. */
function original(path: string, line: number, column: number): { file: string; line: number } {
  const file = relative(compiledRoot, path);
  if (!maps.has(path)) {
    maps.set(path, readMap(`${path}.map`));
  }
  const entry = maps.get(path)?.findEntry(line, column);
  if (entry === undefined || !("originalLine" in entry)) return { file, line: line + 1 };
  return { file: file.replace(/\.js$/, ".ts"), line: entry.originalLine + 1 };
}

function readMap(path: string): SourceMap | undefined {
  if (!existsSync(path)) return undefined;
  // tsc wrote it, beside the file.
  return new SourceMap(JSON.parse(readFileSync(path, "utf8")) as SourceMapPayload);
}
