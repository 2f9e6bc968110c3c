/** What is measured of each facade: an event stream with one group; a queue with ten levels of priority. */

import { CONCURRENT_HANDLERS, payloadOf, priorityOf, priorityOrder, streamOrder } from "../workload.js";
import type { OpenChannel } from "./signalbox.js";

const STREAM = "order.created";
const GROUP = "billing";
const QUEUE = "tasks";

export const openEvents: OpenChannel = ({ events }) => ({
  publish: (n) => events.publish(STREAM, payloadOf(n)),
  subscribe: (handler) =>
    events.subscribe(STREAM, { group: GROUP, from: "beginning", concurrency: CONCURRENT_HANDLERS }, handler),
  async unfinished() {
    const { groups } = await events.stats(STREAM);
    return groups.reduce((sum, { lag, pending, retrying, dead }) => sum + lag + pending + retrying + dead, 0);
  },
  stored: async () => (await events.stats(STREAM)).length,
  rankOf: () => streamOrder,
});

export const openQueue: OpenChannel = (broker) => {
  const queue = broker.queue(QUEUE);
  return {
    publish: (n) => queue.publish(payloadOf(n), { priority: priorityOf(n) }),
    subscribe: (handler) => queue.subscribe({ concurrency: CONCURRENT_HANDLERS }, handler),
    async unfinished() {
      const { waiting, leased, delayed, dead, expired } = await queue.stats();
      return waiting + leased + delayed + dead + expired;
    },
    stored: async () => (await queue.stats()).waiting,
    rankOf: priorityOrder,
  };
};
