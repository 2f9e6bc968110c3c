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

const MARKER = "<!-- bench -->";
const END = "<!-- /bench -->";

type MeasuredPath = "events" | "queue" | "pubsub";

const LINES: readonly {
  readonly title: string;
  readonly path: MeasuredPath;
  readonly measure: string;
  readonly backend: string;
}[] = [
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
  { title: "pub/sub: publish and handle, 1,000 at a time, Redis", path: "pubsub", measure: "load", backend: "redis" },
];

/** From the call of publish to the handler, at 1,000 messages a second. */
const LATENCIES: readonly { readonly title: string; readonly path: MeasuredPath; readonly backend: string }[] = [
  { title: "pub/sub, memory", path: "pubsub", backend: "memory" },
  { title: "pub/sub, SQLite, in one process", path: "pubsub", backend: "sqlite" },
  { title: "pub/sub, Redis", path: "pubsub", backend: "redis" },
  { title: "events, Redis", path: "events", backend: "redis" },
  { title: "queue with priorities, Redis", path: "queue", backend: "redis" },
];

/** What stands between the markers. */
export function renderMeasured(root: string): string {
  const results = {
    events: read(root, "events"),
    queue: read(root, "queue"),
    pubsub: read(root, "pubsub"),
  };
  const cell = (path: MeasuredPath, name: string): string => {
    const perSecond = results[path].rows.find((each) => each.name === name)?.perSecond ?? undefined;
    return perSecond === undefined ? "–" : Math.round(perSecond).toLocaleString("en-US");
  };
  const rows = LINES.map(({ title, path, measure, backend }) => {
    const peer = backend === "redis" && path !== "pubsub" ? cell(path, `${measure} bullmq`) : "–";
    return `| ${title} | ${cell(path, `${measure} signalbox ${backend}`)} | ${cell(path, `${measure} floor ${backend}`)} | ${peer} |`;
  });
  return [
    "| Messages a second | signalbox | a plain loop on the bare client or driver | BullMQ 6.2.0 |",
    "|---|---|---|---|",
    ...rows,
    "",
    "| From publish to handler, ms: median / 99 % | signalbox | a plain loop |",
    "|---|---|---|",
    ...LATENCIES.map(({ title, path, backend }) => {
      const of = (name: string): string => latency(results[path], name);
      return `| ${title} | ${of(`latency signalbox ${backend}`)} | ${of(`latency floor ${backend}`)} |`;
    }),
  ].join("\n");
}

/** The README with the present figures in it. */
export function withMeasured(readme: string, root: string): string {
  const start = readme.indexOf(MARKER) + MARKER.length;
  return `${readme.slice(0, start)}\n${renderMeasured(root)}\n${readme.slice(readme.indexOf(END))}`;
}

function latency({ rows }: Result, name: string): string {
  const row = rows.find((each) => each.name === name);
  const ms = [row?.p50Ms, row?.p99Ms].map((value) => (typeof value === "number" ? value.toFixed(2) : undefined));
  return ms.includes(undefined) ? "–" : ms.join(" / ");
}

function read(root: string, path: string): Result {
  return JSON.parse(readFileSync(`${root}/bench/results/${path}.json`, "utf8")) as Result; // Written by bench/main.ts.
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const root = fileURLToPath(new URL("..", import.meta.url));
  writeFileSync(`${root}/README.md`, withMeasured(readFileSync(`${root}/README.md`, "utf8"), root));
}
