/** What a consumer of a recipient takes: the most urgent item that is ready, the oldest first among equals. */

import type { Delivery, Outcome, QueueConsumer, Reply } from "../../core/backend.js";
import { NotFoundError } from "../../core/errors.js";
import { PUSHED_AT } from "./conditions.js";
import { createHolder, type Deliveries, type Grant, type Holder, type Parked, type Supply } from "./deliveries.js";
import type { Database } from "./driver.js";
import type { Look, Source } from "./feed.js";
import { createGraveyard, type Graveyard } from "./graveyard.js";
import { takeUnreported } from "./group-source.js";
import { type Items, MAX_EXPIRED } from "./items.js";
import type { OnlineFeed } from "./online.js";
import { inboxTopic, type QueueRow, type Queues } from "./queues.js";
import type { Reader, Readers } from "./readers.js";
import type { Recipients } from "./recipients.js";
import type { Records } from "./records.js";
import { NEVER } from "./schema.js";
import type { Spreads } from "./spreads.js";
import { type StoredText, textOf } from "./values.js";
import type { Tx } from "./writer.js";

/** What taking needs of the queue port. */
export interface InboxParts {
  readonly queues: Queues;
  readonly readers: Readers;
  readonly deliveries: Deliveries;
  readonly items: Items;
  readonly records: Records;
  readonly recipients: Recipients;
  readonly spreads: Spreads;
  /** Stores an answer, if anybody waits for it. */
  readonly answer: (tx: Tx, queue: QueueRow, reply: Reply) => void;
}

/** One open feed. */
interface InboxFeed extends Omit<QueueConsumer, "consumer"> {
  readonly queue: string;
  readonly recipient: string;
  readonly topic: string;
  readonly holder: Holder;
  /** Absent for the shared recipient. */
  readonly online: OnlineFeed | undefined;
  /** The inbox that it reads: another when its recipient was forgotten and begins anew. */
  reader: number;
  /** When it last took. */
  readAt: number;
}

/** A take, as far as it has come. */
interface Taking {
  readonly tx: Tx;
  readonly queue: QueueRow;
  readonly inbox: Reader;
  readonly feed: InboxFeed;
  /** Of what this take has found expired. */
  readonly expired: StoredText[];
}

interface ReadyItem {
  readonly seq: number;
  readonly urgency: number;
  readonly attempt: number;
  readonly id: StoredText;
  readonly header: StoredText;
  readonly data: Uint8Array;
}

/** Items that one take moves from parked to waiting; the next goes on. */
const MAX_PROMOTED = 5_000;
/** Of so many deliveries, one goes round the priorities in turn where a consumer wants them weighted. */
const ROUND_EVERY = 5;

export class Inboxes {
  readonly #sql: ReturnType<typeof prepare>;
  readonly #graveyard: Graveyard;
  readonly #parts: InboxParts;

  constructor(db: Database, parts: InboxParts) {
    this.#sql = prepare(db);
    this.#graveyard = createGraveyard(
      db,
      "position, header, data, urgency, record, fields, pushed_at",
      `SELECT id AS position, header, data, urgency, ? AS record, ? AS fields, ${PUSHED_AT} AS pushed_at
       FROM sb1_items AS items WHERE seq = ?`,
    );
    this.#parts = parts;
  }

  /** What a feed that opens takes from. @param reader its inbox */
  source(
    queue: string,
    recipient: string,
    consumer: QueueConsumer,
    reader: number,
    online: OnlineFeed | undefined,
  ): Source {
    const topic = inboxTopic(queue, recipient);
    const feed: InboxFeed = {
      ...consumer,
      holder: createHolder(consumer.consumer),
      queue,
      recipient,
      topic,
      online,
      reader,
      readAt: Number.NEGATIVE_INFINITY,
    };
    online?.start((tx) => {
      const inbox = this.#parts.readers.get(tx, feed.reader);
      if (inbox !== undefined) this.#parts.recipients.keep(tx, inbox);
    });
    return {
      topics: [topic],
      name: `consumer "${consumer.consumer}" of recipient "${recipient}" of queue "${queue}"`,
      take: (tx, max, outcomes) => this.#look(tx, feed, max, outcomes),
      extend: (tx, receipts) => {
        const inbox = this.#known(tx, this.#queue(tx, feed), feed);
        if (inbox === undefined) return receipts;
        this.#read(tx, inbox, feed);
        return this.#parts.deliveries.extend(tx, inbox, receipts, feed.leaseMs);
      },
      giveBack: (tx) => this.#giveBack(tx, feed),
    };
  }

  /** Whether something is due that is not ready yet. */
  hasDue({ id }: Reader, now: number): boolean {
    return this.#sql.beyond.get(id, now, 0) !== undefined;
  }

  /** Makes what is due ready again: retries and delayed items compete by their priority then. */
  promoteDue({ id }: Pick<Reader, "id">, now: number): void {
    const until = this.#sql.beyond.get(id, now, MAX_PROMOTED)?.due ?? now;
    if (this.#sql.promote.run(id, until) > 0) this.#sql.promoted.run(id, until);
  }

  #look(tx: Tx, feed: InboxFeed, max: number, outcomes: readonly Outcome[]): Look {
    const { deliveries, items, records, spreads } = this.#parts;
    const queue = this.#queue(tx, feed);
    const inbox = max > 0 ? this.#inbox(tx, queue, feed) : this.#known(tx, queue, feed);
    if (inbox === undefined) return lostAll(outcomes);
    this.#read(tx, inbox, feed);
    if (queue.spreads > 0) spreads.advance(tx, queue);
    if (queue.records > 0) records.trim(tx, queue);
    const taking: Taking = { tx, queue, inbox, feed, expired: [] };
    const supply = this.#supplyOf(taking);
    const lost = deliveries.settle(tx, inbox, outcomes, supply);
    const poisoned = deliveries.sweep(tx, inbox, feed.maxAttempts, supply);
    // Of very many that expired together a slice is removed at each call. What stands before the rest waits for none of them.
    const isClear = items.expire(tx, queue, inbox, taking.expired);
    const given = max > 0 && !inbox.paused ? this.#take(taking, max, isClear) : [];
    const gone = takeGone(inbox);
    const expired = takeUnreported(inbox);
    const expiredIds = taking.expired.slice(0, MAX_EXPIRED).map(textOf);
    const taken = { deliveries: given, lost, gone, expired, poisoned };
    return {
      taken: expiredIds.length === 0 ? taken : { ...taken, expiredIds },
      readyAt: inbox.paused ? NEVER : deliveries.readyAt(inbox),
    };
  }

  #giveBack(tx: Tx, feed: InboxFeed): void {
    const { deliveries, recipients } = this.#parts;
    const inbox = this.#known(tx, this.#queue(tx, feed), feed);
    feed.online?.end();
    if (inbox === undefined) return;
    recipients.readAt(inbox, feed.readAt);
    deliveries.giveBack(tx, inbox, feed.holder);
    tx.changed(feed.topic);
  }

  #queue(tx: Tx, { queue: name }: InboxFeed): QueueRow {
    const queue = this.#parts.queues.get(tx, name);
    if (queue === undefined) throw new NotFoundError(`the queue "${name}" was removed from the file`);
    return queue;
  }

  /** The inbox that the feed has read so far; undefined once its recipient was forgotten. */
  #known(tx: Tx, queue: QueueRow, { reader, recipient }: InboxFeed): Reader | undefined {
    return this.#parts.recipients.known(tx, queue, reader, recipient);
  }

  /** The inbox that the feed reads: a new one where its recipient was forgotten. */
  #inbox(tx: Tx, queue: QueueRow, feed: InboxFeed): Reader {
    const { recipients } = this.#parts;
    const { recipient, registration, online } = feed;
    const known = this.#known(tx, queue, feed);
    if (known !== undefined && (known.registered !== null || registration === undefined)) return known;
    const inbox =
      registration === undefined
        ? recipients.inboxOf(tx, queue, recipient)
        : recipients.register(tx, queue, recipient, registration);
    if (inbox.id !== feed.reader) {
      online?.moveTo(tx, inbox);
      tx.afterCommit(() => {
        feed.reader = inbox.id;
      });
    }
    return inbox;
  }

  #read(tx: Tx, inbox: Reader, feed: InboxFeed): void {
    if (inbox.lapsesAt === null) return;
    feed.readAt = tx.now;
    this.#parts.recipients.read(tx, inbox);
  }

  #supplyOf({ queue, feed: { topic, maxDeadLetters }, expired }: Taking): Supply {
    const { items, records, answer } = this.#parts;
    return {
      topic,
      bury: (inbox, seq, burial) => {
        const record = records.ofItem(seq);
        const fields = record === undefined ? null : records.fieldsAsJson(seq);
        return this.#graveyard.bury(inbox, burial, [record?.id ?? null, fields, seq], maxDeadLetters);
      },
      endWhereOver: (tx, inbox, seq) => {
        const id = items.expireOne(tx, queue, inbox, seq);
        if (id !== undefined) expired.push(id);
        return id !== undefined;
      },
      finished: (tx, inbox, seq, attempts) => items.finish(tx, queue, inbox, seq, attempts),
      acknowledged: (tx, inbox, leases) => items.acknowledge(tx, queue, inbox, leases),
      answered: (tx, reply) => answer(tx, queue, reply),
    };
  }

  // ------------------------------------------------------------------------------------------------- taking

  /** @param isClear whether nothing is left that has expired */
  #take(taking: Taking, max: number, isClear: boolean): readonly Delivery[] {
    const { tx, inbox, feed } = taking;
    this.promoteDue(inbox, tx.now);
    const isWeighted = feed.priorities === "weighted";
    if (isWeighted && !isClear) return [];
    const ready = this.#sql.ready.all(inbox.id, isWeighted ? 1 : max);
    const rows = isClear ? ready : this.#beforeExpired(tx, inbox, ready);
    if (rows.length === 0) return [];
    const grant = this.#parts.deliveries.grant(tx, inbox, feed.leaseMs, feed.holder);
    const taken = isWeighted ? this.#weighted(taking, max, grant) : this.#leaseUrgent(taking, rows, grant);
    tx.spend(taken.length);
    return taken.map(({ seq, attempt, id, header, data }) => {
      return { receipt: `${grant.receipts}${seq}`, position: textOf(id), attempt, header: textOf(header), data };
    });
  }

  /** Those before the first that has expired. */
  #beforeExpired(tx: Tx, inbox: Reader, rows: readonly ReadyItem[]): readonly ReadyItem[] {
    const end = rows.findIndex(({ seq }) => this.#parts.items.isOver(tx, inbox, seq));
    return end < 0 ? rows : rows.slice(0, end);
  }

  /** @param rows what comes first of all that is ready */
  #leaseUrgent(
    { inbox: { id } }: Taking,
    rows: readonly ReadyItem[],
    { fence, until, consumer, feed }: Grant,
  ): readonly ReadyItem[] {
    const last = rows.at(-1);
    if (last === undefined) return [];
    // What stands up to the last row is just these rows.
    this.#sql.lease.run(fence, until, consumer, feed, id, last.urgency, last.seq);
    this.#sql.leave.run(id, last.urgency, last.seq);
    return rows;
  }

  #weighted(taking: Taking, max: number, grant: Grant): readonly ReadyItem[] {
    const { inbox } = taking;
    const taken: ReadyItem[] = [];
    while (taken.length < max) {
      const straight = Math.min(max - taken.length, ROUND_EVERY - 1 - inbox.rounds);
      const rows =
        straight > 0
          ? this.#leaseUrgent(taking, this.#sql.ready.all(inbox.id, straight), grant)
          : this.#leaseInTurn(taking, grant);
      taken.push(...rows);
      inbox.rounds = (inbox.rounds + rows.length) % ROUND_EVERY;
      if (rows.length < Math.max(1, straight)) break;
    }
    return taken;
  }

  /** The oldest of the priority whose turn it is. */
  #leaseInTurn({ inbox }: Taking, grant: Grant): readonly ReadyItem[] {
    const next = inbox.rounded === null ? undefined : this.#sql.nextLevel.get(inbox.id, inbox.rounded);
    const level = next ?? this.#sql.firstLevel.get(inbox.id);
    const row = level === undefined ? undefined : this.#sql.readyAt.get(inbox.id, level.urgency);
    if (row === undefined) return [];
    inbox.rounded = row.urgency;
    this.#parts.deliveries.lease(inbox, row, grant);
    this.#sql.leaveOne.run(inbox.id, row.urgency, row.seq);
    return [row];
  }
}

/** What a feed is told whose recipient was forgotten. */
function lostAll(outcomes: readonly Outcome[]): Look {
  const lost = outcomes.map(({ receipt }) => receipt);
  return { taken: { deliveries: [], lost, gone: 0, expired: 0, poisoned: 0 }, readyAt: NEVER };
}

/** How many items were dropped since the last take. */
function takeGone(inbox: Reader): number {
  const { gone } = inbox;
  if (gone > 0) inbox.changed = true;
  inbox.gone = 0;
  return gone;
}

// Parameters come in the order of the calls above.
function prepare(db: Database) {
  const columns = "waiting.urgency, waiting.seq, waiting.attempt, items.id, items.header, items.data";
  const waiting =
    "FROM sb1_waiting AS waiting JOIN sb1_items AS items ON items.seq = waiting.seq WHERE waiting.reader = ?";
  return {
    beyond: db.prepare<{ due: number }>(
      "SELECT due FROM sb1_parked WHERE reader = ? AND due <= ? ORDER BY due LIMIT 1 OFFSET ?",
    ),
    promote: db.prepare(
      `INSERT INTO sb1_waiting (reader, urgency, seq, attempt, failed_at, put_back_at)
       SELECT parked.reader, items.urgency, parked.seq, parked.attempt, parked.failed_at, parked.put_back_at
       FROM sb1_parked AS parked JOIN sb1_items AS items ON items.seq = parked.seq
       WHERE parked.reader = ? AND parked.due <= ?`,
    ),
    promoted: db.prepare("DELETE FROM sb1_parked WHERE reader = ? AND due <= ?"),
    ready: db.prepare<ReadyItem>(`SELECT ${columns} ${waiting} ORDER BY waiting.urgency, waiting.seq LIMIT ?`),
    readyAt: db.prepare<ReadyItem & Parked>(
      `SELECT ${columns}, waiting.failed_at AS failedAt, waiting.put_back_at AS putBackAt ${waiting}
       AND waiting.urgency = ? ORDER BY waiting.seq LIMIT 1`,
    ),
    firstLevel: db.prepare<{ urgency: number }>(
      "SELECT urgency FROM sb1_waiting WHERE reader = ? ORDER BY urgency LIMIT 1",
    ),
    nextLevel: db.prepare<{ urgency: number }>(
      "SELECT urgency FROM sb1_waiting WHERE reader = ? AND urgency > ? ORDER BY urgency LIMIT 1",
    ),
    lease: db.prepare(
      `INSERT INTO sb1_leased (reader, seq, fence, attempt, until, consumer, feed, failed_at, put_back_at)
       SELECT reader, seq, ?, attempt, ?, ?, ?, failed_at, put_back_at
       FROM sb1_waiting WHERE reader = ? AND (urgency, seq) <= (?, ?)`,
    ),
    leave: db.prepare("DELETE FROM sb1_waiting WHERE reader = ? AND (urgency, seq) <= (?, ?)"),
    leaveOne: db.prepare("DELETE FROM sb1_waiting WHERE reader = ? AND urgency = ? AND seq = ?"),
  };
}
