/** The README's figures, written from `bench/results`: run it after a benchmark; a test compares. */

import { readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

interface Row {
  readonly name: string;
  readonly perSecond?: number | null;
  readonly p50Ms?: number | null;
  readonly p99Ms?: number | null;
}

interface Result {
  readonly rows: readonly Row[];
  readonly conditions: Readonly<Record<string, unknown>>;
}

type Path = "events" | "queue" | "pubsub";

const MARKER = "<!-- bench -->";
const END = "<!-- /bench -->";
/** What others may have of the machine's cores before the figures say so. */
const MAX_OTHERS_CORES = 0.25;

const LINES: readonly {
  readonly title: string;
  readonly path: Path;
  readonly measure: string;
  readonly backend: string;
}[] = [
  { title: "pub/sub: publish and handle, one at a time, Redis", path: "pubsub", measure: "lone", backend: "redis" },
  { title: "pub/sub: publish and handle, 1,000 at a time, Redis", path: "pubsub", measure: "load", backend: "redis" },
  { title: "events: publish, 1,000 at a time, Redis", path: "events", measure: "publish", backend: "redis" },
  { title: "events: handle and acknowledge, Redis", path: "events", measure: "endToEnd", backend: "redis" },
  { title: "events: publish, SQLite, synced", path: "events", measure: "publish", backend: "sqlite" },
  { title: "events: handle and acknowledge, SQLite, synced", path: "events", measure: "endToEnd", backend: "sqlite" },
  { title: "events: handle and acknowledge, memory", path: "events", measure: "endToEnd", backend: "memory" },
  { title: "queue with priorities: publish, Redis", path: "queue", measure: "publish", backend: "redis" },
  {
    title: "queue with priorities: handle and acknowledge, Redis",
    path: "queue",
    measure: "endToEnd",
    backend: "redis",
  },
  { title: "queue with priorities: publish, SQLite, synced", path: "queue", measure: "publish", backend: "sqlite" },
];

const LATENCIES: readonly { readonly title: string; readonly path: Path; readonly backend: string }[] = [
  { title: "pub/sub, memory", path: "pubsub", backend: "memory" },
  { title: "pub/sub, SQLite", path: "pubsub", backend: "sqlite" },
  { title: "pub/sub, Redis", path: "pubsub", backend: "redis" },
  { title: "events, Redis", path: "events", backend: "redis" },
  { title: "queue, Redis", path: "queue", backend: "redis" },
];

/** What stands between the markers. */
export function renderMeasured(root: string): string {
  const results: Readonly<Record<Path, Result>> = {
    events: read(root, "events"),
    queue: read(root, "queue"),
    pubsub: read(root, "pubsub"),
  };
  return [...renderRates(results), "", ...renderLatencies(results), ...renderDisturbances(results)].join("\n");
}

function renderRates(results: Readonly<Record<Path, Result>>): readonly string[] {
  const cell = (path: Path, name: string): string => {
    const perSecond = results[path].rows.find((each) => each.name === name)?.perSecond ?? undefined;
    return perSecond === undefined ? "–" : Math.round(perSecond).toLocaleString("en-US");
  };
  const rows = LINES.map(({ title, path, measure, backend }) => {
    const peer = backend === "redis" ? cell(path, `${measure} bullmq`) : "–";
    return `| ${title} | ${cell(path, `${measure} signalbox ${backend}`)} | ${cell(path, `${measure} floor ${backend}`)} | ${peer} |`;
  });
  return [
    "| Messages a second | signalbox | a plain loop on the bare client or driver | BullMQ 6.2.0 |",
    "|---|---|---|---|",
    ...rows,
  ];
}

/** From publishing a message to its handler, at a steady thousand a second. */
function renderLatencies(results: Readonly<Record<Path, Result>>): readonly string[] {
  const cells = (path: Path, name: string): string => {
    const row = results[path].rows.find((each) => each.name === name);
    return [row?.p50Ms, row?.p99Ms].map((ms) => (ms === undefined || ms === null ? "–" : String(ms))).join(" | ");
  };
  return [
    "| From publish to handler, ms | p50 | p99 | on the bare client: p50 | p99 |",
    "|---|---|---|---|---|",
    ...LATENCIES.map(
      ({ title, path, backend }) =>
        `| ${title} | ${cells(path, `latency signalbox ${backend}`)} | ${cells(path, `latency floor ${backend}`)} |`,
    ),
  ];
}

/** Figures of a machine that others used are worth little: whoever reads them shall know. */
function renderDisturbances(results: Readonly<Record<Path, Result>>): readonly string[] {
  return Object.entries(results).flatMap(([path, { conditions }]) => {
    const { othersCores, cores } = conditions;
    if (typeof othersCores !== "number" || othersCores <= MAX_OTHERS_CORES) return [];
    return [
      "",
      `Of ${path} they were measured while others used ${othersCores} of ${String(cores)} cores: to be repeated.`,
    ];
  });
}

/** The README with the present figures in it. */
export function withMeasured(readme: string, root: string): string {
  const start = readme.indexOf(MARKER) + MARKER.length;
  return `${readme.slice(0, start)}\n${renderMeasured(root)}\n${readme.slice(readme.indexOf(END))}`;
}

function read(root: string, path: string): Result {
  return JSON.parse(readFileSync(`${root}/bench/results/${path}.json`, "utf8")) as Result; // Written by bench/main.ts.
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const root = fileURLToPath(new URL("..", import.meta.url));
  writeFileSync(`${root}/README.md`, withMeasured(readFileSync(`${root}/README.md`, "utf8"), root));
}
