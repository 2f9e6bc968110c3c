/** The small vocabulary that the cases are written in: things to store, ways to take and settle, and what to expect. */

import { deepEqual, ok, rejects } from "node:assert/strict";
import type {
  Bytes,
  DeadLetter,
  DeadLetters,
  DeadReason,
  Delivery,
  Feed,
  GroupSettings,
  GroupStats,
  NewEntry,
  NewItem,
  Outcome,
  QueueLimits,
  QueueStats,
  Receipt,
  Retention,
  Taken,
} from "../core/backend.js";
import { type ErrorCode, SignalboxError } from "../core/errors.js";
import type { ContractStore } from "./contract.js";
import { PROMPT_MS } from "./waiting.js";

/** A lease that no case outlives. */
export const LONG_LEASE_MS = 60_000;
/** A lease to be outlived: short enough to wait for on a real server, long enough to settle in on a slow machine. */
export const SHORT_LEASE_MS = 1_500;
/** Longer than any case waits: a call that resolves at all was woken. */
export const LONG_WAIT_MS = 20_000;

export const GROUP: GroupSettings = {
  from: "beginning",
  leaseMs: LONG_LEASE_MS,
  maxAttempts: 5,
  maxDeadLetters: 100,
  order: "none",
  maxHeld: 1_000,
};
export const ROOMY: Retention = { maxEntries: 10_000, overflow: "reject" };
export const LIMITS: QueueLimits = { maxItems: 10_000 };
export const REASON: DeadReason = { kind: "failed", message: "it would not go" };

/** An entry that holds `text`. */
export function entry(text: string): NewEntry {
  return { header: `header of ${text}`, data: text };
}

/** An entry that holds `text`; where that has a colon, its key is what stands before it: `a:1`, `a:2`, `b:1`. */
export function keyed(text: string): NewEntry {
  const [key, rest] = text.split(":");
  return key === undefined || rest === undefined ? entry(text) : { ...entry(text), key };
}

/** An item with this id that holds it as its data, for the shared recipient, at priority 0, without delay or expiry. */
export function item(id: string, more: Partial<NewItem> = {}): NewItem {
  return { id, recipient: "", header: `header of ${id}`, data: id, priority: 0, delayMs: 0, ...more };
}

export function textOf({ data }: { readonly data: Bytes }): string {
  return typeof data === "string" ? data : new TextDecoder().decode(data);
}

export function textsOf(messages: readonly { readonly data: Bytes }[]): string[] {
  return messages.map(textOf);
}

/** `["a", "a#2"]`: what each delivery holds, and which attempt it is where that is not the first. */
export function attemptsOf(deliveries: readonly Delivery[]): string[] {
  return deliveries.map((delivery) => textOf(delivery) + (delivery.attempt === 1 ? "" : `#${delivery.attempt}`));
}

/** How much of each a group has, to be compared. */
export type GroupCounts = Pick<GroupStats, "group" | "lag" | "pending" | "retrying" | "held" | "dead">;

export function countsOf({ group, lag, pending, retrying, held, dead }: GroupStats): GroupCounts {
  return { group, lag, pending, retrying, held, dead };
}

/** How much of each a recipient has, to be compared. */
export type ItemCounts = Pick<QueueStats, "waiting" | "leased" | "delayed" | "dead" | "expired">;

export function itemCountsOf({ waiting, leased, delayed, dead, expired }: QueueStats): ItemCounts {
  return { waiting, leased, delayed, dead, expired };
}

/** `count` texts that tell their order: `prefix1`, `prefix2` … */
export function numbered(prefix: string, count: number): string[] {
  return Array.from({ length: count }, (_, index) => `${prefix}${index + 1}`);
}

export function ack({ receipt }: Delivery): Outcome {
  return { receipt, as: "ack" };
}

/** A counted retry, at once unless `delayMs` is given. */
export function retry({ receipt }: Delivery, delayMs: number = 0): Outcome {
  return { receipt, as: "retry", delayMs, counted: true };
}

/** An uncounted retry, at once. */
export function defer({ receipt }: Delivery): Outcome {
  return { receipt, as: "retry", delayMs: 0, counted: false };
}

export function deadLetter({ receipt }: Delivery, reason: DeadReason = REASON): Outcome {
  return { receipt, as: "deadLetter", reason };
}

/** Takes what is there now. */
export function take(feed: Feed, max: number = 100): Promise<Taken> {
  return feed.take({ max, waitMs: 0 }, []);
}

/** Settles and takes nothing; resolves with what was lost. */
export async function settle(feed: Feed, ...outcomes: readonly Outcome[]): Promise<readonly Receipt[]> {
  return (await feed.take({ max: 0, waitMs: 0 }, outcomes)).lost;
}

/** Settles, and expects every outcome to count. */
export async function settled(feed: Feed, ...outcomes: readonly Outcome[]): Promise<void> {
  deepEqual(await settle(feed, ...outcomes), [], "every outcome counts");
}

/** Successive takes, added up. */
export interface Haul {
  readonly deliveries: readonly Delivery[];
  readonly gone: number;
  readonly expired: number;
  readonly poisoned: number;
}

/** Takes without waiting, again and again while the store's clock passes, until `enough` or `limitMs`; resolves either way. */
export async function haul(
  store: ContractStore,
  feed: Feed,
  enough: (sum: Haul) => boolean,
  limits: { readonly limitMs?: number; readonly max?: number } = {},
): Promise<Haul> {
  const { limitMs = PROMPT_MS, max = 100 } = limits;
  let sum: Haul = { deliveries: [], gone: 0, expired: 0, poisoned: 0 };
  for (let passed = 0; passed <= limitMs; passed += 100) {
    if (passed > 0) await store.elapse(100);
    const taken = await take(feed, max - sum.deliveries.length);
    sum = {
      deliveries: [...sum.deliveries, ...taken.deliveries],
      gone: sum.gone + taken.gone,
      expired: sum.expired + taken.expired,
      poisoned: sum.poisoned + taken.poisoned,
    };
    if (enough(sum)) break;
  }
  return sum;
}

/** Takes exactly `count` deliveries, passing time as far as it takes. */
export async function collect(store: ContractStore, feed: Feed, count: number): Promise<readonly Delivery[]> {
  const { deliveries } = await haul(store, feed, (sum) => sum.deliveries.length >= count, { max: count });
  ok(
    deliveries.length === count,
    `expected ${count} deliveries, got ${deliveries.length}: ${attemptsOf(deliveries).join()}`,
  );
  return deliveries;
}

/** Takes the one delivery that is expected. */
export async function collectOne(store: ContractStore, feed: Feed): Promise<Delivery> {
  return first(await collect(store, feed, 1));
}

/**
 * Takes the one delivery that is expected, and expects it no sooner than `ms` of the store's time after `since`.
 *
 * Time is measured and not waited for, as a busy machine may take any time between two calls.
 */
export async function collectAfter(store: ContractStore, feed: Feed, since: number, ms: number): Promise<Delivery> {
  const delivery = await collectOne(store, feed);
  const passed = (await store.now()) - since;
  ok(passed >= ms, `it came after ${passed} ms, and not before ${ms} were over`);
  return delivery;
}

/** Expects that nothing is delivered now, nor while `ms` of the store's time pass. */
export async function quiet(store: ContractStore, feed: Feed, ms: number = 0): Promise<void> {
  const { deliveries } = await haul(store, feed, (sum) => sum.deliveries.length > 0, { limitMs: ms });
  deepEqual(attemptsOf(deliveries), [], "nothing is delivered");
}

/** The only, or first, of a list that must not be empty. */
export function first<T>(list: readonly T[]): T {
  const [head] = list;
  ok(head !== undefined, "the list is not empty");
  return head;
}

/** All dead letters, read in pages of `max`. */
export async function allLetters(letters: DeadLetters, max: number = 100): Promise<DeadLetter[]> {
  const all: DeadLetter[] = [];
  let cursor: string | undefined;
  for (let pages = 0; pages < 1_000; pages += 1) {
    const page = await letters.list(cursor === undefined ? { max } : { max, cursor });
    ok(page.letters.length <= max, "a page holds at most what was asked for");
    all.push(...page.letters);
    cursor = page.cursor;
    if (cursor === undefined) return all;
  }
  throw new Error("the pages never end");
}

/** Expects a rejection with this code; `what` names the call in the message. */
export async function rejectsWith(code: ErrorCode, call: () => Promise<unknown>, what?: string): Promise<void> {
  await rejects(
    // An implementation may also throw at once.
    async () => call(),
    (error: unknown) => {
      ok(
        error instanceof SignalboxError && error.code === code,
        `${what ?? "the call"} rejects with ${code}: ${String(error)}`,
      );
      return true;
    },
    `${what ?? "the call"} rejects with ${code}`,
  );
}
