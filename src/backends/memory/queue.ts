/** Work for recipients, most urgent first; the readable specification of the queue port. */

import type { BackendContext, Queue, QueueConsumer, QueueStats } from "../../core/backend.js";
import type { Clock, Timer } from "../../core/clock.js";
import { createDeadLetters } from "./dead-letters.js";
import { createFeed, type FeedSource } from "./feed.js";
import type { Inbox } from "./inbox.js";
import type { MemoryQueue } from "./memory-queue.js";
import { createItemCalls } from "./queue-items.js";
import { createRecipientCalls } from "./queue-recipients.js";
import { type Queues, queuesOf } from "./queues.js";
import type { Session } from "./session.js";

/** A feed says at least this often that its recipient is read. */
const MAX_KEEP_MS = 60_000;

const NO_STATS: QueueStats = {
  waiting: 0,
  leased: 0,
  delayed: 0,
  dead: 0,
  expired: 0,
  dropped: 0,
  paused: false,
  oldestWaitingAt: undefined,
};

export function createQueue(session: Session, all: Map<string, MemoryQueue>, context: BackendContext): Queue {
  const { clock } = context;
  const queues = queuesOf(session, all, context);

  return {
    push: async (name, items, limits) => queues.findOrCreate(name).push(items, limits, clock.now(), queues.report),

    async open(name, recipient, rules) {
      const queue = queues.findOrCreate(name);
      if (rules.registration !== undefined) {
        queue.register(recipient, rules.registration, clock.now(), queues.report);
      }
      const inbox = queue.inboxOf(recipient);
      inbox.feeds += 1;
      const source = sourceOf(queue, inbox, rules, queues);
      return session.track((forget) => {
        const kept = keepRegistered(queue, recipient, clock);
        const onClose = (): void => {
          kept.cancel();
          inbox.feeds -= 1;
          queue.tidy(inbox);
          forget();
        };
        return createFeed({ source, bell: inbox.bell, clock, consumer: rules.consumer, onClose });
      });
    },

    deadLetters: (name, recipient) =>
      createDeadLetters(session, clock, () => {
        const queue = queues.find(name);
        const inbox = queue?.inboxes.get(recipient);
        if (queue === undefined || inbox === undefined) return undefined;
        return { dead: inbox.list.dead, redrive: (share) => queue.redrive(share, clock.now()) };
      }),

    async stats(name, recipient) {
      const inbox = queues.find(name)?.inboxes.get(recipient);
      return inbox === undefined ? NO_STATS : statsOf(inbox, clock.now());
    },

    ...createRecipientCalls(queues),
    ...createItemCalls(queues),
  };
}

/** Whoever has a feed open reads its recipient, however long what it has taken is under way. */
function keepRegistered(queue: MemoryQueue, recipient: string, clock: Clock): Timer {
  const registered = queue.recipients.get(recipient);
  if (registered === undefined) return { cancel: () => undefined };
  const everyMs = Math.min(MAX_KEEP_MS, Math.max(1, Math.floor(registered.ttlMs / 3)));
  const keep = (): void => {
    queue.keep(recipient, clock.now());
    timer = clock.setTimer(keep, everyMs);
  };
  let timer = clock.setTimer(keep, everyMs);
  return { cancel: () => timer.cancel() };
}

/** An inbox as one consumer sees it: rules are each consumer's own. */
function sourceOf(queue: MemoryQueue, inbox: Inbox, rules: QueueConsumer, { report }: Queues): FeedSource {
  const read = (now: number): void => queue.read(inbox.recipient, rules.registration, now, report);
  return {
    take(want, outcomes, now) {
      read(now);
      return inbox.take(want, outcomes, now, rules);
    },
    extend(receipts, now) {
      read(now);
      return inbox.extend(receipts, now + rules.leaseMs);
    },
    giveBack: (holder, now) => inbox.list.giveBack(holder, now),
    nextReadyAt: () => inbox.nextReadyAt(),
  };
}

function statsOf(inbox: Inbox, now: number): QueueStats {
  inbox.update(now);
  const { levels, list, delayed, expired, dropped, isPaused } = inbox;
  return {
    waiting: levels.size,
    leased: list.leased.size,
    delayed,
    dead: list.dead.size,
    expired,
    dropped,
    paused: isPaused,
    oldestWaitingAt: levels.oldest?.item.at,
  };
}
