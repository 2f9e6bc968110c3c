/**
 * A queue as a model has it: how each item may stand with each recipient, as far as the time is known. Between two looks
 * at a real clock it is known only within bounds, and then more than one thing may be right; on a fake clock hardly ever.
 */

import { ok } from "node:assert/strict";
import type { RecordState } from "../core/backend.js";

/** A moment between two that were read off the store's clock. */
export interface Moment {
  readonly from: number;
  readonly to: number;
}

export function later({ from, to }: Moment, ms: number): Moment {
  return { from: from + ms, to: to + ms };
}

export type Standing = "waiting" | "delayed" | "leased" | "expired";

/** How a share came to its end. `gone`: removed. */
export type End = "acked" | "dead" | "expired" | "gone";

export interface ModelItem {
  readonly id: string;
  readonly priority: number;
  /** Its giver chose the id, which is remembered. */
  readonly isChosen: boolean;
  /** The value of its indexed field. */
  readonly kind: string;
  /** Its place among all items; undefined where that is nobody's business: it was redriven. */
  age: number | undefined;
  /** One for each of its recipients. */
  shares: readonly ModelShare[];
}

interface ModelLease {
  readonly receipt: string;
  readonly until: Moment;
}

/** An item for one recipient. */
export interface ModelShare {
  readonly item: ModelItem;
  readonly recipient: string;
  /** Its place among those of its priority; undefined where that is nobody's business: it was redriven. */
  age: number | undefined;
  expiresAt: Moment | undefined;
  /** Not ready before. */
  dueAt: Moment | undefined;
  lease: ModelLease | undefined;
  end: End | undefined;
  /** Attempts that were counted. */
  attempts: Moment;
}

/** What is known of one recipient besides its shares. */
export interface ModelRecipient {
  readonly name: string;
  isPaused: boolean;
  /** One for each dead letter, the oldest first among those of one id. */
  dead: readonly ModelItem[];
  /** How many have expired. */
  expired: Moment;
}

/** All that may be true of a share at some time within `at`; nothing once it is over. */
export function standingsOf({ end, lease, dueAt, expiresAt }: ModelShare, at: Moment): ReadonlySet<Standing> {
  const standings = new Set<Standing>();
  if (end !== undefined) return standings;
  if (lease !== undefined) standings.add("leased");
  const isHeld = lease !== undefined && lease.until.from > at.to;
  if (isHeld) return standings;
  const mayBeOpen = expiresAt === undefined || expiresAt.to > at.from;
  const mayBeDue = dueAt === undefined || dueAt.from <= at.to;
  const mayBeEarly = dueAt !== undefined && dueAt.to > at.from;
  if (mayBeOpen && mayBeDue) standings.add("waiting");
  if (mayBeOpen && mayBeEarly && lease === undefined) standings.add("delayed");
  if (expiresAt !== undefined && expiresAt.from <= at.to) standings.add("expired");
  return standings;
}

/** Whether a share stands so, and cannot stand otherwise. */
export function surely(share: ModelShare, standing: Standing, at: Moment): boolean {
  const standings = standingsOf(share, at);
  return standings.size === 1 && standings.has(standing);
}

/** Whether `a` has to be handed out before `b`. */
export function comesBefore(a: ModelShare, b: ModelShare): boolean {
  if (a.item.priority !== b.item.priority) return a.item.priority > b.item.priority;
  return a.age !== undefined && b.age !== undefined && a.age < b.age;
}

function isOpen({ end }: ModelShare): boolean {
  return end === undefined;
}

/** All that may be true of an item at some time within `at`. */
export function recordStatesOf({ shares }: ModelItem, at: Moment): ReadonlySet<RecordState> {
  const states = new Set<RecordState>();
  const open = shares.filter(isOpen);
  if (open.some((share) => !surely(share, "expired", at))) states.add("open");
  if (open.some((share) => !standingsOf(share, at).has("expired"))) return states;
  const ends = new Set([...shares.map(({ end }) => end), ...(open.length > 0 ? ["expired"] : [])]);
  return states.add(ends.has("dead") ? "dead" : ends.has("expired") ? "expired" : "acked");
}

export class QueueModel {
  /** Whether finished items stay as records. */
  readonly keepsRecords: boolean;
  /** The last item of each id: unfinished, a record, or where no records are kept perhaps neither. */
  readonly items: Map<string, ModelItem> = new Map();
  readonly recipients: ReadonlyMap<string, ModelRecipient>;
  readonly #remembered = new Set<string>();
  /** Ids of which it is not known whether a dead item opened again is the one it was. */
  readonly #unclear = new Set<string>();
  #ages = 0;

  constructor(recipients: readonly string[], keepsRecords: boolean) {
    const start = { isPaused: false, dead: [], expired: { from: 0, to: 0 } };
    this.recipients = new Map(recipients.map((name) => [name, { name, ...start }]));
    this.keepsRecords = keepsRecords;
  }

  recipient(name: string): ModelRecipient {
    const found = this.recipients.get(name);
    ok(found !== undefined, `there is no recipient ${name}`);
    return found;
  }

  /** Everything unfinished, of one recipient or of all. */
  open(recipient?: string): readonly ModelShare[] {
    const shares = [...this.items.values()].flatMap((item) => item.shares);
    return shares.filter((share) => isOpen(share) && (recipient === undefined || share.recipient === recipient));
  }

  shareOf(id: string, recipient: string): ModelShare | undefined {
    return this.items.get(id)?.shares.find((share) => isOpen(share) && share.recipient === recipient);
  }

  /** The share that a receipt of this recipient's is good for. */
  heldBy(receipt: string, recipient: string): ModelShare | undefined {
    return this.open(recipient).find(({ lease }) => lease?.receipt === receipt);
  }

  /** Whether the queue has an item or a record of this id; undefined where that depends on the very moment. */
  isHeld(id: string, at: Moment): boolean | undefined {
    const item = this.items.get(id);
    if (item === undefined || this.keepsRecords) return item !== undefined;
    const states = recordStatesOf(item, at);
    return states.size > 1 ? undefined : states.has("open");
  }

  /** Whether a push of this id is a duplicate; undefined where that depends on the very moment. */
  isDuplicate(id: string, at: Moment): boolean | undefined {
    return this.#remembered.has(id) || this.isHeld(id, at);
  }

  push(
    pushed: Pick<ModelItem, "id" | "priority" | "isChosen" | "kind">,
    recipients: readonly string[],
    at: Moment,
    { ttlMs, delayMs }: { readonly ttlMs: number | undefined; readonly delayMs: number },
  ): void {
    this.#ages += 1;
    const expiresAt = ttlMs === undefined ? undefined : later(at, ttlMs);
    const dueAt = delayMs === 0 ? undefined : later(at, delayMs);
    this.#add({ ...pushed, age: this.#ages, shares: [] }, recipients, { expiresAt, dueAt });
    if (pushed.isChosen) this.#remembered.add(pushed.id);
  }

  end(share: ModelShare, as: End): void {
    share.end = as;
    share.lease = undefined;
    const known = this.recipient(share.recipient);
    if (as === "dead") known.dead = [...known.dead, share.item];
    if (as === "expired") known.expired = later(known.expired, 1);
  }

  /** Forgets an item or a record. */
  remove(item: ModelItem, at: Moment): void {
    this.settleExpired(at);
    for (const share of item.shares.filter(isOpen)) {
      const known = this.recipient(share.recipient);
      if (standingsOf(share, at).has("expired")) known.expired = { ...known.expired, to: known.expired.to + 1 };
      this.end(share, "gone");
    }
    this.items.delete(item.id);
  }

  /** What has surely expired is over. */
  settleExpired(at: Moment): void {
    for (const share of this.open()) if (surely(share, "expired", at)) this.end(share, "expired");
  }

  /** Nobody holds it any more. @param uncounted how many of its attempts do not count */
  release(share: ModelShare, uncounted: Moment = { from: 0, to: 0 }): void {
    share.lease = undefined;
    share.dueAt = undefined;
    share.attempts = { from: share.attempts.from - uncounted.to, to: share.attempts.to - uncounted.from };
  }

  /**
   * Whether a dead item can be put back: unless the queue has its id otherwise than as this very item. Undefined where the
   * moment decides.
   */
  canRedrive(dead: ModelItem, at: Moment): boolean | undefined {
    if (this.#unclear.has(dead.id)) return undefined;
    if (this.#isStillHeld(dead, at)) return true;
    const isHeld = this.isHeld(dead.id, at);
    return isHeld === undefined ? undefined : !isHeld;
  }

  /** A dead one is ready again, for this recipient, as if it were new, and expires no more. */
  redrive(dead: ModelItem, recipient: string, at: Moment): void {
    const known = this.recipient(recipient);
    const index = known.dead.indexOf(dead);
    known.dead = known.dead.filter((_item, place) => place !== index);
    if (this.isHeld(dead.id, at) === undefined) this.#unclear.add(dead.id);
    const times = { expiresAt: undefined, dueAt: undefined };
    if (this.#isStillHeld(dead, at)) {
      const others = dead.shares.filter((share) => share.recipient !== recipient);
      dead.shares = [...others, newShare(dead, recipient, undefined, times)];
    } else {
      this.#add({ ...dead, age: undefined, shares: [] }, [recipient], times);
    }
  }

  /** Whether it is an unfinished item or a record, and not forgotten and perhaps pushed anew. */
  #isStillHeld(item: ModelItem, at: Moment): boolean {
    return this.items.get(item.id) === item && this.isHeld(item.id, at) === true;
  }

  #add(item: ModelItem, recipients: readonly string[], times: Times): void {
    // What had this id before has expired, or it would be held.
    for (const share of this.items.get(item.id)?.shares ?? []) if (isOpen(share)) this.end(share, "expired");
    this.items.set(item.id, item);
    item.shares = recipients.map((recipient) => newShare(item, recipient, item.age, times));
  }
}

type Times = Pick<ModelShare, "expiresAt" | "dueAt">;

function newShare(item: ModelItem, recipient: string, age: number | undefined, times: Times): ModelShare {
  return { item, recipient, age, ...times, lease: undefined, end: undefined, attempts: { from: 0, to: 0 } };
}
