/**
 * What a history consists of: operations, one line of JSON each, in one file for each process. Times are nanoseconds of
 * the machine's monotonic clock, so that the files of several processes can be laid side by side.
 */

import { closeSync, openSync, writeSync } from "node:fs";
import type { ItemOp, QueueTraits } from "./history-items.js";

/** What the handler of a delivery decided. */
export type EndedAs = "ack" | "retry" | "defer" | "dead";

export interface Opened {
  readonly op: "opened";
  readonly t: number;
  readonly process: "publisher" | "consumer";
  /** Unique among the processes of its kind; a process that was killed is followed by one with a new number. */
  readonly number: number;
  /** Of a consumer. */
  readonly group?: GroupTraits;
  /** A consumer that hears what the store says to each of its decisions, and writes it down. */
  readonly answers?: boolean;
  /** Of a process's history with its queue, which is a file of its own, beside that with its stream. */
  readonly queue?: QueueTraits;
}

/** The two facades that one run is about. */
export type Side = "events" | "queue";

/** What a consumer knows of its group. */
export interface GroupTraits {
  readonly name: string;
  readonly order: "none" | "key";
  readonly leaseMs: number;
  readonly maxAttempts: number;
}

/** Of a publisher: `n` counts its messages from 0, in the order in which it published them. */
export type PublisherOp =
  /** Written before the publish leaves the process. `k` is the key, a number among the publisher's own. */
  | { readonly op: "invoke"; readonly t: number; readonly n: number; readonly k?: number }
  /** The receipt is there. */
  | {
      readonly op: "ok";
      readonly t: number;
      readonly n: number;
      /** Of a queue's message, unless it was a duplicate: how many recipients the receipt counts. */
      readonly count?: number;
    }
  /** It was refused: it must not appear. */
  | { readonly op: "fail"; readonly t: number; readonly n: number; readonly error: string }
  /** It may have been stored or not. */
  | { readonly op: "unknown"; readonly t: number; readonly n: number; readonly error: string };

/** Of a consumer: message `n` of publisher `p`, attempt `a`. */
export type ConsumerOp =
  /** A handler begins; `at` is the position. */
  | {
      readonly op: "begin";
      readonly t: number;
      readonly p: number;
      readonly n: number;
      readonly a: number;
      readonly at: string;
    }
  /** The handler has decided. Written before the decision leaves the process. */
  | {
      readonly op: "end";
      readonly t: number;
      readonly p: number;
      readonly n: number;
      readonly a: number;
      readonly as: EndedAs;
    }
  /** The store has taken what was decided, or has refused it because the lease was lost. */
  | {
      readonly op: "stored" | "lost";
      readonly t: number;
      readonly p: number;
      readonly n: number;
      readonly a: number;
      readonly as: EndedAs;
    }
  /** The store has taken so many decisions, whichever they were: the sign of progress. */
  | { readonly op: "settled"; readonly t: number; readonly count: number }
  /** The library has reported so many messages as removed beneath the group. */
  | { readonly op: "gone"; readonly t: number; readonly count: number }
  /** A delivery that is not as it was published. */
  | { readonly op: "corrupt"; readonly t: number; readonly what: string };

/** Of any process. */
export type CommonOp =
  /** It got to nothing between the two, or the store did not, and nobody had caused that. In a file of its own, for its time is the earlier one. */
  | { readonly op: "stood"; readonly t: number; readonly until: number }
  | { readonly op: "rss"; readonly t: number; readonly bytes: number }
  /** An exception or a rejection that nobody caught, or a failure that is none of the library's own errors. */
  | { readonly op: "unhandled"; readonly t: number; readonly what: string };

/** Of whoever causes the faults. Need not be in the order of their times. */
export type DirectorOp =
  | FaultOp
  /** The store accepts writes again: recovery counts from here. */
  | {
      readonly op: "writable";
      readonly t: number;
      readonly number: number;
      /** When the primary was taken away, for faults that do. */
      readonly killedAt?: number;
      /** Those that had anything left to do. */
      readonly work: readonly Side[];
    }
  /** Everything is in place again. */
  | { readonly op: "over"; readonly t: number; readonly number: number }
  /** The primary has changed at some time between the two, and nobody had asked for that. */
  | { readonly op: "unforeseen"; readonly t: number; readonly until: number }
  /** A process was killed on purpose. */
  | { readonly op: "died"; readonly t: number; readonly process: "publisher" | "consumer"; readonly number: number }
  /** A process has ended by itself. */
  | { readonly op: "ended"; readonly t: number; readonly process: string; readonly what: string }
  /** What the store says at the end. */
  | {
      readonly op: "left";
      readonly t: number;
      readonly group: string;
      readonly lag: number;
      readonly pending: number;
      readonly retrying: number;
      readonly dead: number;
    }
  | {
      readonly op: "letter";
      readonly t: number;
      readonly group: string;
      readonly p: number;
      readonly n: number;
      readonly attempts: number;
      readonly kind: string;
    };

export interface FaultOp {
  readonly op: "fault";
  readonly t: number;
  readonly number: number;
  readonly kind: string;
  /** Time passes for some while not for others: leases may run out beneath handlers. */
  readonly stalls: boolean;
  /** The store may afterwards lack what was not asked to be replicated: positions, attempts and acknowledgements. */
  readonly rollsBack: boolean;
  /** Nobody publishes until work has gone on. */
  readonly quiet: boolean;
}

export type Op = Opened | PublisherOp | ConsumerOp | CommonOp | DirectorOp | ItemOp;

/** Nanoseconds of the monotonic clock: exact for the first hundred days after the machine was started. */
export function now(): number {
  return Number(process.hrtime.bigint());
}

export interface HistoryLog {
  /** Takes one operation; it is in the file when the tick ends, or at the next `flush`. */
  write(op: Op): void;
  /** Puts what was taken into the file: from then on it survives the process. */
  flush(): void;
  /** Resolves when what was taken so far is in the file, together with what others write in this tick. */
  flushed(): Promise<void>;
  close(): void;
}

/** Appends to `file`, in few calls: whatever is written in one tick travels together. */
export function openHistory(file: string): HistoryLog {
  const fd = openSync(file, "a");
  let lines = "";
  let flushing: Promise<void> | undefined;

  const flush = (): void => {
    if (lines === "") return;
    const bytes = Buffer.from(lines);
    lines = "";
    for (let at = 0; at < bytes.length; ) at += writeSync(fd, bytes, at);
  };
  const flushed = (): Promise<void> => {
    flushing ??= new Promise((resolve) => {
      process.nextTick(() => {
        flushing = undefined;
        flush();
        resolve();
      });
    });
    return flushing;
  };
  return {
    write(op) {
      lines += `${JSON.stringify(op)}\n`;
      void flushed();
    },
    flush,
    flushed,
    close() {
      flush();
      closeSync(fd);
    },
  };
}
