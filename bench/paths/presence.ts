/** The path `presence`: entering, leaving and watching, large lists, and what a lease costs that keeps many alive. */

import { entering, leaving, listing, renewing, watched } from "../contenders/presence.js";
import { redisPresenceEnter, redisPresenceLeave } from "../floors/redis-presence.js";
import { BACKENDS } from "../options.js";
import { cpu, rate } from "../report.js";
import type { BenchmarkPath } from "./path.js";

const FEW = 1_000;
const MANY = { quick: 10_000, full: 100_000 };
const RENEWALS = { quick: 1_000, full: 5_000 };

export function presencePath(length: "quick" | "full"): BenchmarkPath {
  const many = MANY[length];
  const renewalOf = (members: number): string => `renew signalbox redis of ${members.toLocaleString("en")}`;
  return {
    name: "presence",
    measures: [
      { name: "enter", share: 0.25, contenders: [...BACKENDS.map(entering), redisPresenceEnter] },
      { name: "leave", share: 0.25, contenders: [...BACKENDS.map(leaving), redisPresenceLeave] },
      { name: "watched", share: 0.2, contenders: BACKENDS.map(watched) },
      { name: "list", share: 0.15, count: many, contenders: BACKENDS.map(listing) },
      {
        name: "renew",
        share: 0.15,
        count: RENEWALS[length],
        contenders: [FEW, many].map((members) => renewing("redis", members)),
      },
    ],
    bytes: [
      { name: "signalbox redis", contender: entering("redis") },
      { name: "floor redis", contender: redisPresenceEnter },
    ],
    ratios: [
      { name: "enter/floor", of: rate("enter signalbox redis"), over: rate("enter floor redis") },
      { name: "leave/floor", of: rate("leave signalbox redis"), over: rate("leave floor redis") },
      { name: "enter cpu/floor", of: cpu("enter signalbox redis"), over: cpu("enter floor redis") },
      { name: "leave cpu/floor", of: cpu("leave signalbox redis"), over: cpu("leave floor redis") },
      // Heartbeats are for processes, not for members.
      {
        name: "renew many/few",
        of: { row: renewalOf(many), field: "redisCpuMicros" },
        over: { row: renewalOf(FEW), field: "redisCpuMicros" },
        atMost: 1.5,
      },
      {
        name: "bytes/floor",
        of: { row: "signalbox redis", field: "bytes" },
        over: { row: "floor redis", field: "bytes" },
      },
    ],
  };
}
