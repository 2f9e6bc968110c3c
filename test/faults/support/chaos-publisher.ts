/** A program that publishes events and to a queue, and writes down what it tried and what it was told. Argument: its configuration. */

import { connectPatiently, obey, setUp, silent } from "./chaos-child.js";
import { idOf, keyOf, keyText, payloadOf, type PublisherConfig, STREAM } from "./chaos-load.js";
import { type Publishing, startPublishing } from "./chaos-publishing.js";
import { AUDIENCE, itemOf, QUEUE } from "./chaos-queue-load.js";
import { EVERYBODY } from "./history-items.js";
import { type HistoryLog, now, type Side } from "./history-log.js";

const EVENTS_TICK_MS = 5;
/** Many at once, so that they wait for each other. */
const QUEUE_TICK_MS = 100;

const setting = setUp<PublisherConfig>();
const { config, histories, noteForeign } = setting;
const { number: p, durability, ids, rates, window, queue: traits } = config;
const opened = { op: "opened", process: "publisher", number: p } as const;
histories.events?.write({ ...opened, t: now() });
histories.queue?.write({ ...opened, t: now(), queue: traits });
const broker = await connectPatiently(setting, { logger: silent, durability });

const common = { window, noteForeign: (error: unknown) => noteForeign(error, "publish") };

function checkLevel(history: HistoryLog, attained: string): void {
  if (attained !== durability)
    history.write({ op: "corrupt", t: now(), what: `a receipt of ${attained}, not ${durability}` });
}

function publishEvents(history: HistoryLog): Publishing {
  return startPublishing({
    ...common,
    history,
    rate: rates.events,
    tickMs: EVENTS_TICK_MS,
    invoke(n) {
      const k = keyOf(p, n);
      return { op: "invoke", t: now(), n, ...(k === undefined ? {} : { k }) };
    },
    async publish(n) {
      const key = keyOf(p, n);
      const options = { ...(key === undefined ? {} : { key: keyText(p, key) }), ...(ids ? { id: idOf(p, n) } : {}) };
      checkLevel(history, (await broker.events.publish(STREAM, payloadOf(p, n), options)).durability);
      return {};
    },
    // With its key it would stand behind what was published after it.
    mayRepeat: (n) => ids && keyOf(p, n) === undefined,
  });
}

function publishItems(history: HistoryLog): Publishing {
  const queue = broker.queue(QUEUE);
  return startPublishing({
    ...common,
    history,
    rate: rates.queue,
    tickMs: QUEUE_TICK_MS,
    invoke: (n) => ({ op: "itemInvoke", t: now(), n, ...itemOf(p, n) }),
    async publish(n) {
      const { to, ...options } = itemOf(p, n);
      const receipt = await queue.publish(payloadOf(p, n), {
        ...options,
        ...(to === EVERYBODY ? { audience: "registered" } : AUDIENCE.includes(to) ? { target: to } : {}),
        ...(ids ? { id: idOf(p, n) } : {}),
      });
      checkLevel(history, receipt.durability);
      return receipt.duplicate ? {} : { count: receipt.recipients };
    },
    mayRepeat: () => ids,
  });
}

const publishing: Partial<Record<Side, Publishing>> = {
  ...(histories.events === undefined ? {} : { events: publishEvents(histories.events) }),
  ...(histories.queue === undefined ? {} : { queue: publishItems(histories.queue) }),
};

await obey(
  setting,
  {
    eventsRate: (perSecond) => publishing.events?.setRate(perSecond),
    queueRate: (perSecond) => publishing.queue?.setRate(perSecond),
    eventsBurst: (count) => publishing.events?.burst(count),
    queueBurst: (count) => publishing.queue?.burst(count),
  },
  async () => {
    await Promise.all(Object.values(publishing).map((each) => each.finish()));
    await broker.close({ drainMs: 0 });
  },
);
