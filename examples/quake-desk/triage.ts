/** Triage: processes that compete for the alerts. One is killed on the way, and what it had in hand goes to the others. */

import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import { count } from "./progress.js";

/** What a consumer tells the desk. */
export type TriageNews =
  | { readonly taken: string }
  | { readonly left: string }
  | { readonly handled: string; readonly tookMs: number };

export interface Triage extends AsyncDisposable {
  /** What there is to say of it in the end. */
  readonly report: () => string;
}

const CONSUMERS = 3;
/** So many alerts the first one handles; with the next in its hands it is killed. */
const HANDLED_BEFORE_KILL = 5;
const STOP_MS = 5_000;

const program = fileURLToPath(new URL("triage-consumer.ts", import.meta.url));

interface Member {
  readonly process: ChildProcess;
  handled: number;
  /** Alerts in its hands. */
  readonly held: Set<string>;
}

/** Starts the processes. They end with this one, however it ends. @param onHandled hears how long an alert took (ms) */
export function startTriage(url: string, onHandled: (tookMs: number) => void): Triage {
  let lost = 0;

  const hear = (member: Member, isFirst: boolean, news: TriageNews): void => {
    if ("handled" in news) {
      member.handled += 1;
      onHandled(news.tookMs);
      return;
    }
    if ("left" in news) {
      member.held.delete(news.left);
      return;
    }
    member.held.add(news.taken);
    if (isFirst && lost === 0 && member.handled >= HANDLED_BEFORE_KILL && member.process.kill("SIGKILL")) {
      lost = member.held.size;
    }
  };
  const members = Array.from({ length: CONSUMERS }, (_, index): Member => {
    // With what this program runs on: tsx.
    const args = [...process.execArgv, program, url];
    const started: Member = {
      process: spawn(process.execPath, args, { stdio: ["ignore", "inherit", "inherit", "ipc"] }),
      handled: 0,
      held: new Set(),
    };
    started.process.on("message", (news) => hear(started, index === 0, news as TriageNews));
    return started;
  });

  return {
    report() {
      const handled = members.map((member) => count(member.handled)).join(", ");
      const killed =
        lost === 0
          ? "none was killed: there were too few alerts"
          : `the first was killed with ${count(lost)} in hand, and what it had went to the others`;
      return `Triage      ${count(CONSUMERS)} processes handled ${handled} alerts; ${killed}`;
    },
    async [Symbol.asyncDispose]() {
      await Promise.all(members.map((member) => stop(member.process)));
    },
  };
}

/** Lets it finish what it has in hand. */
async function stop(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const exited = once(child, "exit");
  if (child.connected) child.disconnect();
  const timer = setTimeout(() => child.kill("SIGKILL"), STOP_MS);
  await exited;
  clearTimeout(timer);
}
