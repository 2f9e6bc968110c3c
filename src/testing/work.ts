/** The log and the queue behind one face, as far as they share it: so that each case of consuming is written once. */

import type { Backend, DeadLetter, DeadLetters, Feed } from "../core/backend.js";
import type { ContractCase, ContractStore } from "./contract.js";
import {
  allLetters,
  collect,
  deadLetter,
  entry,
  GROUP,
  item,
  LIMITS,
  LONG_LEASE_MS,
  ROOMY,
  settled,
} from "./fixtures.js";

export type ConsumedPort = "log" | "queue";

/** The counts that both ports have, under one name each. */
export interface WorkCounts {
  /** Never taken, and ready to be. */
  readonly ready: number;
  readonly held: number;
  /** Waiting for their retry. */
  readonly later: number;
  readonly dead: number;
}

/** Messages and consumers of one group, or of one recipient. */
export interface Work {
  /** Stores one message for each text, in order; resolves with their positions. */
  add(...texts: readonly string[]): Promise<readonly string[]>;
  /** Opens a consumer; by default under a new name and on the store's first backend. */
  open(more?: { readonly backend?: Backend; readonly consumer?: string; readonly leaseMs?: number }): Promise<Feed>;
  /** By default as the store's first backend has them. */
  letters(backend?: Backend): DeadLetters;
  counts(): Promise<WorkCounts>;
}

export interface WorkSettings {
  readonly leaseMs?: number;
  readonly maxAttempts?: number;
  readonly maxDeadLetters?: number;
}

/** Starts with an empty group of an empty stream, or an empty recipient of an empty queue. */
export function startWork(port: ConsumedPort, store: ContractStore, settings: WorkSettings = {}): Promise<Work> {
  return port === "log" ? startLog(store, settings) : startQueue(store, settings);
}

/** A case for each port that is consumed: its title is the port and `title`. */
export function bothPorts(
  title: string,
  run: (store: ContractStore, start: (settings?: WorkSettings) => Promise<Work>, port: ConsumedPort) => Promise<void>,
): ContractCase[] {
  return (["log", "queue"] as const).map((port) => ({
    title: `${port}: ${title}`,
    run: (store) => run(store, (settings) => startWork(port, store, settings), port),
  }));
}

/** Adds messages, and makes each a dead letter at its first attempt; resolves with all letters there are. */
export async function parkAll(
  store: ContractStore,
  work: Work,
  texts: readonly string[],
): Promise<readonly DeadLetter[]> {
  await work.add(...texts);
  const feed = await work.open();
  const deliveries = await collect(store, feed, texts.length);
  await settled(feed, ...deliveries.map((delivery) => deadLetter(delivery)));
  await feed.close();
  return allLetters(work.letters());
}

async function startLog(store: ContractStore, settings: WorkSettings): Promise<Work> {
  const { log } = store.backend;
  const stream = store.name();
  const group = store.name();
  await log.createGroup(stream, group, { ...GROUP, ...settings });
  return {
    add: async (...texts) => {
      const appended = await log.append(stream, texts.map(entry), ROOMY);
      return appended.map(({ position }) => position);
    },
    // The lease belongs to the group, so that a consumer cannot have one of its own.
    open: ({ backend = store.backend, consumer = store.name() } = {}) => backend.log.open(stream, group, consumer),
    letters: (backend = store.backend) => backend.log.deadLetters(stream, group),
    counts: async () => {
      const stats = await log.stats(stream);
      const own = stats.groups.find((one) => one.group === group);
      if (own === undefined) throw new Error("the stream's stats lack its group");
      return { ready: own.lag, held: own.pending, later: own.retrying, dead: own.dead };
    },
  };
}

async function startQueue(store: ContractStore, settings: WorkSettings): Promise<Work> {
  const { queue } = store.backend;
  const name = store.name();
  const recipient = store.name();
  const { leaseMs: usualLeaseMs = LONG_LEASE_MS, maxAttempts = 5, maxDeadLetters = 100 } = settings;
  let added = 0;
  return {
    add: async (...texts) => {
      const items = texts.map((data) => item(`id-${(added += 1)}`, { recipient, header: `header of ${data}`, data }));
      const pushed = await queue.push(name, items, LIMITS);
      return pushed.map(({ id }) => id);
    },
    open: ({ backend = store.backend, consumer = store.name(), leaseMs = usualLeaseMs } = {}) =>
      backend.queue.open(name, recipient, { consumer, leaseMs, maxAttempts, maxDeadLetters }),
    letters: (backend = store.backend) => backend.queue.deadLetters(name, recipient),
    counts: async () => {
      const { waiting, leased, delayed, dead } = await queue.stats(name, recipient);
      return { ready: waiting, held: leased, later: delayed, dead };
    },
  };
}
