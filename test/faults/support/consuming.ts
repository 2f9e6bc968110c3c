/** The two facades that consume, behind one face: for faults that have to come to the same with both. */

import type {
  BatchHandler,
  Broker,
  Context,
  DeadLetter,
  Delivery,
  DeliveryStream,
  RetryPolicy,
  Subscription,
} from "../../../src/index.js";
import type { Facade } from "./load.js";

interface Options {
  readonly concurrency?: number;
  readonly leaseMs?: number;
  readonly retry?: Partial<RetryPolicy>;
}

interface HandlerOptions extends Options {
  readonly handlerTimeoutMs?: number;
}

/** One stream with its group, or one queue with whoever consumes it. */
export interface Channel {
  publishMany(data: readonly unknown[]): Promise<unknown>;
  subscribe(options: HandlerOptions, handler: (data: unknown, context: Context) => unknown): Promise<Subscription>;
  subscribeBatch(
    options: HandlerOptions & { readonly max: number; readonly waitMs: number },
    handler: BatchHandler<unknown, Delivery>,
  ): Promise<Subscription>;
  deliveries(options: Options): DeliveryStream<unknown, Delivery>;
  deadLetters(): AsyncIterable<DeadLetter>;
  /** Nothing is waiting, held or parked. */
  isSettled(): Promise<boolean>;
}

const GROUP = { group: "g", from: "beginning" } as const;

export function channelOf(broker: Broker, facade: Facade, name: string): Channel {
  if (facade === "queue") {
    const queue = broker.queue(name);
    return {
      publishMany: (data) => queue.publishMany(data),
      subscribe: (options, handler) => queue.subscribe(options, handler),
      subscribeBatch: (options, handler) => queue.subscribeBatch(options, handler),
      deliveries: (options) => queue.deliveries(options),
      deadLetters: () => queue.deadLetters(),
      async isSettled() {
        const { waiting, leased, delayed, dead } = await queue.stats();
        return waiting + leased + delayed + dead === 0;
      },
    };
  }
  const { events } = broker;
  return {
    publishMany: (data) => events.publishMany(name, data),
    subscribe: (options, handler) => events.subscribe(name, { ...GROUP, ...options }, handler),
    subscribeBatch: (options, handler) => events.subscribeBatch(name, { ...GROUP, ...options }, handler),
    deliveries: (options) => events.deliveries(name, { ...GROUP, ...options }),
    deadLetters: () => events.group(name, GROUP.group).deadLetters(),
    async isSettled() {
      const [group] = (await events.stats(name)).groups;
      return group?.lag === 0 && group.pending === 0 && group.retrying === 0 && group.dead === 0;
    },
  };
}
