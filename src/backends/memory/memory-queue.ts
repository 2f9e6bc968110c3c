/** One queue: its items, its inboxes and its recipients, and what happens between them. Time comes in as an argument. */

import type {
  Audience,
  NewItem,
  Pushed,
  QueueLimits,
  RecordSettings,
  Registration,
  Reply,
} from "../../core/backend.js";
import { queueFull, recipientLapsed } from "../../core/limits.js";
import { isReplyInbox } from "../../core/private-recipients.js";
import { Inbox, type InboxQueue } from "./inbox.js";
import { type Item, openShareOf, Share } from "./items.js";
import { Recipients, type Registered } from "./recipients.js";
import { Records } from "./records.js";
import { RememberedIds } from "./remembered-ids.js";
import { choose } from "./room.js";
import { getOrCreate } from "./session.js";
import { toStored } from "./stored.js";

/** Told that messages of an audience's recipient were lost with it. */
export type ReportLapse = (error: Error) => void;

/** Lapsed recipients that one call forgets. */
const MAX_LAPSES = 100;

export class MemoryQueue implements InboxQueue {
  readonly name: string;
  /** Everything unfinished, by id. */
  readonly items: Map<string, Item> = new Map();
  readonly inboxes: Map<string, Inbox> = new Map();
  readonly recipients: Recipients = new Recipients();
  readonly records: Records = new Records();
  readonly #ids = new RememberedIds();
  /** Of the items, those that are answers: nobody pushed them. */
  #answers = 0;
  #arrivals = 0;

  constructor(name: string) {
    this.name = name;
  }

  /** Unfinished items that were pushed. */
  get pushed(): number {
    return this.items.size - this.#answers;
  }

  inboxOf(recipient: string): Inbox {
    return getOrCreate(this.inboxes, recipient, () => new Inbox(recipient, this));
  }

  // ------------------------------------------------------------------------------------------------ pushing

  /** @throws {LimitError} */
  push(items: readonly NewItem[], limits: QueueLimits, now: number, report: ReportLapse): readonly Pushed[] {
    this.#ids.age(now);
    this.records.age(now);
    this.#meetLapsed(items, now, report);
    const { records } = limits;
    if (records !== undefined && !this.records.isConfigured && this.#holdsNothing) this.records.configure(records);
    const fresh = new Map<string, readonly string[]>();
    const audiences = new Map<Audience["audience"], readonly string[]>();
    for (const { id, recipient } of items) {
      if (this.#isKnown(id, now) || fresh.has(id)) continue;
      const isNamed = typeof recipient === "string";
      fresh.set(
        id,
        isNamed ? [recipient] : getOrCreate(audiences, recipient.audience, () => this.#audience(recipient, now)),
      );
    }
    if (this.pushed + fresh.size > limits.maxItems) this.#makeRoom([...fresh.values()], limits, now);
    return items.map((item) => {
      const recipients = fresh.get(item.id);
      if (recipients === undefined) return { id: item.id, duplicate: true, recipients: 0 };
      // The next of this id is a duplicate of this one.
      fresh.delete(item.id);
      if (item.dedupe === true) this.#ids.remember(item.id, 0, now);
      this.#add(item, recipients, now);
      return { id: item.id, duplicate: false, recipients: recipients.length };
    });
  }

  /** @param at when it was first pushed */
  #add(
    { id, header, data, priority, delayMs, ttlMs, fields }: Omit<NewItem, "recipient">,
    recipients: readonly string[],
    now: number,
    at: number = now,
  ): void {
    if (recipients.length === 0) return;
    this.#arrivals += 1;
    const item: Item = {
      id,
      header,
      data: toStored(data),
      priority,
      arrival: this.#arrivals,
      at,
      expiresAt: ttlMs === undefined ? undefined : now + ttlMs,
      fields: this.records.fieldsOf(fields),
      shares: [],
      open: recipients.length,
    };
    this.items.set(id, item);
    if (isAnswer(recipients)) this.#answers += 1;
    else this.records.add(item);
    for (const recipient of recipients) {
      const inbox = this.inboxOf(recipient);
      const share = new Share(item, inbox);
      item.shares.push(share);
      inbox.add(share, delayMs, now);
    }
  }

  /** Whether an id is held or remembered. */
  #isKnown(id: string, now: number): boolean {
    return this.find(id, now) !== undefined || this.#ids.get(id) !== undefined;
  }

  #audience({ audience }: Audience, now: number): readonly string[] {
    return this.recipients
      .present(now)
      .filter(({ isAudience, recipient }) => isAudience && (audience === "registered" || this.isOnline(recipient)))
      .map(({ recipient }) => recipient);
  }

  /** @throws {LimitError} when there is no room, and none can be made */
  #makeRoom(fresh: readonly (readonly string[])[], { maxItems, overflow }: QueueLimits, now: number): void {
    const coming = fresh.filter((recipients) => recipients.length > 0).length;
    if (coming === 0) return;
    this.update(now);
    const excess = this.pushed + coming - maxItems;
    if (excess <= 0) return;
    const inboxes = new Set(fresh.flat().flatMap((recipient) => this.inboxes.get(recipient) ?? []));
    const chosen = overflow === "drop-oldest" ? choose(excess, inboxes) : undefined;
    if (chosen === undefined) throw queueFull(this.name, maxItems);
    for (const { shares } of chosen) {
      for (const share of shares.filter(({ isOpen }) => isOpen)) share.inbox.drop(share, now);
    }
  }

  // ------------------------------------------------------------------------------------------ what ends, and after

  ended({ item }: Share, now: number): void {
    item.open -= 1;
    if (item.open > 0) return;
    this.items.delete(item.id);
    if (isAnswer(item.shares.map(({ inbox }) => inbox.recipient))) this.#answers -= 1;
    // Nothing is kept of what nobody finished.
    else if (item.shares.some(({ state }) => state !== "gone")) this.records.keep(item, now);
    else this.records.forget(item);
  }

  answered({ recipient, ...reply }: Reply, now: number): void {
    const isAwaited = (this.recipients.get(recipient)?.lapsesAt ?? now) > now;
    if (isAwaited && !this.#isKnown(reply.id, now)) this.#add({ ...reply, delayMs: 0 }, [recipient], now);
  }

  /** Puts a dead share back as one that does not expire. @returns false when the queue holds its id, and it is another item */
  redrive(dead: Share, now: number): boolean {
    const { item, inbox } = dead;
    const held = this.find(item.id, now);
    if (held === undefined) {
      const { id, header, data, priority } = item;
      const fields = Object.fromEntries(item.fields);
      this.#add({ id, header, data, priority, delayMs: 0, fields }, [inbox.recipient], now, item.at);
      return true;
    }
    if (held !== item) return false;
    if (item.open === 0) {
      this.records.reopen(item);
      this.items.set(item.id, item);
      item.expiresAt = undefined;
    }
    const share = new Share(item, inbox);
    share.expiresAt = Number.POSITIVE_INFINITY;
    item.shares[item.shares.indexOf(dead)] = share;
    item.open += 1;
    inbox.add(share, 0, now);
    return true;
  }

  /** The item or kept record of that id. */
  find(id: string, now: number): Item | undefined {
    const item = this.items.get(id);
    if (item === undefined) return this.records.get(id);
    for (const share of item.shares) {
      if (share.isIdle && share.expiresAt <= now) share.inbox.end(share, "expired", now);
    }
    return this.items.get(id) ?? this.records.get(id);
  }

  /** Ends what has expired, everywhere. */
  update(now: number): void {
    for (const inbox of this.inboxes.values()) inbox.update(now);
    this.records.age(now);
  }

  /** @returns whether the recipient had it to finish */
  acknowledge(recipient: string, id: string, now: number): boolean {
    this.find(id, now);
    const share = openShareOf(this.items.get(id), recipient);
    if (share === undefined) return false;
    share.inbox.end(share, "acked", now);
    return true;
  }

  /** @returns whether there was such an item or kept record */
  remove(id: string, now: number): boolean {
    const item = this.find(id, now);
    if (item === undefined) return false;
    for (const share of item.shares.filter(({ isOpen }) => isOpen)) share.inbox.end(share, "gone", now);
    this.records.forget(item);
    return true;
  }

  /** @returns how many items and kept records there were */
  clear(now: number): number {
    this.update(now);
    const count = this.pushed + this.records.size;
    for (const inbox of this.inboxes.values()) inbox.empty(now);
    this.records.clear();
    this.#ids.clear();
    return count;
  }

  /** @returns what is stored */
  configure(settings: RecordSettings, now: number): RecordSettings {
    this.update(now);
    if (this.#holdsNothing) this.records.configure(settings);
    return this.records.settings;
  }

  get #holdsNothing(): boolean {
    return this.pushed + this.records.size === 0;
  }

  // --------------------------------------------------------------------------------------------- recipients

  isOnline(recipient: string): boolean {
    return (this.inboxes.get(recipient)?.feeds ?? 0) > 0;
  }

  register(recipient: string, registration: Registration, now: number, report: ReportLapse): void {
    this.#lapse(recipient, now, report);
    for (const lapsed of this.recipients.lapsed(now, MAX_LAPSES)) this.#forgetLapsed(lapsed, now, report);
    this.recipients.register(this.name, recipient, registration, now);
  }

  /** Somebody reads: what is registered stays so, and what should be and is not becomes so. */
  read(recipient: string, registration: Registration | undefined, now: number, report: ReportLapse): void {
    this.#lapse(recipient, now, report);
    const isMissing = registration !== undefined && this.recipients.get(recipient) === undefined;
    if (isMissing) this.recipients.register(this.name, recipient, registration, now);
    else this.recipients.read(recipient, now);
  }

  /** A feed is open: its recipient stays registered, whether it takes or not. */
  keep(recipient: string, now: number): void {
    const known = this.recipients.get(recipient);
    if (known !== undefined && known.lapsesAt > now) this.recipients.read(recipient, now);
  }

  /** @returns whether it was registered */
  unregister(recipient: string, now: number, report: ReportLapse): boolean {
    this.#lapse(recipient, now, report);
    this.#forget(recipient, now);
    return this.recipients.forget(recipient);
  }

  /** Nothing of an inbox is left that would have to be known. */
  tidy(inbox: Inbox): void {
    if (inbox.isBlank && this.inboxes.get(inbox.recipient) === inbox) this.inboxes.delete(inbox.recipient);
  }

  /** What is pushed to a recipient that has lapsed is for whoever comes by that name later. */
  #meetLapsed(items: readonly NewItem[], now: number, report: ReportLapse): void {
    const isForAudience = items.some(({ recipient }) => typeof recipient !== "string");
    const lapsed = isForAudience ? this.recipients.lapsed(now, MAX_LAPSES) : [];
    for (const one of lapsed) this.#forgetLapsed(one, now, report);
    for (const { recipient } of items) if (typeof recipient === "string") this.#lapse(recipient, now, report);
  }

  #lapse(recipient: string, now: number, report: ReportLapse): void {
    const known = this.recipients.get(recipient);
    if (known !== undefined && known.lapsesAt <= now) this.#forgetLapsed(known, now, report);
  }

  #forgetLapsed({ recipient, isAudience }: Registered, now: number, report: ReportLapse): void {
    this.recipients.forget(recipient);
    const lost = this.#forget(recipient, now);
    if (isAudience && lost > 0) report(recipientLapsed(this.name, recipient, lost));
  }

  #forget(recipient: string, now: number): number {
    const inbox = this.inboxes.get(recipient);
    if (inbox === undefined) return 0;
    inbox.update(now);
    const lost = inbox.forget(now);
    inbox.bell.ring();
    this.tidy(inbox);
    return lost;
  }
}

/** Whether it is for one who asked, by all whom it is for. */
function isAnswer([recipient, ...others]: readonly string[]): boolean {
  return recipient !== undefined && others.length === 0 && isReplyInbox(recipient);
}
