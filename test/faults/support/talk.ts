/** One broker talks without end, another listens in every way: what a fault may take is told, and nothing comes twice. */

import { expect } from "vitest";
import { type Broker, connect, type ConnectOptions, SignalboxError } from "../../../src/index.js";
import { silentLogger } from "../../facades/support/lanes.js";
import { pause, until } from "../../support/wait.js";

/** From the end of a fault until all is heard again. */
export const HEARING_MS = 5_000;
const EVERY_MS = 10;
export const TALK = "talk.a";

/** What one subscription has heard, in order: messages by their number, and gaps. */
export interface TalkEar {
  readonly title: string;
  readonly heard: (number | "gap")[];
}

export interface TalkOptions {
  /** Of the listener, where it goes another way than the speaker. */
  readonly listenerUrl?: string;
  readonly connect?: ConnectOptions;
}

export class Talk implements AsyncDisposable {
  readonly ears: readonly TalkEar[] = [
    "a channel",
    "the same channel",
    "a pattern",
    "an iteration",
    "a sharded channel",
    "the same sharded channel",
  ].map((title) => ({ title, heard: [] }));
  readonly speaker: Broker;
  readonly listener: Broker;
  /** What the listener has reported. */
  readonly reports: unknown[];
  /** Messages of which the speaker knows that they were published. */
  readonly #published = new Set<number>();
  readonly #over = new AbortController();
  #next = 0;
  #talking: Promise<void> = Promise.resolve();

  private constructor(speaker: Broker, listener: Broker, reports: unknown[]) {
    this.speaker = speaker;
    this.listener = listener;
    this.reports = reports;
  }

  static async start(url: string, options: TalkOptions = {}): Promise<Talk> {
    const quiet = { logger: silentLogger, commandTimeoutMs: 2_000, ...options.connect };
    const reports: unknown[] = [];
    const speaker = await connect(url, { ...quiet, onError: () => undefined });
    const listener = await connect(options.listenerUrl ?? url, {
      ...quiet,
      onError: (error) => void reports.push(error),
    });
    const talk = new Talk(speaker, listener, reports);
    await talk.#listen();
    talk.#talking = talk.#talk();
    await talk.untilHeard();
    return talk;
  }

  /** Waits until every ear hears what is published from now on. */
  async untilHeard(deadlineMs: number = HEARING_MS): Promise<void> {
    const from = this.#next;
    await until(() => this.ears.every(({ heard }) => (heard.findLast(isNumber) ?? -1) >= from), {
      deadlineMs,
      what: "everything to be heard again",
    });
  }

  /** How many gaps each ear was told of. */
  gaps(): number[] {
    return this.ears.map(({ heard }) => heard.filter((each) => each === "gap").length);
  }

  /**
   * Stops talking and expects that each message came once at most, in order, and that nothing was missed without a gap.
   *
   * @param where the nodes of a Cluster pass messages on to each other, and may lose or overtake them on the way without a trace
   */
  async verify(where: "one server" | "Cluster" = "one server"): Promise<void> {
    this.#over.abort();
    await this.#talking;
    for (const { title, heard } of this.ears) {
      const once = new Set<number>();
      let last = -1;
      let isTold = true;
      for (const each of heard) {
        if (each === "gap") {
          isTold = true;
          continue;
        }
        // The nodes of a Cluster pass on what each of them was given: where the slot moves, the last from one node may come
        // behind the first from the next.
        const isTraceable = where === "one server" || title.includes("sharded");
        if (each === last || (each < last && isTraceable)) expect.fail(`${title} heard ${each} after ${last}`);
        if (once.has(each)) expect.fail(`${title} heard ${each} twice`);
        once.add(each);
        const missed = range(last + 1, each).filter((n) => this.#published.has(n));
        if (missed.length > 0 && !isTold && isTraceable)
          expect.fail(`${title} heard nothing of ${missed.join()}, nor of a gap`);
        last = Math.max(last, each);
        isTold = false;
      }
    }
    for (const report of this.reports) expect(report).toBeInstanceOf(SignalboxError);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#over.abort();
    await this.#talking;
    await Promise.all([this.speaker.close({ drainMs: 0 }), this.listener.close({ drainMs: 0 })]);
  }

  async #listen(): Promise<void> {
    const { pubsub } = this.listener;
    const [first, second, pattern, iteration, shard, secondShard] = this.ears.map(({ heard }) => heard);
    const into = (heard: TalkEar["heard"] = []) => ({
      options: { buffer: 10_000, onGap: () => void heard.push("gap") },
      handler: (data: unknown) => void heard.push(Number(data)),
    });
    for (const [name, heard] of [
      [TALK, first],
      [TALK, second],
      ["talk.*", pattern],
    ] as const) {
      const { options, handler } = into(heard);
      await pubsub.subscribe(name, options, handler);
    }
    for (const heard of [shard, secondShard]) {
      const { options, handler } = into(heard);
      await pubsub.subscribe(TALK, { ...options, sharded: true }, handler);
    }
    const stream = pubsub.listen(TALK, { buffer: 10_000 });
    await stream.ready();
    void (async () => {
      for await (const { data, gap } of stream) {
        if (gap !== undefined) iteration?.push("gap");
        iteration?.push(Number(data));
      }
    })().catch((error: unknown) => this.reports.push(error));
  }

  async #talk(): Promise<void> {
    const { pubsub } = this.speaker;
    const said: Promise<unknown>[] = [];
    while (!this.#over.signal.aborted) {
      const n = this.#next;
      this.#next += 1;
      const both = [pubsub.publish(TALK, n), pubsub.publish(TALK, n, { sharded: true })];
      said.push(
        Promise.all(both).then(
          () => this.#published.add(n),
          (error: unknown) => expect(error).toBeInstanceOf(SignalboxError),
        ),
      );
      await pause(EVERY_MS);
    }
    await Promise.all(said);
  }
}

function isNumber(each: number | "gap"): each is number {
  return each !== "gap";
}

function range(from: number, to: number): number[] {
  return Array.from({ length: Math.max(0, to - from) }, (_, index) => from + index);
}
