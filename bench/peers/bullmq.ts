/**
 * BullMQ at its best documented settings: nothing kept of what is done, no metrics, retries of the connection left to
 * it. ioredis without auto-pipelining, which made `add` 1.5 times and the worker 1.8 times slower here.
 */

import { type JobsOptions, Queue, Worker } from "bullmq";
import { Redis } from "ioredis";
import type { Contender, Environment, Trial } from "../harness.js";
import {
  assertEqual,
  CONCURRENT_HANDLERS,
  CONCURRENT_PUBLISHES,
  LEVELS,
  pace,
  type Payload,
  payloadOf,
  priorityOf,
  pump,
  Stopwatch,
  Tally,
} from "../workload.js";

const COMMON = { backend: "redis", role: "peer", warmUp: 3_000, minCount: 5_000 } as const;
const NAME = "tasks";
const BULK = 1_000;
/** One at a time was a quarter slower. */
const BULKS_IN_FLIGHT = 4;

export type Ordering = "plain" | "priority";

interface Opened {
  readonly queue: Queue<Payload>;
  /** Of message n. */
  optionsOf(n: number): JobsOptions;
  close(): Promise<void>;
}

async function open(environment: Environment, ordering: Ordering): Promise<Opened> {
  const connection = connectTo(environment);
  const queue = new Queue<Payload>(NAME, {
    connection,
    defaultJobOptions: { removeOnComplete: true, removeOnFail: true },
  });
  await queue.waitUntilReady();
  return {
    queue,
    // In BullMQ 1 is the most urgent.
    optionsOf: (n) => (ordering === "plain" ? {} : { priority: LEVELS - priorityOf(n) }),
    async close() {
      await queue.close();
      connection.disconnect();
    },
  };
}

function connectTo({ redis }: Environment): Redis {
  if (redis === undefined) throw new Error("no Redis was started for this run");
  return new Redis(redis.url, { maxRetriesPerRequest: null });
}

async function addAll({ queue, optionsOf }: Opened, count: number): Promise<void> {
  await pump(Math.ceil(count / BULK), BULKS_IN_FLIGHT, (chunk) => {
    const start = chunk * BULK;
    const jobs = Array.from({ length: Math.min(BULK, count - start) }, (_, index) => ({
      name: NAME,
      data: payloadOf(start + index),
      opts: optionsOf(start + index),
    }));
    return queue.addBulk(jobs);
  });
}

function publishing(
  ordering: Ordering,
  how: Pick<Contender, "name" | "is">,
  publish: (opened: Opened, count: number) => Promise<void>,
): Contender {
  return {
    ...COMMON,
    ...how,
    async prepare(environment, count) {
      const opened = await open(environment, ordering);
      return {
        run: () => publish(opened, count),
        async verify() {
          const { waiting = 0, prioritized = 0 } = await opened.queue.getJobCounts("waiting", "prioritized");
          assertEqual("jobs stored", waiting + prioritized, count);
        },
        close: () => opened.close(),
      };
    },
  };
}

export function bullmqAdd(ordering: Ordering): Contender {
  return publishing(
    ordering,
    { name: "bullmq", is: "BullMQ 6.2.0, ioredis: Queue.add, 1,000 under way" },
    ({ queue, optionsOf }, count) =>
      pump(count, CONCURRENT_PUBLISHES, (n) => queue.add(NAME, payloadOf(n), optionsOf(n))),
  );
}

export function bullmqAddBulk(ordering: Ordering): Contender {
  return publishing(ordering, { name: "bullmq bulk", is: "BullMQ: addBulk of 1,000, four under way" }, addAll);
}

export function bullmqDrain(ordering: Ordering): Contender {
  return {
    ...COMMON,
    // A worker takes its first 200 jobs one by one; a short round would show little else.
    minCount: 10_000,
    name: "bullmq",
    is: `BullMQ worker, concurrency ${CONCURRENT_HANDLERS}, nothing kept`,
    async prepare(environment, count) {
      const opened = await open(environment, ordering);
      await addAll(opened, count);
      const tally = new Tally(count);
      return await working(
        environment,
        opened,
        tally,
        async ({ n }) => tally.see(n),
        () => tally.complete(),
      );
    },
  };
}

export function bullmqLatency(ordering: Ordering, perSecond: number): Contender {
  return {
    ...COMMON,
    name: "bullmq",
    is: "BullMQ: add, worker",
    async prepare(environment, count) {
      const opened = await open(environment, ordering);
      const { queue, optionsOf } = opened;
      const tally = new Tally(count);
      const watch = new Stopwatch(count);
      const handle = async ({ n }: Payload): Promise<void> => {
        watch.handled(n);
        tally.see(n);
      };
      const publish = async (): Promise<void> => {
        await pace(count, perSecond, (n) => {
          watch.sent(n);
          return queue.add(NAME, payloadOf(n), optionsOf(n));
        });
        await tally.complete();
      };
      return { ...(await working(environment, opened, tally, handle, publish)), latencies: watch.latencies };
    },
  };
}

/** A worker that starts with the run. */
async function working(
  environment: Environment,
  opened: Opened,
  tally: Tally,
  handle: (payload: Payload) => Promise<void>,
  during: () => Promise<void>,
): Promise<Trial> {
  const connection = connectTo(environment);
  const worker = new Worker<Payload>(NAME, ({ data }) => handle(data), {
    connection,
    concurrency: CONCURRENT_HANDLERS,
    autorun: false,
    removeOnComplete: { count: 0 },
    removeOnFail: { count: 0 },
  });
  await worker.waitUntilReady();
  let stopped: Promise<unknown> = Promise.resolve();
  return {
    async run() {
      stopped = worker.run();
      await during();
    },
    async verify() {
      // Closing waits for the jobs that are still being completed.
      await worker.close();
      tally.verify();
      const counts = await opened.queue.getJobCounts("waiting", "prioritized", "active", "failed");
      assertEqual(
        "jobs left over",
        Object.values(counts).reduce((sum, each) => sum + each, 0),
        0,
      );
    },
    async close() {
      await worker.close();
      await stopped;
      connection.disconnect();
      await opened.close();
    },
  };
}
