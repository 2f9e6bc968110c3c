/** What a message costs in a queue that holds many, and one for many recipients: signalbox on Redis. */

import { connect, type Queue } from "../../src/index.js";
import { until } from "../../test/support/wait.js";
import type { Contender, Trial } from "../harness.js";
import { assertEqual, CONCURRENT_HANDLERS, CONCURRENT_PUBLISHES, payloadOf, pump } from "../workload.js";

const QUEUE = "tasks";
/** What waits is less urgent than what is measured. */
const URGENT = 1;

/** Publishing while this many wait. */
export function publishingBehind(waiting: number): Contender {
  return growing(`${waiting} waiting`, waiting, async (queue, count) => ({
    run: () => publish(queue, count, URGENT),
    verify: async () => assertEqual("messages that wait", (await queue.stats()).waiting, waiting + count),
  }));
}

/** Taking, handling and acknowledging the most urgent while this many wait behind them. */
export function drainingBefore(waiting: number): Contender {
  return growing(`${waiting} waiting`, waiting, async (queue, count) => {
    await publish(queue, count, URGENT);
    let handled = 0;
    return {
      async run() {
        const subscription = await queue.subscribe({ concurrency: CONCURRENT_HANDLERS }, async () => {
          handled += 1;
        });
        await until(() => handled >= count, { deadlineMs: 60_000, everyMs: 1, what: `${count} messages` });
        await subscription.close();
      },
      verify: async () => {
        assertEqual("messages that are left", (await queue.stats()).waiting, waiting + count - handled);
      },
    };
  });
}

/** Publishing for this many registered recipients; what is counted are their deliveries. */
export function publishingFor(recipients: number): Contender {
  return growing(`${recipients} recipients`, 0, async (queue, count) => {
    const messages = Math.ceil(count / recipients);
    await pump(recipients, CONCURRENT_PUBLISHES, (n) => queue.register(nameOf(n)));
    const waitingOf = async (n: number): Promise<number> => (await queue.stats(nameOf(n))).waiting;
    return {
      run: () => pump(messages, CONCURRENT_PUBLISHES, (n) => queue.publish(payloadOf(n), { audience: "registered" })),
      async verify() {
        for (const n of [0, recipients - 1]) assertEqual("messages of one recipient", await waitingOf(n), messages);
      },
    };
  });
}

function nameOf(n: number): string {
  return `recipient-${n}`;
}

function growing(
  name: string,
  waiting: number,
  prepare: (queue: Queue<unknown>, count: number) => Promise<Omit<Trial, "close">>,
): Contender {
  return {
    name: `signalbox redis, ${name}`,
    backend: "redis",
    role: "signalbox",
    is: 'connect("redis://…")',
    warmUp: 1_000,
    async prepare({ redis }, count) {
      if (redis === undefined) throw new Error("no Redis was started for this run");
      const broker = await connect(redis.url);
      try {
        const queue = broker.queue(QUEUE, { maxItems: 10_000_000 });
        await publish(queue, waiting, 0);
        return { ...(await prepare(queue, count)), close: () => broker.close() };
      } catch (error) {
        await broker.close();
        throw error;
      }
    },
  };
}

function publish(queue: Queue<unknown>, count: number, priority: number): Promise<void> {
  return pump(count, CONCURRENT_PUBLISHES, (n) => queue.publish(payloadOf(n), { priority }));
}
