/** One queue of a store, with what the cases of queues do to it. */

import { deepEqual, equal, ok } from "node:assert/strict";
import type {
  Backend,
  Feed,
  ItemFilter,
  NewItem,
  OpenState,
  PageRequest,
  Pushed,
  Queue,
  QueueConsumer,
  QueueLimits,
  QueueStats,
  RecordSettings,
  RecordState,
  RegisteredRecipient,
  Registration,
  StoredItem,
} from "../core/backend.js";
import { SHARED_RECIPIENT } from "../core/backend.js";
import type { ContractStore } from "./contract.js";
import { allLetters, LIMITS, LONG_LEASE_MS, textsOf } from "./fixtures.js";
import { eventually } from "./waiting.js";

/** Of a recipient that no case outlives, and that an audience has. */
export const AUDIENCE: Registration = { ttlMs: 3_600_000, isAudience: true };
/** Of one that an audience has not. */
export const PRIVATE: Registration = { ttlMs: 3_600_000, isAudience: false };
/** Of one to be outlived: short enough to wait for on a real server, long enough to do something before. */
export const SHORT_TTL_MS = 1_500;
export const OUTLIVED_MS: number = SHORT_TTL_MS + 600;

export interface TestQueue {
  readonly name: string;
  /** As the store's first backend has it. */
  readonly queue: Queue;
  push(...items: readonly NewItem[]): Promise<readonly Pushed[]>;
  pushWithin(limits: QueueLimits, ...items: readonly NewItem[]): Promise<readonly Pushed[]>;
  /** Opens a consumer; by default under a new name, of the shared recipient, on the store's first backend. */
  open(recipient?: string, more?: Partial<QueueConsumer> & { readonly backend?: Backend }): Promise<Feed>;
  register(recipients: readonly string[], registration?: Registration): Promise<void>;
  /** All registered recipients, read in pages of `max`. */
  recipients(max?: number): Promise<readonly RegisteredRecipient[]>;
  stats(recipient?: string): Promise<QueueStats>;
  /** What a recipient's dead letters hold. */
  letters(recipient?: string): Promise<readonly string[]>;
  configure(settings: Partial<RecordSettings>): Promise<RecordSettings>;
  /** All of a recipient's items, read in pages of `max`. */
  browse(recipient: string, state?: OpenState, max?: number): Promise<readonly StoredItem[]>;
  /** All items that match, read in pages of `max`. */
  list(filter?: ItemFilter, max?: number): Promise<readonly StoredItem[]>;
}

export function startQueue(store: ContractStore, name: string = store.name()): TestQueue {
  const { queue } = store.backend;
  return {
    name,
    queue,
    push: (...items) => queue.push(name, items, LIMITS),
    pushWithin: (limits, ...items) => queue.push(name, items, limits),
    open: (recipient = SHARED_RECIPIENT, { backend = store.backend, ...more } = {}) => {
      const usual = { consumer: store.name(), leaseMs: LONG_LEASE_MS, maxAttempts: 5, maxDeadLetters: 100 };
      return backend.queue.open(name, recipient, { ...usual, ...more });
    },
    register: async (recipients, registration = AUDIENCE) => {
      for (const recipient of recipients) await queue.register(name, recipient, registration);
    },
    recipients: (max = 1_000) =>
      allPages(max, async (page) => {
        const { recipients, ...rest } = await queue.recipients(name, page);
        return { all: recipients, ...rest };
      }),
    stats: (recipient = SHARED_RECIPIENT) => queue.stats(name, recipient),
    letters: async (recipient = SHARED_RECIPIENT) => textsOf(await allLetters(queue.deadLetters(name, recipient))),
    configure: (settings) => queue.configure(name, { keepAckedMs: 0, maxRecords: 0, index: undefined, ...settings }),
    browse: (recipient, state, max = 100) =>
      allPages(max, async (page) => {
        const { items, ...rest } = await queue.browse(name, recipient, page, state);
        return { all: items, ...rest };
      }),
    list: (filter = {}, max = 100) =>
      allPages(max, async (page) => {
        const { items, ...rest } = await queue.list(name, filter, page);
        return { all: items, ...rest };
      }),
  };
}

/** All that the pages hold, of which each holds at most `max`. */
async function allPages<T>(
  max: number,
  read: (page: PageRequest) => Promise<{ readonly all: readonly T[]; readonly cursor?: string }>,
): Promise<readonly T[]> {
  const found: T[] = [];
  let cursor: string | undefined;
  for (let pages = 0; pages < 10_000; pages += 1) {
    const page = await read(cursor === undefined ? { max } : { max, cursor });
    ok(page.all.length <= max, "a page holds at most what was asked for");
    found.push(...page.all);
    cursor = page.cursor;
    if (cursor === undefined) return found;
  }
  throw new Error("the pages never end");
}

export function idsOf(items: readonly { readonly id: string }[]): string[] {
  return items.map(({ id }) => id);
}

export function namesOf(recipients: readonly RegisteredRecipient[]): string[] {
  return recipients.map(({ recipient }) => recipient);
}

/** Expects that the loss of what these recipients had is reported, once each, and nothing else. */
export async function expectLosses(store: ContractStore, ...recipients: readonly string[]): Promise<void> {
  const reports: string[] = [];
  await eventually(
    store,
    () => {
      reports.push(...store.takeReports());
      return reports.length >= recipients.length;
    },
    "a report of what was lost",
  );
  deepEqual(
    recipients.filter((recipient) => reports.some((text) => text.includes("DataLoss") && text.includes(recipient))),
    recipients,
    reports.join("\n"),
  );
  deepEqual(reports.length, recipients.length, reports.join("\n"));
}

/** `["anna:acked", "ben:leased"]`: how an item stands with each that is shown. */
export function standingsOf({ recipients }: StoredItem): string[] {
  return recipients.map(({ recipient, state }) => `${recipient}:${state}`);
}

/** Of the item or record with that id. */
export async function stateOf({ queue, name }: TestQueue, id: string): Promise<RecordState | undefined> {
  return (await queue.get(name, id))?.state;
}

/** Expects that `count` tells how many `list` gives, in pages of several sizes, and that these are the ones. */
export async function expectListed(work: TestQueue, filter: ItemFilter, ids: readonly string[]): Promise<void> {
  for (const max of [100, 2]) deepEqual(idsOf(await work.list(filter, max)), ids, JSON.stringify(filter));
  equal(await work.queue.count(work.name, filter), ids.length, JSON.stringify(filter));
}
