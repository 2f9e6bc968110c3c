/** The memory backend: for one process, for tests, and as the readable specification of every port. */

import type { Backend, BackendContext } from "../../core/backend.js";
import { ClosedError } from "../../core/errors.js";
import { createBroadcast } from "./broadcast.js";
import { createLog } from "./log.js";
import { createMembership } from "./membership.js";
import { createQueue } from "./queue.js";
import type { Session } from "./session.js";
import { openStore } from "./store.js";

/** @param options `name`: backends of the same name in this process share their messages; without one nobody does */
export async function openMemory(options: { readonly name?: string }, context: BackendContext): Promise<Backend> {
  const { store, release } = openStore(options.name);
  const resources = new Set<() => void | Promise<void>>();
  let closed = false;

  const session: Session = {
    assertOpen() {
      if (closed) throw new ClosedError("the memory backend is closed");
    },
    onClose(close) {
      resources.add(close);
      return () => resources.delete(close);
    },
    track(create) {
      const feed = create(() => forget());
      const forget = session.onClose(() => feed.close());
      return feed;
    },
  };

  return {
    name: "memory",
    durability: "memory",
    broadcast: createBroadcast(session, store.channels, context),
    log: createLog(session, store.streams, context),
    queue: createQueue(session, store.queues, context),
    membership: createMembership(session, store.members, context),
    async ping() {
      session.assertOpen();
      return 0;
    },
    check: async () => [{ name: "memory", ok: !closed }],
    async close() {
      if (closed) return;
      closed = true;
      await Promise.all([...resources].map(async (close) => close()));
      release();
    },
  };
}
