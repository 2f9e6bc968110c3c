/** Who listens in this process, and to what. */

import type { BackendContext, BroadcastListener, BroadcastTarget } from "../../core/backend.js";
import { compileGlob } from "../../core/glob.js";

export interface Hub {
  /** @param since of other processes' messages, only those behind this one are heard. @returns how to remove it */
  add(target: BroadcastTarget, listener: BroadcastListener, since: number): () => void;
  hears(channel: string): boolean;
  /** @param id where the message stands among those of other processes; none for our own */
  deliver(channel: string, data: Uint8Array, id?: number): void;
  gap(reason: string): void;
}

interface Listening {
  readonly listener: BroadcastListener;
  readonly since: number;
}

interface PatternListening extends Listening {
  readonly matches: (channel: string) => boolean;
}

export function createHub(report: BackendContext["report"]): Hub {
  const exact = new Map<string, Set<Listening>>();
  const patterns = new Set<PatternListening>();

  function of(channel: string): Listening[] {
    return [...(exact.get(channel) ?? []), ...[...patterns].filter(({ matches }) => matches(channel))];
  }

  /** A listener that throws must not keep the message from the others. */
  function call(run: () => void): void {
    try {
      run();
    } catch (error) {
      report(error, "broadcast listener");
    }
  }

  return {
    add(target, listener, since) {
      if ("pattern" in target) {
        const listening = { listener, since, matches: compileGlob(target.pattern) };
        patterns.add(listening);
        return () => void patterns.delete(listening);
      }
      const listening = { listener, since };
      const { channel } = target;
      const all = exact.get(channel) ?? new Set<Listening>();
      exact.set(channel, all.add(listening));
      return () => {
        all.delete(listening);
        if (all.size === 0 && exact.get(channel) === all) exact.delete(channel);
      };
    },
    hears: (channel) => exact.has(channel) || [...patterns].some(({ matches }) => matches(channel)),
    deliver(channel, data, id) {
      for (const { listener, since } of of(channel)) {
        if (id === undefined || id > since) call(() => listener.message(channel, data));
      }
    },
    gap(reason) {
      for (const { listener } of [...[...exact.values()].flatMap((all) => [...all]), ...patterns]) {
        call(() => listener.gap(reason));
      }
    },
  };
}
