/** An item of a queue, and how it stands with each of those whom it is for. */

import type { Bytes, RecipientState, StoredItem } from "../../core/backend.js";
import type { ItemState, RecordState } from "../../core/records-port.js";
import type { Ranked } from "./levels.js";
import { toBytes } from "./stored.js";
import type { Lease, Work } from "./worklist.js";

/** Where a share is waiting, or whence it was taken: an inbox, as far as items know it. */
export interface Place {
  readonly recipient: string;
  add(share: Share, delayMs: number, now: number): void;
  /** Ends it for this recipient, whoever holds it. `gone`: without anybody having finished it. */
  end(share: Share, as: "acked" | "dead" | "expired" | "gone", now: number): void;
  /** Ends it to make room for others. */
  drop(share: Share, now: number): void;
  /** Brings it up to date, as far as the clock alone decides. */
  update(now: number): void;
}

/** Stored once, whoever it is for. */
export interface Item {
  readonly id: string;
  readonly header: string;
  readonly data: Bytes;
  readonly priority: number;
  /** Grows from one item of a queue to the next. */
  readonly arrival: number;
  /** When it was pushed. */
  readonly at: number;
  expiresAt: number | undefined;
  /** Those that are indexed. */
  readonly fields: ReadonlyMap<string, string>;
  /** One for each of those whom it is for. */
  readonly shares: Share[];
  /** How many of them have it to finish. */
  open: number;
}

/** Recipients of one item that are shown. */
const MAX_SHOWN = 1_000;

/** One item on its way to one recipient. */
export class Share implements Work, Ranked {
  readonly item: Item;
  readonly inbox: Place;
  /** `gone`: dropped, removed, or forgotten with its recipient. */
  state: ItemState | "gone" = "waiting";
  expiresAt: number;
  attempts = 0;
  firstFailedAt: number | undefined = undefined;
  lease: Lease<Share> | undefined = undefined;
  /** When it is due, or was finished. */
  until: number | undefined = undefined;
  /** When it was last put back for a retry, or finished. */
  updatedAt: number;

  constructor(item: Item, inbox: Place) {
    this.item = item;
    this.inbox = inbox;
    this.expiresAt = item.expiresAt ?? Number.POSITIVE_INFINITY;
    this.updatedAt = item.at;
  }

  get position(): string {
    return this.item.id;
  }

  get header(): string {
    return this.item.header;
  }

  get data(): Bytes {
    return this.item.data;
  }

  get priority(): number {
    return this.item.priority;
  }

  get arrival(): number {
    return this.item.arrival;
  }

  get isWaiting(): boolean {
    return this.state === "waiting";
  }

  /** Not held by anybody. */
  get isIdle(): boolean {
    return this.state === "waiting" || this.state === "delayed";
  }

  get isOpen(): boolean {
    return this.isIdle || this.state === "leased";
  }
}

/** The share of one recipient who has the item to finish. */
export function openShareOf(item: Item | undefined, recipient: string): Share | undefined {
  return item?.shares.find((share) => share.inbox.recipient === recipient && share.isOpen);
}

export function stateOf(item: Item): RecordState {
  if (item.open > 0) return "open";
  const ends = new Set(item.shares.map(({ state }) => state));
  return ends.has("dead") ? "dead" : ends.has("expired") ? "expired" : "acked";
}

/** @param shown the shares that are to be seen */
export function toStoredItem(item: Item, shown: readonly Share[]): StoredItem {
  const { id, header, data, priority, at, expiresAt } = item;
  const inOrder = [...shown.filter(({ isOpen }) => isOpen), ...shown.filter(({ isOpen }) => !isOpen)];
  return {
    id,
    header,
    data: toBytes(data),
    priority,
    at,
    updatedAt: Math.max(at, ...inOrder.map(({ updatedAt }) => updatedAt)),
    expiresAt,
    state: stateOf(item),
    recipients: inOrder.slice(0, MAX_SHOWN).map(toRecipientState),
  };
}

function toRecipientState({ inbox, state, attempts, lease, until }: Share): RecipientState {
  const { recipient } = inbox;
  // What is gone is never shown.
  const shown = { recipient, state: state as ItemState, attempts };
  const time = lease?.until ?? until;
  return time === undefined ? shown : { ...shown, until: time };
}
