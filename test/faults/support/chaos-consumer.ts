/** A program that consumes the events and the queue of a chaos run. Argument: its configuration. */

import { obey, setUp } from "./chaos-child.js";
import { consumeEvents } from "./chaos-events-consumer.js";
import type { ConsumerConfig } from "./chaos-load.js";
import { consumeQueue } from "./chaos-queue-consumer.js";

const setting = setUp<ConsumerConfig>();
const { events, queue } = setting.histories;
const closes = await Promise.all([
  ...(events === undefined ? [] : [consumeEvents(setting, events)]),
  ...(queue === undefined ? [] : [consumeQueue(setting, queue)]),
]);
await obey(setting, {}, async () => {
  await Promise.all(closes.map((close) => close()));
});
