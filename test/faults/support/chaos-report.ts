/** A chaos run as a page to read. */

import { explain, type Verdict } from "../history.js";
import type { ChaosReport } from "./chaos-run.js";
import type { Spread } from "./history-findings.js";

export function reportOf(report: ChaosReport): string {
  const { topology, seed, minutes, rate, queueRate, durability, failovers, unforeseen, verdict, history } = report;
  const { groups, recovery, redelivery, findings, seconds, maxRssBytes, operations } = verdict;
  const lines = [
    `chaos on ${topology} at ${durability}: seed ${seed}, ${minutes} minutes of faults, ${Math.round(seconds)} s in all`,
    "",
    `events       ${publishes(verdict.published, seconds)}`,
    ...Object.entries(groups).map(([name, { delivered, repeated, acked, dead, lost }]) => {
      const counts = `${figure(delivered)} delivered, ${figure(repeated)} again, ${figure(acked)} acknowledged, ${figure(dead)} dead letters`;
      return `group ${name.padEnd(6)} ${counts}, ${figure(lost)} lost`;
    }),
    ...queueLines(verdict),
    `faults       ${recovery.faults}, of which ${failovers} failovers; ${unforeseen} failovers that nobody asked for`,
    ...Object.entries(recovery.byKind).map(([kind, count]) => `             ${String(count).padStart(4)} ${kind}`),
    `recovery     ${spread(recovery.recovery)}, from the first accepted write until every process works`,
    `kill → write ${spread(recovery.killToWrite)}, until a primary accepts a write again`,
    `redelivery   ${spread(redelivery)}, from a consumer's death until what it held came again`,
    `standstills  ${verdict.standstills} that nobody had caused`,
    `memory       ${Math.round(maxRssBytes / 1_048_576)} MiB at most in one process`,
    `history      ${figure(operations)} operations`,
    "",
    explain(verdict),
  ];
  if (findings.length > 0) {
    const which = `--topology ${topology} --rate ${rate} --queue-rate ${queueRate}`;
    const again = `npm run chaos -- --minutes ${minutes} --seed ${seed} ${which}`;
    lines.push("", `FAILED with seed ${seed}: ${again}`, `the history is in ${history}`);
  }
  return lines.join("\n");
}

function publishes({ ok, fail, unknown }: Verdict["published"], seconds: number): string {
  return `${figure(ok)} acknowledged (${figure(Math.round(ok / seconds))}/s), ${figure(fail)} refused, ${figure(unknown)} unknown`;
}

function queueLines({ queue, seconds }: Verdict): string[] {
  if (queue === undefined) return [];
  const recipients = Object.entries(queue.recipients).map(([name, counts]) => {
    const { delivered, repeated, acked, dead, expired, lost, compared } = counts;
    const handled = `${figure(delivered)} delivered, ${figure(repeated)} again, ${figure(acked)} acknowledged`;
    const rest = `${figure(dead)} dead letters, ${figure(expired)} expired, ${figure(lost)} lost; ${figure(compared)} waited`;
    return `${name === "" ? "whoever" : `for ${name}`}      ${handled}, ${rest}`;
  });
  return [`queue        ${publishes(queue.published, seconds)}`, ...recipients];
}

function figure(value: number): string {
  return value.toLocaleString("en-US");
}

function spread({ count, p50, p99, max }: Spread): string {
  return count === 0 ? "none" : `p50 ${p50} ms, p99 ${p99} ms, max ${max} ms (${count})`;
}
