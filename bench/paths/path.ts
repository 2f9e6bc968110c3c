/** What a path of the benchmarks consists of. */

import type { Contender, Measure } from "../harness.js";
import type { PathName } from "../options.js";
import { cpu, rate, type RatioSpec } from "../report.js";

export interface BenchmarkPath {
  readonly name: PathName;
  readonly measures: readonly (Measure & {
    /** Of the path's time. */
    readonly share: number;
  })[];
  /** Publishers whose messages' memory in Redis is compared. */
  readonly bytes: readonly { readonly name: string; readonly contender: Contender }[];
  readonly ratios: readonly RatioSpec[];
}

/** Messages a second, where latency is measured. */
export const LATENCY_RATE = 1_000;
/** How long a round of it takes. */
export const LATENCY_ROUND_S = { quick: 0.8, full: 3 };

/** What performance.md asks of either path on SQLite, in memory and of latency. */
export const COMMON_RATIOS: readonly RatioSpec[] = [
  { name: "sqlite/floor", of: rate("publish signalbox sqlite"), over: rate("publish floor sqlite"), atLeast: 0.5 },
  { name: "sqlite endToEnd/floor", of: rate("endToEnd signalbox sqlite"), over: rate("endToEnd floor sqlite") },
  // Live counts publishing, handling and acknowledging; a drained backlog counts the last two.
  { name: "memory/target", of: rate("live signalbox memory"), over: 300_000, atLeast: 1 },
  { name: "memory endToEnd/floor", of: rate("endToEnd signalbox memory"), over: rate("endToEnd floor memory") },
  {
    name: "latency p50/floor",
    of: { row: "latency signalbox redis", field: "p50Ms" },
    over: { row: "latency floor redis", field: "p50Ms" },
    atMost: 1.5,
  },
  {
    name: "latency p99/floor",
    of: { row: "latency signalbox redis", field: "p99Ms" },
    over: { row: "latency floor redis", field: "p99Ms" },
    atMost: 2,
  },
];

/** Signalbox on Redis against the floor and the peer. */
export function redisRatios(asked: {
  readonly publishFloor: number;
  readonly publishPeer: number;
  readonly endToEndFloor: number;
  readonly endToEndPeer: number;
  readonly bytes: number;
}): readonly RatioSpec[] {
  const publish = rate("publish signalbox redis");
  const endToEnd = rate("endToEnd signalbox redis");
  return [
    { name: "publish/floor", of: publish, over: rate("publish floor redis"), atLeast: asked.publishFloor },
    { name: "publish/bullmq", of: publish, over: rate("publish bullmq"), atLeast: asked.publishPeer },
    { name: "endToEnd/floor", of: endToEnd, over: rate("endToEnd floor redis"), atLeast: asked.endToEndFloor },
    {
      name: "endToEnd/bullmq",
      of: endToEnd,
      over: rate("endToEnd bullmq"),
      atLeast: asked.endToEndPeer,
      unlessBeyond: rate("endToEnd floor redis"),
    },
    { name: "publish/bullmq bulk", of: publish, over: rate("publish bullmq bulk") },
    // Steadier than the rates, on a machine that others use.
    { name: "publish cpu/floor", of: cpu("publish signalbox redis"), over: cpu("publish floor redis") },
    { name: "endToEnd cpu/floor", of: cpu("endToEnd signalbox redis"), over: cpu("endToEnd floor redis") },
    {
      name: "bytes/floor",
      of: { row: "signalbox redis", field: "bytes" },
      over: { row: "floor redis", field: "bytes" },
      atMost: asked.bytes,
    },
    {
      name: "bullmq bytes/floor",
      of: { row: "bullmq", field: "bytes" },
      over: { row: "floor redis", field: "bytes" },
    },
  ];
}
