/** What a chaos run publishes to its queue and how the handlers behave: all of it follows from numbers, so that any process knows it. */

import { idOf, type Payload, payloadOf } from "./chaos-load.js";
import { EVERYBODY, type ItemInvoke, type OfItem, type QueueTraits } from "./history-items.js";
import { hashOf } from "./random.js";
import type { EndedAs } from "./history-log.js";

/** The one queue that a run is about; it lies in the slot of the stream, so that one fault meets both. */
export const QUEUE = "chaos-24705";
/** Those that are registered. */
export const AUDIENCE: readonly string[] = ["ada", "bob", "cyd"];
/** All that have messages: whoever consumes the queue, and each of the audience. */
export const RECIPIENTS: readonly string[] = ["", ...AUDIENCE];

/** Mostly a few, so that equals wait together; some as large and as small as they may be. */
const PRIORITIES = [0, 0, 0, 0, 1, 1, 5, 5, 100, -3, -3, Number.MAX_SAFE_INTEGER, Number.MIN_SAFE_INTEGER];

export type Item = Omit<ItemInvoke, "op" | "t" | "n">;

export function itemOf(p: number, n: number): Item {
  const hash = hashOf(p, n, 4);
  const priority = PRIORITIES[hash % PRIORITIES.length] ?? 0;
  const share = hashOf(hash, 1) % 100;
  const to = share < 10 ? EVERYBODY : share < 30 ? (AUDIENCE[share % AUDIENCE.length] ?? "") : "";
  return { to, priority, ...timesOf(hashOf(hash, 2)) };
}

function timesOf(hash: number): Pick<Item, "ttlMs" | "delayMs"> {
  const share = hash % 100;
  const ms = (hash >>> 8) % 1_000;
  if (share < 8) return { delayMs: 20 + ms };
  if (share < 20) return { ttlMs: 50 + ms };
  // Some expire before they are ready, whatever happens.
  if (share < 22) return { ttlMs: 50 + (ms >>> 2), delayMs: 400 + ms };
  return share < 24 ? { ttlMs: 2_000 + ms, delayMs: 1 + (ms >>> 1) } : {};
}

/** The message that has this id, where its publisher gave it one. */
export function itemNamed(id: string): { readonly p: number; readonly n: number } | undefined {
  const [, p, n] = /^chaos-(\d+)-(\d+)$/.exec(id) ?? [];
  return p === undefined || n === undefined || idOf(Number(p), Number(n)) !== id
    ? undefined
    : { p: Number(p), n: Number(n) };
}

interface Arrived {
  readonly priority?: number;
  readonly target?: string;
}

/** What was published, from what was delivered; or, as text, what is wrong with it. */
export function itemIn(data: unknown, { priority = 0, target }: Arrived): Payload | string {
  if (typeof data !== "object" || data === null) return `the data are ${typeof data}`;
  const { p, n, pad } = data as Partial<Payload>;
  if (!Number.isSafeInteger(p) || !Number.isSafeInteger(n)) return `no message: ${JSON.stringify(data).slice(0, 200)}`;
  const published = payloadOf(Number(p), Number(n));
  if (pad !== published.pad) return `message ${p}-${n} has other data than it was published with`;
  const item = itemOf(published.p, published.n);
  if (priority !== item.priority) return `message ${p}-${n} has the priority ${priority}, and not ${item.priority}`;
  const expected = AUDIENCE.includes(item.to) ? item.to : undefined;
  return target === expected ? published : `message ${p}-${n} has the target ${target}, and not ${expected}`;
}

export interface ItemBehaviour {
  /** How long the handler takes. */
  readonly ms: number;
  readonly as: EndedAs;
  /** For a retry and for putting off. */
  readonly delayMs: number;
  /** Nobody renews its lease meanwhile, so that the outcome comes too late. */
  readonly isLate: boolean;
}

/** What the handler of an attempt does: mostly it acknowledges soon. */
export function itemBehaviourOf(seed: number, { leaseMs }: QueueTraits, { r, p, n, a }: OfItem): ItemBehaviour {
  const hash = hashOf(seed, p, n, RECIPIENTS.indexOf(r), 5);
  const share = (hash >>> 4) % 2_000;
  const delayMs = [0, 0, 15, 150][hash % 4] ?? 0;
  const ms = durationOf(hashOf(hash, a), leaseMs);
  const isLate = a === 1 && share >= 1_990;
  if (isLate) return { ms: Math.round(leaseMs * 1.2), as: share % 2 === 0 ? "ack" : "retry", delayMs, isLate };
  return { ms, as: outcomeOf(share, a), delayMs, isLate };
}

function durationOf(hash: number, leaseMs: number): number {
  if (hash % 2_000 === 0) return Math.round(leaseMs * 1.3); // has to be renewed
  return hash % 8 === 1 ? 1 + (hash % 20) : 1;
}

function outcomeOf(share: number, a: number): EndedAs {
  if (share < 6) return "retry"; // always: a dead letter once its attempts are used up
  if (share < 14) return "dead";
  if (share < 24) return a === 1 ? "defer" : "ack"; // uncounted: it comes again as the first
  if (share < 120) return a === 1 ? "retry" : "ack";
  return "ack";
}
