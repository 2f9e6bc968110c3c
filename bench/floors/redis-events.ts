/** The floor of events on Redis: plain loops on the bare client. */

import type { Contender, Environment } from "../harness.js";
import { type BareClient, connectBare } from "../redis-probe.js";
import {
  assertEqual,
  CONCURRENT_HANDLERS,
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
const KEY = "stream";
const GROUP = "group";
const BLOCK_MS = 2_000;

type Entry = readonly [id: string, fields: readonly string[]];
type GroupReply = Readonly<Record<string, readonly Entry[]>> | null;

function append(client: BareClient, n: number): Promise<unknown> {
  return client.sendCommand(["XADD", KEY, "*", "d", JSON.stringify(payloadOf(n))]);
}

function readGroup(client: BareClient, blockMs: number | undefined): Promise<GroupReply> {
  const block = blockMs === undefined ? [] : ["BLOCK", String(blockMs)];
  const count = ["COUNT", String(CONCURRENT_HANDLERS)];
  return client.sendCommand(["XREADGROUP", "GROUP", GROUP, "one", ...count, ...block, "STREAMS", KEY, ">"]);
}

/** Acknowledges the last batch in the same write as it reads the next, until everything is handled. */
async function consume(
  client: BareClient,
  tally: Tally,
  handle: (payload: Payload) => Promise<void>,
  blockMs?: number,
): Promise<void> {
  let handled: string[] = [];
  while (!tally.isComplete) {
    const acked = handled.length > 0 ? client.sendCommand(["XACK", KEY, GROUP, ...handled]) : undefined;
    const entries = (await readGroup(client, blockMs))?.[KEY] ?? [];
    await acked;
    // `append` wrote the text.
    await Promise.all(entries.map(([, fields]) => handle(JSON.parse(fields[1] ?? "") as Payload)));
    handled = entries.map(([id]) => id);
  }
  await client.sendCommand(["XACK", KEY, GROUP, ...handled]);
}

async function verifyAcked(client: BareClient): Promise<void> {
  // The summary form starts with the count.
  const [pending] = await client.sendCommand<[number]>(["XPENDING", KEY, GROUP]);
  assertEqual("messages not acknowledged", pending, 0);
}

async function connectTo({ redis }: Environment): Promise<BareClient> {
  if (redis === undefined) throw new Error("no Redis was started for this run");
  return await connectBare(redis.url);
}

export const redisEventsPublish: Contender = {
  ...COMMON,
  is: "bare @redis/client, timeout 0: XADD, JSON.stringify",
  async prepare(environment, count) {
    const client = await connectTo(environment);
    return {
      run: () => pump(count, CONCURRENT_PUBLISHES, (n) => append(client, n)),
      verify: async () => assertEqual("messages stored", await client.sendCommand(["XLEN", KEY]), count),
      close: async () => client.destroy(),
    };
  },
};

export const redisEventsDrain: Contender = {
  ...COMMON,
  is: "prototype loop: XREADGROUP COUNT 200 and XACK in one write, JSON.parse, async handlers",
  async prepare(environment, count) {
    const client = await connectTo(environment);
    await client.sendCommand(["XGROUP", "CREATE", KEY, GROUP, "0", "MKSTREAM"]);
    await pump(count, CONCURRENT_PUBLISHES, (n) => append(client, n));
    const tally = new Tally(count, streamOrder);
    return {
      run: () => consume(client, tally, async ({ n }) => tally.see(n)),
      async verify() {
        tally.verify();
        await verifyAcked(client);
      },
      close: async () => client.destroy(),
    };
  },
};

export function redisEventsLatency(perSecond: number): Contender {
  return {
    ...COMMON,
    is: "one blocking XREADGROUP on its own connection",
    async prepare(environment, count) {
      const publisher = await connectTo(environment);
      const consumer = await connectTo(environment);
      await publisher.sendCommand(["XGROUP", "CREATE", KEY, GROUP, "0", "MKSTREAM"]);
      const tally = new Tally(count, streamOrder);
      const watch = new Stopwatch(count);
      const handle = async ({ n }: Payload): Promise<void> => {
        watch.handled(n);
        tally.see(n);
      };
      return {
        latencies: watch.latencies,
        async run() {
          const consumed = consume(consumer, tally, handle, BLOCK_MS);
          await pace(count, perSecond, (n) => {
            watch.sent(n);
            return append(publisher, n);
          });
          await consumed;
        },
        async verify() {
          tally.verify();
          await verifyAcked(publisher);
        },
        async close() {
          publisher.destroy();
          consumer.destroy();
        },
      };
    },
  };
}
