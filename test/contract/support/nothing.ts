/** A backend that accepts everything, keeps nothing and never complains. */

import type { Backend, DeadLetters, Feed } from "../../../src/core/backend.js";
import { NO_RECORDS } from "../../../src/core/backend.js";
import { GROUP } from "../../../src/testing/fixtures.js";

export async function openNothing(): Promise<Backend> {
  const feed: Feed = {
    take: async () => ({ deliveries: [], lost: [], gone: 0, expired: 0, poisoned: 0 }),
    extend: async () => [],
    close: async () => {},
  };
  const deadLetters = (): DeadLetters => ({
    list: async () => ({ letters: [] }),
    get: async () => undefined,
    redrive: async () => 0,
    remove: async () => 0,
    purge: async () => 0,
  });
  const counts = { waiting: 0, leased: 0, delayed: 0, dead: 0, expired: 0 };
  const bytes = undefined;
  const none = { length: 0, bytes, oldest: undefined, newest: undefined, at: 0, retention: undefined, groups: [] };
  return {
    name: "nothing",
    durability: "memory",
    broadcast: {
      publish: async (messages) => messages.map(() => 0),
      subscribe: async () => async () => {},
    },
    log: {
      append: async (_stream, entries) =>
        entries.map((_entry, index) => ({ position: String(index), duplicate: false })),
      read: async () => [],
      configure: async (_stream, retention) => retention,
      changeRetention: async (_stream, _changes, unless) => unless,
      trim: async () => 0,
      createGroup: async (_stream, _group, settings) => settings,
      configureGroup: async () => GROUP,
      seek: async () => {},
      pause: async () => {},
      resume: async () => {},
      deleteGroup: async () => false,
      open: async () => feed,
      deadLetters,
      park: async () => {},
      stats: async () => none,
    },
    queue: {
      push: async (_queue, items) => items.map(({ id }) => ({ id, duplicate: false, recipients: 1 })),
      open: async () => feed,
      deadLetters,
      stats: async () => ({ ...counts, dropped: 0, paused: false, oldestWaitingAt: undefined }),
      register: async () => {},
      unregister: async () => false,
      recipients: async () => ({ recipients: [] }),
      pause: async () => {},
      resume: async () => {},
      configure: async () => NO_RECORDS,
      browse: async () => ({ items: [] }),
      get: async () => undefined,
      list: async () => ({ items: [] }),
      count: async () => 0,
      acknowledge: async (_queue, _recipient, ids) => ids.map(() => false),
      remove: async () => 0,
      clear: async () => 0,
    },
    membership: {
      begin: async () => {},
      renew: async () => "held",
      end: async () => {},
      join: async () => ({ from: 0, version: 0, changes: [], refused: [] }),
      leave: async () => ({ from: 0, version: 0, changes: [] }),
      list: async () => ({ version: 0, count: 0, members: [] }),
      find: async () => [],
      versions: async (groups) => groups.map(() => ({ version: 0, held: 0 })),
      lapsing: async () => [],
      reap: async () => ({ lapsed: [], isDone: true }),
    },
    ping: async () => 0,
    check: async () => [{ name: "nothing", ok: true }],
    close: async () => {},
  };
}
