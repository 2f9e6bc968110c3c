/** Streams and their groups; the readable specification of the log port. */

import type { BackendContext, Log } from "../../core/backend.js";
import type { Clock } from "../../core/clock.js";
import { NotFoundError } from "../../core/errors.js";
import { changedRetention } from "../../core/limits.js";
import { createDeadLetters } from "./dead-letters.js";
import { createFeed } from "./feed.js";
import { Group } from "./group.js";
import { streamStats } from "./log-stats.js";
import { makeRoom, trimOld } from "./retention.js";
import { getOrCreate, type Session, scoped } from "./session.js";
import { appendAll, appendRedriven, countNew, createStream, type MemoryStream, readRange } from "./stream.js";

interface Place {
  readonly stream: MemoryStream;
  readonly group: Group;
}

/** The streams of one namespace, while the session is open: each look-up says so when it is not. */
interface Streams {
  find(stream: string): MemoryStream | undefined;
  findOrCreate(stream: string): MemoryStream;
  findGroup(stream: string, group: string): Place | undefined;
  /** @throws {NotFoundError} */
  getGroup(stream: string, group: string): Place;
}

export function createLog(session: Session, streams: Map<string, MemoryStream>, context: BackendContext): Log {
  const own = streamsOf(session, streams, context.namespace);
  return {
    ...storing(own, context.clock),
    ...grouping(own, context.clock),
    ...consuming(own, session, context.clock),
  };
}

function streamsOf(session: Session, streams: Map<string, MemoryStream>, namespace: string): Streams {
  const own: Streams = {
    find(stream) {
      session.assertOpen();
      return streams.get(scoped(namespace, stream));
    },
    findOrCreate(stream) {
      session.assertOpen();
      return getOrCreate(streams, scoped(namespace, stream), () => createStream(stream));
    },
    findGroup(name, groupName) {
      const stream = own.find(name);
      const group = stream?.groups.get(groupName);
      return stream && group && { stream, group };
    },
    getGroup(name, groupName) {
      const place = own.findGroup(name, groupName);
      if (place === undefined) throw new NotFoundError(`stream "${name}" has no group "${groupName}": create it first`);
      return place;
    },
  };
  return own;
}

function storing(
  streams: Streams,
  clock: Clock,
): Pick<Log, "append" | "read" | "configure" | "changeRetention" | "trim" | "stats"> {
  return {
    async append(name, entries, retention) {
      const stream = streams.findOrCreate(name);
      const now = clock.now();
      makeRoom(stream, countNew(stream, entries, now), retention, now);
      return appendAll(stream, entries, now);
    },
    async read(name, range) {
      const stream = streams.find(name);
      return stream === undefined ? [] : readRange(stream, range);
    },
    async configure(name, retention) {
      const stream = streams.findOrCreate(name);
      stream.retention ??= retention;
      return stream.retention;
    },
    async changeRetention(name, changes, unless) {
      const stream = streams.findOrCreate(name);
      stream.retention = changedRetention(stream.retention ?? unless, changes);
      return stream.retention;
    },
    async trim(name) {
      const stream = streams.find(name);
      return stream === undefined ? 0 : trimOld(stream, clock.now());
    },
    stats: async (name) => streamStats(streams.find(name), clock.now()),
  };
}

function grouping(
  streams: Streams,
  clock: Clock,
): Pick<Log, "createGroup" | "configureGroup" | "seek" | "pause" | "resume" | "deleteGroup"> {
  return {
    async createGroup(name, groupName, settings) {
      const { groups, entries } = streams.findOrCreate(name);
      const title = `group "${groupName}" of stream "${name}"`;
      return getOrCreate(groups, groupName, () => new Group(title, entries, settings, clock.now())).settings;
    },
    configureGroup: async (name, groupName, changes) => streams.getGroup(name, groupName).group.configure(changes),
    async seek(name, groupName, to) {
      const { stream, group } = streams.getGroup(name, groupName);
      group.seek(to);
      stream.bell.ring();
    },
    async pause(name, groupName) {
      streams.getGroup(name, groupName).group.isPaused = true;
    },
    async resume(name, groupName) {
      const { stream, group } = streams.getGroup(name, groupName);
      group.isPaused = false;
      stream.bell.ring();
    },
    async deleteGroup(name, groupName) {
      const place = streams.findGroup(name, groupName);
      if (place === undefined) return false;
      const { stream, group } = place;
      stream.groups.delete(groupName);
      group.isDeleted = true;
      stream.bell.ring();
      return true;
    },
  };
}

function consuming(streams: Streams, session: Session, clock: Clock): Pick<Log, "open" | "deadLetters" | "park"> {
  return {
    async open(name, groupName, consumer) {
      const { stream, group } = streams.getGroup(name, groupName);
      const { bell } = stream;
      return session.track((onClose) => createFeed({ source: group, bell, clock, consumer, onClose }));
    },
    deadLetters: (name, groupName) =>
      createDeadLetters(session, clock, () => {
        const place = streams.findGroup(name, groupName);
        if (place === undefined) return undefined;
        const { stream, group } = place;
        return {
          dead: group.list.dead,
          redrive(work) {
            appendRedriven(stream, group, work, clock.now());
            return true;
          },
        };
      }),
    async park(name, groupName, letters) {
      const { group } = streams.getGroup(name, groupName);
      const now = clock.now();
      for (const letter of letters) group.park(letter, now);
    },
  };
}
