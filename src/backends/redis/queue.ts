/** The queue port on Redis: a hash of records for each queue, sorted sets of tickets for each recipient. */

import type { Queue, QueueStats } from "../../core/backend.js";
import { listOf, numberOf, textOf } from "./blob.js";
import type { PortDependencies } from "./connection.js";
import { encodeName } from "./keys.js";
import { createPort, type Port } from "./port.js";
import { browse } from "./queue-browse.js";
import { createEnding } from "./queue-ending.js";
import { createQueueSource } from "./queue-feed.js";
import { inboxKeys, type KnownQueue, knownQueues } from "./queue-known.js";
import { createPusher } from "./queue-push.js";
import { createRecords } from "./queue-records.js";
import { createRecipients } from "./queue-recipients.js";
import { createTending } from "./queue-tending.js";
import { queueLetters } from "./redrive.js";
import { loadScript } from "./scripts.js";

const statsScript = loadScript("queue-stats");

export function createQueue(dependencies: PortDependencies): Queue & { close(): Promise<void> } {
  const { connections, context } = dependencies;
  const port = createPort(dependencies);
  const known = knownQueues(context.namespace);
  const recipients = createRecipients(port, context);
  const tending = createTending(port, recipients, context);
  const pusher = createPusher(port, recipients, tending);
  const records = createRecords(port, tending);
  const ending = createEnding(port, tending, recipients);
  /** The queue of that name, for a call that has just begun. */
  const find = (queue: string): KnownQueue => {
    port.assertOpen();
    return known(queue);
  };

  const open: Queue["open"] = async (name, recipient, consumer) => {
    const queue = find(name);
    const source = createQueueSource({ queue, recipient, consumer, connections, port, recipients, tending, context });
    await source.start();
    try {
      port.assertOpen();
    } catch (error) {
      await source.release([]).catch((failure: unknown) => context.report(failure, "closing a feed that was opening"));
      throw error;
    }
    return port.openFeed(source);
  };

  return {
    push: async (queue, newItems, limits) => pusher.push(find(queue), newItems, limits),

    open,

    deadLetters(name, recipient) {
      const queue = known(name);
      return queueLetters(port, queue.keys, recipient, () => tending.endExpired(queue));
    },

    stats: async (queue, recipient) => readStats(port, find(queue), recipient),

    register: async (queue, recipient, registration) => recipients.register(find(queue), recipient, registration),
    unregister: async (queue, recipient) => recipients.unregister(find(queue), recipient),
    recipients: async (queue, page) => recipients.page(find(queue), page),
    pause: async (queue, recipient) => recipients.setPaused(find(queue), recipient, "pause"),
    resume: async (queue, recipient) => recipients.setPaused(find(queue), recipient, "resume"),

    configure: async (queue, settings) => records.configure(find(queue), settings),
    browse: async (queue, recipient, page, state) => browse(port, find(queue), recipient, page, state),
    get: async (queue, id) => records.get(find(queue), id),
    list: async (queue, filter, page) => records.list(find(queue), filter, page),
    count: async (queue, filter) => records.count(find(queue), filter),

    acknowledge: async (queue, recipient, ids) => ending.acknowledge(find(queue), recipient, ids),
    remove: async (queue, ids) => ending.remove(find(queue), ids),
    clear: async (queue) => ending.clear(find(queue)),

    close: () => port.close(),
  };
}

async function readStats(port: Pick<Port, "repeating">, { keys }: KnownQueue, recipient: string): Promise<QueueStats> {
  const own = keys.recipient(recipient);
  let from = "";
  let oldest = { place: "", at: "" };
  for (;;) {
    const args = [encodeName(recipient), from];
    const reply = listOf(
      await statsScript.run(port.repeating(keys.records), [...inboxKeys(keys, own), own.dead], args),
    );
    const [state, waiting, leased, delayed, dead, expired, dropped, paused, next, place, at] = reply;
    const found = { place: textOf(place), at: textOf(at) };
    // Places are of one length, so that texts sort as they do.
    if (found.place !== "" && (oldest.place === "" || found.place < oldest.place)) oldest = found;
    from = textOf(next);
    if (textOf(state) === "MORE") continue;
    return {
      waiting: numberOf(waiting),
      leased: numberOf(leased),
      delayed: numberOf(delayed),
      dead: numberOf(dead),
      expired: numberOf(expired),
      dropped: numberOf(dropped),
      paused: numberOf(paused) === 1,
      oldestWaitingAt: oldest.at === "" ? undefined : Number(oldest.at),
    };
  }
}
