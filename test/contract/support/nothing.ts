/** A backend that accepts everything, keeps nothing and never complains. */

import type { Backend, DeadLetters, Feed } from "../../../src/core/backend.js";

export async function openNothing(): Promise<Backend> {
  const feed: Feed = {
    take: async () => ({ deliveries: [], lost: [], gone: 0, expired: 0, poisoned: 0 }),
    extend: async () => [],
    close: async () => {},
  };
  const deadLetters = (): DeadLetters => ({ list: async () => ({ letters: [] }) });
  return {
    name: "nothing",
    durability: "memory",
    broadcast: {
      publish: async (messages) => messages.map(() => 0),
      subscribe: async () => async () => {},
    },
    log: {
      append: async (_stream, entries) => entries.map((_entry, index) => ({ position: String(index) })),
      read: async () => [],
      createGroup: async (_stream, _group, settings) => settings,
      open: async () => feed,
      deadLetters,
      stats: async () => ({ length: 0, groups: [] }),
    },
    queue: {
      push: async (_queue, items) => items.map(({ id }) => ({ id, duplicate: false })),
      open: async () => feed,
      deadLetters,
      stats: async () => ({ waiting: 0, leased: 0, delayed: 0, dead: 0, expired: 0 }),
    },
    ping: async () => 0,
    check: async () => [{ name: "nothing", ok: true }],
    close: async () => {},
  };
}
