/** How a bug is planted: a sound backend, of which some methods are replaced. */

import type {
  Backend,
  BackendContext,
  Delivery,
  Feed,
  Log,
  Membership,
  Outcome,
  Queue,
  Taken,
} from "../../../src/core/backend.js";

export interface PlantedBug {
  readonly title: string;
  /** Titles of cases that must fail. */
  readonly caughtBy: readonly string[];
  plant(sound: Backend, context: BackendContext): Backend;
  /** Changes what the sound backend is opened with. */
  misread?(context: BackendContext): BackendContext;
}

export function withLog(backend: Backend, change: (log: Log) => Partial<Log>): Backend {
  return { ...backend, log: { ...backend.log, ...change(backend.log) } };
}

export function withQueue(backend: Backend, change: (queue: Queue) => Partial<Queue>): Backend {
  return { ...backend, queue: { ...backend.queue, ...change(backend.queue) } };
}

export function withMembership(backend: Backend, change: (membership: Membership) => Partial<Membership>): Backend {
  return { ...backend, membership: { ...backend.membership, ...change(backend.membership) } };
}

export function withFeeds(backend: Backend, change: (feed: Feed) => Partial<Feed>): Backend {
  const changed = (feed: Feed): Feed => ({ ...feed, ...change(feed) });
  return withQueue(
    withLog(backend, (log) => ({ open: async (...args) => changed(await log.open(...args)) })),
    (queue) => ({ open: async (...args) => changed(await queue.open(...args)) }),
  );
}

export function withOutcomes(backend: Backend, change: (outcome: Outcome) => readonly Outcome[]): Backend {
  return withFeeds(backend, (feed) => ({ take: (want, outcomes) => feed.take(want, outcomes.flatMap(change)) }));
}

export function withTaken(backend: Backend, change: (taken: Taken) => Taken): Backend {
  return withFeeds(backend, (feed) => ({ take: async (...args) => change(await feed.take(...args)) }));
}

export function withDeliveries(backend: Backend, change: (delivery: Delivery) => Delivery): Backend {
  return withTaken(backend, (taken) => ({ ...taken, deliveries: taken.deliveries.map(change) }));
}
