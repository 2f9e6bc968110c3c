/** The path `queue`: ten levels of priority, on every backend, beside the batch scripts and BullMQ with priority. */

import { openQueue } from "../contenders/channels.js";
import { draining, latency, living, publishing } from "../contenders/signalbox.js";
import { memoryQueueDrain, memoryQueuePublish } from "../floors/memory.js";
import { redisEventsPublish } from "../floors/redis-events.js";
import { redisQueueDrain, redisQueueLatency, redisQueuePublish } from "../floors/redis-queue.js";
import { sqliteQueueDrain, sqliteQueuePublish } from "../floors/sqlite.js";
import { BACKENDS } from "../options.js";
import { bullmqAdd, bullmqAddBulk, bullmqDrain, bullmqLatency } from "../peers/bullmq.js";
import { type BenchmarkPath, COMMON_RATIOS, LATENCY_RATE, LATENCY_ROUND_S, redisRatios } from "./path.js";

export function queuePath(length: "quick" | "full"): BenchmarkPath {
  return {
    name: "queue",
    measures: [
      {
        name: "publish",
        share: 0.27,
        contenders: [
          ...BACKENDS.map((backend) => publishing(openQueue, backend)),
          memoryQueuePublish,
          sqliteQueuePublish,
          redisQueuePublish,
          bullmqAdd("priority"),
          bullmqAddBulk("priority"),
        ],
      },
      {
        name: "endToEnd",
        share: 0.4,
        contenders: [
          ...BACKENDS.map((backend) => draining(openQueue, backend)),
          memoryQueueDrain,
          sqliteQueueDrain,
          redisQueueDrain,
          bullmqDrain("priority"),
        ],
      },
      { name: "live", share: 0.12, contenders: BACKENDS.map((backend) => living(openQueue, backend)) },
      {
        name: "latency",
        share: 0.21,
        count: LATENCY_RATE * LATENCY_ROUND_S[length],
        contenders: [
          ...BACKENDS.map((backend) => latency(openQueue, backend, LATENCY_RATE)),
          redisQueueLatency(LATENCY_RATE),
          bullmqLatency("priority", LATENCY_RATE),
        ],
      },
    ],
    bytes: [
      { name: "signalbox redis", contender: publishing(openQueue, "redis") },
      // Asked against a bare XADD of the same data, as for events: what priority costs is part of the figure.
      { name: "floor redis", contender: redisEventsPublish },
      { name: "batch scripts", contender: redisQueuePublish },
      { name: "bullmq", contender: bullmqAddBulk("priority") },
    ],
    ratios: [
      ...redisRatios({ publishFloor: 0.6, publishPeer: 5, endToEndFloor: 0.6, endToEndPeer: 5, bytes: 2 }),
      ...COMMON_RATIOS,
    ],
  };
}
