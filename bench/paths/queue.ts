/**
 * The path `queue`: ten levels of priority, on every backend, beside the batch scripts and BullMQ with priority; then what
 * else costs, and whether a message costs the same whatever waits and however many it is for.
 */

import { openIndexedQueue, openPlainQueue, openQueue, openTimedQueue } from "../contenders/channels.js";
import { drainingBefore, publishingBehind, publishingFor } from "../contenders/growth.js";
import { draining, latency, living, publishing } from "../contenders/signalbox.js";
import { memoryQueueDrain, memoryQueuePublish } from "../floors/memory.js";
import { redisEventsPublish } from "../floors/redis-events.js";
import { redisQueueDrain, redisQueueLatency, redisQueuePublish } from "../floors/redis-queue.js";
import { sqliteQueueDrain, sqliteQueuePublish } from "../floors/sqlite.js";
import { BACKENDS } from "../options.js";
import { bullmqAdd, bullmqAddBulk, bullmqDrain, bullmqLatency } from "../peers/bullmq.js";
import type { Figure, RatioSpec } from "../report.js";
import { type BenchmarkPath, COMMON_RATIOS, LATENCY_RATE, LATENCY_ROUND_S, redisRatios } from "./path.js";

/** Without priorities, with a time to live, with an index and kept records. */
const VARIANTS = [openPlainQueue, openTimedQueue, openIndexedQueue] as const;
/** Messages of a round where growth is measured. */
const GROWTH_COUNT = 20_000;
const WAITING = { quick: [1_000, 100_000], full: [1_000, 100_000, 1_000_000] } as const;
const RECIPIENTS = { quick: [1, 50, 1_000], full: [1, 50, 1_000, 10_000] } as const;

export function queuePath(length: "quick" | "full"): BenchmarkPath {
  return {
    name: "queue",
    measures: [
      {
        name: "publish",
        share: 0.2,
        contenders: [
          ...BACKENDS.map((backend) => publishing(openQueue, backend)),
          ...VARIANTS.map((open) => publishing(open, "redis")),
          memoryQueuePublish,
          sqliteQueuePublish,
          redisQueuePublish,
          bullmqAdd("priority"),
          bullmqAddBulk("priority"),
        ],
      },
      {
        name: "endToEnd",
        share: 0.3,
        contenders: [
          ...BACKENDS.map((backend) => draining(openQueue, backend)),
          ...VARIANTS.map((open) => draining(open, "redis")),
          memoryQueueDrain,
          sqliteQueueDrain,
          redisQueueDrain,
          bullmqDrain("priority"),
        ],
      },
      { name: "live", share: 0.08, contenders: BACKENDS.map((backend) => living(openQueue, backend)) },
      {
        name: "latency",
        share: 0.14,
        count: LATENCY_RATE * LATENCY_ROUND_S[length],
        contenders: [
          ...BACKENDS.map((backend) => latency(openQueue, backend, LATENCY_RATE)),
          redisQueueLatency(LATENCY_RATE),
          bullmqLatency("priority", LATENCY_RATE),
        ],
      },
      {
        name: "publish with",
        share: 0.1,
        count: GROWTH_COUNT,
        contenders: [...WAITING[length].map(publishingBehind), ...RECIPIENTS[length].map(publishingFor)],
      },
      { name: "take with", share: 0.18, count: GROWTH_COUNT, contenders: WAITING[length].map(drainingBefore) },
    ],
    bytes: [
      { name: "signalbox redis", contender: publishing(openQueue, "redis") },
      ...VARIANTS.map((open) => ({ name: `signalbox redis ${open.variant}`, contender: publishing(open, "redis") })),
      // Asked against a bare XADD of the same data, as for events: what priority costs is part of the figure.
      { name: "floor redis", contender: redisEventsPublish },
      { name: "batch scripts", contender: redisQueuePublish },
      { name: "bullmq", contender: bullmqAddBulk("priority") },
    ],
    ratios: [
      ...redisRatios({ publishFloor: 0.6, publishPeer: 5, endToEndFloor: 0.6, endToEndPeer: 5, bytes: 2 }),
      ...COMMON_RATIOS,
      ...flatness(length),
    ],
  };
}

/** The dearest case over the cheapest: Redis' time, as it holds the data. */
function flatness(length: "quick" | "full"): readonly RatioSpec[] {
  const [fewest, most] = [WAITING[length][0], WAITING[length].at(-1) ?? 0];
  const [one, all] = [RECIPIENTS[length][1], RECIPIENTS[length].at(-1) ?? 0];
  const redisCpu = (row: string): Figure => ({ row, field: "redisCpuMicros" });
  const ratio = (name: string, measured: string, of: string, over: string): RatioSpec => ({
    name,
    of: redisCpu(`${measured} signalbox redis, ${of}`),
    over: redisCpu(`${measured} signalbox redis, ${over}`),
    atMost: 2,
  });
  return [
    ratio(`publish, ${most} waiting/${fewest}`, "publish with", `${most} waiting`, `${fewest} waiting`),
    ratio(`take, ${most} waiting/${fewest}`, "take with", `${most} waiting`, `${fewest} waiting`),
    ratio(`publish, ${all} recipients/${one}`, "publish with", `${all} recipients`, `${one} recipients`),
  ];
}
