/** Where a memory backend's messages live: one store per `connect("memory:")`, shared by name within the process. */

import type { Hub } from "../../core/hub.js";
import type { Subscription } from "./broadcast.js";
import type { MemoryMembership } from "./membership.js";
import type { MemoryStream } from "./stream.js";
import type { MemoryQueue } from "./memory-queue.js";

export interface MemoryStore {
  /** By `scoped` names, the other maps as well. */
  readonly streams: Map<string, MemoryStream>;
  readonly queues: Map<string, MemoryQueue>;
  /** By namespace: who listens. */
  readonly channels: Map<string, Hub<Subscription>>;
  readonly members: MemoryMembership;
}

const shared = new Map<string, { store: MemoryStore; users: number }>();

/** Opens the store of that name, or a new one without a name. `release` forgets it once its last user has gone. */
export function openStore(name: string | undefined): { store: MemoryStore; release: () => void } {
  if (name === undefined) return { store: createStore(), release: () => undefined };
  const entry = shared.get(name) ?? { store: createStore(), users: 0 };
  shared.set(name, entry);
  entry.users += 1;
  return {
    store: entry.store,
    release() {
      entry.users -= 1;
      if (entry.users === 0) shared.delete(name);
    },
  };
}

function createStore(): MemoryStore {
  return {
    streams: new Map(),
    queues: new Map(),
    channels: new Map(),
    members: { holders: new Map(), groups: new Map(), versions: 0 },
  };
}
