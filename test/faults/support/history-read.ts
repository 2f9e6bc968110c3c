/** Reads whole histories, in the order of time. */

import { closeSync, openSync, readdirSync, readSync } from "node:fs";
import { basename, join } from "node:path";
import type { Op, Side } from "./history-log.js";

/** Of whoever causes the faults: small, and not in the order of its times. */
export const DIRECTOR_FILE = "director.ndjson";
/** Where the process called `name` notes when it stood still. */
export function pulseFile(name: string): string {
  return `pulse-${name}.ndjson`;
}

const CHUNK_BYTES = 65_536;

/** An operation and the file it stands in. */
export interface Entry {
  readonly op: Op;
  /** Its name without `.ndjson`, such as `consumer-3`. */
  readonly source: string;
}

export function historyFiles(dir: string): string[] {
  return readdirSync(dir)
    .filter((name) => name.endsWith(".ndjson"))
    .sort()
    .map((name) => join(dir, name));
}

/** All operations in the order of their times, however many there are: a little of each file is in memory. */
export function* readHistory(dir: string): Generator<Entry, void, undefined> {
  const sources = historyFiles(dir).map((file) => {
    const ops = basename(file) === DIRECTOR_FILE ? sorted(file) : readOps(file);
    return { source: basename(file, ".ndjson"), ops, next: ops.next() };
  });
  for (;;) {
    // Few enough that looking at each is quicker than a heap.
    let first: (typeof sources)[number] | undefined;
    for (const one of sources) {
      if (one.next.done !== true && (first === undefined || one.next.value.t < timeOf(first.next))) first = one;
    }
    if (first === undefined || first.next.done === true) return;
    yield { op: first.next.value, source: first.source };
    first.next = first.ops.next();
  }
}

function timeOf(next: IteratorResult<Op, unknown>): number {
  return next.done === true ? Number.POSITIVE_INFINITY : next.value.t;
}

function* sorted(file: string): Generator<Op, void, undefined> {
  const ops = [...readOps(file)];
  yield* ops.sort((one, other) => one.t - other.t);
}

function* readOps(file: string): Generator<Op, void, undefined> {
  for (const line of readLines(file)) {
    const op = parsed(line);
    if (op !== undefined) yield op;
  }
}

/** What a killed process wrote last may be half a line. */
function parsed(line: string): Op | undefined {
  try {
    return JSON.parse(line) as Op; // only `openHistory` writes these files
  } catch {
    return undefined;
  }
}

function* readLines(file: string): Generator<string, void, undefined> {
  const fd = openSync(file, "r");
  const buffer = Buffer.alloc(CHUNK_BYTES);
  let rest = "";
  try {
    for (;;) {
      const count = readSync(fd, buffer);
      if (count === 0) break;
      // Operations are ASCII but for the texts of errors, which nothing is decided by.
      const lines = (rest + buffer.toString("latin1", 0, count)).split("\n");
      rest = lines.pop() ?? "";
      yield* lines;
    }
    if (rest !== "") yield rest;
  } finally {
    closeSync(fd);
  }
}

/** Which of the facades a history is about, by its name. */
export function sideOf(source: string): Side {
  return source.startsWith(QUEUE_PREFIX) ? "queue" : "events";
}

/** What the history with its queue is called of a process whose history with its stream is `source`. */
export function queueSource(source: string): string {
  return QUEUE_PREFIX + source;
}

const QUEUE_PREFIX = "queue-";

interface Wanted {
  readonly side: Side;
  readonly p: number;
  readonly n: number;
}

/** Every operation about these messages, from all files. */
export function operationsOf(dir: string, wanted: readonly Wanted[]): ReadonlyMap<string, readonly Entry[]> {
  const found = new Map(wanted.map((one) => [nameOf(one), [] as Entry[]]));
  for (const entry of readHistory(dir)) {
    const { op, source } = entry;
    if (!("n" in op)) continue;
    const p = "p" in op ? op.p : Number(source.split("-").at(-1));
    const side = op.op.startsWith("item") ? "queue" : sideOf(source);
    found.get(nameOf({ side, p, n: op.n }))?.push(entry);
  }
  return found;
}

export function nameOf({ side, p, n }: Wanted): string {
  return `${side} ${p}-${n}`;
}
