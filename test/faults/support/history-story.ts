/** Histories made up by hand: to show that the checker finds what it should, and nothing else. */

import { appendFileSync } from "node:fs";
import { join } from "node:path";
import { tempDir } from "../../support/process.js";
import { checkHistory, type CheckOptions, type Verdict } from "../history.js";
import { EVERYBODY, type ItemInvoke, type ItemOp, type ItemsFound, type QueueTraits } from "./history-items.js";
import type { DirectorOp, EndedAs, FaultOp, GroupTraits, Op } from "./history-log.js";
import { DIRECTOR_FILE } from "./history-read.js";

export const WORK: GroupTraits = { name: "work", order: "key", leaseMs: 3_000, maxAttempts: 3 };

export const TRAITS: QueueTraits = { audience: ["ada", "bob"], leaseMs: 3_000, maxAttempts: 3 };

/** An operation without its time. */
export type Untimed<O> = O extends { readonly t: number } ? Omit<O, "t"> : never;

/** Message `n` of publisher `p`, in attempt `a`. */
export interface Of {
  readonly p?: number;
  readonly n: number;
  readonly a?: number;
}

/** The same with recipient `r`, by default whoever consumes the queue. */
export interface OfRecipient extends Of {
  readonly r?: string;
}

export interface Story {
  /** Lets time pass; each operation takes a millisecond by itself. */
  wait(ms: number): Story;
  publisher(p?: number): Story;
  /** A consumer of {@link WORK}, which hears what the store says when `answers`. */
  consumer(c: number, group?: GroupTraits, answers?: boolean): Story;
  /** Publisher 1 of a queue, and consumers 1 and 2, of which the second hears what the store says. */
  queue(): Story;
  /** Published and acknowledged. */
  published(n: number, k?: number): Story;
  publish(op: Untimed<Extract<Op, { op: "invoke" | "ok" | "fail" | "unknown" }>>, p?: number): Story;
  /** Published to the queue, and acknowledged; by default for whoever consumes it. */
  item(n: number, traits?: Partial<ItemInvoke>): Story;
  /** Any operation of the queue's publisher. */
  push(op: Untimed<ItemOp | Extract<Op, { op: "ok" | "fail" | "unknown" }>>): Story;
  /** Begins; it was taken within the last `ms`, by default one. */
  taken(c: number, of: OfRecipient, ms?: number): Story;
  /** Any other operation of a consumer of the queue. */
  tell(c: number, op: Untimed<ItemOp>): Story;
  /** The handler decides, and the store takes it. */
  settled(c: number, of: OfRecipient, as?: EndedAs, delayMs?: number): Story;
  /** Taken, and acknowledged. */
  done(c: number, ...items: readonly OfRecipient[]): Story;
  /** What the store says at the end of all recipients but for these. */
  rest(counts?: Readonly<Record<string, Partial<Extract<ItemsFound, { op: "itemsLeft" }>>>>): Story;
  begin(c: number, of: Of, at?: string): Story;
  end(c: number, of: Of, as?: EndedAs): Story;
  /** Begins, and is acknowledged. */
  handled(c: number, ...messages: readonly Of[]): Story;
  /** Any other operation of a consumer. */
  consumed(c: number, op: Untimed<Op>): Story;
  direct(op: Untimed<DirectorOp | ItemsFound>): Story;
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
    queue() {
      const opened = { op: "opened", queue: TRAITS } as const;
      write("queue-publisher-1", { ...opened, process: "publisher", number: 1 });
      write("queue-consumer-1", { ...opened, process: "consumer", number: 1 });
      return write("queue-consumer-2", { ...opened, process: "consumer", number: 2, answers: true });
    },
    item: (n, traits = {}) =>
      story.push({ op: "itemInvoke", n, to: "", priority: 0, ...traits }).push({
        op: "ok",
        n,
        count: traits.to === EVERYBODY ? TRAITS.audience.length : 1,
      }),
    push: (op) => write("queue-publisher-1", op),
    taken(c, { r = "", p = 1, n, a = 1 }, ms = 1) {
      const from = t + 1e6 - ms * 1e6;
      return story.tell(c, { op: "itemBegin", r, p, n, a, at: `id-${p}-${n}`, from, until: t + 1e6 });
    },
    tell: (c, op) => write(`queue-consumer-${c}`, op),
    settled(c, { r = "", p = 1, n, a = 1 }, as = "ack", delayMs = 0) {
      const of = { r, p, n, a, as, delayMs };
      return story.tell(c, { op: "itemEnd", ...of }).tell(c, { op: "itemStored", ...of });
    },
    done(c, ...items) {
      for (const of of items) story.taken(c, of).settled(c, of);
      return story;
    },
    rest(counts = {}) {
      const none = { waiting: 0, leased: 0, delayed: 0, dead: 0, expired: 0, dropped: 0 };
      for (const r of ["", ...TRAITS.audience]) write(director, { ...none, ...counts[r], op: "itemsLeft", r });
      return story;
    },
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
