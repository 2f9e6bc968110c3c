/** The path `pubsub`: from one broker to another, on every backend, beside the bare client. */

import { load, lone, pubsubLatency } from "../contenders/pubsub.js";
import { redisPubSubLatency, redisPubSubLoad, redisPubSubLone } from "../floors/redis-pubsub.js";
import { BACKENDS } from "../options.js";
import { cpu, rate } from "../report.js";
import { type BenchmarkPath, LATENCY_RATE, LATENCY_ROUND_S } from "./path.js";

export function pubsubPath(length: "quick" | "full"): BenchmarkPath {
  return {
    name: "pubsub",
    measures: [
      { name: "lone", share: 0.35, contenders: [...BACKENDS.map(lone), redisPubSubLone] },
      {
        name: "load",
        share: 0.4,
        contenders: [...BACKENDS.map((backend) => load(backend)), load("redis", "in one"), redisPubSubLoad],
      },
      {
        name: "latency",
        share: 0.25,
        count: LATENCY_RATE * LATENCY_ROUND_S[length],
        contenders: [
          ...BACKENDS.map((backend) => pubsubLatency(backend, LATENCY_RATE)),
          redisPubSubLatency(LATENCY_RATE),
        ],
      },
    ],
    bytes: [],
    ratios: [
      { name: "lone/floor", of: rate("lone signalbox redis"), over: rate("lone floor redis"), atLeast: 0.7 },
      { name: "load/floor", of: rate("load signalbox redis"), over: rate("load floor redis"), atLeast: 1.2 },
      // Steadier than the rates, on a machine that others use.
      { name: "lone cpu/floor", of: cpu("lone signalbox redis"), over: cpu("lone floor redis") },
      { name: "load cpu/floor", of: cpu("load signalbox redis"), over: cpu("load floor redis") },
      {
        name: "latency p50/floor",
        of: { row: "latency signalbox redis", field: "p50Ms" },
        over: { row: "latency floor redis", field: "p50Ms" },
      },
      {
        name: "latency p99/floor",
        of: { row: "latency signalbox redis", field: "p99Ms" },
        over: { row: "latency floor redis", field: "p99Ms" },
      },
    ],
  };
}
