/** Streams and their groups in SQLite. */

import type { Log } from "../../core/backend.js";
import { createLettersOf } from "./dead-letters.js";
import type { Deliveries } from "./deliveries.js";
import { createFeed } from "./feed.js";
import { Groups, streamTopic } from "./groups.js";
import type { Readers } from "./readers.js";
import { createKeeper } from "./retention.js";
import type { Store } from "./store.js";
import { bindEntry, numberOf, Streams } from "./streams.js";

export function createLog(store: Store, readers: Readers, deliveries: Deliveries): Log {
  const { db, writer } = store;
  const streams = new Streams(db, store.namespace);
  const groups = new Groups(db, streams, readers, deliveries);
  const keeper = createKeeper(db, readers);
  const lettersOf = createLettersOf(store);

  return {
    async append(name, entries, retention) {
      store.assertOpen();
      if (entries.length === 0) return [];
      const bound = entries.map(bindEntry);
      return writer.run((tx) => {
        const stream = streams.getOrCreate(tx, name);
        keeper.makeRoom(tx, stream, bound.length, retention);
        const first = stream.last + 1;
        streams.append(stream, bound, tx.now);
        tx.spend(bound.length);
        tx.changed(streamTopic(name));
        return bound.map((_, index) => ({ position: String(first + index) }));
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

    async createGroup(stream, group, settings) {
      store.assertOpen();
      return writer.run((tx) => groups.create(tx, stream, group, settings));
    },

    async open(stream, group, consumer) {
      store.assertOpen();
      const source = store.read(() => groups.source(stream, group, consumer));
      return store.track((onClose) => createFeed(store, source, onClose));
    },

    deadLetters: (stream, group) => lettersOf(() => groups.find(stream, group)),

    async stats(name) {
      store.assertOpen();
      return store.read(() => {
        const stream = streams.find(name);
        if (stream === undefined) return { length: 0, groups: [] };
        return { length: stream.last - stream.first + 1, groups: groups.stats(stream) };
      });
    },
  };
}
