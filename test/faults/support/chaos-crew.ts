/** The processes of a chaos run: publishers and consumers, killed and replaced, frozen and let go. */

import { join } from "node:path";
import { type Child, runChild } from "../../support/children.js";
import { until } from "../../support/wait.js";
import type { ConsumerConfig, PublisherConfig } from "./chaos-load.js";
import { type HistoryLog, now } from "./history-log.js";
import type { Tail } from "./history-tail.js";

export interface Member {
  readonly kind: "publisher" | "consumer";
  readonly number: number;
  /** Its history's name. */
  readonly source: string;
  /** What it is started with, but for its number and file. */
  readonly role: Role;
  readonly child: Child;
}

export type Role =
  | { readonly kind: "publisher"; readonly config: Omit<PublisherConfig, "number" | "file"> }
  | { readonly kind: "consumer"; readonly config: Omit<ConsumerConfig, "number" | "file"> };

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
    const source = `${role.kind}-${number}`;
    const config = { ...role.config, number, file: join(this.#dir, `${source}.ndjson`) };
    const child = runChild(SCRIPTS[role.kind], { args: [JSON.stringify(config)] });
    const member: Member = { kind: role.kind, number, source, role, child };
    this.#members.add(member);
    void child.exited.then((exit) => {
      this.#members.delete(member);
      if (this.#leaving.has(member)) return;
      const what = `exit ${exit.code ?? exit.signal}: ${child.output().slice(-2_000)}`;
      this.#director.write({ op: "ended", t: now(), process: source, what });
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
  /** Each of them, or any. */
  readonly who: "all" | "some";
  /** As in the history. */
  readonly since: number;
  readonly deadlineMs: number;
}

/**
 * Waits until these processes have shown that they work: a publish that was acknowledged, decisions that the store has
 * taken. Where one is enough it may also find that nothing was left to do.
 */
export async function awaitWork(tail: Tail, expected: Expected): Promise<"worked" | "idle" | "stuck"> {
  const { members, who, since, deadlineMs } = expected;
  const hasWorked = ({ kind, source }: Member): boolean => {
    const { lastOkAt, lastSettledAt } = tail.of(source);
    return (kind === "publisher" ? lastOkAt : lastSettledAt) > since;
  };
  const look = (): "worked" | "idle" | undefined => {
    tail.poll();
    if (who === "all" ? members.every(hasWorked) : members.some(hasWorked)) return "worked";
    return who === "some" && tail.backlog === 0 ? "idle" : undefined;
  };
  return await until(look, { deadlineMs, everyMs: 10 }).catch(() => "stuck" as const);
}
