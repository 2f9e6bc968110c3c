/** What a consumer of a group takes: retries that are due and what was abandoned, then new entries. */

import type { Delivery } from "../../core/backend.js";
import { NotFoundError } from "../../core/errors.js";
import { createGraveyard } from "./dead-letters.js";
import type { Deliveries, Grant, LeaseRules, Supply } from "./deliveries.js";
import type { Database } from "./driver.js";
import type { Source } from "./feed.js";
import type { Reader, Readers } from "./readers.js";
import { MAX_NUMBER } from "./schema.js";
import type { StoredEntry, Stream, Streams } from "./streams.js";
import { type StoredText, text } from "./values.js";
import type { Tx } from "./writer.js";

export interface GroupConsumer {
  readonly stream: string;
  readonly group: string;
  readonly consumer: string;
  /** The group's reader, and its fence when this consumer came. */
  readonly reader: number;
  readonly since: number;
  readonly rules: LeaseRules;
}

/** Changes when there is something new for the groups of the stream. */
export function streamTopic(stream: string): string {
  return `stream ${stream}`;
}

export type GroupSource = (consumer: GroupConsumer) => Source;

export function createGroupSource(
  db: Database,
  streams: Streams,
  readers: Readers,
  deliveries: Deliveries,
): GroupSource {
  const leaseNew = db.prepare(
    `INSERT INTO sb1_leased (reader, seq, fence, attempt, until, consumer)
     SELECT ?, id & ${MAX_NUMBER}, ?, 1, ?, ? FROM sb1_entries WHERE id BETWEEN (? << 40) | ? AND (? << 40) | ?`,
  );
  const graveyard = createGraveyard(
    db,
    `SELECT id & ${MAX_NUMBER} AS position, header, data FROM sb1_entries WHERE id = (? << 40) | ?`,
  );

  function supplyOf(stream: Stream, { maxDeadLetters }: LeaseRules): Supply {
    return {
      topic: streamTopic(stream.name),
      bury: (reader, seq, burial) => graveyard.bury(reader, burial, [stream.id, seq], maxDeadLetters),
      endWhereOver(_tx, reader, seq) {
        if (seq >= stream.first) return false;
        reader.unreported += 1;
        reader.changed = true;
        return true;
      },
      finished: () => undefined,
    };
  }

  /** Retries that are due, what was given back or abandoned, the earliest first; then new entries. */
  function take(
    tx: Tx,
    reader: Reader,
    stream: Stream,
    max: number,
    rules: LeaseRules,
    consumer: StoredText,
  ): Delivery[] {
    passOver(reader, stream);
    const due = deliveries.due(reader, tx.now, max);
    if (due.length === 0 && reader.cursor >= stream.last) return [];
    const grant = deliveries.grant(tx, reader, rules.leaseMs);
    const again = due.flatMap(({ seq, attempt }) => {
      deliveries.unpark(reader, seq);
      const [entry] = streams.read(stream, seq, seq, 1);
      if (entry === undefined) {
        reader.unreported += 1;
        return [];
      }
      deliveries.lease(reader, seq, attempt, grant, consumer);
      return [toDelivery(entry, attempt, grant)];
    });
    return [...again, ...takeNew(reader, stream, max - again.length, grant, consumer)];
  }

  function takeNew(reader: Reader, stream: Stream, max: number, grant: Grant, consumer: StoredText): Delivery[] {
    const first = reader.cursor + 1;
    const last = Math.min(stream.last, reader.cursor + max);
    if (last < first) return [];
    const entries = streams.read(stream, first, last, max);
    leaseNew.run(reader.id, grant.fence, grant.until, consumer, stream.id, first, stream.id, last);
    reader.cursor = last;
    // Numbers have no gaps, unless somebody else deleted rows.
    reader.unreported += last - first + 1 - entries.length;
    return entries.map((entry) => toDelivery(entry, 1, grant));
  }

  /** A group that starts at a time to come is not given what was appended before. */
  function passOver(reader: Reader, stream: Stream): void {
    if (reader.notBefore === 0 || reader.cursor >= stream.last) return;
    const first = streams.firstAt(stream, reader.cursor + 1, reader.notBefore);
    reader.cursor = first - 1;
    if (first <= stream.last) reader.notBefore = 0;
    reader.changed = true;
  }

  return ({ stream: name, group, consumer, reader: id, since, rules }) => {
    const storedConsumer = text(consumer);

    function load(tx: Tx): { reader: Reader; stream: Stream } {
      const reader = readers.get(tx, id);
      const stream = streams.get(tx, name);
      if (reader === undefined || stream === undefined) throw noGroup(name, group);
      return { reader, stream };
    }

    return {
      topic: streamTopic(name),
      name: `consumer "${consumer}" of group "${group}" of stream "${name}"`,
      take(tx, max, outcomes) {
        const { reader, stream } = load(tx);
        const supply = supplyOf(stream, rules);
        const lost = deliveries.settle(tx, reader, outcomes, supply);
        const poisoned = deliveries.sweep(tx, reader, rules.maxAttempts, supply);
        const taken = max > 0 ? take(tx, reader, stream, max, rules, storedConsumer) : [];
        tx.spend(taken.length);
        const gone = reader.unreported;
        if (gone > 0) reader.changed = true;
        reader.unreported = 0;
        return { taken: { deliveries: taken, lost, gone, expired: 0, poisoned }, readyAt: deliveries.readyAt(reader) };
      },
      extend(tx, receipts) {
        return deliveries.extend(tx, load(tx).reader, receipts, rules.leaseMs);
      },
      giveBack(tx) {
        deliveries.giveBack(tx, load(tx).reader, storedConsumer, since);
      },
    };
  };
}

export function noGroup(stream: string, group: string): NotFoundError {
  return new NotFoundError(`stream "${stream}" has no group "${group}": create it first`);
}

function toDelivery({ position, number, header, data }: StoredEntry, attempt: number, { receipts }: Grant): Delivery {
  return { receipt: `${receipts}${number}`, position, attempt, header, data };
}
