/** Work for recipients, most urgent first; the readable specification of the queue port. */

import type { BackendContext, NewItem, Pushed, Queue, QueueConsumer } from "../../core/backend.js";
import { queueFull } from "../../core/limits.js";
import { createDeadLetters } from "./dead-letters.js";
import { type Bell, createBell, createFeed, type FeedSource } from "./feed.js";
import { createHeap, type Heap } from "./heap.js";
import { toStored } from "./stored.js";
import { getOrCreate, type Session, scoped } from "./session.js";
import { type Work, WorkList } from "./worklist.js";

export interface MemoryQueue {
  /** Everything unfinished, by id. */
  readonly items: Map<string, Item>;
  readonly inboxes: Map<string, Inbox>;
  /** Order of arrival, across inboxes. */
  arrivals: number;
}

interface Item extends Work {
  readonly id: string;
  readonly priority: number;
  readonly arrival: number;
  readonly expiresAt: number;
  state: "idle" | "leased" | "over";
}

interface Inbox {
  /** Highest priority first, oldest first within one. May hold items that are over: they are passed by. */
  readonly waiting: Heap<Item>;
  /** Items with an expiry, the soonest first. */
  readonly expiries: Heap<Item>;
  readonly list: WorkList<Item>;
  readonly bell: Bell;
  expired: number;
  expiredUnreported: number;
}

export function createQueue(session: Session, queues: Map<string, MemoryQueue>, context: BackendContext): Queue {
  const { namespace, clock } = context;

  const find = (queue: string): MemoryQueue | undefined => queues.get(scoped(namespace, queue));
  const findOrCreate = (queue: string): MemoryQueue =>
    getOrCreate(queues, scoped(namespace, queue), () => ({ items: new Map(), inboxes: new Map(), arrivals: 0 }));
  const inboxOf = (queue: MemoryQueue, recipient: string): Inbox =>
    getOrCreate(queue.inboxes, recipient, () => createInbox(queue));

  return {
    async push(name, items, limits) {
      session.assertOpen();
      const queue = findOrCreate(name);
      const now = clock.now();
      for (const inbox of queue.inboxes.values()) expire(queue, inbox, now);
      const fresh = new Set(items.map(({ id }) => id).filter((id) => !queue.items.has(id)));
      if (queue.items.size + fresh.size > limits.maxItems) {
        throw queueFull(name, limits.maxItems);
      }
      return items.map((item): Pushed => {
        if (queue.items.has(item.id)) return { id: item.id, duplicate: true };
        add(queue, inboxOf(queue, item.recipient), item, now);
        return { id: item.id, duplicate: false };
      });
    },

    async open(name, recipient, rules) {
      session.assertOpen();
      const inbox = inboxOf(findOrCreate(name), recipient);
      const source = sourceOf(inbox, rules);
      const { bell } = inbox;
      return session.track((onClose) => createFeed({ source, bell, clock, consumer: rules.consumer, onClose }));
    },

    deadLetters: (name, recipient) =>
      createDeadLetters(session, clock, () => {
        const queue = find(name);
        const inbox = queue?.inboxes.get(recipient);
        if (queue === undefined || inbox === undefined) return undefined;
        return { dead: inbox.list.dead, redrive: (item) => redrive(queue, inbox, item) };
      }),

    async stats(name, recipient) {
      session.assertOpen();
      const queue = find(name);
      const inbox = queue?.inboxes.get(recipient);
      if (queue === undefined || inbox === undefined) return { waiting: 0, leased: 0, delayed: 0, dead: 0, expired: 0 };
      const now = clock.now();
      inbox.list.release(now);
      expire(queue, inbox, now);
      const { waiting, list, expired } = inbox;
      const isIdle = (item: Item): boolean => item.state === "idle" && item.expiresAt > now;
      return {
        waiting: waiting.items().filter(isIdle).length,
        leased: list.leased.size,
        delayed: list.parkedWork().filter(isIdle).length,
        dead: list.dead.size,
        expired,
      };
    },
  };
}

function createInbox(queue: MemoryQueue): Inbox {
  const waiting = createHeap<Item>(
    (a, b) => a.priority > b.priority || (a.priority === b.priority && a.arrival < b.arrival),
  );
  const inbox: Inbox = {
    waiting,
    expiries: createHeap((a, b) => a.expiresAt < b.expiresAt),
    bell: createBell(),
    expired: 0,
    expiredUnreported: 0,
    list: new WorkList<Item>({
      next(now) {
        expire(queue, inbox, now);
        for (let item = waiting.pop(); item !== undefined; item = waiting.pop()) {
          if (item.state === "over") continue;
          if (item.expiresAt <= now) {
            // It expired while a handler had it, and came back.
            endExpired(queue, inbox, item);
            continue;
          }
          item.state = "leased";
          return item;
        }
        return undefined;
      },
      restore(item) {
        if (item.state === "over") return;
        item.state = "idle";
        waiting.push(item);
      },
      parked(item) {
        item.state = "idle";
      },
      finished(item) {
        item.state = "over";
        queue.items.delete(item.id);
      },
    }),
  };
  return inbox;
}

/** An inbox as one consumer sees it: rules are each consumer's own. */
function sourceOf(inbox: Inbox, rules: QueueConsumer): FeedSource {
  const { list } = inbox;
  return {
    take(want, outcomes, now) {
      const served = list.serve(want, outcomes, now, rules);
      const expired = inbox.expiredUnreported;
      inbox.expiredUnreported = 0;
      return { ...served, gone: 0, expired };
    },
    extend: (receipts, now) => receipts.filter((receipt) => !list.extend(receipt, now + rules.leaseMs)),
    giveBack: (consumer) => list.giveBack(consumer),
    nextReadyAt: () => list.nextReadyAt(),
  };
}

function add(
  queue: MemoryQueue,
  inbox: Inbox,
  { id, header, data, priority, delayMs, ttlMs }: Omit<NewItem, "recipient">,
  now: number,
): void {
  queue.arrivals += 1;
  const item: Item = {
    id,
    position: id,
    header,
    data: toStored(data),
    priority,
    arrival: queue.arrivals,
    expiresAt: ttlMs === undefined ? Number.POSITIVE_INFINITY : now + ttlMs,
    attempts: 0,
    firstFailedAt: undefined,
    state: "idle",
  };
  queue.items.set(id, item);
  if (ttlMs !== undefined) inbox.expiries.push(item);
  if (delayMs > 0) inbox.list.park(item, now + delayMs);
  else inbox.waiting.push(item);
  inbox.bell.ring();
}

/** Puts a dead item back as a new one that does not expire. @returns false when the queue holds its id already */
function redrive(queue: MemoryQueue, inbox: Inbox, dead: Item): boolean {
  if (queue.items.has(dead.id)) return false;
  const { id, header, data, priority } = dead;
  add(queue, inbox, { id, header, data, priority, delayMs: 0, ttlMs: undefined }, 0);
  return true;
}

/** Ends what has expired while it waited. A running delivery is left alone: its item ends when it comes back. */
function expire(queue: MemoryQueue, inbox: Inbox, now: number): void {
  for (let item = inbox.expiries.peek(); item !== undefined && item.expiresAt <= now; item = inbox.expiries.peek()) {
    inbox.expiries.pop();
    if (item.state === "idle") endExpired(queue, inbox, item);
  }
}

function endExpired(queue: MemoryQueue, inbox: Inbox, item: Item): void {
  item.state = "over";
  queue.items.delete(item.id);
  inbox.expired += 1;
  inbox.expiredUnreported += 1;
}
