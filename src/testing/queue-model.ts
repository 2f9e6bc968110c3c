/**
 * A queue as a model has it: how each item may stand with each recipient, as far as the time is known. Between two looks
 * at a real clock it is known only within bounds, and then more than one thing may be right; on a fake clock hardly ever.
 */

import { ok } from "node:assert/strict";

/** A moment between two that were read off the store's clock. */
export interface Moment {
  readonly from: number;
  readonly to: number;
}

export function later({ from, to }: Moment, ms: number): Moment {
  return { from: from + ms, to: to + ms };
}

export type Standing = "waiting" | "delayed" | "leased" | "expired";

export interface ModelItem {
  readonly id: string;
  readonly priority: number;
  /** Its giver chose the id, which is remembered. */
  readonly isChosen: boolean;
  readonly shares: ModelShare[];
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
  isOver: boolean;
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
export function standingsOf({ isOver, lease, dueAt, expiresAt }: ModelShare, at: Moment): ReadonlySet<Standing> {
  const standings = new Set<Standing>();
  if (isOver) return standings;
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

export class QueueModel {
  readonly items = new Map<string, ModelItem>();
  readonly recipients: ReadonlyMap<string, ModelRecipient>;
  readonly #remembered = new Set<string>();
  #ages = 0;

  constructor(recipients: readonly string[]) {
    const start = { isPaused: false, dead: [], expired: { from: 0, to: 0 } };
    this.recipients = new Map(recipients.map((name) => [name, { name, ...start }]));
  }

  recipient(name: string): ModelRecipient {
    const found = this.recipients.get(name);
    ok(found !== undefined, `there is no recipient ${name}`);
    return found;
  }

  /** Everything unfinished, of one recipient or of all. */
  open(recipient?: string): readonly ModelShare[] {
    const shares = [...this.items.values()].flatMap((item) => item.shares);
    return shares.filter((share) => !share.isOver && (recipient === undefined || share.recipient === recipient));
  }

  shareOf(id: string, recipient: string): ModelShare | undefined {
    return this.items.get(id)?.shares.find((share) => !share.isOver && share.recipient === recipient);
  }

  /** The share that a receipt of this recipient's is good for. */
  heldBy(receipt: string, recipient: string): ModelShare | undefined {
    return this.open(recipient).find(({ lease }) => lease?.receipt === receipt);
  }

  /** Whether a push of this id is a duplicate; undefined where that depends on the very moment. */
  isDuplicate(id: string, at: Moment): boolean | undefined {
    if (this.#remembered.has(id)) return true;
    const shares = this.items.get(id)?.shares.filter(({ isOver }) => !isOver) ?? [];
    if (shares.every((share) => surely(share, "expired", at))) return false;
    return shares.some((share) => !standingsOf(share, at).has("expired")) ? true : undefined;
  }

  push(
    { id, priority, isChosen }: Omit<ModelItem, "shares">,
    recipients: readonly string[],
    at: Moment,
    { ttlMs, delayMs }: { readonly ttlMs: number | undefined; readonly delayMs: number },
  ): void {
    // What had this id before has expired, or it would be a duplicate.
    for (const share of this.items.get(id)?.shares ?? []) if (!share.isOver) this.expire(share);
    const item: ModelItem = { id, priority, isChosen, shares: [] };
    this.#ages += 1;
    for (const recipient of recipients) {
      item.shares.push({
        item,
        recipient,
        age: this.#ages,
        expiresAt: ttlMs === undefined ? undefined : later(at, ttlMs),
        dueAt: delayMs === 0 ? undefined : later(at, delayMs),
        lease: undefined,
        isOver: false,
        attempts: { from: 0, to: 0 },
      });
    }
    this.items.set(id, item);
    if (isChosen) this.#remembered.add(id);
  }

  finish(share: ModelShare): void {
    share.isOver = true;
    share.lease = undefined;
  }

  park(share: ModelShare): void {
    const known = this.recipient(share.recipient);
    known.dead = [...known.dead, share.item];
    this.finish(share);
  }

  expire(share: ModelShare): void {
    this.#countExpired(share, { from: 1, to: 1 });
    this.finish(share);
  }

  /** It is removed, unless it has expired before. */
  remove(share: ModelShare, at: Moment): void {
    if (standingsOf(share, at).has("expired")) this.#countExpired(share, { from: 0, to: 1 });
    this.finish(share);
  }

  /** What has surely expired is over. */
  settleExpired(at: Moment): void {
    for (const share of this.open()) if (surely(share, "expired", at)) this.expire(share);
  }

  /** Nobody holds it any more; `uncounted`: the attempt that ran does not count. */
  release(share: ModelShare, uncounted: Moment = { from: 0, to: 0 }): void {
    share.lease = undefined;
    share.dueAt = undefined;
    share.attempts = { from: share.attempts.from - uncounted.to, to: share.attempts.to - uncounted.from };
  }

  /** Whether this dead item can be put back: unless another one has its id now; undefined where the moment decides. */
  canRedrive(dead: ModelItem, at: Moment): boolean | undefined {
    const held = this.items.get(dead.id);
    if (held === undefined || held === dead) return true;
    const shares = held.shares.filter(({ isOver }) => !isOver);
    if (shares.every((share) => surely(share, "expired", at))) return true;
    return shares.some((share) => !standingsOf(share, at).has("expired")) ? false : undefined;
  }

  /** A dead one is ready again, as if it were new, and expires no more. */
  redrive(dead: ModelItem, recipient: string): void {
    const known = this.recipient(recipient);
    const index = known.dead.indexOf(dead);
    known.dead = known.dead.filter((_item, at) => at !== index);
    for (const share of this.items.get(dead.id)?.shares ?? []) {
      if (this.items.get(dead.id) !== dead && !share.isOver) this.expire(share);
    }
    const attempts = { from: 0, to: 0 };
    const fresh = { age: undefined, expiresAt: undefined, dueAt: undefined, lease: undefined, isOver: false, attempts };
    dead.shares.push({ item: dead, recipient, ...fresh });
    this.items.set(dead.id, dead);
  }

  #countExpired({ recipient }: ModelShare, { from, to }: Moment): void {
    const known = this.recipient(recipient);
    known.expired = { from: known.expired.from + from, to: known.expired.to + to };
  }
}
