/** A chaos run as a page to read. */

import { explain } from "../history.js";
import type { ChaosReport } from "./chaos-run.js";
import type { Spread } from "./history-findings.js";

export function reportOf(report: ChaosReport): string {
  const { topology, seed, minutes, rate, durability, failovers, unforeseen, verdict, history } = report;
  const { published, groups, recovery, redelivery, findings, seconds, maxRssBytes, operations } = verdict;
  const perSecond = Math.round(published.ok / seconds);
  const lines = [
    `chaos on ${topology} at ${durability}: seed ${seed}, ${minutes} minutes of faults, ${Math.round(seconds)} s in all`,
    "",
    `published    ${figure(published.ok)} acknowledged (${figure(perSecond)}/s), ${figure(published.fail)} refused, ${figure(published.unknown)} unknown`,
    ...Object.entries(groups).map(([name, { delivered, repeated, acked, dead, lost }]) => {
      const counts = `${figure(delivered)} delivered, ${figure(repeated)} again, ${figure(acked)} acknowledged, ${figure(dead)} dead letters`;
      return `group ${name.padEnd(6)} ${counts}, ${figure(lost)} lost`;
    }),
    `faults       ${recovery.faults}, of which ${failovers} failovers; ${unforeseen} failovers that nobody asked for`,
    ...Object.entries(recovery.byKind).map(([kind, count]) => `             ${String(count).padStart(4)} ${kind}`),
    `recovery     ${spread(recovery.recovery)}, from the first accepted write until every process works`,
    `kill → write ${spread(recovery.killToWrite)}, until a primary accepts a write again`,
    `redelivery   ${spread(redelivery)}, from a consumer's death until what it held came again`,
    `memory       ${Math.round(maxRssBytes / 1_048_576)} MiB at most in one process`,
    `history      ${figure(operations)} operations`,
    "",
    explain(verdict),
  ];
  if (findings.length > 0) {
    const again = `npm run chaos -- --minutes ${minutes} --seed ${seed} --topology ${topology} --rate ${rate}`;
    lines.push("", `FAILED with seed ${seed}: ${again}`, `the history is in ${history}`);
  }
  return lines.join("\n");
}

function figure(value: number): string {
  return value.toLocaleString("en-US");
}

function spread({ count, p50, p99, max }: Spread): string {
  return count === 0 ? "none" : `p50 ${p50} ms, p99 ${p99} ms, max ${max} ms (${count})`;
}
