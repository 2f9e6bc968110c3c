/** What there is to tell of a stream and its groups. */

import type { GroupStats, StreamStats } from "../../core/backend.js";
import type { Database } from "./driver.js";
import { type Reader, type Readers, settingsOf } from "./readers.js";
import { type Keeper, nextOf, retentionOf } from "./retention.js";
import type { Stream, Streams } from "./streams.js";
import { type StoredText, textOf } from "./values.js";

const EMPTY = { length: 0, bytes: 0, oldest: undefined, newest: undefined, retention: undefined, groups: [] } as const;

/** Counts what a stream has, as it was last committed; undefined for one that does not exist. */
export type StatsOf = (stream: Stream | undefined, at: number) => StreamStats;

export function createStats(db: Database, streams: Streams, readers: Readers, keeper: Keeper): StatsOf {
  const counts = db.prepare<{ pending: number; retrying: number; undelivered: number }>(
    `SELECT
       (SELECT count(*) FROM sb1_leased WHERE reader = id) AS pending,
       (SELECT count(*) FROM sb1_parked WHERE reader = id) AS retrying,
       (SELECT count(*) FROM sb1_turns WHERE reader = id AND state <> 'out') AS undelivered
     FROM sb1_readers WHERE id = ?`,
  );

  function unreadOf(stream: Stream, reader: Reader): number {
    const next = Math.max(stream.first, nextOf(streams, stream, reader));
    return Math.max(0, stream.last - next + 1) - streams.countHidden(stream, next, stream.last, reader.id);
  }

  function statsOf(stream: Stream, reader: Reader, name: StoredText): GroupStats {
    const { pending, retrying, undelivered } = counts.get(reader.id) ?? { pending: 0, retrying: 0, undelivered: 0 };
    const unfinished = keeper.firstUnfinishedOf(stream, reader);
    return {
      group: textOf(name),
      settings: settingsOf(reader),
      paused: reader.paused,
      lag: unreadOf(stream, reader) + undelivered,
      pending,
      retrying,
      held: reader.held,
      dead: reader.dead,
      oldestUnhandledAt: unfinished && streams.firstVisible(stream, unfinished, reader.id)?.at,
      lastProgressAt: reader.progressAt,
    };
  }

  function groupsOf(stream: Stream): GroupStats[] {
    return readers.of("group", stream.id).flatMap(({ id, name }) => {
      const reader = readers.load(id);
      return reader === undefined ? [] : [statsOf(stream, reader, name)];
    });
  }

  return (stream, at) => {
    if (stream === undefined) return { ...EMPTY, at };
    const [length, bytes] = [streams.length(stream), streams.bytes(stream)];
    return { length, bytes, ...streams.ends(stream), at, retention: retentionOf(stream), groups: groupsOf(stream) };
  };
}
