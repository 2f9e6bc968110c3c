/** Follows histories while they grow: who works, and how much is left to do of the stream. */

import { closeSync, openSync, readSync } from "node:fs";
import { basename } from "node:path";
import type { Opened } from "./history-log.js";
import { DIRECTOR_FILE, historyFiles } from "./history-read.js";

/** What is known of one process. Times as in the history; 0 for never. */
export interface Progress {
  lastOkAt: number;
  /** When the store last took a decision of this consumer. */
  lastSettledAt: number;
}

interface Followed {
  readonly fd: number;
  rest: string;
  opened: Opened | undefined;
  readonly progress: Progress;
}

/** Of one publisher: bit 0 for an acknowledged publish, a further one for each group that has finished the message. */
type Flags = Uint8Array<ArrayBuffer>;

const NEVER: Progress = { lastOkAt: 0, lastSettledAt: 0 };

export class Tail {
  readonly #dir: string;
  readonly #files = new Map<string, Followed>();
  readonly #buffer = Buffer.alloc(1_048_576);
  readonly #flags = new Map<number, Flags>();
  readonly #groups: string[] = [];
  /** Acknowledged messages that each group has not finished. */
  readonly #open: number[] = [];
  #ok = 0;
  #finished = 0;
  #items = 0;

  constructor(dir: string) {
    this.#dir = dir;
  }

  /** Reads what is new. */
  poll(): void {
    for (const file of historyFiles(this.#dir)) {
      if (basename(file) !== DIRECTOR_FILE) this.#read(basename(file, ".ndjson"), file);
    }
  }

  /** Of the process that writes `source`, as of the last poll. */
  of(source: string): Progress {
    return this.#files.get(source)?.progress ?? NEVER;
  }

  /** Acknowledged publishes of events. */
  get ok(): number {
    return this.#ok;
  }

  /** Acknowledged publishes to the queue. */
  get items(): number {
    return this.#items;
  }

  /** Deliveries that ended for good, however often, of either. */
  get finished(): number {
    return this.#finished;
  }

  /** Acknowledged messages that the slowest group has still to finish. */
  get backlog(): number {
    return Math.max(0, ...this.#open);
  }

  close(): void {
    for (const { fd } of this.#files.values()) closeSync(fd);
    this.#files.clear();
  }

  #read(name: string, path: string): void {
    let file = this.#files.get(name);
    if (file === undefined) {
      file = { fd: openSync(path, "r"), rest: "", opened: undefined, progress: { ...NEVER } };
      this.#files.set(name, file);
    }
    for (;;) {
      const count = readSync(file.fd, this.#buffer);
      if (count === 0) return;
      const lines = (file.rest + this.#buffer.toString("latin1", 0, count)).split("\n");
      file.rest = lines.pop() ?? "";
      for (const line of lines) this.#note(file, line);
    }
  }

  /** Looks at a line without parsing it: most are passed by. */
  #note(file: Followed, line: string): void {
    if (line.startsWith('{"op":"ok"')) {
      file.progress.lastOkAt = numberIn(line, '"t":');
      if (file.opened?.queue !== undefined) this.#items += 1;
      else this.#acknowledge(file.opened?.number ?? 0, numberIn(line, '"n":'));
    } else if (line.startsWith('{"op":"settled"')) {
      file.progress.lastSettledAt = numberIn(line, '"t":');
    } else if (line.startsWith('{"op":"end"') && (line.endsWith('"ack"}') || line.endsWith('"dead"}'))) {
      this.#finish(file.opened?.group?.name ?? "", numberIn(line, '"p":'), numberIn(line, '"n":'));
    } else if (line.startsWith('{"op":"itemEnd"')) {
      this.#finished += 1;
    } else if (line.startsWith('{"op":"opened"')) {
      file.opened = JSON.parse(line) as Opened; // only `openHistory` writes these files
      const group = file.opened.group?.name;
      if (group !== undefined && !this.#groups.includes(group)) {
        this.#groups.push(group);
        this.#open.push(this.#ok);
      }
    }
  }

  #acknowledge(p: number, n: number): void {
    this.#ok += 1;
    const flags = this.#flagsOf(p, n);
    const before = flags[n] ?? 0;
    flags[n] = before | 1;
    for (let group = 0; group < this.#open.length; group += 1) {
      // It may have been finished before its publisher heard that it was stored.
      if ((before & (2 << group)) === 0) this.#open[group] = (this.#open[group] ?? 0) + 1;
    }
  }

  #finish(name: string, p: number, n: number): void {
    this.#finished += 1;
    const group = this.#groups.indexOf(name);
    const flags = this.#flagsOf(p, n);
    const before = flags[n] ?? 0;
    if ((before & (2 << group)) !== 0) return;
    flags[n] = before | (2 << group);
    if ((before & 1) !== 0) this.#open[group] = (this.#open[group] ?? 0) - 1;
  }

  #flagsOf(p: number, n: number): Flags {
    let flags = this.#flags.get(p);
    if (flags === undefined || n >= flags.length) {
      const larger = new Uint8Array(Math.max(1_024, n * 2));
      if (flags !== undefined) larger.set(flags);
      flags = larger;
      this.#flags.set(p, flags);
    }
    return flags;
  }
}

function numberIn(line: string, name: string): number {
  return Number.parseInt(line.slice(line.indexOf(name) + name.length), 10);
}
