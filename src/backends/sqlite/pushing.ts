/** How items are pushed: which are duplicates, whether there is room, and who gets them. */

import type { Audience, Pushed, QueueLimits, Reply } from "../../core/backend.js";
import { queueFull } from "../../core/limits.js";
import { type BoundItem, bindItem, expiryOf, type Intake } from "./intake.js";
import type { Items } from "./items.js";
import { inboxTopic, type QueueRow, type Queues } from "./queues.js";
import type { Reader, Readers } from "./readers.js";
import type { Recipients } from "./recipients.js";
import type { Records } from "./records.js";
import type { RememberedIds } from "./remembered-ids.js";
import type { Room } from "./room.js";
import { MAX_GIVEN, type Spreads } from "./spreads.js";
import { textOf } from "./values.js";
import type { Tx } from "./writer.js";

export interface PushParts {
  readonly queues: Queues;
  readonly readers: Readers;
  readonly items: Items;
  readonly intake: Intake;
  readonly records: Records;
  readonly recipients: Recipients;
  readonly spreads: Spreads;
  readonly room: Room;
  readonly ids: RememberedIds;
}

/** What a push has come to so far. */
export interface PushResult {
  readonly pushed: readonly Pushed[];
  /** Records of items whose audiences have yet to get shares. */
  readonly underWay: readonly number[];
}

/** One push, for the length of its transaction. */
class Push {
  readonly underWay: number[] = [];
  readonly #parts: PushParts;
  readonly #tx: Tx;
  readonly #queue: QueueRow;
  readonly #inboxes = new Map<string, Reader>();
  readonly #audiences = new Map<Audience["audience"], number>();
  /** Shares that this transaction may still give. */
  #left = MAX_GIVEN;

  constructor(parts: PushParts, tx: Tx, queue: QueueRow) {
    this.#parts = parts;
    this.#tx = tx;
    this.#queue = queue;
  }

  get recipients(): Iterable<string> {
    return this.#inboxes.keys();
  }

  /** @throws {LimitError} when there is no room, and none can be made */
  makeRoom(bound: readonly BoundItem[], { maxItems, overflow }: QueueLimits): void {
    const queue = this.#queue;
    if (queue.items + bound.length <= maxItems) return;
    // Only now it matters which have expired, and which are duplicates.
    this.#parts.items.expireSome(this.#tx, queue);
    const fresh = this.#fresh(bound);
    if (fresh.length === 0) return;
    const excess = queue.items + fresh.length - maxItems;
    if (excess <= 0) return;
    const chosen = overflow === "drop-oldest" ? this.#parts.room.choose(excess, this.#readersOf(fresh)) : undefined;
    if (chosen === undefined) throw queueFull(queue.name, maxItems);
    for (const { item, readers } of chosen) {
      for (const reader of readers) {
        const inbox = this.#parts.readers.get(this.#tx, reader);
        if (inbox === undefined) continue;
        this.#parts.items.end(this.#tx, queue, inbox, item, "gone");
        inbox.dropped += 1;
        inbox.gone += 1;
        inbox.changed = true;
      }
    }
  }

  add(bound: readonly BoundItem[]): readonly (number | undefined)[] {
    return this.#parts.intake.add(
      this.#tx,
      this.#queue,
      bound,
      (recipient) => this.#inboxOf(recipient),
      (item, { audience }) => this.#addForAudience(item, audience),
    );
  }

  /** Those that will be stored for somebody. */
  #fresh(bound: readonly BoundItem[]): readonly BoundItem[] {
    const seen = new Set<string>();
    return bound.filter((item) => {
      const id = textOf(item.id);
      if (seen.has(id)) return false;
      seen.add(id);
      const { ids, items } = this.#parts;
      if (items.find(this.#tx, this.#queue, item.id) !== undefined) return false;
      if (ids.find(this.#tx, this.#queue, id) !== undefined) return false;
      return typeof item.recipient === "string" || this.#sizeOf(item.recipient.audience) > 0;
    });
  }

  #readersOf(items: readonly BoundItem[]): ReadonlySet<number> {
    const readers = new Set<number>();
    const audiences = new Set<Audience["audience"]>();
    for (const { recipient } of items) {
      if (typeof recipient === "string") readers.add(this.#inboxOf(recipient).id);
      else audiences.add(recipient.audience);
    }
    for (const audience of audiences)
      for (const id of this.#parts.spreads.readersOf(this.#queue, audience, this.#tx.now)) readers.add(id);
    return readers;
  }

  #inboxOf(recipient: string): Reader {
    const known = this.#inboxes.get(recipient);
    if (known !== undefined) return known;
    const inbox = this.#parts.recipients.inboxOf(this.#tx, this.#queue, recipient);
    this.#inboxes.set(recipient, inbox);
    return inbox;
  }

  #sizeOf(audience: Audience["audience"]): number {
    const known = this.#audiences.get(audience);
    if (known !== undefined) return known;
    const size = this.#parts.spreads.count(this.#queue, audience, this.#tx.now);
    this.#audiences.set(audience, size);
    return size;
  }

  /** @returns how many recipients it has; undefined when the queue holds its id already */
  #addForAudience(item: BoundItem, audience: Audience["audience"]): number | undefined {
    const { items, intake, spreads } = this.#parts;
    const size = this.#sizeOf(audience);
    if (size === 0) return items.find(this.#tx, this.#queue, item.id) === undefined ? 0 : undefined;
    const record = intake.addShared(this.#tx, this.#queue, item);
    if (record === undefined) return undefined;
    const { urgency, delayMs } = item;
    const due = delayMs > 0 ? this.#tx.now + delayMs : null;
    const expiresAt = expiryOf(this.#tx, item);
    this.#left -= spreads.begin(this.#tx, this.#queue, record, { urgency, audience, expiresAt, due }, this.#left);
    if (spreads.isUnderWay(record.id)) this.underWay.push(record.id);
    return size;
  }
}

/** Stores items together, or none. @throws {LimitError} */
export function push(
  parts: PushParts,
  tx: Tx,
  queue: QueueRow,
  bound: readonly BoundItem[],
  limits: QueueLimits,
): PushResult {
  const { recipients, records, ids } = parts;
  if (bound.some(({ recipient }) => typeof recipient !== "string")) recipients.meetLapsed(tx, queue);
  if (queue.records > 0) records.trim(tx, queue);
  const { records: wanted } = limits;
  if (wanted !== undefined && queue.settings === undefined && queue.items + queue.records === 0)
    parts.queues.configure(queue, wanted);
  const run = new Push(parts, tx, queue);
  run.makeRoom(bound, limits);
  const known = knownOf(ids, tx, queue, bound);
  const fresh = known === undefined ? bound : bound.filter((_, index) => known[index] === false);
  const counts = run.add(fresh);
  let next = 0;
  const pushed = bound.map(({ id }, index): Pushed => {
    const count = known?.[index] === true ? undefined : counts[next++];
    return { id: textOf(id), duplicate: count === undefined, recipients: count ?? 0 };
  });
  if (known !== undefined) remember(ids, tx, queue, bound, pushed);
  tx.spend(bound.length);
  for (const recipient of run.recipients) tx.changed(inboxTopic(queue.name, recipient));
  return { pushed, underWay: run.underWay };
}

/** Stores an answer, unless nobody is waiting for it. */
export function answer(parts: PushParts, tx: Tx, queue: QueueRow, reply: Reply): void {
  const { recipient } = reply;
  const inbox = parts.recipients.inbox(tx, queue, recipient);
  if (inbox === undefined || inbox.registered === null) return;
  if (parts.ids.find(tx, queue, reply.id) !== undefined) return;
  new Push(parts, tx, queue).add([bindItem({ ...reply, delayMs: 0 })]);
  tx.changed(inboxTopic(queue.name, recipient));
}

/** Which ids are remembered, or come again; undefined where none can be, but by what storing tells itself. */
function knownOf(
  ids: RememberedIds,
  tx: Tx,
  queue: QueueRow,
  bound: readonly BoundItem[],
): readonly boolean[] | undefined {
  // An audience may be nobody: then its item is not stored, and its id stands in the push all the same.
  const isPlain = ({ givenId, recipient }: BoundItem): boolean =>
    givenId === undefined && typeof recipient === "string";
  if (queue.ids === 0 && bound.every(isPlain)) return undefined;
  const seen = new Set<string>();
  return bound.map((item) => {
    const id = textOf(item.id);
    const isKnown = seen.has(id) || (queue.ids > 0 && ids.find(tx, queue, id) !== undefined);
    seen.add(id);
    return isKnown;
  });
}

function remember(
  ids: RememberedIds,
  tx: Tx,
  queue: QueueRow,
  bound: readonly BoundItem[],
  pushed: readonly Pushed[],
): void {
  let number = ids.last(queue);
  const added = bound.flatMap(({ givenId }, index) => {
    if (givenId === undefined || pushed[index]?.duplicate !== false) return [];
    number += 1;
    return [{ id: givenId, number }];
  });
  ids.remember(tx, queue, added);
}
