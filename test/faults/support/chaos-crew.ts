/** The processes of a chaos run: publishers and consumers, killed and replaced, frozen and let go. */

import { join } from "node:path";
import { type Child, runChild } from "../../support/children.js";
import { until } from "../../support/wait.js";
import type { ConsumerConfig, PublisherConfig } from "./chaos-load.js";
import { type HistoryLog, now, type Side } from "./history-log.js";
import { pulseFile, queueSource } from "./history-read.js";
import type { Tail } from "./history-tail.js";

export interface Member {
  readonly kind: "publisher" | "consumer";
  readonly number: number;
  /** The names of its histories. */
  readonly sources: Readonly<Partial<Record<Side, string>>>;
  /** What it is started with, but for its number and files. */
  readonly role: Role;
  readonly child: Child;
}

export type Role = { readonly sides: readonly Side[] } & (
  | { readonly kind: "publisher"; readonly config: Omit<PublisherConfig, "number" | "files" | "pulse"> }
  | { readonly kind: "consumer"; readonly config: Omit<ConsumerConfig, "number" | "files" | "pulse"> }
);

const SCRIPTS = {
  publisher: new URL("chaos-publisher.ts", import.meta.url),
  consumer: new URL("chaos-consumer.ts", import.meta.url),
};
const READY_MS = 30_000;
/** A publisher may try for 15 s, and a broker drains. */
const FINISH_MS = 45_000;

export class Crew {
  readonly #dir: string;
  readonly #director: HistoryLog;
  readonly #members = new Set<Member>();
  readonly #counts = { publisher: 0, consumer: 0 };
  /** Those whose end is expected. */
  readonly #leaving = new Set<Member>();

  /** @param dir where the histories go @param director where deaths are noted */
  constructor(dir: string, director: HistoryLog) {
    this.#dir = dir;
    this.#director = director;
  }

  members(kind: "publisher" | "consumer"): Member[] {
    return [...this.#members].filter((member) => member.kind === kind);
  }

  /** Starts a process in that role; resolves when it works. */
  async start(role: Role): Promise<Member> {
    const number = (this.#counts[role.kind] += 1);
    const name = `${role.kind}-${number}`;
    const names: Readonly<Record<Side, string>> = { events: name, queue: queueSource(name) };
    const sources = Object.fromEntries(role.sides.map((side) => [side, names[side]]));
    const files = Object.fromEntries(role.sides.map((side) => [side, join(this.#dir, `${names[side]}.ndjson`)]));
    const pulse = join(this.#dir, pulseFile(name));
    const child = runChild(SCRIPTS[role.kind], { args: [JSON.stringify({ ...role.config, number, files, pulse })] });
    const member: Member = { kind: role.kind, number, sources, role, child };
    this.#members.add(member);
    void child.exited.then((exit) => {
      this.#members.delete(member);
      if (this.#leaving.has(member)) return;
      const what = `exit ${exit.code ?? exit.signal}: ${child.output().slice(-2_000)}`;
      this.#director.write({ op: "ended", t: now(), process: name, what });
    });
    await child.next((message) => "ready" in message, READY_MS);
    return member;
  }

  /** Kills it without a warning. Its history is complete when this resolves. */
  async kill(member: Member): Promise<void> {
    this.#leaving.add(member);
    member.child.kill("SIGKILL");
    await member.child.exited;
    this.#members.delete(member);
    this.#director.write({ op: "died", t: now(), process: member.kind, number: member.number });
    this.#director.flush();
  }

  /** Lets all of a kind finish what they are about and end. */
  async finish(kind: "publisher" | "consumer"): Promise<void> {
    await Promise.all(
      this.members(kind).map(async (member) => {
        this.#leaving.add(member);
        member.child.send({ finish: 1 });
        await member.child.next((message) => "finished" in message, FINISH_MS);
        await member.child.exited;
      }),
    );
  }

  order(kind: "publisher" | "consumer", message: Readonly<Record<string, number>>): void {
    for (const { child } of this.members(kind)) child.send(message);
  }

  /** Ends whatever still runs. */
  async stop(): Promise<void> {
    await Promise.all(
      [...this.#members].map(async (member) => {
        this.#leaving.add(member);
        member.child.kill("SIGKILL");
        await member.child.exited;
      }),
    );
  }
}

export interface Expected {
  readonly members: readonly Member[];
  /** Each of them, on each of its sides; or on each side any. */
  readonly who: "all" | "some";
  /** As in the history. */
  readonly since: number;
  readonly deadlineMs: number;
  /** Whether a side has nothing left to do. */
  readonly isIdle: (side: Side) => boolean | Promise<boolean>;
}

export interface Observed {
  /** Sides that had something to do. */
  readonly work: readonly Side[];
  readonly isStuck: boolean;
}

/**
 * Waits until these processes have shown that they work: a publish that was acknowledged, decisions that the store has
 * taken. Where one is enough it may also find that nothing was left to do.
 */
export async function awaitWork(tail: Tail, sides: readonly Side[], expected: Expected): Promise<Observed> {
  const { members, who, since, deadlineMs, isIdle } = expected;
  const hasWorked =
    (side: Side) =>
    (member: Member): boolean => {
      const source = member.sources[side];
      if (source === undefined) return true;
      const { lastOkAt, lastSettledAt } = tail.of(source);
      return (member.kind === "publisher" ? lastOkAt : lastSettledAt) > since;
    };
  const idle = new Set<Side>();
  const isOver = async (side: Side): Promise<boolean> => {
    if (idle.has(side)) return true;
    if (who === "all") return members.every(hasWorked(side));
    if (members.some(hasWorked(side))) return true;
    if (await isIdle(side)) idle.add(side);
    return idle.has(side);
  };
  const look = async (): Promise<boolean> => {
    tail.poll();
    return (await Promise.all(sides.map(isOver))).every((over) => over);
  };
  const isStuck = await until(look, { deadlineMs, everyMs: 10 }).then(
    () => false,
    () => true,
  );
  return { work: sides.filter((side) => !idle.has(side)), isStuck };
}
