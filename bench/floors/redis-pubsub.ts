/** The floor of pub/sub on Redis: PUBLISH and SUBSCRIBE of the bare client, with JSON both ways. */

import { LOAD_LEAD_IN, LONE_LEAD_IN, type Manner } from "../contenders/pubsub.js";
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

/** Publishes messages `from` to `to`, without the last. */
type Run = (pair: Pair, from: number, to: number) => Promise<void>;

export const redisPubSubLone: Contender = {
  ...contender(
    async ({ publish, handled }, from, to) => {
      for (let n = from; n < to; n += 1) await Promise.all([handled(), publish(n)]);
    },
    { leadIn: LONE_LEAD_IN },
  ),
  warmUp: 500,
};

export const redisPubSubLoad: Contender = contender(
  ({ publish }, from, to) => pump(to - from, CONCURRENT_PUBLISHES, (n) => publish(from + n)),
  { leadIn: LOAD_LEAD_IN },
);

export function redisPubSubLatency(perSecond: number): Contender {
  const run: Run = ({ publish, watch }, from, to) =>
    pace(to - from, perSecond, (n) => {
      watch.sent(from + n);
      return publish(from + n);
    });
  return contender(run, { timing: "timed" });
}

function contender(run: Run, { timing, leadIn = 0 }: Manner = {}): Contender {
  return {
    ...COMMON,
    is: IS,
    async prepare(environment, count) {
      const [publisher, subscriber] = [await connectTo(environment), await connectTo(environment)];
      const all = leadIn + count;
      const tally = new Tally(all, streamOrder);
      const watch = new Stopwatch(all);
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
      await run(pair, 0, leadIn);
      return {
        ...(timing !== undefined && { latencies: watch.latencies }),
        async run() {
          await run(pair, leadIn, all);
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
