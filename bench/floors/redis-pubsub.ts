/** The floor of pub/sub on Redis: PUBLISH and SUBSCRIBE of the bare client, with JSON both ways. */

import type { Contender, Environment } from "../harness.js";
import { type BareClient, connectBare } from "../redis-probe.js";
import {
  CONCURRENT_PUBLISHES,
  pace,
  type Payload,
  payloadOf,
  pump,
  Stopwatch,
  streamOrder,
  Tally,
} from "../workload.js";

const COMMON = { name: "floor redis", backend: "redis", role: "floor", warmUp: 20_000 } as const;
const IS = "bare @redis/client, timeout 0: PUBLISH and SUBSCRIBE, JSON both ways, async handlers";
const CHANNEL = "orders";

interface Pair {
  publish(n: number): Promise<unknown>;
  /** Resolves when the next message has been handled; for one at a time. */
  handled(): Promise<void>;
  readonly watch: Stopwatch;
}

type Run = (pair: Pair, count: number) => Promise<void>;

export const redisPubSubLone: Contender = {
  ...contender(async ({ publish, handled }, count) => {
    for (let n = 0; n < count; n += 1) await Promise.all([handled(), publish(n)]);
  }),
  warmUp: 500,
};

export const redisPubSubLoad: Contender = contender(({ publish }, count) => pump(count, CONCURRENT_PUBLISHES, publish));

export function redisPubSubLatency(perSecond: number): Contender {
  const run: Run = ({ publish, watch }, count) =>
    pace(count, perSecond, (n) => {
      watch.sent(n);
      return publish(n);
    });
  return contender(run, "timed");
}

function contender(run: Run, timing?: "timed"): Contender {
  return {
    ...COMMON,
    is: IS,
    async prepare(environment, count) {
      const [publisher, subscriber] = [await connectTo(environment), await connectTo(environment)];
      const tally = new Tally(count, streamOrder);
      const watch = new Stopwatch(count);
      let wake: (() => void) | undefined;
      const handle = async ({ n }: Payload): Promise<void> => {
        watch.handled(n);
        tally.see(n);
        wake?.();
      };
      // `publish` wrote the text.
      await subscriber.subscribe(CHANNEL, (text) => void handle(JSON.parse(text) as Payload));
      const pair: Pair = {
        watch,
        publish: (n) => publisher.sendCommand(["PUBLISH", CHANNEL, JSON.stringify(payloadOf(n))]),
        handled: () => new Promise((resolve) => void (wake = resolve)),
      };
      return {
        ...(timing !== undefined && { latencies: watch.latencies }),
        async run() {
          await run(pair, count);
          await tally.complete();
        },
        verify: async () => tally.verify(),
        async close() {
          publisher.destroy();
          subscriber.destroy();
        },
      };
    },
  };
}

async function connectTo({ redis }: Environment): Promise<BareClient> {
  if (redis === undefined) throw new Error("no Redis was started for this run");
  return await connectBare(redis.url);
}
