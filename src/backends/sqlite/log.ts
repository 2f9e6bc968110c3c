/** Streams and their groups in SQLite. */

import type { GroupSettings, GroupStart, GroupStats, Log } from "../../core/backend.js";
import { createLettersOf } from "./dead-letters.js";
import type { Deliveries } from "./deliveries.js";
import { createFeed } from "./feed.js";
import { createGroupSource, noGroup, streamTopic } from "./groups.js";
import type { Reader, Readers } from "./readers.js";
import { createKeeper } from "./retention.js";
import { MAX_NUMBER } from "./schema.js";
import type { Store } from "./store.js";
import { createStreams, numberOf, type Stream, type Streams, toStored } from "./streams.js";
import { textOf } from "./values.js";

export function createLog(store: Store, readers: Readers, deliveries: Deliveries): Log {
  const { db, writer } = store;
  const streams = createStreams(db, store.namespace);
  const keeper = createKeeper(db, readers);
  const lettersOf = createLettersOf(store);
  const sourceOf = createGroupSource(db, streams, readers, deliveries);
  const statsOf = createGroupStats(store, readers);

  function findGroup(stream: string, group: string): number | undefined {
    const found = streams.find(stream);
    return found && readers.find("group", found.id, group);
  }

  return {
    async append(name, entries, retention) {
      store.assertOpen();
      if (entries.length === 0) return [];
      const stored = entries.map(toStored);
      return writer.run((tx) => {
        const stream = streams.getOrCreate(tx, name);
        keeper.makeRoom(tx, stream, stored.length, retention);
        const before = stream.last;
        streams.append(stream, stored, tx.now);
        tx.spend(stored.length);
        tx.changed(streamTopic(name));
        return stored.map((_, index) => ({ position: String(before + index + 1) }));
      }, "messages");
    },

    async read(name, range) {
      store.assertOpen();
      const from = range.from === undefined ? 0 : numberOf(range.from);
      const after = range.after === undefined ? 0 : numberOf(range.after) + 1;
      return store.read(() => {
        const stream = streams.find(name);
        if (stream === undefined) return [];
        const first = Math.max(stream.first, from, after);
        if (first > stream.last) return [];
        const entries = streams.read(stream, first, stream.last, range.max);
        return entries.map(({ position, header, data }) => ({ position, header, data }));
      });
    },

    async createGroup(name, group, settings) {
      store.assertOpen();
      return writer.run((tx) => {
        const stream = streams.getOrCreate(tx, name);
        const known = readers.find("group", stream.id, group);
        if (known !== undefined) return parseSettings(readers.settingsOf(known));
        const start = startOf(streams, stream, settings.from);
        const reader = readers.insert(tx, "group", stream.id, group, JSON.stringify(settings));
        Object.assign(reader, start, { changed: true });
        return settings;
      });
    },

    async open(name, group, consumer) {
      store.assertOpen();
      const opened = store.read(() => {
        const reader = findGroup(name, group);
        return reader === undefined
          ? undefined
          : { reader, settings: readers.settingsOf(reader), since: readers.fenceOf(reader) };
      });
      if (opened === undefined) throw noGroup(name, group);
      const { reader, since } = opened;
      const rules = parseSettings(opened.settings);
      const source = sourceOf({ stream: name, group, consumer, reader, since, rules });
      return store.track((onClose) => createFeed(store, source, onClose));
    },

    deadLetters: (name, group) => lettersOf(() => findGroup(name, group)),

    async stats(name) {
      store.assertOpen();
      return store.read(() => {
        const stream = streams.find(name);
        if (stream === undefined) return { length: 0, groups: [] };
        return { length: stream.last - stream.first + 1, groups: statsOf(stream) };
      });
    },
  };
}

function createGroupStats({ db }: Store, readers: Readers): (stream: Stream) => GroupStats[] {
  const counts = db.prepare<{ cursor: number; dead: number; pending: number; retrying: number }>(
    `SELECT cursor, dead,
       (SELECT count(*) FROM sb1_leased WHERE reader = id) AS pending,
       (SELECT count(*) FROM sb1_parked WHERE reader = id) AS retrying
     FROM sb1_readers WHERE id = ?`,
  );
  return (stream) =>
    readers.of("group", stream.id).flatMap(({ id, name }) => {
      const row = counts.get(id);
      if (row === undefined) return [];
      const { cursor, pending, retrying, dead } = row;
      return [{ group: textOf(name), lag: stream.last - cursor, pending, retrying, dead }];
    });
}

/** Where a new group's cursor stands. */
function startOf(streams: Streams, stream: Stream, from: GroupStart): Pick<Reader, "cursor" | "notBefore"> {
  const { first, last } = stream;
  if (from === "beginning") return { cursor: first - 1, notBefore: 0 };
  if (from === "new") return { cursor: last, notBefore: 0 };
  if ("after" in from) {
    return { cursor: Math.min(last, MAX_NUMBER, Math.max(first - 1, numberOf(from.after))), notBefore: 0 };
  }
  const start = streams.firstAt(stream, first, from.time);
  return { cursor: start - 1, notBefore: start > last ? from.time : 0 };
}

/** What `createGroup` has stored. */
function parseSettings(settings: string): GroupSettings {
  return JSON.parse(settings) as GroupSettings;
}
