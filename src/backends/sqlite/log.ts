/** Streams and their groups in SQLite. */

import type { Appended, Entry, Log, Range, Retention } from "../../core/backend.js";
import { changedRetention } from "../../core/limits.js";
import { createLettersOf } from "./dead-letters.js";
import { placeEntries, rememberEntries } from "./dedupe.js";
import type { Deliveries } from "./deliveries.js";
import { createFeed } from "./feed.js";
import { createParking } from "./graveyard.js";
import { GroupSources, streamTopic } from "./group-source.js";
import { Groups } from "./groups.js";
import { createStats } from "./log-stats.js";
import { type Readers, settingsOf } from "./readers.js";
import { createRememberedIds, type RememberedIds } from "./remembered-ids.js";
import { Keeper, retentionOf } from "./retention.js";
import type { Store } from "./store.js";
import { type BoundEntry, bindEntry, NO_READER, numberOf, type Stream, Streams } from "./streams.js";
import { Turns } from "./turns.js";
import type { Tx } from "./writer.js";

export function createLog(store: Store, readers: Readers, deliveries: Deliveries): Log {
  const { db, writer, clock } = store;
  const streams = new Streams(db, store.namespace);
  const turns = new Turns(db);
  const groups = new Groups(streams, readers, deliveries, turns);
  const sources = new GroupSources(db, streams, readers, deliveries, turns);
  const keeper = new Keeper(db, streams, readers, turns);
  const append = createAppend(streams, keeper, createRememberedIds(db, "sb1_ids", "stream"));
  const statsOf = createStats(db, streams, readers, keeper);
  const lettersOf = createLettersOf(store, readers);
  const parkIn = createParking(db);

  return {
    async append(name, entries, retention) {
      store.assertOpen();
      if (entries.length === 0) return [];
      const bound = entries.map(bindEntry);
      return writer.run((tx) => append(tx, name, bound, retention), "messages");
    },

    async read(name, range) {
      store.assertOpen();
      const bounds = boundsOf(range);
      return store.read(() => {
        const stream = streams.find(name);
        return stream === undefined ? [] : readRange(streams, stream, range, bounds);
      });
    },

    ...limitCalls(store, streams, keeper),
    ...groupCalls(store, groups),

    async open(stream, group, consumer) {
      store.assertOpen();
      const source = store.read(() => {
        const reader = groups.existing(stream, group);
        return sources.create({ reader, stream, group, consumer });
      });
      return store.track((onClose) => createFeed(store, source, onClose));
    },

    deadLetters: (stream, group) =>
      lettersOf({
        find: () => groups.find(stream, group),
        putBack: (tx, reader, letter) => groups.putBack(tx, stream, reader, letter),
      }),

    async park(stream, group, letters) {
      store.assertOpen();
      await writer.run((tx) => {
        tx.spend(letters.length);
        const reader = groups.reader(tx, stream, group);
        parkIn(reader, letters, tx.now, settingsOf(reader).maxDeadLetters);
      });
    },

    async stats(name) {
      store.assertOpen();
      return store.read(() => statsOf(streams.find(name), clock.now()));
    },
  };
}

/** How long streams may grow. */
function limitCalls(
  store: Store,
  streams: Streams,
  keeper: Keeper,
): Pick<Log, "configure" | "changeRetention" | "trim"> {
  const { writer } = store;
  return {
    async configure(name, retention) {
      store.assertOpen();
      return writer.run((tx) => {
        const stream = streams.getOrCreate(tx, name);
        if (stream.retention === null) streams.saveRetention(stream, retention);
        return retentionOf(stream) ?? retention;
      });
    },

    async changeRetention(name, changes, unless) {
      store.assertOpen();
      return writer.run((tx) => {
        const stream = streams.getOrCreate(tx, name);
        const changed = changedRetention(retentionOf(stream) ?? unless, changes);
        streams.saveRetention(stream, changed);
        return changed;
      });
    },

    async trim(name) {
      for (let dropped = 0; ; ) {
        store.assertOpen();
        const slice = await writer.run((tx) => {
          const stream = streams.get(tx, name);
          return stream === undefined ? { dropped: 0, isMore: false } : keeper.trim(tx, stream);
        });
        dropped += slice.dropped;
        if (!slice.isMore) return dropped;
      }
    },
  };
}

interface Bounds {
  readonly first: number;
  readonly last: number;
}

/** @throws {NotFoundError} when one of them is no position */
function boundsOf({ from, after, until }: Range): Bounds {
  const first = Math.max(from === undefined ? 0 : numberOf(from), after === undefined ? 0 : numberOf(after) + 1);
  return { first, last: until === undefined ? Number.POSITIVE_INFINITY : numberOf(until) };
}

function readRange(streams: Streams, stream: Stream, { since, max }: Range, bounds: Bounds): Entry[] {
  const start = Math.max(stream.first, bounds.first);
  const first = since === undefined ? start : streams.firstAt(stream, start, since);
  const last = Math.min(stream.last, bounds.last);
  if (first > last) return [];
  return streams
    .read(stream, first, last, max, NO_READER)
    .map(({ position, at, header, data }) => ({ position, at, header, data }));
}

type Append = (tx: Tx, name: string, entries: readonly BoundEntry[], retention: Retention) => Appended[];

function createAppend(streams: Streams, keeper: Keeper, ids: RememberedIds): Append {
  return (tx, name, entries, retention) => {
    const stream = streams.getOrCreate(tx, name);
    const withIds = entries.some(({ dedupeId }) => dedupeId !== undefined);
    const places = withIds ? placeEntries(ids, tx, stream, entries) : undefined;
    const fresh = places === undefined ? entries : entries.filter((_, index) => places[index]?.duplicate === false);
    const first = stream.last + 1;
    if (fresh.length > 0) {
      keeper.makeRoom(tx, stream, fresh.length, retention);
      streams.append(stream, fresh, tx.now);
      if (places !== undefined) rememberEntries(ids, tx, stream, entries, places);
      tx.changed(streamTopic(name));
    }
    tx.spend(entries.length);
    return entries.map((_, index) => {
      const { number, duplicate } = places?.[index] ?? { number: first + index, duplicate: false };
      return { position: String(number), duplicate };
    });
  };
}

type GroupCalls = "createGroup" | "configureGroup" | "seek" | "pause" | "resume" | "deleteGroup";

/** The calls that change a group. */
function groupCalls(store: Store, groups: Groups): Pick<Log, GroupCalls> {
  async function change<T>(work: (tx: Tx) => T): Promise<T> {
    store.assertOpen();
    return store.writer.run(work);
  }
  return {
    createGroup: (stream, group, settings) => change((tx) => groups.create(tx, stream, group, settings)),
    configureGroup: (stream, group, changes) => change((tx) => groups.configure(tx, stream, group, changes)),
    seek: (stream, group, to) => change((tx) => groups.seek(tx, stream, group, to)),
    pause: (stream, group) => change((tx) => groups.pause(tx, stream, group)),
    resume: (stream, group) => change((tx) => groups.resume(tx, stream, group)),
    deleteGroup: (stream, group) => change((tx) => groups.remove(tx, stream, group)),
  };
}
