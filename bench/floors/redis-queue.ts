/** The floor of the queue on Redis: plain loops around the batch scripts, on the bare client. */

import { randomUUID } from "node:crypto";
import type { Contender, Environment } from "../harness.js";
import { type BareClient, connectBare } from "../redis-probe.js";
import {
  assertEqual,
  CONCURRENT_HANDLERS,
  pace,
  type Payload,
  payloadOf,
  priorityOf,
  priorityOrder,
  Stopwatch,
  Tally,
} from "../workload.js";
import { PUSH, SETTLE_AND_TAKE } from "./queue-scripts.js";

const COMMON = { name: "floor redis", backend: "redis", role: "floor", warmUp: 20_000 } as const;
/** Four calls of 250: the same 1,000 messages under way as everywhere. */
const BATCH = 250;
const CALLS_IN_FLIGHT = 4;
const LEASE_MS = "30000";
const BELL_WAIT_S = "2";
const KEYS = { records: "q:records", waiting: "q:waiting", leased: "q:leased", attempts: "q:attempts" };
const SEQ = "q:seq";
const BELL = "q:bell";

interface Scripts {
  readonly client: BareClient;
  push(from: number, count: number): Promise<unknown>;
  settleAndTake(settled: readonly string[]): Promise<readonly (string | number)[]>;
}

async function open({ redis }: Environment): Promise<Scripts> {
  if (redis === undefined) throw new Error("no Redis was started for this run");
  const client = await connectBare(redis.url);
  const [push, settleAndTake] = await Promise.all(
    [PUSH, SETTLE_AND_TAKE].map((script) => client.sendCommand<string>(["SCRIPT", "LOAD", script])),
  );
  if (push === undefined || settleAndTake === undefined) throw new Error("two scripts were loaded");
  const { records, waiting, leased, attempts } = KEYS;
  return {
    client,
    push(from, count) {
      const args = ["EVALSHA", push, "4", records, waiting, SEQ, BELL];
      for (let n = from; n < from + count; n += 1) {
        args.push(randomUUID(), String(priorityOf(n)), "0", JSON.stringify(payloadOf(n)));
      }
      return client.sendCommand(args);
    },
    settleAndTake(settled) {
      const args = ["EVALSHA", settleAndTake, "4", records, waiting, leased, attempts];
      args.push(String(CONCURRENT_HANDLERS), LEASE_MS, ...settled);
      return client.sendCommand(args);
    },
  };
}

async function pushAll({ push }: Scripts, count: number): Promise<void> {
  let next = 0;
  const publisher = async (): Promise<void> => {
    while (next < count) {
      const from = next;
      next = Math.min(count, next + BATCH);
      await push(from, next - from);
    }
  };
  await Promise.all(Array.from({ length: CALLS_IN_FLIGHT }, publisher));
}

/** Settles the last batch in the call that takes the next; waits for the bell once there is neither. */
async function consume(
  { settleAndTake }: Scripts,
  tally: Tally,
  handle: (payload: Payload) => Promise<void>,
  waitForBell?: () => Promise<unknown>,
): Promise<void> {
  let settled: string[] = [];
  while (!tally.isComplete) {
    const [, fence, ...items] = await settleAndTake(settled);
    const idle = settled.length === 0 && items.length === 0;
    settled = [];
    const running: Promise<void>[] = [];
    for (let at = 0; at < items.length; at += 3) {
      settled.push(String(items[at]), String(fence));
      // `push` wrote the text.
      running.push(handle(JSON.parse(String(items[at + 2])) as Payload));
    }
    await Promise.all(running);
    if (idle) await waitForBell?.();
  }
  await settleAndTake(settled);
}

async function verifyEmpty({ client }: Scripts): Promise<void> {
  assertEqual("records left", await client.sendCommand(["HLEN", KEYS.records]), 0);
  assertEqual("leases left", await client.sendCommand(["ZCARD", KEYS.leased]), 0);
}

export const redisQueuePublish: Contender = {
  ...COMMON,
  is: "bare @redis/client, timeout 0: one script for 250 items, four under way",
  async prepare(environment, count) {
    const scripts = await open(environment);
    return {
      run: () => pushAll(scripts, count),
      async verify() {
        assertEqual("records stored", await scripts.client.sendCommand(["HLEN", KEYS.records]), count);
        assertEqual("items waiting", await scripts.client.sendCommand(["ZCARD", KEYS.waiting]), count);
      },
      close: async () => scripts.client.destroy(),
    };
  },
};

export const redisQueueDrain: Contender = {
  ...COMMON,
  is: "one script settles and takes 200; JSON.parse, async handlers",
  async prepare(environment, count) {
    const scripts = await open(environment);
    await pushAll(scripts, count);
    const tally = new Tally(count, priorityOrder(count));
    return {
      run: () => consume(scripts, tally, async ({ n }) => tally.see(n)),
      async verify() {
        tally.verify();
        await verifyEmpty(scripts);
      },
      close: async () => scripts.client.destroy(),
    };
  },
};

export function redisQueueLatency(perSecond: number): Contender {
  return {
    ...COMMON,
    is: "BZPOPMIN of a bell on its own connection, then the script",
    async prepare(environment, count) {
      const publisher = await open(environment);
      const consumer = await open(environment);
      const bell = await connectBare(environment.redis?.url ?? "");
      const tally = new Tally(count);
      const watch = new Stopwatch(count);
      const handle = async ({ n }: Payload): Promise<void> => {
        watch.handled(n);
        tally.see(n);
      };
      return {
        latencies: watch.latencies,
        async run() {
          const consumed = consume(consumer, tally, handle, () => bell.sendCommand(["BZPOPMIN", BELL, BELL_WAIT_S]));
          await pace(count, perSecond, (n) => {
            watch.sent(n);
            return publisher.push(n, 1);
          });
          await consumed;
        },
        async verify() {
          tally.verify();
          await verifyEmpty(publisher);
        },
        async close() {
          for (const client of [publisher.client, consumer.client, bell]) client.destroy();
        },
      };
    },
  };
}
