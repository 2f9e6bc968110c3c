/** Histories made up by hand: to show that the checker finds what it should, and nothing else. */

import { appendFileSync } from "node:fs";
import { join } from "node:path";
import { tempDir } from "../../support/process.js";
import { checkHistory, type CheckOptions, type Verdict } from "../history.js";
import type { DirectorOp, EndedAs, FaultOp, GroupTraits, Op } from "./history-log.js";
import { DIRECTOR_FILE } from "./history-read.js";

export const WORK: GroupTraits = { name: "work", order: "key", leaseMs: 3_000, maxAttempts: 3 };

/** An operation without its time. */
type Untimed<O> = O extends { readonly t: number } ? Omit<O, "t"> : never;

/** Message `n` of publisher `p`, in attempt `a`. */
export interface Of {
  readonly p?: number;
  readonly n: number;
  readonly a?: number;
}

export interface Story {
  /** Lets time pass; each operation takes a millisecond by itself. */
  wait(ms: number): Story;
  publisher(p?: number): Story;
  /** A consumer of {@link WORK}, which hears what the store says when `answers`. */
  consumer(c: number, group?: GroupTraits, answers?: boolean): Story;
  /** Published and acknowledged. */
  published(n: number, k?: number): Story;
  publish(op: Untimed<Extract<Op, { op: "invoke" | "ok" | "fail" | "unknown" }>>, p?: number): Story;
  begin(c: number, of: Of, at?: string): Story;
  end(c: number, of: Of, as?: EndedAs): Story;
  /** Begins, and is acknowledged. */
  handled(c: number, ...messages: readonly Of[]): Story;
  /** Any other operation of a consumer. */
  consumed(c: number, op: Untimed<Op>): Story;
  direct(op: Untimed<DirectorOp>): Story;
  /** A fault that is over again, and from which work has recovered. */
  fault(number: number, traits?: Partial<FaultOp>): Story;
  /** What the store says at the end; nothing by default. */
  left(counts?: { lag?: number; pending?: number; retrying?: number; dead?: number }, group?: string): Story;
  /** Text that no JSON reader takes, as a killed process leaves it. */
  torn(source: string): Story;
  check(options?: CheckOptions): Promise<Verdict>;
}

const SECOND = 1e9;

export async function tellStory(): Promise<Story> {
  const dir = await tempDir();
  let t = 1_000 * SECOND;
  const write = (source: string, op: Untimed<Op>): Story => {
    t += 1e6;
    appendFileSync(join(dir, `${source}.ndjson`), `${JSON.stringify({ ...op, t })}\n`);
    return story;
  };
  const director = DIRECTOR_FILE.replace(".ndjson", "");
  const story: Story = {
    wait(ms) {
      t += ms * 1e6;
      return story;
    },
    publisher: (p = 1) => write(`publisher-${p}`, { op: "opened", process: "publisher", number: p }),
    consumer: (c, group = WORK, answers = false) =>
      write(`consumer-${c}`, { op: "opened", process: "consumer", number: c, group, answers }),
    published: (n, k) => story.publish({ op: "invoke", n, ...(k === undefined ? {} : { k }) }).publish({ op: "ok", n }),
    publish: (op, p = 1) => write(`publisher-${p}`, op),
    begin: (c, { p = 1, n, a = 1 }, at = `5-${n}`) => write(`consumer-${c}`, { op: "begin", p, n, a, at }),
    end: (c, { p = 1, n, a = 1 }, as = "ack") => write(`consumer-${c}`, { op: "end", p, n, a, as }),
    handled(c, ...messages) {
      for (const of of messages) story.begin(c, of).end(c, of);
      return story;
    },
    consumed: (c, op) => write(`consumer-${c}`, op),
    direct: (op) => write(director, op),
    fault(number, traits = {}) {
      const fault = { kind: "test", stalls: false, rollsBack: false, quiet: false, ...traits };
      return story
        .direct({ ...fault, op: "fault", number })
        .direct({ op: "writable", number, work: [] })
        .direct({ op: "over", number });
    },
    left: ({ lag = 0, pending = 0, retrying = 0, dead = 0 } = {}, group = WORK.name) =>
      write(director, { op: "left", group, lag, pending, retrying, dead }),
    torn(source) {
      appendFileSync(join(dir, `${source}.ndjson`), '{"op":"begin","t":1000');
      return story;
    },
    check: (options) => checkHistory(dir, options),
  };
  return story;
}
