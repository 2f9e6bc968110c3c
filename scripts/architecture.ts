/** The rules that keep the layers apart, as a function from source files to violations; run, it checks `src`. */

import { posix } from "node:path";
import { fileURLToPath } from "node:url";
import { lineAt, readSources, type Scan, type SourceFile, scan } from "./source-scan.js";

export interface Violation {
  readonly path: string;
  readonly line: number;
  readonly rule: string;
}

interface Import {
  readonly specifier: string;
  readonly line: number;
}

const ROOT_FILES = ["index.ts", "broker.ts", "connect.ts", "connect-options.ts"];
const FACADES = ["pubsub", "events", "queue", "agents", "rooms", "presence"];
/** What is built on top of the facades, and may also see the composition root. */
const OUTER = ["codecs", "gateway", "client", "decorators", "wire", "telemetry", "cli", "dashboard", "testing"];
const MAX_LINES = 400;

/** Packages that only one folder may import. */
const OWNED_PACKAGES: Readonly<Record<string, string>> = {
  "@redis/client": "backends/redis",
  "node:sqlite": "backends/sqlite",
  "@photostructure/sqlite": "backends/sqlite",
  "better-sqlite3": "backends/sqlite",
  msgpackr: "codecs",
};

/** Where time and chance come in through `core/clock.ts`, so that tests can hold them still. */
const CLOCKED = ["core", ...FACADES, "backends/memory"];
const CLOCK = "core/clock.ts";
const AMBIENT =
  /(?<![.\w$])(?:globalThis\.)?(?:Date\.now|performance\.now|Math\.random|set(?:Timeout|Interval|Immediate)|new Date(?=\s*\(\s*\)))\b/g;

/** Uses of the real clock that are right, by file, each with its reason. */
export const AMBIENT_ALLOWED: Readonly<Record<string, { uses: readonly string[]; reason: string }>> = {};

/** The layer of a path below `src`: `core`, a facade, `backends/redis` and so on; `root` for the composition root. */
function areaOf(path: string): string {
  const [first = "", second = ""] = path.split("/");
  if (!path.includes("/")) return ROOT_FILES.includes(path) ? "root" : "unknown";
  if (first === "backends") return path.split("/").length > 2 ? `backends/${second}` : "unknown";
  return first === "core" || FACADES.includes(first) || OUTER.includes(first) ? first : "unknown";
}

/** Says what is wrong with one area importing another, or nothing. */
function judge(from: string, to: string): string | undefined {
  if (from === to || to === "core") return undefined;
  if (to === "testing") return "the library never imports its tests' helpers";
  if (from === "root") return undefined;
  if (from === "core") return "core imports nothing outside core";
  if (FACADES.includes(from)) return `a facade imports core and its own folder, not ${to}`;
  if (from.startsWith("backends/")) return `a backend imports core and its own folder, not ${to}`;
  return to.startsWith("backends/") ? "only connect.ts and broker.ts know the backends" : undefined;
}

function importsOf(source: string, { code, strings }: Scan): Import[] {
  return strings
    .filter(({ start }) => /(?:(?<![.\w])from\s*|\bimport\s*\(?\s*)$/.test(code.slice(Math.max(0, start - 40), start)))
    .map(({ start, text }) => ({ specifier: text, line: lineAt(source, start) }));
}

/** The path below `src` that a relative specifier names. */
function target(path: string, specifier: string): string {
  return posix.join(posix.dirname(path), specifier).replace(/\.js$/, ".ts");
}

function packageOf(specifier: string): string {
  return specifier
    .split("/")
    .slice(0, specifier.startsWith("@") ? 2 : 1)
    .join("/");
}

function judgePackage(path: string, area: string, specifier: string): string | undefined {
  const owner = OWNED_PACKAGES[packageOf(specifier)];
  if (owner !== undefined) return area === owner ? undefined : `only ${owner} imports ${packageOf(specifier)}`;
  if (packageOf(specifier) === "signalbox") return "inside src, imports are relative";
  if (area === "core" && !specifier.startsWith("node:") && specifier !== "@standard-schema/spec")
    return `core imports Node's own modules and the schema types, not ${specifier} (${path})`;
  return undefined;
}

function checkImports(path: string, imports: readonly Import[]): Violation[] {
  const area = areaOf(path);
  return imports.flatMap(({ specifier, line }) => {
    const rule = specifier.startsWith(".")
      ? judge(area, areaOf(target(path, specifier)))
      : judgePackage(path, area, specifier);
    return rule === undefined ? [] : [{ path, line, rule }];
  });
}

function checkText(path: string, source: string, code: string): Violation[] {
  const found = (pattern: RegExp, rule: string): Violation[] =>
    [...code.matchAll(pattern)].map((match) => ({ path, line: lineAt(source, match.index), rule }));
  const lines = source.trimEnd().split("\n").length;
  return [
    ...(areaOf(path) === "unknown" ? [{ path, line: 1, rule: "belongs to no known folder of src" }] : []),
    ...(lines > MAX_LINES ? [{ path, line: lines, rule: `${lines} lines, more than ${MAX_LINES}` }] : []),
    ...found(/\bexport\s*(?:type\s*)?\*/g, "exports are named, never `export *`"),
    ...found(/\bexport\s+default\b|\bas\s+default\b/g, "no default exports"),
  ];
}

function checkAmbient(path: string, source: string, code: string): Violation[] {
  if (path === CLOCK || !CLOCKED.includes(areaOf(path))) return [];
  const allowed = AMBIENT_ALLOWED[path]?.uses ?? [];
  return [...code.matchAll(AMBIENT)]
    .filter(([use]) => !allowed.includes(use))
    .map((match) => ({ path, line: lineAt(source, match.index), rule: `${match[0]} belongs behind ${CLOCK}` }));
}

/** Every cycle of imports once, each named by the file where the search met it. */
function findCycles(graph: ReadonlyMap<string, readonly string[]>): Violation[] {
  const violations: Violation[] = [];
  const state = new Map<string, "open" | "done">();
  const visit = (path: string, trail: readonly string[]): void => {
    if (state.get(path) === "open") {
      const cycle = [...trail.slice(trail.indexOf(path)), path];
      violations.push({ path, line: 1, rule: `imports itself: ${cycle.join(" → ")}` });
    }
    if (state.has(path)) return;
    state.set(path, "open");
    for (const next of graph.get(path) ?? []) visit(next, [...trail, path]);
    state.set(path, "done");
  };
  for (const path of graph.keys()) visit(path, []);
  return violations;
}

/** Checks files whose paths are relative to `src`. */
export function checkArchitecture(files: readonly SourceFile[]): Violation[] {
  const graph = new Map<string, readonly string[]>();
  const violations = files.flatMap(({ path, source }) => {
    const scanned = scan(source);
    const imports = importsOf(source, scanned);
    const relative = imports.filter(({ specifier }) => specifier.startsWith("."));
    graph.set(
      path,
      relative.map(({ specifier }) => target(path, specifier)),
    );
    return [
      ...checkText(path, source, scanned.code),
      ...checkImports(path, imports),
      ...checkAmbient(path, source, scanned.code),
    ];
  });
  return [...violations, ...findCycles(graph)];
}

/** The library's own source files, with paths relative to `src`. */
export function librarySources(): SourceFile[] {
  const root = fileURLToPath(new URL("..", import.meta.url));
  return readSources(root, "src").map(({ path, source }) => ({ path: path.slice("src/".length), source }));
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const files = librarySources();
  const violations = checkArchitecture(files);
  for (const { path, line, rule } of violations) console.error(`src/${path}:${line}  ${rule}`);
  console.log(`${files.length} files, ${violations.length} violations`);
  if (violations.length > 0) process.exitCode = 1;
}
