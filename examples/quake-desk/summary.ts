/** The desk's final report, made of the ledger and the dead letters. */

import { STRONG, type Timings } from "./desk.js";
import type { Quake, QuakeBroker } from "./contract.js";
import type { Entry, Ledger } from "./ledger.js";
import type { Played } from "./play.js";
import { regionOf } from "./live.js";
import { count } from "./progress.js";

const REGIONS_SHOWN = 8;
const STRONGEST_SHOWN = 5;
const BAR_CHARS = 30;

export interface Run {
  /** Quakes in the store, from this run and those before. */
  readonly published: number;
  readonly played: Played;
  /** Until everything was handled. */
  readonly totalMs: number;
  readonly timings: Timings;
}

export async function summarise(broker: QuakeBroker, ledger: Ledger, run: Run): Promise<string> {
  const quakes = ledger.entries("counted").map(({ quake }) => quake);
  const lines = [
    `Published   ${count(run.published)} quakes${span(quakes)}`,
    `Counted     ${count(quakes.length)} quakes`,
    "",
    "By magnitude",
    ...bars(
      tally(
        quakes.toSorted((a, b) => a.magnitude - b.magnitude),
        magnitudeClass,
      ),
    ),
    "",
    "By region",
    ...bars(topOf(tally(quakes, regionOf).toSorted(([, a], [, b]) => b - a))),
    "",
    "Strongest",
    ...quakes
      .toSorted((a, b) => b.magnitude - a.magnitude || a.time - b.time)
      .slice(0, STRONGEST_SHOWN)
      .map((quake) => `  ${describe(quake)}  ${isoMinute(quake.time)}`),
    "",
    ...(await alertLines(broker, ledger.entries("alerted"))),
    "",
    ...rateLines(run),
  ];
  return lines.join("\n");
}

async function alertLines(broker: QuakeBroker, handled: readonly Entry[]): Promise<string[]> {
  // By quake: an alert that a kill doubled may be parked twice, or be parked and then handled.
  const parked = new Map<string, string>();
  for await (const { message, attempts, reason } of broker.queue("alerts").deadLetters()) {
    const quake = message?.data;
    if (quake === undefined || handled.some((entry) => entry.quake.id === quake.id)) continue;
    parked.set(quake.id, `  ${describe(quake)}  ${reason.kind} after ${attempts}: ${reason.message}`);
  }
  const retried = handled.filter(({ attempts }) => attempts > 1).length;
  return [
    `Alerts      ${count(handled.length)} handled, ${count(retried)} of them retried; magnitude ${STRONG} and up`,
    `Dead        ${count(parked.size)} dead letters${parked.size > 0 ? ":" : ""}`,
    ...parked.values(),
  ];
}

function rateLines({ played, totalMs, timings }: Run): string[] {
  if (played.published === 0) return ["This run    had nothing left to publish"];
  const rate = count(Math.round(played.published / (played.ms / 1_000)));
  const latency = (list: readonly number[]): string =>
    `median ${quantile(list, 0.5)} ms, 99 % within ${quantile(list, 0.99)} ms`;
  return [
    `This run    ${count(played.published)} quakes in ${seconds(played.ms)} (${rate} a second), all handled after ${seconds(totalMs)}`,
    ...(timings.counted.length > 0 ? [`            published to counted: ${latency(timings.counted)}`] : []),
    ...(timings.alerted.length > 0 ? [`            alert to handled: ${latency(timings.alerted)}`] : []),
  ];
}

function magnitudeClass({ magnitude }: Quake): string {
  const whole = Math.floor(magnitude);
  return whole < 1 ? "below 1" : `${whole} to ${whole + 1}`;
}

/** Groups in the order in which they first appear. */
export function tally(quakes: readonly Quake[], groupOf: (quake: Quake) => string): [string, number][] {
  const counts = new Map<string, number>();
  for (const quake of quakes) counts.set(groupOf(quake), (counts.get(groupOf(quake)) ?? 0) + 1);
  return [...counts];
}

export function topOf(counts: readonly [string, number][]): [string, number][] {
  const rest = counts.slice(REGIONS_SHOWN);
  const others = rest.reduce((sum, [, number]) => sum + number, 0);
  return [
    ...counts.slice(0, REGIONS_SHOWN),
    ...(rest.length > 0 ? [[`${rest.length} others`, others] as [string, number]] : []),
  ];
}

function bars(counts: readonly [string, number][]): string[] {
  const most = Math.max(1, ...counts.map(([, number]) => number));
  return counts.map(([name, number]) =>
    `  ${name.padEnd(20)} ${count(number).padStart(6)} ${"█".repeat(Math.ceil((number / most) * BAR_CHARS))}`.trimEnd(),
  );
}

export function describe({ magnitude, place }: Quake): string {
  return `M ${magnitude.toFixed(1)}  ${place}`;
}

/** In UTC. */
export function dayOf({ time }: Quake): string {
  return isoMinute(time).slice(0, 10);
}

function span(quakes: readonly Quake[]): string {
  const times = quakes.map(({ time }) => time).toSorted((a, b) => a - b);
  const [first, last] = [times[0], times.at(-1)];
  return first === undefined || last === undefined ? "" : `, ${isoMinute(first)} to ${isoMinute(last)} UTC`;
}

const isoMinute = (time: number): string => new Date(time).toISOString().slice(0, 16).replace("T", " ");
const seconds = (ms: number): string => (ms < 1_000 ? `${Math.round(ms)} ms` : `${(ms / 1_000).toFixed(1)} s`);

function quantile(list: readonly number[], share: number): number {
  return list.toSorted((a, b) => a - b)[Math.min(list.length - 1, Math.floor(list.length * share))] ?? 0;
}
