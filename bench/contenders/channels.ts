/** What is measured of each facade: an event stream with one group; a queue with ten levels of priority. */

import type { Broker, PublishQueueOptions, QueueOptions } from "../../src/index.js";
import {
  CONCURRENT_HANDLERS,
  keyOf,
  keyOrder,
  payloadOf,
  priorityOf,
  priorityOrder,
  streamOrder,
} from "../workload.js";
import type { Channel, OpenChannel } from "./signalbox.js";

const STREAM = "order.created";
const GROUP = "billing";
const QUEUE = "tasks";

const GROUP_OPTIONS = { group: GROUP, from: "beginning", concurrency: CONCURRENT_HANDLERS } as const;

export const openEvents: OpenChannel = (broker) => ({
  ...channelOf(broker),
  publish: (n) => broker.events.publish(STREAM, payloadOf(n)),
  subscribe: (handler) => broker.events.subscribe(STREAM, GROUP_OPTIONS, handler),
  orderOf: () => streamOrder,
});

/** The same, in order by one of 1,000 keys. */
export const openKeyedEvents: OpenChannel = Object.assign(
  (broker: Broker): Channel => ({
    ...channelOf(broker),
    publish: (n) => broker.events.publish(STREAM, payloadOf(n), { key: keyOf(n) }),
    subscribe: (handler) => broker.events.subscribe(STREAM, { ...GROUP_OPTIONS, order: "key" }, handler),
    orderOf: () => keyOrder,
  }),
  { variant: "keyed" },
);

/** The same, each with an id of the publisher's own, by which nothing is stored twice. */
export const openIdentifiedEvents: OpenChannel = Object.assign(
  (broker: Broker): Channel => ({
    ...openEvents(broker),
    publish: (n) => broker.events.publish(STREAM, payloadOf(n), { id: `order-${n}` }),
  }),
  { variant: "with ids" },
);

const channelOf = ({ events }: Broker): Pick<Channel, "unfinished" | "stored"> => ({
  async unfinished() {
    const { groups } = await events.stats(STREAM);
    return groups.reduce((sum, { lag, pending, retrying, dead }) => sum + lag + pending + retrying + dead, 0);
  },
  stored: async () => (await events.stats(STREAM)).length,
});

/** A queue, as its options and those of each publish have it. */
function queueOf(
  options: QueueOptions,
  publishing: (n: number) => PublishQueueOptions | undefined,
  order: Channel["orderOf"],
): OpenChannel {
  return (broker) => {
    const queue = broker.queue(QUEUE, options);
    return {
      publish: (n) => queue.publish(payloadOf(n), publishing(n)),
      subscribe: (handler) => queue.subscribe({ concurrency: CONCURRENT_HANDLERS }, handler),
      async unfinished() {
        const { waiting, leased, delayed, dead, expired } = await queue.stats();
        return waiting + leased + delayed + dead + expired;
      },
      stored: async () => (await queue.stats()).waiting,
      orderOf: order,
    };
  };
}

export const openQueue: OpenChannel = queueOf({}, (n) => ({ priority: priorityOf(n) }), priorityOrder);

/** The same, without priorities. */
export const openPlainQueue: OpenChannel = Object.assign(
  queueOf(
    {},
    () => undefined,
    () => streamOrder,
  ),
  { variant: "plain" },
);

/** The same, and each message expires in an hour. */
export const openTimedQueue: OpenChannel = Object.assign(
  queueOf({}, (n) => ({ priority: priorityOf(n), ttlMs: 3_600_000 }), priorityOrder),
  { variant: "with ttl" },
);

/** The same, found by their source, and kept for an hour once they are acknowledged. */
export const openIndexedQueue: OpenChannel = Object.assign(
  queueOf(
    { index: ["source"], keepAckedMs: 3_600_000, maxRecords: 1_000_000 },
    (n) => ({ priority: priorityOf(n), source: `source-${n % 10}` }),
    priorityOrder,
  ),
  { variant: "indexed and kept" },
);
