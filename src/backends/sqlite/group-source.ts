/** What a consumer of a group takes: what is due or was abandoned, what has become free, then new entries. */

import type { Delivery, GroupSettings, Outcome } from "../../core/backend.js";
import { NotFoundError } from "../../core/errors.js";
import { createGraveyard, type Graveyard } from "./graveyard.js";
import {
  createHolder,
  type Deliveries,
  type Grant,
  type Holder,
  type Parked,
  type Supply,
  UNTRIED,
} from "./deliveries.js";
import type { Database } from "./driver.js";
import type { Look, Source } from "./feed.js";
import { type Reader, type Readers, settingsOf } from "./readers.js";
import { nextOf } from "./retention.js";
import { MAX_NUMBER, NEVER } from "./schema.js";
import type { Stream, Streams, TakenEntry } from "./streams.js";
import type { Turns } from "./turns.js";
import type { Tx } from "./writer.js";

export interface GroupConsumer {
  readonly reader: number;
  readonly stream: string;
  readonly group: string;
  readonly consumer: string;
}

/** A take, as far as it has come. */
interface Taking {
  readonly tx: Tx;
  readonly reader: Reader;
  readonly stream: Stream;
  readonly settings: GroupSettings;
  readonly holder: Holder;
}

/** Changes when there is something new for the groups of the stream. */
export function streamTopic(stream: string): string {
  return `stream ${stream}`;
}

/** Changes when there is something to take for this group alone. */
export function groupTopic(reader: number): string {
  return `group ${reader}`;
}

/** Entries that are read at once, at most, while one looks for what is not held. */
const MAX_PAGE = 256;
/** How often a group that is given nothing is looked over for keys that an older build has finished. */
const REPAIR_MS = 1_000;

export class GroupSources {
  readonly #sql: ReturnType<typeof prepare>;
  readonly #graveyard: Graveyard;
  readonly #streams: Streams;
  readonly #readers: Readers;
  readonly #deliveries: Deliveries;
  readonly #turns: Turns;

  constructor(db: Database, streams: Streams, readers: Readers, deliveries: Deliveries, turns: Turns) {
    this.#sql = prepare(db);
    this.#graveyard = createGraveyard(
      db,
      "position, header, data, key",
      `SELECT id & ${MAX_NUMBER} AS position, header, data, key FROM sb1_entries WHERE id = (? << 40) | ?`,
    );
    this.#streams = streams;
    this.#readers = readers;
    this.#deliveries = deliveries;
    this.#turns = turns;
  }

  create({ reader: id, stream: name, group, consumer: consumerName }: GroupConsumer): Source {
    const holder = createHolder(consumerName);
    const settingsNow = rememberSettings();
    let repairedAt = Number.NEGATIVE_INFINITY;

    const load = (tx: Tx): Taking => {
      const reader = this.#readers.get(tx, id);
      const stream = this.#streams.get(tx, name);
      if (reader === undefined || stream === undefined)
        throw new NotFoundError(`the group "${group}" of stream "${name}" was deleted`);
      return { tx, reader, stream, settings: settingsNow(reader), holder };
    };
    const repair = ({ tx, reader }: Taking): void => {
      if (reader.held === 0 || tx.now - repairedAt < REPAIR_MS) return;
      repairedAt = tx.now;
      this.#turns.repair(reader);
      if (this.#turns.hasReady(reader)) tx.changed(groupTopic(id));
    };

    return {
      topics: [streamTopic(name), groupTopic(id)],
      name: `consumer "${consumerName}" of group "${group}" of stream "${name}"`,
      take: (tx, max, outcomes) => {
        const taking = load(tx);
        const look = this.#look(taking, max, outcomes);
        if (max > 0 && look.taken.deliveries.length === 0) repair(taking);
        return look;
      },
      extend: (tx, receipts) => {
        const { reader, settings } = load(tx);
        return this.#deliveries.extend(tx, reader, receipts, settings.leaseMs);
      },
      giveBack: (tx) => {
        const reader = this.#readers.get(tx, id);
        // A group that was deleted takes nothing back.
        if (reader === undefined) return;
        this.#deliveries.giveBack(tx, reader, holder);
        tx.changed(groupTopic(id));
      },
    };
  }

  #look(taking: Taking, max: number, outcomes: readonly Outcome[]): Look {
    const { tx, reader, settings } = taking;
    const wasFull = reader.held >= settings.maxHeld;
    const supply = this.#supplyOf(taking);
    const lost = this.#deliveries.settle(tx, reader, outcomes, supply);
    const poisoned = reader.paused ? 0 : this.#deliveries.sweep(tx, reader, settings.maxAttempts, supply);
    const deliveries = max > 0 && !reader.paused ? this.#take(taking, max) : [];
    const ended = outcomes.length - lost.length + poisoned;
    if (ended > 0) this.#wakeOthers(taking, wasFull);
    if (ended + deliveries.length > 0) {
      reader.progressAt = tx.now;
      reader.changed = true;
    }
    const gone = takeUnreported(reader);
    return { taken: { deliveries, lost, gone, expired: 0, poisoned }, readyAt: this.#readyAt(taking) };
  }

  #supplyOf({ reader: { id }, stream, settings: { order, maxDeadLetters } }: Taking): Supply {
    const endTurn = (reader: Reader, seq: number): void => {
      if (order === "key") this.#turns.end(reader, seq);
    };
    return {
      topic: groupTopic(id),
      bury: (reader, seq, burial) => this.#graveyard.bury(reader, burial, [stream.id, seq], maxDeadLetters),
      endWhereOver(_tx, reader, seq) {
        if (seq >= stream.first) return false;
        reader.unreported += 1;
        reader.changed = true;
        endTurn(reader, seq);
        return true;
      },
      finished: (_tx, reader, seq) => endTurn(reader, seq),
      acknowledged: (_tx, reader, { first, last, fence }) => {
        if (order === "key") this.#turns.endLeased(reader, first, last, fence);
      },
    };
  }

  /** What was settled may have made something free that this take leaves to others. */
  #wakeOthers({ tx, reader, stream, settings: { order, maxHeld } }: Taking, wasFull: boolean): void {
    const isUnread = reader.cursor < stream.last;
    const isFree =
      (order === "key" && (this.#turns.hasReady(reader) || (wasFull && isUnread && reader.held < maxHeld))) ||
      (order === "strict" && isUnread && !this.#deliveries.anyLeased(reader));
    if (isFree) tx.changed(groupTopic(reader.id));
  }

  /** When something will be ready by the clock alone. */
  #readyAt({ reader, settings: { order } }: Taking): number {
    if (reader.paused) return NEVER;
    // With strict order what is due waits as well.
    return order === "strict" && this.#deliveries.anyLeased(reader) ? reader.nextEnd : this.#deliveries.readyAt(reader);
  }

  #take(taking: Taking, max: number): Delivery[] {
    const { tx, reader, stream, settings } = taking;
    const { order, leaseMs, maxHeld } = settings;
    const isStrict = order === "strict";
    if (isStrict && this.#deliveries.anyLeased(reader)) return [];
    const most = isStrict ? 1 : max;
    const due = this.#deliveries.due(reader, tx.now, most);
    if (isStrict && due.length === 0 && this.#deliveries.anyParked(reader)) return [];
    const free = order === "key" ? this.#turns.take(reader, most - due.length) : [];
    const last = this.#lastReadable(reader, stream);
    const isUnread = reader.cursor < last && (order !== "key" || reader.held < maxHeld);
    if (due.length + free.length === 0 && !isUnread) return [];

    const grant = this.#deliveries.grant(tx, reader, leaseMs, taking.holder);
    for (const { seq } of due) this.#deliveries.unpark(reader, seq);
    const waited = [...due, ...free.map((seq) => ({ seq, ...UNTRIED }))];
    const deliveries = waited.flatMap((parked) => this.#handOut(taking, parked, grant) ?? []);
    const rest = most - deliveries.length;
    if (isUnread && rest > 0) {
      const fresh =
        order === "key" ? this.#takeInOrder(taking, last, rest, grant) : this.#takeNew(taking, last, rest, grant);
      deliveries.push(...fresh);
    }
    tx.spend(deliveries.length);
    return deliveries;
  }

  /** @returns undefined when the entry is gone */
  #handOut({ reader, stream, settings }: Taking, parked: Parked, grant: Grant): Delivery | undefined {
    const entry = this.#streams.entry(stream, parked.seq);
    if (entry === undefined) {
      reader.unreported += 1;
      if (settings.order === "key") this.#turns.end(reader, parked.seq);
      return undefined;
    }
    this.#deliveries.lease(reader, parked, grant);
    return toDelivery(entry, parked.attempt, grant);
  }

  #takeNew({ reader, stream }: Taking, last: number, max: number, grant: Grant): Delivery[] {
    const first = reader.cursor + 1;
    const entries = this.#streams.take(stream, first, last, max, reader.id);
    const end = entries.length < max ? last : (entries.at(-1)?.number ?? last);
    const missing = end - reader.cursor - entries.length;
    if (missing === 0) {
      const { fence, until, consumer, feed } = grant;
      this.#sql.lease.run(reader.id, fence, until, consumer, feed, stream.id, first, stream.id, end);
    } else {
      for (const { number: seq } of entries) this.#deliveries.lease(reader, { seq, ...UNTRIED }, grant);
      // Numbers have no gaps, unless somebody else deleted rows.
      reader.unreported += missing - this.#streams.countHidden(stream, first, end, reader.id);
    }
    reader.cursor = end;
    return entries.map((entry) => toDelivery(entry, 1, grant));
  }

  /** As `#takeNew`, but holds back what is not its key's turn. */
  #takeInOrder(taking: Taking, last: number, max: number, grant: Grant): Delivery[] {
    const { tx, reader, stream, settings } = taking;
    const given: Delivery[] = [];
    const isEnough = (): boolean => given.length === max || reader.held >= settings.maxHeld;
    for (let size = max; !isEnough() && reader.cursor < last; size = Math.min(MAX_PAGE, 2 * size)) {
      const page = this.#streams.read(stream, reader.cursor + 1, last, size, reader.id);
      for (const entry of page) {
        if (isEnough()) break;
        const { number: seq, key } = entry;
        this.#skipTo(reader, stream, seq - 1);
        reader.cursor = seq;
        if (key !== null && !this.#turns.admit(reader, seq, key)) continue;
        this.#deliveries.lease(reader, { seq, ...UNTRIED }, grant);
        given.push(toDelivery(entry, 1, grant));
      }
      if (page.length < size && !isEnough()) this.#skipTo(reader, stream, last);
      tx.spend(page.length);
    }
    return given;
  }

  /** Passes by what is not there, or not for this group. */
  #skipTo(reader: Reader, stream: Stream, number: number): void {
    const missing = number - reader.cursor;
    if (missing === 0) return;
    reader.unreported += missing - this.#streams.countHidden(stream, reader.cursor + 1, number, reader.id);
    reader.cursor = number;
  }

  /** The last entry that may be read now. A group that starts at a time to come is not given what was appended before. */
  #lastReadable(reader: Reader, stream: Stream): number {
    if (reader.notBefore === 0 || reader.cursor >= stream.last) return stream.last;
    const next = nextOf(this.#streams, stream, reader);
    reader.cursor = next - 1;
    reader.changed = true;
    // What was redriven is given all the same, and alone: what stands behind it may have to be passed by.
    if (this.#streams.firstRedriven(stream, next, next, reader.id) !== undefined) return next;
    if (next <= stream.last) reader.notBefore = 0;
    return stream.last;
  }
}

/** What was found gone or expired since the last take. */
export function takeUnreported(reader: Reader): number {
  const { unreported } = reader;
  if (unreported > 0) reader.changed = true;
  reader.unreported = 0;
  return unreported;
}

/** The settings that are stored now, read anew when they have changed. */
function rememberSettings(): (reader: Reader) => GroupSettings {
  let known: { readonly stored: string | null; readonly settings: GroupSettings } | undefined;
  return (reader) => {
    if (known?.stored !== reader.settings || known === undefined)
      known = { stored: reader.settings, settings: settingsOf(reader) };
    return known.settings;
  };
}

function toDelivery({ number, header, data }: TakenEntry, attempt: number, { receipts }: Grant): Delivery {
  return { receipt: `${receipts}${number}`, position: String(number), attempt, header, data };
}

// Parameters come in the order of the calls above.
function prepare(db: Database) {
  return {
    lease: db.prepare(
      `INSERT INTO sb1_leased (reader, seq, fence, attempt, until, consumer, feed)
       SELECT ?, id & ${MAX_NUMBER}, ?, 1, ?, ?, ? FROM sb1_entries WHERE id BETWEEN (? << 40) | ? AND (? << 40) | ?`,
    ),
  };
}
