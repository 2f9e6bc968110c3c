/** The log port on Redis: a stream for each name, a stream group for each group, scripts for everything else. */

import type { GroupSettings, Log } from "../../core/backend.js";
import type { Connection, PortDependencies } from "./connection.js";
import { type LogKeys, logKeys } from "./keys.js";
import { createLogSource } from "./log-feed.js";
import { appendArgs, limitFrom, readEntries } from "./log-entries.js";
import {
  configureGroup,
  deleteGroup,
  makeGroup,
  type NamedGroup,
  noSuchGroup,
  pauseGroup,
  seekGroup,
} from "./log-groups.js";
import { changeLimits, configureLimits, trimAged } from "./log-retention.js";
import { readStats } from "./log-stats.js";
import { byName, createPort } from "./port.js";
import { appendedFrom } from "./positions.js";
import { logLetters, parkArgs } from "./redrive.js";
import { loadScript } from "./scripts.js";
import { settingsFrom } from "./settings.js";

const append = loadScript("log-append");

export function createLog(dependencies: PortDependencies): Log & { close(): Promise<void> } {
  const { connections, context } = dependencies;
  const port = createPort(dependencies);
  const keysOf = byName((stream) => logKeys(context.namespace, stream));
  const appendKeysOf = byName((stream) => {
    const keys = keysOf(stream);
    const plain = [keys.stream, keys.parked, keys.dropped, keys.publisher(port.publisherId), keys.limits, keys.paused];
    return { plain, withIds: [...plain, ...keys.ids] };
  });

  /** For calls about a stream that may be sent twice. */
  function whole(stream: string): [keys: LogKeys, connection: Connection] {
    port.assertOpen();
    const keys = keysOf(stream);
    return [keys, port.repeating(keys.stream)];
  }

  function named(stream: string, group: string): NamedGroup {
    const [keys, connection] = whole(stream);
    return { keys, stream, group, connection, context };
  }

  return {
    async append(stream, entries, retention) {
      port.assertOpen();
      if (entries.length === 0) return [];
      const given = entries.some(({ dedupeId }) => dedupeId !== undefined);
      const { plain, withIds } = appendKeysOf(stream);
      const reply = await port.publish(append, given ? withIds : plain, appendArgs(entries, retention, given));
      if (reply.startsWith("LIMIT")) throw limitFrom(reply, stream);
      return appendedFrom(reply, entries.length);
    },

    async read(stream, range) {
      port.assertOpen();
      const { stream: key } = keysOf(stream);
      return readEntries(port.repeating(key), key, range);
    },

    configure: async (stream, retention) => configureLimits(...whole(stream), retention),
    changeRetention: async (stream, changes, unless) => changeLimits(...whole(stream), changes, unless),
    trim: async (stream) => trimAged(...whole(stream)),

    createGroup: async (stream, group, settings) => makeGroup(named(stream, group), settings, "create"),
    configureGroup: async (stream, group, changes) => configureGroup(named(stream, group), changes),
    seek: async (stream, group, to) => seekGroup(named(stream, group), to),
    pause: async (stream, group) => pauseGroup(named(stream, group), "pause"),
    resume: async (stream, group) => pauseGroup(named(stream, group), "resume"),
    deleteGroup: async (stream, group) => deleteGroup(named(stream, group)),

    async open(stream, group, consumer) {
      const place = named(stream, group);
      const { keys } = place;
      const stored = await place.connection.command(["HGET", keys.groups, group]);
      if (stored === null) throw noSuchGroup(place);
      port.assertOpen();
      const restoreGroup = async (settings: GroupSettings): Promise<void> => {
        await makeGroup(place, settings, "restore");
      };
      const settings = settingsFrom(stored);
      const options = { keys, stream, group, consumer, settings, connections, port, restoreGroup };
      return port.openFeed(createLogSource(options));
    },

    deadLetters: (stream, group) => logLetters(port, keysOf(stream), group),

    async park(stream, group, letters) {
      const place = named(stream, group);
      const stored = await place.connection.command(["HGET", place.keys.groups, group]);
      if (stored === null) throw noSuchGroup(place);
      const { dead } = place.keys.group(group);
      const { maxDeadLetters } = settingsFrom(stored);
      const connection = connections.shared(dead);
      await Promise.all(letters.map((letter) => connection.command(parkArgs(dead, letter, maxDeadLetters))));
    },

    stats: async (stream) => readStats(...whole(stream)),
    close: () => port.close(),
  };
}
