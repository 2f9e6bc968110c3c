/** The floor in memory: bare arrays and microtasks, with JSON both ways because a message must not share its objects. */

import type { Contender } from "../harness.js";
import {
  assertEqual,
  CONCURRENT_HANDLERS,
  CONCURRENT_PUBLISHES,
  LEVELS,
  payloadOf,
  type Payload,
  priorityOf,
  priorityOrder,
  pump,
  streamOrder,
  Tally,
} from "../workload.js";

const COMMON = { name: "floor memory", backend: "memory", role: "floor", warmUp: 50_000 } as const;
const IS = "arrays and microtasks, JSON both ways";

/** @param levels 1 for a stream */
function createLevels(levels: number): string[][] {
  return Array.from({ length: levels }, () => []);
}

function publishTo(levels: readonly string[][], n: number): Promise<void> {
  levels[levels.length === 1 ? 0 : priorityOf(n)]?.push(JSON.stringify(payloadOf(n)));
  return Promise.resolve();
}

function publishing(levelCount: number): Contender {
  return {
    ...COMMON,
    is: IS,
    async prepare(_, count) {
      const levels = createLevels(levelCount);
      return {
        run: () => pump(count, CONCURRENT_PUBLISHES, (n) => publishTo(levels, n)),
        verify: async () => assertEqual("messages stored", levels.flat().length, count),
        close: async () => undefined,
      };
    },
  };
}

function draining(levelCount: number): Contender {
  return {
    ...COMMON,
    is: IS,
    async prepare(_, count) {
      const levels = createLevels(levelCount);
      for (let n = 0; n < count; n += 1) await publishTo(levels, n);
      const tally = new Tally(count, levelCount === 1 ? streamOrder : priorityOrder(count));
      const handle = async ({ n }: Payload): Promise<void> => tally.see(n);
      return {
        async run() {
          for (const level of [...levels].reverse()) {
            for (let at = 0; at < level.length; at += CONCURRENT_HANDLERS) {
              const batch = level.slice(at, at + CONCURRENT_HANDLERS);
              // The cast holds because publishTo wrote the text.
              await Promise.all(batch.map((text) => handle(JSON.parse(text) as Payload)));
            }
          }
        },
        verify: async () => tally.verify(),
        close: async () => undefined,
      };
    },
  };
}

export const memoryEventsPublish: Contender = publishing(1);
export const memoryEventsDrain: Contender = draining(1);
export const memoryQueuePublish: Contender = publishing(LEVELS);
export const memoryQueueDrain: Contender = draining(LEVELS);
