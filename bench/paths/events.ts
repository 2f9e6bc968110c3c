/** The path `events`: a stream with one group, on every backend, beside the bare client and BullMQ. */

import { openEvents, openIdentifiedEvents, openKeyedEvents } from "../contenders/channels.js";
import { draining, latency, living, publishing } from "../contenders/signalbox.js";
import { memoryEventsDrain, memoryEventsPublish } from "../floors/memory.js";
import { redisEventsDrain, redisEventsLatency, redisEventsPublish } from "../floors/redis-events.js";
import { sqliteEventsDrain, sqliteEventsPublish } from "../floors/sqlite.js";
import { bullmqAdd, bullmqAddBulk, bullmqDrain, bullmqLatency } from "../peers/bullmq.js";
import { BACKENDS } from "../options.js";
import { rate } from "../report.js";
import { type BenchmarkPath, COMMON_RATIOS, LATENCY_RATE, LATENCY_ROUND_S, redisRatios } from "./path.js";

export function eventsPath(length: "quick" | "full"): BenchmarkPath {
  return {
    name: "events",
    measures: [
      {
        name: "publish",
        share: 0.27,
        contenders: [
          ...BACKENDS.map((backend) => publishing(openEvents, backend)),
          publishing(openKeyedEvents, "redis"),
          publishing(openIdentifiedEvents, "redis"),
          memoryEventsPublish,
          sqliteEventsPublish,
          redisEventsPublish,
          bullmqAdd("plain"),
          bullmqAddBulk("plain"),
        ],
      },
      {
        name: "endToEnd",
        share: 0.4,
        contenders: [
          ...BACKENDS.map((backend) => draining(openEvents, backend)),
          ...BACKENDS.map((backend) => draining(openKeyedEvents, backend)),
          memoryEventsDrain,
          sqliteEventsDrain,
          redisEventsDrain,
          bullmqDrain("plain"),
        ],
      },
      { name: "live", share: 0.12, contenders: BACKENDS.map((backend) => living(openEvents, backend)) },
      {
        name: "latency",
        share: 0.21,
        count: LATENCY_RATE * LATENCY_ROUND_S[length],
        contenders: [
          ...BACKENDS.map((backend) => latency(openEvents, backend, LATENCY_RATE)),
          redisEventsLatency(LATENCY_RATE),
          bullmqLatency("plain", LATENCY_RATE),
        ],
      },
    ],
    bytes: [
      { name: "signalbox redis", contender: publishing(openEvents, "redis") },
      { name: "floor redis", contender: redisEventsPublish },
      { name: "bullmq", contender: bullmqAddBulk("plain") },
    ],
    ratios: [
      ...redisRatios({ publishFloor: 0.7, publishPeer: 6, endToEndFloor: 0.6, endToEndPeer: 8, bytes: 1.5 }),
      ...COMMON_RATIOS,
      {
        name: "publish with ids/without",
        of: rate("publish signalbox redis with ids"),
        over: rate("publish signalbox redis"),
      },
      {
        name: "endToEnd keyed/unordered",
        of: rate("endToEnd signalbox redis keyed"),
        over: rate("endToEnd signalbox redis"),
      },
      { name: "sqlite/target", of: rate("live signalbox sqlite"), over: 20_000, atLeast: 1 },
    ],
  };
}
