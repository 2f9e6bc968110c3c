/** The queues of one opened backend, as the parts of its port find them. */

import type { BackendContext } from "../../core/backend.js";
import { MemoryQueue, type ReportLapse } from "./memory-queue.js";
import { getOrCreate, type Session, scoped } from "./session.js";

export interface Queues {
  /** Asking for a queue does not make it. @throws {ClosedError} */
  readonly find: (name: string) => MemoryQueue | undefined;
  /** @throws {ClosedError} */
  readonly findOrCreate: (name: string) => MemoryQueue;
  readonly now: () => number;
  readonly report: ReportLapse;
}

export function queuesOf(
  session: Session,
  queues: Map<string, MemoryQueue>,
  { namespace, clock, report }: BackendContext,
): Queues {
  return {
    find(name) {
      session.assertOpen();
      return queues.get(scoped(namespace, name));
    },
    findOrCreate(name) {
      session.assertOpen();
      return getOrCreate(queues, scoped(namespace, name), () => new MemoryQueue(name));
    },
    now: () => clock.now(),
    report: (error) => report(error, "forgetting a recipient that has lapsed"),
  };
}
