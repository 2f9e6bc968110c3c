/** Hands messages to those who listen in this process. */

import type { BackendContext, BroadcastListener, BroadcastTarget } from "../../core/backend.js";
import { type Destination, Hub } from "../../core/hub.js";

export interface Local {
  /** @param since of other processes' messages, only those behind this one are heard. @returns how to remove it */
  add(target: BroadcastTarget, listener: BroadcastListener, since: number): () => void;
  /**
   * @param id where the message stands among those of other processes; none for our own
   * @returns whether anybody listens
   */
  deliver(destination: Destination, data: Uint8Array, id?: number): boolean;
  gap(reason: string): void;
}

export function createLocal(report: BackendContext["report"]): Local {
  const hub = new Hub<{ readonly listener: BroadcastListener; readonly since: number }>();

  /** A listener that throws must not keep the message from the others. */
  function call(run: () => void): void {
    try {
      run();
    } catch (error) {
      report(error, "broadcast listener");
    }
  }

  return {
    add: (target, listener, since) => hub.add(target, { listener, since }),
    deliver(destination, data, id) {
      const listening = hub.listeners(destination);
      for (const { listener, since } of listening) {
        if (id === undefined || id > since) call(() => listener.message(destination.channel, data));
      }
      return listening.length > 0;
    },
    gap(reason) {
      for (const { listener } of hub.all()) call(() => listener.gap(reason));
    },
  };
}
