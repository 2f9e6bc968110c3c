/** Groups of a stream, and what their consumers take: what is due or was abandoned, then new entries. */

import type { Delivery, GroupSettings, GroupStart, GroupStats } from "../../core/backend.js";
import { NotFoundError } from "../../core/errors.js";
import { createGraveyard, type Graveyard } from "./dead-letters.js";
import type { Deliveries, Grant, Supply } from "./deliveries.js";
import type { Database } from "./driver.js";
import type { Source } from "./feed.js";
import type { Reader, Readers } from "./readers.js";
import { MAX_NUMBER } from "./schema.js";
import { numberOf, type StoredEntry, type Stream, type Streams } from "./streams.js";
import { type StoredText, text, textOf } from "./values.js";
import type { Tx } from "./writer.js";

interface GroupConsumer {
  readonly reader: number;
  readonly stream: string;
  readonly settings: GroupSettings;
  readonly consumer: StoredText;
}

/** Changes when there is something new for the groups of the stream. */
export function streamTopic(stream: string): string {
  return `stream ${stream}`;
}

export class Groups {
  readonly #sql: ReturnType<typeof prepare>;
  readonly #graveyard: Graveyard;
  readonly #streams: Streams;
  readonly #readers: Readers;
  readonly #deliveries: Deliveries;

  constructor(db: Database, streams: Streams, readers: Readers, deliveries: Deliveries) {
    this.#sql = prepare(db);
    this.#graveyard = createGraveyard(
      db,
      `SELECT id & ${MAX_NUMBER} AS position, header, data FROM sb1_entries WHERE id = (? << 40) | ?`,
    );
    this.#streams = streams;
    this.#readers = readers;
    this.#deliveries = deliveries;
  }

  /** Makes the group where it does not exist. @returns the settings stored with it */
  create(tx: Tx, streamName: string, group: string, settings: GroupSettings): GroupSettings {
    const stream = this.#streams.getOrCreate(tx, streamName);
    const known = this.#readers.find("group", stream.id, group);
    if (known !== undefined) return this.#settingsOf(known);
    const start = this.#startOf(stream, settings.from);
    const reader = this.#readers.insert(tx, "group", stream.id, group, JSON.stringify(settings));
    Object.assign(reader, start, { changed: true });
    return settings;
  }

  /** The group's reader, as it was last committed. */
  find(streamName: string, group: string): number | undefined {
    const stream = this.#streams.find(streamName);
    return stream && this.#readers.find("group", stream.id, group);
  }

  stats(stream: Stream): GroupStats[] {
    return this.#readers.of("group", stream.id).flatMap(({ id, name }) => {
      const row = this.#sql.counts.get(id);
      if (row === undefined) return [];
      const { cursor, pending, retrying, dead } = row;
      return [{ group: textOf(name), lag: stream.last - cursor, pending, retrying, dead }];
    });
  }

  /** @throws {NotFoundError} when there is no such group */
  source(stream: string, group: string, consumer: string): Source {
    const reader = this.find(stream, group);
    if (reader === undefined) throw new NotFoundError(`stream "${stream}" has no group "${group}": create it first`);
    const since = this.#readers.fenceOf(reader);
    const opened: GroupConsumer = { reader, stream, settings: this.#settingsOf(reader), consumer: text(consumer) };
    return {
      topic: streamTopic(stream),
      name: `consumer "${consumer}" of group "${group}" of stream "${stream}"`,
      take: (tx, max, outcomes) => {
        const loaded = this.#load(tx, opened);
        const supply = this.#supplyOf(loaded.stream, opened.settings);
        const lost = this.#deliveries.settle(tx, loaded.reader, outcomes, supply);
        const poisoned = this.#deliveries.sweep(tx, loaded.reader, opened.settings.maxAttempts, supply);
        const deliveries = max > 0 ? this.#take(tx, loaded.reader, loaded.stream, max, opened) : [];
        const gone = takeUnreported(loaded.reader);
        return {
          taken: { deliveries, lost, gone, expired: 0, poisoned },
          readyAt: this.#deliveries.readyAt(loaded.reader),
        };
      },
      extend: (tx, receipts) =>
        this.#deliveries.extend(tx, this.#load(tx, opened).reader, receipts, opened.settings.leaseMs),
      giveBack: (tx) => this.#deliveries.giveBack(tx, this.#load(tx, opened).reader, opened.consumer, since),
    };
  }

  #load(tx: Tx, { reader: id, stream: name }: GroupConsumer): { reader: Reader; stream: Stream } {
    const reader = this.#readers.get(tx, id);
    const stream = this.#streams.get(tx, name);
    if (reader === undefined || stream === undefined)
      throw new NotFoundError(`a group of stream "${name}" was deleted`);
    return { reader, stream };
  }

  #settingsOf(reader: number): GroupSettings {
    return JSON.parse(this.#readers.settingsOf(reader)) as GroupSettings; // as `create` has stored them
  }

  #supplyOf(stream: Stream, { maxDeadLetters }: GroupSettings): Supply {
    return {
      topic: streamTopic(stream.name),
      bury: (reader, seq, burial) => this.#graveyard.bury(reader, burial, [stream.id, seq], maxDeadLetters),
      endWhereOver(_tx, reader, seq) {
        if (seq >= stream.first) return false;
        reader.unreported += 1;
        reader.changed = true;
        return true;
      },
      finished: () => undefined,
      acknowledged: () => undefined,
    };
  }

  #take(tx: Tx, reader: Reader, stream: Stream, max: number, { settings, consumer }: GroupConsumer): Delivery[] {
    this.#passOver(reader, stream);
    const due = this.#deliveries.due(reader, tx.now, max);
    if (due.length === 0 && reader.cursor >= stream.last) return [];
    const grant = this.#deliveries.grant(tx, reader, settings.leaseMs);
    const again = due.flatMap(({ seq, attempt }) => {
      this.#deliveries.unpark(reader, seq);
      const [entry] = this.#streams.read(stream, seq, seq, 1);
      if (entry === undefined) {
        reader.unreported += 1;
        return [];
      }
      this.#deliveries.lease(reader, seq, attempt, grant, consumer);
      return [toDelivery(entry, attempt, grant)];
    });
    const deliveries = [...again, ...this.#takeNew(reader, stream, max - again.length, grant, consumer)];
    tx.spend(deliveries.length);
    return deliveries;
  }

  #takeNew(reader: Reader, stream: Stream, max: number, grant: Grant, consumer: StoredText): Delivery[] {
    const first = reader.cursor + 1;
    const last = Math.min(stream.last, reader.cursor + max);
    if (last < first) return [];
    const entries = this.#streams.read(stream, first, last, max);
    this.#sql.lease.run(reader.id, grant.fence, grant.until, consumer, stream.id, first, stream.id, last);
    reader.cursor = last;
    // Numbers have no gaps, unless somebody else deleted rows.
    reader.unreported += last - first + 1 - entries.length;
    return entries.map((entry) => toDelivery(entry, 1, grant));
  }

  /** A group that starts at a time to come is not given what was appended before. */
  #passOver(reader: Reader, stream: Stream): void {
    if (reader.notBefore === 0 || reader.cursor >= stream.last) return;
    const first = this.#streams.firstAt(stream, reader.cursor + 1, reader.notBefore);
    reader.cursor = first - 1;
    if (first <= stream.last) reader.notBefore = 0;
    reader.changed = true;
  }

  /** Where a new group's cursor stands. */
  #startOf(stream: Stream, from: GroupStart): Pick<Reader, "cursor" | "notBefore"> {
    const { first, last } = stream;
    if (from === "beginning") return { cursor: first - 1, notBefore: 0 };
    if (from === "new") return { cursor: last, notBefore: 0 };
    if ("after" in from) return { cursor: Math.min(last, Math.max(first - 1, numberOf(from.after))), notBefore: 0 };
    const start = this.#streams.firstAt(stream, first, from.time);
    return { cursor: start - 1, notBefore: start > last ? from.time : 0 };
  }
}

/** What was found gone or expired since the last take. */
export function takeUnreported(reader: Reader): number {
  const { unreported } = reader;
  if (unreported > 0) reader.changed = true;
  reader.unreported = 0;
  return unreported;
}

function toDelivery({ position, number, header, data }: StoredEntry, attempt: number, { receipts }: Grant): Delivery {
  return { receipt: `${receipts}${number}`, position, attempt, header, data };
}

// Parameters come in the order of the calls above.
function prepare(db: Database) {
  return {
    lease: db.prepare(
      `INSERT INTO sb1_leased (reader, seq, fence, attempt, until, consumer)
       SELECT ?, id & ${MAX_NUMBER}, ?, 1, ?, ? FROM sb1_entries WHERE id BETWEEN (? << 40) | ? AND (? << 40) | ?`,
    ),
    counts: db.prepare<{ cursor: number; dead: number; pending: number; retrying: number }>(
      `SELECT cursor, dead,
         (SELECT count(*) FROM sb1_leased WHERE reader = id) AS pending,
         (SELECT count(*) FROM sb1_parked WHERE reader = id) AS retrying
       FROM sb1_readers WHERE id = ?`,
    ),
  };
}
